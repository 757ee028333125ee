// What is done ahead of need, and for several pages at once: asking for pages that a scan or the service will
// want, mapping those that came when the first of them is touched, and withdrawing access to a run of pages
// whose requests arrived together. By whoever drives the loop.
//
// A page may be less accessible than the protocol permits, never more: a page that came because of a scan is
// not mapped, although its permission is Read (PageSlot::unmapped). The first touch of it faults, costs no
// message, maps it with its neighbours in one system call, and tells how far the scan is. What the service
// asked for is mapped when the burst that brought it is through, neighbours in one call.
#include <rte_mbuf.h>

#include <algorithm>

#include "dataplane/loop.h"

namespace pagewire::dataplane {

using protocol::Effect;

namespace {

bool has_several(const rte_mbuf* frame) {
  if (rte_pktmbuf_data_len(frame) < kEthernetBytes + protocol::kHeaderBytes) return false;
  return *rte_pktmbuf_mtod_offset(frame, const std::uint8_t*, kEthernetBytes + protocol::kTypeAt) ==
         protocol::kTypeRequests;
}

}  // namespace

// Works on what was asked for ahead, as far as there is room. True if it did something.
bool Loop::prefetch_some() {
  while (wish_count_ < kWishes && !prefetches_.empty()) {
    bool one = false;  // at a time
    prefetches_.take([&](const Prefetch& next) {
      if (one) return false;
      wishes_[wish_count_++] = next;
      return one = true;
    });
  }
  if (wish_count_ == 0) return false;
  std::size_t budget = kBurst;
  const std::size_t budget_before = budget;
  together_.open = true;
  for (std::size_t i = 0; i < wish_count_ && has_room_ahead(); ++i) grant_wish(wishes_[i], budget);
  send_together();
  together_.open = false;
  const auto end = std::remove_if(wishes_.begin(), wishes_.begin() + static_cast<std::ptrdiff_t>(wish_count_),
                                  [](const Prefetch& wish) { return wish.page_count == 0; });
  wish_count_ = static_cast<std::size_t>(end - wishes_.begin());
  return budget < budget_before;
}

bool Loop::has_room_ahead() const { return ahead_in_flight_ < kAheadMax && rounds_.has_room_for_local(); }

void Loop::grant_wish(Prefetch& wish, std::size_t& budget) {
  RegionState* const region = shared_.regions[wish.region].load(std::memory_order_acquire);
  for (; wish.page_count > 0 && budget > 0 && has_room_ahead(); --budget) {
    const PageAt at{.region = region, .index = wish.first_page};
    if (region != nullptr && at.index < region->pages.size() && is_ours(at.index) && !ask_ahead(at, wish))
      return;
    wish.first_page = static_cast<std::uint32_t>(static_cast<std::int64_t>(wish.first_page) + wish.stride);
    --wish.page_count;
  }
}

bool Loop::is_ours(std::uint32_t page) const {
  return loop_of(page, static_cast<std::uint32_t>(shared_.loops.size())) == options_.index;
}

// False if there is no round for it now.
bool Loop::ask_ahead(PageAt at, const Prefetch& wish) {
  PageSlot& slot = at.region->pages[at.index];
  const protocol::PageEntry& entry = slot.entry();
  if (protocol::allows(entry.permission, wish.access) || slot.asked != Asked::kNo) return true;
  const std::uint16_t round_before = entry.round;
  effects_.clear();
  if (protocol::on_fault(shared_.view, ref(at), wish.access, protocol::Time{now_ns_}, effects_) ==
      protocol::Outcome::kBusy) {
    return false;
  }
  slot.asked = wish.by_scan ? Asked::kByScan : Asked::kByService;
  slot.in_flight = !protocol::allows(entry.permission, wish.access);
  if (slot.in_flight) ++ahead_in_flight_;
  carry_out(at, round_before, nullptr);
  return true;
}

// A thread has faulted on a load: what its region's scans will want next. Nothing is asked for ahead of a
// store: it would be taken away from others, who may be using it.
void Loop::look_ahead(PageAt at) {
  PageSlot& slot = at.region->pages[at.index];
  RegionCounters& counters = at.region->counters[options_.index];
  if (slot.asked != Asked::kNo && slot.in_flight) counters.ahead_late.add();
  const Ahead ahead = at.region->scans[options_.index].on_fault(at.index);
  if (ahead.count == 0) return;
  const Prefetch wish{.region = at.region->id,
                      .first_page = ahead.first,
                      .page_count = ahead.count,
                      .access = protocol::Access::kRead,
                      .stride = ahead.stride,
                      .by_scan = true};
  for (const auto& loop : shared_.loops) {  // each takes the pages that are its own
    if (loop.get() != this) {
      loop->push_prefetch(wish);
    } else if (wish_count_ < kWishes) {
      std::move_backward(wishes_.begin(), wishes_.begin() + static_cast<std::ptrdiff_t>(wish_count_),
                         wishes_.begin() + static_cast<std::ptrdiff_t>(wish_count_ + 1));
      wishes_[0] = wish;  // a scan goes before what the service asked for
      ++wish_count_;
    }
  }
}

// The page was granted. True if it came ahead of need and nobody waits for it: then it is mapped when it is
// touched.
bool Loop::came_ahead(PageAt at, std::uint16_t round_before) {
  PageSlot& slot = at.region->pages[at.index];
  if (slot.asked == Asked::kNo) return false;
  if (slot.in_flight) --ahead_in_flight_;
  slot.in_flight = false;
  const bool waited_for =
      serving_thread_ || (round_before != protocol::kNoRound && waiting_[round_before].since_ns != 0);
  if (waited_for) {
    slot.asked = Asked::kNo;
  } else if (slot.asked == Asked::kByService) {
    has_arrived(at);
  }
  return !waited_for;
}

// To be mapped at the end of this turn.
void Loop::has_arrived(PageAt at) {
  const bool next = arrived_.region == at.region && arrived_.first + arrived_.count == at.index;
  if (arrived_.count > 0 && !next) map_arrived();
  if (arrived_.count == 0) arrived_ = {.region = at.region, .first = at.index, .count = 0, .zap = false};
  ++arrived_.count;
}

void Loop::map_arrived() {
  const Run run = std::exchange(arrived_, Run{});
  for (std::uint32_t page = run.first; page < run.first + run.count;) {
    const bool waits = run.region->pages[page].unmapped;  // else it was touched, or taken away
    page += waits ? map_around({.region = run.region, .index = page}, run.first + run.count - page) : 1;
  }
}

// A page that came ahead of need is taken away unused.
void Loop::came_in_vain(PageAt at) {
  PageSlot& slot = at.region->pages[at.index];
  if (slot.asked == Asked::kNo || slot.in_flight) return;
  at.region->counters[options_.index].ahead_useless.add();
  if (slot.asked == Asked::kByScan) at.region->scans[options_.index].useless(1);
  slot.asked = Asked::kNo;
}

// Maps the page, and up to `count_max` in all that follow it and are not mapped either, in one call. How
// many.
std::uint32_t Loop::map_around(PageAt at, std::uint32_t count_max) {
  PageTable& pages = at.region->pages;
  const protocol::Permission permission = pages[at.index].entry().permission;
  const std::size_t limit = std::min<std::size_t>(pages.size(), std::size_t{at.index} + count_max);
  std::uint32_t end = at.index + 1;
  while (end < limit && is_ours(end) && pages[end].unmapped && pages[end].entry().permission == permission)
    ++end;
  const std::uint32_t count = end - at.index;
  if (permission == protocol::Permission::kWrite) {
    at.region->memory.map_write(at.index, count, waking(at, count));
  } else {
    at.region->memory.map_read(at.index, count, waking(at, count));
  }
  RegionCounters& counters = at.region->counters[options_.index];
  const bool inline_delivery = at.region->memory.delivery() == fault::Delivery::kInline;
  for (std::uint32_t page = at.index; page < end; ++page) {
    PageSlot& slot = pages[page];
    slot.unmapped = false;
    slot.protected_early = false;
    if (slot.asked != Asked::kNo && !slot.in_flight) {
      counters.ahead_useful.add();
      if (slot.asked == Asked::kByScan) at.region->scans[options_.index].useful(1);
      slot.asked = Asked::kNo;
    }
    slot.count_grant();
    slot.publish();
    if (inline_delivery) wake_sleepers(page);
  }
  return count;
}

// Requests for neighbouring pages that came in one burst: access is withdrawn from all of them at once, so
// that the other cores are interrupted once. The transitions follow one by one, and find the work done.
void Loop::withdraw_runs(std::span<rte_mbuf* const> frames) {
  early_run_count_ = 0;
  Run run;
  const auto add = [&](const Run& one) {
    if (one.count != 0 && run.count != 0 && one.region == run.region && one.zap == run.zap &&
        one.first == run.first + run.count) {
      ++run.count;
      return;
    }
    withdraw(run);
    run = one;
  };
  for (const rte_mbuf* frame : frames) {
    if (frames.size() > 1 || has_several(frame)) each_withdrawal(frame, add);
  }
  withdraw(run);
}

// Calls each(Run) with what the frame's requests will make of their pages here, if that is a withdrawal of
// access.
template <typename Each>
void Loop::each_withdrawal(const rte_mbuf* frame, Each&& each) const {
  if (rte_pktmbuf_data_len(frame) < kEthernetBytes) return;
  const auto* payload = rte_pktmbuf_mtod_offset(frame, const std::byte*, kEthernetBytes);
  const protocol::Parsed parsed =
      protocol::parse({payload, std::size_t{rte_pktmbuf_data_len(frame)} - kEthernetBytes});
  const protocol::Header& header = parsed.header;
  if (parsed.drop != protocol::Drop::kNone || header.cluster != shared_.membership.cluster ||
      header.view != shared_.membership.view || !header.to.contains(shared_.membership.self) ||
      header.page.region >= protocol::kRegionsMax) {
    return;
  }
  RegionState* const region = shared_.regions[header.page.region].load(std::memory_order_acquire);
  if (header.type != protocol::kTypeRequests) {
    return each(withdrawal_of(region, header.page.index, static_cast<protocol::MessageType>(header.type)));
  }
  std::array<protocol::Request, protocol::kRequestsMax> requests;
  std::size_t count = 0;
  if (decode_requests(parsed, shared_.membership.node_count, requests, count) != protocol::Drop::kNone)
    return;
  for (const protocol::Request& request : std::span(requests).first(count)) {
    each(withdrawal_of(region, request.page, request.message.type));
  }
}

Loop::Run Loop::withdrawal_of(RegionState* region, std::uint32_t page, protocol::MessageType type) const {
  const bool copy = type == protocol::MessageType::kCopyRequest;
  const bool write = type == protocol::MessageType::kWriteRequest;
  if (region == nullptr || (!copy && !write) || page >= region->pages.size() || !is_ours(page)) return {};
  PageSlot& slot = region->pages[page];
  const protocol::PageEntry& entry = slot.entry();
  if (slot.unmapped || now_ns_ < entry.hold_until.ns) return {};
  const bool withdraws = copy ? entry.owner && entry.permission == protocol::Permission::kWrite
                              : entry.permission != protocol::Permission::kInvalid;
  if (!withdraws) return {};
  return {.region = region, .first = page, .count = 1, .zap = write || entry.sharing.is_migratory()};
}

void Loop::withdraw(const Run& run) {
  if (run.count < 2) return;
  if (run.zap) {
    run.region->memory.zap(run.first, run.count);
  } else if (early_run_count_ < early_runs_.size()) {
    run.region->memory.protect(run.first, run.count);
    early_runs_[early_run_count_++] = run;
  } else {
    return;
  }
  for (std::uint32_t page = run.first; page < run.first + run.count; ++page) {
    PageSlot& slot = run.region->pages[page];
    if (run.zap) {
      slot.unmapped = true;
      slot.protected_early = false;
      slot.publish();
    } else {
      slot.protected_early = true;
    }
  }
}

// After the burst: what was protected and then not asked for after all is writable again.
void Loop::restore_runs() {
  for (std::size_t i = 0; i < early_run_count_; ++i) {
    const Run& run = early_runs_[i];
    for (std::uint32_t page = run.first; page < run.first + run.count; ++page) {
      if (!std::exchange(run.region->pages[page].protected_early, false)) continue;
      if (run.region->pages[page].entry().permission == protocol::Permission::kWrite) {
        run.region->memory.unprotect(page);
      }
      run.region->pages[page].publish();
    }
  }
  early_run_count_ = 0;
}

}  // namespace pagewire::dataplane
