// A cluster in one value, for tests: real transition functions, a modelled memory, and a wire whose messages
// the test delivers, drops or doubles as it likes. Each step's effects are held to the mapping.
// Single-threaded.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "protocol/core.h"
#include "test/model/carry_out.h"

namespace pagewire::protocol {

struct Flying {
  NodeId to{};
  std::uint32_t page = 0;
  std::uint8_t value = 0;
  Message message{};
};

class Cluster {
 public:
  using Kind = Effect::Kind;

  struct Options {
    std::uint32_t nodes = 3;
    std::uint32_t pages = 1;
    std::uint32_t rounds = 4;
    std::uint64_t hold_ns = 0;
    Placement placement = Placement::kOneNode;  // node 0
  };

  explicit Cluster(const Options& options) : options_(options), stored_(options.pages, 0) {
    for (std::uint8_t i = 0; i < options.nodes; ++i) {
      nodes_.push_back(std::make_unique<Node>(options.rounds));
      Node& node = *nodes_.back();
      node.view.self = NodeId{i};
      node.view.members = NodeSet::first(options.nodes);
      node.view.hold_ns = options.hold_ns;
      for (std::uint32_t p = 0; p < options.pages; ++p) {
        const NodeId owner = initial_owner(options.placement, NodeId{0}, options.nodes, p, options.pages);
        node.entries.push_back(initial_entry(NodeId{i}, owner, options.placement));
      }
      node.memory.resize(options.pages);
    }
  }

  PageEntry& entry(std::uint32_t node, std::uint32_t page = 0) { return nodes_[node]->entries[page]; }
  model::Memory& memory(std::uint32_t node, std::uint32_t page = 0) { return nodes_[node]->memory[page]; }
  Rounds& rounds(std::uint32_t node) { return nodes_[node]->rounds; }
  View& view(std::uint32_t node) { return nodes_[node]->view; }
  bool has_round(std::uint32_t node, std::uint32_t page = 0) { return entry(node, page).round != kNoRound; }
  Round& round(std::uint32_t node, std::uint32_t page = 0) { return rounds(node)[entry(node, page).round]; }
  Stage stage(std::uint32_t node, std::uint32_t page = 0) {
    return has_round(node, page) ? round(node, page).stage : Stage::kFree;
  }

  // Steps. What they send goes to the end of `wire`; what they did is in effects().
  Outcome fault(std::uint32_t node, Access access, std::uint32_t page = 0) {
    effects_.clear();
    const Outcome outcome = on_fault(view(node), ref(node, page), access, now, effects_);
    carry_out(node, page, {});
    return outcome;
  }
  void handle(const Flying& flying) {
    effects_.clear();
    const PageRef at = ref(flying.to.value, flying.page);
    const model::Handled handled{&flying.message, flying.value,
                                 wants_bytes(view(flying.to.value), at, flying.message)};
    on_message(view(flying.to.value), at, flying.message, now, effects_);
    carry_out(flying.to.value, flying.page, handled);
  }
  // A message that the test makes up; bytes as they are now at its sender.
  void handle(std::uint32_t to, const Message& message, std::uint32_t page = 0) {
    handle(
        Flying{NodeId{static_cast<std::uint8_t>(to)}, page, memory(message.from.value, page).value, message});
  }
  // Takes the message at this place off the wire and delivers it.
  void deliver(std::size_t place) {
    ASSERT_LT(place, wire.size());
    const Flying flying = wire[place];
    wire.erase(wire.begin() + static_cast<std::ptrdiff_t>(place));
    handle(flying);
  }
  // The first message of the type to that node. Fails if there is none.
  void deliver(MessageType type, std::uint32_t to) { deliver(find(type, to)); }
  std::size_t find(MessageType type, std::uint32_t to) const {
    for (std::size_t i = 0; i < wire.size(); ++i) {
      if (wire[i].message.type == type && wire[i].to.value == to) return i;
    }
    ADD_FAILURE() << "no message of type " << static_cast<int>(type) << " to node " << to;
    return wire.size();
  }
  void deliver_all() {
    for (int left = 1000; !wire.empty(); --left) {
      ASSERT_GT(left, 0) << "messages without end";
      deliver(std::size_t{0});
    }
  }
  // Time goes on to the round's deadline, which is then handled.
  void expire(std::uint32_t node, std::uint32_t page = 0) {
    ASSERT_TRUE(has_round(node, page));
    now = std::max(now, rounds(node).deadline(entry(node, page).round));
    time_out(node, page);
  }
  void time_out(std::uint32_t node, std::uint32_t page = 0) {
    effects_.clear();
    on_timeout(view(node), ref(node, page), now, effects_);
    carry_out(node, page, {});
  }
  void turn_taken(std::uint32_t node, std::uint32_t page = 0) {
    effects_.clear();
    on_turn_taken(view(node), ref(node, page), now, effects_);
    carry_out(node, page, {});
  }
  bool hold(std::uint32_t node, Access access, Time until, std::uint32_t page = 0) {
    return on_hold(ref(node, page), access, until);
  }
  bool wants_turn(std::uint32_t node, std::uint32_t page = 0) {
    return protocol::wants_turn(ref(node, page), now);
  }
  void store(std::uint32_t node, std::uint32_t page = 0) {
    ASSERT_EQ(memory(node, page).mapping, Permission::kWrite);
    memory(node, page).value = ++stored_[page];
  }
  // Faults, all messages, all time-outs, until the access is granted.
  void obtain(std::uint32_t node, Access access, std::uint32_t page = 0) {
    fault(node, access, page);
    for (int left = 100; !allows(entry(node, page).permission, access); --left) {
      ASSERT_GT(left, 0) << "never granted";
      deliver_all();
      for (std::uint32_t i = 0; i < options_.nodes; ++i) {
        if (has_round(i, page) && !allows(entry(node, page).permission, access)) expire(i, page);
      }
    }
    deliver_all();
    effects_.clear();
    sent_total = 0;
  }

  // What the last step did.
  std::vector<Kind> kinds() const {
    std::vector<Kind> list;
    for (const Effect& effect : effects_.all()) list.push_back(effect.kind);
    return list;
  }
  std::vector<Effect> sends() const {
    std::vector<Effect> list;
    for (const Effect& effect : effects_.all()) {
      if (effect.kind == Kind::kSend) list.push_back(effect);
    }
    return list;
  }
  // The one message that the last step sent.
  Message sent() const {
    const auto list = sends();
    EXPECT_EQ(list.size(), 1U);
    return list.empty() ? Message{} : list[0].message;
  }
  NodeSet sent_to() const { return sends().empty() ? NodeSet{} : sends()[0].to; }

  // I1-I3 over the mapping; nullptr or what is wrong.
  const char* broken(std::uint32_t page) {
    std::uint32_t owners = 0;
    std::uint32_t writers = 0;
    std::uint32_t mapped = 0;
    for (std::uint32_t i = 0; i < options_.nodes; ++i) {
      owners += entry(i, page).owner ? 1 : 0;
      writers += memory(i, page).mapping == Permission::kWrite ? 1 : 0;
      mapped += memory(i, page).mapping != Permission::kInvalid ? 1 : 0;
      if (memory(i, page).mapping != Permission::kInvalid && memory(i, page).value != stored_[page]) {
        return "I2: reads what is not the last write";
      }
    }
    if (writers > 1 || (writers == 1 && mapped > 1)) return "I1: a writer and others";
    return owners > 1 ? "I3: more than one owner" : nullptr;
  }

  std::vector<Flying> wire;
  std::size_t sent_total = 0;  // kSend effects; a multicast counts once
  Time now{1'000'000};

 private:
  struct Node {
    explicit Node(std::uint32_t count) : storage(count), deadlines(count), rounds(storage, deadlines) {}
    View view;
    std::vector<PageEntry> entries;
    std::vector<model::Memory> memory;
    std::vector<Round> storage;
    std::vector<Time> deadlines;
    Rounds rounds;
  };

  PageRef ref(std::uint32_t node, std::uint32_t page) {
    return PageRef{PageId{0, page}, entry(node, page), rounds(node)};
  }
  void carry_out(std::uint32_t node, std::uint32_t page, const model::Handled& handled) {
    const char* complaint = model::carry_out(
        view(node), entry(node, page), effects_, handled, memory(node, page),
        [&](const Effect& effect, std::uint8_t value) {
          ++sent_total;
          effect.to.for_each([&](NodeId to) { wire.push_back(Flying{to, page, value, effect.message}); });
        });
    EXPECT_EQ(complaint, nullptr) << complaint;
    const char* wrong = broken(page);
    EXPECT_EQ(wrong, nullptr) << wrong;
  }

  Options options_;
  std::vector<std::uint8_t> stored_;
  std::vector<std::unique_ptr<Node>> nodes_;
  Effects effects_;
};

}  // namespace pagewire::protocol
