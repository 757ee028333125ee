// One node of a run: goes through the cases together with the others. Its one thread is one thread of each
// shape.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "test/litmus/scaffold.h"
#include "test/litmus/shapes.h"

namespace pagewire::litmus {

inline constexpr std::size_t kPageBytes = 4096;
// A page a variable, and one for all.
inline constexpr std::size_t kMemoryBytes = (kVariablesMax + 1) * kPageBytes;

struct NodeTask {
  std::uint32_t node = 0;
  std::uint32_t node_count = 0;
  std::vector<Case> cases;       // all with node_count threads
  std::uint64_t iterations = 0;  // per case, rounded up to whole batches
  double seconds = 0;            // per case; 0: no bound
  std::uint64_t seed = 0;
};

// The number of instances of a batch: what one page holds, a power of two.
std::size_t instance_count(const Case& one);

// The outcome of an instance from the raw words, which carry the tag of their batch.
Outcome decode(const Shape& shape, const Scaffold& scaffold, std::size_t instance, std::uint32_t tag);

class NodeRun {
 public:
  // `memory`: kMemoryBytes, the same for all nodes, zero at first.
  NodeRun(const NodeTask& task, Scaffold& scaffold, std::span<std::uint32_t> memory)
      : task_(task), scaffold_(scaffold), memory_(memory), barrier_(scaffold, task.node, task.node_count) {}

  // Returns when the case is done; then, at node 0, scaffold.results[index] is complete. Throws
  // std::runtime_error if a node is missing.
  void run_case(std::size_t index);

 private:
  struct Words {  // instance i of variable v: variables[v][i * stride]
    std::array<std::uint32_t*, kVariablesMax> variables{};
    std::size_t stride = 1;
  };
  Words words_of(const Case& one) const;
  void run_batch(const Case& one, std::uint64_t batch, CaseResult& result);
  bool is_enough(const CaseResult& result, std::uint64_t started_ns) const;

  NodeTask task_;
  Scaffold& scaffold_;
  std::span<std::uint32_t> memory_;
  Barrier barrier_;
  std::uint64_t batches_ = 0;  // of all cases so far: their tags differ
};

}  // namespace pagewire::litmus
