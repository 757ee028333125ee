// Histories made by hand, each with the legal ones beside it: what the checks must refuse, and must not.
#include <gtest/gtest.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "test/history/history.h"
#include "test/history/linearizable.h"
#include "test/history/sequential.h"

namespace pagewire::history {
namespace {

constexpr std::uint32_t kX = 0;
constexpr std::uint32_t kY = 1;
constexpr std::uint32_t kZ = 2;

// Without times all is at once, so only the order of each client counts.
Operation read(std::uint32_t word, Value value, std::int64_t from = 0, std::int64_t to = 0) {
  return {.kind = Kind::kRead, .word = word, .read = value, .invoked_ns = from, .responded_ns = to};
}
Operation write(std::uint32_t word, Value value, std::int64_t from = 0, std::int64_t to = 0) {
  return {.kind = Kind::kWrite, .word = word, .written = value, .invoked_ns = from, .responded_ns = to};
}
Operation exchange(std::uint32_t word, Value old, Value value, std::int64_t from = 0, std::int64_t to = 0) {
  return {.kind = Kind::kExchange,
          .word = word,
          .read = old,
          .written = value,
          .invoked_ns = from,
          .responded_ns = to};
}

using Clients = std::vector<std::vector<Operation>>;

SequentialConsistency sequential(const Clients& clients) {
  return check_sequential(Resolved(History{clients}));
}
Linearizability linearizable(const Clients& clients) {
  return check_linearizable(Resolved(History{clients}));
}

void expect_sequential(const Clients& clients) {
  const auto found = sequential(clients);
  EXPECT_EQ(found.verdict, Verdict::kHolds) << found.explanation;
}
// Refused, and each of `words` is in what is said about it.
void expect_not_sequential(const Clients& clients, std::initializer_list<const char*> words = {}) {
  const auto found = sequential(clients);
  EXPECT_EQ(found.verdict, Verdict::kViolated);
  for (const char* word : words)
    EXPECT_NE(found.explanation.find(word), std::string::npos) << found.explanation;
}
void expect_linearizable(const Clients& clients) {
  const auto found = linearizable(clients);
  EXPECT_EQ(found.verdict, Verdict::kHolds) << found.explanation;
}
void expect_not_linearizable(const Clients& clients, std::initializer_list<const char*> words = {}) {
  const auto found = linearizable(clients);
  EXPECT_EQ(found.verdict, Verdict::kViolated);
  for (const char* word : words)
    EXPECT_NE(found.explanation.find(word), std::string::npos) << found.explanation;
}

TEST(Sequential, nothing__holds) {
  expect_sequential({});
  expect_sequential({{}, {}});
  expect_linearizable({{}, {}});
}

TEST(Sequential, store_buffering) {
  const auto outcome = [](Value a, Value b) {
    return Clients{{write(kX, 1), read(kY, a)}, {write(kY, 2), read(kX, b)}};
  };
  expect_not_sequential(outcome(0, 0), {"client 0 #1  read word 1: 0", "client 1 #1  read word 0: 0"});
  expect_sequential(outcome(2, 0));
  expect_sequential(outcome(0, 1));
  expect_sequential(outcome(2, 1));
}

TEST(Sequential, message_passing) {
  const auto outcome = [](Value flag, Value data) {
    return Clients{{write(kX, 1), write(kY, 2)}, {read(kY, flag), read(kX, data)}};
  };
  expect_not_sequential(outcome(2, 0),
                        {"was seen by", "saw a value that was replaced by", "was followed by"});
  expect_sequential(outcome(0, 0));
  expect_sequential(outcome(0, 1));
  expect_sequential(outcome(2, 1));
}

TEST(Sequential, load_buffering) {
  const auto outcome = [](Value a, Value b) {
    return Clients{{read(kX, a), write(kY, 1)}, {read(kY, b), write(kX, 2)}};
  };
  expect_not_sequential(outcome(2, 1));
  expect_sequential(outcome(0, 0));
  expect_sequential(outcome(2, 0));
  expect_sequential(outcome(0, 1));
}

TEST(Sequential, independent_reads_of_independent_writes) {
  const auto outcome = [](Value a, Value b, Value c, Value d) {
    return Clients{{write(kX, 1)}, {write(kY, 2)}, {read(kX, a), read(kY, b)}, {read(kY, c), read(kX, d)}};
  };
  expect_not_sequential(outcome(1, 0, 2, 0));
  expect_sequential(outcome(1, 0, 2, 1));
  expect_sequential(outcome(1, 2, 2, 0));
  expect_sequential(outcome(1, 0, 0, 0));
}

TEST(Sequential, write_to_read_causality) {
  const auto outcome = [](Value last) {
    return Clients{{write(kX, 1)}, {read(kX, 1), write(kY, 2)}, {read(kY, 2), read(kX, last)}};
  };
  expect_not_sequential(outcome(0));
  expect_sequential(outcome(1));
}

TEST(Sequential, three_words_in_a_ring) {
  const auto outcome = [](Value last) {
    return Clients{{write(kX, 1), write(kY, 2)}, {read(kY, 2), write(kZ, 3)}, {read(kZ, 3), read(kX, last)}};
  };
  expect_not_sequential(outcome(0));
  expect_sequential(outcome(1));
}

TEST(Sequential, two_writes_each__orders_of_the_words_differ) {
  const auto outcome = [](Value x_then, Value x_last, Value y_then, Value y_last) {
    return Clients{{write(kX, 1), write(kY, 2)},
                   {write(kY, 3), write(kX, 4)},
                   {read(kX, x_then), read(kX, x_last)},
                   {read(kY, y_then), read(kY, y_last)}};
  };
  expect_not_sequential(outcome(4, 1, 2, 3), {"was replaced, in the end, by", "(see 1)", "(1) because"});
  expect_sequential(outcome(1, 4, 2, 3));
  expect_sequential(outcome(4, 1, 3, 2));
  expect_sequential(outcome(1, 4, 3, 2));
}

TEST(Sequential, one_reader_goes_back) {
  expect_not_sequential({{write(kX, 1)}, {read(kX, 1), read(kX, 0)}});
  expect_not_sequential({{write(kX, 1)}, {write(kX, 2)}, {read(kX, 1), read(kX, 2), read(kX, 1)}});
  expect_sequential({{write(kX, 1)}, {write(kX, 2)}, {read(kX, 1), read(kX, 1), read(kX, 2)}});
}

TEST(Sequential, two_readers_see_writes_in_opposite_orders) {
  const auto outcome = [](Value a, Value b) {
    return Clients{{write(kX, 1)}, {write(kX, 2)}, {read(kX, 1), read(kX, 2)}, {read(kX, a), read(kX, b)}};
  };
  expect_not_sequential(outcome(2, 1));
  expect_sequential(outcome(1, 2));
  expect_sequential(outcome(0, 2));
}

TEST(Sequential, own_write_is_not_seen) {
  expect_not_sequential({{write(kX, 1), read(kX, 0)}});
  expect_not_sequential({{write(kX, 2), read(kX, 1), read(kX, 2)}, {write(kX, 1)}});
  expect_sequential({{write(kX, 2), read(kX, 2), read(kX, 1)}, {write(kX, 1)}});
}

TEST(Sequential, a_read_of_what_its_client_writes_later) {
  expect_not_sequential({{read(kX, 1), write(kX, 1)}});
}

TEST(Sequential, exchanges) {
  expect_sequential({{exchange(kX, 0, 1), exchange(kX, 2, 3)}, {exchange(kX, 1, 2)}});
  expect_not_sequential({{exchange(kX, 2, 3), exchange(kX, 0, 1)}, {exchange(kX, 1, 2)}});
  // A plain write cannot come between a value and the exchange that replaced it.
  expect_not_sequential({{exchange(kX, 0, 1), write(kX, 5), exchange(kX, 1, 2)}});
  expect_sequential({{exchange(kX, 0, 1), write(kX, 5), exchange(kX, 5, 2)}});
  expect_not_sequential({{write(kX, 1), write(kY, 2)}, {exchange(kY, 2, 4), exchange(kX, 0, 3)}});
}

TEST(Sequential, a_stale_read_that_only_the_clock_shows__holds) {
  const Clients stale{{write(kX, 1, 0, 10)}, {read(kX, 0, 20, 30)}};
  expect_sequential(stale);
  expect_not_linearizable(stale);
}

// What the search does is seen when nothing has been derived for it.
TEST(Sequential, by_search_alone__as_far_as_it_may_go) {
  const Resolved crossed(History{{{write(kX, 1), write(kY, 2)},
                                  {write(kY, 3), write(kX, 4)},
                                  {read(kX, 4), read(kX, 1)},
                                  {read(kY, 2), read(kY, 3)}}});
  const auto found = check_sequential(crossed, {.derive = false});
  EXPECT_EQ(found.verdict, Verdict::kViolated);
  EXPECT_TRUE(found.explanation.starts_with("no order explains it")) << found.explanation;
  EXPECT_GT(found.dead_ends, 1U);
  const auto given_up = check_sequential(crossed, {.dead_ends_max = 0, .derive = false});
  EXPECT_EQ(given_up.verdict, Verdict::kUndecided);
  EXPECT_TRUE(given_up.explanation.starts_with("given up")) << given_up.explanation;
}

TEST(BothChecks, a_value_out_of_thin_air) {
  const Clients clients{{write(kX, 1)}, {read(kX, 7)}};
  expect_not_sequential(clients, {"thin air", "client 1 #0"});
  expect_not_linearizable(clients, {"thin air"});
}

TEST(BothChecks, a_value_of_another_word) {
  const Clients clients{{write(kX, 1)}, {read(kY, 1)}};
  expect_not_sequential(clients, {"another word"});
  expect_not_linearizable(clients, {"another word"});
}

TEST(BothChecks, a_lost_update) {
  const Clients clients{{write(kX, 1), exchange(kX, 1, 2)}, {exchange(kX, 1, 3)}};
  expect_not_sequential(clients, {"lost update", "client 0 #1", "client 1 #0"});
  expect_not_linearizable(clients, {"lost update"});
  expect_not_sequential({{exchange(kX, 0, 2)}, {exchange(kX, 0, 3)}}, {"lost update"});
  expect_sequential({{write(kX, 1), exchange(kX, 1, 2)}, {exchange(kX, 2, 3)}});
}

TEST(BothChecks, exchanges_in_a_circle) {
  const Clients clients{{exchange(kX, 2, 1)}, {exchange(kX, 1, 2)}};
  expect_not_sequential(clients, {"circle"});
  expect_not_linearizable(clients, {"circle"});
}

TEST(Linearizable, a_stale_read_after_a_newer_write_had_ended) {
  expect_not_linearizable({{write(kX, 1, 0, 10), write(kX, 2, 20, 30)}, {read(kX, 1, 40, 50)}});
  expect_linearizable({{write(kX, 1, 0, 10), write(kX, 2, 20, 30)}, {read(kX, 1, 25, 50)}});
  expect_linearizable({{write(kX, 1, 0, 10), write(kX, 2, 20, 30)}, {read(kX, 2, 40, 50)}});
}

TEST(Linearizable, a_read_that_ended_before_its_write_began) {
  expect_not_linearizable({{write(kX, 1, 20, 30)}, {read(kX, 1, 0, 10)}}, {"had not begun"});
  expect_linearizable({{write(kX, 1, 20, 30)}, {read(kX, 1, 0, 20)}});
}

TEST(Linearizable, new_then_old_by_two_readers_during_one_write) {
  const auto outcome = [](Value a, Value b) {
    return Clients{{write(kX, 1, 0, 100)}, {read(kX, a, 10, 20)}, {read(kX, b, 30, 40)}};
  };
  expect_not_linearizable(outcome(1, 0));
  expect_linearizable(outcome(0, 1));
  expect_linearizable(outcome(1, 1));
  expect_linearizable(outcome(0, 0));
}

TEST(Linearizable, zones_that_overlap) {
  const Clients forward{{write(kX, 1, 0, 10), read(kX, 1, 40, 50)},
                        {write(kX, 2, 20, 25), read(kX, 2, 60, 70)}};
  expect_not_linearizable(forward, {"either would have to be older"});
  const Clients inside{{write(kX, 1, 0, 10), read(kX, 1, 40, 50)}, {write(kX, 2, 20, 30)}};
  expect_not_linearizable(inside, {"either would have to be older"});
  const Clients beside{{write(kX, 1, 0, 10), read(kX, 1, 40, 50)}, {write(kX, 2, 20, 41)}};
  expect_linearizable(beside);
}

TEST(Linearizable, exchanges_against_the_clock) {
  expect_not_linearizable({{exchange(kX, 1, 2, 0, 10)}, {exchange(kX, 0, 1, 20, 30)}}, {"had not begun"});
  expect_linearizable({{exchange(kX, 1, 2, 0, 25)}, {exchange(kX, 0, 1, 20, 30)}});
  // The one between them in the chain began after the last had ended.
  expect_not_linearizable({{exchange(kX, 0, 1, 0, 50)}, {read(kX, 1, 40, 50)}, {exchange(kX, 1, 2, 0, 30)}});
}

TEST(Linearizable, pairs_that_the_clock_orders) {
  const Clients clients{{write(kX, 1, 0, 10), write(kY, 2, 11, 12)},
                        {read(kX, 1, 20, 30), read(kX, 1, 31, 32)}};
  EXPECT_EQ(count_real_time_pairs(Resolved(History{clients})), 2U);
}

TEST(NotAHistory, is_refused_with_the_place) {
  const auto refused = [](const Clients& clients, const char* word) {
    try {
      const Resolved resolved(History{clients});
      ADD_FAILURE() << "accepted: " << word;
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refused({{write(kX, 1)}, {write(kY, 1)}}, "client 1 #0 writes 1");
  refused({{write(kX, 0)}}, "writes 0");
  refused({{write(kX, 1, 5, 4)}}, "responded before");
  refused({{write(kX, 1, 0, 10), write(kX, 2, 9, 12)}}, "client 0 #1");
  refused({{write(Resolved::kWordsMax, 1)}}, "word 1048576");
}

TEST(Replays, only_an_order_that_explains_it) {
  const Resolved resolved(History{{{write(kX, 1)}, {read(kX, 1), read(kX, 1)}}});
  EXPECT_TRUE(replays(resolved, {0, 1, 2}));
  EXPECT_FALSE(replays(resolved, {1, 0, 2}));
  EXPECT_FALSE(replays(resolved, {0, 2, 1}));
  EXPECT_FALSE(replays(resolved, {0, 1}));
  EXPECT_FALSE(replays(resolved, {0, 1, 2, 3}));
}

}  // namespace
}  // namespace pagewire::history
