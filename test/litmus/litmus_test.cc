// All cases between real processes: some ten thousand iterations of each, a million in the long run.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "test/e2e/cluster.h"
#include "test/litmus/campaign.h"
#include "test/litmus/verdict.h"
#include "test/proof/row.h"

namespace pagewire::litmus {
namespace {

CampaignOptions options_for(std::size_t shape, std::uint64_t iterations) {
  CampaignOptions options;
  for (const Order order : kOrders) {
    for (const Layout layout : kLayouts) {
      options.cases.push_back(Case{.shape = shape, .order = order, .layout = layout});
    }
  }
  options.iterations = iterations;
  options.seed = std::random_device()();
  return options;
}

std::string shape_text(const testing::TestParamInfo<std::size_t>& info) {
  std::string text(kShapes[info.param].name);
  const std::size_t plus = text.find('+');
  return plus == std::string::npos ? text
                                   : text.replace(plus, 1, "plus");  // GoogleTest takes letters and digits
}

void record_row(const std::vector<CaseReport>& reports, const std::string& way = "") {
  std::uint64_t iterations = 0;
  std::uint64_t faults = 0;
  std::uint64_t weak = 0;
  for (const CaseReport& report : reports) {
    iterations += report.result.histogram.total();
    faults += report.result.fault_count;
    weak += verdict_of(judge(report.one.code(), report.one.order), report.result.histogram).weak_count;
  }
  proof::row("litmus", std::string(reports.front().one.code().name) + ", 3 orders, 2 layouts" + way,
             std::to_string(iterations) + " iterations, " + std::to_string(faults) +
                 " page faults, weak seen " + std::to_string(weak) + " times");
}

class OnRegions : public testing::TestWithParam<std::size_t> {};

TEST_P(OnRegions, show_nothing_that_cpp_forbids) {
  const CampaignOptions options = options_for(GetParam(), e2e::long_or(1'000'000, 25'000));
  const std::vector<CaseReport> reports = run_cases(options, [](const CaseReport&) {});
  std::cout << "seed " << options.seed << '\n' << summary_text(reports);
  record_row(reports);
  for (const CaseReport& report : reports) {
    const Judgement judgement = judge(report.one.code(), report.one.order);
    const Verdict verdict = verdict_of(judgement, report.result.histogram);
    SCOPED_TRACE("seed " + std::to_string(options.seed) + '\n' + histogram_text(report, judgement));
    EXPECT_EQ(verdict.forbidden_count, 0u);
    EXPECT_GE(report.result.histogram.total(), options.iterations);
    // It was a test: threads went past each other both ways, and pages moved while they ran.
    EXPECT_GE(verdict.seen_outcomes, 2u);
    EXPECT_GE(report.result.fault_count, 5 * report.result.batch_count);
  }
}
INSTANTIATE_TEST_SUITE_P(All, OnRegions, testing::Range(std::size_t{0}, kShapes.size()), shape_text);

// Faults taken by the threads themselves, which then drive the loops: other threads map and withdraw pages.
class OnRegionsInline : public testing::TestWithParam<std::vector<std::string>> {};
INSTANTIATE_TEST_SUITE_P(Ways, OnRegionsInline,
                         testing::Values(std::vector<std::string>{"--inline"},
                                         std::vector<std::string>{"--self"},
                                         std::vector<std::string>{"--inline", "--self"}),
                         [](const auto& info) {
                           std::string name;
                           for (const std::string& flag : info.param)
                             name += (name.empty() ? "" : "_") + flag.substr(2);
                           return name;
                         });

TEST_P(OnRegionsInline, show_nothing_that_cpp_forbids) {
  for (const char* name : {"SB", "MP", "IRIW"}) {
    const std::size_t shape = index_of(shape_names(), name).value();
    CampaignOptions options = options_for(shape, e2e::long_or(200'000, 8'000));
    options.node_flags = GetParam();
    const std::vector<CaseReport> reports = run_cases(options, [](const CaseReport&) {});
    EXPECT_TRUE(all_passed(reports)) << "seed " << options.seed << '\n' << summary_text(reports);
    std::uint64_t faults = 0;
    std::uint64_t batches = 0;
    for (const CaseReport& report : reports) {
      faults += report.result.fault_count;
      batches += report.result.batch_count;
    }
    EXPECT_GE(faults, 5 * batches) << name << ": pages hardly moved";
    std::string way;
    for (const std::string& flag : GetParam()) way += " " + flag;
    record_row(reports, way);
  }
}

TEST(OnRegionsOverABadNetwork, message_passing_and_iriw_show_nothing_that_cpp_forbids) {
  for (const char* name : {"MP", "IRIW"}) {
    CampaignOptions options = options_for(index_of(shape_names(), name).value(), e2e::long_or(20'000, 2'000));
    options.node_flags = {"--drop", "0.02", "--duplicate", "0.02", "--reorder", "0.05"};
    const std::vector<CaseReport> reports = run_cases(options, [](const CaseReport&) {});
    EXPECT_TRUE(all_passed(reports)) << "seed " << options.seed << '\n' << summary_text(reports);
  }
}

// The same program on memory that is weaker than a region: it can show a weak outcome, and a judge who asks
// for more than that memory gives fails. Without this, nothing seen on regions would mean little.
TEST(OnPlainMemory, store_buffering_shows_the_processors_store_buffers) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "needs two processors";
  const std::size_t shape = index_of(shape_names(), "SB").value();
  constexpr int kTries = 20;  // others may want the processors
  for (int i = 0; i < kTries; ++i) {
    CampaignOptions options;
    options.cases = {Case{.shape = shape, .order = Order::kRelaxed, .layout = Layout::kPages}};
    options.iterations = 200'000;
    options.seed = static_cast<std::uint64_t>(i);
    options.memory = Memory::kPlain;
    std::vector<CaseReport> reports = run_cases(options, [](const CaseReport&) {});
    const std::uint64_t both_missed = reports[0].result.histogram.count(Outcome{});
    EXPECT_TRUE(all_passed(reports)) << summary_text(reports);
    if (both_missed == 0) continue;
    reports[0].one.order = Order::kSeqCst;
    EXPECT_EQ(verdict_of(judge(kShapes[shape], Order::kSeqCst), reports[0].result.histogram).forbidden_count,
              both_missed);
    EXPECT_FALSE(all_passed(reports));
    return;
  }
  FAIL() << "no store buffering in " << kTries << " runs: the threads do not meet";
}

TEST(Campaign, says_why_nodes_failed) {
  CampaignOptions options = options_for(0, 1000);
  options.node_flags = {"--drop", "2"};
  try {
    run_cases(options, [](const CaseReport&) {});
    FAIL() << "a share of 2 was taken";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("impairment.drop"), std::string::npos) << error.what();
  }
}

TEST(Command, exit_codes) {
  const std::string program = std::getenv("PAGEWIRE_NODE_PROGRAM");
  const auto exit_code = [&](const std::string& arguments) {
    const int status = std::system((program + ' ' + arguments + " >/dev/null 2>&1").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  EXPECT_EQ(exit_code("--list"), 0);
  EXPECT_EQ(exit_code("--help"), 0);
  EXPECT_EQ(exit_code("--test NONE"), 2);
  EXPECT_EQ(exit_code("--iterations 0"), 2);
  EXPECT_EQ(exit_code("--test SB --order seq_cst --layout pages --iterations 2000"), 0);
  EXPECT_EQ(exit_code("--test SB --order seq_cst --layout pages --iterations 2000 --drop 1.5"), 2);
}

}  // namespace
}  // namespace pagewire::litmus
