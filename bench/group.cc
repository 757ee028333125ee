// Starting, asking, pausing and ending the processes of a bench; see group.h.
#include "bench/group.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "pagewire/error.h"

namespace pagewire::bench {

namespace {

constexpr int kExecFailed = 127;
// Thousands of samples as text; the kernel's own default would do, but that can be lowered.
constexpr int kSocketBytes = 1 << 20;

std::string make_private_folder() {
  std::string path = "/tmp/pagewire-bench-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr)
    throw Error("making " + path, std::strerror(errno), "Make room in /tmp");
  return path;
}

// The last words of a process that has ended are there to be read.
bool has_message(int socket) { return ::recv(socket, nullptr, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT) > 0; }

[[noreturn]] void throw_lost(const char* what, int error) {
  throw Error(what, error == 0 ? "the other process has ended" : std::strerror(error), "See what it said");
}

}  // namespace

void Channel::send(const Json& message) const {
  const std::string text = message.dump();
  ssize_t done = 0;
  do {
    done = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
  } while (done < 0 && errno == EINTR);
  if (done < 0) throw_lost("telling another process of the bench", errno);
}

Json Channel::receive() const {
  std::string text;
  ssize_t bytes = 0;
  do {
    bytes = ::recv(socket_, nullptr, 0, MSG_PEEK | MSG_TRUNC);
  } while (bytes < 0 && errno == EINTR);
  if (bytes <= 0) throw_lost("hearing from another process of the bench", bytes == 0 ? 0 : errno);
  text.resize(static_cast<std::size_t>(bytes));
  if (::recv(socket_, text.data(), text.size(), 0) != bytes)
    throw_lost("hearing from another process of the bench", errno);
  return Json::parse(text);
}

ProcessGroup::ProcessGroup() : folder_(make_private_folder()) {
  ::sigemptyset(&watched_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&watched_, signal);
  ::sigprocmask(SIG_BLOCK, &watched_, &before_);
  signal_fd_ = ::signalfd(-1, &watched_, SFD_CLOEXEC);
}

ProcessGroup::~ProcessGroup() {
  kill_all();
  if (signal_fd_ >= 0) ::close(signal_fd_);
  ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

// They hold nothing but what the kernel and the folder's removal clear away.
void ProcessGroup::kill_all() {
  for (Process& process : processes_) {
    if (process.socket >= 0) ::close(process.socket);
    process.socket = -1;
    if (process.pid == 0) continue;
    ::kill(process.pid, SIGKILL);
    ::waitpid(process.pid, nullptr, 0);
    process.pid = 0;
  }
}

std::size_t ProcessGroup::start(const std::string& name, std::vector<std::string> arguments) {
  std::array<int, 2> sockets{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()) != 0)
    throw Error("making a socket pair", std::strerror(errno), "Allow more open files (ulimit -n)");
  for (const int socket : sockets)
    ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof(kSocketBytes));
  arguments.insert(arguments.end(),
                   {"--member-socket", std::to_string(sockets[1]), "--member-folder", folder_});
  std::vector<char*> words;
  for (std::string& argument : arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::fcntl(sockets[1], F_SETFD, 0);
    if (::getppid() == parent)
      ::execv("/proc/self/exe", words.data());  // else it ended before the line above
    ::_exit(kExecFailed);
  }
  const int error = errno;
  ::close(sockets[1]);
  if (pid < 0) {
    ::close(sockets[0]);
    throw Error("starting a process", std::strerror(error), "Allow more processes (ulimit -u)");
  }
  processes_.push_back({.name = name, .pid = pid, .socket = sockets[0]});
  return processes_.size() - 1;
}

void ProcessGroup::throw_ended(Process& process) {
  int status = 0;
  ::waitpid(std::exchange(process.pid, 0), &status, 0);
  const std::string how = WIFSIGNALED(status) ? fmt::format("signal {} ({}) ended it", WTERMSIG(status),
                                                            ::strsignal(WTERMSIG(status)))
                                              : fmt::format("exit code {}", WEXITSTATUS(status));
  throw Error(process.name + " of the bench", how, "See what it said");
}

// Until the process's socket has one of `events`; looks at everybody else meanwhile.
void ProcessGroup::await(std::size_t process, short events) {
  std::vector<pollfd> fds;
  std::vector<std::size_t> whose;
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    if (processes_[i].pid == 0 || processes_[i].may_end) continue;
    const auto wanted = i == process ? events : short{0};
    fds.push_back({.fd = processes_[i].socket, .events = wanted, .revents = 0});
    whose.push_back(i);
  }
  fds.push_back({.fd = signal_fd_, .events = POLLIN, .revents = 0});
  while (true) {
    if (::poll(fds.data(), fds.size(), -1) < 0) {
      if (errno == EINTR) continue;
      throw Error("waiting for the processes of the bench", std::strerror(errno), "Free memory");
    }
    if (fds.back().revents != 0) {
      signalfd_siginfo info{};
      if (::read(signal_fd_, &info, sizeof(info)) == sizeof(info))
        throw Interrupted{static_cast<int>(info.ssi_signo)};
    }
    for (std::size_t i = 0; i < whose.size(); ++i) {
      if ((fds[i].revents & (POLLHUP | POLLERR)) != 0 && !has_message(fds[i].fd))
        throw_ended(processes_[whose[i]]);
      if (whose[i] == process && (fds[i].revents & events) != 0) return;
    }
  }
}

void ProcessGroup::send(std::size_t process, const Json& message) {
  await(process, POLLOUT);
  Channel(processes_[process].socket).send(message);
}

void ProcessGroup::send_last(std::size_t process, const Json& message) {
  send(process, message);
  processes_[process].may_end = true;
}

Json ProcessGroup::receive(std::size_t process) {
  await(process, POLLIN);
  return Channel(processes_[process].socket).receive();
}

void ProcessGroup::pause(std::size_t process) {
  Process& paused = processes_[process];
  int status = 0;
  ::kill(paused.pid, SIGSTOP);
  if (::waitpid(paused.pid, &status, WUNTRACED) == paused.pid && WIFSTOPPED(status)) return;
  paused.pid = 0;
  throw Error(paused.name + " of the bench", "it ended while it was to pause", "See what it said");
}

void ProcessGroup::resume(std::size_t process) { ::kill(processes_[process].pid, SIGCONT); }

void ProcessGroup::finish(std::size_t process) {
  Process& finished = processes_[process];
  int status = 0;
  ::waitpid(finished.pid, &status, 0);
  finished.pid = 0;
  ::close(std::exchange(finished.socket, -1));
  if (status != 0)
    throw Error(finished.name + " of the bench", fmt::format("it ended with status {}", status),
                "See what it said");
}

}  // namespace pagewire::bench
