// The main of the benches that are made with Google Benchmark. One thread, once.
#pragma once

namespace pagewire::bench {

// Runs what is registered. Takes Google Benchmark's own flags, and `--json FILE` (or --json=FILE), which
// stands for
// --benchmark_out=FILE --benchmark_out_format=json. Each figure is measured for kMinTime unless
// --benchmark_min_time says otherwise. Returns the exit code: 2 if a flag is not understood.
int run_google_benchmarks(int argc, char** argv);

}  // namespace pagewire::bench
