// What befalls a page at a node: a frame, a fault, a time-out. Each is handed to the protocol's own code, and
// its effects are carried out against the modelled memory.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "protocol/admission.h"
#include "test/sim/simulator.h"

namespace pagewire::sim {
namespace {

using protocol::Access;
using protocol::Drop;
using protocol::Effect;
using protocol::Message;
using protocol::NodeId;
using protocol::NodeSet;

constexpr std::uint32_t kCluster = 0x51a7e5;
constexpr std::uint64_t kRingPollNs = 15'000;  // a fault that finds no round is tried again after it

bool raises_or_wakes(const protocol::Effects& effects) {
  return std::any_of(effects.all().begin(), effects.all().end(), [](const Effect& effect) {
    return effect.kind == Effect::Kind::kWake || effect.kind == Effect::Kind::kMapRead ||
           effect.kind == Effect::Kind::kMapWrite || effect.kind == Effect::Kind::kUnprotect;
  });
}

const char* name_of(Effect::Kind kind) {
  static constexpr std::array<const char*, 8> kNames = {"install", "map Read", "map Write", "unprotect",
                                                        "protect", "zap",      "wake",      "send"};
  return kNames[static_cast<std::size_t>(kind)];
}

// What the transition did to the memory, for the story.
std::string describe_effects(const protocol::Effects& effects) {
  std::string text;
  for (const Effect& effect : effects.all()) {
    if (effect.kind == Effect::Kind::kSend) continue;
    text += fmt::format("{}{}", text.empty() ? " => " : ", ", name_of(effect.kind));
  }
  return text;
}

}  // namespace

// The same ladder as the packet loop's.
Drop Simulator::admit(std::uint8_t node, const Frame& frame, Message& message, std::uint64_t& value) {
  const protocol::Parsed parsed = protocol::parse(frame.payload());
  if (parsed.drop != Drop::kNone) return parsed.drop;
  const protocol::Header& header = parsed.header;
  const protocol::Listener here{.self = NodeId{node},
                                .node_count = setting_.nodes,
                                .cluster = kCluster,
                                .view = nodes_[node].view.number,
                                .joined = true};
  const std::size_t sender = std::min<std::size_t>(header.sender.value, kNodesMax - 1);
  const Drop refused = protocol::admit(here, header, known_boots_[sender]);
  if (refused != Drop::kNone) return refused;
  if (header.boot_id != known_boots_[sender] || header.view != nodes_[node].view.number)
    fail("R11: a frame of another life or view was let in", node, frame.page);
  if (header.type == 0 || header.type >= protocol::kMessageTypes) return Drop::kUnknownType;
  if (header.page.region != 0 || nodes_[node].dead) return Drop::kUnknownRegion;
  if (header.page.index >= setting_.pages) return Drop::kPageOutOfRange;
  const Drop drop = protocol::decode_body(parsed, setting_.nodes, message);
  if (drop != Drop::kNone) return drop;
  if (message.has_bytes) std::memcpy(&value, parsed.fragment.data(), sizeof(value));
  const bool same = message == frame.message && header.page.index == frame.page &&
                    (!message.has_bytes || value == frame.value);
  if (frame.garbled || !same) {
    fail(frame.garbled ? "WIRE: a damaged frame was taken" : "WIRE: what was taken is not what was sent",
         node, frame.page);
  }
  return Drop::kNone;
}

void Simulator::deliver(const Event& event) {
  const Frame& frame = network_[event.what];
  const std::uint8_t node = event.node;
  count_step(event.kind, node, frame.page, frame.length);
  Message message;
  std::uint64_t value = 0;
  const Drop drop = admit(node, frame, message, value);
  if (drop != Drop::kNone) {
    ++report_.counters.drops[static_cast<std::size_t>(drop)];
    digest(static_cast<std::uint64_t>(drop));
    if (tells(frame.page)) {
      tell(Line::Kind::kIgnored, node, frame.message.from.value, frame.page,
           fmt::format("{}: dropped, {}", describe(frame.message), protocol::drop_name(drop)));
    }
  } else if (!report_.violation) {
    report_.counters.add(Counter::kFramesTaken);
    ++report_.counters.messages[static_cast<std::size_t>(message.type)];
    take_message(node, frame, message, value);
  }
  network_.arrived(event.what);
}

void Simulator::take_message(std::uint8_t node, const Frame& frame, const Message& message,
                             std::uint64_t value) {
  const std::uint32_t page = frame.page;
  const Before was = before(node, page);
  const model::Handled handled{&message, static_cast<std::uint8_t>(value),
                               protocol::wants_bytes(nodes_[node].view, ref(node, page), message)};
  effects_.clear();
  protocol::on_message(nodes_[node].view, ref(node, page), message, now(), effects_);
  if (tells(page)) {
    tell(Line::Kind::kMessage, node, message.from.value, page,
         fmt::format("{} (sent in {}){}", describe(message), frame.step, describe_effects(effects_)));
  }
  carry_out(node, page, handled, value, was);
}

// `what` of the event: the page, twice, and one more for a store.
void Simulator::take_fault(const Event& event) {
  const std::uint8_t node = event.node;
  const std::uint32_t page = event.what / 2;
  const Access access = event.what % 2 != 0 ? Access::kWrite : Access::kRead;
  count_step(event.kind, node, page, event.what);
  const Before was = before(node, page);
  if (protocol::allows(was.permission, access)) report_.counters.add(Counter::kStaleFaults);
  effects_.clear();
  if (protocol::on_fault(nodes_[node].view, ref(node, page), access, now(), effects_) ==
      protocol::Outcome::kBusy) {
    return keep_in_ring(event, was);
  }
  const bool only_wakes = effects_.all().size() == 1 && effects_.all()[0].kind == Effect::Kind::kWake;
  if (protocol::allows(was.permission, access) && !only_wakes)
    fail("I6: a fault that was served before is not woken", node, page);
  if (tells(page)) {
    tell(Line::Kind::kNote, node, node, page,
         fmt::format("{} fault{}", access == Access::kWrite ? "write" : "read", describe_effects(effects_)));
  }
  carry_out(node, page, {}, 0, was);
}

// No round to be had. It is tried again and again, so that does not count as a step.
void Simulator::keep_in_ring(const Event& event, const Before& was) {
  const std::uint32_t page = event.what / 2;
  if (!effects_.empty() || !(before(event.node, page) == was))
    fail("BUSY: something changed all the same", event.node, page);
  --report_.steps;
  report_.counters.add(Counter::kBusyFaults);
  ++faults_in_rings_;
  queue_.push(now_ + kRingPollNs + random_.below(setting_.ring_ns), Event::Kind::kFault, event.node,
              event.what);
}

void Simulator::take_timer(std::uint8_t node) {
  nodes_[node].timer_at = protocol::kNever.ns;
  protocol::Rounds& rounds = *nodes_[node].rounds;
  std::uint16_t round = rounds.next_expired(now(), 0);
  while (round != protocol::kNoRound && !report_.violation) {
    take_timeout(node, rounds[round].page.index);
    round = rounds.next_expired(now(), static_cast<std::uint16_t>(round + 1));
  }
  arm_timer(node);
}

void Simulator::take_timeout(std::uint8_t node, std::uint32_t page) {
  count_step(Event::Kind::kTimer, node, page, 0);
  report_.counters.add(Counter::kTimeouts);
  const Before was = before(node, page);
  if (stage(node, page) == protocol::Stage::kRequesting) note_repeated(node, page);
  effects_.clear();
  protocol::on_timeout(nodes_[node].view, ref(node, page), now(), effects_);
  if (tells(page)) tell(Line::Kind::kNote, node, node, page, "time-out" + describe_effects(effects_));
  carry_out(node, page, {}, 0, was);
}

// A request is about to be asked again. On a calm network that must not be. With more nodes than the list of
// granted requests has places it may: a stale request is then granted again at times, to a node that does not
// expect it, and a waiting room may be full.
void Simulator::note_repeated(std::uint8_t node, std::uint32_t page) {
  const protocol::Round& round = (*nodes_[node].rounds)[slot(node, page).entry.round];
  if (round.attempts > 0 || !round.held_by.empty()) return;  // who held it is asked again
  report_.counters.add(Counter::kRepeatedRequests);
  if (setting_.calm && setting_.sees_turns && setting_.nodes <= protocol::GrantedList::kCapacity)
    fail("WAIT: on a calm network a request has to be repeated", node, page);
}

void Simulator::take_turn(std::uint8_t node, std::uint32_t page) {
  count_step(Event::Kind::kTurn, node, page, 0);
  report_.counters.add(Counter::kTurns);
  Slot& at = slot(node, page);
  const protocol::PageEntry entry = at.entry;
  const bool waited = protocol::wants_turn(ref(node, page), now());
  const bool held = now() < entry.hold_until || stage(node, page) == protocol::Stage::kHolding;
  if (waited) report_.counters.add(Counter::kTurnsServed);
  const Before was = before(node, page);
  effects_.clear();
  protocol::on_turn_taken(nodes_[node].view, ref(node, page), now(), effects_);
  if (protocol::wants_turn(ref(node, page), now()) || now() < at.entry.hold_until)
    fail("TURN: taken, and the hold goes on", node, page);
  if (!held && !(effects_.empty() && at.entry == entry))
    fail("TURN: something changed where nothing was held", node, page);
  if (tells(page)) tell(Line::Kind::kNote, node, node, page, "turn taken" + describe_effects(effects_));
  carry_out(node, page, {}, 0, was);
}

Simulator::Before Simulator::before(std::uint8_t node, std::uint32_t page) {
  const protocol::PageEntry& entry = slot(node, page).entry;
  return Before{.version = entry.version,
                .epoch = entry.epoch,
                .floor = entry.floor,
                .transaction = entry.last_transaction,
                .heard = entry.heard,
                .heard_node = entry.heard_node,
                .permission = entry.permission,
                .owner = entry.owner,
                .unsolicited = nodes_[node].rounds->events(protocol::Event::kUnsolicited)};
}

void Simulator::carry_out(std::uint8_t node, std::uint32_t page, const model::Handled& handled,
                          std::uint64_t value, const Before& was) {
  const char* complaint = carry_out_effects(node, page, handled, value);
  Slot& at = slot(node, page);
  if (!was.owner && at.entry.owner) report_.counters.add(Counter::kHandOvers);
  if (raises_or_wakes(effects_)) wake(node, page);
  tell_turn(node, page);
  arm_timer(node);
  digest(at.entry.version.value << 32 ^ at.entry.floor.value << 16 ^ at.entry.epoch.value);
  digest(at.value << 8 | static_cast<std::uint64_t>(at.memory.mapping) << 4 | (at.entry.owner ? 1 : 0));
  if (complaint != nullptr) fail(complaint, node, page);
  if (const char* broken = check_step(node, page, handled, was)) fail(broken, node, page);
  if (const char* broken = check_page(page)) fail(broken, node, page);
}

// `value` are the bytes that came with the message. The shared model of the memory knows their lowest byte
// alone; the whole is kept here, and installed at the same place among the effects.
const char* Simulator::carry_out_effects(std::uint8_t node, std::uint32_t page, const model::Handled& handled,
                                         std::uint64_t value) {
  Slot& at = slot(node, page);
  const auto send_one = [&](const Effect& effect, std::uint8_t /*lowest*/) {
    send(node, page, effect, at.value);
  };
  if (demand_ == Demand::kVisible) {  // carried out whatever their order
    for (const Effect& effect : effects_.all()) {
      if (effect.kind == Effect::Kind::kInstall) at.value = value;
      if (effect.kind == Effect::Kind::kSend) send_one(effect, 0);
      model::change_mapping(effect.kind, at.memory.mapping);
    }
    return nullptr;
  }
  const auto effects = effects_.all();
  const auto install = std::find_if(effects.begin(), effects.end(), [](const Effect& effect) {
    return effect.kind == Effect::Kind::kInstall;
  });
  const char* complaint = model::carry_out(nodes_[node].view, at.entry, effects_, handled, at.memory,
                                           [&](const Effect& effect, std::uint8_t) {
                                             if (install != effects.end() && &effect > &*install)
                                               at.value = value;
                                             send_one(effect, 0);
                                           });
  if (install != effects.end()) at.value = value;
  return complaint;
}

void Simulator::send(std::uint8_t from, std::uint32_t page, const Effect& effect, std::uint64_t value) {
  const std::uint32_t frame = encode(from, effect.to, page, effect.message, value);
  if (frame != Network::kNoFrame) send_frame(frame, from, effect.to);
}

std::uint32_t Simulator::encode(std::uint8_t from, NodeSet to, std::uint32_t page, const Message& message,
                                std::uint64_t value) {
  const std::uint32_t number = network_.take();
  if (number == Network::kNoFrame) {
    report_.counters.add(Counter::kFramesWithoutRoom);
    return number;
  }
  Frame& frame = network_[number];
  frame.page = page;
  frame.message = message;
  frame.value = value;
  frame.step = report_.steps;
  const std::size_t body =
      protocol::encode_body(message, std::span(frame.bytes).subspan(protocol::kHeaderBytes));
  const std::uint16_t fragment = message.has_bytes ? sizeof(value) : 0;
  put_header(frame, static_cast<std::uint8_t>(message.type), from, to, body, fragment);
  std::memcpy(frame.bytes.data() + protocol::kHeaderBytes + body, &value, fragment);
  return number;
}

void Simulator::put_header(Frame& frame, std::uint8_t type, std::uint8_t from, NodeSet to, std::size_t body,
                           std::uint16_t fragment) {
  const protocol::Header header{.type = type,
                                .cluster = kCluster,
                                .view = nodes_[from].view.number,
                                .sender = NodeId{from},
                                .to = to,
                                .boot_id = nodes_[from].boot_id,
                                .packet_number = ++nodes_[from].packet_number,
                                .page = protocol::PageId{0, frame.page},
                                .fragment_offset = 0,
                                .fragment_bytes = fragment};
  protocol::encode_header(header, body, frame.bytes);
  frame.length = static_cast<std::uint16_t>(protocol::kHeaderBytes + body + fragment);
}

// Makes it a beat of the sender.
void Simulator::make_beat(Frame& frame, std::uint8_t from, NodeSet to) {
  protocol::Beat beat;
  beat.sequence = nodes_[from].packet_number;
  beat.node_count = setting_.nodes;
  const std::size_t body =
      protocol::encode_body(beat, std::span(frame.bytes).subspan(protocol::kHeaderBytes));
  put_header(frame, protocol::kTypeBeat, from, to, body, 0);
}

// To each that it is for; on a shared medium to all others as well, and back to the sender.
void Simulator::send_frame(std::uint32_t frame, std::uint8_t from, NodeSet to) {
  NodeSet hear = to;
  if (!healing_ && random_.chance(setting_.flooding)) {
    hear = NodeSet::first(setting_.nodes);
    report_.counters.add(Counter::kFlooded, hear.size() - to.size());
  }
  hear.for_each([&](NodeId node) {
    const Fate fate = network_.send(frame, from, node.value, now_, random_, queue_, report_.counters);
    digest(static_cast<std::uint64_t>(fate));
    if (fate == Fate::kGoes || fate == Fate::kGarbled || !tells(network_[frame].page)) return;
    tell(Line::Kind::kNotSent, node.value, from, network_[frame].page,
         fmt::format("{}: {}", describe(network_[frame].message), fate == Fate::kCut ? "cut" : "lost"));
  });
  network_.release(frame);
}

// The loop looks at its deadlines a little late, as loops do.
void Simulator::arm_timer(std::uint8_t number) {
  Node& node = nodes_[number];
  const std::uint64_t deadline = node.rounds->next_deadline().ns;
  if (deadline >= node.timer_at) return;
  node.timer_at = deadline;
  queue_.push(std::max(deadline, now_) + random_.below(1'000), Event::Kind::kTimer, number,
              ++node.timer_number);
}

}  // namespace pagewire::sim
