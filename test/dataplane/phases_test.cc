// Where the time of a fault goes: the phases of one fault add up to the nanosecond, every fault is counted
// once in each, and a delay shows in the phase that it belongs to.
#include "dataplane/phases.h"

#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <atomic>
#include <deque>
#include <map>
#include <numeric>

#include "test/dataplane/ring_cluster.h"

namespace pagewire::dataplane {
namespace {

using fault::Delivery;
using protocol::MessageType;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::Placement;
using test::ClusterOptions;
using test::RingCluster;
using test::word_of;
using Regions = std::vector<RegionState*>;

constexpr std::size_t kPages = 40;
constexpr std::array<FaultKind, kPhasedKinds> kKinds = {FaultKind::kReadMiss, FaultKind::kWriteMiss,
                                                        FaultKind::kUpgrade};

HistogramSnapshot latency_of(const RegionState& region, FaultKind kind) {
  HistogramSnapshot snapshot;
  for (const RegionCounters& counters : region.counters)
    snapshot.add(counters.latency[static_cast<std::size_t>(kind)]);
  return snapshot;
}

// Empty if the region's delivery does not know it.
HistogramSnapshot phase_of(const RegionState& region, FaultKind kind, Phase phase) {
  HistogramSnapshot snapshot;
  for (const RegionPhases& phases : region.phases) {
    const Histogram* const histogram = phases.histogram(kind, phase);
    if (histogram != nullptr) snapshot.add(*histogram);
  }
  return snapshot;
}

std::uint64_t repeated_count(const RegionState& region, FaultKind kind) {
  std::uint64_t count = 0;
  for (const RegionPhases& phases : region.phases) count += phases.repeated_count(kind);
  return count;
}

// Of a region that had one fault of this kind, exactly: the largest value is kept as it is.
std::map<Phase, std::uint64_t> only_fault(const RegionState& region, FaultKind kind) {
  // The mapping wakes the thread, and then the driver takes its notes.
  EXPECT_TRUE(test::eventually([&] { return phase_of(region, kind, Phase::kMap).count() > 0; }))
      << kind_name(kind);
  std::map<Phase, std::uint64_t> durations;
  for (std::size_t i = 0; i < kPhases; ++i) {
    const auto phase = static_cast<Phase>(i);
    const HistogramSnapshot snapshot = phase_of(region, kind, phase);
    EXPECT_LE(snapshot.count(), 1U) << phase_name(phase);
    durations[phase] = snapshot.max_ns();
  }
  if (region.memory.delivery() == Delivery::kThread)
    durations[Phase::kTotal] = latency_of(region, kind).max_ns();
  return durations;
}

void expect_sum(const std::map<Phase, std::uint64_t>& durations, const RegionState& region, FaultKind kind) {
  std::uint64_t sum = 0;
  for (const auto& [phase, ns] : durations) sum += phase == Phase::kTotal ? 0 : ns;
  EXPECT_EQ(sum, durations.at(Phase::kTotal)) << kind_name(kind);
  EXPECT_EQ(sum - durations.at(Phase::kResume), latency_of(region, kind).max_ns()) << kind_name(kind);
}

// After all threads have come out of their faults.
void expect_every_fault_counted(const RegionState& region) {
  const bool is_inline = region.memory.delivery() == Delivery::kInline;
  const auto waiting = [&] {
    return std::accumulate(
        region.counters.begin(), region.counters.end(), std::uint64_t{0},
        [](std::uint64_t sum, const RegionCounters& counters) { return sum + counters.waiting.get(); });
  };
  EXPECT_TRUE(test::eventually([&] { return waiting() == 0; }));
  for (const FaultKind kind : kKinds) {
    const std::uint64_t count = latency_of(region, kind).count();
    for (const Phase phase : {Phase::kPost, Phase::kSend, Phase::kWire, Phase::kService, Phase::kMap}) {
      EXPECT_EQ(phase_of(region, kind, phase).count(), count) << kind_name(kind) << " " << phase_name(phase);
    }
    EXPECT_EQ(phase_of(region, kind, Phase::kTotal).count(), is_inline ? count : 0) << kind_name(kind);
    EXPECT_LE(phase_of(region, kind, Phase::kResume).count(), is_inline ? count : 0) << kind_name(kind);
  }
}

// Brings what comes in to the loop so much later.
class LatePort final : public test::OtherPort {
 public:
  LatePort(std::unique_ptr<Port> inner, std::uint64_t delay_ns)
      : OtherPort(std::move(inner)), delay_ns_(delay_ns) {}
  void close() override {
    for (const auto& [due_ns, frame] : late_) rte_pktmbuf_free(frame);
    late_.clear();
    inner().close();
  }
  std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> out) override {
    std::array<rte_mbuf*, 32> frames;
    const std::uint16_t count = inner().receive(queue, frames);
    const std::uint64_t now = now_ns();
    for (std::uint16_t i = 0; i < count; ++i) late_.emplace_back(now + delay_ns_, frames[i]);
    std::uint16_t due = 0;
    for (; due < out.size() && !late_.empty() && late_.front().first <= now; ++due) {
      out[due] = late_.front().second;
      late_.pop_front();
    }
    return due;
  }
  std::uint64_t nap_ns_max() const override { return delay_ns_ / 10; }  // nobody rings when a frame is due

 private:
  std::uint64_t delay_ns_;
  std::deque<std::pair<std::uint64_t, rte_mbuf*>> late_;
};

// Loses the first message of a type that it is asked to send.
class LosingPort final : public test::OtherPort {
 public:
  LosingPort(std::unique_ptr<Port> inner, MessageType type) : OtherPort(std::move(inner)), type_(type) {}
  void send(std::uint16_t queue, NodeSet to, rte_mbuf* frame) override {
    const auto type = *rte_pktmbuf_mtod_offset(frame, const std::uint8_t*, kEthernetBytes + 3);
    if (!lost_ && type == static_cast<std::uint8_t>(type_)) {
      lost_ = true;
      return rte_pktmbuf_free(frame);
    }
    inner().send(queue, to, frame);
  }

 private:
  MessageType type_;
  bool lost_ = false;
};

TEST(StampClock, reads_as_the_system_clock_does) {
  StampClock clock = StampClock::of_this_machine();
  constexpr std::uint64_t kBesideNs = 2'000;
  const std::uint64_t end = now_ns() + 60'000'000;  // long enough for it to know its rate
  std::uint64_t looks = 0;
  while (now_ns() < end) {
    clock.keep_step(now_ns());
    for (int i = 0; i < 10; ++i, ++looks) {
      const std::uint64_t before = now_ns();
      const std::uint64_t stamp = clock.now_ns();
      const std::uint64_t after = now_ns();
      ASSERT_GE(stamp + kBesideNs, before) << looks;
      ASSERT_LE(stamp, after + kBesideNs) << looks;
    }
  }
}

TEST(MappedBoard, tells_who_waits_and_nobody_else) {
  MappedBoard board;
  const int place = board.claim(1'000);
  ASSERT_NE(place, MappedBoard::kNoPlace);
  EXPECT_FALSE(board.tell(1'001, {.kind = FaultKind::kUpgrade, .mapped_ns = 5}));
  EXPECT_TRUE(board.tell(1'000, {.kind = FaultKind::kUpgrade, .mapped_ns = 1'234}));
  EXPECT_FALSE(board.tell(1'000, {.kind = FaultKind::kUpgrade, .mapped_ns = 9})) << "told once";
  const MappedStamp stamp = board.give_back(place);
  EXPECT_EQ(stamp.kind, FaultKind::kUpgrade);
  EXPECT_EQ(stamp.mapped_ns, 1'234U);

  const int again = board.claim(2'000);
  EXPECT_EQ(board.give_back(again).mapped_ns, 0U) << "nobody told it";
  EXPECT_FALSE(board.tell(2'000, {.kind = FaultKind::kUpgrade, .mapped_ns = 9})) << "it has left";
}

TEST(MappedBoard, a_full_board_has_no_place) {
  MappedBoard board;
  std::vector<int> places;
  for (int place = board.claim(77); place != MappedBoard::kNoPlace; place = board.claim(77)) {
    places.push_back(place);
    ASSERT_LE(places.size(), 256U);
  }
  EXPECT_GT(places.size(), 1U);
  for (const int place : places) board.give_back(place);
  EXPECT_NE(board.claim(77), MappedBoard::kNoPlace);
}

TEST(Histogram, record_shared__loses_nothing) {
  Histogram histogram;
  constexpr std::uint64_t kRecords = 100'000;
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&histogram, thread] {
      for (std::uint64_t i = 0; i < kRecords; ++i) histogram.record_shared(i % 64 + thread);
    });
  }
  for (std::thread& thread : threads) thread.join();
  HistogramSnapshot snapshot;
  snapshot.add(histogram);
  EXPECT_EQ(snapshot.count(), 4 * kRecords);
  EXPECT_EQ(snapshot.max_ns(), 66U);
}

// The stamps by hand.
class Stamps : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kRound = 3;
  std::uint64_t only(Phase phase) {
    HistogramSnapshot snapshot;
    snapshot.add(*region_.histogram(FaultKind::kReadMiss, phase));
    EXPECT_EQ(snapshot.count(), 1U) << phase_name(phase);
    return snapshot.max_ns();
  }
  RegionPhases region_{Delivery::kThread};
  FaultPhases phases_{8};
};

TEST_F(Stamps, a_page_that_came_by_itself__is_posted_and_mapped) {
  phases_.begin(2'000);
  phases_.opened(kRound, FaultKind::kReadMiss, 1'500);
  phases_.mapped(kRound, 2'700, region_, Delivery::kThread);
  EXPECT_EQ(only(Phase::kPost), 500U);
  EXPECT_EQ(only(Phase::kSend), 0U);
  EXPECT_EQ(only(Phase::kWire), 0U);
  EXPECT_EQ(only(Phase::kService), 0U);
  EXPECT_EQ(only(Phase::kMap), 700U);
}

TEST_F(Stamps, a_request_under_way_before_the_fault__is_what_is_left_of_it) {
  phases_.begin(now_ns());
  phases_.queued(kRound, MessageType::kCopyRequest, region_);  // ahead of need: nobody waits
  phases_.flushes();
  const std::uint64_t trap = now_ns();
  phases_.begin(trap + 100);
  phases_.opened(kRound, FaultKind::kReadMiss, trap);
  phases_.begin(trap + 700);
  phases_.answered(kRound, MessageType::kCopyReply, 4'000'000'000);  // more than the wait, as is possible
  phases_.mapped(kRound, trap + 1'500, region_, Delivery::kThread);
  EXPECT_EQ(only(Phase::kPost), 100U);
  EXPECT_EQ(only(Phase::kSend), 0U);
  EXPECT_EQ(only(Phase::kWire), 0U) << "the owner says that it took longer";
  EXPECT_EQ(only(Phase::kService), 600U);
  EXPECT_EQ(only(Phase::kMap), 800U);
  EXPECT_EQ(region_.repeated_count(FaultKind::kReadMiss), 0U);
}

TEST_F(Stamps, a_repeated_request__is_sent_once_and_counted) {
  const std::uint64_t trap = now_ns();
  phases_.begin(trap);
  phases_.opened(kRound, FaultKind::kReadMiss, trap);
  phases_.queued(kRound, MessageType::kCopyRequest, region_);
  phases_.flushes();
  const std::uint64_t flushed = now_ns();
  phases_.begin(flushed);
  phases_.queued(kRound, MessageType::kCopyRequest, region_);
  phases_.flushes();
  phases_.begin(flushed + 5'000);
  phases_.queued(kRound, MessageType::kInvalidate, region_);  // another step of the same fault
  phases_.flushes();
  phases_.begin(flushed + 9'000);
  phases_.mapped(kRound, flushed + 10'000, region_, Delivery::kThread);
  EXPECT_LE(only(Phase::kSend), flushed - trap);
  EXPECT_EQ(region_.repeated_count(FaultKind::kReadMiss), 1U);
}

TEST_F(Stamps, more_requests_than_a_flush_remembers__are_all_sent) {
  FaultPhases phases{512};
  const std::uint64_t trap = now_ns();
  phases.begin(trap);
  for (std::uint16_t round = 0; round < 512; ++round) {
    phases.opened(round, FaultKind::kReadMiss, trap);
    phases.queued(round, MessageType::kCopyRequest, region_);
  }
  phases.flushes();
  phases.begin(now_ns());
  for (std::uint16_t round = 0; round < 512; ++round) {
    phases.answered(round, MessageType::kCopyReply, 0);
    phases.mapped(round, now_ns() + 1'000'000, region_, Delivery::kThread);
  }
  HistogramSnapshot sent;
  sent.add(*region_.histogram(FaultKind::kReadMiss, Phase::kSend));
  EXPECT_EQ(sent.count(), 512U);
  EXPECT_GT(sent.quantile_ns(0), 0U) << "sent after it was posted";
}

TEST_F(Stamps, an_answer__tells_when_its_question_came) {
  const protocol::PageId page{1, 2};
  protocol::Message question;
  question.type = MessageType::kWriteRequest;
  question.from = NodeId{4};
  question.transaction.value = 9;
  protocol::Message answer;
  answer.type = MessageType::kOwnershipTransfer;
  answer.transaction.value = 9;
  phases_.begin(now_ns());
  phases_.question(NodeId{4});
  EXPECT_NE(phases_.asked_ns(NodeSet::of(NodeId{4}), answer, page), 0U) << "at once";
  EXPECT_EQ(phases_.asked_ns(NodeSet::of(NodeId{5}), answer, page), 0U) << "another node";
  EXPECT_EQ(phases_.asked_ns(NodeSet::of(NodeId{4}), question, page), 0U) << "no answer";
  phases_.question_ends(question, page, true);
  const std::uint64_t came = now_ns();
  phases_.begin(came + 1'000'000);  // other frames, meanwhile
  phases_.question(NodeId{4});
  EXPECT_LE(phases_.asked_ns(NodeSet::of(NodeId{4}), answer, page), came) << "repeated: since the first time";
  EXPECT_EQ(phases_.asked_ns(NodeSet::of(NodeId{4}), answer, page), came + 1'000'000) << "answered once";
  phases_.question_ends(question, page, true);
  phases_.begin(came + 2'000'000);
  answer.transaction.value = 8;
  EXPECT_EQ(phases_.asked_ns(NodeSet::of(NodeId{4}), answer, page), 0U) << "of another question";
  answer.transaction.value = 9;
  const std::uint64_t asked = phases_.asked_ns(NodeSet::of(NodeId{4}), answer, page);
  EXPECT_NE(asked, 0U);
  EXPECT_EQ(asked, came + 1'000'000);
  EXPECT_EQ(phases_.asked_ns(NodeSet::of(NodeId{4}), answer, page), 0U) << "answered once";
  EXPECT_EQ(phases_.service_ns(0), 0U);
  EXPECT_EQ(phases_.service_ns(1), 0xffff'ffffU) << "as much as the field holds";
}

struct Setting {
  Delivery delivery;
  LoopKind loops;
};
class Phases : public ::testing::TestWithParam<Setting> {
 protected:
  static ClusterOptions options(std::uint32_t nodes = 2) {
    ClusterOptions options;
    options.nodes = nodes;
    options.hold_ns = 0;
    options.delivery = GetParam().delivery;
    options.loop_kind = GetParam().loops;
    return options;
  }
};
std::string name_of(const ::testing::TestParamInfo<Setting>& info) {
  static constexpr std::array<const char*, 3> kLoops = {"shared", "dedicated", "self"};
  return std::string(info.param.delivery == Delivery::kInline ? "inline_" : "thread_") +
         kLoops[static_cast<std::size_t>(info.param.loops)];
}
INSTANTIATE_TEST_SUITE_P(Settings, Phases,
                         ::testing::Values(Setting{Delivery::kThread, LoopKind::kShared},
                                           Setting{Delivery::kThread, LoopKind::kSelf},
                                           Setting{Delivery::kInline, LoopKind::kShared},
                                           Setting{Delivery::kInline, LoopKind::kDedicated},
                                           Setting{Delivery::kInline, LoopKind::kSelf}),
                         name_of);

TEST_P(Phases, one_fault_of_each_kind__adds_up_to_the_nanosecond) {
  RingCluster cluster(options());
  for (int run = 0; run < 20; ++run) {
    const Regions regions = cluster.open("grid" + std::to_string(run), 2, Placement::kOneNode, 0);
    ASSERT_EQ(regions.size(), 2U);
    for (std::size_t page = 0; page < 2; ++page) word_of(*regions[0], page).store(7);
    EXPECT_EQ(word_of(*regions[1], 0).load(), 7U);  // read miss
    word_of(*regions[1], 0).store(8);               // upgrade
    word_of(*regions[1], 1).store(8);               // write miss
    for (const FaultKind kind : kKinds) {
      const auto durations = only_fault(*regions[1], kind);
      EXPECT_EQ(latency_of(*regions[1], kind).count(), 1U) << kind_name(kind);
      expect_sum(durations, *regions[1], kind);
      EXPECT_GT(durations.at(Phase::kWire) + durations.at(Phase::kService), 0U) << kind_name(kind);
      EXPECT_GT(durations.at(Phase::kMap), 0U) << kind_name(kind);
      const bool is_inline = GetParam().delivery == Delivery::kInline;
      EXPECT_EQ(phase_of(*regions[1], kind, Phase::kResume).count(), is_inline ? 1U : 0U) << kind_name(kind);
    }
    // The owner's first touch asked nobody.
    EXPECT_EQ(latency_of(*regions[0], FaultKind::kLocal).count(), 2U);
    for (const FaultKind kind : kKinds) EXPECT_EQ(phase_of(*regions[0], kind, Phase::kPost).count(), 0U);
    expect_every_fault_counted(*regions[0]);
    expect_every_fault_counted(*regions[1]);
  }
  EXPECT_TRUE(cluster.leave());
}

TEST_P(Phases, many_threads__every_fault_is_counted_once) {
  ClusterOptions three = options(3);
  three.loops = 2;
  three.hold_ns = 20'000;
  RingCluster cluster(three);
  const Regions regions = cluster.open("grid", kPages);
  ASSERT_EQ(regions.size(), 3U);
  test::expect_exact_counts(cluster, regions, 300, 3);
  std::uint64_t count = 0;
  for (const RegionState* region : regions) {
    expect_every_fault_counted(*region);
    for (const FaultKind kind : kKinds) count += latency_of(*region, kind).count();
  }
  EXPECT_GT(count, 0U);
  EXPECT_TRUE(cluster.leave());
}

// The page is held for its new owner's threads: the request waits at its owner.
TEST_P(Phases, a_hold_at_the_owner__is_service) {
  constexpr std::uint64_t kHoldNs = 20'000'000;
  ClusterOptions held = options();
  held.hold_ns = kHoldNs;
  held.delivery = Delivery::kThread;  // a turn inline may end the hold
  held.retry_ns = 5'000'000;          // repetitions, too, find the request waiting
  RingCluster cluster(held);
  // On a busy machine the hold may be over before the request comes: then once more.
  std::uint64_t service_ns = 0;
  for (int run = 0; run < 50 && service_ns < kHoldNs / 2; ++run) {
    const Regions regions = cluster.open("grid" + std::to_string(run), 2, Placement::kOneNode, 0);
    ASSERT_EQ(regions.size(), 2U);
    word_of(*regions[0], 0).store(7);
    EXPECT_EQ(word_of(*regions[1], 0).load(), 7U);
    const auto durations = only_fault(*regions[1], FaultKind::kReadMiss);
    expect_sum(durations, *regions[1], FaultKind::kReadMiss);
    service_ns = durations.at(Phase::kService);
  }
  EXPECT_GE(service_ns, kHoldNs / 2);
  EXPECT_TRUE(cluster.leave());
}

TEST_P(Phases, a_slow_port__is_wire) {
  static constexpr std::uint64_t kDelayNs = 50'000'000;
  ClusterOptions late = options();
  late.retry_ns = 1'000'000'000;
  late.retry_ns_max = 1'000'000'000;
  late.wrap = [](std::unique_ptr<Port> port, std::uint32_t node) -> std::unique_ptr<Port> {
    if (node != 0) return port;
    return std::make_unique<LatePort>(std::move(port), kDelayNs);
  };
  RingCluster cluster(late);
  const Regions regions = cluster.open("grid", 2, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  word_of(*regions[0], 0).store(7);
  EXPECT_EQ(word_of(*regions[1], 0).load(), 7U);
  const auto durations = only_fault(*regions[1], FaultKind::kReadMiss);
  expect_sum(durations, *regions[1], FaultKind::kReadMiss);
  EXPECT_GE(durations.at(Phase::kWire), kDelayNs * 9 / 10);
  EXPECT_LT(durations.at(Phase::kService), kDelayNs / 2);
  EXPECT_EQ(repeated_count(*regions[1], FaultKind::kReadMiss), 0U);
  EXPECT_TRUE(cluster.leave());
}

TEST_P(Phases, a_lost_request__is_wire_from_its_first_sending_and_counted) {
  constexpr std::uint64_t kRetryNs = 100'000'000;
  ClusterOptions losing = options();
  losing.retry_ns = kRetryNs;
  losing.retry_ns_max = kRetryNs;
  losing.wrap = [](std::unique_ptr<Port> port, std::uint32_t node) -> std::unique_ptr<Port> {
    if (node != 1) return port;
    return std::make_unique<LosingPort>(std::move(port), MessageType::kCopyRequest);
  };
  RingCluster cluster(losing);
  const Regions regions = cluster.open("grid", 2, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  word_of(*regions[0], 0).store(7);
  EXPECT_EQ(word_of(*regions[1], 0).load(), 7U);
  const auto durations = only_fault(*regions[1], FaultKind::kReadMiss);
  expect_sum(durations, *regions[1], FaultKind::kReadMiss);
  EXPECT_GE(durations.at(Phase::kWire), kRetryNs / 2);
  EXPECT_LT(durations.at(Phase::kSend), kRetryNs / 2);
  EXPECT_GE(repeated_count(*regions[1], FaultKind::kReadMiss), 1U);
  EXPECT_EQ(latency_of(*regions[1], FaultKind::kReadMiss).count(), 1U);
  EXPECT_TRUE(cluster.leave());
}

}  // namespace
}  // namespace pagewire::dataplane
