// af_packet between network namespaces: every node is this program again, in its namespace, doing what it is
// told by lines on its standard input. Devices by their device string run in this process.
#include "dataplane/bus_port.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>

#include "dataplane/eal.h"
#include "fault/setup_error.h"
#include "test/dataplane/frames.h"
#include "test/dataplane/network.h"
#include "test/dataplane/peer_process.h"

namespace pagewire::dataplane {
namespace {

using protocol::NodeId;
using protocol::NodeSet;
using test::Network;
using test::PeerProcess;
using Clock = std::chrono::steady_clock;

// ---- the node's side

constexpr std::uint32_t kPoolFrames = 1024;

std::string mac_text(const rte_mbuf* frame, std::uint32_t offset) {
  std::array<char, 18> text;
  const auto* const b = rte_pktmbuf_mtod_offset(frame, const std::uint8_t*, offset);
  std::snprintf(text.data(), text.size(), "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4],
                b[5]);
  return text.data();
}

// A frame, asleep until it comes; nullptr if the time runs out.
rte_mbuf* sleep_for_frame(Port& port, int timeout_ms, std::uint64_t& sleep_count) {
  std::array<rte_mbuf*, 1> frames{};
  while (port.receive(0, frames) == 0) {
    port.arm(0);
    if (port.receive(0, frames) != 0) {
      port.disarm(0);
      return frames[0];
    }
    pollfd arrival{.fd = port.wake_fds(0).at(0), .events = POLLIN, .revents = 0};
    ++sleep_count;
    const int woken = poll(&arrival, 1, timeout_ms);
    port.disarm(0);
    port.drain(0);
    if (woken != 1) return nullptr;
  }
  return frames[0];
}

void send(Port& port, std::uint64_t to, std::uint32_t bytes, int fill) {
  port.send(0, NodeSet(to), test::make_frame(port, 0, bytes, static_cast<std::uint8_t>(fill)));
  port.flush(0);
}

std::string receive(Port& port, int timeout_ms) {
  std::uint64_t sleeps = 0;
  rte_mbuf* const frame = sleep_for_frame(port, timeout_ms, sleeps);
  if (frame == nullptr) return "nothing";
  std::string text = std::to_string(frame->pkt_len) + " " + std::to_string(test::fill_of(frame)) + " to " +
                     mac_text(frame, 0);
  port.learn(0, NodeId{static_cast<std::uint8_t>(test::fill_of(frame))}, frame);
  rte_pktmbuf_free(frame);
  return text;
}

std::string hand_over(Port& port, std::uint64_t other, int rounds, bool first) {
  std::uint64_t sleeps = 0;
  const auto start = Clock::now();
  if (first) send(port, other, 64, 1);
  for (int round = 0; round < rounds; ++round) {
    rte_mbuf* const frame = sleep_for_frame(port, 5000, sleeps);
    if (frame == nullptr) return "lost in round " + std::to_string(round);
    if (!first || round + 1 < rounds) {
      port.send(0, NodeSet(other), frame);
      port.flush(0);
    } else {
      rte_pktmbuf_free(frame);
    }
  }
  const auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
  return "done sleeps " + std::to_string(sleeps) + " ns " + std::to_string(took.count() / rounds);
}

std::string flood(Port& port, std::uint64_t to, int count) {
  const PortCounters before = port.counters(0);
  for (int i = 0; i < count; ++i) {
    rte_mbuf* const frame = test::make_frame(port, 0, 1514, 1);
    if (frame == nullptr) return "no mbuf";
    port.send(0, NodeSet(to), frame);
  }
  port.flush(0);
  const PortCounters after = port.counters(0);
  return std::to_string(after.sent_frame_count - before.sent_frame_count + after.send_dropped_count -
                        before.send_dropped_count);
}

std::uint64_t interface_packets(const std::string& which) {
  std::ifstream file("/sys/class/net/eth0/statistics/" + which);
  std::uint64_t count = 0;
  file >> count;
  return count;
}

std::string answer(Port& port, const std::string& line) {
  std::istringstream words(line);
  std::string verb;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  std::uint64_t c = 0;
  words >> verb >> a >> b >> c;
  if (verb == "send") return send(port, a, static_cast<std::uint32_t>(b), static_cast<int>(c)), "sent";
  if (verb == "receive") return receive(port, static_cast<int>(a));
  if (verb == "hand_over") return hand_over(port, a, static_cast<int>(b), c != 0);
  if (verb == "flood") return flood(port, a, static_cast<int>(b));
  if (verb == "packets") return std::to_string(interface_packets("tx_packets"));
  if (verb == "multicasts") return std::to_string(port.counters(0).sent_multicast_count);
  if (verb == "foreign") return std::to_string(port.counters(0).foreign_frame_count);
  if (verb == "bytes_max") return std::to_string(port.frame_bytes_max());
  if (verb == "keeps_queue") return std::to_string(port.keeps_queue());
  return "what?";
}

int node_role(std::span<char*> arguments) {  // NODE CLUSTER QUEUES
  try {
    const auto eal = Eal::start({.memory_mb = eal_memory_mb(2, kPoolFrames)});
    const auto port = open_bus_port(eal, {.device = "af_packet:eth0",
                                          .node = NodeId{static_cast<std::uint8_t>(std::stoul(arguments[0]))},
                                          .node_count = 3,
                                          .queue_count = static_cast<std::uint16_t>(std::stoul(arguments[2])),
                                          .cluster_id = static_cast<std::uint32_t>(std::stoul(arguments[1])),
                                          .pool_frames = kPoolFrames});
    std::cout << "open" << std::endl;
    for (std::string line; std::getline(std::cin, line);) std::cout << answer(*port, line) << std::endl;
    port->close();
    std::cout << "left " << kPoolFrames - rte_mempool_avail_count(port->pool(0)) << std::endl;
  } catch (const fault::SetupError& error) {
    std::cout << "error " << error.what_failed() << ": " << error.seen() << std::endl;
    return 1;
  }
  return 0;
}

// ---- the test's side

class AfPacket : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root for network namespaces";
    if (!network_.usable()) GTEST_SKIP() << "no network namespaces, veth or bridges here";
  }
  void TearDown() override {
    for (auto& [node, peer] : peers_) {
      if (!peer.running()) continue;
      peer.stop();
      EXPECT_EQ(peer.line(), "left 0") << "node " << node;
      EXPECT_EQ(peer.wait(), 0);
    }
  }
  PeerProcess launch(int node, int cluster = 7, int queues = 1) {
    return PeerProcess({"--bus-node", std::to_string(node), std::to_string(cluster), std::to_string(queues)},
                       network_.enter(node));
  }
  void open(int node_count) {
    for (int node = 0; node < node_count; ++node) peers_.emplace(node, launch(node));
    for (auto& [node, peer] : peers_) ASSERT_EQ(peer.line(), "open");
  }
  std::string ask(int node, const std::string& line) {
    peers_.at(node).tell(line);
    return peers_.at(node).line();
  }

  Network network_{3};
  std::map<int, PeerProcess> peers_;
};

TEST_F(AfPacket, send__to_all_is_one_frame_on_the_wire) {
  open(3);
  const auto before = std::stoull(ask(0, "packets"));
  EXPECT_EQ(ask(0, "send 6 200 1"), "sent");
  EXPECT_EQ(ask(1, "receive 5000"), "200 1 to 03:50:57:00:00:07");
  EXPECT_EQ(ask(2, "receive 5000"), "200 1 to 03:50:57:00:00:07");
  EXPECT_EQ(std::stoull(ask(0, "packets")) - before, 1U);
  EXPECT_EQ(ask(0, "multicasts"), "1");
  EXPECT_EQ(ask(0, "receive 0"), "nothing");  // no echo
}

TEST_F(AfPacket, learn__one_node_is_then_sent_to_alone) {
  open(3);
  ask(0, "send 2 100 0");  // node 1 isn't known yet: by the group's address, for one node all the same
  EXPECT_EQ(ask(1, "receive 5000"), "100 0 to 03:50:57:00:00:07");
  EXPECT_EQ(ask(2, "receive 5000"), "100 0 to 03:50:57:00:00:07");
  EXPECT_EQ(ask(0, "multicasts"), "0");
  ask(1, "send 1 100 1");  // node 1 has learned node 0's address
  const std::string answer = ask(0, "receive 5000");
  EXPECT_TRUE(answer.starts_with("100 1 to ") && answer.find("03:50:57") == std::string::npos) << answer;
  EXPECT_EQ(ask(2, "receive 100"), "nothing");
}

TEST_F(AfPacket, send__every_size_arrives_as_it_was) {
  open(2);
  EXPECT_EQ(ask(0, "bytes_max"), "1514");
  for (int bytes = 60; bytes <= 1514; bytes += bytes == 1488 ? 26 : 42) {
    ask(0, "send 2 " + std::to_string(bytes) + " 5");
    const std::string answer = ask(1, "receive 5000");
    EXPECT_TRUE(answer.starts_with(std::to_string(bytes) + " 5 to ")) << answer;
  }
  ask(0, "send 2 1515 5");
  EXPECT_EQ(ask(1, "receive 100"), "nothing");
}

TEST_F(AfPacket, receive__other_clusters_and_other_traffic_do_not_come_in) {
  open(2);
  peers_.emplace(2, launch(2, 8));
  ASSERT_EQ(peers_.at(2).line(), "open");
  ask(2, "send 3 100 2");  // the same medium, another cluster's group
  EXPECT_EQ(ask(1, "receive 300"), "nothing");
  EXPECT_EQ(ask(1, "foreign"), "1");
  ask(0, "send 2 100 1");
  EXPECT_TRUE(ask(1, "receive 5000").starts_with("100 1 "));
}

TEST_F(AfPacket, wake_fds__ten_thousand_hand_overs_without_a_lost_wake_up) {
  open(2);
  peers_.at(1).tell("hand_over 1 10000 0");
  const std::string first = ask(0, "hand_over 2 10000 1");
  EXPECT_TRUE(first.starts_with("done sleeps ")) << first;
  EXPECT_GT(std::stoi(first.substr(12)), 1000) << "hardly ever slept: this tested nothing";
  const std::string second = peers_.at(1).line();
  EXPECT_TRUE(second.starts_with("done")) << second;
  RecordProperty("result", first);
}

TEST_F(AfPacket, flush__never_blocks_though_nobody_listens) {
  open(1);
  EXPECT_EQ(ask(0, "flood 6 100000"), "100000");  // each sent or dropped, and counted
}

TEST_F(AfPacket, open__two_queues) {
  peers_.emplace(0, launch(0, 7, 2));
  ASSERT_EQ(peers_.at(0).line(), "open");
  EXPECT_EQ(ask(0, "keeps_queue"), "0");
}

TEST_F(AfPacket, open__refuses_an_interface_that_is_down_or_absent) {
  ASSERT_TRUE(network_.set_link(0, "down"));
  PeerProcess down = launch(0);
  EXPECT_EQ(down.line(), "error using interface eth0: it is down");
  EXPECT_EQ(down.wait(), 1);
  ASSERT_TRUE(network_.set_link(1, "name eth9"));
  PeerProcess absent = launch(1);
  EXPECT_EQ(absent.line(), "error looking for interface eth0: No such device");
  EXPECT_EQ(absent.wait(), 1);
}

TEST_F(AfPacket, frame_bytes_max__follows_a_small_mtu) {
  ASSERT_TRUE(network_.set_link(0, "mtu 1000"));
  peers_.emplace(0, launch(0));
  ASSERT_EQ(peers_.at(0).line(), "open");
  EXPECT_EQ(ask(0, "bytes_max"), "1014");
}

// ---- devices of EAL's, in this process

BusOptions device(const std::string& name) { return {.device = name, .node_count = 2, .pool_frames = 256}; }

TEST(BusPort, eal_device__works_and_what_is_not_ours_is_counted) {
  const auto eal = Eal::start({.memory_mb = 64});
  const auto port =
      open_bus_port(eal, device("eal:net_null0,size=64"));  // receives without end what nobody sent
  std::array<rte_mbuf*, 32> frames{};
  EXPECT_EQ(port->receive(0, frames), 0);
  EXPECT_EQ(port->counters(0).foreign_frame_count, 32U);
  EXPECT_EQ(port->frame_bytes_max(), 1514U);
  EXPECT_TRUE(port->wake_fds(0).empty());
  EXPECT_EQ(port->nap_ns_max(), 50'000U);
  send(*port, 2, 100, 1);
  EXPECT_EQ(port->counters(0).sent_frame_count, 1U);
  port->close();
  EXPECT_EQ(rte_mempool_avail_count(port->pool(0)), 256U);
}

TEST(BusPort, open__refuses_what_is_no_device) {
  const auto eal = Eal::start({.memory_mb = 64});
  EXPECT_THROW(open_bus_port(eal, device("eth0")), fault::SetupError);
  EXPECT_THROW(open_bus_port(eal, device("eal:net_nothing0")), fault::SetupError);
  EXPECT_THROW(open_bus_port(eal, device("0000:00:1f.7")), fault::SetupError);
  EXPECT_THROW(open_bus_port(eal, device("af_packet:a,b")), fault::SetupError);
}

TEST(BusPort, pci_devices_of__an_address_and_nothing_else) {
  EXPECT_EQ(pci_devices_of("0000:00:05.0"), std::vector<std::string>{"0000:00:05.0"});
  EXPECT_TRUE(pci_devices_of("af_packet:eth0").empty());
  EXPECT_TRUE(pci_devices_of("eal:net_null0").empty());
}

}  // namespace
}  // namespace pagewire::dataplane

int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "--bus-node") {
    return pagewire::dataplane::node_role(std::span(argv, 5).subspan(2));
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
