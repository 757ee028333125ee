// What three processes see in memory that they share, recorded and checked: without loss, with a port that
// loses, doubles and reorders, and with several clients a node. Each recorded history is then changed in one
// read, which must be seen.
#include "test/history/record.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "pagewire/error.h"
#include "test/e2e/cluster.h"
#include "test/history/machines.h"
#include "test/history/report.h"
#include "test/proof/row.h"

namespace pagewire::history {
namespace {

std::string way_of(const RecordOptions& options) {
  return std::string(options.inline_delivery ? " --inline" : "") + (options.self_driven ? " --self" : "");
}

class Recorded : public testing::Test {
 protected:
  void record_and_check(RecordOptions options) {
    options.seed = std::random_device()();
    SCOPED_TRACE("repeat: bazel run //test/history -- --operations " + std::to_string(options.operations) +
                 " --seed " + std::to_string(options.seed) + " --loss " + std::to_string(options.loss) +
                 " --threads " + std::to_string(options.threads) + " --loops " +
                 std::to_string(options.loops) + way_of(options));
    KeptHistory kept = record(options);
    const Judgement judgement = judge(kept);
    std::fputs(judgement.table.c_str(), stdout);
    EXPECT_TRUE(judgement.holds()) << judgement.explanations;
    EXPECT_EQ(kept.history.clients.size(), std::size_t{options.nodes} * options.threads);
    std::size_t operations = 0;
    for (const auto& list : kept.history.clients) {
      operations += list.size();
      EXPECT_GE(list.size() * kept.history.clients.size(), options.operations);
    }
    EXPECT_GT(kept.total("page_transfers"), options.operations / 50)
        << "hardly a page moved: that shows nothing";
    proof::row("history",
               std::to_string(options.nodes) + " processes, " + std::to_string(options.threads) +
                   " client(s) each, loss " + std::to_string(static_cast<int>(options.loss * 100)) + " %" +
                   way_of(options),
               std::to_string(operations) + " operations, " + std::to_string(kept.total("page_transfers")) +
                   " page transfers");
    ASSERT_TRUE(make_one_read_go_back(kept.history, options.seed));
    const Judgement planted = judge(kept);
    EXPECT_EQ(planted.sequential.verdict, Verdict::kViolated);
    EXPECT_EQ(planted.linearizable.verdict, Verdict::kViolated);
  }
};

TEST_F(Recorded, without_loss) { record_and_check({.operations = e2e::long_or(1'000'000, 30'000)}); }

TEST_F(Recorded, under_loss) {
  record_and_check({.operations = e2e::long_or(1'000'000, 20'000), .loss = 0.1});
}

TEST_F(Recorded, under_loss__two_clients_a_node__two_loops) {
  record_and_check(
      {.threads = 2, .operations = e2e::long_or(600'000, 12'000), .words = 24, .loops = 2, .loss = 0.1});
}

TEST_F(Recorded, inline_delivery__self_driven) {
  record_and_check(
      {.operations = e2e::long_or(600'000, 20'000), .inline_delivery = true, .self_driven = true});
}

TEST_F(Recorded, inline_delivery__self_driven__under_loss__two_clients_a_node__two_loops) {
  record_and_check({.threads = 2,
                    .operations = e2e::long_or(600'000, 12'000),
                    .words = 24,
                    .loops = 2,
                    .inline_delivery = true,
                    .self_driven = true,
                    .loss = 0.1});
}

TEST_F(Recorded, inline_delivery__under_loss) {
  record_and_check({.operations = e2e::long_or(600'000, 12'000), .inline_delivery = true, .loss = 0.1});
}

int exit_code_of(const std::string& arguments) {
  const std::string program = std::filesystem::absolute(std::getenv("PAGEWIRE_NODE_PROGRAM")).string();
  return WEXITSTATUS(std::system((program + " " + arguments + " > /dev/null 2>&1").c_str()));
}

TEST(Command, keeps_and_checks_again) {
  std::string folder = std::filesystem::temp_directory_path() / "pagewire-history-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  EXPECT_EQ(exit_code_of("--operations 600 --loss 0 --keep " + folder), 0);
  EXPECT_EQ(exit_code_of("--check " + folder), 0);
  EXPECT_EQ(exit_code_of("--check " + folder + " --plant"), 1);
  EXPECT_EQ(exit_code_of("--check " + folder + "/none"), 3);
  std::filesystem::remove_all(folder);
}

TEST(Command, a_node_that_fails__is_told) {
  try {
    record({.operations = 100, .words = 1000, .pages = 1});
    ADD_FAILURE() << "recorded";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("node 0 of the recording: exit code 3"), std::string::npos)
        << error.what();
    EXPECT_NE(std::string(error.what()).find("1000 words on 1 pages"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace pagewire::history
