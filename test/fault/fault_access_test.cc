// Load or store, as AArch64's kernel tells it: records made by hand, the same on every processor.
#include "fault/fault_access.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

namespace pagewire::fault {
namespace {

class Records {
 public:
  Records& add(std::uint32_t magic, std::uint32_t size, std::uint64_t first = 0) {
    std::memcpy(bytes_.data() + end_, &magic, sizeof magic);
    std::memcpy(bytes_.data() + end_ + 4, &size, sizeof size);
    std::memcpy(bytes_.data() + end_ + 8, &first, sizeof first);
    end_ += size;
    return *this;
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::array<std::byte, 4096> bytes_{};
  std::size_t end_ = 0;
};

constexpr std::uint32_t kFpsimd = 0x4650'8001;
constexpr std::uint32_t kEsr = 0x4553'5201;
constexpr std::uint64_t kDataAbort = std::uint64_t{0x24} << 26;

TEST(EsrSaysStore, write_not_read__tells) {
  EXPECT_FALSE(esr_says_store(Records().add(kEsr, 16, kDataAbort | 0x07).bytes()));
  EXPECT_TRUE(esr_says_store(Records().add(kEsr, 16, kDataAbort | 0x47).bytes()));
}

TEST(EsrSaysStore, record_behind_another__is_found) {
  EXPECT_FALSE(esr_says_store(Records().add(kFpsimd, 528, 0x40).add(kEsr, 16, kDataAbort | 0x07).bytes()));
  EXPECT_TRUE(esr_says_store(Records().add(kFpsimd, 528).add(kEsr, 16, kDataAbort | 0x47).bytes()));
}

TEST(EsrSaysStore, cache_maintenance__is_no_store) {
  EXPECT_FALSE(esr_says_store(Records().add(kEsr, 16, kDataAbort | 0x147).bytes()));
}

TEST(EsrSaysStore, no_record_or_a_broken_one__is_taken_for_a_store) {
  EXPECT_TRUE(esr_says_store({}));
  EXPECT_TRUE(esr_says_store(Records().bytes()));
  EXPECT_TRUE(esr_says_store(Records().add(kFpsimd, 528).bytes()));
  EXPECT_TRUE(esr_says_store(Records().add(kFpsimd, 4096 + 8).bytes()));
}

}  // namespace
}  // namespace pagewire::fault
