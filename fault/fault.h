// One page fault of the service, as both deliveries hand it on. A plain value.
#pragma once

#include <cstdint>

namespace pagewire::fault {

struct Fault {
  std::uint32_t region = 0;     // the id given to FaultThread::add or InlineFaults
  std::uint32_t page = 0;       // index within the region
  bool write = false;           // a store (missing or write-protected), else a load
  std::uint32_t thread_id = 0;  // the kernel's id of the faulting thread, 0 if unknown or the caller itself
  std::uint64_t time_ns = 0;    // CLOCK_MONOTONIC when the fault was read, or when the handler was entered
};

}  // namespace pagewire::fault
