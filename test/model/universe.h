// All node states and all messages that a search has met, by number; what each step does to a node,
// remembered because most are met many times; and states of the whole cluster, folded by the names of nodes.
// Single-threaded.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "test/model/cell.h"
#include "test/model/intern.h"
#include "test/model/relabel.h"

namespace pagewire::model {

// Makes a defect: changes what a step did, to show that the check sees it.
using Tamper = std::function<void(const NodeCell& before, const Action& action, Step& step)>;

using CellNumber = std::uint32_t;
using MessageNumber = std::uint16_t;
// What a node does, as a number: kinds other than kDeliver are below kDeliverBase.
using ActionNumber = std::uint32_t;
inline constexpr ActionNumber kDeliverBase = 9 * 1024;

constexpr ActionNumber number_of(Action::Kind kind, std::uint8_t page, std::uint8_t value) {
  return static_cast<std::uint32_t>(kind) * 1024 + page * 256U + value;
}

inline constexpr std::uint8_t kNobody = 0xff;

// A state of the whole cluster. The network is the set of all messages ever sent: sorted numbers. With
// Bounds::in_order it is those that are under way, as they were sent.
struct State {
  std::array<CellNumber, kNodesMax> cells{};
  std::array<std::uint8_t, kPagesMax> stored{};  // the last store to each page, of whichever node
  std::uint8_t faults_left = 0;
  std::uint8_t forgets_left = 0;
  std::uint8_t losses_left = 0;
  std::uint8_t next_owner = kNobody;  // of the page in the life after a restart, once one has happened
  std::vector<MessageNumber> messages;
};

struct KnownStep {
  const char* complaint = nullptr;
  CellNumber after = 0;
  std::uint32_t sent_begin = 0;
  std::uint16_t sent_count = 0;
  bool possible = false;
};

class Universe {
 public:
  Universe(const Bounds& bounds, const Tamper& tamper);

  CellNumber intern(const NodeCell& cell);
  // Throws std::length_error when no more have a number: the bounds are too large.
  MessageNumber intern(const Envelope& envelope);
  const NodeCell& cell(CellNumber number) const { return cells_[number]; }
  const Envelope& envelope(MessageNumber number) const { return envelopes_[number]; }
  Action action_of(ActionNumber number) const;

  const KnownStep& step(CellNumber cell, ActionNumber number);
  std::span<const MessageNumber> sent(const KnownStep& step) const {
    return {sent_.data() + step.sent_begin, step.sent_count};
  }

  // Numbers the nodes so that all states that differ only by names become the same; returns by which
  // permutation.
  std::uint8_t fold(State& state);
  // The state with other names.
  void rename(State& state, std::uint8_t permutation);
  const Permutations& permutations() const { return permutations_; }
  MessageNumber renamed(MessageNumber message, std::uint8_t permutation);

  void encode(const State& state, std::string& key) const;
  void decode(std::string_view key, State& state) const;

  std::size_t cell_count() const { return cells_.size(); }
  std::size_t message_count() const { return envelopes_.size(); }
  std::size_t bytes() const;

 private:
  KnownStep make_step(CellNumber cell, ActionNumber number);
  CellNumber renamed_cell(CellNumber cell, std::uint8_t permutation);
  std::uint32_t color_of(const NodeCell& cell);
  std::uint32_t color_of(const Envelope& envelope);
  void weigh(const State& state);
  bool precedes(const State& a, const State& b) const;
  void try_orders(const State& original, std::uint32_t begin, State& best, std::uint8_t& chosen);

  const Bounds bounds_;
  const Tamper& tamper_;
  Permutations permutations_;

  InternedBytes cell_names_;
  Chunked<NodeCell> cells_;
  std::vector<std::uint64_t> cell_colors_;
  InternedBytes envelope_names_;
  Chunked<Envelope> envelopes_;
  std::vector<std::uint64_t> envelope_colors_;
  InternedBytes shapes_;
  std::vector<std::vector<CellNumber>> renamed_cells_;        // [permutation][cell]
  std::vector<std::vector<MessageNumber>> renamed_messages_;  // [permutation][message]

  NumberTable step_numbers_;
  Chunked<KnownStep> steps_;
  std::vector<MessageNumber> sent_;

  std::array<std::uint64_t, kNodesMax> weights_{};
  std::array<std::uint8_t, kNodesMax> order_{};
  State candidate_;
};

}  // namespace pagewire::model
