// The processes of a bench: this program, run again as often as wanted, each with a socket to the one that
// started it. That one only asks and waits, so it takes nothing from what is measured, and what the others
// leave behind is cleared away however they end.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pagewire::bench {

using Json = nlohmann::json;

// One end of a socket that carries whole messages. One thread. Throws Error if the other process has ended.
class Channel {
 public:
  explicit Channel(int socket) : socket_(socket) {}  // stays open
  void send(const Json& message) const;
  // Blocks without using the processor.
  Json receive() const;

 private:
  int socket_;
};

// Thrown by ProcessGroup when a signal asks us to end.
struct Interrupted {
  int signal = 0;
};

// One thread, and before this process has any other. From construction to destruction SIGINT, SIGTERM and
// SIGHUP are blocked, and looked at while it waits. If this process is killed the kernel kills the others.
class ProcessGroup {
 public:
  // Makes a folder of mode 0700 below /tmp (paths of sockets must be short), which goes with all in it.
  ProcessGroup();
  ~ProcessGroup();  // kills those that have not ended, each by its process id
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  const std::string& folder() const { return folder_; }

  // Runs this program with `arguments`, followed by "--member-socket N --member-folder FOLDER". `name` is for
  // errors. Gives the process's number.
  std::size_t start(const std::string& name, std::vector<std::string> arguments);
  void send(std::size_t process, const Json& message);
  // Blocks. Throws Error as soon as any of the processes ends, and Interrupted.
  Json receive(std::size_t process);
  // SIGSTOP and SIGCONT; when pause() returns it stands still.
  void pause(std::size_t process);
  void resume(std::size_t process);
  // Its last message; from then on its end is no error.
  void send_last(std::size_t process, const Json& message);
  // After that: waits for its end; throws Error unless that was with exit code 0.
  void finish(std::size_t process);

 private:
  struct Process {
    std::string name;
    pid_t pid = 0;  // 0: has ended
    int socket = -1;
    bool may_end = false;
  };

  void await(std::size_t process, short events);
  [[noreturn]] void throw_ended(Process& process);
  void kill_all();

  std::string folder_;
  sigset_t watched_{};
  sigset_t before_{};
  int signal_fd_ = -1;
  std::vector<Process> processes_;
};

}  // namespace pagewire::bench
