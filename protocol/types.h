// The words of the protocol as types: nodes, sets of nodes, versions, times. Standard library alone, no
// allocation.
#pragma once

#include <bit>
#include <compare>
#include <cstdint>

namespace pagewire::protocol {

inline constexpr std::uint32_t kNodesMax = 64;  // what a NodeSet holds
inline constexpr std::uint32_t kPageBytes = 4096;

// Index of a node in the cluster's list, 0..kNodesMax-1.
struct NodeId {
  std::uint8_t value = 0;
  constexpr auto operator<=>(const NodeId&) const = default;
};
inline constexpr NodeId kNoNode{0xff};

// A set of nodes. A type of its own so that more than 64 stays a local change.
class NodeSet {
 public:
  constexpr NodeSet() = default;
  constexpr explicit NodeSet(std::uint64_t bits) : bits_(bits) {}
  static constexpr NodeSet of(NodeId node) { return NodeSet(std::uint64_t{1} << node.value); }
  // Nodes 0..count-1.
  static constexpr NodeSet first(std::uint32_t count) {
    return NodeSet(count >= kNodesMax ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1);
  }

  constexpr bool contains(NodeId node) const {
    return node.value < kNodesMax && (bits_ >> node.value & 1) != 0;
  }
  constexpr void add(NodeId node) { bits_ |= of(node).bits_; }
  constexpr void remove(NodeId node) { bits_ &= ~of(node).bits_; }
  constexpr NodeSet without(NodeId node) const { return NodeSet(bits_ & ~of(node).bits_); }
  constexpr NodeSet without(NodeSet other) const { return NodeSet(bits_ & ~other.bits_); }
  constexpr NodeSet with(NodeId node) const { return NodeSet(bits_ | of(node).bits_); }
  constexpr NodeSet intersect(NodeSet other) const { return NodeSet(bits_ & other.bits_); }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr std::uint32_t size() const { return static_cast<std::uint32_t>(std::popcount(bits_)); }
  constexpr std::uint64_t bits() const { return bits_; }
  constexpr bool operator==(const NodeSet&) const = default;

  // Calls f(NodeId) for each member, lowest first.
  template <typename F>
  constexpr void for_each(F&& f) const {
    for (std::uint64_t rest = bits_; rest != 0; rest &= rest - 1) {
      f(NodeId{static_cast<std::uint8_t>(std::countr_zero(rest))});
    }
  }

 private:
  std::uint64_t bits_ = 0;
};

// A write tenure of a page; also what a floor is expressed in. 0 is below every version.
struct Version {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const Version&) const = default;
  constexpr Version next() const { return Version{value + 1}; }
};

// How often ownership of a page has been handed over.
struct Epoch {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const Epoch&) const = default;
  constexpr Epoch next() const { return Epoch{value + 1}; }
};

// Names a request of one node about one page; grows.
struct Transaction {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const Transaction&) const = default;
};

// Nanoseconds on the caller's clock; the protocol only compares and adds.
struct Time {
  std::uint64_t ns = 0;
  constexpr auto operator<=>(const Time&) const = default;
  constexpr Time after(std::uint64_t delta_ns) const {
    return Time{ns > ~std::uint64_t{0} - delta_ns ? ~std::uint64_t{0} : ns + delta_ns};
  }
};
inline constexpr Time kNever{~std::uint64_t{0}};

enum class Access : std::uint8_t { kRead = 1, kWrite = 2 };
enum class Permission : std::uint8_t { kInvalid = 0, kRead = 1, kWrite = 2 };

// How sure an owner is that a page is migratory, 0 to 3: that one node after the other loads it and then
// stores to it. Two such uses in a row make it so; one that is none, after more, does not end it.
struct Sharing {
  std::uint8_t uses = 0;
  constexpr bool is_migratory() const { return uses >= 2; }
  constexpr Sharing surer() const { return {static_cast<std::uint8_t>(uses < kUsesMax ? uses + 1 : uses)}; }
  constexpr Sharing less_sure() const { return {static_cast<std::uint8_t>(uses > 0 ? uses - 1 : 0)}; }
  constexpr auto operator<=>(const Sharing&) const = default;
  static constexpr std::uint8_t kUsesMax = 3;
};

// True if a page mapped with `held` lets an access of that kind through.
constexpr bool allows(Permission held, Access wanted) {
  return static_cast<std::uint8_t>(held) >= static_cast<std::uint8_t>(wanted);
}

// Which page: the region's id and the page's index in it.
struct PageId {
  std::uint32_t region = 0;
  std::uint32_t index = 0;
  constexpr auto operator<=>(const PageId&) const = default;
};

}  // namespace pagewire::protocol
