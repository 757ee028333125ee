// Each handler of the core with messages of the past, in order and of the future; first touch and placement.
#include <gtest/gtest.h>

#include "test/protocol/cluster.h"

namespace pagewire::protocol {
namespace {

using Kind = Effect::Kind;
using Kinds = std::vector<Kind>;

constexpr NodeId node(std::uint8_t value) { return NodeId{value}; }
std::uint64_t count(Cluster& cluster, std::uint32_t at, Event event) {
  return cluster.rounds(at).events(event);
}

Message message_of(MessageType type, std::uint8_t from) {
  Message message;
  message.type = type;
  message.from = node(from);
  return message;
}

// Delivers a message that must change nothing and send nothing.
void expect_ignored(Cluster& cluster, std::uint32_t to, const Message& message) {
  const PageEntry before = cluster.entry(to);
  const bool busy = cluster.has_round(to);
  const Round round = busy ? cluster.round(to) : Round{};
  cluster.handle(to, message);
  EXPECT_EQ(cluster.kinds(), Kinds{});
  EXPECT_EQ(cluster.entry(to), before);
  ASSERT_EQ(cluster.has_round(to), busy);
  if (busy) {
    EXPECT_EQ(cluster.round(to), round);
  }
}

// Node 1 has asked node 0, the owner in Write at version 2, for a copy under transaction 1; nothing was
// delivered.
Cluster reader_waits() {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kWrite);
  cluster.fault(1, Access::kRead);
  EXPECT_EQ(cluster.round(1).transaction, Transaction{1});
  return cluster;
}

Message copy_reply(std::uint64_t transaction, std::uint64_t version) {
  Message reply = message_of(MessageType::kCopyReply, 0);
  reply.transaction = Transaction{transaction};
  reply.version = Version{version};
  reply.data_version = Version{2};
  reply.has_bytes = true;
  return reply;
}

TEST(CopyReply, InOrder) {
  Cluster cluster = reader_waits();
  cluster.deliver(MessageType::kCopyRequest, 0);
  EXPECT_EQ(cluster.sent(), copy_reply(1, 2));
  cluster.deliver(MessageType::kCopyReply, 1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kInstall, Kind::kMapRead}));
  EXPECT_EQ(cluster.entry(1).version, Version{2});
  EXPECT_EQ(cluster.entry(1).floor, Version{2});
  EXPECT_EQ(cluster.entry(1).data_version, Version{2});
}

TEST(CopyReply, Past) {
  Cluster cluster = reader_waits();
  cluster.deliver_all();
  expect_ignored(cluster, 1, copy_reply(1, 2));  // doubled, when nothing is pending
  EXPECT_EQ(count(cluster, 1, Event::kStale), 1U);
  Cluster another = reader_waits();
  expect_ignored(another, 1, copy_reply(0, 2));  // another transaction's
}

TEST(CopyReply, Future) {
  Cluster cluster = reader_waits();
  expect_ignored(cluster, 1, copy_reply(2, 2));
  EXPECT_EQ(count(cluster, 1, Event::kStale), 1U);
}

TEST(CopyReply, BelowTheFloorAsksAgain) {
  Cluster cluster = reader_waits();
  Message invalidate = message_of(MessageType::kInvalidate, 0);
  invalidate.version = Version{3};
  cluster.handle(1, invalidate);
  cluster.handle(1, copy_reply(1, 2));
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kSend});
  EXPECT_EQ(cluster.sent().type, MessageType::kCopyRequest);
  EXPECT_EQ(cluster.sent().version, Version{3}) << "with the floor of now";
  EXPECT_EQ(cluster.sent().transaction, Transaction{1}) << "R2: under the same id";
  EXPECT_EQ(cluster.entry(1).permission, Permission::kInvalid);
}

TEST(CopyReply, WithoutBytesThatWeDoNotHave) {
  Cluster cluster = reader_waits();
  Message reply = copy_reply(1, 2);
  reply.has_bytes = false;
  expect_ignored(cluster, 1, reply);
  EXPECT_EQ(count(cluster, 1, Event::kRefused), 1U);
}

TEST(CopyReply, WithoutBytesThatWeHave) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(0, Access::kRead);  // nobody wrote: both hold the same zeroes
  cluster.fault(1, Access::kRead);
  cluster.deliver(MessageType::kCopyRequest, 0);
  EXPECT_FALSE(cluster.sent().has_bytes);
  cluster.deliver(MessageType::kCopyReply, 1);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kMapRead});
}

TEST(CopyRequest, ToANodeThatIsNotTheOwner) {
  Cluster cluster({.nodes = 3});
  Message request = message_of(MessageType::kCopyRequest, 2);
  request.transaction = Transaction{1};
  expect_ignored(cluster, 1, request);
  request.direct = true;
  cluster.handle(1, request);
  EXPECT_EQ(cluster.sent().type, MessageType::kNotOwner);
  EXPECT_EQ(cluster.sent().hint, node(0));
  EXPECT_EQ(count(cluster, 1, Event::kNotOwner), 1U);
}

TEST(CopyRequest, RaisesTheOwnersVersionToTheReadersFloor) {
  Cluster cluster({.nodes = 2});
  Message request = message_of(MessageType::kCopyRequest, 1);
  request.transaction = Transaction{1};
  request.version = Version{7};
  request.data_version = Version{1};
  cluster.handle(0, request);
  EXPECT_EQ(cluster.sent().version, Version{7});
  EXPECT_EQ(cluster.sent().data_version, Version{1}) << "the bytes' tag stays";
  EXPECT_EQ(cluster.entry(0).version, Version{7});
  cluster.fault(0, Access::kRead);
  cluster.fault(0, Access::kWrite);
  EXPECT_EQ(cluster.sent().version, Version{8}) << "R4: above whatever was handed out";
}

TEST(WriteRequest, PastInOrderFuture) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(1, Access::kWrite);  // transaction 1
  cluster.obtain(0, Access::kWrite);
  Message request = message_of(MessageType::kWriteRequest, 1);
  request.transaction = Transaction{1};
  expect_ignored(cluster, 0, request);
  EXPECT_EQ(count(cluster, 0, Event::kAlreadyGranted), 1U);
  request.transaction = Transaction{5};  // repeats were lost; ids only grow
  cluster.handle(0, request);
  EXPECT_EQ(cluster.sent().type, MessageType::kOwnershipTransfer);
  EXPECT_EQ(cluster.sent().transaction, Transaction{5});
}

TEST(WriteRequest, AHolderHearsItOnce) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(2, Access::kRead);
  Message request = message_of(MessageType::kWriteRequest, 1);
  request.transaction = Transaction{3};
  cluster.handle(2, request);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend}));
  EXPECT_EQ(cluster.sent().version, cluster.entry(2).version.next());
  EXPECT_EQ(cluster.entry(2).floor, cluster.entry(2).version.next());
  EXPECT_EQ(cluster.entry(2).hint, node(1));
  expect_ignored(cluster, 2, request);
  cluster.obtain(2, Access::kRead);
  expect_ignored(cluster, 2, request);  // doubled: the new copy stays
  request.transaction = Transaction{2};
  expect_ignored(cluster, 2, request);
}

TEST(Invalidate, PastInOrderFuture) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(1, Access::kRead);
  const Version held = cluster.entry(1).version;
  Message invalidate = message_of(MessageType::kInvalidate, 0);
  invalidate.version = held;  // an older one: what we hold is not below it
  cluster.handle(1, invalidate);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kSend});
  EXPECT_EQ(cluster.sent().version, held);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  invalidate.version = held.next();
  cluster.handle(1, invalidate);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend}));
  EXPECT_EQ(cluster.sent().version, held.next());
  invalidate.version = Version{held.value + 9};
  cluster.handle(1, invalidate);
  EXPECT_EQ(cluster.sent().version, Version{held.value + 9});
  invalidate.version = held;  // doubled: the floor does not fall, the promise is said again
  cluster.handle(1, invalidate);
  EXPECT_EQ(cluster.sent().version, Version{held.value + 9});
  EXPECT_EQ(cluster.entry(1).floor, Version{held.value + 9});
}

TEST(Invalidate, AtTheOwner) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(0, Access::kWrite);
  Message invalidate = message_of(MessageType::kInvalidate, 1);
  invalidate.version = Version{50};
  expect_ignored(cluster, 0, invalidate);
}

TEST(Ack, PastInOrderFuture) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(1, Access::kRead);
  cluster.obtain(2, Access::kRead);
  Message ack = message_of(MessageType::kAck, 1);
  ack.version = cluster.entry(0).version;
  expect_ignored(cluster, 0, ack);  // nobody asked
  EXPECT_EQ(count(cluster, 0, Event::kStale), 1U);
  cluster.fault(0, Access::kWrite);
  const Version wanted = cluster.round(0).new_version;
  cluster.deliver(MessageType::kInvalidate, 1);
  cluster.deliver(MessageType::kInvalidate, 2);
  cluster.wire.clear();
  cluster.handle(0, ack);
  EXPECT_EQ(cluster.stage(0), Stage::kCollecting) << "too low";
  ack.version = Version{wanted.value + 3};
  cluster.handle(0, ack);
  ack.version = wanted;
  cluster.handle(0, ack);  // lower than what it promised before
  EXPECT_EQ(cluster.round(0).promised[1], Version{wanted.value + 3});
  EXPECT_EQ(cluster.stage(0), Stage::kCollecting) << "doubled promises of one are not two";
  ack.from = node(2);
  cluster.handle(0, ack);
  EXPECT_EQ(cluster.entry(0).permission, Permission::kWrite);
}

TEST(TransferAck, PastInOrderFuture) {
  Cluster cluster({.nodes = 3});
  cluster.fault(1, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 0);
  ASSERT_EQ(cluster.stage(0), Stage::kHandingOver);
  Message ack = message_of(MessageType::kTransferAck, 1);
  ack.epoch = Epoch{1};
  expect_ignored(cluster, 0, ack);
  ack.epoch = Epoch{3};
  expect_ignored(cluster, 0, ack);
  ack.epoch = Epoch{2};
  ack.from = node(2);
  expect_ignored(cluster, 0, ack);
  EXPECT_EQ(count(cluster, 0, Event::kStale), 3U);
  ack.from = node(1);
  cluster.handle(0, ack);
  EXPECT_EQ(cluster.entry(0).epoch, Epoch{2});
  EXPECT_FALSE(cluster.has_round(0));
  expect_ignored(cluster, 0, ack);
}

Message transfer_from_zero(std::uint64_t epoch) {
  Message transfer = message_of(MessageType::kOwnershipTransfer, 0);
  transfer.transaction = Transaction{1};
  transfer.version = Version{3};
  transfer.data_version = Version{2};
  transfer.epoch = Epoch{epoch};
  transfer.has_bytes = true;
  return transfer;
}

TEST(Transfer, PastIsAcknowledgedAgain) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(1, Access::kWrite);  // epoch 2
  const PageEntry before = cluster.entry(1);
  for (const std::uint64_t epoch : {1U, 2U}) {
    cluster.handle(1, transfer_from_zero(epoch));
    EXPECT_EQ(cluster.sent().type, MessageType::kTransferAck);
    EXPECT_EQ(cluster.sent().epoch, Epoch{epoch});
    EXPECT_EQ(cluster.entry(1), before);
  }
}

TEST(Transfer, FutureWhileWeOwnOrHandOverIsNotAcknowledged) {
  Cluster cluster({.nodes = 2});
  cluster.obtain(1, Access::kWrite);
  expect_ignored(cluster, 1, transfer_from_zero(9));
  cluster.fault(0, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 1);
  ASSERT_EQ(cluster.stage(1), Stage::kHandingOver);
  expect_ignored(cluster, 1, transfer_from_zero(9));
  EXPECT_EQ(count(cluster, 1, Event::kRefused), 2U);
}

TEST(Transfer, UnaskedIsOwnedAndPermissionStays) {
  Cluster cluster({.nodes = 3});
  cluster.entry(0).owner = false;  // the transfer is under way in this test
  Message transfer = transfer_from_zero(2);
  transfer.data_version = Version{1};
  transfer.has_bytes = false;
  transfer.copyset = NodeSet::of(node(1)).with(node(2));
  cluster.handle(1, transfer);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kSend});
  EXPECT_EQ(cluster.sent().type, MessageType::kTransferAck);
  EXPECT_TRUE(cluster.entry(1).owner);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kInvalid);
  EXPECT_EQ(cluster.entry(1).copyset, NodeSet::of(node(2))) << "ourselves are not in it";
  EXPECT_EQ(count(cluster, 1, Event::kUnsolicited), 1U);
  cluster.fault(1, Access::kRead);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kMapRead});
}

TEST(Transfer, WithoutBytesThatWeDoNotHave) {
  Cluster cluster({.nodes = 2});
  Message transfer = transfer_from_zero(2);
  transfer.has_bytes = false;
  expect_ignored(cluster, 1, transfer);
}

TEST(NotOwner, PastInOrderFuture) {
  Cluster cluster({.nodes = 3});
  cluster.fault(1, Access::kRead);
  Message answer = message_of(MessageType::kNotOwner, 0);
  answer.transaction = Transaction{2};
  expect_ignored(cluster, 1, answer);
  answer.transaction = Transaction{1};
  cluster.handle(1, answer);
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(node(0)).with(node(2)));
  expect_ignored(cluster, 1, answer);  // everybody was asked already
}

TEST(Members, StrangersAndEchoesAreIgnored) {
  Cluster cluster({.nodes = 2});
  for (const std::uint8_t from : {std::uint8_t{0}, std::uint8_t{2}, std::uint8_t{63}, kNoNode.value}) {
    Message request = message_of(MessageType::kWriteRequest, from);
    request.transaction = Transaction{1};
    const PageEntry before = cluster.entry(0);
    cluster.handle(Flying{node(0), 0, 0, request});
    EXPECT_EQ(cluster.kinds(), Kinds{});
    EXPECT_EQ(cluster.entry(0), before);
  }
}

TEST(Upgrade, BytesStayAtHomeOnlyIfTheTagsAreEqual) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(0, Access::kWrite);
  cluster.store(0);
  cluster.obtain(1, Access::kRead);
  cluster.obtain(0, Access::kWrite);  // 1's bytes are old now, and still in its service view
  cluster.store(0);
  cluster.fault(1, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 0);
  EXPECT_TRUE(cluster.sent().has_bytes);
  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  EXPECT_EQ(cluster.memory(1).value, 2);
}

TEST(FirstTouch, WhoeverAsksFirstOwnsThePage) {
  for (const Access access : {Access::kRead, Access::kWrite}) {
    Cluster cluster({.nodes = 3, .placement = Placement::kFirstTouch});
    ASSERT_TRUE(cluster.entry(0).fresh);
    cluster.fault(1, access);
    cluster.deliver(access == Access::kRead ? MessageType::kCopyRequest : MessageType::kWriteRequest, 0);
    EXPECT_EQ(cluster.sent().type, MessageType::kOwnershipTransfer);
    EXPECT_FALSE(cluster.sent().has_bytes) << "all hold the same zeroes";
    cluster.deliver(MessageType::kOwnershipTransfer, 1);
    EXPECT_TRUE(cluster.entry(1).owner);
    EXPECT_FALSE(cluster.entry(1).fresh);
    EXPECT_TRUE(allows(cluster.entry(1).permission, access));
    cluster.deliver_all();
    cluster.fault(2, Access::kRead);
    cluster.deliver_all();
    EXPECT_TRUE(cluster.entry(1).owner) << "the second to ask gets a copy";
    EXPECT_EQ(cluster.entry(2).permission, Permission::kRead);
  }
}

TEST(FirstTouch, TheFirstOwnersOwnTouchCounts) {
  Cluster cluster({.nodes = 2, .placement = Placement::kFirstTouch});
  cluster.fault(0, Access::kRead);
  EXPECT_FALSE(cluster.entry(0).fresh);
  cluster.fault(1, Access::kRead);
  cluster.deliver_all();
  EXPECT_TRUE(cluster.entry(0).owner);
}

TEST(Placement, Functions) {
  const auto owner = [](Placement placement, std::uint32_t index) {
    return initial_owner(placement, NodeId{2}, 3, index, 10).value;
  };
  const int cyclic[] = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0};
  const int block[] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2};
  for (std::uint32_t i = 0; i < 10; ++i) {
    EXPECT_EQ(owner(Placement::kCyclic, i), cyclic[i]);
    EXPECT_EQ(owner(Placement::kFirstTouch, i), cyclic[i]);
    EXPECT_EQ(owner(Placement::kBlock, i), block[i]);
    EXPECT_EQ(owner(Placement::kOneNode, i), 2);
  }
  for (std::uint32_t pages = 1; pages < 40; ++pages) {
    for (std::uint32_t i = 0; i < pages; ++i) {
      EXPECT_LT(initial_owner(Placement::kBlock, NodeId{0}, 7, i, pages).value, 7);
    }
  }
}

TEST(Granted, NewestFirstOneEachOldestFallsOut) {
  GrantedList list;
  EXPECT_FALSE(list.covers(node(0), Transaction{1}));
  list.add(node(0), Transaction{5});
  EXPECT_TRUE(list.covers(node(0), Transaction{5}));
  EXPECT_TRUE(list.covers(node(0), Transaction{4}));
  EXPECT_FALSE(list.covers(node(0), Transaction{6}));
  for (std::uint8_t i = 1; i < GrantedList::kCapacity; ++i) list.add(node(i), Transaction{1});
  list.add(node(0), Transaction{6});  // moves to the front, nobody falls out
  EXPECT_TRUE(list.covers(node(1), Transaction{1}));
  EXPECT_TRUE(list.covers(node(0), Transaction{6}));
  list.add(node(9), Transaction{1});
  EXPECT_FALSE(list.covers(node(1), Transaction{1})) << "the oldest";
  EXPECT_TRUE(list.covers(node(2), Transaction{1}));
  EXPECT_TRUE(list.covers(node(0), Transaction{6}));
  EXPECT_EQ(GrantedList::from_raw(list.raw()), list);
  GrantedList highest;
  highest.add(node(63), Transaction{1});
  EXPECT_TRUE(highest.covers(node(63), Transaction{1}));
  EXPECT_FALSE(highest.covers(node(62), Transaction{1}));
}

}  // namespace
}  // namespace pagewire::protocol
