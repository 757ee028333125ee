// Fragments in any order, doubled and mixed with those of other messages: a page is whole or it is not there.
#include "dataplane/reassembly.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace pagewire::dataplane {
namespace {

using protocol::Header;
using protocol::kFragmentUnitBytes;
using protocol::kPageBytes;
using protocol::Message;
using protocol::MessageType;
using protocol::NodeId;
using protocol::PageId;
using protocol::Transaction;
using protocol::Version;

// One page on its way: a message of its own and bytes of its own.
struct Travelling {
  Header header;
  Message message;
  std::vector<std::byte> bytes;
};

Travelling travelling(std::uint64_t number) {
  Travelling page;
  page.header.boot_id = 77;
  page.header.sender = NodeId{1};
  page.header.page = PageId{.region = 2, .index = static_cast<std::uint32_t>(number)};
  page.message.type = MessageType::kCopyReply;
  page.message.from = NodeId{1};
  page.message.has_bytes = true;
  page.message.transaction = Transaction{number + 100};
  page.message.version = Version{5};
  page.bytes.resize(kPageBytes);
  std::mt19937_64 random(number + 1);
  for (std::byte& byte : page.bytes) byte = static_cast<std::byte>(random());
  return page;
}

std::span<const std::byte> add(Reassembly& reassembly, const Travelling& page, std::size_t offset,
                               std::size_t bytes) {
  Header header = page.header;
  header.fragment_offset = static_cast<std::uint16_t>(offset);
  header.fragment_bytes = static_cast<std::uint16_t>(bytes);
  return reassembly.add(header, page.message, std::span(page.bytes).subspan(offset, bytes));
}

bool equal(std::span<const std::byte> whole, const Travelling& page) {
  return whole.size() == kPageBytes && std::memcmp(whole.data(), page.bytes.data(), kPageBytes) == 0;
}

// The cuts of a frame size as loop_send makes them.
std::vector<std::pair<std::size_t, std::size_t>> cuts(std::size_t step) {
  std::vector<std::pair<std::size_t, std::size_t>> all;
  for (std::size_t at = 0; at < kPageBytes; at += step) all.emplace_back(at, std::min(step, kPageBytes - at));
  return all;
}

TEST(Reassembly, add__a_page_in_one_frame_is_not_copied) {
  Reassembly reassembly(1);
  const Travelling page = travelling(1);
  EXPECT_EQ(add(reassembly, page, 0, kPageBytes).data(), page.bytes.data());
  EXPECT_EQ(reassembly.evicted_count(), 0U);
}

TEST(Reassembly, add__every_frame_size_in_order_and_backwards) {
  Reassembly reassembly(2);
  for (std::size_t step = kFragmentUnitBytes; step < kPageBytes; step += kFragmentUnitBytes) {
    for (const bool backwards : {false, true}) {
      const Travelling page = travelling(step);
      auto order = cuts(step);
      if (backwards) std::ranges::reverse(order);
      for (std::size_t i = 0; i < order.size(); ++i) {
        const auto whole = add(reassembly, page, order[i].first, order[i].second);
        if (i + 1 < order.size()) {
          ASSERT_TRUE(whole.empty()) << "step " << step << ": whole too early";
        } else {
          ASSERT_TRUE(equal(whole, page)) << "step " << step;
        }
      }
    }
  }
  EXPECT_EQ(reassembly.evicted_count(), 0U) << "a buffer was not given back";
}

TEST(Reassembly, add__doubled_fragments_do_not_count_twice) {
  Reassembly reassembly(1);
  const Travelling page = travelling(1);
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(add(reassembly, page, 0, 1376).empty());
    EXPECT_TRUE(add(reassembly, page, 1376, 1376).empty());
  }
  EXPECT_TRUE(equal(add(reassembly, page, 2752, 1344), page));
}

TEST(Reassembly, add__what_overlaps_is_whole_when_all_of_it_is_there) {
  Reassembly reassembly(1);
  const Travelling page = travelling(1);
  EXPECT_TRUE(add(reassembly, page, 0, 2048).empty());
  EXPECT_TRUE(add(reassembly, page, 1024, 2048).empty());
  EXPECT_TRUE(add(reassembly, page, 3072 + kFragmentUnitBytes, 1024 - kFragmentUnitBytes).empty())
      << "one unit is missing";
  EXPECT_TRUE(equal(add(reassembly, page, 3072, kFragmentUnitBytes), page));
}

// Whatever makes the messages two keeps their fragments apart.
TEST(Reassembly, add__fragments_of_different_messages_never_mix) {
  const auto differs_by = [](auto&& change) {
    Reassembly reassembly(2);
    const Travelling page = travelling(1);
    Travelling other = page;
    for (std::byte& byte : other.bytes) byte ^= std::byte{0xff};
    change(other);
    EXPECT_TRUE(add(reassembly, page, 0, 2048).empty());
    EXPECT_TRUE(add(reassembly, other, 2048, 2048).empty());
    EXPECT_TRUE(equal(add(reassembly, page, 2048, 2048), page));
    EXPECT_TRUE(equal(add(reassembly, other, 0, 2048), other));
  };
  differs_by([](Travelling& other) { other.header.page.index += 1; });
  differs_by([](Travelling& other) { other.header.page.region += 1; });
  differs_by([](Travelling& other) { other.header.boot_id += 1; });
  differs_by([](Travelling& other) { other.message.from = NodeId{2}; });
  differs_by([](Travelling& other) { other.message.transaction.value += 1; });
  differs_by([](Travelling& other) { other.message.version.value += 1; });
  differs_by([](Travelling& other) { other.message.data_version.value += 1; });
  differs_by([](Travelling& other) { other.message.type = MessageType::kOwnershipTransfer; });
}

TEST(Reassembly, add__a_buffer_is_clean_when_it_is_used_again) {
  Reassembly reassembly(1);
  const Travelling first = travelling(1);
  const Travelling second = travelling(2);
  EXPECT_TRUE(add(reassembly, first, 0, 2048).empty());
  EXPECT_TRUE(add(reassembly, second, 2048, 2048).empty());  // evicts the first one
  EXPECT_EQ(reassembly.evicted_count(), 1U);
  EXPECT_TRUE(equal(add(reassembly, second, 0, 2048), second));
  EXPECT_TRUE(add(reassembly, first, 2048, 2048).empty()) << "its first half is gone";
  EXPECT_TRUE(equal(add(reassembly, first, 0, 2048), first));
}

TEST(Reassembly, add__the_oldest_gives_way) {
  constexpr std::size_t kBuffers = 4;
  Reassembly reassembly(kBuffers);
  std::vector<Travelling> pages;
  for (std::size_t i = 0; i <= kBuffers; ++i) {
    pages.push_back(travelling(i));
    EXPECT_TRUE(add(reassembly, pages[i], 0, 2048).empty());
  }
  EXPECT_EQ(reassembly.evicted_count(), 1U);
  for (std::size_t i = 1; i <= kBuffers; ++i) {
    EXPECT_TRUE(equal(add(reassembly, pages[i], 2048, 2048), pages[i])) << i;
  }
  EXPECT_TRUE(add(reassembly, pages[0], 2048, 2048).empty());
  EXPECT_EQ(reassembly.evicted_count(), 1U);
}

TEST(Reassembly, memory_bytes__a_page_and_a_little_for_each_buffer) {
  const Reassembly one(1);
  const Reassembly many(64);
  EXPECT_EQ(many.memory_bytes(), 64 * one.memory_bytes());
  EXPECT_GE(one.memory_bytes(), std::size_t{kPageBytes});
  EXPECT_LE(one.memory_bytes(), kPageBytes + 512U);
}

// Many pages at once, shuffled and doubled, with too few buffers for all: what comes out is right, and nearly
// all comes.
TEST(Reassembly, add__any_mixture_by_seed) {
  constexpr std::uint64_t kSeed = 4'711;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  std::size_t whole_count = 0;
  constexpr std::size_t kRounds = 200;
  constexpr std::size_t kPages = 12;
  Reassembly reassembly(8);
  for (std::size_t round = 0; round < kRounds; ++round) {
    std::vector<Travelling> pages;
    std::vector<std::pair<std::size_t, std::pair<std::size_t, std::size_t>>> fragments;
    for (std::size_t i = 0; i < kPages; ++i) {
      pages.push_back(travelling(round * kPages + i));
      for (const auto& cut : cuts(1376)) {
        fragments.emplace_back(i, cut);
        if (random() % 10 == 0) fragments.emplace_back(i, cut);
      }
    }
    for (std::size_t i = 0; i < fragments.size(); ++i) {  // overtaking by up to 9 places
      std::swap(fragments[i], fragments[std::min(fragments.size() - 1, i + random() % 10)]);
    }
    for (const auto& [page, cut] : fragments) {
      const auto whole = add(reassembly, pages[page], cut.first, cut.second);
      if (whole.empty()) continue;
      ASSERT_TRUE(equal(whole, pages[page])) << "seed " << kSeed << ", round " << round << ", page " << page;
      ++whole_count;
    }
  }
  EXPECT_GT(whole_count, kRounds * kPages * 9 / 10);
}

}  // namespace
}  // namespace pagewire::dataplane
