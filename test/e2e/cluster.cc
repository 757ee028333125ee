#include "test/e2e/cluster.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>

namespace pagewire::e2e {

namespace {

std::string node_program() {
  const char* program = std::getenv("PAGEWIRE_NODE_PROGRAM");  // set by the BUILD file
  return program != nullptr ? std::filesystem::absolute(program).string() : "node_main";
}

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::map<std::string, std::uint64_t> parse(const std::string& output) {
  std::map<std::string, std::uint64_t> values;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    char* end = nullptr;
    const std::uint64_t value = std::strtoull(line.c_str() + equals + 1, &end, 10);
    if (*end == '\0' && end != line.c_str() + equals + 1) values[line.substr(0, equals)] = value;
  }
  return values;
}

}  // namespace

std::uint64_t long_or(std::uint64_t whole, std::uint64_t part) {
  return std::getenv("PAGEWIRE_TEST_LONG") != nullptr ? whole : part;
}

Cluster::Cluster(const std::string& scenario, std::uint32_t node_count, const std::vector<std::string>& flags,
                 const std::vector<std::vector<std::string>>& prefixes) {
  std::string pattern = std::filesystem::temp_directory_path() / "pagewire-e2e-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  folder_ = pattern;
  for (std::uint32_t node = 0; node < node_count; ++node) {
    std::vector<std::string> words = prefixes.empty() ? std::vector<std::string>{} : prefixes[node];
    words.insert(words.end(), {node_program(), scenario, "--node", std::to_string(node), "--nodes",
                               std::to_string(node_count), "--folder", folder_});
    words.insert(words.end(), flags.begin(), flags.end());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
    const pid_t id = fork();
    if (id == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      execvp(arguments[0], arguments.data());
      _exit(127);
    }
    close(ends[1]);
    processes_.push_back(Process{.id = id, .output_fd = ends[0], .output = {}});
  }
}

Cluster::~Cluster() {
  for (Process& process : processes_) {
    if (!process.ended) {
      kill(process.id, SIGKILL);
      waitpid(process.id, nullptr, 0);
    }
    close(process.output_fd);
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Cluster::read_some(Process& process, int timeout_ms) {
  pollfd readable{.fd = process.output_fd, .events = POLLIN, .revents = 0};
  if (poll(&readable, 1, timeout_ms) <= 0) return;
  char buffer[4096];
  const ssize_t count = read(process.output_fd, buffer, sizeof(buffer));
  if (count > 0) {
    process.output.append(buffer, static_cast<std::size_t>(count));
  } else if (!process.ended) {  // its end of the pipe is closed: it has ended, or will at once
    waitpid(process.id, &process.status, 0);
    process.ended = true;
  }
}

bool Cluster::wait_for(std::uint32_t node, const std::string& key, int seconds) {
  Process& process = processes_[node];
  const std::int64_t until = now_ms() + seconds * 1000;
  while (!process.ended && now_ms() < until) {
    if (("\n" + process.output).find("\n" + key + "=") != std::string::npos) return true;
    read_some(process, 100);
  }
  return ("\n" + process.output).find("\n" + key + "=") != std::string::npos;
}

void Cluster::signal(std::uint32_t node, int number) { kill(processes_[node].id, number); }

Finished Cluster::finish(std::uint32_t node, int seconds) {
  Process& process = processes_[node];
  const std::int64_t until = now_ms() + seconds * 1000;
  while (!process.ended && now_ms() < until) read_some(process, 100);
  if (!process.ended) {
    kill(process.id, SIGKILL);
    process.output += "\nkilled by the test: it did not end in time\n";
    waitpid(process.id, &process.status, 0);
    process.ended = true;
  }
  Finished finished;
  finished.exit_code =
      WIFEXITED(process.status) ? WEXITSTATUS(process.status) : 128 + WTERMSIG(process.status);
  finished.output = process.output;
  finished.values = parse(process.output);
  return finished;
}

std::vector<Finished> Cluster::finish_all(int seconds) {
  std::vector<Finished> all;
  for (std::uint32_t node = 0; node < processes_.size(); ++node) all.push_back(finish(node, seconds));
  return all;
}

Namespaces::Namespaces(std::uint32_t count) : base_("pw" + std::to_string(getpid())), count_(count) {
  if (geteuid() != 0) {
    why_not_ = "needs root for network namespaces";
    return;
  }
  const std::string bridge = "ip netns exec " + bridge_namespace() + " ";
  bool made = run("ip netns add " + bridge_namespace()) && run(bridge + "ip link add br0 type bridge") &&
              run(bridge + "ip link set br0 up");
  for (std::uint32_t i = 0; made && i < count; ++i) {
    made = run(fmt::format("ip netns add {}", name(i))) &&
           run(fmt::format("ip netns exec {} ip link add {} type veth peer name v{} netns {}", name(i),
                           kInterface, i, bridge_namespace())) &&
           run(fmt::format("ip netns exec {} ip link set {} up", name(i), kInterface)) &&
           run(fmt::format("{}ip link set v{} master br0", bridge, i)) &&
           run(fmt::format("{}ip link set v{} up", bridge, i));
  }
  if (!made && why_not_.empty()) why_not_ = "could not make network namespaces (ip netns, veth, bridge)";
}

Namespaces::~Namespaces() {
  if (geteuid() != 0) return;
  for (std::uint32_t i = 0; i < count_; ++i) run("ip netns del " + name(i));
  run("ip netns del " + bridge_namespace());
}

bool Namespaces::run(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

std::vector<std::vector<std::string>> Namespaces::prefixes() const {
  std::vector<std::vector<std::string>> all;
  for (std::uint32_t i = 0; i < count_; ++i) all.push_back({"ip", "netns", "exec", name(i)});
  return all;
}

}  // namespace pagewire::e2e
