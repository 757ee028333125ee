// What fault_latency found, as a table for people and as JSON for programs. Any thread.
#pragma once

#include <string>
#include <vector>

#include "bench/figure.h"

namespace pagewire::bench {

struct Report {
  std::vector<Figure> figures;
  Turns turns;
  std::vector<std::string> warnings;  // about all of it
};

std::string text_of(const Report& report);
// An array with an object for each figure.
std::string json_of(const Report& report);

std::string microseconds(std::uint64_t ns);

}  // namespace pagewire::bench
