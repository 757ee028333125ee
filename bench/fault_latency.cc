// How long an instruction takes that touches a page of another process, as the thread sees it that executes
// it; beside what it cannot be faster than, measured in the same run.
//
// Two processes, linked by memif. Node 1 owns the pages; node 0 touches them, one after the other, a clock
// around each load or store, while node 1's own threads are blocked in a barrier (its loop serves, and goes
// to rest when there is nothing to do for some 50 µs, so a figure may contain its waking). Each page goes
// through all three cases, a chunk of pages at a time, and chunks of the local floor lie in between:
//
//     read_miss   a load; node 0 has nothing, node 1 has the page in Write: it degrades itself and sends
//     upgrade     a store; node 0 has the copy just read, node 1 owns it: ownership comes, without bytes
//     write_miss  a store; node 0 has nothing, node 1 has it in Write: ownership comes, with the bytes
//
// Each sample contains one reading of the clock, some 20-40 ns, and every interruption of the thread.
//
// Floors: local_fault is a load from the process's own memory that faults (see floors.h); memif_N the round
// trip of a raw frame of N bytes each way, before the nodes exist and after. A case's floor is a local fault
// plus a round trip of the frame it needs, the faster of the two (a page goes one way only, so a little less
// would do). The machine moves: a run in which a floor or the cache line's round trip changed by more than
// two, or in which other programs ran, carries a warning in the table and in the JSON.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/floors.h"
#include "bench/latency_report.h"
#include "bench/process_pair.h"
#include "bench/samples.h"
#include "dataplane/eal.h"
#include "dataplane/memif_port.h"
#include "pagewire/pagewire.h"

namespace pagewire::bench {

namespace {

constexpr std::uint32_t kNodes = 2;
constexpr std::size_t kChunkPages = 256;
constexpr std::size_t kWarmUpPages = 512;
constexpr std::size_t kPageBytes = 4096;
// Twice around memif's rings: without hugepages the first use of each buffer is a fault of the kernel's.
constexpr std::size_t kPingWarmUp = 2048;

struct Options {
  std::size_t pages = 4096;
  std::uint32_t loops = 1;
  std::uint64_t hold_us = Config().hold_us;
  std::string json;
  PairMember member;
};

Config config_of(const Options& options) {
  Config config = Config::local(static_cast<std::uint32_t>(options.member.node), kNodes,
                                options.member.folder + "/nodes");
  config.cluster = "bench";
  config.loops = options.loops;
  config.hold_us = options.hold_us;
  return config;
}

// ---- the raw wire, while this process has no Node
// ------------------------------------------------------------------

struct WireFloor {
  Quantiles small;
  Quantiles page;
};

// Both processes at once; node 0 gets the figures.
WireFloor measure_wire(const Options& options, const std::string& folder) {
  dataplane::MemifOptions memif;
  // As much as the node will want: without hugepages it cannot grow.
  const auto eal = dataplane::Eal::start(
      {.memory_mb = std::max(config_of(options).memory_mb,
                             dataplane::eal_memory_mb(options.loops, memif.pool_frames))});
  memif.folder = options.member.folder + "/" + folder;
  memif.node = protocol::NodeId{static_cast<std::uint8_t>(options.member.node)};
  memif.node_count = kNodes;
  const auto port = dataplane::open_memif_port(eal, memif);
  const auto measure = [&](std::uint16_t frame_bytes) {
    if (options.member.node != 0) {
      echo(*port, kPingWarmUp + options.pages);
      return Quantiles{};
    }
    Samples discarded(kPingWarmUp);
    ping(*port, frame_bytes, kPingWarmUp, discarded);
    Samples samples(options.pages);
    ping(*port, frame_bytes, options.pages, samples);
    return samples.quantiles();
  };
  WireFloor floor;
  floor.small = measure(kSmallFrameBytes);
  floor.page = measure(page_frame_bytes());
  return floor;
}

// ---- the cases
// -----------------------------------------------------------------------------------------------------

// Pages of a region. Word 0 is written in turns, word 1 by node 1 alone.
class Pages {
 public:
  explicit Pages(const Region& region) : words_(region.as<std::uint64_t>()) {}
  std::size_t count() const { return words_.size_bytes() / kPageBytes; }
  std::uint64_t load(std::size_t page, std::size_t word = 0) const {
    return at(page, word).load(std::memory_order_relaxed);
  }
  void store(std::size_t page, std::uint64_t value, std::size_t word = 0) const {
    at(page, word).store(value, std::memory_order_relaxed);
  }

 private:
  std::atomic_ref<std::uint64_t> at(std::size_t page, std::size_t word) const {
    return std::atomic_ref<std::uint64_t>(words_[page * (kPageBytes / sizeof(std::uint64_t)) + word]);
  }
  std::span<std::uint64_t> words_;
};

// What is written to a page at each of the four steps; a page that is not what it should be ends the bench.
enum class Step : std::uint64_t { kOwnerFirst = 1, kUpgrade = 2, kOwnerAgain = 3, kWriteMiss = 4 };
std::uint64_t stamp(std::size_t page, Step step) { return page * 8 + static_cast<std::uint64_t>(step); }

void expect(std::uint64_t seen, std::size_t page, Step step) {
  if (seen == stamp(page, step)) return;
  throw Error(fmt::format("page {} is wrong at step {}", page, static_cast<std::uint64_t>(step)),
              fmt::format("{} where {} was written", seen, stamp(page, step)),
              "This is a defect of Pagewire: report it");
}

struct CaseSamples {
  explicit CaseSamples(std::size_t pages)
      : read_miss(pages), upgrade(pages), write_miss(pages), local_fault(pages) {}
  Samples read_miss;
  Samples upgrade;
  Samples write_miss;
  Samples local_fault;
};

template <typename F>
void timed(Samples& samples, F&& f) {
  const std::uint64_t start_ns = now_ns();
  f();
  samples.add(now_ns() - start_ns);
}

// Node 0's half; the barriers meet those of own_chunk().
void touch_chunk(Node& node, const Pages& pages, std::size_t first, std::size_t last, LocalFaults& local,
                 CaseSamples& samples) {
  node.barrier();  // node 1 has written
  local.measure(last - first, samples.local_fault);
  for (std::size_t page = first; page < last; ++page) {
    std::uint64_t seen = 0;
    timed(samples.read_miss, [&] { seen = pages.load(page); });
    expect(seen, page, Step::kOwnerFirst);
  }
  for (std::size_t page = first; page < last; ++page) {
    timed(samples.upgrade, [&] { pages.store(page, stamp(page, Step::kUpgrade)); });
  }
  node.barrier();
  node.barrier();  // node 1 has written again
  for (std::size_t page = first; page < last; ++page) {
    timed(samples.write_miss, [&] { pages.store(page, stamp(page, Step::kWriteMiss)); });
    expect(pages.load(page, 1), page, Step::kOwnerAgain);
  }
  node.barrier();
}

void own_chunk(Node& node, const Pages& pages, std::size_t first, std::size_t last) {
  for (std::size_t page = first; page < last; ++page) pages.store(page, stamp(page, Step::kOwnerFirst));
  node.barrier();
  node.barrier();  // node 0 has read, and upgraded
  for (std::size_t page = first; page < last; ++page) {
    expect(pages.load(page), page, Step::kUpgrade);
    pages.store(page, stamp(page, Step::kOwnerAgain), 1);
  }
  node.barrier();
  node.barrier();  // node 0 has taken them
}

Region open(Node& node, const char* name, std::size_t pages) {
  return node.open_region(
      {.name = name, .bytes = pages * kPageBytes, .placement = Placement::kOneNode, .placement_node = 1});
}

template <typename F>
void for_chunks(std::size_t pages, F&& f) {
  for (std::size_t first = 0; first < pages; first += kChunkPages)
    f(first, std::min(first + kChunkPages, pages));
}

void own_pages(const Options& options) {
  Node node(config_of(options));
  const Region warm_up = open(node, "warm-up", kWarmUpPages);
  const Region measured = open(node, "measured", options.pages);
  for_chunks(kWarmUpPages,
             [&](std::size_t first, std::size_t last) { own_chunk(node, Pages(warm_up), first, last); });
  for_chunks(options.pages,
             [&](std::size_t first, std::size_t last) { own_chunk(node, Pages(measured), first, last); });
}

// The node counts a fault once the page is mapped, so the last one may be counted after its thread went on.
Stats stats_of_all(const Region& region, std::size_t pages) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  Stats stats = region.stats();
  while ((stats.read_miss.count < pages || stats.upgrade.count < pages || stats.write_miss.count < pages) &&
         std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
    stats = region.stats();
  }
  return stats;
}

// The node's own statistics must have seen the same faults; else something else was measured than the names
// say.
void expect_counts(const Stats& stats, std::size_t pages) {
  for (const auto& [name, latency] :
       {std::pair("read misses", stats.read_miss), std::pair("upgrades", stats.upgrade),
        std::pair("write misses", stats.write_miss)}) {
    if (latency.count == pages) continue;
    throw Error(fmt::format("measured {} {}", pages, name), fmt::format("the node counted {}", latency.count),
                "Run it again on a quieter machine, and report it if that is no different");
  }
}

struct CaseResult {
  CaseSamples samples;
  Stats stats;
};

CaseResult touch_pages(const Options& options) {
  LocalFaults local(kChunkPages);
  Node node(config_of(options));
  const Region warm_up = open(node, "warm-up", kWarmUpPages);
  const Region measured = open(node, "measured", options.pages);
  CaseSamples discarded(kWarmUpPages);
  for_chunks(kWarmUpPages, [&](std::size_t first, std::size_t last) {
    touch_chunk(node, Pages(warm_up), first, last, local, discarded);
  });
  CaseResult result{.samples = CaseSamples(options.pages), .stats = {}};
  for_chunks(options.pages, [&](std::size_t first, std::size_t last) {
    touch_chunk(node, Pages(measured), first, last, local, result.samples);
  });
  result.stats = stats_of_all(measured, options.pages);
  expect_counts(result.stats, options.pages);
  return result;
}

// ---- what came of it
// -----------------------------------------------------------------------------------------------

void warn_if_moved(Report& report, const std::string& what, std::uint64_t before_ns, std::uint64_t after_ns) {
  const auto [low, high] = std::minmax(before_ns, after_ns);
  if (high <= 2 * low) return;
  report.warnings.push_back(fmt::format(
      "{} took {} ns before and {} ns after: the machine moved, run it again", what, before_ns, after_ns));
}

// Before anything is measured: with other programs on the cores nothing here is a figure of Pagewire's.
void warn_if_busy(Report& report) {
  double load = 0;
  const auto cores = static_cast<double>(std::thread::hardware_concurrency());
  if (::getloadavg(&load, 1) != 1 || load <= cores) return;
  report.warnings.push_back(
      fmt::format("other programs were running: load {:.1f} on {:.0f} cores; run it again", load, cores));
}

void warn_if_below_floor(Report& report) {
  for (const Figure& figure : report.figures) {
    if (figure.times.p50_ns >= figure.floor_p50_ns) continue;
    report.warnings.push_back(fmt::format(
        "{} came out faster than its floor, so the floor was disturbed: run it again", figure.name));
  }
}

void add_figures(const CaseResult& result, const WireFloor& before, const WireFloor& after, Report& report) {
  const std::string small = fmt::format("memif_{}", kSmallFrameBytes);
  const std::string page = fmt::format("memif_{}", page_frame_bytes());
  const Quantiles local = result.samples.local_fault.quantiles();
  const std::uint64_t small_ns = local.p50_ns + std::min(before.small.p50_ns, after.small.p50_ns);
  const std::uint64_t page_ns = local.p50_ns + std::min(before.page.p50_ns, after.page.p50_ns);
  const Stats& stats = result.stats;
  report.figures = {
      {"read_miss", result.samples.read_miss.quantiles(), "local_fault+" + page, page_ns,
       stats.read_miss.p50_ns},
      {"write_miss", result.samples.write_miss.quantiles(), "local_fault+" + page, page_ns,
       stats.write_miss.p50_ns},
      {"upgrade", result.samples.upgrade.quantiles(), "local_fault+" + small, small_ns, stats.upgrade.p50_ns},
      {"floor:local_fault", local},
      {"floor:" + small + ":before", before.small},
      {"floor:" + small + ":after", after.small},
      {"floor:" + page + ":before", before.page},
      {"floor:" + page + ":after", after.page},
  };
  warn_if_moved(report, small, before.small.p50_ns, after.small.p50_ns);
  warn_if_moved(report, page, before.page.p50_ns, after.page.p50_ns);
}

// Node 0. It alone uses the machine while it measures the cache line.
void run_measuring(const Options& options) {
  const Meeting other(options.member.socket);
  Report report{.figures = {},
                .node_count = kNodes,
                .loop_count = options.loops,
                .hold_us = options.hold_us,
                .line_before_ns = measure_line_round_trip_ns(),
                .line_after_ns = {},
                .warnings = {}};
  warn_if_busy(report);
  other.meet();
  const WireFloor before = measure_wire(options, "before");
  other.meet();
  const CaseResult result = touch_pages(options);
  other.meet();
  const WireFloor after = measure_wire(options, "after");
  other.meet();
  report.line_after_ns = measure_line_round_trip_ns();
  add_figures(result, before, after, report);
  warn_if_below_floor(report);
  if (report.line_before_ns && report.line_after_ns) {
    warn_if_moved(report, "a cache line's round trip", *report.line_before_ns, *report.line_after_ns);
  }
  fmt::print("{}", text_of(report));
  if (options.json.empty()) return;
  std::ofstream file(options.json);
  file << json_of(report) << std::flush;
  if (!file)
    throw Error("writing " + options.json, "the file could not be written", "Choose another --json FILE");
}

void run_serving(const Options& options) {
  const Meeting other(options.member.socket);
  other.meet();
  measure_wire(options, "before");
  other.meet();
  own_pages(options);
  other.meet();
  measure_wire(options, "after");
  other.meet();
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--pages", options.pages, "pages measured of each kind, and round trips of each floor")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--loops", options.loops, "packet loops of each node")
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
  app.add_option("--hold-us", options.hold_us, "how long a page that arrived stays, in µs")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("--json", options.json, "writes the figures to this file as well");
  const char* const hidden = "";  // a group without a name is not in the help
  app.add_option("--pair-node", options.member.node)->group(hidden);
  app.add_option("--pair-socket", options.member.socket)->group(hidden);
  app.add_option("--pair-folder", options.member.folder)->group(hidden);
}

int run(int argc, char** argv) {
  CLI::App app("Latency of a fault on a page of another process, beside its floors");
  Options options;
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  if (options.member.node < 0) return run_pair({argv, argv + argc});
  if (options.member.node == 0) {
    run_measuring(options);
  } else {
    run_serving(options);
  }
  return 0;
}

}  // namespace

}  // namespace pagewire::bench

int main(int argc, char** argv) {
  try {
    return pagewire::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fault_latency: %s\n", error.what());
    return 1;
  }
}
