#include "bench/process_pair.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "pagewire/error.h"

namespace pagewire::bench {

namespace {

constexpr int kExecFailed = 127;

class PrivateFolder {
 public:
  PrivateFolder() {
    if (::mkdtemp(path_.data()) == nullptr)
      throw Error("making " + path_, std::strerror(errno), "Make room in /tmp");
  }
  ~PrivateFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/pagewire-bench-XXXXXX";
};

// The signals that the waiting process takes one by one; blocked as long as the object is there.
class WatchedSignals {
 public:
  WatchedSignals() {
    ::sigemptyset(&set_);
    for (const int signal : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set_, signal);
    ::sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ~WatchedSignals() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  WatchedSignals(const WatchedSignals&) = delete;
  WatchedSignals& operator=(const WatchedSignals&) = delete;

  int wait() const { return ::sigwaitinfo(&set_, nullptr); }
  const sigset_t& before() const { return before_; }

 private:
  sigset_t set_{};
  sigset_t before_{};
};

class Children {
 public:
  Children() = default;
  ~Children() { stop_all(); }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  // `socket` stays open in the process, by its number.
  void start(std::vector<std::string> words, int socket, const sigset_t& signals);
  // Takes note of those that have ended.
  void reap();
  void stop_all();
  bool any() const { return pids_[0] != 0 || pids_[1] != 0; }
  int exit_code() const { return exit_code_; }

 private:
  std::array<pid_t, 2> pids_{};  // 0: not started, or ended
  std::size_t count_ = 0;
  int exit_code_ = 0;
};

void Children::start(std::vector<std::string> words, int socket, const sigset_t& signals) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw Error("starting a process", std::strerror(errno), "Allow more processes (ulimit -u)");
  if (pid == 0) {
    ::sigprocmask(SIG_SETMASK, &signals, nullptr);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::fcntl(socket, F_SETFD, 0);
    if (::getppid() == parent)
      ::execv("/proc/self/exe", pointers.data());  // else it ended before the line above
    ::_exit(kExecFailed);
  }
  pids_[count_++] = pid;
}

void Children::reap() {
  for (std::size_t node = 0; node < pids_.size(); ++node) {
    int status = 0;
    if (pids_[node] == 0 || ::waitpid(pids_[node], &status, WNOHANG) != pids_[node]) continue;
    pids_[node] = 0;
    if (status == 0 || exit_code_ != 0) continue;
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    if (WIFSIGNALED(status)) {
      fmt::print(stderr, "node {} was ended by signal {} ({})\n", node, WTERMSIG(status),
                 ::strsignal(WTERMSIG(status)));
    }
  }
}

// They hold nothing but what the kernel and the folder's removal clear away.
void Children::stop_all() {
  for (pid_t& pid : pids_) {
    if (pid == 0) continue;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    pid = 0;
  }
}

// Returns the signal that asked us to end, or 0.
int wait_for(Children& children, const WatchedSignals& signals) {
  while (children.any()) {
    const int signal = signals.wait();
    if (signal > 0 && signal != SIGCHLD) return signal;
    children.reap();
    if (children.exit_code() != 0) return 0;
  }
  return 0;
}

}  // namespace

void Meeting::meet() const {
  char byte = 1;
  ssize_t done = 0;
  do {
    done = ::send(socket_, &byte, 1, MSG_NOSIGNAL);
  } while (done < 0 && errno == EINTR);
  if (done == 1) {
    do {
      done = ::recv(socket_, &byte, 1, 0);
    } while (done < 0 && errno == EINTR);
  }
  if (done != 1) {
    throw Error("meeting the other process", done == 0 ? "it has ended" : std::strerror(errno),
                "See what it said");
  }
}

int run_pair(const std::vector<std::string>& arguments) {
  int end_by = 0;
  int code = 0;
  {
    const PrivateFolder folder;
    const WatchedSignals signals;
    std::array<int, 2> sockets{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0) {
      throw Error("making a socket pair", std::strerror(errno), "Allow more open files (ulimit -n)");
    }
    Children children;
    for (const int node : {0, 1}) {
      std::vector<std::string> words = arguments;
      const int socket = sockets[static_cast<std::size_t>(node)];
      words.insert(words.end(), {"--pair-node", std::to_string(node), "--pair-socket", std::to_string(socket),
                                 "--pair-folder", folder.path()});
      children.start(std::move(words), socket, signals.before());
    }
    for (const int socket : sockets) ::close(socket);
    end_by = wait_for(children, signals);
    children.stop_all();
    code = children.exit_code();
  }
  if (end_by != 0) {
    ::signal(end_by, SIG_DFL);
    ::raise(end_by);
  }
  return code;
}

}  // namespace pagewire::bench
