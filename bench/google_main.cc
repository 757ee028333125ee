#include "bench/google_main.h"

#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <vector>

namespace pagewire::bench {

namespace {

// Short, so that a whole run stays below half a minute; repeat with --benchmark_repetitions to see the
// spread.
constexpr const char* kMinTime = "--benchmark_min_time=0.1";

void print_help() {
  std::puts(
      "  [--json FILE]  the figures as JSON; stands for --benchmark_out=FILE --benchmark_out_format=json\n");
  benchmark::PrintDefaultHelp();
}

// False if --json came without its file.
bool translate(int argc, char** argv, std::vector<std::string>& words) {
  const std::string prefix = "--json=";
  words = {argv[0], kMinTime};
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word != "--json" && !word.starts_with(prefix)) {
      words.push_back(word);
      continue;
    }
    if (word == "--json" && ++i == argc) return false;
    const std::string file = word == "--json" ? argv[i] : word.substr(prefix.size());
    if (file.empty()) return false;
    words.push_back("--benchmark_out=" + file);
    words.emplace_back("--benchmark_out_format=json");
  }
  return true;
}

}  // namespace

int run_google_benchmarks(int argc, char** argv) {
  std::vector<std::string> words;
  if (!translate(argc, argv, words)) {
    std::fputs("--json wants a file\n", stderr);
    return 2;
  }
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  int count = static_cast<int>(words.size());
  benchmark::Initialize(&count, pointers.data(), print_help);
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 2;
  const bool any = benchmark::RunSpecifiedBenchmarks() > 0;
  benchmark::Shutdown();
  return any ? 0 : 2;
}

}  // namespace pagewire::bench
