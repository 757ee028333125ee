// Runs cases: starts as many processes as their shape has threads, and gathers what they saw. The processes
// are this program (or the one that PAGEWIRE_NODE_PROGRAM names) called as `litmus_node`. One thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "test/litmus/histogram.h"
#include "test/litmus/shapes.h"

namespace pagewire::litmus {

// Which memory the words are in. Plain: a file that all processes map, no Pagewire: what the machine itself
// shows, to compare with, and to see that the run can show weak outcomes at all.
enum class Memory : std::uint8_t { kRegion, kPlain };
inline constexpr std::array<std::string_view, 2> kMemoryNames = {"region", "plain"};

struct CampaignOptions {
  std::vector<Case> cases;
  std::uint64_t iterations = 0;  // per case, rounded up to whole batches
  double seconds = 0;            // per case; 0: no bound
  std::uint64_t seed = 0;
  Memory memory = Memory::kRegion;
  std::vector<std::string> node_flags;  // for the nodes: --drop …
};

struct CaseReport {
  Case one;
  CaseResult result;
};

// Calls `done` after each case, those of two threads first; returns all in the order of options.cases. Throws
// std::runtime_error with the nodes' output if one failed or none went on, or if *interrupted became true.
std::vector<CaseReport> run_cases(const CampaignOptions& options,
                                  const std::function<void(const CaseReport&)>& done,
                                  const std::atomic<bool>* interrupted = nullptr);

// The main function of a node's process; argv[1] is kNodeCommand.
inline constexpr const char* kNodeCommand = "litmus_node";
int run_node(int argc, char** argv);

}  // namespace pagewire::litmus
