// What must come before what in every sequentially consistent explanation of a history: program order,
// reads-from, and each word's clusters as blocks, of which one precedes the other as soon as anything of the
// one must precede anything of the other. Derived until nothing new follows; a cycle among it means that
// there is no explanation. Pure; one thread at a time.
//
// With a vector clock for each operation (of each client, how many operations precede it) a round costs
// operations times clients, and few rounds are needed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "test/history/history.h"

namespace pagewire::history {

// One cluster before another of the same word.
struct ClusterEdge {
  std::uint32_t before = 0;
  std::uint32_t after = 0;
  Index reason_from = kNone;  // an operation of `before` that must precede
  Index reason_to = kNone;    // this one of `after`; kNone: `before` is the first value
  std::uint32_t round = 0;    // in which it was found
};

class Order {
 public:
  explicit Order(const Resolved& resolved);  // which must outlive it and have no violation

  // Derives all that follows. False if there is a cycle: then explain() tells it.
  bool derive();
  std::string explain() const;

  // After derive(): the clusters that must be over before `cluster` may begin.
  std::vector<std::vector<std::uint32_t>> cluster_predecessors() const;
  const std::vector<ClusterEdge>& edges() const { return edges_; }
  std::uint32_t rounds() const { return round_; }

 private:
  // Nodes: the operations and first values as Resolved numbers them, then each cluster's end.
  Index end_of(std::uint32_t cluster) const { return resolved_.node_count() + cluster; }
  bool is_end(Index node) const { return node >= resolved_.node_count(); }
  std::size_t node_count() const { return resolved_.node_count() + resolved_.clusters().size(); }

  // Calls visit(next, edge) for each node that must come directly after; edge: an index in edges_, or kNone.
  template <typename Visit>
  void for_each_next(Index node, const Visit& visit) const;
  void add(const ClusterEdge& edge);
  bool sort_and_clock();
  bool add_what_follows();
  void look_back(Index operation, std::uint32_t client, std::uint32_t ops_before, bool& added);
  bool is_known(std::uint32_t before, std::uint32_t after) const;

  struct Path {
    std::vector<Index> nodes;  // empty: there is none
    std::uint32_t cost = 0;
  };
  // A path of at least one step, through nodes of which allowed() is true and edges of rounds below `round`.
  template <typename Allowed>
  Path shortest_path(Index from, Index to, std::uint32_t round, std::uint32_t cost_below,
                     const Allowed& allowed) const;
  std::vector<Index> shortest_cycle() const;
  std::string tell(const std::vector<Index>& path, std::uint32_t round,
                   std::vector<std::uint32_t>& used) const;
  std::string relation(Index from, Index to, Index edge, std::vector<std::uint32_t>& used) const;

  const Resolved& resolved_;
  std::vector<ClusterEdge> edges_;
  std::vector<std::vector<std::uint32_t>> edges_from_;      // by cluster
  std::unordered_map<std::uint64_t, std::uint32_t> known_;  // (before, after) -> edge
  std::vector<std::vector<Index>> by_client_and_word_;      // operations, in order
  std::vector<std::uint32_t> clock_;                        // client_count() a node
  std::vector<bool> on_cycle_or_after_;                     // what could not be sorted
  std::uint32_t round_ = 0;
};

}  // namespace pagewire::history
