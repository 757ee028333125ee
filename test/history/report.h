// Both checks of a recorded history, and the table that says how they ended. One thread.
#pragma once

#include <string>

#include "test/history/history_file.h"
#include "test/history/linearizable.h"
#include "test/history/sequential.h"

namespace pagewire::history {

struct Judgement {
  SequentialConsistency sequential;
  Linearizability linearizable;
  std::string table;         // with a line feed at the end
  std::string explanations;  // of what does not hold; else empty

  bool holds() const {
    return sequential.verdict == Verdict::kHolds && linearizable.verdict == Verdict::kHolds;
  }
};

// Throws std::invalid_argument as Resolved does.
Judgement judge(const KeptHistory& kept);

}  // namespace pagewire::history
