// The port that loses, doubles and reorders: by its seed, as often as asked, and holding nothing for ever.
#include "dataplane/impaired_port.h"

#include <gtest/gtest.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "dataplane/eal.h"
#include "dataplane/ring_port.h"
#include "fault/setup_error.h"
#include "test/dataplane/frames.h"

namespace pagewire::dataplane {
namespace {

using protocol::NodeId;
using protocol::NodeSet;

constexpr std::uint32_t kPoolFrames = 512;
constexpr std::uint64_t kForever = 3'600'000'000'000;

// Node 0 sends numbered frames; node 1 receives them impaired.
class ImpairedPort : public testing::Test {
 protected:
  void open(const Impairment& impairment) {
    TearDown();
    auto ports =
        make_ring_mesh(Eal::start({.memory_mb = 64}), 2, 1, {.ring_frames = 64, .pool_frames = kPoolFrames});
    sender_ = std::move(ports[0]);
    receiver_ = make_impaired_port(std::move(ports[1]), impairment);
    sequence_ = 0;
  }
  void TearDown() override {
    if (!sender_) return;
    receiver_->close();
    sender_->close();
    EXPECT_EQ(rte_mempool_avail_count(sender_->pool(0)), kPoolFrames) << "leaked";
    EXPECT_EQ(rte_mempool_avail_count(receiver_->pool(0)), kPoolFrames) << "leaked";
    receiver_.reset();
    sender_.reset();
  }
  void send(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      rte_mbuf* const frame = test::make_frame(*sender_, 0, 64, 0);
      std::memcpy(rte_pktmbuf_mtod_offset(frame, char*, kEthernetBytes), &sequence_, sizeof(sequence_));
      ++sequence_;
      sender_->send(0, NodeSet::of(NodeId{1}), frame);
    }
    sender_->flush(0);
  }
  // The numbers that come out until nothing does.
  void receive(std::vector<std::uint32_t>& numbers) {
    std::array<rte_mbuf*, 7> frames{};
    while (const std::uint16_t count = receiver_->receive(0, frames)) {
      for (std::uint16_t i = 0; i < count; ++i) {
        std::uint32_t number = 0;
        std::memcpy(&number, rte_pktmbuf_mtod_offset(frames[i], char*, kEthernetBytes), sizeof(number));
        numbers.push_back(number);
        rte_pktmbuf_free(frames[i]);
      }
    }
  }
  std::vector<std::uint32_t> transfer(std::uint32_t count) {
    std::vector<std::uint32_t> numbers;
    for (std::uint32_t sent = 0; sent < count; sent += 32) {
      send(32);
      receive(numbers);
    }
    return numbers;
  }

  std::unique_ptr<Port> sender_;
  std::unique_ptr<dataplane::ImpairedPort> receiver_;
  std::uint32_t sequence_ = 0;
};

TEST_F(ImpairedPort, receive__without_impairment_changes_nothing) {
  open({});
  const std::vector<std::uint32_t> numbers = transfer(320);
  ASSERT_EQ(numbers.size(), 320U);
  EXPECT_TRUE(std::ranges::is_sorted(numbers));
  EXPECT_EQ(receiver_->nap_ns_max(), 0U);
}

TEST_F(ImpairedPort, receive__shares_are_as_asked_for) {
  constexpr std::uint32_t kFrames = 32'000;
  open({.drop = 0.10, .duplicate = 0.05, .reorder = 0.10, .seed = 42, .hold_ns = kForever});
  EXPECT_EQ(receiver_->seed(), 42U);
  const std::vector<std::uint32_t> numbers = transfer(kFrames);
  const ImpairmentCounters counters = receiver_->impairments(0);
  EXPECT_EQ(counters.seen_count, kFrames);
  EXPECT_NEAR(static_cast<double>(counters.dropped_count) / kFrames, 0.10, 0.01);
  EXPECT_NEAR(static_cast<double>(counters.duplicated_count) / kFrames, 0.05 * 0.9,
              0.01);  // of those not dropped
  EXPECT_NEAR(static_cast<double>(counters.reordered_count) / kFrames, 0.10 * 0.9, 0.01);
  // What the counters say is what came out, but for the few that are still held back.
  const std::set<std::uint32_t> distinct(numbers.begin(), numbers.end());
  const auto expected = kFrames - counters.dropped_count;
  EXPECT_LE(distinct.size(), expected);
  EXPECT_GE(distinct.size() + 8, expected);
  std::uint32_t overtaken = 0;
  for (std::size_t i = 1; i < numbers.size(); ++i) overtaken += numbers[i] < numbers[i - 1] ? 1 : 0;
  EXPECT_GT(overtaken, kFrames / 50);
}

TEST_F(ImpairedPort, receive__a_frame_comes_at_most_eight_frames_late) {
  open({.reorder = 0.3, .seed = 7, .hold_ns = kForever});
  const std::vector<std::uint32_t> numbers = transfer(3200);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    // Those before it in the output that were sent after it.
    const auto later = std::count_if(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(i),
                                     [&](std::uint32_t other) { return other > numbers[i]; });
    ASSERT_LE(later, 8 + 32) << numbers[i];  // eight passed, and others that were held and released meanwhile
  }
  EXPECT_FALSE(std::ranges::is_sorted(numbers));
}

TEST_F(ImpairedPort, receive__the_same_seed_decides_the_same) {
  const Impairment impairment{
      .drop = 0.1, .duplicate = 0.05, .reorder = 0.1, .seed = 99, .hold_ns = kForever};
  open(impairment);
  const std::vector<std::uint32_t> first = transfer(3200);
  open(impairment);
  EXPECT_EQ(transfer(3200), first);
  Impairment other = impairment;
  other.seed = 100;
  open(other);
  EXPECT_NE(transfer(3200), first);
}

TEST_F(ImpairedPort, receive__what_is_held_back_comes_in_time_without_others) {
  open({.reorder = 1, .hold_ns = 20'000'000});
  const auto start = std::chrono::steady_clock::now();
  send(1);
  std::vector<std::uint32_t> numbers;
  receive(numbers);
  EXPECT_TRUE(numbers.empty());
  EXPECT_EQ(receiver_->nap_ns_max(), 20'000'000U) << "a loop would sleep through it";
  while (numbers.empty() && std::chrono::steady_clock::now() < start + std::chrono::seconds(5))
    receive(numbers);
  EXPECT_EQ(numbers.size(), 1U);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(20));
  EXPECT_EQ(receiver_->nap_ns_max(), 0U);
}

TEST_F(ImpairedPort, close__gives_back_what_is_held) {
  open({.reorder = 1, .hold_ns = kForever});
  send(20);
  std::vector<std::uint32_t> numbers;
  receive(numbers);  // TearDown() counts the mbufs
}

TEST_F(ImpairedPort, make__refuses_shares_that_are_none) {
  for (const double share : {-0.1, 1.1, std::nan("")}) {
    auto ports = make_ring_mesh(Eal::start({.memory_mb = 64}), 1, 1, {.ring_frames = 64, .pool_frames = 128});
    EXPECT_THROW(make_impaired_port(std::move(ports[0]), {.drop = share}), fault::SetupError);
  }
}

}  // namespace
}  // namespace pagewire::dataplane
