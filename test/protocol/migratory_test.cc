// Pages that one node after the other loads and then stores to: they move at the load, so that the store asks
// nobody. When a page is taken for one, what it then does, and what ends it.
#include <gtest/gtest.h>

#include "test/protocol/cluster.h"

namespace pagewire::protocol {
namespace {

using Kind = Effect::Kind;
using Kinds = std::vector<Kind>;

constexpr std::uint64_t kHoldNs = 30'000;

// One turn of a node: it loads, then stores.
void use(Cluster& cluster, std::uint32_t node) {
  cluster.obtain(node, Access::kRead);
  cluster.obtain(node, Access::kWrite);
  cluster.store(node);
}

// Nodes 1, 0 and 2 have used the page in turns; 2 has it in Write.
Cluster used_in_turns(std::uint64_t hold_ns = 0) {
  Cluster cluster({.nodes = 3, .hold_ns = hold_ns});
  use(cluster, 1);
  if (hold_ns > 0) cluster.turn_taken(1);
  use(cluster, 0);
  EXPECT_EQ(cluster.entry(0).sharing, Sharing{1});
  if (hold_ns > 0) cluster.turn_taken(0);
  use(cluster, 2);
  EXPECT_TRUE(cluster.entry(2).sharing.is_migratory());
  if (hold_ns > 0) cluster.turn_taken(2);
  return cluster;
}

TEST(Migratory, TheFirstUseIsNone__nobody_had_stored_before) {
  Cluster cluster({.nodes = 3});
  use(cluster, 1);
  EXPECT_EQ(cluster.entry(1).sharing, Sharing{});
}

// Once may be chance: a page that is written by one and read by others after it was written by another.
TEST(Migratory, OnceIsNotEnough__readers_get_copies) {
  Cluster cluster({.nodes = 4});
  use(cluster, 1);
  use(cluster, 2);
  EXPECT_EQ(cluster.entry(2).sharing, Sharing{1});
  cluster.obtain(0, Access::kRead);
  EXPECT_TRUE(cluster.entry(2).owner);
  EXPECT_EQ(cluster.entry(2).copyset, NodeSet::of(NodeId{0}));
  EXPECT_EQ(cluster.entry(2).sharing, Sharing{1}) << "that one may store next";
  cluster.obtain(3, Access::kRead);
  cluster.obtain(0, Access::kWrite);
  EXPECT_EQ(cluster.entry(0).sharing, Sharing{}) << "others read it, too";
}

TEST(Migratory, TheLoadMovesThePage__and_the_store_asks_nobody) {
  Cluster cluster = used_in_turns();
  cluster.fault(1, Access::kRead);
  cluster.deliver(MessageType::kCopyRequest, 2);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend}));
  EXPECT_EQ(cluster.sent().type, MessageType::kOwnershipTransfer);
  EXPECT_TRUE(cluster.sent().sharing.is_migratory());
  EXPECT_TRUE(cluster.sent().copyset.empty());
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  EXPECT_TRUE(cluster.entry(1).owner);
  EXPECT_EQ(cluster.entry(2).sharing, Sharing{}) << "that is the owner's to know";
  cluster.sent_total = 0;
  cluster.fault(1, Access::kWrite);
  EXPECT_EQ(cluster.kinds(), Kinds{Kind::kUnprotect});
  EXPECT_EQ(cluster.sent_total, 0U);
  cluster.store(1);
  EXPECT_EQ(cluster.entry(1).sharing, Sharing{3}) << "and so on";
}

TEST(Migratory, WhoDoesNotStoreEndsIt__the_next_reader_gets_a_copy) {
  Cluster cluster = used_in_turns();
  cluster.obtain(1, Access::kRead);
  ASSERT_TRUE(cluster.entry(1).sharing.is_migratory());
  cluster.obtain(0, Access::kRead);
  EXPECT_EQ(cluster.entry(1).sharing, Sharing{1});
  EXPECT_TRUE(cluster.entry(1).owner);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  EXPECT_EQ(cluster.entry(1).copyset, NodeSet::of(NodeId{0}));
  EXPECT_EQ(cluster.entry(0).permission, Permission::kRead);
}

TEST(Migratory, TwoReadersAreNone) {
  Cluster cluster({.nodes = 3});
  use(cluster, 1);
  cluster.obtain(0, Access::kRead);
  use(cluster, 2);  // the copyset is 0 and 2
  EXPECT_EQ(cluster.entry(2).sharing, Sharing{});
}

TEST(Migratory, AStoreOfOneThatHadNoCopyLeavesItAsItIs) {
  Cluster cluster({.nodes = 3});
  use(cluster, 1);
  cluster.obtain(2, Access::kWrite);
  cluster.store(2);
  EXPECT_EQ(cluster.entry(2).sharing, Sharing{});
  cluster = used_in_turns();
  cluster.obtain(1, Access::kWrite);
  EXPECT_TRUE(cluster.entry(1).sharing.is_migratory());
}

// One that only looks at the page, whenever another has stored: it had the page by its load, and stored
// nothing.
TEST(Migratory, AStoreOfAnotherEndsIt__if_this_node_only_loaded) {
  Cluster cluster = used_in_turns();
  cluster.obtain(1, Access::kRead);
  ASSERT_TRUE(cluster.entry(1).sharing.is_migratory());
  cluster.obtain(2, Access::kWrite);
  EXPECT_EQ(cluster.entry(2).sharing, Sharing{1});
}

TEST(Migratory, ACopyOfOlderBytesIsNoLoadOfThem) {
  Cluster cluster({.nodes = 3});
  use(cluster, 1);
  cluster.obtain(2, Access::kRead);
  Message request;
  request.type = MessageType::kWriteRequest;
  request.from = NodeId{2};
  request.transaction = Transaction{9};
  request.data_version = Version{1};
  cluster.handle(1, request);
  EXPECT_EQ(cluster.sent().sharing, Sharing{});
}

TEST(Migratory, WithoutARound__a_copy_does_as_well) {
  Cluster cluster({.nodes = 2, .pages = 2, .rounds = 2});
  for (const std::uint32_t node : {1U, 0U, 1U, 0U}) use(cluster, node);
  ASSERT_TRUE(cluster.entry(0).sharing.is_migratory());
  const PageId other{0, 1};
  ASSERT_NE(cluster.rounds(0).take(other, false), kNoRound);
  ASSERT_NE(cluster.rounds(0).take(other, false), kNoRound);
  cluster.fault(1, Access::kRead);
  cluster.deliver(MessageType::kCopyRequest, 0);
  EXPECT_EQ(cluster.sent().type, MessageType::kCopyReply);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
}

// Between its load and its store the page is not taken from a node: else each would only ever load.
TEST(Migratory, ItIsHeldUntilTheStoreHasHadItsTurn) {
  Cluster cluster = used_in_turns(kHoldNs);
  cluster.obtain(1, Access::kRead);
  cluster.fault(2, Access::kRead);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(1).permission, Permission::kRead);
  EXPECT_EQ(cluster.entry(2).permission, Permission::kInvalid);
  cluster.fault(1, Access::kWrite);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite) << "still held, now for the store";
  cluster.store(1);
  cluster.turn_taken(1);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(2).permission, Permission::kRead);
  EXPECT_TRUE(cluster.entry(2).owner);
}

// Two accesses have their turn, with a fault in between; and then the store one of its own.
TEST(Migratory, ItIsHeldForTwo) {
  Cluster cluster = used_in_turns(kHoldNs);
  cluster.fault(1, Access::kRead);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(1).hold_until, cluster.now.after(4 * kHoldNs));
  cluster.fault(1, Access::kWrite);
  EXPECT_EQ(cluster.entry(1).hold_until, cluster.now.after(kHoldNs));
}

// The hold ends without a store: who waits gets a copy, nobody waits for ever.
TEST(Migratory, AHoldThatEndsWithoutAStoreEndsIt) {
  Cluster cluster = used_in_turns(kHoldNs);
  cluster.obtain(1, Access::kRead);
  cluster.fault(2, Access::kRead);
  cluster.deliver_all();
  cluster.turn_taken(1);
  EXPECT_EQ(cluster.sent().type, MessageType::kCopyReply);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(2).permission, Permission::kRead);
  EXPECT_EQ(cluster.entry(1).sharing, Sharing{1});
}

// Who keeps the page to read it will not store: others may read it as well, and need not wait for the end of
// that.
TEST(Migratory, AHoldForReadingEndsIt) {
  Cluster cluster = used_in_turns(kHoldNs);
  cluster.obtain(1, Access::kRead);
  ASSERT_TRUE(cluster.hold(1, Access::kRead, cluster.now.after(1'000'000'000)));
  EXPECT_EQ(cluster.entry(1).sharing, Sharing{});
  cluster.fault(0, Access::kRead);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(0).permission, Permission::kRead);
}

TEST(Migratory, AHoldForStoringDoesNot) {
  Cluster cluster = used_in_turns(kHoldNs);
  cluster.obtain(1, Access::kRead);
  cluster.fault(1, Access::kWrite);
  ASSERT_TRUE(cluster.hold(1, Access::kWrite, cluster.now.after(1'000'000'000)));
  EXPECT_TRUE(cluster.entry(1).sharing.is_migratory());
  cluster.fault(0, Access::kRead);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(0).permission, Permission::kInvalid);
}

// What comes to a node that asked for a copy makes it the owner: who asked it meanwhile is not forgotten.
TEST(Migratory, RequestsWaitAtTheNodeThatThePageMovesTo) {
  Cluster cluster = used_in_turns();
  cluster.fault(1, Access::kRead);
  cluster.fault(0, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 1);
  cluster.deliver(MessageType::kCopyRequest, 2);
  cluster.deliver(MessageType::kOwnershipTransfer, 1);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kInvalid);
  EXPECT_EQ(cluster.sends().back().message.type, MessageType::kOwnershipTransfer);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(0).permission, Permission::kWrite);
  EXPECT_EQ(cluster.rounds(0).events(Event::kRepeated), 0U);
}

// Who uses it so often is not taken for another by one use that is none.
TEST(Migratory, ManyUsesOutliveOneThatIsNone) {
  Cluster cluster = used_in_turns();
  use(cluster, 1);
  cluster.obtain(2, Access::kWrite);  // without a load before
  use(cluster, 1);
  use(cluster, 2);
  ASSERT_EQ(cluster.entry(2).sharing, Sharing{Sharing::kUsesMax});
  cluster.obtain(1, Access::kRead);  // and no store
  cluster.obtain(0, Access::kRead);
  EXPECT_EQ(cluster.entry(1).sharing, Sharing{2});
  EXPECT_EQ(cluster.entry(1).sharing.surer(), Sharing{3});
  EXPECT_EQ(Sharing{3}.surer(), Sharing{3});
  EXPECT_EQ(Sharing{}.less_sure(), Sharing{});
}

// Four turns of two nodes: each load moves the page once, no store asks anybody.
TEST(Migratory, PingPongIsOneRequestAHandOver) {
  Cluster cluster = used_in_turns();
  for (const std::uint32_t node : {1U, 2U, 1U, 2U}) {
    cluster.fault(node, Access::kRead);
    cluster.deliver_all();
    cluster.fault(node, Access::kWrite);
    cluster.deliver_all();
    cluster.store(node);
    EXPECT_LE(cluster.sent_total, 4U) << "request, perhaps once more to all; transfer, its acknowledgement";
    cluster.sent_total = 0;
  }
}

}  // namespace
}  // namespace pagewire::protocol
