// The end of a region: everybody comes out, by SIGBUS or EFAULT, and nobody ever reads a zero.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <thread>
#include <vector>

#include "fault/application_view.h"
#include "fault/descriptor.h"
#include "fault/region_memory.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {
namespace {

// A region with every word different from zero, and a fault thread that serves nobody.
class Retire : public ::testing::Test {
 protected:
  static constexpr std::size_t kPages = 4;

  Retire() : memory_(make()), thread_(sink_) { thread_.add(1, *memory_); }

  static std::unique_ptr<RegionMemory> make(std::size_t pages = kPages) {
    auto memory = std::make_unique<RegionMemory>("test", kBase, pages * kPageBytes, KernelFaults::kAuto);
    for (std::size_t page = 0; page < pages; ++page) store(memory->service_view(), page, kPattern);
    return memory;
  }
  void retire(bool threads_waiting) {
    thread_.remove(1);
    memory_->retire(threads_waiting);
  }

  SignalCatcher catcher_;
  RecordingSink sink_;
  std::unique_ptr<RegionMemory> memory_;
  FaultThread thread_;
};

TEST_F(Retire, thread_in_a_read_fault__gets_SIGBUS) {
  int raised = 0;
  std::uint64_t value = kPattern;
  std::thread reader([&] { raised = catcher_.try_load(word(memory_->application_view(), 2), &value); });
  sink_.wait_for(1);
  retire(false);
  reader.join();
  EXPECT_EQ(raised, SIGBUS);
  EXPECT_EQ(value, kPattern);
}

TEST_F(Retire, thread_in_a_write_fault__gets_SIGBUS) {
  int raised = 0;
  std::thread writer([&] { raised = catcher_.try_store(word(memory_->application_view(), 2), 1); });
  EXPECT_TRUE(sink_.wait_for(1)[0].write);
  retire(false);
  writer.join();
  EXPECT_EQ(raised, SIGBUS);
}

TEST_F(Retire, thread_in_a_write_protect_fault__gets_SIGBUS) {
  int raised = 0;
  memory_->map_read(2);
  std::thread writer([&] { raised = catcher_.try_store(word(memory_->application_view(), 2), 1); });
  EXPECT_TRUE(sink_.wait_for(1)[0].write);
  retire(false);
  writer.join();
  EXPECT_EQ(raised, SIGBUS);
}

TEST_F(Retire, thread_in_a_fault_after_a_zap_of_a_protected_page__gets_SIGBUS) {
  int raised = 0;
  std::uint64_t value = kPattern;
  memory_->map_read(2);
  memory_->zap(2);
  std::thread reader([&] { raised = catcher_.try_load(word(memory_->application_view(), 2), &value); });
  sink_.wait_for(1);
  retire(false);
  reader.join();
  EXPECT_EQ(raised, SIGBUS);
  EXPECT_EQ(value, kPattern);
}

TEST_F(Retire, thread_inside_read__gets_EFAULT) {
  if (!memory_->kernel_faults()) GTEST_SKIP() << "no right to serve faults inside system calls";
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Descriptor read_end(ends[0]);
  const Descriptor write_end(ends[1]);
  ASSERT_EQ(::write(write_end.get(), &kPattern, sizeof kPattern), static_cast<ssize_t>(sizeof kPattern));
  ssize_t got = 0;
  int error = 0;
  std::thread reader([&] {
    got = ::read(read_end.get(), memory_->application_view(), sizeof kPattern);
    error = errno;
  });
  sink_.wait_for(1);
  retire(false);
  reader.join();
  EXPECT_EQ(got, -1);
  EXPECT_EQ(error, EFAULT);
}

TEST_F(Retire, pages_in_every_state__give_SIGBUS_afterwards) {
  memory_->map_read(0);
  memory_->map_write(1);
  memory_->map_read(2);
  memory_->zap(2);
  retire(false);
  for (std::size_t page = 0; page < kPages; ++page) {
    std::uint64_t value = 0;
    EXPECT_EQ(catcher_.try_load(word(memory_->application_view(), page), &value), SIGBUS) << page;
    EXPECT_EQ(catcher_.try_store(word(memory_->application_view(), page), 1), SIGBUS) << page;
    EXPECT_EQ(catcher_.try_load(word(memory_->service_view(), page), &value), SIGBUS) << page;
  }
  EXPECT_EQ(memory_->userfaultfd(), -1);
  memory_->retire(true);  // a second call does nothing
  memory_.reset();
  EXPECT_EQ(tombstone_bytes(), 0U);
}

TEST_F(Retire, threads_waiting__range_is_kept_past_the_object) {
  retire(true);
  memory_.reset();
  std::uint64_t value = 0;
  EXPECT_EQ(catcher_.try_load(word(reinterpret_cast<std::byte*>(kBase), 3), &value), SIGBUS);
  EXPECT_EQ(tombstone_bytes(), kPages * kPageBytes);
  memory_ = make();
  EXPECT_EQ(tombstone_bytes(), 0U);
}

// The destructor alone: the waiting thread meets SIGBUS, or SIGSEGV if it runs only when the range is gone.
TEST_F(Retire, destructor__lets_waiting_threads_out) {
  int raised = 0;
  volatile std::uint64_t* const address = word(memory_->application_view(), 2);
  std::uint64_t value = kPattern;
  std::thread reader([&] { raised = catcher_.try_load(address, &value); });
  sink_.wait_for(1);
  thread_.remove(1);
  memory_.reset();
  reader.join();
  EXPECT_TRUE(raised == SIGBUS || raised == SIGSEGV) << raised;
  EXPECT_EQ(value, kPattern);
}

// A forked child has the descriptors too, so closing them here releases nothing.
TEST_F(Retire, forked_child_alive__changes_nothing) {
  if (kThreadSanitizer) GTEST_SKIP() << "TSan does not let a process with threads fork";
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Descriptor read_end(ends[0]);
  Descriptor write_end(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {  // lives until the other end is closed
    write_end.reset();
    char nothing = 0;
    ::_exit(static_cast<int>(::read(read_end.get(), &nothing, 1)));
  }
  int raised = 0;
  std::uint64_t value = kPattern;
  std::thread reader([&] { raised = catcher_.try_load(word(memory_->application_view(), 2), &value); });
  sink_.wait_for(1);
  retire(false);
  reader.join();
  EXPECT_EQ(raised, SIGBUS);
  EXPECT_EQ(value, kPattern);
  write_end.reset();
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status_text(status), "exit 0");
}

// Retired at any moment, under threads that fault, read and write all the time: all come out and none sees a
// zero.
TEST(RetireRace, threads_at_work__all_come_out_and_none_reads_a_zero) {
  constexpr std::size_t kPages = 8;
  constexpr int kRounds = 400;
  SignalCatcher catcher;
  std::atomic<std::uint64_t> zero_count{0};
  std::uint64_t load_count = 0;
  for (int round = 0; round < kRounds; ++round) {
    RegionMemory memory("test", kBase, kPages * kPageBytes, KernelFaults::kAuto);
    const Descriptor kept(
        ::dup(memory.userfaultfd()));  // as a forked child would: closing must not be what helps
    for (std::size_t page = 0; page < kPages; ++page) store(memory.service_view(), page, kPattern);
    std::atomic<std::uint64_t> loads{0};
    const auto work = [&](std::size_t first_page) {
      for (std::size_t page = first_page;; page = (page + 1) % kPages) {
        std::uint64_t value = 0;
        if (catcher.try_load(word(memory.application_view(), page), &value) != 0) return;
        if (value == 0) zero_count.fetch_add(1);
        loads.fetch_add(1, std::memory_order_relaxed);
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
    first.join();
    second.join();
    load_count += loads.load();
  }
  EXPECT_EQ(zero_count.load(), 0U);
  EXPECT_GT(load_count, 0U);
}

}  // namespace
}  // namespace pagewire::fault::testing
