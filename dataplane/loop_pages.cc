// Faults, messages and time-outs of pages: call the protocol, carry its effects out in order. Loop thread.
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
    waiting_[entry.round].kind = held == protocol::Permission::kRead ? FaultKind::kUpgrade : miss;
    counters.waiting.add();
    ++waiting_count_;
  }
  carry_out(at, round_before, nullptr);
  if (served_at_once && !protocol::allows(held, access) && round_before == protocol::kNoRound) {
    counters.latency[static_cast<std::size_t>(FaultKind::kLocal)].record(now_ns() - fault.time_ns);
  }
  return true;
}

// Works on what was asked for ahead, as long as there are rounds. True if it did something.
bool Loop::prefetch_some() {
  if (prefetching_.page_count == 0) {
    if (prefetches_.empty()) return false;
    bool one = true;  // a time
    prefetches_.take(
        [&](const Prefetch& next) { return std::exchange(one, false) && (prefetching_ = next, true); });
  }
  RegionState* region = shared_.regions[prefetching_.region].load(std::memory_order_acquire);
  bool worked = false;
  for (std::size_t i = 0; i < kBurst && prefetching_.page_count > 0; ++i) {
    const std::uint32_t page = prefetching_.first_page;
    if (region != nullptr &&
        loop_of(page, static_cast<std::uint32_t>(shared_.loops.size())) == options_.index) {
      const PageAt at{.region = region, .index = page};
      const protocol::PageEntry& entry = region->pages[page].entry();
      if (!protocol::allows(entry.permission, prefetching_.access)) {
        const std::uint16_t round_before = entry.round;
        effects_.clear();
        const auto outcome =
            protocol::on_fault(shared_.view, ref(at), prefetching_.access, protocol::Time{now_ns_}, effects_);
        if (outcome == protocol::Outcome::kBusy) return worked;
        carry_out(at, round_before, nullptr);
      }
    }
    ++prefetching_.first_page;
    --prefetching_.page_count;
    worked = true;
  }
  return worked;
}

void Loop::on_message(PageAt at, const protocol::Message& message, const std::byte* bytes) {
  const std::uint16_t round_before = at.region->pages[at.index].entry().round;
  effects_.clear();
  protocol::on_message(shared_.view, ref(at), message, protocol::Time{now_ns_}, effects_);
  carry_out(at, round_before, bytes);
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
  for (const Effect& effect : effects_.all()) {
    carry_out_one(at, effect, bytes);
    mapped |= effect.kind == Effect::Kind::kMapRead || effect.kind == Effect::Kind::kMapWrite ||
              effect.kind == Effect::Kind::kUnprotect;
  }
  if (mapped) resumed(at, round_before);
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

void Loop::carry_out_one(PageAt at, const Effect& effect, const std::byte* bytes) {
  fault::RegionMemory& memory = at.region->memory;
  switch (effect.kind) {
    case Effect::Kind::kInstall:
      if (bytes == nullptr) broken_invariant(at, "bytes to install, but none came");
      std::memcpy(memory.service_view() + std::size_t{at.index} * protocol::kPageBytes, bytes,
                  protocol::kPageBytes);
      return;
    case Effect::Kind::kMapRead:
      return memory.map_read(at.index);
    case Effect::Kind::kMapWrite:
      return memory.map_write(at.index);
    case Effect::Kind::kUnprotect:
      return memory.unprotect(at.index);
    case Effect::Kind::kProtect:
      return memory.protect(at.index);
    case Effect::Kind::kZap:
      return memory.zap(at.index);
    case Effect::Kind::kWake:
      return memory.wake(at.index);
    case Effect::Kind::kSend:
      return send_message(at, effect.to, effect.message);
  }
}

// The page was mapped: those who waited for it go on.
void Loop::resumed(PageAt at, std::uint16_t round_before) {
  if (round_before == protocol::kNoRound) return;
  Waiting& waiting = waiting_[round_before];
  if (waiting.since_ns == 0) return;
  RegionCounters& counters = at.region->counters[options_.index];
  counters.latency[static_cast<std::size_t>(waiting.kind)].record(now_ns() - waiting.since_ns);
  counters.waiting.sub(1);
  --waiting_count_;
  waiting.since_ns = 0;
}

}  // namespace pagewire::dataplane
