// The races of docs/protocol.md by name, on the pure functions: messages in the worst order.
#include <gtest/gtest.h>

#include "test/protocol/cluster.h"

namespace pagewire::protocol {
namespace {

using Kind = Effect::Kind;
using Kinds = std::vector<Kind>;

std::uint64_t count(Cluster& cluster, std::uint32_t node, Event event) {
  return cluster.rounds(node).events(event);
}

// All messages and time-outs until nothing is under way.
void settle(Cluster& cluster, std::uint32_t nodes, std::uint32_t page = 0) {
  for (int left = 200; left > 0; --left) {
    cluster.deliver_all();
    bool busy = false;
    for (std::uint32_t i = 0; i < nodes; ++i) {
      if (!cluster.has_round(i, page)) continue;
      busy = true;
      cluster.expire(i, page);
    }
    if (!busy) return;
  }
  FAIL() << "never came to rest";
}

TEST(Races, TwoWritersAtOnce) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kRead);
  cluster.fault(1, Access::kWrite);
  cluster.fault(2, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 1);  // 2's, heard by the other writer: may be served later
  cluster.deliver(MessageType::kWriteRequest, 2);
  cluster.deliver(MessageType::kWriteRequest, 0);  // 1's
  EXPECT_EQ(cluster.sent().type, MessageType::kOwnershipTransfer);
  cluster.deliver(MessageType::kWriteRequest, 0);  // 2's comes to one who is no longer the owner
  EXPECT_EQ(cluster.sent().type, MessageType::kNotOwner);
  EXPECT_EQ(cluster.sent().hint, NodeId{1});
  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kInvalid)
      << "1 had Write, and gave it to 2, who was waiting";
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kSend, Kind::kMapWrite, Kind::kZap, Kind::kSend}));
  settle(cluster, 3);
  EXPECT_EQ(cluster.entry(2).permission, Permission::kWrite);
  EXPECT_TRUE(cluster.entry(2).owner);
}

// With a hold, the first writer has its turn before the second is served.
TEST(Races, TwoWritersAtOnceWithHold) {
  Cluster cluster({.nodes = 3, .hold_ns = 1000});
  cluster.fault(1, Access::kWrite);
  cluster.fault(2, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 1);
  cluster.deliver(MessageType::kWriteRequest, 0);
  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
  cluster.store(1);
  EXPECT_EQ(cluster.stage(1), Stage::kHolding);
  cluster.time_out(1);  // too early
  EXPECT_EQ(cluster.kinds(), Kinds{});
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
  cluster.expire(1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend}));
  settle(cluster, 3);
  EXPECT_EQ(cluster.entry(2).permission, Permission::kWrite);
  EXPECT_EQ(cluster.memory(2).value, 1);
}

// The request passes the next owner before that wants anything, and reaches the owner when it has just given
// the page away: nobody has to wait for a repetition.
TEST(Races, RequestMissesTheOwnerOnItsWay) {
  for (const Access access : {Access::kRead, Access::kWrite}) {
    Cluster cluster({.nodes = 4});
    cluster.obtain(3, Access::kRead);
    cluster.entry(2).hint = NodeId{3};  // asks all
    cluster.fault(2, access);
    if (access == Access::kRead) {
      cluster.deliver(MessageType::kCopyRequest, 3);
      cluster.deliver(MessageType::kNotOwner, 2);
    }
    const MessageType asks = access == Access::kRead ? MessageType::kCopyRequest : MessageType::kWriteRequest;
    cluster.deliver(asks, 1);  // who wants nothing yet
    cluster.fault(1, Access::kWrite);
    std::size_t to_owner = cluster.find(asks, 0);
    if (access == Access::kWrite) {  // 2's is first on the wire, 1's second
      to_owner = cluster.wire.size() - 3;
      while (cluster.wire[to_owner].to != NodeId{0} || cluster.wire[to_owner].message.from != NodeId{1})
        ++to_owner;
      cluster.deliver(to_owner);
    } else {
      cluster.deliver(MessageType::kWriteRequest, 0);
    }
    ASSERT_EQ(cluster.stage(0), Stage::kHandingOver);
    cluster.deliver(asks, 0);
    EXPECT_EQ(cluster.sent().type, MessageType::kNotOwner);
    cluster.deliver_all();
    EXPECT_TRUE(allows(cluster.entry(2).permission, access));
    EXPECT_EQ(count(cluster, 2, Event::kRepeated), 0U);
  }
}

TEST(Races, TransferLost) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(0, Access::kWrite);
  cluster.store(0);
  cluster.fault(1, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 0);
  cluster.wire.clear();
  EXPECT_EQ(cluster.stage(0), Stage::kHandingOver);
  cluster.expire(1);  // the writer asks again; the former owner is not the one to answer
  cluster.deliver(MessageType::kWriteRequest, 0);
  EXPECT_EQ(cluster.kinds(), Kinds{});
  EXPECT_FALSE(cluster.entry(0).owner) << "R8: never resumes on its own";
  cluster.expire(0);
  EXPECT_TRUE(cluster.sent().has_bytes);
  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
  EXPECT_EQ(cluster.memory(1).value, 1);
}

TEST(Races, TransferDoubled) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kWrite);
  cluster.fault(1, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 0);
  const Flying transfer = cluster.wire[cluster.find(MessageType::kOwnershipTransfer, 1)];
  settle(cluster, 3);
  cluster.store(1);
  const PageEntry before = cluster.entry(1);
  cluster.handle(transfer);
  EXPECT_EQ(cluster.entry(1), before) << "R9";
  EXPECT_EQ(cluster.sent().type, MessageType::kTransferAck);
  EXPECT_EQ(cluster.sent().epoch, transfer.message.epoch);
  EXPECT_EQ(count(cluster, 1, Event::kStale), 1U);

  cluster.obtain(2, Access::kWrite);  // ownership has moved on: the double is still only acknowledged
  const PageEntry later = cluster.entry(1);
  cluster.handle(transfer);
  EXPECT_EQ(cluster.entry(1), later);
  EXPECT_EQ(cluster.sent().type, MessageType::kTransferAck);
}

TEST(Races, GrantedRequestDoubled) {
  Cluster cluster({.nodes = 3});
  cluster.fault(1, Access::kWrite);
  const Flying to_owner = cluster.wire[cluster.find(MessageType::kWriteRequest, 0)];
  const Flying to_other = cluster.wire[cluster.find(MessageType::kWriteRequest, 2)];
  settle(cluster, 3);
  cluster.obtain(2, Access::kWrite);
  const PageEntry before = cluster.entry(2);
  cluster.handle(to_other);  // R10: 2 knows from the transfer that this was granted
  EXPECT_EQ(cluster.kinds(), Kinds{});
  EXPECT_EQ(cluster.entry(2), before);
  EXPECT_EQ(count(cluster, 2, Event::kAlreadyGranted), 1U);
  cluster.handle(to_owner);
  EXPECT_EQ(cluster.kinds(), Kinds{});
}

TEST(Races, ReadRequestRacingATransfer) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kWrite);
  cluster.store(0);
  cluster.fault(1, Access::kWrite);
  cluster.fault(2, Access::kRead);
  cluster.deliver(MessageType::kWriteRequest, 0);
  cluster.deliver(MessageType::kCopyRequest, 0);  // 2's hint is out of date by now
  EXPECT_EQ(cluster.sent().type, MessageType::kNotOwner);
  EXPECT_EQ(cluster.sent().hint, NodeId{1});
  cluster.deliver(MessageType::kNotOwner, 2);
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(NodeId{0}).with(NodeId{1}));
  EXPECT_FALSE(cluster.sent().direct);
  cluster.deliver(MessageType::kCopyRequest, 0);
  EXPECT_EQ(cluster.sent().type, MessageType::kNotOwner) << "only the owner sends the page";
  cluster.deliver(MessageType::kNotOwner, 2);
  EXPECT_EQ(cluster.kinds(), Kinds{}) << "node 1 has been asked";
  cluster.deliver(MessageType::kCopyRequest, 1);  // before the transfer: waits
  EXPECT_EQ(cluster.kinds(), Kinds{});
  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  settle(cluster, 3);
  EXPECT_EQ(cluster.entry(2).permission, Permission::kRead);
  EXPECT_EQ(cluster.memory(2).value, 1);
  EXPECT_EQ(cluster.entry(1).copyset, NodeSet::of(NodeId{2}));
}

TEST(Races, InvalidateOvertakesTheDataItIsMeantFor) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(0, Access::kRead);
  cluster.fault(1, Access::kRead);
  cluster.deliver(MessageType::kCopyRequest, 0);
  cluster.fault(0, Access::kWrite);
  cluster.deliver(MessageType::kInvalidate, 1);
  EXPECT_EQ(cluster.sent().type, MessageType::kAck);
  cluster.deliver(MessageType::kAck, 0);
  cluster.store(0);
  cluster.deliver(MessageType::kCopyReply, 1);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kInvalid) << "R6";
  EXPECT_EQ(count(cluster, 1, Event::kBelowFloor), 1U);
  settle(cluster, 2);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  EXPECT_EQ(cluster.memory(1).value, 1);
}

TEST(Races, AckLost) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(1, Access::kRead);
  cluster.fault(0, Access::kWrite);
  cluster.deliver(MessageType::kInvalidate, 1);
  cluster.wire.clear();
  EXPECT_EQ(cluster.stage(0), Stage::kCollecting);
  cluster.expire(0);
  EXPECT_EQ(cluster.sent().type, MessageType::kInvalidate);
  cluster.deliver(MessageType::kInvalidate, 1);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kSend}) << "nothing is dropped twice";
  cluster.deliver(MessageType::kAck, 0);
  EXPECT_EQ(cluster.entry(0).permission, Permission::kWrite);
}

TEST(Races, AckOfAnOlderRound) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(1, Access::kRead);
  cluster.fault(0, Access::kWrite);
  cluster.deliver(MessageType::kInvalidate, 1);
  const Flying ack = cluster.wire[cluster.find(MessageType::kAck, 0)];
  cluster.deliver_all();
  cluster.obtain(1, Access::kRead);  // 1 has a copy of the new tenure
  cluster.fault(0, Access::kWrite);
  EXPECT_EQ(cluster.stage(0), Stage::kCollecting);
  cluster.handle(ack);
  EXPECT_EQ(cluster.stage(0), Stage::kCollecting) << "R4: it promised less than this";
  EXPECT_EQ(cluster.entry(0).permission, Permission::kRead);
}

TEST(Races, FormerOwnerWakesUp) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kWrite);
  cluster.obtain(1, Access::kWrite);
  cluster.obtain(2, Access::kWrite);
  cluster.store(2);
  Message stranger;
  stranger.type = MessageType::kInvalidate;
  stranger.from = NodeId{9};
  stranger.version = Version{99};
  const PageEntry before = cluster.entry(2);
  cluster.handle(Flying{NodeId{2}, 0, 0, stranger});
  EXPECT_EQ(cluster.entry(2), before) << "no member: R11's part that is in the core";
  stranger.from = NodeId{1};
  cluster.handle(Flying{NodeId{2}, 0, 0, stranger});
  EXPECT_EQ(cluster.entry(2), before) << "an invalidate of an owner before us";
}

TEST(Races, TwoFaultsOfOneNodeOnOnePage) {
  Cluster cluster({.nodes = 2});
  cluster.fault(1, Access::kRead);
  const std::size_t sent = cluster.sent_total;
  EXPECT_EQ(cluster.fault(1, Access::kRead), Outcome::kDone);
  EXPECT_EQ(cluster.kinds(), Kinds{});
  EXPECT_EQ(cluster.sent_total, sent) << "one pending request";
  EXPECT_EQ(cluster.rounds(1).in_use(), 1U);
}

TEST(Races, WriteFaultWhileAReadIsPending) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(0, Access::kWrite);
  cluster.fault(1, Access::kRead);
  const Transaction first = cluster.round(1).transaction;
  cluster.deliver(MessageType::kCopyRequest, 0);
  cluster.fault(1, Access::kWrite);
  EXPECT_EQ(cluster.sent().type, MessageType::kWriteRequest);
  EXPECT_GT(cluster.sent().transaction, first) << "raised under a transaction of its own";
  cluster.deliver(MessageType::kCopyReply, 1);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kInvalid) << "the answer to what is no longer asked";
  settle(cluster, 2);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
}

// A holder that has dropped its copy asks again while the old copyset still names it: nothing is dropped
// silently.
TEST(Races, HolderDropsAndReadsAgain) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kRead);
  cluster.obtain(2, Access::kRead);
  cluster.fault(1, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest,
                  2);  // drops its copy; 1's request has not reached the owner yet
  cluster.fault(2, Access::kRead);
  cluster.expire(2);
  cluster.deliver(MessageType::kCopyRequest, 0);
  cluster.deliver(MessageType::kCopyReply, 2);
  EXPECT_EQ(cluster.entry(0).version, cluster.entry(2).floor)
      << "the owner raised its version to the reader's floor";
  cluster.deliver(MessageType::kAck, 1);  // of the copy before
  cluster.deliver(MessageType::kWriteRequest, 0);
  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  EXPECT_EQ(cluster.stage(1), Stage::kCollecting) << "the promise was for the copy before";
  cluster.deliver(MessageType::kInvalidate, 2);
  cluster.deliver(MessageType::kAck, 1);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
}

}  // namespace
}  // namespace pagewire::protocol
