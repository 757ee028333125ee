// Pages that the service keeps here for a bounded time, while a system call works on them. A thread of the
// service, in a call of ours, all signals blocked.
#include "dataplane/eal.h"
#include "dataplane/loop.h"

namespace pagewire::dataplane {

bool Loop::hold_pages(const PageRange& range, std::uint64_t until_ns) {
  const std::uint32_t end = range.first_page + range.page_count;
  bool driving = false;
  std::uint32_t page = range.first_page;
  while (page < end && now_ns() < until_ns) {
    if (!is_ours(page)) {
      ++page;
      continue;
    }
    driving = driving || begin_for_sure();
    if (!driving) break;
    if (hold_page({.region = range.region, .index = page}, range.access, until_ns)) {
      ++page;
    } else if (!turn()) {
      driving = yield_drive();
    }
  }
  if (driving) leave_soon();
  if (page == end) return true;
  PageRange held = range;
  held.page_count = page - range.first_page;
  end_hold(held);
  return false;
}

// True if it is here, mapped and held. Else it has been asked for.
bool Loop::hold_page(PageAt at, protocol::Access access, std::uint64_t until_ns) {
  const LoopIdentity identity(core_id_);
  now_ns_ = now_ns();
  PageSlot& slot = at.region->pages[at.index];
  if (protocol::on_hold(ref(at), access, protocol::Time{until_ns})) {
    if (slot.unmapped) map_around(at, 1);
    ++slot.holds;
    return true;
  }
  ask_ahead(at, {.region = at.region->id, .first_page = at.index, .page_count = 1, .access = access});
  return false;
}

void Loop::end_hold(const PageRange& range) {
  if (!begin_for_sure()) return;
  {
    const LoopIdentity identity(core_id_);
    now_ns_ = now_ns();
    for (std::uint32_t page = range.first_page; page < range.first_page + range.page_count; ++page) {
      if (!is_ours(page)) continue;
      const PageAt at{.region = range.region, .index = page};
      PageSlot& slot = at.region->pages[page];
      if (slot.holds == 0 || --slot.holds > 0) continue;
      end_turn(at);
    }
  }
  leave_soon();
}

}  // namespace pagewire::dataplane
