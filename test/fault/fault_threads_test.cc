// A fault thread for each core that faults come from: where they are, that all of them serve all regions, and
// that they end.
#include "fault/fault_threads.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fault/region_memory.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {
namespace {

constexpr std::uintptr_t kSecondBase = kBase + 0x100'0000;
constexpr std::size_t kPages = 64;

// Of the process, as it was started.
const std::vector<int>& allowed_cores() {
  static const std::vector<int> allowed = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    ::sched_getaffinity(::getpid(), sizeof(set), &set);
    std::vector<int> cores;
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(static_cast<std::size_t>(core), &set)) cores.push_back(core);
    }
    return cores;
  }();
  return allowed;
}

void move_to_core(int core) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(core), &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
}

// The calling thread is where it was before when this goes.
class OwnAffinity {
 public:
  OwnAffinity() {
    allowed_cores();  // before they are fewer
    ::sched_getaffinity(0, sizeof(before_), &before_);
  }
  ~OwnAffinity() { ::sched_setaffinity(0, sizeof(before_), &before_); }
  OwnAffinity(const OwnAffinity&) = delete;
  OwnAffinity& operator=(const OwnAffinity&) = delete;

 private:
  cpu_set_t before_{};
};

// The core of each fault thread of this process: -1 for one that may be anywhere.
std::vector<int> cores_of_fault_threads() {
  std::vector<int> cores;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream comm(task.path() / "comm");
    std::string name;
    std::getline(comm, name);
    if (name != "pagewire-fault") continue;
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    ::sched_getaffinity(std::stoi(task.path().filename()), sizeof(allowed), &allowed);
    int core = -1;
    for (const int one : allowed_cores()) {
      if (CPU_COUNT(&allowed) == 1 && CPU_ISSET(static_cast<std::size_t>(one), &allowed)) core = one;
    }
    cores.push_back(core);
  }
  std::ranges::sort(cores);
  return cores;
}

template <typename Holds>
bool eventually(const Holds& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    ::sched_yield();
  }
  return true;
}

// Two regions, served by whichever fault thread comes; counts faults.
class ServedTwice : public ::testing::Test {
 protected:
  std::byte* view(int region) { return (region == 1 ? first_ : second_).application_view(); }
  // A fault of the calling thread for each page of a region, on pages that are gone before.
  void fault_everywhere(int region) {
    RegionMemory& memory = region == 1 ? first_ : second_;
    memory.zap(0, kPages);
    for (std::size_t page = 0; page < kPages; ++page) {
      store(memory.application_view(), page, load(memory.application_view(), page) + 1);
    }
  }

  RegionMemory first_{"first", kBase, kPages* kPageBytes, KernelFaults::kAuto};
  RegionMemory second_{"second", kSecondBase, kPages* kPageBytes, KernelFaults::kAuto};
  RecordingSink sink_{[this](const Fault& fault) {
    RegionMemory& memory = fault.region == 1 ? first_ : second_;
    if (fault.write) {
      memory.map_write(fault.page);
    } else {
      memory.map_read(fault.page);
    }
  }};
};

TEST(CoreOfThread, is_where_the_thread_is) {
  const OwnAffinity restored;
  for (const int core : allowed_cores()) {
    move_to_core(core);
    EXPECT_EQ(core_of_thread(static_cast<std::uint32_t>(::gettid())), core);
    int seen_by_it = -2;
    std::thread other([&] { seen_by_it = core_of_thread(static_cast<std::uint32_t>(::gettid())); });
    other.join();
    EXPECT_EQ(seen_by_it, core);
  }
}

TEST(CoreOfThread, whatever_the_thread_is_called) {
  const OwnAffinity restored;
  const int core = allowed_cores().back();
  move_to_core(core);
  for (const char* name : {"a) S 1 2", ")))))", "", "1 2 3 4 5 6 7 8"}) {
    int seen = -2;
    std::thread named([&] {
      ::prctl(PR_SET_NAME, name);
      seen = core_of_thread(static_cast<std::uint32_t>(::gettid()));
    });
    named.join();
    EXPECT_EQ(seen, core) << "\"" << name << "\"";
  }
}

TEST(CoreOfThread, minus_one_for_a_thread_that_has_ended) {
  std::atomic<pid_t> id{0};
  std::thread ended([&] { id.store(::gettid()); });
  ended.join();
  EXPECT_TRUE(eventually([&] { return core_of_thread(static_cast<std::uint32_t>(id.load())) == -1; }));
}

TEST_F(ServedTwice, it_starts_with_one_that_floats) {
  const FaultThreads threads(sink_);
  EXPECT_EQ(threads.thread_count(), 1U);
  ASSERT_TRUE(eventually([] { return cores_of_fault_threads().size() == 1; }));
  if (allowed_cores().size() > 1) {
    EXPECT_EQ(cores_of_fault_threads(), std::vector<int>{-1});
  }
}

TEST_F(ServedTwice, one_for_each_core_that_faults__the_first_settles) {
  const OwnAffinity restored;
  const std::vector<int> cores = allowed_cores();
  if (cores.size() < 2) GTEST_SKIP() << "needs two processors";
  FaultThreads threads(sink_);
  threads.add(1, first_);
  threads.add(2, second_);
  std::vector<int> expected;
  for (const int core : {cores[0], cores[1]}) {
    move_to_core(core);
    expected.push_back(core);
    EXPECT_TRUE(eventually([&] {
      fault_everywhere(1);
      return cores_of_fault_threads() == expected;
    })) << "core "
        << core;
    for (int i = 0; i < 20; ++i) fault_everywhere(i % 2 + 1);
    EXPECT_EQ(threads.thread_count(), expected.size()) << "one a core is enough";
  }
  threads.remove(1);
  threads.remove(2);
}

// Regions that are added later are served by all of them, and what is removed by none.
TEST_F(ServedTwice, regions__come_and_go_with_several_threads) {
  const OwnAffinity restored;
  FaultThreads threads(sink_);
  threads.add(1, first_);
  for (const int core : allowed_cores()) {
    move_to_core(core);
    EXPECT_TRUE(eventually([&] {
      fault_everywhere(1);
      const std::vector<int> settled = cores_of_fault_threads();
      return std::ranges::find(settled, core) != settled.end() ||
             threads.thread_count() == FaultThreads::kThreadsMax;
    }));
    if (threads.thread_count() == FaultThreads::kThreadsMax) break;
  }
  threads.add(2, second_);
  for (int i = 0; i < 10; ++i) fault_everywhere(2);
  EXPECT_EQ(*word(second_.service_view(), 0), 10U);
  threads.remove(1);
  sink_.take();
  first_.zap(0, kPages);
  std::atomic<bool> served{false};
  std::thread waits([&] {
    store(first_.application_view(), 3, kPattern);  // waits in the kernel until the region is there again
    served.store(true);
  });
  for (int i = 0; i < 10; ++i) fault_everywhere(2);
  EXPECT_FALSE(served.load());
  for (const Fault& fault : sink_.take()) EXPECT_EQ(fault.region, 2U) << "a removed region's fault came";
  threads.add(1, first_);
  waits.join();
  EXPECT_EQ(*word(first_.service_view(), 3), kPattern);
  threads.remove(1);
  threads.remove(2);
}

// All of them are woken by each fault, and read it at the same time: none is lost, and what is counted adds
// up.
TEST_F(ServedTwice, many_threads_on_all_cores__no_fault_is_lost) {
  constexpr std::size_t kThreads = 6;
  constexpr std::uint64_t kRounds = 300;
  FaultThreads threads(sink_);
  threads.add(1, first_);
  threads.add(2, second_);
  const std::vector<int> cores = allowed_cores();
  std::vector<std::thread> touching;
  for (std::size_t i = 0; i < kThreads; ++i) {
    touching.emplace_back([&, i] {
      move_to_core(cores[i % cores.size()]);
      RegionMemory& memory = i % 2 == 0 ? first_ : second_;
      for (std::uint64_t round = 0; round < kRounds; ++round) {
        for (std::size_t page = i / 2; page < kPages; page += kThreads / 2) {  // its own pages
          memory.zap(page);
          store(memory.application_view(), page, load(memory.application_view(), page) + 1);
        }
      }
    });
  }
  for (std::thread& one : touching) one.join();
  for (std::size_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(*word(first_.service_view(), page), kRounds) << page;
    EXPECT_EQ(*word(second_.service_view(), page), kRounds) << page;
  }
  const FaultThread::Counters counters = threads.counters();
  EXPECT_GE(counters.message_count, 2 * 2 * kPages * kRounds);  // a load's and a store's fault each
  EXPECT_EQ(counters.message_count - counters.duplicate_count, sink_.take().size());
  EXPECT_LE(threads.thread_count(), cores.size());
  threads.remove(1);
  threads.remove(2);
}

TEST_F(ServedTwice, destructor__ends_them_all_also_while_faults_come) {
  const OwnAffinity restored;
  for (int round = 0; round < 10; ++round) {
    std::optional<FaultThreads> threads(std::in_place, sink_);
    threads->add(1, first_);
    std::atomic<bool> stop{false};
    std::vector<std::thread> touching;
    for (const int core : allowed_cores()) {
      touching.emplace_back([&, core] {
        move_to_core(core);
        for (std::size_t page = static_cast<std::size_t>(core) % kPages; !stop.load();
             page = (page + allowed_cores().size()) % kPages) {
          first_.zap(page);
          store(first_.application_view(), page, 1);
        }
      });
    }
    EXPECT_TRUE(eventually([&] { return threads->counters().message_count > 500; }));
    stop.store(true);  // those that still wait are served before the region is taken out
    for (std::thread& one : touching) one.join();
    threads->remove(1);
    threads.reset();
    EXPECT_TRUE(cores_of_fault_threads().empty());
  }
}

}  // namespace
}  // namespace pagewire::fault::testing
