// What is looked at around each turn of a script. Within a turn.
#include <rte_mbuf.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "test/fuzz/input.h"
#include "test/fuzz/scripted_node.h"
#include "test/fuzz/scripted_port.h"

namespace pagewire::test {

using protocol::Drop;
using protocol::kPageBytes;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::PageEntry;
using protocol::Permission;

// Takes what the node has sent, as its peers would.
void ScriptedNode::collect() {
  if (stalled_) return;
  for (std::uint32_t node = 0; node < kNodes; ++node) {
    if (!ports_[node]) continue;
    std::array<rte_mbuf*, 32> frames{};
    const std::uint16_t count = ports_[node]->receive(0, frames);
    for (std::uint16_t i = 0; i < count; ++i) {
      check_sent(NodeId{static_cast<std::uint8_t>(node)}, frames[i]);
      rte_pktmbuf_free(frames[i]);
    }
  }
}

// Whatever was done to it, a node writes frames that others can read.
void ScriptedNode::check_sent(NodeId to, const rte_mbuf* frame) {
  const auto* const bytes = rte_pktmbuf_mtod_offset(frame, const std::byte*, dataplane::kEthernetBytes);
  const protocol::Parsed parsed =
      protocol::parse({bytes, std::size_t{rte_pktmbuf_data_len(frame)} - dataplane::kEthernetBytes});
  require(parsed.drop == Drop::kNone, "a frame that is sent is well-formed");
  const protocol::Header& header = parsed.header;
  require(header.sender == kSelf && header.boot_id == shared_->membership.boot_id &&
              header.cluster == shared_->membership.cluster && header.view == shared_->membership.view,
          "a frame that is sent says who sent it");
  require(header.to.contains(to), "a frame is sent to whom it is for");
  require(header.packet_number + 1 > packets_seen_[to.value], "packet numbers grow");
  packets_seen_[to.value] = header.packet_number + 1;
  if (header.type == protocol::kTypeBeat) {
    protocol::Beat beat;
    return require(decode_body(parsed, beat) == Drop::kNone, "a beat that is sent can be read");
  }
  if (header.type == protocol::kTypeRegion) {
    protocol::RegionDeclaration region;
    return require(decode_body(parsed, region) == Drop::kNone, "a declaration that is sent can be read");
  }
  if (header.type == protocol::kTypeRequests) {
    std::array<protocol::Request, protocol::kRequestsMax> requests;
    std::size_t count = 0;
    const Drop drop = decode_requests(parsed, kNodes, requests, count);
    require(drop == Drop::kNone || (drop == Drop::kBadField && beyond_reach_),
            "requests that are sent can be read");
    for (const protocol::Request& request : std::span(requests).first(drop == Drop::kNone ? count : 0)) {
      require(header.page.region == kRegion && request.page < kPages,
              "a request is for a page that there is");
      sent_[request.page] = Sent{.any = true, .to = header.to, .message = request.message};
    }
    return;
  }
  protocol::Message message;
  const Drop drop = decode_body(parsed, kNodes, message);
  require(drop == Drop::kNone || (drop == Drop::kBadField && beyond_reach_),
          "a message that is sent can be read");
  require(header.page.region == kRegion && header.page.index < kPages,
          "a message is about a page that there is");
  sent_[header.page.index] = Sent{.any = true, .to = header.to, .message = message};
}

// The frame of the last turn was counted once and for the right reason, or not at all.
void ScriptedNode::check_drops() {
  std::array<std::uint64_t, static_cast<std::size_t>(Drop::kCount)> now{};
  for (std::size_t i = 0; i < now.size(); ++i) now[i] = loop().counters().dropped[i].get();
  if (expected_.frame && expected_.drop != Drop::kNone) ++drops_[static_cast<std::size_t>(expected_.drop)];
  const auto not_expected = static_cast<std::size_t>(Drop::kNotExpected);
  if (expected_.may_be_unexpected && now[not_expected] == drops_[not_expected] + 1) ++drops_[not_expected];
  if (now != drops_) {
    for (std::size_t i = 0; i < now.size(); ++i) {
      if (now[i] == drops_[i]) continue;
      std::fprintf(stderr, "fuzz: dropped as %s: %llu, expected %llu\n",
                   std::string(protocol::drop_name(static_cast<Drop>(i))).c_str(),
                   static_cast<unsigned long long>(now[i]), static_cast<unsigned long long>(drops_[i]));
    }
  }
  require(now == drops_, "a frame is dropped once, for its reason, or not at all");
}

void ScriptedNode::check_entry(std::uint32_t page) {
  const PageEntry& now = entry(page);
  const PageEntry& before = before_[page];
  const auto node_or_none = [](NodeId node) { return node == protocol::kNoNode || node.value < kNodes; };
  require(now.permission <= Permission::kWrite, "a permission is one of three");
  require(node_or_none(now.hint) && node_or_none(now.heard_node), "a node in an entry is a member or nobody");
  require(now.copyset.without(shared_->view.others()).empty(), "a copyset is of other members");
  require(now.owner || now.copyset.empty(), "only an owner has a copyset");
  require(now.owner || !now.fresh, "only an owner's page is fresh");
  require(now.permission != Permission::kWrite || (now.owner && now.copyset.empty()),
          "who may write owns the page, and nobody has a copy");
  require(now.epoch >= before.epoch && now.floor >= before.floor &&
              now.last_transaction >= before.last_transaction,
          "epoch, floor and transaction never fall");
  require(now.round == protocol::kNoRound || now.round < kRounds, "a round is one of the pool");
  for (std::uint32_t other = 0; other < page && now.round != protocol::kNoRound; ++other) {
    require(entry(other).round != now.round, "a round serves one page");
  }
  const dataplane::PageSummary published = region_->pages[page].summary();
  require(published.permission == now.permission && published.owner == now.owner &&
              published.hint == now.hint && published.under_way == (now.round != protocol::kNoRound) &&
              published.version == static_cast<std::uint32_t>(now.version.value),
          "what is published is what is so");
  before_[page] = now;
}

// What the processor lets through is what the entry says, or nothing where it was not mapped yet, as the
// kernel's page tables have it.
void ScriptedNode::check_mapping() {
  constexpr std::uint64_t kPresent = std::uint64_t{1} << 63;
  constexpr std::uint64_t kWriteProtected = std::uint64_t{1} << 57;  // by userfaultfd
  std::array<std::uint64_t, kPages> mapped{};
  const auto first = reinterpret_cast<std::uintptr_t>(region_->memory.application_view()) / kPageBytes;
  const ssize_t got =
      pread(page_map_, mapped.data(), sizeof(mapped), static_cast<off_t>(first * sizeof(mapped[0])));
  require(got == sizeof(mapped), "the page map can be read");
  for (std::uint32_t page = 0; page < kPages; ++page) {
    const bool present = (mapped[page] & kPresent) != 0;
    const bool read_only = (mapped[page] & kWriteProtected) != 0;
    if (region_->pages[page].unmapped) {
      require(!present && entry(page).permission != Permission::kInvalid,
              "a page to be mapped later is not mapped");
      continue;
    }
    switch (entry(page).permission) {
      case Permission::kInvalid:
        require(!present, "an absent page is not mapped");
        break;
      case Permission::kRead:
        require(present && read_only, "a readable page is mapped and protected");
        break;
      case Permission::kWrite:
        require(present && !read_only, "a writable page is mapped and not protected");
        break;
    }
  }
}

// Bytes change only where a page's bytes came.
void ScriptedNode::check_bytes() {
  const std::byte* const view = region_->memory.service_view();
  for (std::uint32_t page = 0; page < kPages; ++page) {
    std::byte* const known = memory_.data() + std::size_t{page} * kPageBytes;
    const std::byte* const now = view + std::size_t{page} * kPageBytes;
    if (expected_.may_fill == page) {
      std::memcpy(known, now, kPageBytes);
    } else {
      require(std::memcmp(known, now, kPageBytes) == 0, "no bytes change but those of a page that came");
    }
  }
}

void ScriptedNode::describe() const {
  const auto number = [](const auto& strong) { return static_cast<unsigned long long>(strong.value); };
  for (std::uint32_t page = 0; page < kPages; ++page) {
    const PageEntry& now = entry(page);
    const Sent& sent = sent_[page];
    std::fprintf(
        stderr,
        "page %u: permission %d owner %d round %d hint %u epoch %llu version %llu floor %llu data %llu "
        "copyset %llx; last sent: type %d to %llx transaction %llu version %llu epoch %llu\n",
        page, static_cast<int>(now.permission), now.owner ? 1 : 0,
        now.round == protocol::kNoRound ? -1 : now.round, now.hint.value, number(now.epoch),
        number(now.version), number(now.floor), number(now.data_version),
        static_cast<unsigned long long>(now.copyset.bits()),
        sent.any ? static_cast<int>(sent.message.type) : 0, static_cast<unsigned long long>(sent.to.bits()),
        number(sent.message.transaction), number(sent.message.version), number(sent.message.epoch));
  }
}

// What services ask of the control plane has an answer in bounds.
void ScriptedNode::check_control() {
  control_->with([&](protocol::Control& control) {
    const NodeSet others = shared_->view.others();
    const protocol::Time now{now_ns_};
    require(control.missing().without(others).empty() && control.silent(now).without(others).empty() &&
                control.leaving().without(others).empty(),
            "who is missing, silent or leaving is another member");
    const NodeId differing = control.differing();
    require(differing == protocol::kNoNode || others.contains(differing), "who differs is another member");
  });
}

}  // namespace pagewire::test
