// Joining, regions, barriers, leaving. One thread at a time.
#include "protocol/control.h"

#include <algorithm>

namespace pagewire::protocol {

namespace {
constexpr std::uint64_t kRegionAlignBytes =
    2 << 20;  // between regions: room for guard and for huge page tables
}

std::string_view RegionDeclaration::name_view() const {
  return {name.data(), static_cast<std::size_t>(std::find(name.begin(), name.end(), '\0') - name.begin())};
}

void RegionDeclaration::set_name(std::string_view text) {
  name.fill('\0');
  std::copy_n(text.begin(), std::min(text.size(), kRegionNameMax), name.begin());
}

Control::Control(const ControlSettings& settings, Time now) : settings_(settings), ask_ns_(settings.ask_ns) {
  for (auto& peer : peers_) peer.last_heard = now;
  next_beat_ = now;
  next_ask_ = now;
}

Beat Control::make_beat() const {
  Beat beat;
  beat.sequence = sequence_;
  beat.barrier_count = barrier_count_;
  beat.region_base = settings_.region_base;
  beat.loop_count = settings_.loop_count;
  beat.node_count = settings_.members.size();
  beat.leaving = leaving_;
  settings_.members.for_each([&](NodeId node) {
    if (node == settings_.self || peers_[node.value].known) beat.heard.add(node);
  });
  return beat;
}

void Control::send_beat(NodeSet to, bool wants_answer, ControlFrames& out) {
  if (to.empty()) return;
  ControlFrame* frame = out.add();
  if (frame == nullptr) return;
  frame->to = to;
  frame->is_region = false;
  frame->beat = make_beat();
  frame->beat.wants_answer = wants_answer;
  if (to.size() == 1) to.for_each([&](NodeId node) { frame->beat.echo = peers_[node.value].beat.sequence; });
}

void Control::send_region(const Slot& slot, NodeSet to, bool wants_answer, ControlFrames& out) {
  if (to.empty()) return;
  ControlFrame* frame = out.add();
  if (frame == nullptr) return;
  frame->to = to;
  frame->is_region = true;
  frame->region = slot.mine;
  frame->region.wants_answer = wants_answer;
}

// Our state is another one: say so at once, and soon again.
void Control::changed() {
  ++sequence_;
  next_beat_ = Time{0};
  next_ask_ = Time{0};
  ask_ns_ = settings_.ask_ns;
}

void Control::on_beat(NodeId from, const Beat& beat, Time now, ControlFrames& out) {
  if (from == settings_.self || !settings_.members.contains(from)) return;
  Peer& peer = peers_[from.value];
  peer.last_heard = now;
  peer.echoed = std::max(peer.echoed, beat.echo);
  const bool first = !peer.known;
  peer.known = true;
  const Beat own = make_beat();
  if (beat.region_base != own.region_base || beat.loop_count != own.loop_count ||
      beat.node_count != own.node_count) {
    differing_ = from;
  }
  if (first || beat.sequence >= peer.beat.sequence) {
    const std::uint64_t barriers = std::max(peer.beat.barrier_count, beat.barrier_count);
    const NodeSet heard = NodeSet(peer.beat.heard.bits() | beat.heard.bits());
    peer.beat = beat;
    peer.beat.barrier_count = barriers;
    peer.beat.heard = heard;
  }
  if (first) changed();
  if (beat.wants_answer) send_beat(NodeSet::of(from), false, out);
}

void Control::restarted(NodeId node) {
  const Time last_heard = peers_[node.value].last_heard;
  peers_[node.value] = Peer{};
  peers_[node.value].last_heard = last_heard;
  for (Slot& slot : regions_) {
    slot.declared.remove(node);
    slot.theirs[node.value] = RegionDeclaration{};
  }
  if (differing_ == node) differing_ = kNoNode;
}

void Control::on_region(NodeId from, const RegionDeclaration& declaration, Time now, ControlFrames& out) {
  if (from == settings_.self || !settings_.members.contains(from)) return;
  peers_[from.value].last_heard = now;
  const std::size_t index = slot_of(declaration.name_view(), true);
  if (index == kRegionsMax) return;
  Slot& slot = regions_[index];
  RegionDeclaration& known = slot.theirs[from.value];
  if (!slot.declared.contains(from) || declaration.attempt > known.attempt) {
    known = declaration;
    slot.declared.add(from);
  } else if (declaration.attempt == known.attempt) {
    known.active |= declaration.active;
    if (known.id == kNoRegion || declaration.offset > known.offset) {
      known.id = declaration.id;
      known.offset = declaration.offset;
    }
  }
  if (slot.wanted) take_place(slot);
  if (declaration.wants_answer && slot.wanted) send_region(slot, NodeSet::of(from), false, out);
}

// The lowest node says where a region goes; the others follow, as long as they have not mapped it. A region
// keeps its id over all attempts, and its place unless it has become too large for it.
void Control::take_place(Slot& slot) {
  if (slot.mine.active) return;
  NodeId lowest = settings_.self;
  settings_.members.for_each([&](NodeId node) { lowest = std::min(lowest, node); });
  if (lowest == settings_.self) {
    if (slot.mine.id == kNoRegion) slot.mine.id = next_id_++;
    if (slot.reserved_bytes >= slot.mine.bytes) return;
    slot.reserved_bytes = (slot.mine.bytes + kRegionAlignBytes - 1) / kRegionAlignBytes * kRegionAlignBytes;
    slot.mine.offset = next_offset_;
    next_offset_ += slot.reserved_bytes + kRegionAlignBytes;
  } else if (slot.declared.contains(lowest)) {
    const RegionDeclaration& given = slot.theirs[lowest.value];
    if (given.id == kNoRegion || !given.same_options(slot.mine) || given.same_place(slot.mine)) return;
    slot.mine.id = given.id;
    slot.mine.offset = given.offset;
    changed();
  }
}

Time Control::tick(Time now, ControlFrames& out) {
  if (now >= next_beat_) {
    send_beat(others(), false, out);
    for (const Slot& slot : regions_) {
      if (slot.wanted && region_needs(slot)) send_region(slot, others(), false, out);
    }
    next_beat_ = now.after(settings_.beat_ns);
  }
  const NodeSet asked = lacking();
  bool regions_wait = false;
  if (now >= next_ask_) {
    send_beat(asked, true, out);
    for (const Slot& slot : regions_) {
      if (!slot.wanted || !region_needs(slot)) continue;
      regions_wait = true;
      NodeSet ask;
      others().for_each([&](NodeId node) {
        if (!slot.declared.contains(node) || !slot.theirs[node.value].active || slot.mine.id == kNoRegion)
          ask.add(node);
      });
      send_region(slot, ask, true, out);
    }
    if (asked.empty() && !regions_wait) {
      ask_ns_ = settings_.ask_ns;
      next_ask_ = kNever;
    } else {
      next_ask_ = now.after(ask_ns_);
      ask_ns_ = std::min(ask_ns_ * 2, settings_.ask_ns_max);
    }
  }
  return std::min(next_beat_, next_ask_);
}

// Nodes of which we need to hear something.
NodeSet Control::lacking() const {
  NodeSet lacking = NodeSet(missing().bits() | behind_barrier(barrier_count_).bits());
  if (leaving_) {
    others().for_each([&](NodeId node) {
      if (peers_[node.value].echoed < sequence_ && !peers_[node.value].beat.leaving) lacking.add(node);
    });
  }
  return lacking;
}

bool Control::joined() const { return missing().empty(); }

NodeSet Control::missing() const {
  NodeSet missing;
  others().for_each([&](NodeId node) {
    if (!peers_[node.value].known || !peers_[node.value].beat.heard.contains(settings_.self))
      missing.add(node);
  });
  return missing;
}

std::uint64_t Control::arrive_at_barrier() {
  ++barrier_count_;
  changed();
  return barrier_count_;
}

NodeSet Control::behind_barrier(std::uint64_t count) const {
  NodeSet behind;
  others().for_each([&](NodeId node) {
    if (peers_[node.value].beat.barrier_count < count) behind.add(node);
  });
  return behind;
}

std::size_t Control::slot_of(std::string_view name, bool create) {
  std::size_t empty = kRegionsMax;
  for (std::size_t i = 0; i < kRegionsMax; ++i) {
    if (!regions_[i].used) {
      empty = std::min(empty, i);
    } else if (regions_[i].mine.name_view() == name) {
      return i;
    }
  }
  if (!create || empty == kRegionsMax) return kRegionsMax;
  regions_[empty].used = true;
  regions_[empty].mine.set_name(name);
  return empty;
}

std::size_t Control::declare(const RegionDeclaration& wanted) {
  const std::size_t index = slot_of(wanted.name_view(), true);
  if (index == kRegionsMax) return index;
  Slot& slot = regions_[index];
  if (slot.wanted && !slot.given_up && slot.mine.same_options(wanted)) return index;  // open already
  const RegionDeclaration before = slot.mine;
  slot.given_up = false;
  slot.wanted = true;
  slot.mine = wanted;
  slot.mine.attempt = before.attempt + 1;
  slot.mine.id = before.id;
  slot.mine.offset = before.offset;
  slot.mine.active = false;
  take_place(slot);
  changed();
  return index;
}

void Control::set_active(std::size_t slot) {
  regions_[slot].mine.active = true;
  changed();
}

bool Control::region_needs(const Slot& slot) const {
  if (slot.given_up) return false;
  if (!slot.mine.active) return true;
  bool needs = false;
  others().for_each(
      [&](NodeId node) { needs |= !slot.declared.contains(node) || !slot.theirs[node.value].active; });
  return needs;
}

Control::RegionState Control::region_state(std::size_t index) const {
  const Slot& slot = regions_[index];
  bool differs = false;
  bool waits = !missing_in_region(index).empty() || slot.mine.id == kNoRegion;
  slot.declared.for_each([&](NodeId node) {
    const RegionDeclaration& theirs = slot.theirs[node.value];
    const bool same = theirs.same_options(slot.mine);
    differs |= !same && theirs.attempt >= slot.mine.attempt;
    waits |= !same || !theirs.same_place(slot.mine);
  });
  if (differs) return RegionState::kDiffers;
  if (waits) return RegionState::kWaiting;
  bool all_active = slot.mine.active;
  others().for_each([&](NodeId node) { all_active &= slot.theirs[node.value].active; });
  return all_active ? RegionState::kAllActive : RegionState::kAgreed;
}

const RegionDeclaration& Control::differing_region(std::size_t index, NodeId& who) const {
  const Slot& slot = regions_[index];
  who = kNoNode;
  slot.declared.for_each([&](NodeId node) {
    if (who == kNoNode && !slot.theirs[node.value].same_options(slot.mine)) who = node;
  });
  return who == kNoNode ? slot.mine : slot.theirs[who.value];
}

NodeSet Control::missing_in_region(std::size_t index) const {
  return others().without(regions_[index].declared);
}

void Control::leave() {
  leaving_ = true;
  changed();
}

bool Control::may_go(Time now) const {
  const NodeSet quiet = silent(now);
  bool may = true;
  others().for_each([&](NodeId node) {
    const Peer& peer = peers_[node.value];
    may &= peer.echoed >= sequence_ || peer.beat.leaving || quiet.contains(node);
  });
  return may;
}

NodeSet Control::silent(Time now) const {
  NodeSet quiet;
  others().for_each([&](NodeId node) {
    if (now >= peers_[node.value].last_heard.after(settings_.silence_ns)) quiet.add(node);
  });
  return quiet;
}

NodeSet Control::leaving() const {
  NodeSet gone;
  others().for_each([&](NodeId node) {
    if (peers_[node.value].beat.leaving) gone.add(node);
  });
  return gone;
}

}  // namespace pagewire::protocol
