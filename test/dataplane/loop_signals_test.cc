// Signals of the service while its threads wait for pages or in a barrier: their handlers may touch pages
// that are elsewhere, too.
#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dataplane/loop.h"
#include "test/dataplane/ring_cluster.h"

namespace pagewire::dataplane {
namespace {

using protocol::Placement;
using test::ClusterOptions;
using test::require_soon;
using test::RingCluster;
using test::word_of;
using Regions = std::vector<RegionState*>;
using Word = std::atomic<std::uint64_t>;

// Frames that come in stay in the device while it is closed.
class Gate final : public test::OtherPort {
 public:
  using test::OtherPort::OtherPort;
  explicit Gate(std::unique_ptr<Port> inner, const std::atomic<bool>& open)
      : OtherPort(std::move(inner)), open_(open) {}
  std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> out) override {
    return open_.load() ? inner().receive(queue, out) : std::uint16_t{0};
  }

 private:
  const std::atomic<bool>& open_;
};

// SIGUSR1 adds to a word, or loads it, on whatever thread it interrupts.
std::atomic<Word*> target_of_handler{nullptr};
std::atomic<std::uint64_t> handlers_entered{0};
std::atomic<std::uint64_t> handlers_done{0};

class SignalHandler {
 public:
  explicit SignalHandler(Word& target) {
    target_of_handler = &target;
    handlers_entered = 0;
    handlers_done = 0;
    struct sigaction action {};
    action.sa_handler = [](int) {
      handlers_entered.fetch_add(1);
      target_of_handler.load()->fetch_add(1);
      handlers_done.fetch_add(1);
    };
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, &before_);
  }
  ~SignalHandler() { sigaction(SIGUSR1, &before_, nullptr); }
  SignalHandler(const SignalHandler&) = delete;
  SignalHandler& operator=(const SignalHandler&) = delete;

 private:
  struct sigaction before_ {};
};

bool is_asleep(pid_t thread_id) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread_id) + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t at = text.rfind(')');
  return at != std::string::npos && at + 2 < text.size() && text[at + 2] == 'S';
}

class Signals : public ::testing::TestWithParam<test::Way> {
 protected:
  ClusterOptions with_way(ClusterOptions options) {
    options.loop_kind = GetParam().loop_kind;
    options.delivery = GetParam().delivery;
    return options;
  }
  // Node 0 hears nothing while the gate is closed.
  ClusterOptions with_gate(ClusterOptions options) {
    options.wrap = [this](std::unique_ptr<Port> port, std::uint32_t node) -> std::unique_ptr<Port> {
      if (node != 0) return port;
      return std::make_unique<Gate>(std::move(port), open_);
    };
    return with_way(std::move(options));
  }
  // The owner's loop may be asleep beside what has come meanwhile.
  void open_gate(RingCluster& cluster) {
    open_.store(true);
    for (const auto& loop : cluster.engine(0).loops()) loop->wake();
  }

  std::atomic<bool> open_{true};
};
INSTANTIATE_TEST_SUITE_P(Ways, Signals, ::testing::ValuesIn(test::kWays),
                         [](const auto& info) { return test::name_of(info.param); });

// The page that the thread waits for does not come before its handler has been given its own, and both are
// on their way at the same time.
TEST_P(Signals, handler_faults__while_its_thread_waits_for_a_page) {
  constexpr std::size_t kRounds = 20;
  RingCluster cluster(with_gate({.nodes = 2}));
  const Regions regions = cluster.open("grid", 2 * kRounds, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  for (std::size_t round = 0; round < kRounds; ++round) {
    const SignalHandler handler(word_of(*regions[1], 2 * round + 1));
    open_.store(false);
    std::atomic<pid_t> id{0};
    std::atomic<bool> finished{false};
    std::thread waits([&] {
      id.store(gettid());
      word_of(*regions[1], 2 * round).fetch_add(1);
      finished.store(true);
    });
    require_soon("the thread's fault", [&] { return id.load() != 0 && is_asleep(id.load()); });
    ASSERT_FALSE(finished.load());
    pthread_kill(waits.native_handle(), SIGUSR1);
    require_soon("the handler", [&] { return handlers_entered.load() == 1; });
    require_soon("the handler's fault", [&] { return is_asleep(id.load()); });
    ASSERT_EQ(handlers_done.load(), 0U);
    open_gate(cluster);
    require_soon("both faults", [&] { return handlers_done.load() == 1 && finished.load(); });
    waits.join();
    EXPECT_EQ(word_of(*regions[0], 2 * round).load(), 1U);
    EXPECT_EQ(word_of(*regions[0], 2 * round + 1).load(), 1U);
  }
  EXPECT_TRUE(cluster.mbufs_come_back());
}

// Three deep: a handler's fault is interrupted by another signal, whose handler faults as well.
std::atomic<Word*> deeper_target{nullptr};
TEST_P(Signals, handler_faults__in_a_handler_that_waits_for_a_page) {
  RingCluster cluster(with_gate({.nodes = 2}));
  const Regions regions = cluster.open("grid", 3, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  const SignalHandler handler(word_of(*regions[1], 1));
  deeper_target = &word_of(*regions[1], 2);
  struct sigaction deeper {};
  struct sigaction before {};
  deeper.sa_handler = [](int) { deeper_target.load()->fetch_add(7); };
  sigaction(SIGUSR2, &deeper, &before);
  open_.store(false);
  std::atomic<pid_t> id{0};
  std::atomic<bool> finished{false};
  std::thread waits([&] {
    id.store(gettid());
    word_of(*regions[1], 0).fetch_add(1);
    finished.store(true);
  });
  require_soon("the thread's fault", [&] { return id.load() != 0 && is_asleep(id.load()); });
  pthread_kill(waits.native_handle(), SIGUSR1);
  require_soon("the handler", [&] { return handlers_entered.load() == 1 && is_asleep(id.load()); });
  pthread_kill(waits.native_handle(), SIGUSR2);
  open_gate(cluster);
  require_soon("all three faults", [&] { return finished.load() && handlers_done.load() == 1; });
  waits.join();
  sigaction(SIGUSR2, &before, nullptr);
  EXPECT_EQ(word_of(*regions[0], 0).load(), 1U);
  EXPECT_EQ(word_of(*regions[0], 1).load(), 1U);
  EXPECT_EQ(word_of(*regions[0], 2).load(), 7U);
}

TEST_P(Signals, handler_faults__while_its_thread_waits_in_a_barrier) {
  constexpr std::size_t kRounds = 20;
  RingCluster cluster(with_way({.nodes = 2, .loops = 2}));
  const Regions regions = cluster.open("grid", 64, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  for (std::size_t round = 0; round < kRounds; ++round) {
    const std::size_t page = round * 3;  // of both loops
    const SignalHandler handler(word_of(*regions[1], page));
    std::atomic<pid_t> id{0};
    std::atomic<bool> passed{false};
    std::thread waits([&] {
      id.store(gettid());
      EXPECT_TRUE(cluster.barrier(1));
      passed.store(true);
    });
    require_soon("sleep in the barrier", [&] { return id.load() != 0 && is_asleep(id.load()); });
    pthread_kill(waits.native_handle(), SIGUSR1);
    require_soon("the handler's page", [&] { return handlers_done.load() == 1; });
    EXPECT_FALSE(passed.load()) << "nobody else has come";
    EXPECT_TRUE(cluster.barrier(0));
    require_soon("the barrier", [&] { return passed.load(); });
    waits.join();
    EXPECT_EQ(word_of(*regions[0], page).load(), 1U);
  }
}

// A signal that comes while its thread is in one of our calls and has the lock of the control state.
TEST_P(Signals, handler_faults__while_its_thread_is_in_a_call_of_ours) {
  RingCluster cluster(with_gate({.nodes = 2}));
  const Regions regions = cluster.open("grid", 2, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  const SignalHandler handler(word_of(*regions[1], 0));
  open_.store(false);
  std::atomic<bool> finished{false};
  std::thread calls([&] {
    cluster.engine(1).control().with([&](protocol::Control&) { return raise(SIGUSR1); });
    finished.store(true);
  });
  require_soon("the handler", [&] { return handlers_entered.load() == 1; });
  // Longer than a beat: the loop has to look at the control state while the page is on its way.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  open_gate(cluster);
  require_soon("the handler's page", [&] { return finished.load(); });
  calls.join();
  EXPECT_EQ(word_of(*regions[0], 0).load(), 1U);
}

// Signals at any moment: in barriers, in faults, in calls of ours, between them. Node 0 takes the handler's
// page away again and again, so that it is mostly elsewhere.
TEST_P(Signals, handlers_that_fault__at_any_moment) {
  constexpr std::uint64_t kSteps = 1'500;
  RingCluster cluster(with_way({.nodes = 2, .loops = 2}));
  const Regions regions = cluster.open("grid", 40);
  ASSERT_EQ(regions.size(), 2U);
  const SignalHandler handler(word_of(*regions[1], 39));
  std::atomic<int> working{2};
  std::atomic<bool> leave{false};
  std::uint64_t taken_away = 0;
  const auto work = [&](std::size_t node) {
    for (std::uint64_t i = 0; i < kSteps; ++i) {
      word_of(*regions[node], i % 38).fetch_add(1);
      if (node == 0) word_of(*regions[0], 39).fetch_add(1);
      if (i % 3 == 0) {
        EXPECT_TRUE(cluster.barrier(node));
      }
      if (i % 7 == 0)
        cluster.engine(node).prefetch(*regions[node], static_cast<std::uint32_t>(i % 20), 10,
                                      protocol::Access::kRead);
    }
    if (node == 0) taken_away = kSteps;
    working.fetch_sub(1);
    while (!leave.load()) std::this_thread::yield();  // alive as long as it is signalled
  };
  std::thread zero(work, 0);
  std::thread one(work, 1);
  std::uint64_t sent = 0;
  require_soon("work under signals", [&] {
    if (handlers_done.load() == sent) {  // one at a time: a pending one would swallow the next
      ++sent;
      pthread_kill(one.native_handle(), SIGUSR1);
    }
    return working.load() == 0;
  });
  require_soon("the last handler", [&] { return handlers_done.load() == sent; });
  leave.store(true);
  zero.join();
  one.join();
  EXPECT_EQ(word_of(*regions[0], 39).load(), handlers_done.load() + taken_away);
  EXPECT_GT(handlers_done.load(), 100U);
  std::uint64_t sum = 0;
  for (std::size_t page = 0; page < 38; ++page) sum += word_of(*regions[0], page).load();
  EXPECT_EQ(sum, 2 * kSteps);
  RecordProperty("handlers", std::to_string(handlers_done.load()));
}

}  // namespace
}  // namespace pagewire::dataplane
