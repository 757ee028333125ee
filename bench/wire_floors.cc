// Floors over the wire; see wire_floors.h.
#include "bench/wire_floors.h"

#include <rte_mbuf.h>

#include <array>
#include <cstring>

#include "bench/floors.h"
#include "bench/pages.h"
#include "bench/patience.h"
#include "pagewire/error.h"
#include "protocol/wire.h"

namespace pagewire::bench {

namespace {

constexpr protocol::NodeId kAsker{0};
constexpr protocol::NodeId kAnswerer{1};
// Where a bare fault's frames have the number of the page, and its bytes.
constexpr std::size_t kNumberAt = dataplane::kEthernetBytes;
constexpr std::size_t kBytesAt = kNumberAt + sizeof(std::uint32_t);

[[noreturn]] void throw_silent(const dataplane::Port& port) {
  const dataplane::PortCounters counters = port.counters(0);
  throw Error(
      "measuring a floor over the wire",
      fmt::format("no frame came for 30 seconds, after {} received, {} sent and {} not taken by the port",
                  counters.received_frame_count, counters.sent_frame_count, counters.send_dropped_count),
      "See what the other process said");
}

// Null if none came for long.
rte_mbuf* receive_one(dataplane::Port& port) noexcept {
  constexpr std::uint64_t kPollsBetweenClocks = 1 << 16;
  constexpr std::uint64_t kLimitNs = 30'000'000'000;
  std::array<rte_mbuf*, 1> frames{};
  Patience patience;
  std::uint64_t first_look_ns = 0;
  for (std::uint64_t polls = 1; port.receive(0, frames) == 0; ++polls) {
    patience.wait();
    if (polls % kPollsBetweenClocks != 0) continue;
    if (first_look_ns == 0) first_look_ns = now_ns();
    if (now_ns() - first_look_ns > kLimitNs) return nullptr;
  }
  return frames[0];
}

rte_mbuf* receive_or_throw(dataplane::Port& port) {
  rte_mbuf* const frame = receive_one(port);
  if (frame == nullptr) throw_silent(port);
  return frame;
}

// Null if there is no buffer.
rte_mbuf* new_frame(dataplane::Port& port, std::size_t frame_bytes) noexcept {
  rte_mbuf* const frame = rte_pktmbuf_alloc(port.pool(0));
  if (frame != nullptr && rte_pktmbuf_append(frame, static_cast<std::uint16_t>(frame_bytes)) != nullptr)
    return frame;
  rte_pktmbuf_free(frame);
  return nullptr;
}

rte_mbuf* new_frame_or_throw(dataplane::Port& port, std::size_t frame_bytes) {
  rte_mbuf* const frame = new_frame(port, frame_bytes);
  if (frame == nullptr)
    throw Error("measuring a floor over the wire", "no buffer for a frame", "Give DPDK more memory");
  return frame;
}

void send_now(dataplane::Port& port, protocol::NodeId to, rte_mbuf* frame) noexcept {
  port.send(0, protocol::NodeSet::of(to), frame);
  port.flush(0);
}

constexpr std::size_t kOwnerPages = 256;
std::uint64_t word_of(std::size_t page, std::size_t word) {
  return page % kOwnerPages * kWordsPerPage + word + 1;
}

}  // namespace

std::uint16_t page_frame_bytes() {
  protocol::Message transfer;
  transfer.type = protocol::MessageType::kOwnershipTransfer;
  return static_cast<std::uint16_t>(dataplane::kEthernetBytes + protocol::kHeaderBytes +
                                    protocol::body_bytes(transfer) + protocol::kPageBytes);
}

void ping(dataplane::Port& port, std::size_t count, std::size_t warm_up, Samples& samples) {
  std::uint64_t before_ns = now_ns();
  for (std::size_t i = 0; i < count; ++i) {
    send_now(port, kAnswerer, new_frame_or_throw(port, kSmallFrameBytes));
    rte_pktmbuf_free(receive_or_throw(port));
    const std::uint64_t after_ns = now_ns();
    if (i >= warm_up) samples.add(after_ns - before_ns);
    before_ns = after_ns;
  }
}

void echo(dataplane::Port& port, std::uint16_t frame_bytes, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    rte_pktmbuf_free(receive_or_throw(port));
    send_now(port, kAsker, new_frame_or_throw(port, frame_bytes));
  }
}

BareRemoteFaults::BareRemoteFaults(dataplane::Port& port, std::size_t page_count)
    : port_(port),
      memory_("bare-remote-floor", kRemoteFloorBase, page_count * fault::kPageBytes,
              fault::KernelFaults::kOff, fault::Delivery::kInline),
      faults_(1, memory_, *this) {}

// An error cannot be thrown from here: the page is mapped as it is, and measure() says what was wrong.
bool BareRemoteFaults::on_inline_fault(const fault::Fault& fault,
                                       fault::Interrupted& /*interrupted*/) noexcept {
  rte_mbuf* const question = new_frame(port_, kSmallFrameBytes);
  rte_mbuf* answer = nullptr;
  if (question != nullptr) {
    std::memcpy(rte_pktmbuf_mtod_offset(question, char*, kNumberAt), &fault.page, sizeof(fault.page));
    send_now(port_, kAnswerer, question);
    answer = receive_one(port_);
  }
  if (answer == nullptr) {
    lost_ = true;
  } else {
    std::memcpy(memory_.service_view() + std::size_t{fault.page} * kPageBytes,
                rte_pktmbuf_mtod_offset(answer, char*, kBytesAt), kPageBytes);
    rte_pktmbuf_free(answer);
  }
  memory_.map_read(fault.page);
  return true;
}

void BareRemoteFaults::measure(std::size_t first, std::size_t count, std::size_t warm_up, Samples& samples) {
  auto* const words = reinterpret_cast<std::uint64_t*>(memory_.service_view());
  for (std::size_t page = first; page < first + count; ++page)
    words[page * kWordsPerPage] = words[(page + 1) * kWordsPerPage - 1] = 0;
  touch_pages(memory_, first, count, warm_up, samples);
  if (lost_) throw_silent(port_);
  for (std::size_t page = first; page < first + count; ++page) {
    for (const std::size_t word : {std::size_t{0}, kWordsPerPage - 1}) {
      if (words[page * kWordsPerPage + word] == word_of(page, word)) continue;
      throw Error("the bare remote fault", "a page without the bytes that were sent",
                  "This is a defect of the bench: report it");
    }
  }
}

BareOwner::BareOwner() : words_(kOwnerPages * kWordsPerPage) {
  for (std::size_t i = 0; i < words_.size(); ++i) words_[i] = word_of(0, i);
}

void BareOwner::answer(dataplane::Port& port, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    rte_mbuf* const question = receive_or_throw(port);
    std::uint32_t page = 0;
    std::memcpy(&page, rte_pktmbuf_mtod_offset(question, char*, kNumberAt), sizeof(page));
    rte_pktmbuf_free(question);
    rte_mbuf* const answer = new_frame_or_throw(port, page_frame_bytes());
    std::memcpy(rte_pktmbuf_mtod_offset(answer, char*, kBytesAt), &words_[page % kOwnerPages * kWordsPerPage],
                kPageBytes);
    send_now(port, kAsker, answer);
  }
}

}  // namespace pagewire::bench
