// What has to wait: holds, deferred messages, backoff, and the limits of the pool.
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
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

TEST(Hold, NothingIsGivenAwayBefore) {
  Cluster cluster({.nodes = 4, .hold_ns = 500});
  cluster.obtain(0, Access::kRead);
  cluster.turn_taken(0);
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  ASSERT_EQ(cluster.entry(1).permission, Permission::kWrite);
  const Time until = cluster.entry(1).hold_until;
  EXPECT_EQ(until, cluster.now.after(500));
  cluster.fault(2, Access::kRead);
  cluster.fault(3, Access::kRead);
  cluster.deliver_all();
  for (const std::uint32_t i : {2U, 3U}) {
    if (cluster.round(i).asked_all) continue;
    cluster.expire(i);  // beyond the hold
  }
  cluster.now = Time{until.ns - 1};
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
  EXPECT_EQ(cluster.stage(1), Stage::kHolding);
  EXPECT_EQ(cluster.round(1).deferred_count, 2U);
  EXPECT_EQ(cluster.rounds(1).next_deadline(), until);
  cluster.time_out(1);
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite) << "too early";
  cluster.now = until;
  cluster.time_out(1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kProtect, Kind::kSend, Kind::kSend})) << "all are served";
  EXPECT_FALSE(cluster.has_round(1));
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(2).permission, Permission::kRead);
  EXPECT_EQ(cluster.entry(3).permission, Permission::kRead);
}

TEST(Hold, AReadersCopyIsHeldAgainstInvalidateAndWriteRequest) {
  Cluster cluster({.nodes = 3, .hold_ns = 500});
  cluster.obtain(0, Access::kRead);
  cluster.fault(1, Access::kRead);
  cluster.deliver_all();
  const Version held = cluster.entry(1).version;
  Message invalidate = message_of(MessageType::kInvalidate, 0);
  invalidate.version = held.next();
  cluster.handle(1, invalidate);
  EXPECT_EQ(cluster.sent().type, MessageType::kHeld) << "no promise before the copy is gone";
  EXPECT_EQ(cluster.entry(1).floor, held);
  Message request = message_of(MessageType::kWriteRequest, 2);
  request.transaction = Transaction{1};
  cluster.handle(1, request);
  EXPECT_EQ(cluster.sent().type, MessageType::kHeld);
  cluster.expire(1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend}))
      << "the promise to the collector; nothing is left for 2";
  EXPECT_EQ(cluster.sent().version, held.next());
}

TEST(Hold, EndsWhenItsOwnThreadAsksForMore) {
  Cluster cluster({.nodes = 3, .hold_ns = 500});
  cluster.obtain(0, Access::kRead);
  cluster.fault(1, Access::kRead);
  cluster.deliver_all();
  Message request = message_of(MessageType::kWriteRequest, 2);
  request.transaction = Transaction{1};
  cluster.handle(1, request);
  ASSERT_EQ(cluster.stage(1), Stage::kHolding);
  cluster.fault(1, Access::kWrite);  // it has read, and goes on to write: no reason to wait any longer
  EXPECT_EQ(cluster.stage(1), Stage::kRequesting);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kSend, Kind::kZap, Kind::kSend}));
  EXPECT_EQ(cluster.sends()[1].message.type, MessageType::kAck);
}

// A late double of a granted request, when the list that would tell is lost: ownership comes while a copy is
// held.
TEST(Hold, OwnershipThatComesUnaskedMeanwhileIsWhole) {
  Cluster cluster({.nodes = 3, .hold_ns = 500});
  cluster.obtain(0, Access::kRead);
  cluster.fault(1, Access::kRead);
  cluster.deliver_all();
  Message request = message_of(MessageType::kWriteRequest, 2);
  request.transaction = Transaction{1};
  cluster.handle(1, request);
  ASSERT_EQ(cluster.stage(1), Stage::kHolding);

  const PageEntry giver = cluster.entry(0);
  cluster.entry(0).owner = false;  // the transfer is under way in this test
  Message transfer = message_of(MessageType::kOwnershipTransfer, 0);
  transfer.transaction = Transaction{1};
  transfer.version = giver.version.next();
  transfer.data_version = giver.data_version;
  transfer.epoch = giver.epoch.next();
  transfer.copyset = NodeSet::of(NodeId{1}).with(NodeId{2});
  cluster.handle(1, transfer);
  const PageEntry& entry = cluster.entry(1);
  EXPECT_TRUE(entry.owner);
  EXPECT_EQ(entry.permission, Permission::kRead);
  EXPECT_EQ(entry.version, transfer.version);
  EXPECT_EQ(entry.epoch, transfer.epoch);
  EXPECT_EQ(entry.copyset, NodeSet::of(NodeId{2}));
  EXPECT_EQ(cluster.stage(1), Stage::kHolding) << "who waits is served when the hold is over";
}

TEST(Hold, CoversWhatTheOwnerGrantsItself) {
  for (const Access access : {Access::kRead, Access::kWrite}) {
    Cluster cluster({.nodes = 2, .hold_ns = 500});
    cluster.fault(0, access);
    EXPECT_EQ(cluster.entry(0).hold_until, cluster.now.after(500));
    cluster.fault(1, Access::kWrite);
    cluster.deliver(MessageType::kWriteRequest, 0);
    EXPECT_EQ(cluster.sent().type, MessageType::kHeld) << "its thread has not run yet";
    cluster.expire(0);
    EXPECT_EQ(cluster.sent().type, MessageType::kOwnershipTransfer);
  }
}

// Node 1 holds the page in Write, and node 2 waits for it.
Cluster waits_for_a_turn(std::uint64_t hold_ns) {
  Cluster cluster({.nodes = 3, .hold_ns = hold_ns});
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  cluster.fault(2, Access::kWrite);
  cluster.deliver_all();
  return cluster;
}

TEST(Turn, TakenServesWhoWaits) {
  Cluster cluster = waits_for_a_turn(1'000'000'000);
  ASSERT_EQ(cluster.stage(1), Stage::kHolding);
  EXPECT_TRUE(cluster.wants_turn(1));
  EXPECT_FALSE(cluster.wants_turn(2)) << "it waits itself";
  cluster.store(1);
  cluster.turn_taken(1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kZap, Kind::kSend}));
  EXPECT_FALSE(cluster.wants_turn(1));
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(2).permission, Permission::kWrite);
  EXPECT_EQ(cluster.memory(2).value, 1);
  EXPECT_EQ(cluster.rounds(1).in_use(), 0U);
}

TEST(Turn, TakenBeforeAnybodyAsksEndsTheHold) {
  Cluster cluster({.nodes = 3, .hold_ns = 1'000'000'000});
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  EXPECT_FALSE(cluster.wants_turn(1)) << "held, and nobody waits";
  cluster.turn_taken(1);
  EXPECT_EQ(cluster.kinds(), Kinds{});
  EXPECT_EQ(cluster.entry(1).permission, Permission::kWrite);
  cluster.fault(2, Access::kRead);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(2).permission, Permission::kRead);
}

TEST(Turn, EachReaderAndAWriterAreServedInTheirOrder) {
  Cluster cluster({.nodes = 4, .hold_ns = 1'000'000'000});
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  Message request = message_of(MessageType::kCopyRequest, 2);
  request.transaction = Transaction{1};
  cluster.handle(1, request);
  request = message_of(MessageType::kWriteRequest, 3);
  request.transaction = Transaction{1};
  cluster.handle(1, request);
  cluster.turn_taken(1);
  EXPECT_EQ(cluster.kinds(), (Kinds{Kind::kProtect, Kind::kSend, Kind::kZap, Kind::kSend}));
  EXPECT_EQ(cluster.sends()[1].message.copyset, NodeSet::of(node(2)));
}

// At any other time it changes nothing at all.
TEST(Turn, TakenWhereNothingIsHeld) {
  const auto expect_nothing = [](Cluster& cluster, std::uint32_t at) {
    const PageEntry before = cluster.entry(at);
    const bool busy = cluster.has_round(at);
    const Round round = busy ? cluster.round(at) : Round{};
    EXPECT_FALSE(cluster.wants_turn(at));
    cluster.turn_taken(at);
    EXPECT_EQ(cluster.kinds(), Kinds{});
    EXPECT_EQ(cluster.entry(at), before);
    ASSERT_EQ(cluster.has_round(at), busy);
    if (busy) {
      EXPECT_EQ(cluster.round(at), round);
    }
  };
  Cluster cluster({.nodes = 3});
  for (std::uint32_t i = 0; i < 3; ++i) expect_nothing(cluster, i);  // at rest
  cluster.fault(1, Access::kRead);
  expect_nothing(cluster, 1);  // Requesting
  cluster.deliver_all();
  cluster.fault(2, Access::kWrite);
  cluster.deliver(MessageType::kWriteRequest, 0);
  expect_nothing(cluster, 0);  // HandingOver
  cluster.deliver(MessageType::kOwnershipTransfer, 2);
  ASSERT_EQ(cluster.stage(2), Stage::kCollecting);
  expect_nothing(cluster, 2);
}

// While the page's own threads ask for more nothing is held, and a turn of before does not answer anybody.
TEST(Turn, TakenWhileMoreIsAskedFor) {
  Cluster cluster = waits_for_a_turn(500);
  Message request = message_of(MessageType::kWriteRequest, 0);
  request.transaction = Transaction{9};
  cluster.turn_taken(1);
  cluster.fault(1, Access::kWrite);  // once the hand-over is acknowledged
  ASSERT_EQ(cluster.stage(1), Stage::kHandingOver);
  cluster.turn_taken(1);
  EXPECT_EQ(cluster.kinds(), Kinds{});
  cluster.deliver(MessageType::kOwnershipTransfer, 2);
  cluster.deliver(MessageType::kTransferAck, 1);
  ASSERT_EQ(cluster.stage(1), Stage::kRequesting);
  cluster.handle(1, request);
  cluster.turn_taken(1);
  EXPECT_EQ(cluster.kinds(), Kinds{});
  EXPECT_EQ(cluster.round(1).deferred_count, 1U) << "it waits for the page, not for a turn";
}

// Without a hold the page may be taken again in the transition that brings it; with one, and turns, five
// writers that all wait get one turn each.
TEST(Turn, FiveWritersOfOnePageEachUseIt) {
  constexpr std::uint32_t kNodes = 5;
  for (const std::uint64_t hold_ns : {std::uint64_t{0}, std::uint64_t{1'000'000'000}}) {
    Cluster cluster({.nodes = kNodes, .hold_ns = hold_ns});
    const Time start = cluster.now;
    for (std::uint32_t i = 0; i < kNodes; ++i) cluster.fault(i, Access::kWrite);
    std::uint32_t used = 0;
    std::uint32_t taken_unused = 0;
    for (int left = 1000; used < kNodes && left > 0 && !cluster.wire.empty(); --left) {
      const std::uint32_t at = cluster.wire[0].to.value;
      cluster.deliver(std::size_t{0});
      const auto done = cluster.kinds();
      const bool granted = std::find(done.begin(), done.end(), Kind::kMapWrite) != done.end();
      if (granted && cluster.entry(at).permission != Permission::kWrite) ++taken_unused;
      if (cluster.entry(at).permission != Permission::kWrite) continue;
      if (granted) cluster.store(at);
      used += granted ? 1 : 0;
      if (cluster.wants_turn(at)) cluster.turn_taken(at);
    }
    EXPECT_EQ(cluster.now, start) << "no time-out was needed";
    if (hold_ns == 0) {
      EXPECT_GT(taken_unused, 0U);
    } else {
      EXPECT_EQ(taken_unused, 0U);
      EXPECT_EQ(used, kNodes - 1)
          << "the first owner wrote at once, and its thread is not among those that waited";
    }
  }
}

TEST(Deferred, OneOfAKindAndNodeTheNewest) {
  Cluster cluster({.nodes = 3, .hold_ns = 500});
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  Message request = message_of(MessageType::kWriteRequest, 2);
  for (const std::uint64_t transaction : {3U, 5U, 4U}) {
    request.transaction = Transaction{transaction};
    cluster.handle(1, request);
  }
  ASSERT_EQ(cluster.round(1).deferred_count, 1U);
  EXPECT_EQ(cluster.round(1).deferred[0].transaction, Transaction{5});
  EXPECT_EQ(count(cluster, 1, Event::kDeferred), 1U);
}

// A request that was turned away elsewhere goes before those that were not, and keeps its place.
TEST(Deferred, TurnedAwayGoesFirst) {
  Cluster cluster({.nodes = 6, .hold_ns = 500});
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  const auto ask = [&](std::uint8_t from, bool direct) {
    Message request = message_of(MessageType::kWriteRequest, from);
    request.transaction = Transaction{1};
    request.direct = direct;
    cluster.handle(1, request);
  };
  const auto line = [&] {
    std::vector<int> nodes;
    for (std::uint8_t i = 0; i < cluster.round(1).deferred_count; ++i)
      nodes.push_back(cluster.round(1).deferred[i].from.value);
    return nodes;
  };
  for (const auto& [from, direct] : {std::pair{2, false}, {3, true}, {4, false}, {5, true}})
    ask(static_cast<std::uint8_t>(from), direct);
  EXPECT_EQ(line(), (std::vector<int>{3, 5, 2, 4}));
  ask(4, true);  // now it was turned away, too
  EXPECT_EQ(line(), (std::vector<int>{3, 5, 4, 2}));
  ask(5, false);  // asked again of all
  EXPECT_EQ(line(), (std::vector<int>{3, 5, 4, 2}));
  EXPECT_EQ(count(cluster, 1, Event::kDeferred), 4U);
  cluster.turn_taken(1);
  ASSERT_EQ(cluster.sends().size(), 4U);
  EXPECT_EQ(cluster.sends()[0].message.type, MessageType::kOwnershipTransfer);
  EXPECT_EQ(cluster.sends()[0].to, NodeSet::of(node(3)));
}

TEST(Deferred, TheRoomIsBounded) {
  Cluster cluster({.nodes = kDeferredMax + 4, .hold_ns = 500});
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  for (std::uint8_t i = 2; i < kDeferredMax + 4; ++i) {
    Message request = message_of(MessageType::kCopyRequest, i);
    request.transaction = Transaction{1};
    cluster.handle(1, request);
  }
  EXPECT_EQ(cluster.round(1).deferred_count, kDeferredMax);
  EXPECT_EQ(count(cluster, 1, Event::kDeferredLost), 2U);
  cluster.expire(1);
  EXPECT_EQ(cluster.sends().size(), kDeferredMax);
}

TEST(Backoff, DoublesUpToItsCap) {
  Cluster cluster({.nodes = 2});
  cluster.view(1).retry_ns = 1000;
  cluster.view(1).retry_ns_max = 5000;
  cluster.fault(1, Access::kRead);
  for (const std::uint64_t expected : {1000U, 2000U, 4000U, 5000U, 5000U}) {
    EXPECT_EQ(cluster.rounds(1).deadline(cluster.entry(1).round), cluster.now.after(expected));
    cluster.time_out(1);
    EXPECT_EQ(cluster.kinds(), Kinds{}) << "not yet";
    cluster.expire(1);
    EXPECT_EQ(cluster.sent().transaction, Transaction{1}) << "R2";
  }
  for (int i = 0; i < 300; ++i) cluster.expire(1);
  EXPECT_EQ(cluster.rounds(1).deadline(cluster.entry(1).round), cluster.now.after(5000));
  EXPECT_EQ(count(cluster, 1, Event::kRepeated), 305U);
}

TEST(Pool, ExhaustedForFaultsChangesNothing) {
  Cluster cluster({.nodes = 2, .pages = 4, .rounds = 4});
  for (std::uint32_t p = 0; p < 3; ++p) EXPECT_EQ(cluster.fault(1, Access::kWrite, p), Outcome::kDone);
  EXPECT_FALSE(cluster.rounds(1).has_room_for_local());
  const PageEntry before = cluster.entry(1, 3);
  EXPECT_EQ(cluster.fault(1, Access::kWrite, 3), Outcome::kBusy);
  EXPECT_EQ(cluster.kinds(), Kinds{});
  EXPECT_EQ(cluster.entry(1, 3), before);
  EXPECT_EQ(cluster.rounds(1).in_use(), 3U) << "the rest is for others";
  cluster.deliver_all();
  EXPECT_EQ(cluster.fault(1, Access::kWrite, 3), Outcome::kDone);
}

TEST(Pool, ExhaustedForAHandOverCountsAndChangesNothing) {
  Cluster cluster({.nodes = 2, .pages = 2, .rounds = 1});
  Message request = message_of(MessageType::kWriteRequest, 1);
  request.transaction = Transaction{1};
  cluster.handle(0, request, 0);
  ASSERT_EQ(cluster.stage(0, 0), Stage::kHandingOver);
  const PageEntry before = cluster.entry(0, 1);
  cluster.handle(0, request, 1);
  EXPECT_EQ(cluster.kinds(), Kinds{});
  EXPECT_EQ(cluster.entry(0, 1), before);
  EXPECT_EQ(count(cluster, 0, Event::kBusy), 1U);
}

// A round that came with a hand-over, or with a message that waits, does not slip past the local share when
// this node's threads ask for its page.
TEST(Pool, TheReserveStaysForOthers) {
  constexpr std::uint32_t kPages = 8;
  Cluster cluster({.nodes = 2, .pages = kPages, .rounds = 4});
  Message request = message_of(MessageType::kWriteRequest, 1);
  request.transaction = Transaction{1};
  for (std::uint32_t p = 0; p < 4; ++p) {
    cluster.handle(0, request, p);
    ASSERT_EQ(cluster.stage(0, p), Stage::kHandingOver);
  }
  std::uint32_t busy = 0;
  for (std::uint32_t p = 0; p < 4; ++p) busy += cluster.fault(0, Access::kWrite, p) == Outcome::kBusy ? 1 : 0;
  EXPECT_EQ(busy, 1U);
  Message ack = message_of(MessageType::kTransferAck, 1);
  ack.epoch = Epoch{2};
  for (std::uint32_t p = 0; p < 4; ++p) {
    const std::uint32_t before = static_cast<std::uint32_t>(cluster.rounds(0).in_use());
    cluster.entry(1, p).owner = true;  // as node 1 says
    cluster.handle(0, ack, p);
    EXPECT_LE(cluster.rounds(0).in_use(), before);
  }
  EXPECT_EQ(cluster.rounds(0).in_use(), 3U);
  cluster.handle(0, request, 5);
  EXPECT_EQ(cluster.stage(0, 5), Stage::kHandingOver) << "others are still served";
}

// The same between two nodes: each has handed pages over, and wants them back before that was acknowledged.
// If those rounds filled the pools, neither could hand anything to the other again.
TEST(Pool, TwoFullNodesStillServeEachOther) {
  constexpr std::uint32_t kPages = 9;
  Cluster cluster({.nodes = 2, .pages = kPages, .rounds = 4, .placement = Placement::kCyclic});
  std::vector<std::pair<std::uint32_t, std::uint32_t>> refused;  // node, page: to be asked again
  const auto ask = [&](std::uint32_t who, std::uint32_t page) {
    if (cluster.fault(who, Access::kWrite, page) == Outcome::kBusy) refused.emplace_back(who, page);
  };
  const auto take = [&](std::uint32_t who, std::uint32_t page) {  // the acknowledgements stay on the wire
    ask(who, page);
    cluster.deliver(MessageType::kWriteRequest, 1 - who);
    cluster.deliver(MessageType::kOwnershipTransfer, who);
  };
  for (const std::uint32_t page : {1U, 3U, 5U}) take(0, page);
  for (const std::uint32_t page : {0U, 2U, 4U, 6U}) take(1, page);
  ASSERT_TRUE(refused.empty());
  for (const std::uint32_t page : {0U, 2U, 4U, 6U}) ask(0, page);
  for (const std::uint32_t page : {1U, 3U, 5U, 8U}) ask(1, page);
  for (int left = 100; left > 0; --left) {
    cluster.deliver_all();
    for (std::uint32_t n = 0; n < 2; ++n) {
      for (std::uint32_t p = 0; p < kPages; ++p) {
        if (cluster.has_round(n, p)) cluster.expire(n, p);
      }
    }
    const auto again = std::move(refused);
    refused.clear();
    for (const auto& [who, page] : again) ask(who, page);
  }
  EXPECT_TRUE(refused.empty());
  EXPECT_EQ(cluster.rounds(0).in_use() + cluster.rounds(1).in_use(), 0U)
      << "they wait for each other for ever";
}

}  // namespace
}  // namespace pagewire::protocol
