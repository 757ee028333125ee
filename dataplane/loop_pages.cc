// Faults, messages and time-outs of pages: call the protocol, carry its effects out in order. Loop thread.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "dataplane/loop.h"

namespace pagewire::dataplane {

using protocol::Effect;

protocol::PageRef Loop::ref(PageAt at) {
  return protocol::PageRef{.id = protocol::PageId{at.region->id, at.index},
                           .entry = at.region->pages[at.index].entry(),
                           .rounds = rounds_};
}

// False if it has to wait for a free round; nothing has changed then.
bool Loop::on_fault(const fault::Fault& fault) {
  worked_on_pages_ = true;
  RegionState* region = shared_.regions[fault.region].load(std::memory_order_acquire);
  if (region == nullptr || fault.page >= region->pages.size()) return true;  // the region is being closed
  const PageAt at{.region = region, .index = fault.page};
  const protocol::PageEntry& entry = region->pages[fault.page].entry();
  const protocol::Permission held = entry.permission;
  const std::uint16_t round_before = entry.round;
  const auto access = fault.write ? protocol::Access::kWrite : protocol::Access::kRead;
  effects_.clear();
  if (protocol::on_fault(shared_.view, ref(at), access, protocol::Time{now_ns_}, effects_) ==
      protocol::Outcome::kBusy) {
    return false;
  }
  RegionCounters& counters = region->counters[options_.index];
  const bool served_at_once = protocol::allows(entry.permission, access);
  if (!served_at_once && entry.round != protocol::kNoRound && waiting_[entry.round].since_ns == 0) {
    const FaultKind miss = fault.write ? FaultKind::kWriteMiss : FaultKind::kReadMiss;
    waiting_[entry.round].since_ns = fault.time_ns;
    waiting_[entry.round].thread_id = fault.thread_id;
    waiting_[entry.round].kind = held == protocol::Permission::kRead ? FaultKind::kUpgrade : miss;
    phases_.opened(entry.round, waiting_[entry.round].kind, fault.time_ns);
    counters.waiting.add();
    ++waiting_count_;
  }
  PageSlot& slot = region->pages[fault.page];
  if (fault.write && std::exchange(slot.handed_on, HandedOn::kNo) != HandedOn::kNo) keep_turns(slot);
  const bool was_unmapped = slot.unmapped;
  serving_thread_ = true;
  carry_out(at, round_before, nullptr);
  serving_thread_ = false;
  const bool granted_now = !protocol::allows(held, access) && round_before == protocol::kNoRound;
  if (served_at_once && (granted_now || was_unmapped)) {
    counters.latency[static_cast<std::size_t>(FaultKind::kLocal)].record(now_ns() - fault.time_ns);
  }
  if (served_at_once) remember_thread(at, fault.thread_id);
  if (!fault.write && shared_.scan_ahead) look_ahead(at);
  return true;
}

void Loop::on_message(PageAt at, const protocol::Message& message, const std::byte* bytes) {
  worked_on_pages_ = true;
  if (rings_later_.at_ns != 0 && rings_later_.page == at && rings_later_.to.contains(message.from))
    rings_later_ = {};  // it is awake, and answers
  PageSlot& slot = at.region->pages[at.index];
  const std::uint16_t round_before = slot.entry().round;
  const protocol::Version bytes_before = slot.entry().data_version;
  effects_.clear();
  protocol::on_message(shared_.view, ref(at), message, protocol::Time{now_ns_}, effects_);
  if (slot.handed_on != HandedOn::kNo) judge_handing_on(slot, bytes_before);
  carry_out(at, round_before, bytes);
  watch_turn(at);
}

void Loop::on_round_expired(std::uint16_t round) {
  const protocol::PageId page = rounds_[round].page;
  const PageAt at{.region = shared_.regions[page.region].load(std::memory_order_acquire),
                  .index = page.index};
  effects_.clear();
  protocol::on_timeout(shared_.view, ref(at), protocol::Time{now_ns_}, effects_);
  carry_out(at, round, nullptr);
}

// Data that nobody could trust any more is worse than an end: says what it was and aborts.
void Loop::broken_invariant(PageAt at, const char* what) {
  const protocol::PageEntry& entry = at.region->pages[at.index].entry();
  std::fprintf(stderr,
               "pagewire: broken invariant: %s: region %u page %u: permission %d owner %d hint %u epoch %llu "
               "version %llu "
               "floor %llu data version %llu copyset %llx round %u\n",
               what, at.region->id, at.index, static_cast<int>(entry.permission), entry.owner ? 1 : 0,
               entry.hint.value, static_cast<unsigned long long>(entry.epoch.value),
               static_cast<unsigned long long>(entry.version.value),
               static_cast<unsigned long long>(entry.floor.value),
               static_cast<unsigned long long>(entry.data_version.value),
               static_cast<unsigned long long>(entry.copyset.bits()), entry.round);
  std::abort();
}

void Loop::carry_out(PageAt at, std::uint16_t round_before, const std::byte* bytes) {
  bool mapped = false;
  std::uint64_t mapped_ns = 0;
  for (const Effect& effect : effects_.all()) {
    if (!carry_out_one(at, effect, round_before, bytes)) continue;
    mapped = true;
    mapped_ns = phases_.stamp_ns();
  }
  if (mapped) resumed(at, round_before, mapped_ns);
  PageSlot& slot = at.region->pages[at.index];
  count_hand_over(round_before);
  count_hand_over(slot.entry().round);
  if (mapped) slot.count_grant();
  slot.publish();
  if (mapped && at.region->memory.delivery() == fault::Delivery::kInline) wake_sleepers(at.index);
}

// Hand-overs under way: a node that leaves waits for their end.
void Loop::count_hand_over(std::uint16_t round) {
  if (round == protocol::kNoRound) return;
  const bool now = rounds_[round].stage == protocol::Stage::kHandingOver;
  if (now == waiting_[round].handing_over) return;
  waiting_[round].handing_over = now;
  if (now) {
    counters_.hand_overs.add();
  } else {
    counters_.hand_overs.sub(1);
  }
}

// True if threads may go on now that could not before.
bool Loop::carry_out_one(PageAt at, const Effect& effect, std::uint16_t round_before,
                         const std::byte* bytes) {
  fault::RegionMemory& memory = at.region->memory;
  PageSlot& slot = at.region->pages[at.index];
  switch (effect.kind) {
    case Effect::Kind::kInstall:
      if (bytes == nullptr) broken_invariant(at, "bytes to install, but none came");
      std::memcpy(memory.service_view() + std::size_t{at.index} * protocol::kPageBytes, bytes,
                  protocol::kPageBytes);
      return false;
    case Effect::Kind::kMapRead:
    case Effect::Kind::kMapWrite:
      slot.unmapped = came_ahead(at, round_before);
      if (slot.unmapped) return false;
      if (effect.kind == Effect::Kind::kMapRead) {
        memory.map_read(at.index, 1, waking(at));
      } else {
        memory.map_write(at.index, 1, waking(at));
      }
      return true;
    case Effect::Kind::kUnprotect: {
      const bool nobody_waits = came_ahead(at, round_before);
      if (slot.unmapped && nobody_waits) return false;
      if (std::exchange(slot.unmapped, false)) {
        memory.map_write(at.index, 1, waking(at));
      } else if (stores_itself_) {
        slot.protected_early = true;  // perhaps for good: see store_and_hand_on()
      } else {
        memory.unprotect(at.index, 1, waking(at));
      }
      slot.asked = Asked::kNo;
      return true;
    }
    case Effect::Kind::kProtect:
      if (!std::exchange(slot.protected_early, false) && !slot.unmapped) memory.protect(at.index);
      return false;
    case Effect::Kind::kZap:
      came_in_vain(at);
      slot.protected_early = false;
      if (!std::exchange(slot.unmapped, false)) memory.zap(at.index);
      return false;
    case Effect::Kind::kWake:
      if (slot.unmapped) {
        map_around(at, kMapRunMax);
      } else if (std::exchange(slot.protected_early, false)) {  // another thread is here for its store
        memory.unprotect(at.index, 1, waking(at));
        return true;
      } else {
        if (waking(at) == fault::RegionMemory::Waking::kNow) memory.wake(at.index);
      }
      return false;
    case Effect::Kind::kSend:
      send_message(at, effect.to, effect.message);
      return false;
  }
  return false;
}

// The page was mapped: those who waited for it go on.
void Loop::resumed(PageAt at, std::uint16_t round_before, std::uint64_t mapped_ns) {
  if (round_before == protocol::kNoRound) return;
  Waiting& waiting = waiting_[round_before];
  if (waiting.since_ns == 0) return;
  RegionCounters& counters = at.region->counters[options_.index];
  mapped_ns = std::max(mapped_ns, waiting.since_ns);
  counters.latency[static_cast<std::size_t>(waiting.kind)].record(mapped_ns - waiting.since_ns);
  phases_.mapped(round_before, mapped_ns, at.region->phases[options_.index], at.region->memory.delivery());
  remember_thread(at, waiting.thread_id);
  counters.waiting.sub(1);
  --waiting_count_;
  waiting.since_ns = 0;
}

}  // namespace pagewire::dataplane
