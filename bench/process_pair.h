// Two processes of this program, to be the two nodes of a bench, and a third, this one, that only waits for
// them: so what they leave behind is cleared away however they end. Called by main before it starts any
// thread.
#pragma once

#include <string>
#include <vector>

namespace pagewire::bench {

// Where a process of the pair meets the other when there is no Node yet, or no longer.
class Meeting {
 public:
  explicit Meeting(int socket) : socket_(socket) {}  // as the process was told; stays open
  // Returns when the other process has come to its next meeting. Blocks without using the processor. Throws
  // Error if the other process has ended.
  void meet() const;

 private:
  int socket_;
};

struct PairMember {  // what a process of the pair is told
  int node = -1;     // 0 or 1
  int socket = -1;   // for its Meeting
  std::string folder;
};

// Runs this program twice with `arguments`, followed by "--pair-node N --pair-socket N --pair-folder FOLDER";
// FOLDER is new, of mode 0700, below /tmp (sockets' paths must be short), and is removed with all in it when
// both have ended. If one fails the other is killed, by its process id; if this process is killed, the kernel
// kills both; SIGINT, SIGTERM and SIGHUP end both, and after the clearing this process. Returns the exit
// code: 0 if both ended with 0, else that of the first to fail (1 if a signal ended it, with a line on
// stderr).
int run_pair(const std::vector<std::string>& arguments);

}  // namespace pagewire::bench
