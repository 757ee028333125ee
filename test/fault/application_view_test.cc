// Claiming a place in the address space, and what is left of it.
#include "fault/application_view.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <memory>
#include <string>

#include "fault/region_memory.h"
#include "fault/setup_error.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {
namespace {

std::unique_ptr<RegionMemory> make_region(std::size_t first_page, std::size_t pages) {
  return std::make_unique<RegionMemory>("test", kBase + first_page * kPageBytes, pages * kPageBytes,
                                        KernelFaults::kAuto);
}

void leave_tombstone(std::size_t first_page, std::size_t pages) {
  make_region(first_page, pages)->retire(true);
}

// What an access to a page meets: 0 for the region's own value, else the signal.
int signal_at(std::size_t page) {
  SignalCatcher catcher;
  std::uint64_t value = 0;
  return catcher.try_load(word(reinterpret_cast<std::byte*>(kBase), page), &value);
}

// A mapping of somebody else's.
class Obstacle {
 public:
  Obstacle(std::size_t page, std::size_t pages) : bytes_(pages * kPageBytes) {
    data_ = ::mmap(reinterpret_cast<void*>(kBase + page * kPageBytes), bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  }
  ~Obstacle() { ::munmap(data_, bytes_); }
  Obstacle(const Obstacle&) = delete;
  Obstacle& operator=(const Obstacle&) = delete;
  volatile std::uint64_t* data() const { return static_cast<volatile std::uint64_t*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

TEST(ApplicationView, address_taken__names_what_is_there_and_leaves_it) {
  const Obstacle obstacle(2, 1);
  *obstacle.data() = kPattern;
  try {
    make_region(0, 4);
    FAIL() << "it replaced a mapping";
  } catch (const SetupError& error) {
    EXPECT_NE(error.what_failed().find("region 'test' at 0x"), std::string::npos) << error.what();
    char range[64];
    std::snprintf(range, sizeof range, "%lx-%lx rw-p", kBase + 2 * kPageBytes, kBase + 3 * kPageBytes);
    EXPECT_NE(error.seen().find(range), std::string::npos) << error.what();
    EXPECT_NE(error.remedy().find("another region base address"), std::string::npos) << error.what();
  }
  EXPECT_EQ(*obstacle.data(), kPattern);
  EXPECT_EQ(signal_at(0), SIGSEGV);
}

TEST(ApplicationView, address_out_of_the_address_space__is_refused) {
  if (kThreadSanitizer)
    GTEST_SKIP() << "TSan's own mmap dies of an address that it does not give to programs";
  EXPECT_THROW(RegionMemory("test", std::uintptr_t{1} << 60, kPageBytes, KernelFaults::kAuto), SetupError);
}

TEST(ApplicationView, two_regions_at_one_place__second_is_refused) {
  const auto first = make_region(0, 4);
  first->map_write(3);
  EXPECT_THROW(make_region(3, 4), SetupError);
  store(first->application_view(), 3, kPattern);
  EXPECT_EQ(load(first->service_view(), 3), kPattern);
}

TEST(ApplicationView, tombstone__answers_with_SIGBUS_until_a_region_takes_it_over) {
  leave_tombstone(0, 4);
  EXPECT_EQ(tombstone_bytes(), 4 * kPageBytes);
  EXPECT_EQ(signal_at(0), SIGBUS);
  EXPECT_EQ(signal_at(3), SIGBUS);
  {
    const auto region = make_region(0, 4);
    EXPECT_EQ(tombstone_bytes(), 0U);
    region->map_write(3);
    EXPECT_EQ(signal_at(3), 0);
  }
  EXPECT_EQ(signal_at(3), SIGSEGV);
}

TEST(ApplicationView, tombstone_and_obstacle__refused_and_the_tombstone_stays) {
  leave_tombstone(1, 2);
  {
    const Obstacle obstacle(4, 1);
    EXPECT_THROW(make_region(0, 6), SetupError);
    EXPECT_EQ(tombstone_bytes(), 2 * kPageBytes);
    EXPECT_EQ(signal_at(0), SIGSEGV);
    EXPECT_EQ(signal_at(1), SIGBUS);
    EXPECT_EQ(signal_at(3), SIGSEGV);
  }
  make_region(0, 6);
  EXPECT_EQ(tombstone_bytes(), 0U);
}

TEST(ApplicationView, tombstones__taken_over_in_part_and_several_at_once) {
  leave_tombstone(0, 4);
  leave_tombstone(6, 2);
  EXPECT_EQ(tombstone_bytes(), 6 * kPageBytes);
  {
    const auto region = make_region(2, 5);
    EXPECT_EQ(tombstone_bytes(), 3 * kPageBytes);
    region->map_write(0, 5);
    EXPECT_EQ(signal_at(1), SIGBUS);
    EXPECT_EQ(signal_at(2), 0);
    EXPECT_EQ(signal_at(6), 0);
    EXPECT_EQ(signal_at(7), SIGBUS);
  }
  EXPECT_EQ(signal_at(2), SIGSEGV);
  {
    const auto inside = make_region(1, 1);
    EXPECT_EQ(tombstone_bytes(), 2 * kPageBytes);
  }
  make_region(0, 8);
  EXPECT_EQ(tombstone_bytes(), 0U);
}

TEST(ApplicationView, tombstone_cut_in_the_middle__keeps_both_ends) {
  leave_tombstone(0, 5);
  make_region(2, 1);
  EXPECT_EQ(tombstone_bytes(), 4 * kPageBytes);
  EXPECT_EQ(signal_at(1), SIGBUS);
  EXPECT_EQ(signal_at(2), SIGSEGV);
  EXPECT_EQ(signal_at(3), SIGBUS);
  make_region(0, 5);
  EXPECT_EQ(tombstone_bytes(), 0U);
}

TEST(ApplicationView, forked_child__has_no_tombstones) {
  leave_tombstone(0, 2);
  const int status = run_in_child([] {
    if (tombstone_bytes() != 0) return 1;
    const Obstacle obstacle(0, 1);  // the address is free here, and somebody takes it
    *obstacle.data() = kPattern;
    try {
      make_region(0, 2);
    } catch (const SetupError&) {
      return *obstacle.data() == kPattern ? 0 : 2;
    }
    return 3;
  });
  EXPECT_EQ(status_text(status), "exit 0");
  EXPECT_EQ(tombstone_bytes(), 2 * kPageBytes);
  make_region(0, 2);
  EXPECT_EQ(tombstone_bytes(), 0U);
}

}  // namespace
}  // namespace pagewire::fault::testing
