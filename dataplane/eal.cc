#include "dataplane/eal.h"

#include <errno.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <utility>

#include "dataplane/eal_log.h"
#include "dataplane/signals_blocked.h"
#include "fault/setup_error.h"

namespace pagewire::dataplane {
namespace {

using fault::SetupError;

// EAL raises the soft limit of open files to the hard one; programs that use select(2) rely on it staying
// low.
class OpenFileLimitKept {
 public:
  OpenFileLimitKept() : valid_(getrlimit(RLIMIT_NOFILE, &before_) == 0) {}
  ~OpenFileLimitKept() {
    if (valid_) setrlimit(RLIMIT_NOFILE, &before_);
  }
  OpenFileLimitKept(const OpenFileLimitKept&) = delete;
  OpenFileLimitKept& operator=(const OpenFileLimitKept&) = delete;

 private:
  rlimit before_{};
  bool valid_;
};

// EAL makes <runtime>/dpdk/<prefix> even when it is told to share nothing; what wasn't there before goes
// again. When several processes start at once, an empty <runtime>/dpdk may stay: removing what another made
// could make that fail.
class RuntimeFolderRemoved {
 public:
  explicit RuntimeFolderRemoved(const std::string& prefix) {
    const char* runtime = std::getenv("RUNTIME_DIRECTORY");
    if (runtime == nullptr && getuid() == 0) runtime = "/var/run";
    if (runtime == nullptr) runtime = std::getenv("XDG_RUNTIME_DIR");
    if (runtime == nullptr) runtime = "/tmp";
    parent_ = std::string(runtime) + "/dpdk";
    folder_ = parent_ + "/" + prefix;
    parent_was_there_ = access(parent_.c_str(), F_OK) == 0;
    folder_was_there_ = access(folder_.c_str(), F_OK) == 0;
  }
  ~RuntimeFolderRemoved() {
    if (!folder_was_there_) rmdir(folder_.c_str());
    if (!parent_was_there_) rmdir(parent_.c_str());
  }
  RuntimeFolderRemoved(const RuntimeFolderRemoved&) = delete;
  RuntimeFolderRemoved& operator=(const RuntimeFolderRemoved&) = delete;

 private:
  std::string parent_;
  std::string folder_;
  bool parent_was_there_ = false;
  bool folder_was_there_ = false;
};

// Asks the kernel for the hugepages and gives them back: EAL can't try a second time if they are missing.
bool hugepages_usable(std::uint32_t memory_mb) {
  constexpr std::size_t kSizes[] = {std::size_t{2} << 20, std::size_t{1} << 30};  // of a hugepage, x86-64
  const std::size_t bytes = std::size_t{memory_mb} << 20;
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  if (memory == MAP_FAILED) return false;
  for (const std::size_t size :
       kSizes) {  // munmap wants whole hugepages; the kernel rounded mmap's length up
    if (munmap(memory, (bytes + size - 1) / size * size) == 0) break;
  }
  return true;
}

bool choose_hugepages(const EalOptions& options) {
  if (options.hugepages == Hugepages::kNo) return false;
  const bool usable = hugepages_usable(options.memory_mb);
  if (!usable && options.hugepages == Hugepages::kYes) {
    throw SetupError("taking hugepages", "fewer than " + std::to_string(options.memory_mb) + " MB are free",
                     "Reserve them (sysctl vm.nr_hugepages=" + std::to_string(options.memory_mb / 2 + 1) +
                         "), or let hugepages be chosen automatically");
  }
  return usable;
}

// The cores of EAL's one lcore, as the value of --lcores: lcore 0 on one core, or floating over the caller's.
std::string lcores_argument(const EalOptions& options) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) CPU_SET(0, &allowed);
  if (options.main_core) {
    if (*options.main_core >= CPU_SETSIZE || !CPU_ISSET(*options.main_core, &allowed)) {
      throw SetupError("choosing a core", "core " + std::to_string(*options.main_core) + " isn't ours to use",
                       "Name a core of this process's affinity (taskset -p), or none");
    }
    return "0@" + std::to_string(*options.main_core);
  }
  std::string cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores += (cores.empty() ? "" : ",") + std::to_string(core);
  }
  return "0@(" + cores + ")";
}

void check_words(const EalOptions& options) {
  const auto is_plain = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  };
  if (options.file_prefix.size() > 64 || !std::ranges::all_of(options.file_prefix, is_plain)) {
    throw SetupError("reading the file prefix", "\"" + options.file_prefix + "\"",
                     "Use at most 64 letters, digits, '.', '_' or '-'");
  }
  for (const std::string& device : options.pci_devices) {
    const auto is_address = [](unsigned char c) { return std::isxdigit(c) != 0 || c == ':' || c == '.'; };
    if (device.empty() || !std::ranges::all_of(device, is_address)) {
      throw SetupError("reading a PCI address", "\"" + device + "\"", "Write it as 0000:00:05.0 (lspci -D)");
    }
  }
}

std::vector<std::string> arguments(const EalOptions& options, bool hugepages) {
  std::vector<std::string> words = {program_invocation_short_name,  // EAL also hands it to openlog(3)
                                    "--no-telemetry",
                                    "--no-shconf",
                                    "--file-prefix=" + options.file_prefix,
                                    "--lcores=" + lcores_argument(options),
                                    "-m",
                                    std::to_string(options.memory_mb)};
  if (hugepages) {
    words.insert(words.end(), {"--in-memory", "--single-file-segments"});
  } else {
    words.emplace_back("--no-huge");
  }
  if (options.pci_devices.empty()) {
    words.insert(words.end(), {"--no-pci", "--iova-mode=va"});
  }
  for (const std::string& device : options.pci_devices) words.insert(words.end(), {"-a", device});
  return words;
}

// On a thread of its own: rte_eal_init() pins and marks the thread that calls it. Returns 0 or rte_errno.
int init_on_own_thread(std::vector<std::string> words) {
  int error = 0;
  const SignalsBlocked signals;  // in EAL's threads for good: the process's are for its own threads
  std::thread([&] {
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const QuietStdio quiet;
    if (eal_log_stream() != nullptr) rte_openlog_stream(eal_log_stream());
    if (rte_eal_init(static_cast<int>(words.size()), argv.data()) < 0)
      error = rte_errno != 0 ? rte_errno : EINVAL;
  }).join();
  return error;
}

[[noreturn]] void throw_start_failed(int error, const EalOptions& options) {
  const std::string seen = std::string(rte_strerror(error)) + "; EAL's log ends:\n" + eal_log_tail();
  if (error == EALREADY) {
    throw SetupError("starting DPDK", seen,
                     "EAL starts once a process: start Pagewire first, or in a process of its own");
  }
  if (error == ENOMEM) {
    throw SetupError(
        "starting DPDK", seen,
        "It asked for " + std::to_string(options.memory_mb) + " MB: free memory, or ask for less");
  }
  throw SetupError("starting DPDK", seen,
                   "Start a new process after removing the cause: EAL can't always try again");
}

}  // namespace

std::uint32_t eal_memory_mb(std::uint32_t queue_count, std::uint32_t pool_frames) {
  constexpr std::uint64_t kFrameBytes = 8704;  // mbuf, headroom, kFrameRoomBytes and the pool's object header
  constexpr std::uint64_t kDriversMb = 16;     // ethdev's shared arrays, devices, rings, memzones; and slack
  return static_cast<std::uint32_t>(kDriversMb +
                                    (queue_count * (pool_frames * kFrameBytes + (1U << 20)) >> 20));
}

Eal::Eal(Private, EalOptions options, bool hugepages)
    : options_(std::move(options)), hugepages_(hugepages), process_id_(getpid()) {}

std::shared_ptr<Eal> Eal::start(const EalOptions& wanted) {
  static std::mutex mutex;
  static std::shared_ptr<Eal> running;
  const std::lock_guard lock(mutex);
  if (running) {
    running->check_serves(wanted);
    return running;
  }
  check_words(wanted);
  EalOptions options = wanted;
  if (options.file_prefix.empty()) options.file_prefix = "pagewire-" + std::to_string(getpid());
  const bool hugepages = choose_hugepages(options);
  const OpenFileLimitKept limit;
  const RuntimeFolderRemoved folder(options.file_prefix);
  if (const int error = init_on_own_thread(arguments(options, hugepages)); error != 0) {
    throw_start_failed(error, options);
  }
  running = std::make_shared<Eal>(Private{}, std::move(options), hugepages);
  return running;
}

void Eal::check_serves(const EalOptions& wanted) const {
  if (process_id_ != getpid()) {
    throw SetupError("starting DPDK", "it was started before this process was forked off",
                     "Start it after fork()");
  }
  if (!hugepages_ && wanted.memory_mb > options_.memory_mb) {
    throw SetupError("growing DPDK's memory",
                     "it runs with " + std::to_string(options_.memory_mb) + " MB, " +
                         std::to_string(wanted.memory_mb) + " MB are wanted",
                     "Start the larger one first, or use hugepages, which can grow");
  }
  if (!hugepages_ && wanted.hugepages == Hugepages::kYes) {
    throw SetupError("taking hugepages", "DPDK already runs without them in this process",
                     "Start with them first");
  }
  for (const std::string& device : wanted.pci_devices) {
    if (std::ranges::find(options_.pci_devices, device) == options_.pci_devices.end()) {
      throw SetupError("adding PCI device " + device, "DPDK already runs without it in this process",
                       "Name all PCI devices at the first start");
    }
  }
}

std::string Eal::limits() const {
  if (hugepages_) return "";
  return "no hugepages: frames lie in ordinary 4 KiB pages, which costs address-translation misses under "
         "load, and "
         "memory is fixed at " +
         std::to_string(options_.memory_mb) +
         " MB; remedy: sysctl vm.nr_hugepages=" + std::to_string(options_.memory_mb / 2 + 1);
}

LoopThreadRegistration::LoopThreadRegistration()
    : registered_(rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() == 0) {}

LoopThreadRegistration::~LoopThreadRegistration() {
  if (registered_) rte_thread_unregister();
}

std::uint32_t LoopThreadRegistration::core_id() const { return rte_lcore_id(); }

LoopIdentity::LoopIdentity(std::uint32_t core_id) : before_(RTE_PER_LCORE(_lcore_id)) {
  RTE_PER_LCORE(_lcore_id) = core_id;
}

LoopIdentity::~LoopIdentity() { RTE_PER_LCORE(_lcore_id) = before_; }

}  // namespace pagewire::dataplane
