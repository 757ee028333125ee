// The rules of a configuration, for files and for those made in code alike. Any thread.
#include "pagewire/config.h"

#include <fmt/format.h>
#include <net/if.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>

#include "pagewire/config_rules.h"
#include "pagewire/error.h"

namespace pagewire {

namespace {

using Finding = std::optional<ConfigProblem>;

constexpr std::uint64_t kHourMs = 3'600'000;
constexpr std::uint64_t kSecondUs = 1'000'000;

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 48 && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
}

Finding check_name(const char* key, const std::string& value) {
  if (is_name(value)) return std::nullopt;
  return ConfigProblem{key, fmt::format("\"{}\"", value), "Use 1 to 48 letters, digits, '.', '_' or '-'"};
}

template <typename T>
Finding check_range(std::string key, T value, T min, T max) {
  if (value >= min && value <= max) return std::nullopt;
  return ConfigProblem{std::move(key), fmt::format("{}", value), fmt::format("Use {} to {}", min, max)};
}

// 0000:00:05.0
bool is_pci_address(std::string_view text) {
  constexpr std::string_view kShape = "xxxx:xx:xx.x";
  const auto fits = [](char c, char shape) {
    return shape == 'x' ? std::isxdigit(static_cast<unsigned char>(c)) != 0 : c == shape;
  };
  return text.size() == kShape.size() && std::ranges::equal(text, kShape, fits);
}

bool is_port(std::string_view text) {
  constexpr std::string_view kAfPacket = "af_packet:";
  constexpr std::string_view kEal = "eal:net_";
  if (text == "memif") return true;
  if (text.starts_with(kAfPacket)) {
    const std::string_view interface = text.substr(kAfPacket.size());
    return !interface.empty() && interface.size() < IFNAMSIZ &&
           interface.find_first_of(" ,/:") == interface.npos;
  }
  return (text.starts_with(kEal) && text.size() > kEal.size()) || is_pci_address(text);
}

Finding check_nodes(const Config& config) {
  const std::size_t count = config.nodes.size();
  if (count == 0) return ConfigProblem{"nodes", "no nodes", "Add a [[nodes]] table for each node"};
  if (count > kNodesMax) {
    return ConfigProblem{"nodes", fmt::format("{} nodes", count), fmt::format("Use at most {}", kNodesMax)};
  }
  std::map<std::uint32_t, std::size_t> seen_ids;
  for (std::size_t i = 0; i < count; ++i) {
    const NodeDescription& node = config.nodes[i];
    const std::string key = fmt::format("nodes[{}]", i);
    if (const auto [first, is_new] = seen_ids.emplace(node.id, i); !is_new) {
      return ConfigProblem{key + ".id", fmt::format("{}, as nodes[{}] has it", node.id, first->second),
                           "Give each node an id of its own"};
    }
    if (node.id >= count) {
      return ConfigProblem{key + ".id", fmt::format("{} among {} nodes", node.id, count),
                           fmt::format("Number the nodes 0 to {}", count - 1)};
    }
    if (!is_port(node.port)) {
      return ConfigProblem{
          key + ".port", fmt::format("\"{}\"", node.port),
          "Use \"memif\", \"af_packet:IFACE\", \"eal:net_…\" or a PCI address as \"0000:00:05.0\""};
    }
    if ((node.port == "memif") != (config.nodes[0].port == "memif")) {
      return ConfigProblem{key + ".port",
                           fmt::format("\"{}\" beside \"{}\"", node.port, config.nodes[0].port),
                           "memif reaches only processes of one machine: give it to all nodes or to none"};
    }
  }
  if (config.node >= count) {
    return ConfigProblem{"node", fmt::format("{} among {} nodes", config.node, count),
                         fmt::format("Say which node this is: 0 to {}", count - 1)};
  }
  return std::nullopt;
}

std::string parent_of(const std::string& folder) {
  const std::size_t slash = folder.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : folder.substr(0, slash);
}

Finding check_folder(const Config& config) {
  if (!uses_memif(config)) return std::nullopt;
  std::string folder = folder_of(config);
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  const auto problem = [&](const std::string& why, const std::string& remedy) {
    return ConfigProblem{"folder", fmt::format("{} ({})", folder, why), remedy};
  };
  if (folder.front() != '/') return problem("not from the root", "Name the whole path, starting with '/'");
  if (folder.size() > kFolderBytesMax) {
    return problem(
        fmt::format("{} bytes", folder.size()),
        fmt::format("Use a path of at most {} bytes, so that a socket's name fits", kFolderBytesMax));
  }
  // DPDK reads its device string up to the next comma.
  if (folder.find_first_of(", \t\n") != std::string::npos) {
    return problem("with a comma or a space",
                   "Use a path without them: DPDK's device strings cannot hold them");
  }
  struct stat status = {};
  if (::stat(folder.c_str(), &status) != 0) {
    const std::string parent = parent_of(folder);
    if (errno == ENOENT && ::access(parent.c_str(), W_OK | X_OK) == 0)
      return std::nullopt;  // Node will make it
    const int error = errno;
    return problem(std::strerror(error),
                   fmt::format("Make it (mkdir -m 700 {}), or name one that can be made", folder));
  }
  if (!S_ISDIR(status.st_mode)) return problem("not a folder", "Name a folder");
  if (status.st_uid != ::geteuid()) {
    return problem(fmt::format("belongs to user {}, we are {}", status.st_uid, ::geteuid()),
                   "Name a folder of your own");
  }
  if ((status.st_mode & 077) != 0) {
    return problem(
        fmt::format("mode {:04o}", status.st_mode & 07777),
        fmt::format("Close it to others (chmod 700 {}): who can open the sockets can read the regions",
                    folder));
  }
  if (::access(folder.c_str(), R_OK | W_OK | X_OK) != 0) return problem(std::strerror(errno), "chmod 700 it");
  return std::nullopt;
}

Finding check_loops(const Config& config) {
  if (auto found = check_range("loops.count", config.loops, 1U, kLoopsMax)) return found;
  if (config.loop_cores.empty()) return std::nullopt;
  if (config.loop_cores.size() != config.loops) {
    return ConfigProblem{"loops.cores",
                         fmt::format("{} cores for {} loops", config.loop_cores.size(), config.loops),
                         "Name one core a loop, or \"float\""};
  }
  for (const int core : config.loop_cores) {
    if (auto found = check_range("loops.cores", core, 0, CPU_SETSIZE - 1)) return found;
  }
  return std::nullopt;
}

Finding check_memory(const Config& config) {
  if (auto found = check_range("memory.mb", config.memory_mb, kMemoryMbMin, kMemoryMbMax)) return found;
  const std::uintptr_t base = config.region_base;
  if (base % kRegionAlignment != 0) {
    return ConfigProblem{"memory.region_base", fmt::format("{:#x}", base),
                         fmt::format("Use a multiple of {:#x}", kRegionAlignment)};
  }
  if (base < kRegionBaseMin || base >= kRegionLimit) {
    return ConfigProblem{"memory.region_base", fmt::format("{:#x}", base),
                         fmt::format("Use {:#x} to {:#x}", kRegionBaseMin, kRegionLimit - kRegionAlignment)};
  }
  return std::nullopt;
}

Finding check_timeouts(const Config& config) {
  const struct {
    const char* key;
    std::uint64_t value, min, max;
  } rules[] = {
      {"timeouts.join_ms", config.join_timeout_ms, 1, 24 * kHourMs},
      {"timeouts.silence_ms", config.silence_timeout_ms, 10, 24 * kHourMs},
      {"timeouts.leave_ms", config.leave_timeout_ms, 0, kHourMs},
      {"timeouts.retry_us", config.retry_us, 50, 60 * kSecondUs},
      {"timeouts.retry_max_us", config.retry_max_us, 50, 60 * kSecondUs},
      {"timeouts.hold_us", config.hold_us, 0, kSecondUs},
  };
  for (const auto& rule : rules) {
    if (auto found = check_range(rule.key, rule.value, rule.min, rule.max)) return found;
  }
  if (config.retry_max_us < config.retry_us) {
    return ConfigProblem{"timeouts.retry_max_us",
                         fmt::format("{}, less than retry_us = {}", config.retry_max_us, config.retry_us),
                         "Use at least retry_us"};
  }
  return std::nullopt;
}

Finding check_impairment(const Impairment& impairment) {
  if (auto found = check_range("impairment.drop", impairment.drop, 0.0, 1.0)) return found;
  if (auto found = check_range("impairment.duplicate", impairment.duplicate, 0.0, 1.0)) return found;
  return check_range("impairment.reorder", impairment.reorder, 0.0, 1.0);
}

}  // namespace

bool uses_memif(const Config& config) {
  return std::ranges::any_of(config.nodes, [](const NodeDescription& node) { return node.port == "memif"; });
}

std::string folder_of(const Config& config) {
  if (!config.folder.empty()) return config.folder;
  const char* const runtime_folder = std::getenv("XDG_RUNTIME_DIR");
  if (runtime_folder != nullptr && runtime_folder[0] == '/') {
    return fmt::format("{}/pagewire-{}", runtime_folder, config.cluster);
  }
  return fmt::format("/tmp/pagewire-{}-{}", ::geteuid(), config.cluster);
}

std::string file_prefix_of(const Config& config) {
  if (!config.file_prefix.empty()) return config.file_prefix;
  return fmt::format("pagewire-{}-{}-{}", config.cluster, config.node, ::getpid());
}

std::optional<ConfigProblem> find_problem(const Config& config) {
  if (auto found = check_name("cluster", config.cluster)) return found;
  if (auto found = check_nodes(config)) return found;
  if (!config.file_prefix.empty()) {
    if (auto found = check_name("file_prefix", config.file_prefix)) return found;
  }
  if (auto found = check_loops(config)) return found;
  if (auto found = check_memory(config)) return found;
  if (auto found = check_timeouts(config)) return found;
  if (auto found = check_impairment(config.impairment)) return found;
  return check_folder(config);
}

Config Config::local(std::uint32_t node, std::uint32_t node_count, const std::string& folder) {
  Config config;
  config.node = node;
  config.folder = folder;
  for (std::uint32_t id = 0; id < node_count; ++id) config.nodes.push_back({.id = id, .port = "memif"});
  return config;
}

void Config::validate() const {
  if (const auto found = find_problem(*this)) {
    throw Error("configuration: " + found->key, found->seen, found->remedy);
  }
}

}  // namespace pagewire
