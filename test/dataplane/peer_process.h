// A child process of a test, running this same program in a role of its own. Its standard input is a pipe
// whose end tells it to stop; its standard output is read line by line. Killed and reaped when the object
// goes.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pagewire::test {

class PeerProcess {
 public:
  // Runs /proc/self/exe with `arguments`; `prefix` (a command that runs its arguments, as "ip netns exec x")
  // before.
  explicit PeerProcess(const std::vector<std::string>& arguments,
                       const std::vector<std::string>& prefix = {}) {
    std::array<int, 2> input{};
    std::array<int, 2> output{};
    if (pipe2(input.data(), O_CLOEXEC) != 0 || pipe2(output.data(), O_CLOEXEC) != 0) return;
    std::array<char, 4096> self{};
    const ssize_t self_bytes = readlink("/proc/self/exe", self.data(), self.size() - 1);
    std::vector<std::string> words = prefix;
    words.emplace_back(self.data(), static_cast<std::size_t>(self_bytes > 0 ? self_bytes : 0));
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input[0], 0);
    posix_spawn_file_actions_adddup2(&actions, output[1], 1);
    if (posix_spawnp(&process_id_, argv[0], &actions, nullptr, argv.data(), environ) != 0) process_id_ = -1;
    posix_spawn_file_actions_destroy(&actions);
    close(input[0]);
    close(output[1]);
    input_ = input[1];
    output_ = output[0];
  }
  ~PeerProcess() {
    if (running()) {
      kill();
      wait();
    }
    if (input_ >= 0) close(input_);
    if (output_ >= 0) close(output_);
  }
  PeerProcess(PeerProcess&& other) noexcept
      : process_id_(std::exchange(other.process_id_, -1)),
        input_(std::exchange(other.input_, -1)),
        output_(std::exchange(other.output_, -1)),
        text_(std::move(other.text_)) {}
  PeerProcess& operator=(PeerProcess&&) = delete;

  bool running() const { return process_id_ > 0; }
  pid_t process_id() const { return process_id_; }
  void kill() const { ::kill(process_id_, SIGKILL); }
  void stop() { close(std::exchange(input_, -1)); }  // its standard input ends

  // A line for its standard input. False if it is gone.
  bool tell(const std::string& words) {
    const std::string line = words + "\n";
    return write(input_, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  }

  // The next line, without its end; "<closed>" when the peer's output ended, "<timeout>" after `timeout`.
  std::string line(std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    while (true) {
      if (const std::size_t end = text_.find('\n'); end != std::string::npos) {
        std::string found = text_.substr(0, end);
        text_.erase(0, end + 1);
        return found;
      }
      const auto rest =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      pollfd readable{.fd = output_, .events = POLLIN, .revents = 0};
      if (rest.count() <= 0 || poll(&readable, 1, static_cast<int>(rest.count())) == 0) return "<timeout>";
      std::array<char, 4096> bytes;
      const ssize_t count = read(output_, bytes.data(), bytes.size());
      if (count <= 0) return "<closed>";
      text_.append(bytes.data(), static_cast<std::size_t>(count));
    }
  }

  // Waits for its end; the exit code, or 128 + the signal that ended it.
  int wait() {
    int status = 0;
    while (waitpid(process_id_, &status, 0) < 0 && errno == EINTR) {
    }
    process_id_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t process_id_ = -1;
  int input_ = -1;
  int output_ = -1;
  std::string text_;
};

}  // namespace pagewire::test
