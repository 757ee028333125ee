// The doctor's single checks.
#include <dirent.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>
#include <thread>

#include "fault/region_memory.h"
#include "fault/scheduling.h"
#include "pagewire/config_rules.h"
#include "tools/doctor.h"
#include "tools/numbers.h"

namespace pagewire::tools {

namespace {

constexpr std::string_view kAfPacket = "af_packet:";

Finding ok(std::string what, std::string seen) { return {Health::kOk, std::move(what), std::move(seen), {}}; }

const NodeDescription* own_node(const Config& config) {
  const auto found = std::ranges::find(config.nodes, config.node, &NodeDescription::id);
  return found == config.nodes.end() ? nullptr : &*found;
}

std::string own_port(const Config& config) {
  const NodeDescription* const node = own_node(config);
  return node == nullptr ? "memif" : node->port;
}

// A number of /proc/meminfo, in its unit; 0 if it is not there.
std::uint64_t meminfo(std::string_view key) {
  std::ifstream file("/proc/meminfo");
  for (std::string name; file >> name;) {
    std::uint64_t value = 0;
    file >> value;
    if (name.starts_with(key) && name.size() == key.size() + 1) return value;
    file.ignore(256, '\n');
  }
  return 0;
}

Finding hugepages(const Config& config) {
  const std::uint64_t page_kb = meminfo("Hugepagesize");
  const std::uint64_t free_mb = meminfo("HugePages_Free") * page_kb / 1024;
  const std::uint64_t wanted =
      page_kb == 0 ? 0 : (config.memory_mb * std::uint64_t{1024} + page_kb - 1) / page_kb;
  const std::string seen =
      fmt::format("{} MB free, {} MB wanted for DPDK's pools", free_mb, config.memory_mb);
  if (config.hugepages == Hugepages::kOff) return ok("hugepages", "not wanted");
  if (free_mb >= config.memory_mb) return ok("hugepages", seen);
  const std::string remedy = fmt::format(
      "sysctl vm.nr_hugepages={} for each node{}", wanted,
      config.hugepages == Hugepages::kRequired ? "" : "; without them it works, on ordinary pages");
  return {config.hugepages == Hugepages::kRequired ? Health::kFail : Health::kWarn, "hugepages", seen,
          remedy};
}

// The folder from which EAL loads its drivers: beside the library that this program is linked with.
std::string driver_folder() {
  std::string library;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        const std::string_view name = info->dlpi_name;
        if (name.find("/librte_eal.so") == name.npos) return 0;
        *static_cast<std::string*>(out) = name;
        return 1;
      },
      &library);
  if (library.empty()) return {};
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(library).parent_path() / "dpdk", error)) {
    if (entry.path().filename().string().starts_with("pmds-")) return entry.path().string();
  }
  return {};
}

Finding driver(const std::string& folder, const std::string& name, bool needed) {
  const std::string path = fmt::format("{}/librte_net_{}.so", folder, name);
  const std::string what = fmt::format("DPDK driver net_{}", name);
  const Health trouble = needed ? Health::kFail : Health::kWarn;
  if (::access(path.c_str(), R_OK) != 0) {
    return {trouble, what, fmt::format("{}: {}", path, std::strerror(errno)),
            fmt::format("apt-get install librte-net-{}23", name == "af_packet" ? "af-packet" : name)};
  }
  // Never closed: a driver registers itself as it is loaded.
  if (::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) {
    return {trouble, what, ::dlerror(),
            "Install DPDK's packages in one version (apt-get install --reinstall libdpdk-dev)"};
  }
  return ok(what, path);
}

}  // namespace

std::vector<Finding> check_userfaultfd(const Config& config) {
  const fault::Support support = fault::probe_support();
  std::vector<Finding> findings;
  const bool features = support.minor_shmem && support.write_protect_shmem && support.continue_write_protect;
  if (!support.userfaultfd || !features || !support.remedy.empty()) {
    const std::string missing =
        !support.userfaultfd
            ? "userfaultfd cannot be opened"
            : fmt::format("minor faults {}, write-protect {}, both at once {}", support.minor_shmem,
                          support.write_protect_shmem, support.continue_write_protect);
    findings.push_back({Health::kFail, "kernel", fmt::format("Linux {}: {}", support.kernel_release, missing),
                        support.remedy.empty() ? "Use Linux 6.4 or later" : support.remedy});
    return findings;
  }
  findings.push_back(
      ok("kernel", fmt::format("Linux {}, userfaultfd has what is needed", support.kernel_release)));
  findings.push_back(ok("userfaultfd", fmt::format("opened by {}", support.opened_by)));
  if (support.kernel_faults) {
    findings.push_back(ok("system calls on regions", "served"));
  } else if (config.kernel_faults == KernelFaults::kOff) {
    findings.push_back(ok("system calls on regions", "not wanted"));
  } else {
    findings.push_back(
        {config.kernel_faults == KernelFaults::kRequired ? Health::kFail : Health::kWarn,
         "system calls on regions", "read(2) into a page that is not here gives EFAULT",
         "Give the user /dev/userfaultfd (chgrp, chmod 660) or set vm.unprivileged_userfaultfd=1"});
  }
  if (support.sigbus) {
    findings.push_back(ok("inline delivery", "the kernel can raise SIGBUS for a fault"));
  } else {
    findings.push_back({config.delivery == Delivery::kInline ? Health::kFail : Health::kWarn,
                        "inline delivery", "userfaultfd without UFFD_FEATURE_SIGBUS",
                        "Use delivery = \"thread\""});
  }
  return findings;
}

// Asked for by a thread that ends at once.
std::vector<Finding> check_real_time(const Config& config) {
  if (config.loop_kind != LoopKind::kSelf || !config.real_time) {
    return {ok("real time", "not asked for")};
  }
  bool granted = false;
  std::thread([&] { granted = fault::ask_for_real_time(); }).join();
  if (granted) return {ok("real time", "granted to the loops' threads, which only serve and sleep")};
  return {{Health::kWarn, "real time", "not granted: nodes wait longer when every core computes",
           "ulimit -r 1 (LimitRTPRIO=1) or CAP_SYS_NICE; or real_time = false"}};
}

std::vector<Finding> check_memory(const Config& config) {
  std::vector<Finding> findings = {hugepages(config)};
  const std::uint64_t available_mb = meminfo("MemAvailable") / 1024;
  const std::string seen =
      fmt::format("{} MB available, {} MB for DPDK's pools, and the regions", available_mb, config.memory_mb);
  if (available_mb < config.memory_mb) {
    findings.push_back({Health::kFail, "memory", seen, "Free some, or lower memory.mb"});
  } else {
    findings.push_back(ok("memory", seen));
  }
  rlimit limit = {};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool unlimited = limit.rlim_cur == RLIM_INFINITY;
  const std::string locked = unlimited ? "unlimited" : bytes_text(limit.rlim_cur);
  // A card maps the pools for its own access, which counts as locked; nothing else of Pagewire locks memory.
  const bool is_card = own_port(config).find(':') == 4;
  if (is_card && !unlimited && limit.rlim_cur >> 20 < config.memory_mb && ::geteuid() != 0) {
    findings.push_back(
        {Health::kFail, "locked memory", locked, "ulimit -l unlimited (or LimitMEMLOCK=infinity)"});
  } else {
    findings.push_back(ok("locked memory", fmt::format("limit {}, enough for this port", locked)));
  }
  return findings;
}

std::vector<Finding> check_drivers(const Config& config) {
  const std::string folder = driver_folder();
  if (folder.empty()) {
    return {{Health::kFail, "DPDK", "no folder with its drivers beside librte_eal",
             "apt-get install libdpdk-dev"}};
  }
  const std::string port = own_port(config);
  return {driver(folder, "memif", port == "memif"), driver(folder, "af_packet", port.starts_with(kAfPacket))};
}

std::vector<Finding> check_network(const Config& config) {
  const std::string port = own_port(config);
  if (port == "memif") {
    const auto problem = find_problem(config);
    if (!problem) return {ok("memif folder", folder_of(config))};
    return {{Health::kFail, problem->key == "folder" ? "memif folder" : problem->key, problem->seen,
             problem->remedy}};
  }
  if (!port.starts_with(kAfPacket)) {
    return {
        {Health::kWarn, "port", fmt::format("{} is not looked at", port), "Start `pagewire node` to see"}};
  }
  std::vector<Finding> findings;
  const std::string interface = port.substr(kAfPacket.size());
  if (::if_nametoindex(interface.c_str()) == 0) {
    findings.push_back({Health::kFail, "interface", fmt::format("{}: {}", interface, std::strerror(errno)),
                        "Name one that `ip link` shows"});
  } else {
    findings.push_back(ok("interface", interface));
  }
  const int socket = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (socket < 0) {
    findings.push_back(
        {Health::kFail, "packet sockets", std::strerror(errno), "Give the process CAP_NET_RAW"});
  } else {
    ::close(socket);
    findings.push_back(ok("packet sockets", "allowed"));
  }
  return findings;
}

std::vector<Finding> check_cores(const Config& config) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof allowed, &allowed);
  for (const int core : config.loop_cores) {
    if (!CPU_ISSET(static_cast<std::size_t>(core), &allowed)) {
      return {{Health::kFail, "cores",
               fmt::format("loops.cores names {}, where this process may not run", core),
               "Name others (taskset -p $$ shows which), or \"float\""}};
    }
  }
  const int count = CPU_COUNT(&allowed);
  const std::string seen = fmt::format("{} for {} loop(s) and the service", count, config.loops);
  if (count > static_cast<int>(config.loops)) return {ok("cores", seen)};
  return {{Health::kWarn, "cores", seen, "It works, and slower: loops and the service's threads take turns"}};
}

std::vector<Finding> check_region_addresses(const Config& config) {
  constexpr std::size_t kRoom = std::size_t{64} << 30;
  const std::string seen = fmt::format("64 GiB from {:#x}", config.region_base);
  void* const wanted = reinterpret_cast<void*>(config.region_base);
  void* const got = ::mmap(wanted, kRoom, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == wanted) {
    ::munmap(got, kRoom);
    return {ok("region addresses", seen + " are free")};
  }
  const int error = errno;
  if (got != MAP_FAILED) ::munmap(got, kRoom);
  return {{Health::kFail, "region addresses", fmt::format("{}: {}", seen, std::strerror(error)),
           "Choose another memory.region_base, the same on all nodes, and lift `ulimit -v`"}};
}

}  // namespace pagewire::tools
