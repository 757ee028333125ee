// What the nodes of a run share besides the memory under test: a barrier, what the threads have read, the
// results. It is a file of the run's folder, mapped by all (the nodes are processes of one machine), so that
// a fault of the memory under test cannot hide or make up an outcome, and threads leave a barrier within a
// microsecond. Any process of the run; who may touch what when is said at each field.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "test/litmus/histogram.h"
#include "test/litmus/shapes.h"

namespace pagewire::litmus {

inline constexpr std::size_t kCasesMax = kShapes.size() * kOrders.size() * kLayouts.size();
inline constexpr std::size_t kInstancesMax = 1024;  // of a batch: the 4-byte words of a page

struct Scaffold {
  struct alignas(64) PerNode {
    std::atomic<std::uint64_t> arrivals{0};  // at barriers; counted up by that node
    std::uint64_t fault_count = 0;           // of the present case; written by that node before a barrier
  };
  using Words = std::array<std::uint32_t, kInstancesMax>;

  std::array<PerNode, kThreadsMax> nodes;
  alignas(64) std::atomic<std::uint32_t> failed{0};  // 1: a node gives up, so nobody waits for it
  std::atomic<std::uint32_t> ended_cases{0};         // node 0 raises it before a barrier
  std::array<Words, kRegistersMax> registers;        // raw words; each written by its thread alone, in a run
  std::array<Words, kVariablesMax> finals;           // raw words; written by one node, between barriers
  std::array<CaseResult, kCasesMax> results;         // node 0's; complete when it reports the case
};

// A file of `bytes`, made if it is not there, and mapped. Throws std::runtime_error.
class SharedFile {
 public:
  SharedFile(const std::string& path, std::size_t bytes);
  ~SharedFile();
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_;
};

class SharedScaffold {
 public:
  explicit SharedScaffold(const std::string& folder) : file_(folder + "/litmus", sizeof(Scaffold)) {}
  // A new file is all zeros, and that is a Scaffold in its first state.
  Scaffold& operator*() const { return *reinterpret_cast<Scaffold*>(file_.data()); }
  Scaffold* operator->() const { return &**this; }

 private:
  SharedFile file_;
};

// One node's side of the barrier.
class Barrier {
 public:
  Barrier(Scaffold& scaffold, std::uint32_t node, std::uint32_t node_count)
      : scaffold_(scaffold), node_(node), node_count_(node_count) {}
  // Returns when every node has called it as often as this one. Spins for a moment, then yields: threads may
  // be more than cores. Throws std::runtime_error naming the nodes that did not come in kPatienceSeconds (by
  // default), or if a node has given up.
  void wait();
  static constexpr int kPatienceSeconds = 20;
  void set_patience(int seconds) { patience_seconds_ = seconds; }

 private:
  bool all_here() const;
  [[noreturn]] void fail() const;

  Scaffold& scaffold_;
  std::uint32_t node_;
  std::uint32_t node_count_;
  int patience_seconds_ = kPatienceSeconds;
};

}  // namespace pagewire::litmus
