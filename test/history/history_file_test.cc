// Histories on disk: what is written is read again, and what is not right is named with its file and line.
#include "test/history/history_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "pagewire/error.h"
#include "test/history/report.h"

namespace pagewire::history {
namespace {

class HistoryFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "pagewire-history-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void expect_refused(const std::string& words) const {
    try {
      read_history(folder_);
      ADD_FAILURE() << "accepted, without " << words;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  }
  void put(std::uint64_t client, const std::string& text) const {
    std::ofstream(file_of(folder_, client)) << text;
  }

  std::string folder_;
};

const std::vector<Operation> kAll = {
    {.kind = Kind::kWrite, .word = 3, .written = 7, .invoked_ns = 10, .responded_ns = 20},
    {.kind = Kind::kExchange, .word = 3, .read = 7, .written = 9, .invoked_ns = 30, .responded_ns = 40},
    {.kind = Kind::kCompareExchange,
     .word = 3,
     .read = 9,
     .written = 11,
     .invoked_ns = 50,
     .responded_ns = 60},
    {.kind = Kind::kCompareExchangeFailed, .word = 3, .read = 11, .invoked_ns = 70, .responded_ns = 80},
    {.kind = Kind::kRead, .word = 2, .read = 0, .invoked_ns = 90, .responded_ns = 100}};

TEST_F(HistoryFile, what_is_written_is_read) {
  write_record(folder_, {.facts = {{"client", 0}, {"clients", 2}, {"seed", 5}, {"page_transfers", 30}},
                         .operations = kAll});
  write_record(folder_, {.facts = {{"client", 1}, {"clients", 2}, {"seed", 5}, {"page_transfers", 12}},
                         .operations = {}});
  const KeptHistory kept = read_history(folder_);
  ASSERT_EQ(kept.history.clients.size(), 2U);
  EXPECT_EQ(kept.history.clients[0], kAll);
  EXPECT_TRUE(kept.history.clients[1].empty());
  EXPECT_EQ(kept.fact("seed"), 5U);
  EXPECT_EQ(kept.total("page_transfers"), 42U);
  EXPECT_EQ(kept.total("none"), 0U);
}

TEST_F(HistoryFile, judged_with_a_table) {
  write_record(folder_, {.facts = {{"client", 0}, {"clients", 1}, {"seed", 5}, {"page_transfers", 2}},
                         .operations = kAll});
  KeptHistory kept = read_history(folder_);
  const Judgement good = judge(kept);
  EXPECT_TRUE(good.holds()) << good.explanations;
  EXPECT_NE(good.table.find("5 in 0.0 s"), std::string::npos) << good.table;
  EXPECT_NE(good.table.find("1 reads, 1 writes, 1 exchanges, 2 compare-exchanges (1 of them failed)"),
            std::string::npos)
      << good.table;
  kept.history.clients[0][3].read = 9;
  const Judgement bad = judge(kept);
  EXPECT_FALSE(bad.holds());
  EXPECT_NE(bad.explanations.find("client 0 #3  failed compare-exchange word 3: 9"), std::string::npos)
      << bad.explanations;
  EXPECT_NE(bad.table.find("VIOLATED"), std::string::npos) << bad.table;
}

TEST_F(HistoryFile, what_is_not_right_is_named) {
  expect_refused("client-0.history");
  put(0, "client 0\nclients 1\n");
  expect_refused("client-0.history:3: the file ends");
  put(0, "client 0\nclients 1\noperations 1\nQ 1 2 3 4 5\n");
  expect_refused("client-0.history:4: 'Q 1 2 3 4 5'");
  put(0, "client 0\nclients 1\noperations 1\nR 1 2 3\n");
  expect_refused("client-0.history:4: 'R 1 2 3'");
  put(0, "client 0\nclients 1\nwords\n");
  expect_refused("client-0.history:3: 'words'");
  put(0, "client 0\nclients 1\noperations 2\nR 1 2 3 4 5\n");
  expect_refused("client-0.history:5: the file ends");
  put(0, "client 0\nclients 2\nseed 1\noperations 0\n");
  expect_refused("client-1.history");
  put(1, "client 1\nclients 2\nseed 2\noperations 0\n");
  expect_refused("not of the same run");
}

}  // namespace
}  // namespace pagewire::history
