// fault_latency's figures as a picture, drawn by gnuplot. Any thread.
#pragma once

#include <string>

#include "bench/latency_report.h"

namespace pagewire::bench {

// Throws Error with the remedy if there is no gnuplot: to be called before anything is measured.
void require_gnuplot();
// Writes an SVG: for each case, each setting's p50 with a whisker to p99, and its floor; below, if the nodes
// tell them, the phases of its faults. Throws Error.
void plot(const Report& report, const std::string& file);

}  // namespace pagewire::bench
