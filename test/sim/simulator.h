// The deterministic simulator: the real transition functions, pools of rounds, codec and admission of up to
// eight nodes, under one virtual clock. A seed decides everything. First threads load and store while the
// weather does its worst; then the network is whole, nothing new is asked, and all that was asked must be
// answered (I6) within a bound; then each node must be able to write each page.
//
// What is checked after each step, on the page that it touched: I1 to I5, the order of effects (R3, R7, R8),
// that data and messages are what was sent, and that the same write request makes a holder drop its copy
// once only; with up to four nodes, that ownership never comes unasked (R10). Every load is compared with
// the last store of whichever node.
//
// A node that restarts alone loses its pages, and as there is no recovery yet nobody listens to its new life.
// Pages that it had to do with when it died, or later through frames that it left on their way (it owned
// them, handed them over, was handed them, or was in a copyset), are given up: safety is still demanded of
// them, answers and an owner are not. The pages' bytes are one number; gathering fragments is not modelled.
// One thread.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/core.h"
#include "protocol/wire.h"
#include "test/model/carry_out.h"
#include "test/sim/counters.h"
#include "test/sim/event_queue.h"
#include "test/sim/network.h"
#include "test/sim/random.h"
#include "test/sim/setting.h"
#include "test/sim/story.h"

namespace pagewire::sim {

struct Violation {
  std::string what;  // starts with the invariant: "I1: ..."
  std::uint64_t step = 0;
  std::uint8_t node = 0;
  std::uint32_t page = 0;
};

struct Report {
  std::uint64_t seed = 0;
  std::uint64_t steps_asked = 0;    // of the first phase
  std::uint64_t steps = 0;          // of all phases
  std::uint64_t time_ns = 0;        // virtual
  std::uint64_t heal_ns = 0;        // the longest that the healed cluster took to answer everything ...
  std::uint64_t heal_bound_ns = 0;  // ... and how long it may take
  std::uint64_t worst_wait_ns = 0;  // of a thread, from its fault to its access
  std::uint64_t digest = 0;         // of everything that happened
  Setting setting;
  Counters counters;
  std::optional<Violation> violation;
};

class Simulator {
 public:
  enum class Demand : std::uint8_t {
    kAll,
    kVisible,  // only what a program could see: I1, I2 and I6. For mutants: what does a rule's loss come to?
  };
  void demand(Demand demand) { demand_ = demand; }
  // Changes what a seed decides, before each run.
  void adjust(std::function<void(Setting&)> change) { change_ = std::move(change); }
  // Runs the seed from its beginning. With a story, tells it what happens: that changes nothing of the run.
  const Report& run(std::uint64_t seed, std::uint64_t steps, Story* story = nullptr);

 private:
  struct Node {
    protocol::View view;
    std::vector<protocol::Round> storage;
    std::vector<protocol::Time> deadlines;
    std::optional<protocol::Rounds> rounds;
    std::uint64_t boot_id = 0;
    std::uint64_t packet_number = 0;
    std::uint64_t timer_at = 0;
    std::uint32_t timer_number = 0;  // older timers in the queue are stale
    std::uint64_t paused_until = 0;
    bool dead = false;  // its new life is a stranger to the others
  };
  // A page at a node: its entry, and what the memory there would be.
  struct Slot {
    protocol::PageEntry entry;
    model::Memory memory;
    std::uint64_t value = 0;  // the bytes
    // The last write request that made it drop its copy, if no other was heard since.
    protocol::NodeId dropped_for = protocol::kNoNode;
    protocol::Transaction dropped_at{};
    // The last hand-over whose hint was followed, and for which request.
    protocol::Epoch followed{};
    protocol::Transaction followed_for{};
  };
  struct Thread {
    enum class State : std::uint8_t { kResting, kTrying, kWaiting };
    State state = State::kResting;
    std::uint8_t node = 0;
    bool healing = false;  // one of the second phase: does one store and rests
    protocol::Access access = protocol::Access::kRead;
    std::uint32_t page = 0;
    std::uint64_t since = 0;  // began to try
  };
  // What must not fall, and what the transition depends on: taken before it.
  struct Before {
    protocol::Version version;
    protocol::Epoch epoch;
    protocol::Version floor;
    protocol::Transaction transaction;
    protocol::Transaction heard;
    protocol::NodeId heard_node;
    protocol::Permission permission;
    bool owner;
    std::uint64_t unsolicited;
    bool operator==(const Before&) const = default;
  };

  // simulator.cc: a run
  void start(std::uint64_t seed, std::uint64_t steps);
  void start_cluster();
  void start_threads();
  bool advance();  // one event; false if there is none left or something is broken
  void handle(const Event& event);
  void count_step(Event::Kind kind, std::uint64_t node, std::uint64_t page, std::uint64_t detail);
  void digest(std::uint64_t word);
  void keep_events(std::uint8_t node);
  void finish();

  // node_steps.cc: what befalls a page at a node
  void deliver(const Event& event);
  protocol::Drop admit(std::uint8_t node, const Frame& frame, protocol::Message& message,
                       std::uint64_t& value);
  void take_message(std::uint8_t node, const Frame& frame, const protocol::Message& message,
                    std::uint64_t value);
  void take_fault(const Event& event);
  void keep_in_ring(const Event& event, const Before& was);
  void take_timer(std::uint8_t node);
  void take_timeout(std::uint8_t node, std::uint32_t page);
  void note_repeated(std::uint8_t node, std::uint32_t page);
  void take_turn(std::uint8_t node, std::uint32_t page);
  Before before(std::uint8_t node, std::uint32_t page);
  void carry_out(std::uint8_t node, std::uint32_t page, const model::Handled& handled, std::uint64_t value,
                 const Before& was);
  const char* carry_out_effects(std::uint8_t node, std::uint32_t page, const model::Handled& handled,
                                std::uint64_t value);
  void send(std::uint8_t from, std::uint32_t page, const protocol::Effect& effect, std::uint64_t value);
  std::uint32_t encode(std::uint8_t from, protocol::NodeSet to, std::uint32_t page,
                       const protocol::Message& message, std::uint64_t value);
  void put_header(Frame& frame, std::uint8_t type, std::uint8_t from, protocol::NodeSet to, std::size_t body,
                  std::uint16_t fragment);
  void make_beat(Frame& frame, std::uint8_t from, protocol::NodeSet to);
  void send_frame(std::uint32_t frame, std::uint8_t from, protocol::NodeSet to);
  void arm_timer(std::uint8_t node);

  // application.cc: what the threads do
  void thread_goes(std::uint32_t number);
  void choose_access(Thread& thread);
  void raise_fault(const Thread& thread);
  void tell_turn(std::uint8_t node, std::uint32_t page);
  void use_page(Thread& thread, std::uint32_t number);
  void wake(std::uint8_t node, std::uint32_t page);
  void wake_one(std::uint32_t number, std::uint8_t node, std::uint32_t page);
  bool was_granted(protocol::Access access) const;

  // calamities.cc
  void start_weather();
  void befall(Calamity calamity);
  void clog();
  void cut_one_way();
  void cut_two_ways();
  void pause();
  void restart_one();
  void restart_all(bool new_lives);
  void stranger_speaks();
  void happened(Calamity calamity, const std::string& text);
  std::uint8_t any_node();

  // checks.cc: nullptr or what is broken
  const char* check_step(std::uint8_t node, std::uint32_t page, const model::Handled& handled,
                         const Before& was);
  const char* check_followed_once(std::uint8_t node, Slot& at, const model::Handled& handled);
  const char* check_heard_once(Slot& at, const model::Handled& handled, const Before& was);
  const char* check_page(std::uint32_t page);
  const char* check_pool(std::uint8_t node);
  void check_all();
  void give_up(std::uint32_t page);
  void give_up_what_is_with_the_dead(std::uint32_t page);
  void fail(const char* what, std::uint8_t node, std::uint32_t page);

  // heal.cc: the second phase
  void heal();
  bool settle(bool and_network);
  bool is_settled(bool and_network);
  std::optional<std::uint32_t> open_page();
  void each_writes_each();
  void check_rest();
  std::uint64_t heal_bound_ns() const;

  Slot& slot(std::uint8_t node, std::uint32_t page) { return slots_[page * kNodesMax + node]; }
  protocol::PageRef ref(std::uint8_t node, std::uint32_t page) {
    return {protocol::PageId{0, page}, slot(node, page).entry, *nodes_[node].rounds};
  }
  protocol::Stage stage(std::uint8_t node, std::uint32_t page) {
    const std::uint16_t round = slot(node, page).entry.round;
    return round == protocol::kNoRound ? protocol::Stage::kFree : (*nodes_[node].rounds)[round].stage;
  }
  protocol::Time now() const { return protocol::Time{now_}; }
  bool tells(std::optional<std::uint32_t> page) const {
    return story_ != nullptr && story_->wants(report_.steps, page);
  }
  void tell(Line::Kind kind, std::uint8_t node, std::uint8_t from, std::optional<std::uint32_t> page,
            std::string text);

  Random random_{0};
  Setting setting_;
  Network network_;
  EventQueue queue_;
  std::array<Node, kNodesMax> nodes_;
  std::array<std::uint64_t, kNodesMax> known_boots_{};  // the lives that all know
  std::vector<Slot> slots_;
  std::vector<Thread> threads_;        // of the nodes, then one a page for the second phase
  std::vector<std::uint64_t> stored_;  // by page: the last store of whichever node
  std::vector<char> given_up_;         // by page
  std::uint64_t last_value_ = 0;       // no two stores write the same
  std::uint64_t last_boot_ = 0;
  std::uint32_t view_ = 0;
  std::uint32_t living_ = 0;
  std::uint32_t active_threads_ = 0;  // those that do not rest
  std::uint32_t faults_in_rings_ = 0;
  bool healing_ = false;
  std::uint64_t now_ = 0;
  protocol::Effects effects_;
  Demand demand_ = Demand::kAll;
  std::function<void(Setting&)> change_;
  Report report_;
  Story* story_ = nullptr;
};

}  // namespace pagewire::sim
