// What the judge says of what was seen, and both as text and JSON. Pure; any thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "test/litmus/campaign.h"
#include "test/litmus/judge.h"

namespace pagewire::litmus {

struct Verdict {
  std::uint64_t forbidden_count = 0;   // runs whose outcome C++ forbids
  std::size_t allowed_outcomes = 0;    // that C++ allows
  std::size_t seen_outcomes = 0;       // of them
  std::size_t weak_outcomes = 0;       // that C++ allows and sequential consistency does not
  std::size_t seen_weak_outcomes = 0;  // of them
  std::uint64_t weak_count = 0;        // runs that ended so
  std::uint64_t strange_count = 0;     // runs that are not sequentially consistent, allowed or not
  bool passed() const { return forbidden_count == 0; }
};
Verdict verdict_of(const Judgement& judgement, const Histogram& histogram);

// "SB relaxed pages": the histogram with, for each outcome, what C++ and sequential consistency say; where a
// forbidden one was seen first.
std::string histogram_text(const CaseReport& report, const Judgement& judgement);

// One line a case, and a last line for all.
std::string summary_text(const std::vector<CaseReport>& reports);

// No iteration of any case had an outcome that C++ forbids.
bool all_passed(const std::vector<CaseReport>& reports);

nlohmann::json to_json(const CampaignOptions& options, const std::vector<CaseReport>& reports);

}  // namespace pagewire::litmus
