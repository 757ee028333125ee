// The table of regions that the SIGBUS handler looks at; see inline_faults.h for which thread may call what.
#include "fault/inline_faults.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <climits>
#include <mutex>
#include <string>

#include "fault/fault_access.h"
#include "fault/monotonic.h"
#include "fault/setup_error.h"
#include "fault/sigbus_chain.h"

namespace pagewire::fault {
namespace {

// One region. A thread counts itself in before it looks at the sink, and whoever ends the region takes the
// sink away before it looks at the count (both sequentially consistent): so either the thread sees that there
// is no sink any more, or it is waited for. While the sink is there the rest does not change.
struct alignas(64) Slot {
  std::atomic<InlineSink*> sink{nullptr};
  std::atomic<std::uint32_t> inside_count{0};  // a futex: threads with this slot in their hands
  std::atomic<std::uint32_t> region{0};
  std::atomic<std::uintptr_t> base{0};
  std::atomic<std::size_t> bytes{0};
  bool taken = false;  // under the mutex

  bool covers(std::uintptr_t address) const {
    return address - base.load(std::memory_order_relaxed) < bytes.load(std::memory_order_relaxed);
  }
};
static_assert(std::atomic<InlineSink*>::is_always_lock_free &&
              std::atomic<std::uint32_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));

std::array<Slot, kInlineRegionsMax> slots;
std::atomic<std::size_t> slots_in_use{0};  // up to the highest that ever was taken
std::mutex slots_mutex;

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  return ::syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

void leave(Slot& slot) {
  slot.inside_count.fetch_sub(1);
  if (slot.sink.load() == nullptr) futex(slot.inside_count, FUTEX_WAKE, INT_MAX);
}

void wait_until_all_have_left(Slot& slot) {
  for (;;) {
    const std::uint32_t count = slot.inside_count.load();
    if (count == 0) return;
    futex(slot.inside_count, FUTEX_WAIT, count);  // returns at once if the count has changed
  }
}

std::size_t take_slot() {
  const std::scoped_lock lock(slots_mutex);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].taken) continue;
    slots[i].taken = true;
    if (slots_in_use.load() <= i) slots_in_use.store(i + 1);
    return i;
  }
  throw SetupError("Cannot deliver another region's faults inline",
                   std::to_string(kInlineRegionsMax) + " regions of this process have inline delivery",
                   "Choose thread delivery for it");
}

void give_back(std::size_t slot) {
  const std::scoped_lock lock(slots_mutex);
  slots[slot].taken = false;
}

}  // namespace

bool serve_inline_fault(const siginfo_t& info, ucontext_t& context) noexcept {
  const std::uint64_t now_ns = monotonic_ns();
  if (info.si_code != BUS_ADRERR) return false;  // sent, or misaligned, or broken memory
  const auto address = reinterpret_cast<std::uintptr_t>(info.si_addr);
  const std::size_t count = slots_in_use.load();
  for (std::size_t i = 0; i < count; ++i) {
    Slot& slot = slots[i];
    if (slot.sink.load() == nullptr || !slot.covers(address)) continue;
    slot.inside_count.fetch_add(1);
    InlineSink* const sink = slot.sink.load();
    const bool is_its = sink != nullptr && slot.covers(address);  // it may be another region's by now
    bool served = false;
    if (is_its) {
      const Fault fault{.region = slot.region.load(std::memory_order_relaxed),
                        .page = static_cast<std::uint32_t>((address - slot.base.load()) / kPageBytes),
                        .write = fault_is_store(context),
                        .time_ns = now_ns};
      Interrupted interrupted(context, address);
      served = sink->on_inline_fault(fault, interrupted);
    }
    leave(slot);
    if (is_its) return served;
  }
  return false;
}

InlineFaults::InlineFaults(std::uint32_t region, const RegionMemory& memory, InlineSink& sink)
    : process_(::getpid()) {
  if (memory.delivery() != Delivery::kInline) {
    throw SetupError("Cannot deliver a region's faults inline", "its memory has thread delivery",
                     "Create its RegionMemory with Delivery::kInline");
  }
  slot_ = take_slot();
  try {
    hold_sigbus();
  } catch (...) {
    give_back(slot_);
    throw;
  }
  Slot& slot = slots[slot_];
  slot.region.store(region);
  slot.base.store(reinterpret_cast<std::uintptr_t>(memory.application_view()));
  slot.bytes.store(memory.bytes());
  slot.sink.store(&sink);
}

InlineFaults::~InlineFaults() {
  Slot& slot = slots[slot_];
  slot.sink.store(nullptr);
  if (process_ != ::getpid()) return;  // the threads inside, and the locks, are the parent's
  wait_until_all_have_left(slot);
  release_sigbus();
  give_back(slot_);
}

}  // namespace pagewire::fault
