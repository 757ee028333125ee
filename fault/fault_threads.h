// Thread delivery with a fault thread for each core on which the service's threads fault. Waking a thread on
// the core that goes idle by the fault takes 3 µs, on another core 40 µs (the interrupt and a virtual
// machine's exit): so the kernel wakes them all, and the one on the faulting thread's core has read the fault
// before the others run.
//
// It starts with one thread, which settles on the core of the first fault. When a thread is seen to fault on
// a core that has none, one is started there, pinned, up to a limit; cores are looked up by the faults'
// thread ids, each at most ten times a second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "fault/fault_thread.h"

namespace pagewire::fault {

class FaultThreads {
 public:
  static constexpr std::size_t kThreadsMax = 8;

  // The sink is called by several threads at once, each with faults of its own. Throws SetupError.
  explicit FaultThreads(FaultSink& sink);
  ~FaultThreads();  // stops and joins them
  FaultThreads(const FaultThreads&) = delete;
  FaultThreads& operator=(const FaultThreads&) = delete;

  // As FaultThread's.
  void add(std::uint32_t region, const RegionMemory& memory);
  void remove(std::uint32_t region);
  FaultThread::Counters counters() const;
  std::size_t thread_count() const;

 private:
  class Member;
  void start_on(int core);

  FaultSink& sink_;
  mutable std::mutex mutex_;  // guards the next two; a fault thread only ever tries it
  std::vector<std::unique_ptr<Member>> members_;
  std::vector<std::pair<std::uint32_t, const RegionMemory*>> regions_;
};

// The core on which a thread of this process last ran; -1 if it has ended.
int core_of_thread(std::uint32_t thread_id);

}  // namespace pagewire::fault
