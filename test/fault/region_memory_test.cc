// The two views, and what every operation makes of every state of a page.
#include "fault/region_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <ostream>
#include <thread>
#include <vector>

#include "fault/descriptor.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {
namespace {

enum class PageState { kInvalid, kRead, kWrite };

std::ostream& operator<<(std::ostream& out, PageState state) {
  return out << std::array{"Invalid", "Read", "Write"}[static_cast<std::size_t>(state)];
}

// Finds a page's state by what faults; it is Read or Write after that.
PageState observe(ServedRegion& region, std::size_t page) {
  std::byte* const view = region.memory.application_view();
  region.sink.take();
  const std::uint64_t value = load(view, page);
  const std::vector<Fault> of_load = region.sink.take();
  if (!of_load.empty()) {
    EXPECT_EQ(of_load.size(), 1U);
    EXPECT_EQ(of_load[0].page, page);
    EXPECT_FALSE(of_load[0].write);
    return PageState::kInvalid;
  }
  store(view, page, value);
  const std::vector<Fault> of_store = region.sink.take();
  if (of_store.empty()) return PageState::kWrite;
  EXPECT_EQ(of_store.size(), 1U);
  EXPECT_EQ(of_store[0].page, page);
  EXPECT_TRUE(of_store[0].write);
  return PageState::kRead;
}

struct Step {
  const char* name;
  void (*call)(RegionMemory&, std::size_t page);
};
constexpr Step kMapRead{"map_read", [](RegionMemory& memory, std::size_t page) { memory.map_read(page); }};
constexpr Step kMapWrite{"map_write", [](RegionMemory& memory, std::size_t page) { memory.map_write(page); }};
constexpr Step kUnprotect{"unprotect",
                          [](RegionMemory& memory, std::size_t page) { memory.unprotect(page); }};
constexpr Step kProtect{"protect", [](RegionMemory& memory, std::size_t page) { memory.protect(page); }};
constexpr Step kZap{"zap", [](RegionMemory& memory, std::size_t page) { memory.zap(page); }};

struct Way {  // to a state
  std::vector<Step> steps;
  PageState state;
};

std::vector<Way> ways_to_all_states() {
  return {
      {{}, PageState::kInvalid},
      {{kMapWrite, kZap}, PageState::kInvalid},
      {{kMapRead, kZap}, PageState::kInvalid},             // leaves a write-protect marker in the page table
      {{kMapWrite, kProtect, kZap}, PageState::kInvalid},  // so does this
      {{kProtect}, PageState::kInvalid},                   // and this
      {{kMapRead, kZap, kUnprotect}, PageState::kInvalid},
      {{kMapRead}, PageState::kRead},
      {{kMapRead, kZap, kMapRead}, PageState::kRead},
      {{kMapWrite, kZap, kMapRead}, PageState::kRead},
      {{kMapWrite, kProtect}, PageState::kRead},
      {{kMapWrite}, PageState::kWrite},
      {{kMapRead, kUnprotect}, PageState::kWrite},
      {{kMapRead, kZap, kMapWrite}, PageState::kWrite},
      {{kMapWrite, kProtect, kZap, kMapWrite}, PageState::kWrite},
      {{kMapWrite, kProtect, kUnprotect}, PageState::kWrite},
  };
}

std::string text(const std::vector<Step>& steps) {
  return std::accumulate(steps.begin(), steps.end(), std::string("fresh"),
                         [](std::string all, const Step& step) { return std::move(all) + ", " + step.name; });
}

TEST(RegionMemory, views__are_one_memory) {
  RegionMemory memory("test", kBase, 16 * kPageBytes, KernelFaults::kAuto);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.application_view()), kBase);
  EXPECT_EQ(memory.bytes(), 16 * kPageBytes);
  EXPECT_EQ(memory.page_count(), 16U);
  EXPECT_GE(memory.userfaultfd(), 0);
  for (std::size_t page = 0; page < 16; ++page) {
    ASSERT_EQ(load(memory.service_view(), page), 0U);
    store(memory.service_view(), page, kPattern + page);
  }
  memory.map_write(0, 16);
  for (std::size_t page = 0; page < 16; ++page) {
    ASSERT_EQ(load(memory.application_view(), page), kPattern + page);
    store(memory.application_view(), page, page);
    ASSERT_EQ(load(memory.service_view(), page), page);
  }
}

TEST(RegionMemory, states__every_operation_from_every_state) {
  const std::vector<Way> ways = ways_to_all_states();
  ServedRegion region(1 + ways.size() * 6);
  std::size_t page = 0;  // a fresh one for each line
  const auto arrive = [&](const Way& way) {
    ++page;
    store(region.memory.service_view(), page, kPattern);
    for (const Step& step : way.steps) step.call(region.memory, page);
  };
  const auto expect_after = [&](const Way& way, Step step, PageState after) {
    arrive(way);
    step.call(region.memory, page);
    EXPECT_EQ(observe(region, page), after) << text(way.steps) << ", then " << step.name;
    EXPECT_EQ(load(region.memory.service_view(), page), kPattern)
        << text(way.steps) << ", then " << step.name;
  };
  for (const Way& way : ways) {
    arrive(way);
    EXPECT_EQ(observe(region, page), way.state) << text(way.steps);
    const bool mapped = way.state != PageState::kInvalid;
    expect_after(way, kMapRead, PageState::kRead);
    expect_after(way, kMapWrite, PageState::kWrite);
    expect_after(way, kUnprotect, mapped ? PageState::kWrite : PageState::kInvalid);
    expect_after(way, kProtect, mapped ? PageState::kRead : PageState::kInvalid);
    expect_after(way, kZap, PageState::kInvalid);
  }
}

TEST(RegionMemory, map_write__range_of_mixed_states) {
  ServedRegion region(8);
  region.memory.map_read(2);
  region.memory.map_write(3);
  region.memory.map_read(6);
  region.memory.zap(6);
  region.memory.map_write(0, 8);
  for (std::size_t page = 0; page < 8; ++page) EXPECT_EQ(observe(region, page), PageState::kWrite) << page;
}

TEST(RegionMemory, map_read__range_of_mixed_states_ends_at_its_end) {
  ServedRegion region(8);
  region.memory.map_write(1);
  region.memory.map_read(4);
  region.memory.map_read(1, 5);
  for (std::size_t page = 1; page < 6; ++page) EXPECT_EQ(observe(region, page), PageState::kRead) << page;
  EXPECT_EQ(observe(region, 0), PageState::kInvalid);
  EXPECT_EQ(observe(region, 6), PageState::kInvalid);
}

TEST(RegionMemory, zap__keeps_the_bytes_in_the_service_view) {
  ServedRegion region(3);
  region.memory.map_write(0, 3);
  store(region.memory.application_view(), 1, kPattern);
  region.memory.zap(0, 3);
  EXPECT_EQ(load(region.memory.service_view(), 1), kPattern);
  store(region.memory.service_view(), 1, kPattern + 1);
  EXPECT_EQ(load(region.memory.application_view(), 1), kPattern + 1);
}

TEST(RegionMemory, counts_of_zero__do_nothing) {
  ServedRegion region(1);
  region.memory.map_write(1, 0);
  region.memory.map_read(0, 0);
  region.memory.protect(0, 0);
  region.memory.unprotect(0, 0);
  region.memory.zap(0, 0);
  region.memory.wake(0, 0);
  EXPECT_EQ(observe(region, 0), PageState::kInvalid);
}

// A thread that waits to write to a Read page; mapping the page for reading once more finds it mapped
// (EEXIST) and must wake the thread all the same, which then faults again.
TEST(RegionMemory, map_read__wakes_who_waits_on_a_mapped_page) {
  ServedRegion region(1, false);
  region.memory.map_read(0);
  std::thread writer([&] { store(region.memory.application_view(), 0, kPattern); });
  EXPECT_TRUE(region.sink.wait_for(1)[0].write);
  region.memory.map_read(0);
  EXPECT_TRUE(region.sink.wait_for(2)[1].write);
  region.memory.map_write(0);
  writer.join();
  EXPECT_EQ(load(region.memory.service_view(), 0), kPattern);
}

TEST(RegionMemory, wake__lets_a_thread_fault_again) {
  ServedRegion region(2, false);
  std::uint64_t seen = 0;
  store(region.memory.service_view(), 1, kPattern);
  std::thread reader([&] { seen = load(region.memory.application_view(), 1); });
  region.sink.wait_for(1);
  region.memory.wake(1);
  EXPECT_FALSE(region.sink.wait_for(2)[1].write);
  region.memory.map_read(1);
  reader.join();
  EXPECT_EQ(seen, kPattern);
}

// A thread that waits to write sleeps through a zap; mapping the page writable then lets it go on.
TEST(RegionMemory, map_write__after_zap_under_a_waiting_writer) {
  ServedRegion region(1, false);
  region.memory.map_read(0);
  std::thread writer([&] { store(region.memory.application_view(), 0, kPattern); });
  region.sink.wait_for(1);
  region.memory.zap(0);
  store(region.memory.service_view(), 0, 1);
  region.memory.map_write(0);
  writer.join();
  EXPECT_EQ(load(region.memory.service_view(), 0), kPattern);
}

// Who maps may wake later: until then the thread waits on, though the page is there for others.
TEST(RegionMemory, waking_later__leaves_the_thread_waiting_until_wake) {
  using Waking = RegionMemory::Waking;
  for (const bool write : {false, true}) {
    ServedRegion region(1, false);
    std::atomic<bool> done{false};
    std::atomic<pid_t> thread_id{0};
    if (write) region.memory.map_read(0);
    std::thread waits([&] {
      thread_id.store(::gettid());
      if (write) {
        store(region.memory.application_view(), 0, kPattern);
      } else {
        load(region.memory.application_view(), 0);
      }
      done.store(true);
    });
    region.sink.wait_for(1);
    if (write) {
      region.memory.unprotect(0, 1, Waking::kLater);
      store(region.memory.application_view(), 0, 1);  // this thread need not wait
    } else {
      region.memory.map_read(0, 1, Waking::kLater);
      EXPECT_EQ(load(region.memory.application_view(), 0), 0U);
    }
    wait_until_asleep(thread_id.load());  // had it been woken, it would run to its end
    EXPECT_FALSE(done.load());
    region.memory.wake(0);
    waits.join();
    EXPECT_EQ(load(region.memory.service_view(), 0), write ? kPattern : 0U);
  }
}

TEST(RegionMemory, hole_in_the_memfd__faults_and_is_filled) {
  ServedRegion region(3);
  store(region.memory.service_view(), 1, kPattern);
  ASSERT_EQ(::madvise(region.memory.service_view(), 3 * kPageBytes, MADV_REMOVE), 0);
  EXPECT_EQ(load(region.memory.application_view(), 1), 0U);
  const std::vector<Fault> faults = region.sink.take();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_EQ(faults[0].page, 1U);
  region.memory.map_write(0, 3);
  store(region.memory.application_view(), 2, kPattern);
  EXPECT_EQ(load(region.memory.service_view(), 2), kPattern);
}

class SystemCalls : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!probe_support().kernel_faults) GTEST_SKIP() << "no right to serve faults inside system calls";
    ASSERT_EQ(::pipe2(ends_.data(), O_CLOEXEC), 0);
    read_end_ = Descriptor(ends_[0]);
    write_end_ = Descriptor(ends_[1]);
  }
  std::array<int, 2> ends_{-1, -1};
  Descriptor read_end_;
  Descriptor write_end_;
};

TEST_F(SystemCalls, read__into_absent_pages) {
  ServedRegion region(4, true, KernelFaults::kRequired);
  std::vector<char> sent(2 * kPageBytes, 'x');
  ASSERT_EQ(::write(write_end_.get(), sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
  const ssize_t got = ::read(read_end_.get(), region.memory.application_view() + kPageBytes, sent.size());
  ASSERT_EQ(got, static_cast<ssize_t>(sent.size())) << std::strerror(errno);
  EXPECT_EQ(std::memcmp(region.memory.service_view() + kPageBytes, sent.data(), sent.size()), 0);
  EXPECT_EQ(load(region.memory.service_view(), 3), 0U);
  const std::vector<Fault> faults = region.sink.take();
  ASSERT_EQ(faults.size(), 2U);
  EXPECT_TRUE(faults[0].write && faults[1].write);
}

TEST_F(SystemCalls, read__into_a_protected_page) {
  ServedRegion region(1, true, KernelFaults::kRequired);
  region.memory.map_read(0);
  ASSERT_EQ(::write(write_end_.get(), &kPattern, sizeof kPattern), static_cast<ssize_t>(sizeof kPattern));
  ASSERT_EQ(::read(read_end_.get(), region.memory.application_view(), sizeof kPattern),
            static_cast<ssize_t>(sizeof kPattern));
  EXPECT_EQ(load(region.memory.service_view(), 0), kPattern);
  const std::vector<Fault> faults = region.sink.take();
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_TRUE(faults[0].write);
}

TEST_F(SystemCalls, write__from_absent_pages) {
  ServedRegion region(2, true, KernelFaults::kRequired);
  std::memset(region.memory.service_view(), 'y', 2 * kPageBytes);
  ASSERT_EQ(::write(write_end_.get(), region.memory.application_view(), 2 * kPageBytes),
            static_cast<ssize_t>(2 * kPageBytes));
  std::vector<char> got(2 * kPageBytes);
  ASSERT_EQ(::read(read_end_.get(), got.data(), got.size()), static_cast<ssize_t>(got.size()));
  EXPECT_EQ(got, std::vector<char>(2 * kPageBytes, 'y'));
  for (const Fault& fault : region.sink.take()) EXPECT_FALSE(fault.write);
}

TEST_F(SystemCalls, read__gives_EFAULT_with_user_mode_faults_alone) {
  ServedRegion region(2, true, KernelFaults::kOff);
  EXPECT_FALSE(region.memory.kernel_faults());
  ASSERT_EQ(::write(write_end_.get(), &kPattern, sizeof kPattern), static_cast<ssize_t>(sizeof kPattern));
  EXPECT_EQ(::read(read_end_.get(), region.memory.application_view(), sizeof kPattern), -1);
  EXPECT_EQ(errno, EFAULT);
  store(region.memory.application_view(), 1, kPattern);  // the code's own faults are served
  EXPECT_EQ(load(region.memory.service_view(), 1), kPattern);
}

using RegionMemoryDeathTest = ::testing::Test;

TEST(RegionMemoryDeathTest, pages_outside__abort_and_say_which) {
  RegionMemory memory("test", kBase, 4 * kPageBytes, KernelFaults::kAuto);
  EXPECT_EXIT(std::exit(WTERMSIG(run_in_child([&] {
                memory.map_read(2, 3);
                return 0;
              }))),
              ::testing::ExitedWithCode(SIGABRT),
              "map_read of page 2, 3 pages.*with 4 pages.*outside the region");
}

}  // namespace
}  // namespace pagewire::fault::testing
