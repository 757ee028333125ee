// The ten rows of the state table through three real processes: what each costs in messages. Control traffic
// aside.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "test/e2e/cluster.h"

namespace pagewire::e2e {
namespace {

class Rows : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    Cluster cluster("rows", 3, {"--no-scan-ahead"});  // it would ask for the next rows' pages
    nodes_ = new std::vector<Finished>(cluster.finish_all(60));
  }
  static void TearDownTestSuite() {
    delete nodes_;
    nodes_ = nullptr;
  }

  // Messages of each type that all nodes together sent during the row.
  static std::map<std::string, std::uint64_t> sent(int row) {
    std::map<std::string, std::uint64_t> total;
    const std::string prefix = "row" + std::to_string(row) + ".";
    for (const Finished& node : *nodes_) {
      EXPECT_EQ(node.exit_code, 0) << node.output;
      EXPECT_EQ(node.at("wrong"), 0u) << node.output;
      for (const auto& [key, value] : node.values) {
        if (key.rfind(prefix, 0) == 0 && key != prefix + "bytes_seen")
          total[key.substr(prefix.size())] += value;
      }
    }
    return total;
  }
  using Messages = std::map<std::string, std::uint64_t>;

 private:
  static std::vector<Finished>* nodes_;
};
std::vector<Finished>* Rows::nodes_ = nullptr;

TEST_F(Rows, row_01__read_of_an_own_page_in_read) { EXPECT_EQ(sent(1), Messages{}); }
TEST_F(Rows, row_02__read_of_an_own_page_in_write) { EXPECT_EQ(sent(2), Messages{}); }
TEST_F(Rows, row_03__read_of_an_own_page_that_others_read) { EXPECT_EQ(sent(3), Messages{}); }
TEST_F(Rows, row_04__read_of_a_copy) { EXPECT_EQ(sent(4), Messages{}); }
TEST_F(Rows, row_05__read_of_an_absent_page_in_read) {
  EXPECT_EQ(sent(5), (Messages{{"copy_request", 1}, {"copy_reply", 1}}));
}
TEST_F(Rows, row_06__read_of_an_absent_page_in_write) {
  EXPECT_EQ(sent(6), (Messages{{"copy_request", 1}, {"copy_reply", 1}}));
}
TEST_F(Rows, row_07__write_of_an_own_page_in_write) { EXPECT_EQ(sent(7), Messages{}); }
TEST_F(Rows, row_08__write_of_an_own_page_that_two_others_read) {
  EXPECT_EQ(sent(8), (Messages{{"invalidate", 1}, {"ack", 2}}));
}

// Two delays: the request to all, then the owner's transfer and the holder's promise at the same time. If the
// promise is late (its loop slept), the writer asks once by name, and the holder promises once more.
void expect_two_delay_write(std::map<std::string, std::uint64_t> messages) {
  const std::uint64_t asked = messages["invalidate"];
  EXPECT_LE(asked, 1u);
  EXPECT_EQ(messages["ack"], 1 + asked);
  messages.erase("invalidate");
  messages.erase("ack");
  EXPECT_EQ(messages, (std::map<std::string, std::uint64_t>{
                          {"write_request", 1}, {"ownership_transfer", 1}, {"transfer_ack", 1}}));
}

TEST_F(Rows, row_09__write_of_a_copy) { expect_two_delay_write(sent(9)); }
TEST_F(Rows, row_10__write_of_an_absent_page) { expect_two_delay_write(sent(10)); }

}  // namespace
}  // namespace pagewire::e2e
