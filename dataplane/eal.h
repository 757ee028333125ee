// DPDK's environment (EAL), started once a process and as a guest in it: the caller's affinity, signals,
// limits and standard streams are as before, nothing is printed, no file stays behind. EAL can't be stopped
// and started again, so it stays until the process ends; ports hold it by shared_ptr. Any thread. Source:
// DPDK 22.11, Environment Abstraction Layer (Programmer's Guide) and EAL parameters (Linux).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace pagewire::dataplane {

enum class Hugepages : std::uint8_t {
  kAuto,  // if there are enough free ones, else ordinary memory
  kYes,   // SetupError if there are not
  kNo,    // ordinary memory
};

struct EalOptions {
  std::uint32_t memory_mb = 64;  // see eal_memory_mb(); fixed from the start without hugepages
  Hugepages hugepages = Hugepages::kAuto;
  std::string file_prefix = {};  // empty: "pagewire-<process id>"; letters, digits, '.', '_', '-'
  std::vector<std::string> pci_devices =
      {};  // addresses as 0000:00:05.0; empty: the PCI bus isn't touched at all
  std::optional<unsigned> main_core = {};  // of EAL's own threads; absent: wherever the caller may run
};

// What `queue_count` queues with mbuf pools of `pool_frames` frames need, in MB, with the drivers' own.
std::uint32_t eal_memory_mb(std::uint32_t queue_count, std::uint32_t pool_frames);

class Eal {
 public:
  // Starts EAL, or gives the running one back if it has the memory and the devices asked for. Throws
  // SetupError with the tail of EAL's log (no memory, EAL started by somebody else, started before a fork,
  // unknown device).
  static std::shared_ptr<Eal> start(const EalOptions& options);

  bool hugepages() const { return hugepages_; }
  std::uint32_t memory_mb() const { return options_.memory_mb; }
  // One line that says what running like this costs, and the remedy; empty if there is nothing to say.
  std::string limits() const;

 private:
  struct Private {};

 public:
  Eal(Private, EalOptions options, bool hugepages);  // by start() alone

 private:
  void check_serves(const EalOptions& wanted) const;

  EalOptions options_;
  bool hugepages_ = false;
  int process_id_ = 0;
};

// A loop's thread makes one of these first, so that its mempool caches are used; the destructor must run on
// the same thread. Without a free slot (DPDK knows 128 threads) the thread works all the same, only slower:
// see registered().
class LoopThreadRegistration {
 public:
  LoopThreadRegistration();
  ~LoopThreadRegistration();
  LoopThreadRegistration(const LoopThreadRegistration&) = delete;
  LoopThreadRegistration& operator=(const LoopThreadRegistration&) = delete;

  bool registered() const { return registered_; }
  std::uint32_t core_id() const;  // DPDK's number of this thread, for LoopIdentity

 private:
  bool registered_ = false;
};

// A thread that drives a loop in its thread's place uses that one's mempool caches: as long as it lives the
// calling thread goes by the loop thread's number. At most one thread at a time may go by a number and
// allocate; the drive sees to that. Allowed in a signal handler.
class LoopIdentity {
 public:
  explicit LoopIdentity(std::uint32_t core_id);
  ~LoopIdentity();
  LoopIdentity(const LoopIdentity&) = delete;
  LoopIdentity& operator=(const LoopIdentity&) = delete;

 private:
  std::uint32_t before_;
};

}  // namespace pagewire::dataplane
