// The ten rows of docs/protocol.md's table, each on the pure functions: the next state, and exactly what is
// done.
#include <gtest/gtest.h>

#include "test/protocol/cluster.h"

namespace pagewire::protocol {
namespace {

using Kind = Effect::Kind;
using Kinds = std::vector<Kind>;

// An access that the page already allows: nothing moves, no message, no round; who asks is let on.
void expect_local(Cluster& cluster, Access access) {
  const PageEntry before = cluster.entry(1);
  EXPECT_EQ(cluster.fault(1, access), Outcome::kDone);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kWake});
  EXPECT_EQ(cluster.sent_total, 0U);
  EXPECT_EQ(cluster.entry(1), before);
  EXPECT_EQ(cluster.rounds(1).in_use(), 0U);
}

// Node 1 owns the page in Write.
Cluster owned_by_one() {
  Cluster cluster({.nodes = 3});
  cluster.obtain(1, Access::kWrite);
  cluster.store(1);
  EXPECT_TRUE(cluster.entry(1).owner);
  return cluster;
}

TEST(Rows, Row01_ReadWhatWeOwnInRead) {
  Cluster cluster({.nodes = 3});
  cluster.entry(0) = initial_entry(NodeId{0}, NodeId{1}, Placement::kOneNode);
  cluster.entry(1) = initial_entry(NodeId{1}, NodeId{1}, Placement::kOneNode);
  cluster.fault(1, Access::kRead);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kMapRead});  // the first touch of an owner needs nobody either
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  expect_local(cluster, Access::kRead);
}

TEST(Rows, Row02_ReadWhatWeOwnInWrite) {
  Cluster cluster = owned_by_one();
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
  expect_local(cluster, Access::kRead);
}

TEST(Rows, Row03_ReadWhatWeOwnAndOthersHold) {
  Cluster cluster = owned_by_one();
  cluster.obtain(2, Access::kRead);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  EXPECT_EQ(cluster.entry(1).copyset, NodeSet::of(NodeId{2}));
  expect_local(cluster, Access::kRead);
}

TEST(Rows, Row04_ReadOurCopy) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(1, Access::kRead);
  EXPECT_FALSE(cluster.entry(1).owner);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  expect_local(cluster, Access::kRead);
}

TEST(Rows, Row05_ReadWithoutACopyWhileOthersRead) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kWrite);
  cluster.store(0);
  cluster.obtain(2, Access::kRead);
  cluster.entry(1).hint = kNoNode;
  cluster.fault(1, Access::kRead);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kSend});
  EXPECT_EQ(cluster.sent().type, MessageType::kCopyRequest);
  EXPECT_EQ(cluster.sent_to(), NodeSet::first(3).without(NodeId{1})) << "a multicast";

  cluster.deliver(MessageType::kCopyRequest, 2);  // holds a copy, does not own it
  EXPECT_EQ(cluster.kinds(), Kinds{});
  cluster.deliver(MessageType::kCopyRequest, 0);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kSend});
  const Message reply = cluster.sent();
  EXPECT_EQ(reply.type, MessageType::kCopyReply);
  EXPECT_TRUE(reply.has_bytes);
  EXPECT_EQ(reply.version, cluster.entry(0).version);
  EXPECT_EQ(reply.data_version, cluster.entry(0).data_version);
  EXPECT_EQ(cluster.entry(0).copyset, NodeSet::of(NodeId{1}).with(NodeId{2}));

  cluster.deliver(MessageType::kCopyReply, 1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kInstall, Kind::kMapRead}));
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  EXPECT_EQ(cluster.entry(1).hint, NodeId{0});
  EXPECT_FALSE(cluster.entry(1).owner);
  EXPECT_EQ(cluster.rounds(1).in_use(), 0U);
  EXPECT_TRUE(cluster.wire.empty());
}

TEST(Rows, Row05_TheHintIsAskedFirstAndAlone) {
  Cluster cluster({.nodes = 3});
  cluster.fault(1, Access::kRead);
  EXPECT_TRUE(cluster.sent().direct);
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(NodeId{0}));
}

TEST(Rows, Row06_ReadWhatAnotherHasInWrite) {
  Cluster cluster = owned_by_one();
  cluster.fault(2, Access::kRead);
  cluster.wire.clear();
  cluster.expire(2);  // the hint was not answered: a multicast
  EXPECT_EQ(cluster.sent_to(), NodeSet::first(3).without(NodeId{2}));
  cluster.deliver(MessageType::kCopyRequest, 1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kProtect, Kind::kSend}))
      << "degrades itself before the bytes leave";
  EXPECT_TRUE(cluster.sent().has_bytes);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  EXPECT_TRUE(cluster.entry(1).owner);
  cluster.deliver(MessageType::kCopyReply, 2);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kInstall, Kind::kMapRead}));
  EXPECT_EQ(cluster.memory(2).value, cluster.memory(1).value);
}

TEST(Rows, Row07_WriteWhatWeOwnInWrite) {
  Cluster cluster = owned_by_one();
  expect_local(cluster, Access::kWrite);
}

TEST(Rows, Row07_WriteWhatWeOwnAndNobodyElseHolds) {
  Cluster cluster({.nodes = 3});
  cluster.fault(0, Access::kWrite);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kMapWrite});
  EXPECT_EQ(cluster.sent_total, 0U);
  EXPECT_EQ(cluster.entry(0).version, Version{2}) << "a tenure of its own";
  EXPECT_EQ(cluster.entry(0).data_version, Version{2});
  EXPECT_EQ(cluster.rounds(0).in_use(), 0U);
}

TEST(Rows, Row08_WriteWhatWeOwnAndOthersHold) {
  Cluster cluster = owned_by_one();
  cluster.obtain(0, Access::kRead);
  cluster.obtain(2, Access::kRead);
  const Version before = cluster.entry(1).version;
  cluster.fault(1, Access::kWrite);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kSend});
  EXPECT_EQ(cluster.sent().type, MessageType::kInvalidate);
  EXPECT_EQ(cluster.sent().version, before.next());
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(NodeId{0}).with(NodeId{2}));
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);

  cluster.deliver(MessageType::kInvalidate, 0);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend})) << "R7: the promise comes after the zap";
  EXPECT_EQ(cluster.entry(0).floor, before.next());
  cluster.deliver(MessageType::kInvalidate, 2);
  cluster.deliver(MessageType::kAck, 1);
  EXPECT_EQ(cluster.kinds(), Kinds{}) << "one promise is missing";
  cluster.deliver(MessageType::kAck, 1);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kUnprotect});
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
  EXPECT_EQ(cluster.entry(1).version, before.next());
  EXPECT_TRUE(cluster.entry(1).copyset.empty());
  EXPECT_EQ(cluster.rounds(1).in_use(), 0U);
}

TEST(Rows, Row09_WriteOurCopyOfWhatAnotherOwns) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kWrite);
  cluster.store(0);
  cluster.obtain(1, Access::kRead);
  cluster.obtain(2, Access::kRead);
  const Version before = cluster.entry(0).version;
  cluster.fault(1, Access::kWrite);
  EXPECT_EQ(cluster.sent().type, MessageType::kWriteRequest);
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(NodeId{0}).with(NodeId{2})) << "a multicast: holders hear it too";

  cluster.deliver(MessageType::kWriteRequest, 2);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend})) << "drops its copy and promises to the writer";
  EXPECT_EQ(cluster.sent().type, MessageType::kAck);
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(NodeId{1}));
  cluster.deliver(MessageType::kAck, 1);
  cluster.deliver(MessageType::kWriteRequest, 0);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend}));
  const Message transfer = cluster.sent();
  EXPECT_EQ(transfer.type, MessageType::kOwnershipTransfer);
  EXPECT_FALSE(transfer.has_bytes) << "the writer has them: the tags are equal";
  EXPECT_EQ(transfer.version, before.next());
  EXPECT_EQ(transfer.epoch, Epoch{2});
  EXPECT_EQ(transfer.copyset, NodeSet::of(NodeId{2}));
  EXPECT_TRUE(transfer.granted.covers(NodeId{1}, cluster.entry(1).last_transaction));
  EXPECT_FALSE(cluster.entry(0).owner);

  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kSend, Kind::kUnprotect}));
  EXPECT_EQ(cluster.sent().type, MessageType::kTransferAck);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
  EXPECT_TRUE(cluster.entry(1).owner);
  EXPECT_EQ(cluster.entry(1).version, before.next());
  cluster.deliver(MessageType::kTransferAck, 0);
  EXPECT_EQ(cluster.rounds(0).in_use(), 0U);
  EXPECT_TRUE(cluster.wire.empty());
}

TEST(Rows, Row10_WriteWithoutACopy) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kWrite);
  cluster.store(0);
  cluster.fault(1, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 2);
  EXPECT_EQ(cluster.kinds(), Kinds{}) << "who holds nothing says nothing";
  cluster.deliver(MessageType::kWriteRequest, 0);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend}));
  EXPECT_TRUE(cluster.sent().has_bytes);
  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kInstall, Kind::kSend, Kind::kMapWrite}));
  EXPECT_EQ(cluster.memory(1).value, 1);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
}

// A write with k holders costs one multicast, k promises, one transfer (and its acknowledgement, which nobody
// waits for).
TEST(Rows, WriteCostsTwoDelays) {
  for (const std::uint32_t holders : {1U, 3U, 6U}) {
    Cluster cluster({.nodes = holders + 2});
    cluster.obtain(0, Access::kWrite);
    for (std::uint32_t i = 0; i < holders; ++i) cluster.obtain(i + 2, Access::kRead);
    cluster.fault(1, Access::kWrite);
    EXPECT_EQ(cluster.sent_total, 1U);
    const std::size_t requests = cluster.wire.size();
    for (std::size_t i = 0; i < requests; ++i) cluster.deliver(std::size_t{0});  // first delay
    EXPECT_EQ(cluster.sent_total, 1U + holders + 1U);
    for (std::uint32_t i = 0; i < holders; ++i)
      cluster.deliver(MessageType::kAck, 1);  // second delay, all at once
    cluster.deliver(MessageType::kOwnershipTransfer, 1);
    EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite) << holders << " holders";
    EXPECT_EQ(cluster.sent_total, 1U + holders + 1U + 1U);
  }
}

}  // namespace
}  // namespace pagewire::protocol
