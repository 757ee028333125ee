#include "test/fuzz/node_script.h"

#include <algorithm>
#include <string>
#include <utility>

namespace pagewire::test {

using protocol::Beat;
using protocol::Header;
using protocol::kFragmentUnitBytes;
using protocol::kHeaderBytes;
using protocol::kPageBytes;
using protocol::Message;
using protocol::MessageType;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::RegionDeclaration;

namespace {

Bytes payload_of(const Header& header, const auto& body, std::span<const std::byte> fragment = {}) {
  Bytes payload(kHeaderBytes + protocol::kBodyBytesMax);
  const std::size_t body_bytes = encode_body(body, std::span(payload).subspan(kHeaderBytes));
  Header whole = header;
  whole.fragment_bytes = static_cast<std::uint16_t>(fragment.size());
  encode_header(whole, body_bytes, payload);
  payload.resize(kHeaderBytes + body_bytes);
  payload.insert(payload.end(), fragment.begin(), fragment.end());
  return payload;
}

bool carries(MessageType type) {
  return type == MessageType::kCopyReply || type == MessageType::kOwnershipTransfer;
}

}  // namespace

ScriptedNode::Start NodeScript::start() {
  const auto bits = input_.get();
  return {.joined = (bits & 1) == 0,
          .narrow = (bits & 2) != 0,
          .holds = (bits & 4) != 0,
          .placement = static_cast<protocol::Placement>(bits >> 3 & 3)};
}

NodeId NodeScript::peer() {
  constexpr std::array<std::uint8_t, ScriptedNode::kNodes - 1> kPeers = {0, 2, 3};
  return NodeId{kPeers[input_.below(kPeers.size())]};
}

// A count: near one that the node knows, small, or some power of two, to the highest that passes and beyond.
std::uint64_t NodeScript::number(std::uint64_t near) {
  const auto code = input_.get();
  if (code < 64) return near + code < 16 ? 0 : near + code - 16;
  if (code < 128) return code - 64U;
  if (code < 192) return std::uint64_t{1} << (code - 128);
  return (std::uint64_t{1} << 56) - 1 - (code - 192U);
}

// Of members, mostly.
NodeSet NodeScript::copyset() {
  const auto bits = input_.get();
  return NodeSet(bits < 240 ? bits % (1U << ScriptedNode::kNodes) : bits);
}

Message NodeScript::message(const ScriptedNode& node, std::uint32_t page) {
  const protocol::PageEntry& entry = node.entry(page);
  Message message;
  const auto flags = input_.get();
  message.type = static_cast<MessageType>(1 + (flags & 7));
  message.direct = (flags & 8) != 0;
  message.has_bytes = carries(message.type) && (flags & 16) != 0;
  if ((flags & 32) != 0) message.hint = NodeId{input_.get()};
  if ((flags & 64) != 0) return message;  // zeroes
  message.transaction.value = number(entry.last_transaction.value);
  message.version.value = number(std::max(entry.version, entry.floor).value);
  message.data_version.value = number(entry.data_version.value);
  message.epoch.value = number(entry.epoch.value);
  if (message.type != MessageType::kOwnershipTransfer) return message;
  message.copyset = copyset();
  std::array<std::uint64_t, protocol::GrantedList::kCapacity> granted{};
  const std::size_t granted_count = input_.below(5);
  for (std::size_t i = 0; i < granted_count; ++i) {
    granted[i] = std::uint64_t{input_.get()} << 56 | number(entry.last_transaction.value);
  }
  message.granted = protocol::GrantedList::from_raw(granted);
  return message;
}

// What a peer would answer to the last message that the node sent about the page, more or less.
Message NodeScript::answer(const ScriptedNode& node, std::uint32_t page) {
  const Message& to = node.last_sent(page).message;
  const protocol::PageEntry& entry = node.entry(page);
  Message answer;
  const auto choice = input_.get();
  answer.transaction = to.transaction;
  answer.epoch = to.epoch;
  answer.version = std::max({entry.version, entry.floor, to.version});
  answer.data_version = entry.data_version;
  if ((choice & 1) != 0) answer.version.value += input_.below(4);
  if ((choice & 2) != 0) answer.data_version.value += 1 + input_.below(4);
  answer.has_bytes = (choice & 4) != 0;
  switch (to.type) {
    case MessageType::kCopyRequest:
    case MessageType::kWriteRequest:
      answer.type = (choice & 8) != 0    ? MessageType::kCopyReply
                    : (choice & 16) != 0 ? MessageType::kNotOwner
                    : (choice & 32) != 0 ? MessageType::kAck
                    : (choice & 64) != 0 ? MessageType::kHeld
                                         : MessageType::kOwnershipTransfer;
      if (answer.type == MessageType::kOwnershipTransfer) {
        answer.epoch.value = entry.epoch.value + 1 + (choice >> 6);
        answer.copyset = copyset();
      }
      if (answer.type == MessageType::kNotOwner) answer.hint = NodeId{input_.get()};
      if (answer.type == MessageType::kHeld) answer.wait_ns = std::uint64_t{input_.get()} << (choice & 31);
      break;
    case MessageType::kInvalidate:
      answer.type = MessageType::kAck;
      break;
    case MessageType::kOwnershipTransfer:
      answer.type = MessageType::kTransferAck;
      break;
    default:
      answer.type = static_cast<MessageType>(1 + (choice >> 3 & 7));
      break;
  }
  answer.has_bytes &= carries(answer.type);
  return answer;
}

void NodeScript::send_payload(ScriptedNode& node, NodeId from, Bytes payload) {
  node.send(from, payload);
  kept_[kept_count_++ % kKept] = Kept{from, std::move(payload)};
}

// With the whole page, if bytes belong to it.
void NodeScript::send(ScriptedNode& node, NodeId from, const Header& header, const Message& message) {
  Bytes page;
  if (message.has_bytes) page.assign(kPageBytes, static_cast<std::byte>(message.data_version.value));
  send_payload(node, from, payload_of(header, message, page));
}

void NodeScript::send_fragment(ScriptedNode& node, NodeId from, Header header, const Message& message) {
  constexpr std::size_t kUnits = kPageBytes / kFragmentUnitBytes;
  const std::size_t first = input_.get<std::uint16_t>() % kUnits;
  const std::size_t count = 1 + input_.get<std::uint16_t>() % (kUnits - first);
  header.fragment_offset = static_cast<std::uint16_t>(first * kFragmentUnitBytes);
  const Bytes bytes(count * kFragmentUnitBytes, static_cast<std::byte>(input_.get()));
  send_payload(node, from, payload_of(header, message, message.has_bytes ? bytes : Bytes{}));
}

// Its lengths say one thing, the frame is another.
void NodeScript::send_lying(ScriptedNode& node, NodeId from, const Header& header, const Message& message) {
  constexpr std::size_t kUnits = kPageBytes / kFragmentUnitBytes;
  Bytes payload = payload_of(header, message);
  Header lying = header;
  lying.fragment_offset = static_cast<std::uint16_t>(input_.below(8) * kPageBytes / 4);
  lying.fragment_bytes =
      static_cast<std::uint16_t>((1 + input_.get<std::uint16_t>() % kUnits) * kFragmentUnitBytes);
  encode_header(lying, payload.size() - kHeaderBytes, payload);
  const std::size_t units = input_.flag() ? lying.fragment_bytes / kFragmentUnitBytes : input_.below(32);
  payload.resize(payload.size() + units * kFragmentUnitBytes, std::byte{0x5a});
  send_payload(node, from, std::move(payload));
}

void NodeScript::spoil(Header& header) {
  const auto which = input_.below(11);
  const auto value = input_.get<std::uint64_t>();
  switch (which) {
    case 0:
      header.type = static_cast<std::uint8_t>(value);
      break;
    case 1:
      header.cluster ^= static_cast<std::uint32_t>(value);
      break;
    case 2:
      header.view = static_cast<std::uint32_t>(value);
      break;
    case 3:
      header.sender = NodeId{static_cast<std::uint8_t>(value)};
      break;
    case 4:
      header.to = NodeSet(value);
      break;
    case 5:
      header.boot_id += value;
      break;
    case 6:
      header.packet_number = value;
      break;
    case 7:
      header.page.region = static_cast<std::uint32_t>(value);
      break;
    case 8:
      header.page.index = static_cast<std::uint32_t>(value);
      break;
    case 9:
      header.fragment_offset = static_cast<std::uint16_t>(value);
      break;
    default:
      header.fragment_bytes = static_cast<std::uint16_t>(value);
      break;
  }
}

void NodeScript::send_beat(ScriptedNode& node) {
  const auto flags = input_.get();
  const NodeId from = peer();
  Header header = node.header(from, protocol::kTypeBeat);
  Beat beat;
  beat.sequence = number(1);
  beat.echo = number(1);
  beat.barrier_count = number(0);
  beat.heard = NodeSet(input_.get());
  beat.region_base = (flags & 1) != 0 ? input_.get<std::uint64_t>() : ScriptedNode::kRegionBase;
  beat.loop_count = (flags & 2) != 0 ? input_.get<std::uint32_t>() : 1;
  beat.node_count = (flags & 4) != 0 ? input_.get<std::uint32_t>() : ScriptedNode::kNodes;
  beat.wants_answer = (flags & 8) != 0;
  beat.leaving = (flags & 16) != 0;
  if ((flags & 32) != 0) header.boot_id += input_.get();
  send_payload(node, from, payload_of(header, beat));
}

void NodeScript::send_declaration(ScriptedNode& node) {
  const auto flags = input_.get();
  const NodeId from = peer();
  RegionDeclaration region;
  region.set_name((flags & 1) != 0 ? "r" + std::to_string(input_.get()) : std::string("grid"));
  region.bytes = (flags & 2) != 0 ? input_.get<std::uint64_t>() : ScriptedNode::kPages * kPageBytes;
  region.placement = static_cast<protocol::Placement>(flags >> 2 & 3);
  region.placement_node = (flags & 16) != 0 ? input_.get() : std::uint8_t{0};
  region.attempt = (flags & 32) != 0 ? input_.get<std::uint32_t>() : 1;
  region.id = (flags & 64) != 0 ? protocol::kNoRegion : input_.below(protocol::kRegionsMax);
  region.offset = number(0) * kPageBytes;
  region.active = (flags & 128) != 0;
  region.wants_answer = input_.flag();
  send_payload(node, from, payload_of(node.header(from, protocol::kTypeRegion), region));
}

void NodeScript::send_raw(ScriptedNode& node, Step step) {
  const NodeId from = peer();
  const std::size_t bytes = input_.get();
  if (step == Step::kRaw) {
    const auto raw = input_.take(bytes);
    return send_payload(node, from, Bytes(raw.begin(), raw.end()));
  }
  if (step == Step::kRawBody) {
    const Header header = node.header(from, input_.below(20), input_.below(ScriptedNode::kPages));
    const auto raw = input_.take(bytes);
    Bytes payload(kHeaderBytes);
    encode_header(header, raw.size(), payload);
    payload.insert(payload.end(), raw.begin(), raw.end());
    return send_payload(node, from, std::move(payload));
  }
  const std::uint32_t page = input_.below(ScriptedNode::kPages);
  Message good = message(node, page);
  good.has_bytes = false;
  Bytes payload = payload_of(node.header(from, static_cast<std::uint8_t>(good.type), page), good);
  if (step == Step::kSpoiltLength) {
    payload.resize((bytes & 1) != 0 ? bytes : payload.size() + bytes / 2);
    return send_payload(node, from, std::move(payload));
  }
  payload.insert(payload.begin(), dataplane::kEthernetBytes, std::byte{0});
  payload.resize(std::min<std::size_t>(payload.size(), (bytes & 1) != 0 ? bytes / 2 : payload.size()));
  node.send_unchecked(payload, (bytes & 2) != 0);
}

void NodeScript::ask_control(ScriptedNode& node) {
  const auto what = input_.below(5);
  RegionDeclaration wanted;
  wanted.set_name(input_.flag() ? "grid" : "r1");
  wanted.bytes = (1 + std::uint64_t{input_.get()}) * kPageBytes;
  node.control().change([&](protocol::Control& control) {
    switch (what) {
      case 0:
        require(control.arrive_at_barrier() > 0, "barriers are counted from one");
        break;
      case 1:
        control.leave();
        break;
      default: {
        const std::size_t slot = control.declare(wanted);
        if (slot == protocol::kRegionsMax) break;
        NodeId who{};
        const RegionDeclaration& differing = control.differing_region(slot, who);
        require(who == protocol::kNoNode || !differing.same_options(control.region(slot)),
                "a region that differs is another one");
        if (what == 2) control.set_active(slot);
        if (what == 3) control.give_up(slot);
        require(control.region_state(slot) <= protocol::Control::RegionState::kDiffers,
                "a region has a state");
        break;
      }
    }
    return true;
  });
}

void NodeScript::step(ScriptedNode& node, Step step) {
  const auto page_of_step = [&] { return std::uint32_t{input_.below(ScriptedNode::kPages)}; };
  switch (step) {
    case Step::kMessage:
    case Step::kFragment:
    case Step::kSpoiltHeader: {
      const NodeId from = peer();
      const std::uint32_t page = page_of_step();
      const Message said = message(node, page);
      Header header = node.header(from, static_cast<std::uint8_t>(said.type), page);
      if (step == Step::kSpoiltHeader) spoil(header);
      if (step == Step::kFragment) return send_fragment(node, from, header, said);
      return send(node, from, header, said);
    }
    case Step::kAnswer:
    case Step::kSpoiltAnswer: {
      const NodeId from = peer();
      const std::uint32_t page = page_of_step();
      if (!node.last_sent(page).any) return;
      const Message said = answer(node, page);
      const Header header = node.header(from, static_cast<std::uint8_t>(said.type), page);
      return step == Step::kAnswer ? send(node, from, header, said) : send_lying(node, from, header, said);
    }
    case Step::kSpoiltLength:
    case Step::kRawBody:
    case Step::kRaw:
    case Step::kUnchecked:
      return send_raw(node, step);
    case Step::kBeat:
      return send_beat(node);
    case Step::kDeclaration:
      return send_declaration(node);
    case Step::kAgain: {
      const Kept& kept = kept_[input_.below(kKept)];
      if (!kept.payload.empty()) node.send(kept.from, kept.payload);
      return;
    }
    case Step::kFault: {
      const std::uint32_t page = page_of_step();
      return node.fault(page, input_.flag());
    }
    case Step::kPrefetch: {
      const std::uint32_t first = page_of_step();
      const std::uint32_t count = 1U + page_of_step();
      const bool write = input_.flag();
      if (prefetches_++ < ScriptedNode::kPrefetchesMax) node.prefetch(first, count, write);
      return;
    }
    case Step::kTime:
      return node.advance(std::uint64_t{1} << input_.below(42));
    case Step::kStall:
      return node.stall(input_.flag());
    case Step::kService:
      return ask_control(node);
    case Step::kCount:
      return;
  }
}

bool NodeScript::turn(ScriptedNode& node) {
  if (input_.empty() || steps_++ == kStepsMax) return false;
  step(node, static_cast<Step>(input_.below(static_cast<std::uint32_t>(Step::kCount))));
  return true;
}

}  // namespace pagewire::test
