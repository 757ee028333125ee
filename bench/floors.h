// What a remote fault cannot be faster than, measured with nothing of the coherence protocol in the way: a
// fault of this process's own memory, a frame to the other process and back, a cache line to the other core
// and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "bench/samples.h"
#include "dataplane/port.h"
#include "fault/fault_thread.h"
#include "fault/region_memory.h"

namespace pagewire::bench {

// A cache line's round trip between two of this process's cores: two pinned threads hand a counter to each
// other. The median of the means of short batches, in ns; absent if the process has one core only. Takes some
// 50 ms.
std::optional<std::uint64_t> measure_line_round_trip_ns();

// A page of local memory that is not mapped: its thread faults, the kernel wakes a fault thread that sleeps
// in poll(2), that one maps the page with UFFDIO_CONTINUE, the kernel wakes the first. The classes are those
// of a region.
class LocalFaults final : private fault::FaultSink {
 public:
  // Throws SetupError.
  explicit LocalFaults(std::size_t page_count);
  ~LocalFaults() override;
  LocalFaults(const LocalFaults&) = delete;
  LocalFaults& operator=(const LocalFaults&) = delete;

  // Loads from each page once, at most `page_count` of them, all unmapped before.
  void measure(std::size_t page_count, Samples& samples);

 private:
  void on_faults(std::span<const fault::Fault> faults) override;

  fault::RegionMemory memory_;
  fault::FaultThread fault_thread_;
};

// Round trips of a frame on queue 0 of a port that nobody else uses, one at a time: alloc, send, flush, poll,
// free. Each side is pinned to a core of its own, and polls without sleeping (and yields once it has polled
// in vain for long). A sample is from one answer to the next. Throws Error if no frame comes for ten seconds.
void ping(dataplane::Port& port, std::uint16_t frame_bytes, std::size_t count, Samples& samples);
// The other side: sends `count` frames back as they come.
void echo(dataplane::Port& port, std::size_t count);

// The shortest frame of an Ethernet, and the one that brings ownership of a page together with its bytes.
inline constexpr std::uint16_t kSmallFrameBytes = 64;
std::uint16_t page_frame_bytes();

}  // namespace pagewire::bench
