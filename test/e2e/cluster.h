// N processes of the node program, started and watched by a test. Whatever they leave is cleaned up by the
// destructor, also when the test failed: processes by id, the private folder, network namespaces.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pagewire::e2e {

struct Finished {
  int exit_code = -1;  // 128 + signal if it was killed
  std::string output;
  std::map<std::string, std::uint64_t> values;  // its key=value lines with numbers
  std::uint64_t at(const std::string& key) const {
    const auto found = values.find(key);
    return found == values.end() ? 0 : found->second;
  }
};

// The whole count in the long run (./run test --long), else a part of it.
std::uint64_t long_or(std::uint64_t whole, std::uint64_t part);

class Cluster {
 public:
  // Starts `node_count` nodes of a scenario; `flags` go to each. `prefixes`, one a node, come before the
  // program (ip netns exec …).
  Cluster(const std::string& scenario, std::uint32_t node_count, const std::vector<std::string>& flags,
          const std::vector<std::vector<std::string>>& prefixes = {});
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // Waits until the node has printed a line `key=…`; false after `seconds`.
  bool wait_for(std::uint32_t node, const std::string& key, int seconds);
  void signal(std::uint32_t node, int number);
  // Waits for a node's end; kills it after `seconds`.
  Finished finish(std::uint32_t node, int seconds);
  std::vector<Finished> finish_all(int seconds);
  const std::string& folder() const { return folder_; }

 private:
  struct Process {
    pid_t id = -1;
    int output_fd = -1;
    std::string output;
    bool ended = false;
    int status = 0;
  };
  void read_some(Process& process, int timeout_ms);

  std::string folder_;
  std::vector<Process> processes_;
};

// Three network namespaces and more, each with one end of a veth pair whose other end is on one bridge.
class Namespaces {
 public:
  explicit Namespaces(std::uint32_t count);
  ~Namespaces();
  Namespaces(const Namespaces&) = delete;
  Namespaces& operator=(const Namespaces&) = delete;

  // Empty if they could be made, else why not (a test skips then).
  const std::string& why_not() const { return why_not_; }
  std::vector<std::vector<std::string>> prefixes() const;  // for Cluster
  std::string name(std::uint32_t index) const { return base_ + "n" + std::to_string(index); }
  std::string bridge_namespace() const { return base_ + "b"; }
  static constexpr const char* kInterface = "pw0";

 private:
  bool run(const std::string& command);
  std::string base_;
  std::uint32_t count_;
  std::string why_not_;
};

}  // namespace pagewire::e2e
