// Processes that this one starts, all of the same program, and that must not outlive it. One thread, before
// it starts any other.
//
// From the constructor on, SIGINT, SIGTERM and SIGHUP come through poll_fds() and wait() instead of killing
// the process, so that whoever owns a Children still cleans up. Whatever way it ends, the destructor has
// stopped every child by its process id; if this process is killed, the kernel kills them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pagewire::tools {

struct ChildEnd {
  std::size_t index = 0;  // in the order of start()
  int exit_code = -1;     // if it ended by itself
  int signal = 0;         // else what killed it
};
// "exit code 1", "signal 9 (Killed)"
std::string text_of(const ChildEnd& end);

class Children {
 public:
  Children();
  ~Children();
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  // Runs this program again with these arguments. `out`, `err` and `extra` are descriptors for its stdout,
  // stderr and for descriptor 3, or -1: as ours, and none. Throws Error.
  void start(const std::vector<std::string>& arguments, int out, int err, int extra);

  // Readable when a child has ended or a signal has come.
  int signal_fd() const { return signal_fd_; }
  // What happened since: ends of children, and the signal that asks us to end (0: none). Does not block.
  struct News {
    std::vector<ChildEnd> ends;
    int signal = 0;
  };
  News take_news();

  std::size_t running_count() const;
  // SIGTERM to all that still run, SIGKILL to those that are there two seconds later; waits for all.
  void stop_all();

 private:
  void reap(std::vector<ChildEnd>& ends);

  int signal_fd_ = -1;
  std::vector<pid_t> pids_;  // 0: has ended
};

// Ends this process the way the signal would have, once everything is cleaned up.
[[noreturn]] void end_by_signal(int signal);

}  // namespace pagewire::tools
