// Who has to wait for the end of a hold is told so, and asks again by himself: the holder sets no alarm.
#include <gtest/gtest.h>

#include "test/protocol/cluster.h"

namespace pagewire::protocol {
namespace {

constexpr std::uint64_t kHoldNs = 30'000;
constexpr NodeId node(std::uint8_t value) { return NodeId{value}; }

// Node 1 has just got the page to write, its thread has not run; node 2 wants it.
class Held : public ::testing::Test {
 protected:
  Held() {
    cluster_.fault(1, Access::kWrite);
    cluster_.deliver_all();
    EXPECT_EQ(cluster_.entry(1).permission, Permission::kWrite);
  }
  Time deadline(std::uint32_t at) { return cluster_.rounds(at).deadline(cluster_.entry(at).round); }
  // Node 2 asks, node 1 answers that it holds, node 2 hears it.
  Message ask(Access access) {
    cluster_.fault(2, access);
    while (cluster_.stage(1) != Stage::kHolding) cluster_.deliver(std::size_t{0});
    const Message held = cluster_.sent();
    cluster_.deliver(MessageType::kHeld, 2);
    return held;
  }

  Cluster cluster_{{.nodes = 3, .hold_ns = kHoldNs}};
};

TEST_F(Held, who_asks_is_told_for_how_long) {
  cluster_.now = cluster_.now.after(10'000);
  const Message held = ask(Access::kWrite);
  EXPECT_EQ(held.type, MessageType::kHeld);
  EXPECT_EQ(held.transaction, cluster_.round(2).transaction);
  EXPECT_EQ(held.wait_ns, kHoldNs - 10'000);
}

TEST_F(Held, the_holder_has_nothing_to_wake_up_for) {
  ask(Access::kWrite);
  EXPECT_EQ(cluster_.rounds(1).next_wake(), kNever);
  EXPECT_EQ(cluster_.rounds(1).next_deadline(), cluster_.entry(1).hold_until)
      << "but if it looks, it ends it";
  EXPECT_LT(cluster_.rounds(2).next_wake(), cluster_.entry(1).hold_until);
}

TEST_F(Held, who_was_told_asks_the_holder_alone__half_way_to_the_end) {
  ask(Access::kWrite);
  const Time asked = cluster_.now;
  EXPECT_EQ(deadline(2), asked.after(kHoldNs / 2));
  const Transaction transaction = cluster_.round(2).transaction;
  cluster_.expire(2);
  EXPECT_EQ(cluster_.sent_to(), NodeSet::of(node(1)));
  const Message again = cluster_.sent();
  EXPECT_EQ(again.type, MessageType::kWriteRequest);
  EXPECT_EQ(again.transaction, transaction);
  EXPECT_FALSE(again.direct) << "as the request was";
  EXPECT_EQ(cluster_.round(2).attempts, 0) << "nothing was lost: the next repetition is no later for it";
  EXPECT_EQ(deadline(2), cluster_.now.after(cluster_.view(2).retry_ns));
  EXPECT_EQ(cluster_.rounds(2).events(Event::kRepeated), 0U);
  EXPECT_EQ(cluster_.rounds(2).events(Event::kAskedAgain), 1U);
}

TEST_F(Held, a_request_to_the_hint_alone__stays_one) {
  cluster_.entry(2).hint = node(1);
  ask(Access::kRead);
  cluster_.expire(2);
  EXPECT_EQ(cluster_.sent_to(), NodeSet::of(node(1)));
  EXPECT_EQ(cluster_.sent().type, MessageType::kCopyRequest);
  EXPECT_TRUE(cluster_.sent().direct);
  EXPECT_FALSE(cluster_.round(2).asked_all);
}

TEST_F(Held, asking_again_ends_with_the_page__once_the_hold_is_over) {
  ask(Access::kWrite);
  cluster_.wire.clear();
  for (int i = 0; i < 20 && cluster_.entry(2).permission == Permission::kInvalid; ++i) {
    cluster_.expire(2);
    cluster_.deliver_all();
  }
  EXPECT_EQ(cluster_.entry(2).permission, Permission::kWrite);
  EXPECT_GE(cluster_.now, Time{1'000'000}.after(kHoldNs));
  EXPECT_EQ(cluster_.rounds(2).events(Event::kRepeated), 0U) << "the ordinary repetition was not needed";
  EXPECT_LE(cluster_.rounds(2).events(Event::kAskedAgain), 8U) << "half of the rest each time, 4 us at least";
}

TEST_F(Held, a_long_hold__is_asked_about_soon_and_then_less_and_less_often) {
  Cluster cluster({.nodes = 2, .hold_ns = 1'000'000'000});
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  cluster.fault(0, Access::kRead);
  std::uint64_t waited_ns = 0;
  for (int i = 0; i < 6; ++i) {
    cluster.deliver_all();  // the question, and that it is held
    const Time asked = cluster.now;
    cluster.expire(0);
    EXPECT_EQ(cluster.now, asked.after(std::uint64_t{16'000} << i));
    waited_ns += std::uint64_t{16'000} << i;
  }
  cluster.turn_taken(1);
  cluster.deliver_all();
  EXPECT_EQ(cluster.entry(0).permission, Permission::kRead);
  EXPECT_EQ(cluster.now, Time{1'000'000}.after(waited_ns));
}

TEST_F(Held, who_holds_on_and_on__is_asked_as_one_who_does_not_answer) {
  Cluster cluster({.nodes = 3, .hold_ns = 60'000'000'000});
  cluster.fault(1, Access::kWrite);
  cluster.deliver_all();
  cluster.fault(0, Access::kWrite);
  std::uint64_t asked = 0;
  for (; cluster.rounds(0).events(Event::kRepeated) == 0; ++asked) {
    ASSERT_LT(asked, 20U);
    cluster.deliver_all();
    cluster.expire(0);
  }
  EXPECT_EQ(cluster.sent_to(), NodeSet::of(node(1)).with(node(2))) << "perhaps another has not heard it";
  std::uint64_t longest_ns = 0;
  for (int i = 0; i < 12; ++i) {
    cluster.deliver_all();
    const Time before = cluster.now;
    cluster.expire(0);
    longest_ns = cluster.now.ns - before.ns;
  }
  EXPECT_EQ(longest_ns, cluster.view(0).retry_ns_max);
}

// The question that waited and the one that was asked again are one.
TEST_F(Held, who_asked_again__is_answered_once) {
  for (const Access access : {Access::kRead, Access::kWrite}) {
    for (const bool by_turn : {false, true}) {
      Cluster cluster({.nodes = 2, .hold_ns = kHoldNs});
      cluster.fault(1, Access::kWrite);
      cluster.deliver_all();
      cluster.fault(0, access);
      cluster.deliver_all();
      ASSERT_EQ(cluster.round(1).deferred_count, 1U);
      cluster.now = cluster.entry(1).hold_until;
      if (by_turn) cluster.turn_taken(1);
      if (!by_turn) {
        cluster.expire(0);
        cluster.deliver(access == Access::kRead ? MessageType::kCopyRequest : MessageType::kWriteRequest, 1);
        if (cluster.stage(1) == Stage::kHolding) cluster.time_out(1);
      }
      std::size_t answers = 0;
      for (const Flying& flying : cluster.wire) answers += flying.message.has_bytes ? 1 : 0;
      EXPECT_LE(answers, 1U);
      cluster.deliver_all();
      EXPECT_TRUE(allows(cluster.entry(0).permission, access));
      EXPECT_EQ(cluster.rounds(0).events(Event::kStale), 0U);
    }
  }
}

TEST_F(Held, the_answer_that_is_lost__is_made_up_for_by_the_repetition) {
  cluster_.fault(2, Access::kWrite);
  while (cluster_.stage(1) != Stage::kHolding) cluster_.deliver(std::size_t{0});
  cluster_.wire.clear();
  cluster_.expire(2);
  cluster_.deliver_all();
  EXPECT_EQ(cluster_.entry(2).permission, Permission::kWrite);
  EXPECT_EQ(cluster_.rounds(2).events(Event::kRepeated), 1U);
}

// What was deferred while the page was on its way, too.
TEST_F(Held, who_asked_before_the_page_came__is_told_when_it_has_come) {
  cluster_.turn_taken(1);
  cluster_.fault(2, Access::kWrite);
  cluster_.deliver_all();
  cluster_.turn_taken(2);
  ASSERT_EQ(cluster_.entry(2).permission, Permission::kWrite);
  cluster_.fault(1, Access::kWrite);
  cluster_.fault(0, Access::kWrite);
  Message request;
  request.type = MessageType::kWriteRequest;
  request.from = node(0);
  request.transaction = cluster_.round(0).transaction;
  cluster_.handle(1, request);
  ASSERT_EQ(cluster_.round(1).deferred_count, 1U);
  cluster_.deliver(MessageType::kWriteRequest, 2);
  cluster_.deliver(MessageType::kOwnershipTransfer, 1);
  const auto sends = cluster_.sends();
  ASSERT_EQ(sends.size(), 2U);
  EXPECT_EQ(sends[1].message.type, MessageType::kHeld);
  EXPECT_EQ(sends[1].to, NodeSet::of(node(0)));
  EXPECT_EQ(sends[1].message.wait_ns, kHoldNs);
}

TEST_F(Held, a_reader_that_holds_its_copy__is_asked_for_its_promise_again) {
  cluster_.turn_taken(1);
  cluster_.fault(2, Access::kRead);
  cluster_.deliver_all();
  ASSERT_EQ(cluster_.entry(2).permission, Permission::kRead);
  cluster_.fault(1, Access::kWrite);  // the owner collects
  ASSERT_EQ(cluster_.stage(1), Stage::kCollecting);
  const Version wanted = cluster_.round(1).new_version;
  cluster_.deliver(MessageType::kInvalidate, 2);
  const Message held = cluster_.sent();
  EXPECT_EQ(held.type, MessageType::kHeld);
  EXPECT_EQ(held.version, wanted);
  EXPECT_EQ(held.transaction, Transaction{});
  cluster_.deliver(MessageType::kHeld, 1);
  cluster_.expire(1);
  EXPECT_EQ(cluster_.sent().type, MessageType::kInvalidate);
  EXPECT_EQ(cluster_.sent_to(), NodeSet::of(node(2)));
  cluster_.turn_taken(2);
  cluster_.deliver_all();
  EXPECT_EQ(cluster_.entry(1).permission, Permission::kWrite);
}

TEST_F(Held, answers_to_what_is_not_asked_now__change_nothing) {
  Message held;
  held.type = MessageType::kHeld;
  held.from = node(1);
  held.transaction = Transaction{77};
  held.wait_ns = 1;
  cluster_.handle(0, held);  // has asked for nothing
  EXPECT_FALSE(cluster_.has_round(0));
  cluster_.fault(2, Access::kWrite);
  const Round before = cluster_.round(2);
  const Time until = deadline(2);
  cluster_.handle(2, held);  // of another request
  EXPECT_EQ(cluster_.round(2), before);
  EXPECT_EQ(deadline(2), until);
  EXPECT_EQ(cluster_.rounds(2).events(Event::kStale), 1U);
  cluster_.now = Time{until.ns - 1'000};
  held.transaction = before.transaction;
  held.wait_ns = std::uint64_t{1} << 55;  // much later than the repetition
  cluster_.handle(2, held);
  EXPECT_EQ(deadline(2), until) << "never later";
}

}  // namespace
}  // namespace pagewire::protocol
