// What stands between the threads and the verdict: kernels, plans, the barrier, decoding, histograms, texts.
// Forbidden outcomes are planted at each place where one could get lost.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "test/litmus/kernels.h"
#include "test/litmus/node_run.h"
#include "test/litmus/plan.h"
#include "test/litmus/scaffold.h"
#include "test/litmus/verdict.h"

namespace pagewire::litmus {
namespace {

std::size_t shape_named(const std::string& name) { return index_of(shape_names(), name).value(); }

class ScaffoldTest : public testing::Test {
 protected:
  ScaffoldTest() {
    folder_ = std::filesystem::path(testing::TempDir()) / "litmus-XXXXXX";
    if (mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    scaffold_ = std::make_unique<SharedScaffold>(folder_);
  }
  ~ScaffoldTest() override { std::filesystem::remove_all(folder_); }
  Scaffold& scaffold() { return **scaffold_; }

 private:
  std::string folder_;
  std::unique_ptr<SharedScaffold> scaffold_;
};

// --- kernels ---------------------------------------------------------------------------------------------

using Kernels = ScaffoldTest;

// All threads of a shape one after the other, each through its whole batch; the outcome of every instance.
std::set<Outcome> run_one_after_the_other(const Case& one, const std::vector<std::size_t>& threads,
                                          Scaffold& scaffold) {
  constexpr std::size_t kInstances = 16;
  constexpr std::uint64_t kBatch = 5;
  std::array<std::array<std::uint32_t, kInstances>, kVariablesMax> memory{};
  for (auto& words : memory) words.fill(tag_of(kBatch));
  for (const std::size_t thread : threads) {
    ThreadRun run{.tag = tag_of(kBatch), .instance_count = kInstances, .start = 7 * thread, .step = 5};
    for (std::size_t v = 0; v < kVariablesMax; ++v) run.variables[v] = memory[v].data();
    for (std::size_t r = 0; r < kRegistersMax; ++r) run.registers[r] = scaffold.registers[r].data();
    Barrier alone(scaffold, 0, 1);
    run.barrier = &alone;
    kernel_for(one.shape, thread, one.order)(run);
  }
  std::set<Outcome> outcomes;
  for (std::size_t i = 0; i < kInstances; ++i) {
    for (std::size_t v = 0; v < kVariablesMax; ++v) scaffold.finals[v][i] = memory[v][i];
    outcomes.insert(decode(one.code(), scaffold, i, tag_of(kBatch)));
  }
  return outcomes;
}

// The same by the table of shapes.
Outcome expect_one_after_the_other(const Shape& shape, const std::vector<std::size_t>& threads) {
  Program in_order{.threads = {{}}, .variable_count = shape.variable_count, .finals = shape.finals};
  for (const std::size_t thread : threads) {
    for (std::size_t i = 0; i < shape.threads[thread].op_count; ++i) {
      in_order.threads[0].push_back(OrderedOp{.op = shape.threads[thread].ops[i]});
    }
  }
  const std::set<Outcome> outcomes = sequentially_consistent_outcomes(in_order);
  EXPECT_EQ(outcomes.size(), 1u);
  return *outcomes.begin();
}

TEST_F(Kernels, do_what_the_table_says) {
  for (std::size_t shape = 0; shape < kShapes.size(); ++shape) {
    for (const Order order : kOrders) {
      std::vector<std::size_t> threads(kShapes[shape].thread_count);
      std::iota(threads.begin(), threads.end(), 0);
      do {
        const std::set<Outcome> expected = {expect_one_after_the_other(kShapes[shape], threads)};
        EXPECT_EQ(run_one_after_the_other(Case{.shape = shape, .order = order}, threads, scaffold()),
                  expected)
            << kShapes[shape].name;
      } while (std::next_permutation(threads.begin(), threads.end()));
    }
  }
}

// --- decode ----------------------------------------------------------------------------------------------

using Decode = ScaffoldTest;

TEST_F(Decode, what_an_older_batch_left_is_garbage_and_forbidden) {
  const Shape& shape = kShapes[shape_named("MP")];
  scaffold().registers[0][3] = tag_of(8) | 1;
  scaffold().registers[1][3] = tag_of(8) | 1;
  EXPECT_EQ(decode(shape, scaffold(), 3, tag_of(8)), (Outcome{.registers = {1, 1}, .finals = {}}));
  scaffold().registers[1][3] = tag_of(7) | 1;
  const Outcome stale = decode(shape, scaffold(), 3, tag_of(8));
  EXPECT_EQ(stale, (Outcome{.registers = {1, kGarbage}, .finals = {}}));
  EXPECT_FALSE(judge(shape, Order::kRelaxed).allowed(stale));
  scaffold().registers[1][3] = 0;  // a page that was lost
  EXPECT_FALSE(judge(shape, Order::kRelaxed).allowed(decode(shape, scaffold(), 3, tag_of(8))));
}

// --- plan ------------------------------------------------------------------------------------------------

TEST(Plan, is_the_same_for_the_same_seed_and_another_for_another) {
  const Case one{.shape = shape_named("IRIW")};
  const auto starts = [&](std::uint64_t seed) {
    std::vector<std::size_t> all;
    for (std::uint64_t batch = 0; batch < 50; ++batch) {
      all.push_back(plan_batch(seed, one, batch, kInstancesMax).threads[0].start);
    }
    return all;
  };
  EXPECT_EQ(starts(1), starts(1));
  EXPECT_NE(starts(1), starts(2));
}

TEST(Plan, goes_through_each_instance_once) {
  for (std::uint64_t batch = 0; batch < 50; ++batch) {
    const BatchPlan plan = plan_batch(9, Case{.shape = shape_named("ISA2")}, batch, 256);
    for (std::size_t t = 0; t < 3; ++t) {
      std::set<std::size_t> instances;
      for (std::size_t n = 0; n < 256; ++n) {
        instances.insert((plan.threads[t].start + n * plan.threads[t].step) % 256);
      }
      EXPECT_EQ(instances.size(), 256u);
    }
    for (const std::uint8_t node : plan.resetters) EXPECT_LT(node, 3);
    EXPECT_LT(plan.reader, 3);
  }
}

// --- barrier ---------------------------------------------------------------------------------------------

using BarrierTest = ScaffoldTest;

TEST_F(BarrierTest, nobody_is_ever_a_step_ahead) {
  constexpr std::uint32_t kNodes = 3;
  constexpr int kSteps = 2000;
  std::array<std::atomic<int>, kNodes> steps{};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::uint32_t node = 0; node < kNodes; ++node) {
    threads.emplace_back([&, node] {
      Barrier barrier(scaffold(), node, kNodes);
      for (int step = 1; step <= kSteps; ++step) {
        steps[node].store(step);
        barrier.wait();
        for (const auto& other : steps) wrong += other.load() < step || other.load() > step + 1 ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(BarrierTest, names_who_is_missing) {
  Barrier barrier(scaffold(), 0, 3);
  scaffold().nodes[1].arrivals.store(1);
  barrier.set_patience(1);
  try {
    barrier.wait();
    FAIL() << "node 2 never came";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("in 1 s: 2."), std::string::npos) << error.what();
  }
}

TEST_F(BarrierTest, ends_when_another_gives_up) {
  Barrier barrier(scaffold(), 0, 2);
  scaffold().failed.store(1);
  EXPECT_THROW(barrier.wait(), std::runtime_error);
}

// --- histogram and verdict ---------------------------------------------------------------------------------

CaseReport report_of(const std::string& name, Order order,
                     const std::vector<std::pair<Outcome, int>>& counts) {
  CaseReport report{.one = Case{.shape = shape_named(name), .order = order}, .result = {}};
  std::uint64_t instance = 0;
  for (const auto& [outcome, count] : counts) {
    for (int i = 0; i < count; ++i) report.result.histogram.add(outcome, 12, instance++);
  }
  report.result.nanoseconds = 2'000'000'000;
  return report;
}
Outcome registers(std::array<std::uint8_t, kRegistersMax> values) {
  return Outcome{.registers = values, .finals = {}};
}

TEST(Histogram, counts_and_remembers_where_first) {
  const CaseReport report = report_of("SB", Order::kSeqCst, {{registers({0, 1}), 3}, {registers({1, 1}), 2}});
  EXPECT_EQ(report.result.histogram.total(), 5u);
  EXPECT_EQ(report.result.histogram.count(registers({0, 1})), 3u);
  EXPECT_EQ(report.result.histogram.count(registers({1, 0})), 0u);
  EXPECT_EQ(report.result.histogram.lines()[1].first_batch, 12u);
  EXPECT_EQ(report.result.histogram.lines()[1].first_instance, 3u);
}

TEST(Histogram, more_outcomes_than_lines_are_forbidden_ones) {
  Histogram histogram;
  for (std::uint8_t i = 0; i < 10; ++i) {
    for (std::uint8_t j = 0; j < 10; ++j) histogram.add(registers({i, j}), 0, 0);
  }
  EXPECT_EQ(histogram.total(), 100u);
  EXPECT_EQ(histogram.overflow(), 100 - Histogram::kLinesMax);
  EXPECT_GE(verdict_of(judge(kShapes[0], Order::kRelaxed), histogram).forbidden_count, 100u - 4);
}

TEST(Verdict, one_forbidden_outcome_among_many_fails) {
  const CaseReport fine =
      report_of("SB", Order::kSeqCst, {{registers({0, 1}), 1000}, {registers({1, 0}), 1000}});
  const CaseReport planted =
      report_of("SB", Order::kSeqCst, {{registers({0, 1}), 2000}, {registers({0, 0}), 1}});
  EXPECT_TRUE(all_passed({fine}));
  EXPECT_FALSE(all_passed({fine, planted}));
  EXPECT_NE(summary_text({fine, planted}).find("FORBIDDEN 1x"), std::string::npos);
  EXPECT_EQ(summary_text({fine}).find("FORBIDDEN"), std::string::npos);
  const std::string text = histogram_text(planted, judge(planted.one.code(), planted.one.order));
  EXPECT_NE(text.find("! r0=0 r1=0"), std::string::npos) << text;
  EXPECT_NE(text.find("forbidden r0=0 r1=0 was seen first in batch 12, instance 2000"), std::string::npos)
      << text;
}

TEST(Verdict, each_shape_and_order_fails_on_each_outcome_that_is_forbidden) {
  for (const Shape& shape : kShapes) {
    for (const Order order : kOrders) {
      const Judgement judgement = judge(shape, order);
      for (const Outcome& outcome : judgement.conceivable) {
        const CaseReport report = report_of(std::string(shape.name), order, {{outcome, 1}});
        EXPECT_EQ(all_passed({report}), judgement.allowed(outcome))
            << shape.name << ' ' << to_text(shape, outcome);
      }
    }
  }
}

TEST(Verdict, says_whether_weak_outcomes_were_seen) {
  const CaseReport seen = report_of("SB", Order::kRelaxed, {{registers({0, 0}), 4}, {registers({0, 1}), 1}});
  const CaseReport unseen = report_of("SB", Order::kRelaxed, {{registers({0, 1}), 1}});
  const CaseReport nothing_to_see = report_of("SB", Order::kSeqCst, {{registers({0, 1}), 1}});
  EXPECT_NE(summary_text({seen}).find("seen 4x"), std::string::npos);
  EXPECT_NE(summary_text({unseen}).find("not seen"), std::string::npos);
  EXPECT_NE(summary_text({nothing_to_see}).find("none to see"), std::string::npos);
  EXPECT_TRUE(all_passed({seen, unseen, nothing_to_see}));
  EXPECT_EQ(verdict_of(judge(kShapes[0], Order::kRelaxed), seen.result.histogram).strange_count, 4u);
}

TEST(Verdict, json_has_each_outcome) {
  const CaseReport planted = report_of("MP", Order::kAcquireRelease, {{registers({1, 0}), 7}});
  const nlohmann::json json = to_json(CampaignOptions{}, {planted});
  const nlohmann::json& one = json["cases"][0];
  EXPECT_EQ(one["test"], "MP");
  EXPECT_EQ(one["forbidden"], 7);
  EXPECT_EQ(one["outcomes"].size(), 4u);
  EXPECT_EQ(one["outcomes"][2]["outcome"], "r0=1 r1=0");
  EXPECT_EQ(one["outcomes"][2]["count"], 7);
  EXPECT_EQ(one["outcomes"][2]["cpp_allows"], false);
}

}  // namespace
}  // namespace pagewire::litmus
