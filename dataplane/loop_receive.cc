// Frames in: a ladder of checks, each with its counter, then the page's transition. Loop thread.
#include <rte_mbuf.h>

#include <algorithm>

#include "dataplane/loop.h"
#include "protocol/admission.h"

namespace pagewire::dataplane {

using protocol::Drop;

void Loop::on_frame(rte_mbuf* frame) {
  bool moved = false;
  Drop drop = Drop::kTruncated;
  if (frame->nb_segs == 1 && rte_pktmbuf_data_len(frame) > kEthernetBytes) {
    const auto* payload = rte_pktmbuf_mtod_offset(frame, const std::byte*, kEthernetBytes);
    const std::size_t payload_bytes = std::size_t{rte_pktmbuf_data_len(frame)} - kEthernetBytes;
    const protocol::Parsed parsed = protocol::parse({payload, payload_bytes});
    drop = parsed.drop != Drop::kNone ? parsed.drop : admit(parsed, frame, moved);
  }
  if (drop != Drop::kNone) counters_.dropped[static_cast<std::size_t>(drop)].add();
  if (!moved) rte_pktmbuf_free(frame);
}

// R11, and whatever else makes a frame not ours.
Drop Loop::admit(const protocol::Parsed& parsed, rte_mbuf* frame, bool& moved) {
  Membership& membership = shared_.membership;
  const protocol::Header& header = parsed.header;
  const protocol::Listener here{.self = membership.self,
                                .node_count = membership.node_count,
                                .cluster = membership.cluster,
                                .view = membership.view,
                                .joined = membership.joined.load(std::memory_order_relaxed)};
  const std::size_t sender = std::min<std::size_t>(header.sender.value, protocol::kNodesMax - 1);
  const Drop refused =
      protocol::admit(here, header, membership.boot_ids[sender].load(std::memory_order_relaxed));
  if (refused != Drop::kNone) return refused;
  const bool is_control = header.type == protocol::kTypeBeat || header.type == protocol::kTypeRegion;
  const Drop drop = is_control ? admit_control(parsed, frame, moved) : admit_page(parsed, frame, moved);
  if (drop == Drop::kNone && !moved) {
    membership.last_heard_ns[header.sender.value].store(now_ns_, std::memory_order_relaxed);
    port_.learn(static_cast<std::uint16_t>(options_.index), header.sender, frame);
  }
  return drop;
}

Drop Loop::admit_control(const protocol::Parsed& parsed, rte_mbuf* frame, bool& moved) {
  if (options_.index != 0) {
    moved = move_to(0, frame);
    return moved ? Drop::kNone : Drop::kNoBuffer;
  }
  control_frames_.clear();
  if (parsed.header.type == protocol::kTypeBeat) {
    protocol::Beat beat;
    const Drop drop = decode_body(parsed, beat);
    if (drop != Drop::kNone) return drop;
    shared_.control->on_beat(parsed.header.sender, parsed.header.boot_id, beat, control_frames_);
  } else {
    protocol::RegionDeclaration declaration;
    const Drop drop = decode_body(parsed, declaration);
    if (drop != Drop::kNone) return drop;
    shared_.control->on_region(parsed.header.sender, declaration, control_frames_);
  }
  send_control(control_frames_);
  return Drop::kNone;
}

Drop Loop::admit_page(const protocol::Parsed& parsed, rte_mbuf* frame, bool& moved) {
  const protocol::Header& header = parsed.header;
  const bool several = header.type == protocol::kTypeRequests;
  if (!several && (header.type == 0 || header.type >= protocol::kMessageTypes)) return Drop::kUnknownType;
  if (header.page.region >= protocol::kRegionsMax) return Drop::kUnknownRegion;
  RegionState* region = shared_.regions[header.page.region].load(std::memory_order_acquire);
  if (region == nullptr) return Drop::kUnknownRegion;
  if (header.page.index >= region->pages.size()) return Drop::kPageOutOfRange;
  const std::uint32_t loop = loop_of(header.page.index, static_cast<std::uint32_t>(shared_.loops.size()));
  if (loop != options_.index) {
    moved = move_to(loop, frame);
    return moved ? Drop::kNone : Drop::kNoBuffer;
  }
  if (several) return admit_requests(parsed, *region);
  protocol::Message message;
  const Drop drop = decode_body(parsed, shared_.membership.node_count, message);
  if (drop != Drop::kNone) return drop;
  const PageAt at{.region = region, .index = header.page.index};
  region->counters[options_.index].received_messages.add();
  const std::byte* bytes = nullptr;
  if (message.has_bytes) {
    if (wants_bytes(shared_.view, ref(at), message)) {
      const auto whole = reassembly_.add(header, message, parsed.fragment);
      if (whole.empty()) return Drop::kNone;  // the others are on their way
      bytes = whole.data();
    } else if (header.fragment_offset != 0) {
      return Drop::kNotExpected;  // the first fragment alone is answered (a doubled transfer is acknowledged
                                  // again)
    }
  }
  phases_.answered(region->pages[at.index].entry().round, message.type, header.service_ns);
  handle(at, message, bytes);
  return Drop::kNone;
}

// Nothing is done for any of them if one is bad.
Drop Loop::admit_requests(const protocol::Parsed& parsed, RegionState& region) {
  std::array<protocol::Request, protocol::kRequestsMax> room;
  std::size_t count = 0;
  const Drop drop = decode_requests(parsed, shared_.membership.node_count, room, count);
  if (drop != Drop::kNone) return drop;
  const std::span<const protocol::Request> requests = std::span(room).first(count);
  for (const protocol::Request& request : requests) {
    if (request.page >= region.pages.size()) return Drop::kPageOutOfRange;
    if (!is_ours(request.page)) return Drop::kBadField;  // a sender's loop asks for its own pages
  }
  region.counters[options_.index].received_messages.add(count);
  for (const protocol::Request& request : requests) {
    handle(PageAt{.region = &region, .index = request.page}, request.message, nullptr);
  }
  return Drop::kNone;
}

void Loop::handle(PageAt at, const protocol::Message& message, const std::byte* bytes) {
  phases_.question(message.from);
  const std::uint64_t deferred_before = rounds_.events(protocol::Event::kDeferred);
  on_message(at, message, bytes);
  phases_.question_ends(message, protocol::PageId{at.region->id, at.index},
                        rounds_.events(protocol::Event::kDeferred) != deferred_before);
}

// A frame that came in on another loop's queue (a port that does not keep queues).
bool Loop::move_to(std::uint32_t loop, rte_mbuf* frame) {
  Loop& other = *shared_.loops[loop];
  if (!other.inbox_[options_.index]->try_push(frame)) return false;
  other.wake();
  return true;
}

}  // namespace pagewire::dataplane
