// Every node is a process of its own (memif_peer.cc), since EAL starts once a process; this one only directs
// them.
#include "dataplane/memif_port.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "test/dataplane/memif_peer.h"
#include "test/dataplane/peer_process.h"

namespace pagewire::dataplane {
namespace {

using test::PeerProcess;

// How often a node is killed under load; PAGEWIRE_LONG=1 asks for the long run.
int kill_count() { return std::getenv("PAGEWIRE_LONG") != nullptr ? 100 : 3; }

class MemifPort : public testing::Test {
 protected:
  void SetUp() override {
    std::array<char, 64> pattern{"/tmp/pagewire-memif-XXXXXX"};
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    parent_ = pattern.data();
    folder_ = parent_ + "/links";
  }
  void TearDown() override { std::filesystem::remove_all(parent_); }

  PeerProcess start(const std::string& role, int node, int node_count,
                    const std::vector<std::string>& options = {}) {
    std::vector<std::string> words = {"--memif-peer", role, folder_, std::to_string(node),
                                      std::to_string(node_count)};
    words.insert(words.end(), options.begin(), options.end());
    return PeerProcess(words);
  }
  // Stops it in order and checks that it gave every mbuf back.
  static void finish(PeerProcess& peer) {
    peer.stop();
    std::string line = peer.line();
    while (!line.starts_with("pools") && !line.starts_with("<")) line = peer.line();
    expect_equal_halves(line);
    EXPECT_EQ(peer.line(), "closed");
    EXPECT_EQ(peer.wait(), 0);
  }
  static void expect_equal_halves(const std::string& line) {
    std::istringstream words(line.substr(line.find(' ') + 1));
    const std::vector<std::string> counts{std::istream_iterator<std::string>(words), {}};
    ASSERT_EQ(counts.size() % 2, 0U) << line;
    ASSERT_GE(counts.size(), 2U) << line;
    for (std::size_t i = 0; i < counts.size() / 2; ++i)
      EXPECT_EQ(counts[i], counts[counts.size() / 2 + i]) << line;
  }
  std::string error_of(const std::vector<std::string>& options = {"timeout_ms=300"}) {
    PeerProcess peer = start("open", 0, 1, options);
    std::string line = peer.line();
    if (line == "linked") finish(peer);
    return line;
  }

  std::string parent_;
  std::string folder_;
};

TEST_F(MemifPort, send__every_size_to_all_comes_back_as_it_was) {
  std::vector<PeerProcess> echoes;
  echoes.push_back(start("echo", 0, 3, {"queues=2"}));
  echoes.push_back(start("echo", 2, 3, {"queues=2"}));
  PeerProcess sender = start("sizes", 1, 3, {"queues=2"});  // a client of 0 and a server of 2
  EXPECT_EQ(sender.line(), "linked");
  const std::string result = sender.line();
  EXPECT_TRUE(result.starts_with("sizes right ") && result.ends_with(" wrong 0")) << result;
  for (PeerProcess& echo : echoes) EXPECT_EQ(echo.line(), "linked");
  finish(sender);
  for (PeerProcess& echo : echoes) finish(echo);
  EXPECT_FALSE(std::filesystem::exists(folder_)) << "left behind";
}

TEST_F(MemifPort, arm__ten_thousand_hand_overs_without_a_lost_wake_up) {
  PeerProcess first = start("hand_over", 0, 2, {"rounds=10000"});
  PeerProcess second = start("hand_over", 1, 2, {"rounds=10000"});
  for (PeerProcess* const peer : {&first, &second}) {
    EXPECT_EQ(peer->line(), "linked");
    const std::string result = peer->line();
    ASSERT_TRUE(result.starts_with("handed over 10000 sleeps ")) << result;
    EXPECT_GT(std::stoi(result.substr(25)), 1000) << "hardly ever slept: this tested nothing";
    RecordProperty("result", result);
  }
  finish(first);
  finish(second);
}

// A node is killed while all send and receive as fast as they can: nobody else falls, and the folder is
// usable at once.
TEST_F(MemifPort, kill__under_load_harms_no_survivor) {
  for (int round = 0; round < kill_count(); ++round) {
    std::vector<PeerProcess> peers;
    peers.reserve(3);
    for (int node = 0; node < 3; ++node) peers.push_back(start("flood", node, 3, {"queues=2", "pool=1024"}));
    for (PeerProcess& peer : peers) ASSERT_EQ(peer.line(), "linked");
    for (PeerProcess& peer : peers) ASSERT_EQ(peer.line(), "busy");
    const int victim = round % 3;
    peers[static_cast<std::size_t>(victim)].kill();
    EXPECT_EQ(peers[static_cast<std::size_t>(victim)].wait(), 128 + SIGKILL);
    for (int node = 0; node < 3; ++node) {
      if (node == victim) continue;
      PeerProcess& survivor = peers[static_cast<std::size_t>(node)];
      // Long enough to fill the dead node's rings several times, and to meet whatever its death sets off.
      EXPECT_EQ(survivor.line(std::chrono::milliseconds(100)), "<timeout>");
      survivor.stop();
      const std::string result = survivor.line();
      ASSERT_TRUE(result.starts_with("dropped ")) << result;
      EXPECT_GT(std::stoull(result.substr(8)), 0U);
      // Nothing may unmap a link's memory while loops use the port. Without that a crash comes only now and
      // then.
      EXPECT_NE(result.find(" regions 2 2 "), std::string::npos) << result;
      const auto connected = std::stoull(result.substr(result.rfind(' ') + 1));
      EXPECT_EQ(connected >> victim & 1, 0U) << "the dead one still counts as there";
      EXPECT_EQ(connected >> node & 1, 1U);
      finish(survivor);
    }
  }
  EXPECT_FALSE(std::filesystem::exists(folder_));
}

TEST_F(MemifPort, open__after_everybody_was_killed) {
  for (int run = 0; run < 2; ++run) {
    PeerProcess first = start("open", 0, 2);
    PeerProcess second = start("open", 1, 2);
    EXPECT_EQ(first.line(), "linked");
    EXPECT_EQ(second.line(), "linked");
    for (PeerProcess* const peer : {&first, &second}) {
      peer->kill();
      peer->wait();
    }
    EXPECT_TRUE(std::filesystem::exists(folder_ + "/link.0.1"));  // what they leave must not stop the next
  }
  // Another shape of cluster is no trouble either, once nobody is there.
  EXPECT_EQ(error_of(), "linked");
  EXPECT_FALSE(std::filesystem::exists(folder_));
}

TEST_F(MemifPort, open__while_linking_a_restarted_node_is_waited_for) {
  PeerProcess server = start("open", 0, 3);
  {
    PeerProcess early = start("open", 1, 3);
    EXPECT_EQ(early.line(std::chrono::milliseconds(700)), "<timeout>");  // it waits for node 2
  }                                                                      // killed
  PeerProcess again = start("open", 1, 3);
  PeerProcess last = start("open", 2, 3);
  for (PeerProcess* const peer : {&server, &again, &last}) EXPECT_EQ(peer->line(), "linked");
  for (PeerProcess* const peer : {&server, &again, &last}) finish(*peer);
}

TEST_F(MemifPort, open__while_linking_a_restarted_server_is_waited_for) {
  PeerProcess client = start("open", 1, 3);
  {
    PeerProcess early = start("open", 0, 3);
    EXPECT_EQ(early.line(std::chrono::milliseconds(700)), "<timeout>");
  }
  PeerProcess again = start("open", 0, 3);
  PeerProcess last = start("open", 2, 3);
  for (PeerProcess* const peer : {&client, &again, &last}) EXPECT_EQ(peer->line(), "linked");
  for (PeerProcess* const peer : {&client, &again, &last}) finish(*peer);
}

TEST_F(MemifPort, open__names_the_nodes_that_did_not_come) {
  PeerProcess first = start("open", 0, 4, {"timeout_ms=1000"});
  PeerProcess third = start("open", 2, 4, {"timeout_ms=2500"});
  const std::string error = first.line();
  EXPECT_NE(error.find("no link to node 1 (not started), 3 (not started)"), std::string::npos) << error;
  EXPECT_TRUE(third.line().starts_with("error "));
  EXPECT_EQ(first.wait(), 1);
  EXPECT_EQ(third.wait(), 1);
  EXPECT_FALSE(std::filesystem::exists(folder_)) << "left behind";
}

TEST_F(MemifPort, open__refuses_a_node_that_runs_already) {
  PeerProcess first = start("open", 0, 1);
  EXPECT_EQ(first.line(), "linked");
  const std::string error = error_of();
  EXPECT_NE(error.find("taking the place of node 0"), std::string::npos) << error;
  finish(first);
}

TEST_F(MemifPort, open__refuses_nodes_of_another_shape_and_names_both_values) {
  PeerProcess first = start("open", 0, 2, {"queues=2", "timeout_ms=3000"});
  while (!std::filesystem::exists(folder_ + "/link.0.1") && first.running()) {
    ASSERT_EQ(first.line(std::chrono::milliseconds(20)), "<timeout>");
  }
  PeerProcess second = start("open", 1, 2, {"queues=1", "timeout_ms=300"});
  const std::string error = second.line();
  EXPECT_NE(error.find("the number of loops is 2 there and 1 here"), std::string::npos) << error;
  EXPECT_EQ(second.wait(), 1);
}

TEST_F(MemifPort, open__refuses_a_folder_that_others_can_enter) {
  ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
  ASSERT_EQ(chmod(folder_.c_str(), 0750), 0);
  const std::string error = error_of();
  EXPECT_NE(error.find("its mode is 0750, open to other users. chmod 700"), std::string::npos) << error;
}

TEST_F(MemifPort, open__refuses_somebody_elses_folder) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to give a folder away";
  ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
  ASSERT_EQ(chown(folder_.c_str(), 65534, 65534), 0);
  const std::string error = error_of();
  EXPECT_NE(error.find("it belongs to user 65534"), std::string::npos) << error;
}

TEST_F(MemifPort, open__refuses_a_file_in_the_folders_place) {
  std::ofstream(folder_) << "x";
  EXPECT_NE(error_of().find("it is no folder"), std::string::npos);
}

TEST_F(MemifPort, open__keeps_a_folder_that_was_there) {
  ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
  EXPECT_EQ(error_of(), "linked");
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(MemifPort, open__refuses_paths_that_eal_would_misread) {
  folder_ = parent_ + "/a,b";
  EXPECT_NE(error_of().find("reading memif's options: the folder"), std::string::npos);
}

}  // namespace
}  // namespace pagewire::dataplane

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "--memif-peer") {
    return pagewire::test::run_memif_peer({argv, static_cast<std::size_t>(argc)});
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
