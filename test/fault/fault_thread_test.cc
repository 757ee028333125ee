// What the fault thread delivers, to whom, and when it must not.
#include "fault/fault_thread.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fault/region_memory.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {
namespace {

constexpr std::uintptr_t kSecondBase = kBase + 0x100'0000;

// A line of /proc/self/task/T/status of the thread with that name; empty if there is none.
std::string status_line(const std::string& thread_name, const std::string& key) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream comm(task.path() / "comm");
    std::string name;
    std::getline(comm, name);
    if (name != thread_name) continue;
    std::ifstream status(task.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with(key + ":")) return line;
    }
  }
  return "";
}

TEST(FaultThread, faults__tell_region_page_kind_thread_and_time) {
  ServedRegion region(8);
  timespec before{};
  ::clock_gettime(CLOCK_MONOTONIC, &before);
  load(region.memory.application_view(), 5);
  store(region.memory.application_view(), 5, 1);
  store(region.memory.application_view(), 7, 1);
  const std::vector<Fault> faults = region.sink.take();
  ASSERT_EQ(faults.size(), 3U);
  const std::array<std::uint32_t, 3> pages{5, 5, 7};
  const std::array<bool, 3> writes{false, true, true};
  std::uint64_t last_ns = static_cast<std::uint64_t>(before.tv_sec) * 1'000'000'000U;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(faults[i].region, 7U);
    EXPECT_EQ(faults[i].page, pages[i]);
    EXPECT_EQ(faults[i].write, writes[i]);
    EXPECT_EQ(faults[i].thread_id, static_cast<std::uint32_t>(::gettid()));
    EXPECT_GE(faults[i].time_ns, last_ns);
    last_ns = faults[i].time_ns;
  }
  EXPECT_EQ(region.thread.counters().message_count, 3U);
  EXPECT_EQ(region.thread.counters().read_count, 3U);
  EXPECT_EQ(region.thread.counters().duplicate_count, 0U);
}

TEST(FaultThread, two_regions__each_fault_with_its_own_id) {
  RegionMemory first("first", kBase, 4 * kPageBytes, KernelFaults::kAuto);
  RegionMemory second("second", kSecondBase, 4 * kPageBytes, KernelFaults::kAuto);
  RecordingSink sink([&](const Fault& fault) { (fault.region == 1 ? first : second).map_write(fault.page); });
  FaultThread thread(sink);
  thread.add(1, first);
  thread.add(2, second);
  store(second.application_view(), 1, kPattern);
  store(first.application_view(), 3, kPattern);
  const std::vector<Fault> faults = sink.take();
  ASSERT_EQ(faults.size(), 2U);
  EXPECT_EQ(faults[0].region, 2U);
  EXPECT_EQ(faults[0].page, 1U);
  EXPECT_EQ(faults[1].region, 1U);
  EXPECT_EQ(faults[1].page, 3U);
  thread.remove(1);
  thread.remove(2);
  thread.remove(3);  // nobody
}

TEST(FaultThread, fault_while_removed__is_delivered_after_the_next_add) {
  RegionMemory memory("test", kBase, 2 * kPageBytes, KernelFaults::kAuto);
  RecordingSink sink(serve_from(memory));
  FaultThread thread(sink);
  thread.add(1, memory);
  thread.remove(1);
  std::thread writer([&] { store(memory.application_view(), 1, kPattern); });
  pollfd waiting{memory.userfaultfd(), POLLIN, 0};
  ASSERT_EQ(::poll(&waiting, 1, -1), 1);
  EXPECT_TRUE(sink.take().empty());
  thread.add(2, memory);
  writer.join();
  const std::vector<Fault> faults = sink.take();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_EQ(faults[0].region, 2U);
  thread.remove(2);
}

// A sink that holds the fault thread until it is let go.
class HoldingSink : public FaultSink {
 public:
  void on_faults(std::span<const Fault> faults) override {
    for (const Fault& fault : faults) delivered.push_back(fault);
    if (held) return;
    held = true;
    entered.count_down();
    let_go.wait();
    left.store(true);
  }
  std::latch entered{1};
  std::latch let_go{1};
  std::atomic<bool> left{false};
  bool held = false;             // the fault thread's
  std::vector<Fault> delivered;  // the fault thread's, until it is gone
};

TEST(FaultThread, remove__waits_for_the_delivery_under_way) {
  RegionMemory memory("test", kBase, kPageBytes, KernelFaults::kAuto);
  HoldingSink sink;
  FaultThread thread(sink);
  thread.add(1, memory);
  std::thread reader([&] { load(memory.application_view(), 0); });
  sink.entered.wait();
  std::atomic<bool> left_when_removed{false};
  std::atomic<pid_t> remover_id{0};
  std::thread remover([&] {
    remover_id.store(::gettid());
    thread.remove(1);
    left_when_removed.store(sink.left.load());
  });
  while (remover_id.load() == 0) std::this_thread::yield();
  wait_until_asleep(remover_id.load());  // in remove(), or after it at the end: then the check below fails
  sink.let_go.count_down();
  remover.join();
  EXPECT_TRUE(left_when_removed.load());
  memory.map_read(0);
  reader.join();
}

// While the fault thread is held, three threads come to wait on one page and one on another: one read brings
// all, and each page and kind is handed on once.
TEST(FaultThread, repetitions_within_a_batch__are_dropped) {
  RegionMemory memory("test", kBase, 3 * kPageBytes, KernelFaults::kAuto);
  HoldingSink sink;
  auto thread = std::make_unique<FaultThread>(sink);
  thread->add(1, memory);
  std::vector<std::thread> touchers;
  touchers.emplace_back([&] { load(memory.application_view(), 0); });
  sink.entered.wait();
  const auto touch_and_wait = [&](std::size_t page, bool write) {
    std::atomic<pid_t> id{0};
    touchers.emplace_back([&memory, &id, page, write] {
      std::byte* const view = memory.application_view();
      id.store(::gettid());
      if (write) {
        store(view, page, 1);
      } else {
        load(view, page);
      }
    });
    while (id.load() == 0) std::this_thread::yield();
    wait_until_asleep(id.load());
  };
  touch_and_wait(2, false);
  touch_and_wait(2, false);
  touch_and_wait(1, false);
  touch_and_wait(2, true);
  touch_and_wait(2, false);
  sink.let_go.count_down();
  while (thread->counters().message_count < 6) std::this_thread::yield();
  thread->remove(1);
  EXPECT_EQ(thread->counters().duplicate_count, 2U);
  EXPECT_EQ(thread->counters().read_count, 2U);
  thread.reset();
  memory.map_write(0, 3);
  for (std::thread& toucher : touchers) toucher.join();
  ASSERT_EQ(sink.delivered.size(), 4U);
  int page_2_reads = 0;
  int page_2_writes = 0;
  int page_1_reads = 0;
  for (std::size_t i = 1; i < 4; ++i) {
    const Fault& fault = sink.delivered[i];
    page_2_reads += fault.page == 2 && !fault.write ? 1 : 0;
    page_2_writes += fault.page == 2 && fault.write ? 1 : 0;
    page_1_reads += fault.page == 1 && !fault.write ? 1 : 0;
  }
  EXPECT_EQ(page_2_reads, 1);
  EXPECT_EQ(page_2_writes, 1);
  EXPECT_EQ(page_1_reads, 1);
}

// More threads wait than one read brings: all of them are served.
TEST(FaultThread, more_faults_than_a_batch__none_is_lost) {
  constexpr std::size_t kThreads = kFaultBatchMax + 20;
  RegionMemory memory("test", kBase, kThreads * kPageBytes, KernelFaults::kAuto);
  RecordingSink sink(serve_from(memory));
  FaultThread thread(sink);
  std::vector<std::thread> touchers;
  std::vector<std::atomic<pid_t>> ids(kThreads);
  for (std::size_t i = 0; i < kThreads; ++i) {
    touchers.emplace_back([&, i] {
      ids[i].store(::gettid());
      store(memory.application_view(), i, kPattern + i);
    });
  }
  for (const std::atomic<pid_t>& id : ids) {
    while (id.load() == 0) std::this_thread::yield();
    wait_until_asleep(id.load());
  }
  thread.add(1, memory);
  for (std::thread& toucher : touchers) toucher.join();
  EXPECT_EQ(thread.counters().message_count, kThreads);
  EXPECT_GE(thread.counters().read_count, 2U);
  for (std::size_t i = 0; i < kThreads; ++i) EXPECT_EQ(load(memory.service_view(), i), kPattern + i);
  thread.remove(1);
}

// Threads touch pages at random while all pages are taken away again and again: nobody waits for ever.
TEST(FaultThread, pages_taken_away_under_many_threads__none_is_lost) {
  constexpr std::size_t kPages = 16;
  constexpr std::size_t kThreads = 4;
  constexpr std::uint32_t kTouches = 2000;
  ServedRegion region(kPages);
  std::atomic<std::size_t> done{0};
  std::vector<std::thread> touchers;
  for (std::size_t i = 0; i < kThreads; ++i) {
    touchers.emplace_back([&, i] {
      std::uint32_t random = static_cast<std::uint32_t>(i) + 1;
      for (std::uint32_t touch = 0; touch < kTouches; ++touch) {
        random = random * 1664525U + 1013904223U;
        volatile std::uint64_t* const own =
            word(region.memory.application_view(), (random >> 16) % kPages, i);
        *own = *own + 1;
      }
      done.fetch_add(1);
    });
  }
  // Different pages than the sink's at the same time would be the loop's way; here both may race on one,
  // which is harmless to the kernel, and every order of the two leaves a state that a fault can follow.
  std::size_t taken_count = 0;
  while (done.load() < kThreads) region.memory.zap(taken_count++ % kPages);
  for (std::thread& toucher : touchers) toucher.join();
  std::uint64_t sum = 0;
  for (std::size_t page = 0; page < kPages; ++page) {
    for (std::size_t i = 0; i < kThreads; ++i) sum += *word(region.memory.service_view(), page, i);
  }
  EXPECT_EQ(sum, kThreads * kTouches);
  EXPECT_GT(region.thread.counters().message_count, kPages);
}

TEST(FaultThread, guest__has_a_name_and_blocks_all_signals) {
  sigset_t only_usr2;
  sigset_t callers;
  sigset_t after;
  sigemptyset(&only_usr2);
  sigaddset(&only_usr2, SIGUSR2);
  ::pthread_sigmask(SIG_SETMASK, &only_usr2, &callers);
  const ServedRegion region(1);
  ::pthread_sigmask(SIG_SETMASK, &callers, &after);
  for (const int number : {SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGPROF}) {
    EXPECT_EQ(sigismember(&after, number), number == SIGUSR2 ? 1 : 0) << number;
  }
  const std::string blocked = status_line("pagewire-fault", "SigBlk");
  ASSERT_FALSE(blocked.empty()) << "no thread of that name";
  const std::uint64_t mask = std::stoull(blocked.substr(blocked.find('\t') + 1), nullptr, 16);
  for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCHLD, SIGPROF}) {
    EXPECT_NE(mask >> (number - 1) & 1, 0U) << number;
  }
}

TEST(FaultThread, destructor__ends_a_thread_with_nothing_to_do) {
  RecordingSink sink;
  { FaultThread thread(sink); }
  EXPECT_EQ(status_line("pagewire-fault", "SigBlk"), "");
}

}  // namespace
}  // namespace pagewire::fault::testing
