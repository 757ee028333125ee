// Frames out: one message is one frame, or as many as its page needs on this port. Loop thread.
#include <rte_mbuf.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "dataplane/loop.h"

namespace pagewire::dataplane {

void Loop::send_message(PageAt at, protocol::NodeSet to, const protocol::Message& message) {
  std::array<std::byte, protocol::kBodyBytesMax> body_room;
  const std::span<const std::byte> body(body_room.data(), protocol::encode_body(message, body_room));
  protocol::Header header;
  header.type = static_cast<std::uint8_t>(message.type);
  header.page = protocol::PageId{at.region->id, at.index};
  RegionCounters& counters = at.region->counters[options_.index];
  counters.sent_messages[header.type].add();
  phases_.queued(at.region->pages[at.index].entry().round, message.type, at.region->phases[options_.index]);
  const std::uint64_t asked_ns = phases_.asked_ns(to, message, header.page);
  if (put_together(at, to, message)) return;
  if (!message.has_bytes) {
    // The old owner wants an acknowledgement only when it wants the page again; then it looks. Or when it
    // would repeat.
    const bool quiet =
        message.type == protocol::MessageType::kTransferAck || rings_later(at, to, message.type);
    counters.sent_bytes.add(send_frame(to, header, body, {}, asked_ns, quiet ? Ring::kNotNow : Ring::kNow));
    return;
  }
  const std::byte* page = at.region->memory.service_view() + std::size_t{at.index} * protocol::kPageBytes;
  const std::size_t overhead = kEthernetBytes + protocol::kHeaderBytes + body.size();
  const std::size_t room = port_.frame_bytes_max() - overhead;
  const std::size_t step = std::min<std::size_t>(
      room / protocol::kFragmentUnitBytes * protocol::kFragmentUnitBytes, protocol::kPageBytes);
  for (std::size_t offset = 0; offset < protocol::kPageBytes; offset += step) {
    const std::size_t length = std::min(step, protocol::kPageBytes - offset);
    header.fragment_offset = static_cast<std::uint16_t>(offset);
    header.fragment_bytes = static_cast<std::uint16_t>(length);
    counters.sent_bytes.add(send_frame(to, header, body, {page + offset, length}, asked_ns));
  }
}

// True if the message is a request that goes with others in one frame.
bool Loop::put_together(PageAt at, protocol::NodeSet to, const protocol::Message& message) {
  using protocol::MessageType;
  if (!together_.open ||
      (message.type != MessageType::kCopyRequest && message.type != MessageType::kWriteRequest)) {
    return false;
  }
  const std::size_t room =
      port_.frame_bytes_max() - kEthernetBytes - protocol::kHeaderBytes - sizeof(std::uint64_t);
  const bool full = together_.count == std::min(room / protocol::kRequestBytes, protocol::kRequestsMax);
  if (full || together_.region != at.region || together_.to != to) send_together();
  together_.region = at.region;
  together_.to = to;
  together_.requests[together_.count++] = protocol::Request{.page = at.index, .message = message};
  return true;
}

void Loop::send_together() {
  const std::span<const protocol::Request> requests =
      std::span(together_.requests).first(std::exchange(together_.count, 0));
  if (requests.empty()) return;
  std::array<std::byte, protocol::kBodyBytesMax> body_room;
  std::array<std::byte, protocol::kRequestsMax * protocol::kRequestBytes> entries;
  std::size_t body_bytes = 0;
  std::size_t entry_bytes = 0;
  protocol::Header header;
  header.page = protocol::PageId{together_.region->id, requests.front().page};
  if (requests.size() == 1) {
    header.type = static_cast<std::uint8_t>(requests.front().message.type);
    body_bytes = protocol::encode_body(requests.front().message, body_room);
  } else {
    header.type = protocol::kTypeRequests;
    body_bytes = protocol::encode_requests_body(requests.size(), body_room);
    for (const protocol::Request& request : requests) {
      entry_bytes += protocol::encode_request(request, std::span(entries).subspan(entry_bytes));
    }
    header.fragment_bytes = static_cast<std::uint16_t>(entry_bytes);
  }
  together_.region->counters[options_.index].sent_bytes.add(
      send_frame(together_.to, header, {body_room.data(), body_bytes}, {entries.data(), entry_bytes}));
}

void Loop::send_control(const protocol::ControlFrames& frames) {
  std::array<std::byte, protocol::kBodyBytesMax> body_room;
  for (const protocol::ControlFrame& frame : frames.all()) {
    protocol::Header header;
    header.type = frame.is_region ? protocol::kTypeRegion : protocol::kTypeBeat;
    const std::size_t length =
        frame.is_region ? encode_body(frame.region, body_room) : encode_body(frame.beat, body_room);
    send_frame(frame.to, header, {body_room.data(), length}, {});
  }
}

// The bytes of the frame, or 0 if there was no buffer for it.
std::size_t Loop::send_frame(protocol::NodeSet to, protocol::Header header, std::span<const std::byte> body,
                             std::span<const std::byte> fragment, std::uint64_t asked_ns, Ring ring) {
  const auto queue = static_cast<std::uint16_t>(options_.index);
  rte_mbuf* frame = rte_pktmbuf_alloc(port_.pool(queue));
  if (frame == nullptr) {
    counters_.no_mbuf.add();
    return 0;
  }
  const std::size_t total = kEthernetBytes + protocol::kHeaderBytes + body.size() + fragment.size();
  auto* bytes = reinterpret_cast<std::byte*>(rte_pktmbuf_append(frame, static_cast<std::uint16_t>(total)));
  if (bytes == nullptr) {  // the port's pools have room for kFrameRoomBytes
    rte_pktmbuf_free(frame);
    counters_.no_mbuf.add();
    return 0;
  }
  header.cluster = shared_.membership.cluster;
  header.view = shared_.membership.view;
  header.sender = shared_.membership.self;
  header.to = to;
  header.boot_id = shared_.membership.boot_id;
  header.packet_number = packet_number_++;
  std::byte* at = bytes + kEthernetBytes;
  std::memcpy(at + protocol::kHeaderBytes, body.data(), body.size());
  if (!fragment.empty()) {
    std::memcpy(at + protocol::kHeaderBytes + body.size(), fragment.data(), fragment.size());
  }
  header.service_ns = phases_.service_ns(asked_ns);
  protocol::encode_header(header, body.size(), {at, protocol::kHeaderBytes});
  if (ring == Ring::kNotNow) {
    port_.send_quietly(queue, to, frame);
  } else {
    port_.send(queue, to, frame);
  }
  return total;
}

// Whoever was handed the page with a store of ours will soon be in its handler for a store of its own, and
// finds the request there: it is interrupted only if that takes long.
bool Loop::rings_later(PageAt at, protocol::NodeSet to, protocol::MessageType type) {
  PageSlot& slot = at.region->pages[at.index];
  if (type != protocol::MessageType::kCopyRequest || slot.handed_on != HandedOn::kQuietly) return false;
  slot.handed_on = HandedOn::kYes;
  if (rings_later_.at_ns != 0) return false;
  rings_later_ = {.page = at, .to = to, .at_ns = now_ns_ + kRingsLaterNs};
  return true;
}

void Loop::ring_now() {
  const auto rings = std::exchange(rings_later_, {});
  port_.ring(static_cast<std::uint16_t>(options_.index), rings.to);
}

}  // namespace pagewire::dataplane
