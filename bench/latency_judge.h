// The bars that fault_latency's figures are held against. Any thread.
#pragma once

#include <string>

#include "bench/latency_report.h"

namespace pagewire::bench {

// A line for each bar and figure: the bar, what it is made of, the figure, met or not.
std::string judgement_of(const Report& report);

}  // namespace pagewire::bench
