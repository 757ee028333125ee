// Requests that reach a node that is not the owner, or not any more: who is told where to go, who waits, and
// how a request follows the owner.
#include <gtest/gtest.h>

#include <vector>

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

// Node 0 hands its page over to node 1; the transfer is on the wire.
Cluster handing_over(std::uint32_t nodes) {
  Cluster cluster({.nodes = nodes});
  cluster.fault(1, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 0);
  EXPECT_EQ(cluster.stage(0), Stage::kHandingOver);
  return cluster;
}

TEST(HandingOver, SaysWhoIsNextToWhoeverAsks) {
  for (const MessageType type : {MessageType::kCopyRequest, MessageType::kWriteRequest}) {
    for (const bool direct : {false, true}) {
      Cluster cluster = handing_over(3);
      Message request = message_of(type, 2);
      request.transaction = Transaction{7};
      request.direct = direct;
      const PageEntry before = cluster.entry(0);
      const Round round = cluster.round(0);
      cluster.handle(0, request);
      const Message answer = cluster.sent();
      EXPECT_EQ(answer.type, MessageType::kNotOwner);
      EXPECT_EQ(answer.transaction, Transaction{7});
      EXPECT_EQ(answer.hint, node(1));
      EXPECT_EQ(answer.epoch, Epoch{2}) << "of the hand-over, not of before";
      EXPECT_EQ(cluster.sent_to(), NodeSet::of(node(2)));
      EXPECT_EQ(cluster.round(0), round);
      if (type == MessageType::kCopyRequest) {
        EXPECT_EQ(cluster.entry(0), before);
      }
      EXPECT_EQ(cluster.entry(0).hint, node(1)) << "who asks now is not who is next";
    }
  }
}

TEST(HandingOver, SaysNothingToItsTargetNorToWhoHadItBefore) {
  Cluster cluster = handing_over(3);
  Message request = message_of(MessageType::kWriteRequest, 1);
  request.transaction = Transaction{1};
  cluster.handle(0, request);  // asked again: the transfer is on its way
  EXPECT_EQ(cluster.kinds(), Kinds{});

  Cluster later({.nodes = 3});
  later.obtain(2, Access::kWrite);  // transaction 1
  later.fault(1, Access::kWrite);
  later.deliver(MessageType::kWriteRequest, 2);
  ASSERT_EQ(later.stage(2), Stage::kHandingOver);
  later.entry(2).granted.add(node(0), Transaction{5});
  request.from = node(0);
  request.transaction = Transaction{5};
  later.handle(2, request);
  EXPECT_EQ(later.kinds(), Kinds{}) << "R10: a late double of what was granted";
  EXPECT_EQ(count(later, 2, Event::kAlreadyGranted), 1U);
}

TEST(HandingOver, ThoseWhoWaitedForItGoAlongToTheNext) {
  Cluster cluster({.nodes = 4, .hold_ns = 500});
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  for (const std::uint8_t from : {std::uint8_t{2}, std::uint8_t{3}}) {
    Message request = message_of(MessageType::kWriteRequest, from);
    request.transaction = Transaction{1};
    cluster.handle(1, request);
  }
  cluster.expire(1);
  ASSERT_EQ(cluster.sends().size(), 2U);
  EXPECT_EQ(cluster.sends()[0].message.type, MessageType::kOwnershipTransfer);
  EXPECT_EQ(cluster.sends()[0].to, NodeSet::of(node(2)));
  EXPECT_EQ(cluster.sends()[1].message.type, MessageType::kNotOwner);
  EXPECT_EQ(cluster.sends()[1].to, NodeSet::of(node(3)));
  EXPECT_EQ(cluster.sends()[1].message.hint, node(2));
}

Message not_owner(std::uint64_t transaction, NodeId hint, std::uint64_t epoch) {
  Message answer = message_of(MessageType::kNotOwner, 0);
  answer.transaction = Transaction{transaction};
  answer.hint = hint;
  answer.epoch = Epoch{epoch};
  return answer;
}

TEST(NotOwner, EachHandOverIsFollowedOnce) {
  Cluster cluster({.nodes = 4});
  cluster.fault(3, Access::kWrite);
  const PageEntry before = cluster.entry(3);
  cluster.handle(3, not_owner(1, node(1), 2));
  EXPECT_EQ(cluster.sent().type, MessageType::kWriteRequest);
  EXPECT_TRUE(cluster.sent().direct);
  EXPECT_EQ(cluster.sent().transaction, Transaction{1}) << "R2: under the same id";
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(node(1)));
  expect_ignored(cluster, 3, not_owner(1, node(2), 2));  // the same, or another that points elsewhere
  expect_ignored(cluster, 3, not_owner(1, node(2), 1));
  expect_ignored(cluster, 3, not_owner(0, node(2), 9));  // of a request before
  cluster.handle(3, not_owner(1, node(2), 5));
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(node(2)));
  expect_ignored(cluster, 3, not_owner(1, node(1), 4));
  EXPECT_EQ(cluster.entry(3), before) << "only the round knows";
  EXPECT_EQ(count(cluster, 3, Event::kStale), 4U);
}

TEST(NotOwner, WhatWeHandedOverOurselvesIsOlder) {
  Cluster cluster({.nodes = 3});
  cluster.obtain(2, Access::kWrite);
  cluster.obtain(0, Access::kWrite);  // by epoch 3, from node 2
  cluster.fault(2, Access::kWrite);
  const std::uint64_t transaction = cluster.round(2).transaction.value;
  expect_ignored(cluster, 2, not_owner(transaction, node(1), 3));
  cluster.handle(2, not_owner(transaction, node(1), 4));
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(node(1)));
}

TEST(NotOwner, AHintAtOurselvesOrNobodyAsksAll) {
  for (const NodeId hint : {node(3), kNoNode}) {
    Cluster cluster({.nodes = 4});
    cluster.fault(3, Access::kWrite);
    cluster.handle(3, not_owner(1, hint, 2));
    EXPECT_FALSE(cluster.sent().direct);
    EXPECT_EQ(cluster.sent_to(), NodeSet::first(3));
    expect_ignored(cluster, 3, not_owner(1, hint, 2));
  }
}

TEST(NotOwner, ANewRequestFollowsAnew) {
  Cluster cluster({.nodes = 4});
  cluster.fault(3, Access::kRead);
  cluster.handle(3, not_owner(1, node(1), 6));
  EXPECT_EQ(cluster.sent_to(), NodeSet::first(3)) << "the hint alone was asked: all are";
  expect_ignored(cluster, 3, not_owner(1, node(1), 6));  // node 1 among them
  cluster.fault(3, Access::kWrite);
  cluster.handle(3, not_owner(2, node(1), 6));
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(node(1)));
}

// Who was named to the sender keeps the request: what makes it the owner may be on its way to it.
TEST(TurnedAway, ADirectRequestWaitsAtWhoAsksItself) {
  Cluster cluster({.nodes = 3});
  cluster.fault(1, Access::kRead);
  Message request = message_of(MessageType::kWriteRequest, 2);
  request.transaction = Transaction{1};
  cluster.handle(1, request);
  EXPECT_EQ(cluster.kinds(), Kinds{}) << "asked with all others: nothing to say";
  EXPECT_EQ(cluster.round(1).deferred_count, 1U) << "a page may be handed over to one who only wants to read";
  request.direct = true;
  cluster.handle(1, request);
  EXPECT_EQ(cluster.sent().type, MessageType::kNotOwner);
  EXPECT_EQ(cluster.sent().epoch, Epoch{}) << "it owned the page never";
  EXPECT_EQ(cluster.round(1).deferred_count, 1U);
}

// A fresh page is handed over to a reader: those that ask meanwhile must not be forgotten.
TEST(TurnedAway, AnyRequestWaitsAtWhoMayGetAFreshPage) {
  Cluster cluster({.nodes = 3, .placement = Placement::kFirstTouch});
  cluster.fault(1, Access::kRead);
  cluster.fault(2, Access::kRead);
  cluster.deliver(MessageType::kCopyRequest, 1);  // 2's
  EXPECT_EQ(cluster.round(1).deferred_count, 1U);
  cluster.deliver(MessageType::kCopyRequest, 0);  // 1's
  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  EXPECT_EQ(cluster.sends().back().message.type, MessageType::kCopyReply);
  cluster.deliver(MessageType::kTransferAck, 0);
  cluster.deliver_all();  // 2's request reaches the first owner when that has nothing to do with it any more
  EXPECT_EQ(cluster.entry(2).permission, Permission::kRead);
  EXPECT_EQ(count(cluster, 2, Event::kRepeated), 0U);
}

}  // namespace
}  // namespace pagewire::protocol
