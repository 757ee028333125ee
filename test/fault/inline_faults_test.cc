// Inline delivery: what the sink is told, on whose thread, and how a region ends under threads at work.
#include "fault/inline_faults.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "fault/setup_error.h"
#include "test/fault/inline_support.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {
namespace {

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

// Serves and keeps the last fault, and the thread and signal masks that it came with.
struct LastFault {
  explicit LastFault(RegionMemory& memory) : serving(memory) {}
  bool keep(const Fault& now, Interrupted& by) {
    fault = now;
    interrupted = by.signals();
    blocked = blocked_signals();
    thread = ::pthread_self();
    ++count;
    errno = ENOTTY;
    return serving.on_inline_fault(now, by);
  }

  ServingSink serving;
  Fault fault;
  sigset_t interrupted{};
  sigset_t blocked{};
  pthread_t thread{};
  int count = 0;
};

class Told : public ::testing::Test {
 protected:
  RegionMemory memory_ = make_inline_memory(4);
  LastFault last_{memory_};
  FunctionSink sink_{
      [this](const Fault& fault, Interrupted& interrupted) { return last_.keep(fault, interrupted); }};
  InlineFaults faults_{17, memory_, sink_};
};

TEST_F(Told, load_of_an_absent_page__is_a_read) {
  store(memory_.service_view(), 2, kPattern);
  const std::uint64_t before = now_ns();
  EXPECT_EQ(load(memory_.application_view(), 2), kPattern);
  EXPECT_EQ(last_.count, 1);
  EXPECT_EQ(last_.fault.region, 17U);
  EXPECT_EQ(last_.fault.page, 2U);
  EXPECT_FALSE(last_.fault.write);
  EXPECT_EQ(last_.fault.thread_id, 0U);
  EXPECT_GE(last_.fault.time_ns, before);
  EXPECT_LE(last_.fault.time_ns, now_ns());
  EXPECT_TRUE(::pthread_equal(last_.thread, ::pthread_self()));
}

TEST_F(Told, store_to_an_absent_page__is_a_write) {
  store(memory_.application_view(), 3, kPattern);
  EXPECT_EQ(last_.count, 1);
  EXPECT_EQ(last_.fault.page, 3U);
  EXPECT_TRUE(last_.fault.write);
  EXPECT_EQ(load(memory_.service_view(), 3), kPattern);
}

TEST_F(Told, store_to_a_read_page__is_a_write) {
  EXPECT_EQ(load(memory_.application_view(), 1), 0U);
  EXPECT_FALSE(last_.fault.write);
  store(memory_.application_view(), 1, kPattern);
  EXPECT_EQ(last_.count, 2);
  EXPECT_TRUE(last_.fault.write);
  EXPECT_EQ(load(memory_.service_view(), 1), kPattern);
}

TEST_F(Told, atomic_read_modify_write__is_a_write) {
  std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(memory_.application_view())).fetch_add(2);
  EXPECT_EQ(last_.count, 1);
  EXPECT_TRUE(last_.fault.write);
  EXPECT_EQ(load(memory_.service_view(), 0), 2U);
}

TEST_F(Told, access_across_two_pages__faults_on_each) {
  std::uint64_t value = 0;
  const auto* const address = memory_.application_view() + kPageBytes - 4;
  asm volatile("mov (%1), %0" : "=r"(value) : "r"(address) : "memory");
  EXPECT_EQ(value, 0U);
  EXPECT_EQ(last_.count, 2);
}

TEST_F(Told, errno__is_kept) {
  errno = EXDEV;
  const std::uint64_t value = load(memory_.application_view(), 0);
  EXPECT_EQ(errno, EXDEV);
  EXPECT_EQ(value, 0U);
  EXPECT_EQ(last_.count, 1);
}

TEST_F(Told, signals__are_all_blocked_and_those_of_before_are_told) {
  sigset_t user2;
  sigset_t before;
  ::sigemptyset(&user2);
  ::sigaddset(&user2, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &user2, &before);
  EXPECT_EQ(load(memory_.application_view(), 0), 0U);
  const sigset_t after = blocked_signals();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  for (const int signal : {SIGUSR1, SIGUSR2, SIGTERM, SIGALRM, SIGBUS, SIGSEGV, SIGRTMIN + 3}) {
    EXPECT_EQ(::sigismember(&last_.blocked, signal), 1) << signal;
    EXPECT_EQ(::sigismember(&last_.interrupted, signal), signal == SIGUSR2 ? 1 : 0) << signal;
    EXPECT_EQ(::sigismember(&after, signal), signal == SIGUSR2 ? 1 : 0) << signal;
  }
}

TEST_F(Told, read_into_an_absent_page__gives_EFAULT) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Descriptor read_end(ends[0]);
  const Descriptor write_end(ends[1]);
  ASSERT_EQ(::write(write_end.get(), &kPattern, sizeof kPattern), static_cast<ssize_t>(sizeof kPattern));
  EXPECT_EQ(::read(read_end.get(), memory_.application_view(), sizeof kPattern), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(last_.count, 0);
  EXPECT_FALSE(memory_.kernel_faults());
  store(memory_.application_view(), 0, 0);  // the way out: touch it first
  EXPECT_EQ(::read(read_end.get(), memory_.application_view(), sizeof kPattern),
            static_cast<ssize_t>(sizeof kPattern));
  EXPECT_EQ(load(memory_.service_view(), 0), kPattern);
}

TEST_F(Told, thread_from_before_the_region__is_served_as_well) {
  std::atomic<bool> go{false};
  std::atomic<std::byte*> view{nullptr};
  std::uint64_t value = 0;
  std::thread early([&] {
    wait_for_flag(go);
    value = load(view.load(), 0);
  });
  {
    constexpr std::uintptr_t kElsewhere = kBase + 64 * kPageBytes;
    RegionMemory memory = make_inline_memory(1, kElsewhere);
    ServingSink sink(memory);
    const InlineFaults faults(2, memory, sink);
    store(memory.service_view(), 0, kPattern);
    view.store(memory.application_view());
    go.store(true);
    early.join();
    EXPECT_EQ(sink.read_count.load(), 1U);
  }
  EXPECT_EQ(value, kPattern);
  EXPECT_EQ(last_.count, 0);
}

TEST(InlineFaults, eight_threads_at_once__lose_nothing) {
  constexpr std::size_t kThreads = 8;
  constexpr std::size_t kPages = 32;
  constexpr std::uint64_t kAdds = 6'000;
  InlineRegion region(kPages);
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::uint64_t random = thread * 2 + 1;
      for (std::uint64_t i = 0; i < kAdds; ++i) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        const std::size_t page = (random >> 33) % kPages;
        auto* const counter = reinterpret_cast<std::uint64_t*>(region.view() + page * kPageBytes);
        std::atomic_ref<std::uint64_t>(*counter).fetch_add(1);
        volatile std::uint64_t* const own = word(region.view(), page, 8 + thread);
        store_word(own, load_word(own) + 1);
        if (i % 4 == 0) region.sink.zap((random >> 40) % kPages);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::uint64_t all = 0;
  std::uint64_t own = 0;
  for (std::size_t page = 0; page < kPages; ++page) {
    all += load(region.memory.service_view(), page);
    for (std::size_t i = 0; i < kThreads; ++i) own += *word(region.memory.service_view(), page, 8 + i);
  }
  EXPECT_EQ(all, kThreads * kAdds);
  EXPECT_EQ(own, kThreads * kAdds);
  EXPECT_GT(region.sink.write_count.load(), kAdds);  // the zaps were felt
}

// A handler of the service that touches a page.
std::atomic<std::byte*> touched_by_handler{nullptr};
std::atomic<bool> handler_has_touched{false};
void touch_in_handler(int) {
  store(touched_by_handler.load(), 1, kPattern);
  handler_has_touched.store(true);
}

TEST(InlineFaults, signal_handler_during_the_wait__may_fault_as_well) {
  if (kThreadSanitizer) GTEST_SKIP() << "TSan runs the handler of a signal later, with SIGBUS blocked";
  RegionMemory memory = make_inline_memory(2);
  std::atomic<bool> waiting{false};
  std::atomic<bool> arrived{false};
  std::atomic<int> nested_count{0};
  FunctionSink sink([&](const Fault& fault, Interrupted& interrupted) {
    if (fault.page == 1) {
      nested_count.fetch_add(1);
      memory.map_write(1);
      return true;
    }
    sigset_t all;
    ::pthread_sigmask(SIG_SETMASK, &interrupted.signals(), &all);
    waiting.store(true);
    wait_for_flag(arrived);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    memory.map_read(0);
    return true;
  });
  const InlineFaults faults(1, memory, sink);
  touched_by_handler.store(memory.application_view());
  handler_has_touched.store(false);
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = &touch_in_handler;
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  store(memory.service_view(), 0, kPattern);
  std::uint64_t value = 0;
  std::thread service([&] { value = load(memory.application_view(), 0); });
  wait_for_flag(waiting);
  ASSERT_EQ(::pthread_kill(service.native_handle(), SIGUSR1), 0);
  wait_for_flag(handler_has_touched);  // while page 0 is still to come
  EXPECT_EQ(nested_count.load(), 1);
  arrived.store(true);
  service.join();
  ::sigaction(SIGUSR1, &before, nullptr);
  EXPECT_EQ(value, kPattern);
  EXPECT_EQ(load(memory.service_view(), 1), kPattern);
}

TEST(InlineFaults, two_regions__each_has_its_own_sink) {
  RegionMemory one = make_inline_memory(3);
  RegionMemory two = make_inline_memory(3, kBase + 3 * kPageBytes);  // right behind it
  LastFault of_one(one);
  LastFault of_two(two);
  FunctionSink sink_one([&](const Fault& fault, Interrupted& by) { return of_one.keep(fault, by); });
  FunctionSink sink_two([&](const Fault& fault, Interrupted& by) { return of_two.keep(fault, by); });
  const InlineFaults faults_one(1, one, sink_one);
  const InlineFaults faults_two(2, two, sink_two);
  EXPECT_EQ(*word(one.application_view(), 2, 511), 0U);
  EXPECT_EQ(of_one.fault.page, 2U);
  EXPECT_EQ(of_one.fault.region, 1U);
  EXPECT_EQ(of_two.count, 0);
  EXPECT_EQ(*word(two.application_view(), 0), 0U);
  EXPECT_EQ(of_two.fault.page, 0U);
  EXPECT_EQ(of_two.fault.region, 2U);
  EXPECT_EQ(of_one.count, 1);
}

TEST(InlineFaults, more_than_there_is_room_for__is_a_SetupError) {
  RegionMemory memory = make_inline_memory(1);
  ServingSink sink(memory);
  std::vector<std::unique_ptr<InlineFaults>> all;
  for (std::size_t i = 0; i < kInlineRegionsMax; ++i) {
    all.push_back(std::make_unique<InlineFaults>(static_cast<std::uint32_t>(i), memory, sink));
  }
  EXPECT_THROW(InlineFaults(1, memory, sink), SetupError);
  all.pop_back();
  const InlineFaults last(1, memory, sink);
  all.clear();
  EXPECT_EQ(load(memory.application_view(), 0), 0U);
  EXPECT_EQ(sink.read_count.load(), 1U);
}

TEST(InlineFaults, memory_with_thread_delivery__is_a_SetupError) {
  RegionMemory memory("test", kBase, kPageBytes, KernelFaults::kAuto);
  ServingSink sink(memory);
  EXPECT_EQ(memory.delivery(), Delivery::kThread);
  EXPECT_THROW(InlineFaults(1, memory, sink), SetupError);
}

TEST(InlineMemory, kernel_faults_required__is_a_SetupError) {
  EXPECT_THROW(RegionMemory("test", kBase, kPageBytes, KernelFaults::kRequired, Delivery::kInline),
               SetupError);
}

TEST(InlineMemory, probe__knows_of_it) { EXPECT_TRUE(probe_support().sigbus); }

TEST(InlineMemory, map__sets_the_rights_whatever_they_were) {
  InlineRegion region(2);
  region.memory.wake(0, 2);
  region.memory.map_write(0, 2);
  region.memory.map_read(0, 2);  // there already
  store(region.view(), 0, kPattern);
  EXPECT_EQ(region.sink.write_count.load(), 1U);
  region.memory.map_write(0, 2);
  store(region.view(), 1, kPattern);
  EXPECT_EQ(region.sink.write_count.load(), 1U);
  region.memory.protect(1);
  region.memory.unprotect(1);
  store(region.view(), 1, kPattern + 1);
  EXPECT_EQ(region.sink.write_count.load(), 1U);
  EXPECT_EQ(region.sink.read_count.load(), 0U);
}

TEST(InlineEnd, region_that_has_ended__gives_SIGBUS_to_whoever_had_it) {
  SignalCatcher catcher;
  RegionMemory memory = make_inline_memory(2);
  std::atomic<bool> waiting{false};
  std::atomic<bool> ended{false};
  std::optional<InlineFaults> faults;
  FunctionSink sink([&](const Fault&, Interrupted&) {
    waiting.store(true);
    wait_for_flag(ended);
    return false;
  });
  faults.emplace(1, memory, sink);
  int raised = 0;
  std::uint64_t value = kPattern;
  std::thread reader([&] { raised = catcher.try_load(word(memory.application_view(), 0), &value); });
  wait_for_flag(waiting);
  memory.retire(false);
  ended.store(true);
  reader.join();
  EXPECT_EQ(raised, SIGBUS);
  EXPECT_EQ(catcher.try_store(word(memory.application_view(), 1), 1), SIGBUS);  // asked, and it says no
  faults.reset();
  EXPECT_EQ(catcher.try_store(word(memory.application_view(), 1), 1), SIGBUS);  // not asked any more
  EXPECT_EQ(value, kPattern);
}

TEST(InlineEnd, destructor__waits_for_the_thread_inside) {
  RegionMemory memory = make_inline_memory(1);
  std::atomic<bool> inside{false};
  std::atomic<bool> let_go{false};
  std::atomic<bool> has_left{false};
  FunctionSink sink([&](const Fault&, Interrupted&) {
    inside.store(true);
    wait_for_flag(let_go);
    memory.map_read(0);
    has_left.store(true);
    return true;
  });
  auto faults = std::make_unique<InlineFaults>(1, memory, sink);
  std::thread reader([&] { EXPECT_EQ(load(memory.application_view(), 0), 0U); });
  wait_for_flag(inside);
  std::atomic<pid_t> destroyer_id{0};
  std::atomic<bool> destroyed{false};
  std::thread destroyer([&] {
    destroyer_id.store(::gettid());
    faults.reset();
    EXPECT_TRUE(has_left.load());
    destroyed.store(true);
  });
  while (destroyer_id.load() == 0) ::sched_yield();
  wait_until_asleep(destroyer_id.load());  // it can only be waiting for the reader, or be gone
  EXPECT_FALSE(destroyed.load());
  let_go.store(true);
  destroyer.join();
  reader.join();
}

// Retired at any moment, under threads that fault, read and write all the time: all come out and none sees a
// zero.
TEST(InlineEnd, retired_under_threads_at_work__all_come_out_and_none_reads_a_zero) {
  constexpr std::size_t kPages = 8;
  constexpr int kRounds = 300;
  SignalCatcher catcher;
  std::atomic<std::uint64_t> zero_count{0};
  std::atomic<std::uint64_t> load_count{0};
  for (int round = 0; round < kRounds; ++round) {
    RegionMemory memory = make_inline_memory(kPages);
    for (std::size_t page = 0; page < kPages; ++page) store(memory.service_view(), page, kPattern);
    std::atomic<bool> ended{false};
    FunctionSink sink([&](const Fault&, Interrupted&) {
      ::sched_yield();
      return !ended.load();  // tries again until the page is there
    });
    const InlineFaults faults(1, memory, sink);
    const auto work = [&](std::size_t first_page) {
      for (std::size_t page = first_page;; page = (page + 1) % kPages) {
        std::uint64_t value = 0;
        if (catcher.try_load(word(memory.application_view(), page), &value) != 0) return;
        if (value == 0) zero_count.fetch_add(1);
        load_count.fetch_add(1, std::memory_order_relaxed);
        if (catcher.try_store(word(memory.application_view(), page), kPattern) != 0) return;
      }
    };
    std::thread first(work, 0);
    std::thread second(work, kPages / 2);
    for (int step = 0; step < round % 50; ++step) {
      memory.map_write(0, kPages);
      if (step % 2 == 0) memory.protect(0, kPages / 2);
      if (step % 3 == 0) memory.zap(kPages / 2, kPages / 2);
    }
    memory.retire(false);
    ended.store(true);
    first.join();
    second.join();
  }
  EXPECT_EQ(zero_count.load(), 0U);
  EXPECT_GT(load_count.load(), 0U);
}

TEST(InlineEnd, forked_child__does_not_wait_for_the_parents_threads) {
  if (kThreadSanitizer) GTEST_SKIP() << "TSan does not let a process with threads fork";
  RegionMemory memory = make_inline_memory(1);
  std::atomic<bool> inside{false};
  std::atomic<bool> let_go{false};
  FunctionSink sink([&](const Fault&, Interrupted&) {
    inside.store(true);
    wait_for_flag(let_go);
    memory.map_read(0);
    return true;
  });
  std::optional<InlineFaults> faults(std::in_place, 1, memory, sink);
  std::thread reader([&] { EXPECT_EQ(load(memory.application_view(), 0), 0U); });
  wait_for_flag(inside);
  const pid_t child = ::fork();
  if (child == 0) {
    faults.reset();
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status_text(status), "exit 0");
  let_go.store(true);
  reader.join();
}

// Made and ended again and again under threads that fault all the time: nobody comes to a sink that has gone.
TEST(InlineEnd, coming_and_going_under_threads_at_work__nobody_is_late) {
  constexpr std::size_t kPages = 4;
  constexpr int kRounds = 400;
  SignalCatcher catcher;
  RegionMemory memory = make_inline_memory(kPages);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      while (!stop.load()) {
        std::uint64_t value = 0;
        catcher.try_load(word(memory.application_view(), thread), &value);
      }
    });
  }
  std::uint64_t late_count = 0;
  std::uint64_t served_count = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::atomic<bool> alive{true};
    std::atomic<std::uint64_t> late{0};
    std::atomic<std::uint64_t> served{0};
    FunctionSink sink([&](const Fault& fault, Interrupted&) {
      if (!alive.load()) late.fetch_add(1);
      memory.map_read(fault.page);
      served.fetch_add(1);
      return true;
    });
    {
      const InlineFaults faults(1, memory, sink);
      while (served.load() == 0) ::sched_yield();
      memory.zap(0, kPages);
    }
    alive.store(false);
    late_count += late.load();
    served_count += served.load();
    memory.zap(0, kPages);
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(late_count, 0U);
  EXPECT_GE(served_count, static_cast<std::uint64_t>(kRounds));
}

}  // namespace
}  // namespace pagewire::fault::testing
