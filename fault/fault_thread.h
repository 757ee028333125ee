// Thread delivery: one thread reads the userfaultfds of all regions, several messages at a time, drops
// repetitions within a batch and hands the faults to a sink.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "fault/fault.h"
#include "fault/region_memory.h"

namespace pagewire::fault {

// Called on the fault thread, with the faults of one region, 1 to kFaultBatchMax of them, oldest first. It
// may block (a full ring): the faulting threads wait all the same. It must not throw, nor call into the
// FaultThread.
//
// The same fault may come again in a later batch, also when it has been served meanwhile: look at the page's
// state. No fault is dropped, other than as a repetition within one batch.
class FaultSink {
 public:
  virtual ~FaultSink() = default;
  virtual void on_faults(std::span<const Fault> faults) = 0;
  // Called on the fault thread again and again before it would sleep, as long as it returns true: for a sink
  // that works on the faults itself. New faults are read in between, so it should return within some
  // microseconds.
  virtual bool turn() { return false; }
};

inline constexpr std::size_t kFaultBatchMax = 64;

class FaultThread {
 public:
  // Starts the thread, all signals blocked in it, on one core if that is not -1. Throws SetupError.
  explicit FaultThread(FaultSink& sink, int core = -1);
  ~FaultThread();  // stops and joins it, after the delivery under way
  FaultThread(const FaultThread&) = delete;
  FaultThread& operator=(const FaultThread&) = delete;

  // Any thread but the fault thread; waits for it, so for the delivery under way: not while holding what the
  // sink waits for (its lock; the reading end of its ring). `memory` must outlive its removal, and be retired
  // only after it. An id may be in use once.
  //
  // After remove() returns, no fault of that region is delivered, nor in delivery. Faults that come then wait
  // in the kernel: for retire(), or for the next add(). An id that is not there is ignored.
  void add(std::uint32_t region, const RegionMemory& memory);
  void remove(std::uint32_t region);

  struct Counters {
    std::uint64_t read_count = 0;       // read(2) calls that brought something
    std::uint64_t message_count = 0;    // messages in them
    std::uint64_t duplicate_count = 0;  // dropped as repetitions within a batch
  };
  Counters counters() const;  // any thread

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pagewire::fault
