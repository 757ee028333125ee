#include "test/model/universe.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace pagewire::model {
namespace {

using protocol::NodeId;

constexpr CellNumber kNotYet = 0xffffffff;
constexpr MessageNumber kNotYetSent = 0xffff;

}  // namespace

Universe::Universe(const Bounds& bounds, const Tamper& tamper)
    : bounds_(bounds),
      tamper_(tamper),
      permutations_(bounds.nodes),
      renamed_cells_(permutations_.size()),
      renamed_messages_(permutations_.size()) {}

CellNumber Universe::intern(const NodeCell& cell) {
  const auto [number, is_new] = cell_names_.put(model::encode(bounds_, cell));
  if (is_new) {
    cells_.push_back(cell);
    cell_colors_.push_back(mixed(color_of(cell) + 1));
  }
  return number;
}

MessageNumber Universe::intern(const Envelope& envelope) {
  const auto [number, is_new] = envelope_names_.put(model::encode(envelope));
  if (number >= kNotYetSent) throw std::length_error("more than 65,535 different messages");
  if (is_new) {
    envelopes_.push_back(envelope);
    envelope_colors_.push_back(mixed(color_of(envelope) + 1));
  }
  return static_cast<MessageNumber>(number);
}

// A number that is the same for all cells, or messages, that differ only by the names of nodes.
std::uint32_t Universe::color_of(const NodeCell& cell) {
  std::string least = model::encode(bounds_, cell);
  for (std::size_t i = 1; i < permutations_.size(); ++i)
    least = std::min(least, model::encode(bounds_, relabel(bounds_, cell, permutations_[i])));
  return shapes_.put("c" + least).first;
}

std::uint32_t Universe::color_of(const Envelope& envelope) {
  std::string least = model::encode(envelope);
  for (std::size_t i = 1; i < permutations_.size(); ++i)
    least = std::min(least, model::encode(relabel(bounds_, envelope, permutations_[i])));
  return shapes_.put("m" + least).first;
}

Action Universe::action_of(ActionNumber number) const {
  if (number >= kDeliverBase) {
    const Envelope& envelope = envelopes_[number - kDeliverBase];
    return Action{Action::Kind::kDeliver, envelope.page, 0, &envelope};
  }
  return Action{static_cast<Action::Kind>(number / 1024), static_cast<std::uint8_t>(number / 256 % 4),
                static_cast<std::uint8_t>(number % 256), nullptr};
}

KnownStep Universe::make_step(CellNumber cell, ActionNumber number) {
  const Action action = action_of(number);
  Step step = take_step(bounds_, cells_[cell], action);
  if (tamper_ && step.possible) tamper_(cells_[cell], action, step);
  KnownStep known;
  known.possible = step.possible;
  known.complaint = check_step(cells_[cell], action, step);
  if (!step.possible) return known;
  known.after = intern(step.after);
  known.sent_begin = static_cast<std::uint32_t>(sent_.size());
  for (const Envelope& envelope : step.sent) sent_.push_back(intern(envelope));
  if (!bounds_.in_order) {
    const auto begin = sent_.begin() + known.sent_begin;
    std::sort(begin, sent_.end());
    sent_.erase(std::unique(begin, sent_.end()), sent_.end());
  }
  known.sent_count = static_cast<std::uint16_t>(sent_.size() - known.sent_begin);
  return known;
}

const KnownStep& Universe::step(CellNumber cell, ActionNumber number) {
  const std::uint64_t key = std::uint64_t{cell} << 32 | number;
  std::uint32_t found = step_numbers_.find(key);
  if (found == NumberTable::kNone) {
    found = static_cast<std::uint32_t>(steps_.size());
    steps_.push_back(make_step(cell, number));
    step_numbers_.put(key, found);
  }
  return steps_[found];
}

CellNumber Universe::renamed_cell(CellNumber cell, std::uint8_t permutation) {
  auto& known = renamed_cells_[permutation];
  if (known.size() <= cell) known.resize(cells_.size() * 2, kNotYet);
  if (known[cell] == kNotYet) {
    const CellNumber number = intern(relabel(bounds_, cells_[cell], permutations_[permutation]));
    known[cell] = number;
  }
  return known[cell];
}

MessageNumber Universe::renamed(MessageNumber message, std::uint8_t permutation) {
  auto& known = renamed_messages_[permutation];
  if (known.size() <= message) known.resize(envelopes_.size() * 2, kNotYetSent);
  if (known[message] == kNotYetSent) {
    const MessageNumber number = intern(relabel(bounds_, envelopes_[message], permutations_[permutation]));
    known[message] = number;
  }
  return known[message];
}

void Universe::rename(State& state, std::uint8_t permutation) {
  const Names& names = permutations_[permutation];
  const auto cells = state.cells;
  for (std::uint32_t i = 0; i < bounds_.nodes; ++i)
    state.cells[names[i]] = renamed_cell(cells[i], permutation);
  if (state.next_owner != kNobody) state.next_owner = names[state.next_owner];
  for (MessageNumber& message : state.messages) message = renamed(message, permutation);
  if (!bounds_.in_order) std::sort(state.messages.begin(), state.messages.end());
}

// What a node looks like from outside, whatever it is called.
void Universe::weigh(const State& state) {
  for (std::uint32_t i = 0; i < bounds_.nodes; ++i) weights_[i] = cell_colors_[state.cells[i]];
  for (const MessageNumber message : state.messages) {
    const std::uint64_t color = envelope_colors_[message];
    const Envelope& envelope = envelopes_[message];
    weights_[envelope.to] += color;
    weights_[envelope.message.from.value] += color * 0x9e3779b97f4a7c15;
  }
  if (state.next_owner != kNobody) weights_[state.next_owner] += 1;
}

bool Universe::precedes(const State& a, const State& b) const {
  if (a.cells != b.cells) return a.cells < b.cells;
  if (a.next_owner != b.next_owner) return a.next_owner < b.next_owner;
  return a.messages < b.messages;
}

std::uint8_t Universe::fold(State& state) {
  if (!bounds_.fold) return 0;
  weigh(state);
  std::iota(order_.begin(), order_.end(), std::uint8_t{0});
  std::sort(order_.begin(), order_.begin() + bounds_.nodes,
            [&](std::uint8_t a, std::uint8_t b) { return weights_[a] < weights_[b]; });
  State best;
  best.messages.swap(candidate_.messages);
  best.messages.clear();
  std::uint8_t chosen = kNobody;
  try_orders(state, 0, best, chosen);
  std::swap(state, best);
  candidate_.messages.swap(best.messages);
  return chosen;
}

// Nodes that look alike may stand in any order among themselves: the least result counts.
void Universe::try_orders(const State& original, std::uint32_t begin, State& best, std::uint8_t& chosen) {
  if (begin == bounds_.nodes) {
    Names names{};
    std::iota(names.begin(), names.end(), std::uint8_t{0});
    for (std::uint8_t i = 0; i < bounds_.nodes; ++i) names[order_[i]] = i;
    const std::uint8_t permutation = permutations_.index_of(names);
    if (chosen == kNobody) {
      best = original;
      rename(best, permutation);
      chosen = permutation;
      return;
    }
    State other = original;
    rename(other, permutation);
    if (!precedes(other, best)) return;
    best = std::move(other);
    chosen = permutation;
    return;
  }
  for (std::uint32_t i = begin; i < bounds_.nodes && weights_[order_[i]] == weights_[order_[begin]]; ++i) {
    std::swap(order_[begin], order_[i]);
    try_orders(original, begin + 1, best, chosen);
    std::swap(order_[begin], order_[i]);
  }
}

void Universe::encode(const State& state, std::string& key) const {
  key.assign(reinterpret_cast<const char*>(state.cells.data()), bounds_.nodes * sizeof(CellNumber));
  key.append(reinterpret_cast<const char*>(state.stored.data()), bounds_.pages);
  for (const std::uint8_t value :
       {state.faults_left, state.forgets_left, state.losses_left, state.next_owner}) {
    key.push_back(static_cast<char>(value));
  }
  key.append(reinterpret_cast<const char*>(state.messages.data()),
             state.messages.size() * sizeof(MessageNumber));
}

void Universe::decode(std::string_view key, State& state) const {
  const char* at = key.data();
  const auto take = [&](void* to, std::size_t bytes) {
    std::memcpy(to, at, bytes);
    at += bytes;
  };
  take(state.cells.data(), bounds_.nodes * sizeof(CellNumber));
  take(state.stored.data(), bounds_.pages);
  for (std::uint8_t* value :
       {&state.faults_left, &state.forgets_left, &state.losses_left, &state.next_owner}) {
    take(value, 1);
  }
  const auto rest = key.size() - static_cast<std::size_t>(at - key.data());
  state.messages.resize(rest / sizeof(MessageNumber));
  take(state.messages.data(), rest);
}

std::size_t Universe::bytes() const {
  std::size_t bytes = cell_names_.bytes() + cells_.bytes() + envelope_names_.bytes() + envelopes_.bytes() +
                      shapes_.bytes() + step_numbers_.bytes() + steps_.bytes() +
                      sent_.capacity() * sizeof(MessageNumber);
  for (const auto& known : renamed_cells_) bytes += known.capacity() * sizeof(CellNumber);
  for (const auto& known : renamed_messages_) bytes += known.capacity() * sizeof(MessageNumber);
  return bytes;
}

}  // namespace pagewire::model
