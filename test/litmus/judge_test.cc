// The judge against what the literature says of each shape, and against orders that the runs do not use.
#include "test/litmus/judge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

namespace pagewire::litmus {
namespace {

using variables::kX;
using variables::kY;
constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr auto kAcquire = std::memory_order_acquire;
constexpr auto kRelease = std::memory_order_release;
constexpr auto kSeqCst = std::memory_order_seq_cst;

const Shape& shape_named(const std::string& name) { return kShapes[index_of(shape_names(), name).value()]; }

// What C++ says of an outcome with each order: A allowed, F forbidden; relaxed, acq_rel, seq_cst.
std::string verdicts(const std::string& name, const Outcome& outcome) {
  std::string letters;
  for (const Order order : kOrders) {
    const Judgement judgement = judge(shape_named(name), order);
    EXPECT_TRUE(judgement.conceivable.contains(outcome)) << name;
    letters += judgement.allowed(outcome) ? 'A' : 'F';
  }
  return letters;
}

Outcome registers(std::array<std::uint8_t, kRegistersMax> values) {
  return Outcome{.registers = values, .finals = {}};
}

TEST(Judge, table_of_the_literature) {
  EXPECT_EQ(verdicts("SB", registers({0, 0})), "AAF");
  EXPECT_EQ(verdicts("MP", registers({1, 0})), "AFF");
  EXPECT_EQ(verdicts("LB", registers({1, 1})), "AFF");
  EXPECT_EQ(verdicts("IRIW", registers({1, 0, 1, 0})), "AAF");
  EXPECT_EQ(verdicts("CoRR", registers({1, 0})), "FFF");
  EXPECT_EQ(verdicts("WRC", registers({1, 1, 0})), "AFF");
  EXPECT_EQ(verdicts("ISA2", registers({1, 1, 0})), "AFF");
  EXPECT_EQ(verdicts("2+2W", Outcome{.registers = {}, .finals = {1, 1}}), "AAF");
  // The other's store is read, and yet one's own, older one is the last.
  EXPECT_EQ(verdicts("CoWR", Outcome{.registers = {2}, .finals = {1}}), "FFF");
  EXPECT_EQ(verdicts("CoWR", Outcome{.registers = {0}, .finals = {1}}), "FFF");
  EXPECT_EQ(verdicts("CoWR", Outcome{.registers = {0}, .finals = {2}}), "FFF");
  EXPECT_EQ(verdicts("CoWR", Outcome{.registers = {1}, .finals = {1}}), "AAA");
  EXPECT_EQ(verdicts("CoWR", Outcome{.registers = {1}, .finals = {2}}), "AAA");
  EXPECT_EQ(verdicts("CoWR", Outcome{.registers = {2}, .finals = {2}}), "AAA");
}

// The one outcome that a shape is named for is the only one in which C++ and sequential consistency differ.
TEST(Judge, each_shape_has_its_one_weak_outcome) {
  const std::map<std::string, std::array<std::size_t, 3>> weak_counts = {
      {"SB", {1, 1, 0}},   {"MP", {1, 0, 0}},   {"LB", {1, 0, 0}},  {"IRIW", {1, 1, 0}}, {"CoRR", {0, 0, 0}},
      {"CoWR", {0, 0, 0}}, {"2+2W", {1, 1, 0}}, {"WRC", {1, 0, 0}}, {"ISA2", {1, 0, 0}}};
  ASSERT_EQ(weak_counts.size(), kShapes.size());
  for (const auto& [name, counts] : weak_counts) {
    for (std::size_t i = 0; i < kOrders.size(); ++i) {
      const Judgement judgement = judge(shape_named(name), kOrders[i]);
      const auto weak = [&](const Outcome& outcome) { return judgement.weak(outcome); };
      const auto count = std::count_if(judgement.cpp.begin(), judgement.cpp.end(), weak);
      EXPECT_EQ(static_cast<std::size_t>(count), counts[i]) << name << ' ' << kOrderNames[i];
    }
  }
}

TEST(Judge, numbers_of_sequentially_consistent_outcomes) {
  const std::map<std::string, std::size_t> counts = {{"SB", 3},    {"MP", 3},   {"LB", 3},
                                                     {"IRIW", 15}, {"CoRR", 3}, {"CoWR", 3},
                                                     {"2+2W", 3},  {"WRC", 7},  {"ISA2", 7}};
  for (const auto& [name, count] : counts) {
    EXPECT_EQ(judge(shape_named(name), Order::kRelaxed).sequentially_consistent.size(), count) << name;
  }
}

TEST(Judge, stronger_orders_allow_no_more) {
  for (const Shape& shape : kShapes) {
    const Judgement relaxed = judge(shape, Order::kRelaxed);
    const Judgement middle = judge(shape, Order::kAcquireRelease);
    const Judgement strong = judge(shape, Order::kSeqCst);
    const auto within = [](const std::set<Outcome>& inner, const std::set<Outcome>& outer) {
      return std::includes(outer.begin(), outer.end(), inner.begin(), inner.end());
    };
    EXPECT_TRUE(within(middle.cpp, relaxed.cpp)) << shape.name;
    EXPECT_TRUE(within(strong.cpp, middle.cpp)) << shape.name;
    EXPECT_EQ(strong.cpp, strong.sequentially_consistent) << shape.name;
    EXPECT_TRUE(within(relaxed.cpp, relaxed.conceivable)) << shape.name;
  }
}

// Programs whose operations have different orders.
bool allowed(std::vector<std::vector<OrderedOp>> threads, std::size_t variable_count,
             const Outcome& outcome) {
  return cpp_outcomes(Program{.threads = std::move(threads), .variable_count = variable_count})
      .contains(outcome);
}

TEST(Judge, message_passing_needs_release_and_acquire) {
  const auto passes = [](std::memory_order flag_store, std::memory_order flag_load) {
    return !allowed({{{store(kX, 1), kRelaxed}, {store(kY, 1), flag_store}},
                     {{load(kY, 0), flag_load}, {load(kX, 1), kRelaxed}}},
                    2, registers({1, 0}));
  };
  EXPECT_TRUE(passes(kRelease, kAcquire));
  EXPECT_TRUE(passes(kSeqCst, kAcquire));
  EXPECT_TRUE(passes(kRelease, kSeqCst));
  EXPECT_FALSE(passes(kRelaxed, kAcquire));
  EXPECT_FALSE(passes(kRelease, kRelaxed));
  EXPECT_FALSE(passes(kRelaxed, kSeqCst));
}

TEST(Judge, store_buffering_needs_all_four_seq_cst) {
  const auto missed = [](std::array<std::memory_order, 4> orders) {
    return allowed({{{store(kX, 1), orders[0]}, {load(kY, 0), orders[1]}},
                    {{store(kY, 1), orders[2]}, {load(kX, 1), orders[3]}}},
                   2, registers({0, 0}));
  };
  EXPECT_FALSE(missed({kSeqCst, kSeqCst, kSeqCst, kSeqCst}));
  EXPECT_TRUE(missed({kRelease, kSeqCst, kSeqCst, kSeqCst}));
  EXPECT_TRUE(missed({kSeqCst, kAcquire, kSeqCst, kSeqCst}));
  EXPECT_TRUE(missed({kSeqCst, kSeqCst, kRelaxed, kSeqCst}));
  EXPECT_TRUE(missed({kSeqCst, kSeqCst, kSeqCst, kAcquire}));
}

// C++20 (P0668): the single order need not follow a happens-before that comes to a seq_cst load from a store
// that only releases; C++11 forbade this outcome. With both seq_cst it stays forbidden. r1 shows that y was 1
// before it was 2.
TEST(Judge, z6_u_is_allowed_since_cpp_20) {
  const auto reached = [](std::memory_order flag_store) {
    return allowed({{{store(kX, 1), kSeqCst}, {store(kY, 1), flag_store}},
                    {{load(kY, 0), kSeqCst}, {load(kY, 1), kRelaxed}},
                    {{store(kY, 2), kSeqCst}, {load(kX, 2), kSeqCst}}},
                   2, registers({1, 2, 0}));
  };
  EXPECT_TRUE(reached(kRelease));
  EXPECT_FALSE(reached(kSeqCst));
}

TEST(Judge, garbage_is_never_allowed) {
  for (const Shape& shape : kShapes) {
    Outcome outcome = *judge(shape, Order::kRelaxed).cpp.begin();
    if (shape.register_count > 0) {
      outcome.registers[0] = kGarbage;
    } else {
      outcome.finals[0] = kGarbage;
    }
    EXPECT_FALSE(judge(shape, Order::kRelaxed).allowed(outcome)) << shape.name;
  }
}

TEST(Outcome, as_text) {
  EXPECT_EQ(to_text(shape_named("SB"), registers({0, 1})), "r0=0 r1=1");
  EXPECT_EQ(to_text(shape_named("CoWR"), Outcome{.registers = {kGarbage}, .finals = {2}}), "r0=? x=2");
  EXPECT_EQ(to_text(shape_named("2+2W"), Outcome{.registers = {}, .finals = {1, 2}}), "x=1 y=2");
}

}  // namespace
}  // namespace pagewire::litmus
