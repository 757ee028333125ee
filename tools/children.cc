#include "tools/children.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "pagewire/error.h"

namespace pagewire::tools {

namespace {

constexpr int kExtraFd = 3;
constexpr int kExecFailed = 127;

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&set, signal);
  return set;
}

// In the child, between fork and exec: system calls alone.
[[noreturn]] void become(char* const* arguments, int out, int err, int extra, pid_t parent) {
  const sigset_t set = watched_signals();
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(kExecFailed);  // it died before the line above
  if (out >= 0) ::dup2(out, STDOUT_FILENO);
  if (err >= 0) ::dup2(err, STDERR_FILENO);
  if (extra >= 0 && extra != kExtraFd) ::dup2(extra, kExtraFd);
  if (extra == kExtraFd)
    ::fcntl(kExtraFd, F_SETFD, 0);  // the one that is in its place already shall stay open
  ::execv("/proc/self/exe", arguments);
  ::_exit(kExecFailed);
}

}  // namespace

std::string text_of(const ChildEnd& end) {
  if (end.signal != 0) return fmt::format("signal {} ({})", end.signal, ::strsignal(end.signal));
  if (end.exit_code == kExecFailed) return "exit code 127 (it could not be started)";
  return fmt::format("exit code {}", end.exit_code);
}

Children::Children() {
  const sigset_t set = watched_signals();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signal_fd_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd_ < 0) throw Error("signalfd", std::strerror(errno), "Allow more open files (ulimit -n)");
}

Children::~Children() {
  stop_all();
  ::close(signal_fd_);
  const sigset_t set = watched_signals();
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

void Children::start(const std::vector<std::string>& arguments, int out, int err, int extra) {
  std::vector<char*> pointers;
  for (const std::string& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw Error("starting a process", std::strerror(errno), "Allow more processes (ulimit -u)");
  if (pid == 0) become(pointers.data(), out, err, extra, parent);
  pids_.push_back(pid);
}

void Children::reap(std::vector<ChildEnd>& ends) {
  for (std::size_t i = 0; i < pids_.size(); ++i) {
    int status = 0;
    if (pids_[i] == 0 || ::waitpid(pids_[i], &status, WNOHANG) != pids_[i]) continue;
    pids_[i] = 0;
    ends.push_back({.index = i,
                    .exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                    .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0});
  }
}

Children::News Children::take_news() {
  News news;
  signalfd_siginfo info = {};
  while (::read(signal_fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo != SIGCHLD) news.signal = static_cast<int>(info.ssi_signo);
  }
  reap(news.ends);
  return news;
}

std::size_t Children::running_count() const {
  return static_cast<std::size_t>(std::ranges::count_if(pids_, [](pid_t pid) { return pid != 0; }));
}

void Children::stop_all() {
  const auto send = [&](int signal) {
    for (const pid_t pid : pids_) {
      if (pid != 0) ::kill(pid, signal);
    }
  };
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::seconds(2);
  if (running_count() > 0) send(SIGTERM);
  while (running_count() > 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd waiting = {.fd = signal_fd_, .events = POLLIN, .revents = 0};
    if (left <= 0 || ::poll(&waiting, 1, static_cast<int>(left)) == 0) break;
    take_news();
  }
  send(SIGKILL);
  for (pid_t& pid : pids_) {
    if (pid != 0) ::waitpid(pid, nullptr, 0);
    pid = 0;
  }
}

void end_by_signal(int signal) {
  ::signal(signal, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  ::raise(signal);
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  ::_exit(128 + signal);
}

}  // namespace pagewire::tools
