// The two orders that coherence stands on: after zap() or protect() has returned, the service view holds
// every store that was made and gets no other until the page is mapped again. Threads hammer one page while
// it is taken away and given back; each time the bytes are copied out, wiped and put back, so that a late
// store would be lost for good. With both deliveries.
#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <thread>

#include "fault/inline_faults.h"
#include "fault/region_memory.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {
namespace {

constexpr std::size_t kHammers = 2;
constexpr std::size_t kCounterWord = 0;  // all threads, atomically
constexpr std::size_t kWords = kPageBytes / sizeof(std::uint64_t);
constexpr int kSpinsMax = 100'000;
constexpr int kInlineSpinsMax = 1'000;
constexpr auto kDuration = std::chrono::milliseconds(1000);

// Words of the page that one thread alone writes.
std::size_t own_word(std::size_t thread, std::size_t index) { return 64 + thread * 64 + index; }

using Snapshot = std::array<std::uint64_t, kWords>;

class Hammered : public InlineSink {
 public:
  explicit Hammered(Delivery delivery) : memory_("test", kBase, kPageBytes, KernelFaults::kAuto, delivery) {
    if (delivery == Delivery::kInline) faults_.emplace(1, memory_, *this);
    for (std::size_t i = 0; i < kHammers; ++i) threads_[i] = std::thread([this, i] { hammer(i); });
  }
  ~Hammered() { finish(); }
  Hammered(const Hammered&) = delete;
  Hammered& operator=(const Hammered&) = delete;

  // Takes the page away by `protect`, `zap` or both, in that order.
  void take(bool protect, bool zap) {
    here_.store(false);
    if (protect) memory_.protect(0);
    if (zap) memory_.zap(0);
  }
  void give_back() {
    memory_.map_write(0);
    here_.store(true);
  }
  void unprotect() {
    memory_.unprotect(0);
    here_.store(true);
  }

  // Waits until a store has come in since the last call: a round without one would test nothing.
  void wait_for_stores() {
    for (int spins = 0; stores_.load(std::memory_order_relaxed) == stores_seen_; ++spins) {
      if (spins > kSpinsMax) std::this_thread::yield();  // they may be waiting for this core
    }
    stores_seen_ = stores_.load(std::memory_order_relaxed);
  }

  // Inline delivery: until a thread waits for the page.
  void wait_for_fault() {
    if (!faults_) return;
    for (int spins = 0; waiting_.load() == 0; ++spins) {
      if (spins > kSpinsMax) std::this_thread::yield();
    }
  }

  Snapshot snapshot() {
    Snapshot copy;
    for (std::size_t i = 0; i < kWords; ++i) copy[i] = *word(memory_.service_view(), 0, i);
    return copy;
  }
  void wipe_and_restore(const Snapshot& copy) {
    for (std::size_t i = 0; i < kWords; ++i) *word(memory_.service_view(), 0, i) = ~std::uint64_t{0};
    for (std::size_t i = 0; i < kWords; ++i) *word(memory_.service_view(), 0, i) = copy[i];
  }

  // Lets the threads end; the page is Write.
  void finish() {
    stop_.store(true);
    give_back();
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  // After finish(): what the threads counted themselves against what the page says.
  void expect_exact() {
    std::uint64_t all = 0;
    for (std::size_t i = 0; i < kHammers; ++i) {
      all += made_[i];
      EXPECT_EQ(*word(memory_.service_view(), 0, own_word(i, 0)), made_[i]);
      EXPECT_EQ(*word(memory_.service_view(), 0, own_word(i, 1)), ~made_[i]);
    }
    EXPECT_EQ(*word(memory_.service_view(), 0, kCounterWord), all);
    EXPECT_EQ(inline_count_.load() > 0, faults_.has_value());
    std::printf("%lu rounds, %lu stores of each kind\n", rounds_, all);
  }

  void count_round() { ++rounds_; }

 private:
  // Inline delivery: the thread waits here until the page is given back.
  bool on_inline_fault(const Fault&, Interrupted&) noexcept override {
    inline_count_.fetch_add(1, std::memory_order_relaxed);
    waiting_.fetch_add(1);
    for (int spins = 0; !here_.load(); ++spins) {
      if (spins > kInlineSpinsMax) ::sched_yield();
    }
    waiting_.fetch_sub(1);
    return true;
  }

  void hammer(std::size_t thread) {
    std::byte* const view = memory_.application_view();
    std::atomic_ref<std::uint64_t> counter(*reinterpret_cast<std::uint64_t*>(view));
    volatile std::uint64_t* const plain = word(view, 0, own_word(thread, 0));
    volatile std::uint64_t* const complement = word(view, 0, own_word(thread, 1));
    std::uint64_t made = 0;
    while (!stop_.load(std::memory_order_relaxed)) {
      counter.fetch_add(1);
      *plain = *plain + 1;
      ++made;
      *complement = ~made;
      stores_.store(made, std::memory_order_relaxed);
    }
    made_[thread] = made;
  }

  RegionMemory memory_;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> stores_{0};  // changes with every store of any thread
  std::uint64_t stores_seen_ = 0;
  std::uint64_t rounds_ = 0;
  std::array<std::uint64_t, kHammers> made_{};
  std::atomic<bool> here_{false};
  std::atomic<std::uint64_t> inline_count_{0};
  std::atomic<std::uint64_t> waiting_{0};
  std::optional<InlineFaults> faults_;
  std::array<std::thread, kHammers> threads_;
};

// How a round takes the page away.
struct Taking {
  bool protect = false;
  bool zap = false;
};

// One round; how often the service view was seen to change although the page was taken away.
std::uint64_t take_and_give(Hammered& page, Taking taking) {
  page.wait_for_stores();
  page.take(taking.protect, taking.zap);
  const Snapshot before = page.snapshot();
  std::uint64_t changed_count = 0;
  for (int i = 0; i < 20; ++i) changed_count += page.snapshot() != before ? 1 : 0;
  page.wait_for_fault();
  if (taking.zap) {
    page.wipe_and_restore(before);  // not under a page that is only protected: the threads read it
    page.give_back();
  } else {
    page.unprotect();
  }
  page.count_round();
  return changed_count;
}

class NoLostStore : public ::testing::TestWithParam<Delivery> {
 protected:
  static void expect_exact(std::initializer_list<Taking> takings) {
    Hammered page(GetParam());
    std::uint64_t changed_count = 0;
    page.give_back();
    const auto end = std::chrono::steady_clock::now() + kDuration;
    while (std::chrono::steady_clock::now() < end) {
      for (const Taking taking : takings) changed_count += take_and_give(page, taking);
    }
    page.finish();
    EXPECT_EQ(changed_count, 0U);
    page.expect_exact();
  }
};

TEST_P(NoLostStore, invalidate) { expect_exact({{.zap = true}}); }

TEST_P(NoLostStore, downgrade) { expect_exact({{.protect = true}}); }

TEST_P(NoLostStore, invalidate_and_downgrade_in_turn) {
  expect_exact({{.zap = true}, {.protect = true}, {.protect = true, .zap = true}});
}

// The mutant: bytes copied before the page is taken away. The same check must see it.
TEST_P(NoLostStore, copying_before_the_zap__is_caught) {
  Hammered page(GetParam());
  std::uint64_t changed_count = 0;
  page.give_back();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (changed_count == 0 && std::chrono::steady_clock::now() < end) {
    page.wait_for_stores();
    const Snapshot before = page.snapshot();
    page.take(false, true);
    changed_count += page.snapshot() != before ? 1 : 0;
    page.give_back();
  }
  page.finish();
  EXPECT_GT(changed_count, 0U);
}

INSTANTIATE_TEST_SUITE_P(Deliveries, NoLostStore, ::testing::Values(Delivery::kThread, Delivery::kInline),
                         [](const auto& tested) {
                           return tested.param == Delivery::kThread ? "thread" : "inline";
                         });

}  // namespace
}  // namespace pagewire::fault::testing
