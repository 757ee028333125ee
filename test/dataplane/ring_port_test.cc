// The mesh of net_ring ports within one process: frames of every size, waking, nothing leaked.
#include "dataplane/ring_port.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <array>
#include <cstring>
#include <numeric>
#include <thread>

#include "dataplane/eal.h"
#include "fault/setup_error.h"
#include "test/dataplane/frames.h"

namespace pagewire::dataplane {
namespace {

using protocol::NodeId;
using protocol::NodeSet;
using test::fill_of;
using test::make_frame;

constexpr std::uint32_t kPoolFrames = 256;

std::shared_ptr<Eal> eal() { return Eal::start({.memory_mb = 128}); }

// A mesh whose pools are full again when the test ends.
class RingPort : public testing::Test {
 protected:
  void open(std::uint32_t nodes, std::uint16_t queues) {
    ports_ = make_ring_mesh(eal(), nodes, queues, {.ring_frames = 64, .pool_frames = kPoolFrames});
  }
  void TearDown() override {
    for (const auto& port : ports_) port->close();
    for (const auto& port : ports_) {
      for (std::uint16_t queue = 0; queue < port->queue_count(); ++queue) {
        EXPECT_EQ(rte_mempool_avail_count(port->pool(queue)), kPoolFrames) << "leaked";
      }
    }
  }
  Port& port(std::size_t node) { return *ports_[node]; }
  rte_mbuf* receive_one(std::size_t node, std::uint16_t queue = 0) {
    std::array<rte_mbuf*, 1> frames{};
    return port(node).receive(queue, frames) == 1 ? frames[0] : nullptr;
  }

  std::vector<std::unique_ptr<Port>> ports_;
};

TEST_F(RingPort, send__every_size_arrives_as_it_was) {
  open(2, 1);
  for (std::uint32_t bytes = 60; bytes <= port(0).frame_bytes_max(); bytes += 61) {
    port(0).send(0, NodeSet::of(NodeId{1}), make_frame(port(0), 0, bytes, static_cast<std::uint8_t>(bytes)));
    port(0).flush(0);
    rte_mbuf* const frame = receive_one(1);
    ASSERT_NE(frame, nullptr) << bytes;
    EXPECT_EQ(frame->pkt_len, bytes);
    EXPECT_EQ(fill_of(frame), static_cast<std::uint8_t>(bytes));
    rte_pktmbuf_free(frame);
  }
}

TEST_F(RingPort, send__to_all_reaches_all_others_in_mbufs_of_their_own) {
  open(4, 1);
  port(1).send(0, NodeSet::first(4), make_frame(port(1), 0, 100, 9));
  port(1).flush(0);
  std::array<rte_mbuf*, 3> frames = {receive_one(0), receive_one(2), receive_one(3)};
  EXPECT_EQ(receive_one(1), nullptr);
  for (rte_mbuf* const frame : frames) {
    ASSERT_NE(frame, nullptr);
    EXPECT_EQ(rte_mbuf_refcnt_read(frame), 1);
    EXPECT_EQ(fill_of(frame), 9);
    std::memset(rte_pktmbuf_mtod(frame, char*), 0, frame->data_len);  // what one does to it, no other sees
  }
  for (rte_mbuf* const frame : frames) rte_pktmbuf_free(frame);
  EXPECT_EQ(port(1).counters(0).sent_frame_count, 3U);
  EXPECT_EQ(port(1).counters(0).sent_multicast_count, 0U);
}

TEST_F(RingPort, send__keeps_the_queue) {
  open(2, 2);
  port(0).send(1, NodeSet::of(NodeId{1}), make_frame(port(0), 1, 64, 1));
  port(0).flush(1);
  EXPECT_EQ(receive_one(1, 0), nullptr);
  rte_mbuf* const frame = receive_one(1, 1);
  ASSERT_NE(frame, nullptr);
  rte_pktmbuf_free(frame);
}

TEST_F(RingPort, send__to_nobody_or_too_long_is_freed) {
  open(2, 1);
  port(0).send(0, NodeSet::of(NodeId{0}), make_frame(port(0), 0, 64, 1));
  EXPECT_EQ(port(0).counters(0).send_dropped_count, 0U);
  rte_mbuf* const stub = rte_pktmbuf_alloc(port(0).pool(0));
  rte_pktmbuf_append(stub, kEthernetBytes - 1);
  port(0).send(0, NodeSet::of(NodeId{1}), stub);
  EXPECT_EQ(port(0).counters(0).send_dropped_count, 1U);
  port(0).flush(0);
  EXPECT_EQ(receive_one(1), nullptr);
}

TEST_F(RingPort, flush__a_full_ring_drops_and_counts) {
  open(2, 1);
  for (int i = 0; i < 100; ++i) {
    port(0).send(0, NodeSet::of(NodeId{1}), make_frame(port(0), 0, 64, 1));
  }
  port(0).flush(0);
  const PortCounters counters = port(0).counters(0);
  EXPECT_EQ(counters.sent_frame_count, 63U);  // a ring of 64 holds one less
  EXPECT_EQ(counters.send_dropped_count, 37U);
}

TEST_F(RingPort, receive__foreign_frames_are_freed_and_counted) {
  open(2, 1);
  rte_mbuf* const frame = make_frame(port(0), 0, 64, 1);
  port(0).send(0, NodeSet::of(NodeId{1}), frame);
  rte_pktmbuf_mtod(frame, char*)[12] = 0x08;  // the EtherType, before it is flushed
  port(0).flush(0);
  EXPECT_EQ(receive_one(1), nullptr);
  EXPECT_EQ(port(1).counters(0).foreign_frame_count, 1U);
  EXPECT_EQ(port(1).counters(0).received_frame_count, 0U);
}

TEST_F(RingPort, receive__takes_turns_among_peers) {
  open(3, 1);
  for (int i = 0; i < 40; ++i) {
    for (const std::size_t sender : {1U, 2U}) {
      port(sender).send(0, NodeSet::of(NodeId{0}),
                        make_frame(port(sender), 0, 64, static_cast<std::uint8_t>(sender)));
      port(sender).flush(0);
    }
  }
  std::array<int, 3> seen{};
  for (int i = 0; i < 10; ++i) {
    rte_mbuf* const frame = receive_one(0);
    ++seen[static_cast<std::size_t>(fill_of(frame))];
    rte_pktmbuf_free(frame);
  }
  EXPECT_EQ(seen[1], 5);
  EXPECT_EQ(seen[2], 5);
}

TEST_F(RingPort, close__frames_that_nobody_took_go_back) {
  open(2, 1);
  port(0).send(0, NodeSet::of(NodeId{1}), make_frame(port(0), 0, 64, 1));
  port(0).flush(0);
  port(0).send(0, NodeSet::of(NodeId{1}), make_frame(port(0), 0, 64, 1));  // not flushed
  rte_mbuf* const frame = receive_one(1);
  rte_pktmbuf_free(frame);
}

// Two loops on threads of their own, each sleeping until the other's frame comes.
TEST_F(RingPort, arm__ten_thousand_hand_overs_without_a_lost_wake_up) {
  open(2, 1);
  constexpr int kRounds = 10'000;
  std::array<bool, 2> lost{};
  std::array<int, 2> sleeps{};
  const auto side = [&](std::size_t me) {
    const LoopThreadRegistration registration;
    rte_mbuf* frame = me == 0 ? make_frame(port(0), 0, 64, 0) : nullptr;
    for (int round = 0; round < kRounds; ++round) {
      if (frame != nullptr) {
        port(me).send(0, NodeSet::of(NodeId{static_cast<std::uint8_t>(1 - me)}), frame);
        port(me).flush(0);
      }
      frame = receive_one(me);
      while (frame == nullptr) {
        port(me).arm(0);
        frame = receive_one(me);
        if (frame == nullptr) {
          pollfd bell{.fd = port(me).wake_fds(0)[0], .events = POLLIN, .revents = 0};
          ++sleeps[me];
          if (poll(&bell, 1, 5000) != 1) lost[me] = true;
        }
        port(me).disarm(0);
        port(me).drain(0);
        if (lost[me]) return;
      }
    }
    if (me == 1) {
      port(1).send(0, NodeSet::of(NodeId{0}), frame);
      port(1).flush(0);
    } else {
      rte_pktmbuf_free(frame);
    }
  };
  std::thread second(side, 1);
  side(0);
  second.join();
  EXPECT_FALSE(lost[0] || lost[1]);
  EXPECT_GT(sleeps[0] + sleeps[1], kRounds / 10) << "hardly ever slept: this tested nothing";
}

TEST_F(RingPort, make__refuses_what_cannot_be) {
  EXPECT_THROW(make_ring_mesh(eal(), 0, 1), fault::SetupError);
  EXPECT_THROW(make_ring_mesh(eal(), 65, 1), fault::SetupError);
  EXPECT_THROW(make_ring_mesh(eal(), 2, 1, {.ring_frames = 100}), fault::SetupError);
}

TEST_F(RingPort, make__again_and_again_uses_no_memory_up) {
  for (int i = 0; i < 20; ++i) {
    open(3, 2);
    TearDown();
    ports_.clear();
  }
}

}  // namespace
}  // namespace pagewire::dataplane
