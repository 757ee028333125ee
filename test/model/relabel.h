// The names of nodes, exchanged: cells and envelopes of a cluster whose nodes are numbered otherwise. Plain
// functions, any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "test/model/cell.h"

namespace pagewire::model {

// names[i] is what node i is called now.
using Names = std::array<std::uint8_t, kNodesMax>;

// All ways to number a few nodes; the first changes nothing.
class Permutations {
 public:
  explicit Permutations(std::uint32_t nodes);
  std::size_t size() const { return all_.size(); }
  const Names& operator[](std::size_t index) const { return all_[index]; }
  std::uint8_t index_of(const Names& names) const { return index_[code(names)]; }
  std::uint8_t inverse(std::uint8_t index) const;
  // First `first`, then `second`.
  std::uint8_t compose(std::uint8_t first, std::uint8_t second) const;

 private:
  std::size_t code(const Names& names) const;

  std::uint32_t nodes_;
  std::vector<Names> all_;
  std::array<std::uint8_t, 256> index_{};
};

NodeCell relabel(const Bounds& bounds, const NodeCell& cell, const Names& names);
Envelope relabel(const Bounds& bounds, const Envelope& envelope, const Names& names);

}  // namespace pagewire::model
