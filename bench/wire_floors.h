// The floors that need the other process: a frame there and back, and the bare remote fault. Both sides use
// queue 0 of a port that nobody else uses, from one thread each that has a LoopThreadRegistration, and poll
// without sleeping (and yield once they have polled in vain for long). Each throws Error if no frame comes
// for 30 seconds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/samples.h"
#include "dataplane/port.h"
#include "fault/inline_faults.h"
#include "fault/region_memory.h"

namespace pagewire::bench {

// The shortest frame of an Ethernet, and the one that brings ownership of a page together with its bytes.
inline constexpr std::uint16_t kSmallFrameBytes = 64;
std::uint16_t page_frame_bytes();

// Round trips of a small frame, one at a time: alloc, send, flush, poll, free. A sample is from one answer to
// the next; all but the first `warm_up` are added.
void ping(dataplane::Port& port, std::size_t count, std::size_t warm_up, Samples& samples);
// The other side: answers `count` frames as they come with one of `frame_bytes`.
void echo(dataplane::Port& port, std::uint16_t frame_bytes, std::size_t count);

// The bare remote fault: the SIGBUS handler sends a frame with the page's number, polls the port until a
// frame with the page's bytes comes, copies them into the service view, maps the page and returns. Nothing
// else.
class BareRemoteFaults final : private fault::InlineSink {
 public:
  BareRemoteFaults(dataplane::Port& port, std::size_t page_count);  // throws SetupError

  // Touches `count` pages from `first` on; all but the first `warm_up` times are added. Throws Error if a
  // page has not the bytes that BareOwner sends.
  void measure(std::size_t first, std::size_t count, std::size_t warm_up, Samples& samples);

 private:
  bool on_inline_fault(const fault::Fault& fault, fault::Interrupted& interrupted) noexcept override;

  dataplane::Port& port_;
  fault::RegionMemory memory_;
  fault::InlineFaults faults_;
  bool lost_ = false;
};

// The other side: `count` answers out of its memory, which are as many pages as an owner has just written
// when a chunk of a case begins: they are in its core's cache, here as there.
class BareOwner {
 public:
  BareOwner();
  void answer(dataplane::Port& port, std::size_t count);

 private:
  std::vector<std::uint64_t> words_;
};

}  // namespace pagewire::bench
