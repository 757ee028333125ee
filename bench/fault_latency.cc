// How long an instruction takes that touches a page of another process, as the thread sees it that executes
// it; beside what it cannot be faster than, measured in the same run.
//
// Processes of one machine, linked by memif. Node 1 owns the pages; node 0 touches them, one after the other
// in random order, a clock around each load or store. The threads of the service are pinned, that of node i
// to core i mod cores; the threads that Pagewire starts float (loops of kDedicated get cores of their own
// where there are enough). While node 0 measures, node 1's service thread is blocked in node.barrier(): as a
// thread that waits in the API, it may drive the loop.
//
//     read_miss            a load; node 0 has nothing, node 1 has the page in Read, and so has node 2, which
//                          waits outside of Pagewire meanwhile (a page gets to Read at its owner by a reader)
//     read_miss_downgrade  a load; node 0 has nothing, node 1 has the page in Write and degrades itself
//     write_miss           a store; node 0 has nothing, node 1 has it in Write: ownership and bytes
//     upgrade_1            a store; node 0 has a copy, node 1 owns it: ownership, no bytes
//     upgrade_2            the same, and node 2 has a copy as well, its thread in node.barrier()
//     ping_pong            both write one word in turns; each spins on its turn with plain loads. Half of the
//                          time from one's own store to the next: one hand-over
//     false_sharing        both store to words of their own of one page, for 20 ms; its times are the waits
//     of
//                          2 µs and more; hand-overs are the pages that came, by the nodes' own count
//     scan                 node 0 sums every byte of what node 1 has filled; the times are of a page, on
//                          the average of 64
//     scan_prefetch        the same, and asks ahead with region.prefetch()
//     first_after_rest     a load after 1, 100 or 1,000 ms in which node 0's thread slept and node 1's was in
//                          node.barrier(); a read_miss_downgrade else
//
// Each sample contains one reading of the clock, some 20-40 ns, and every interruption of the thread. The
// first faults of each chunk are warm-up and not counted.
//
// Floors are measured by two processes that have a port and memory and no Node, pinned as the nodes 0 and 1,
// over as many pages as a case has by default:
//
//     bare          the bare remote fault: SIGBUS handler, raw frame there, a page back by a thread that
//     spins
//                   on its port, memcpy, UFFDIO_CONTINUE, return
//     local_inline, local_thread, local_pinned   a fault of one's own memory: the handler maps it; a fault
//                   thread that floats; a fault thread on the core of the faulting one
//     ping_small, ping_page   raw round trip over the port: 64 bytes there, and 64 or a page's frame back
//     local_scan    pages copied, mapped 64 in a call, and summed; no fault, no frame
//
// A case's floor is `bare` with inline delivery, and with thread delivery a local fault (the better one) and
// the round trip of what must cross. Chunks of figures and floors take turns; while floors are measured, the
// nodes' processes are stopped (SIGSTOP), so that no loop that spins is in the way. A chunk beside which the
// floor or the cache line's round trip was more than 1.5 times off its median is dropped and run again.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "bench/cases.h"
#include "bench/cluster.h"
#include "bench/floor_member.h"
#include "bench/group.h"
#include "bench/latency_judge.h"
#include "bench/latency_plot.h"
#include "bench/latency_report.h"
#include "bench/measure.h"
#include "bench/node_member.h"
#include "pagewire/error.h"

namespace pagewire::bench {

namespace {

struct MemberOptions {  // of a process of the bench; see ProcessGroup
  std::string role;     // empty: the one that starts the others
  std::uint32_t index = 0;
  std::uint32_t count = 0;
  int socket = -1;
  std::string folder;
  std::string subfolder;
};

struct Options {
  std::vector<std::string> cases = case_names();
  std::string delivery = "both";
  std::string loops = "all";
  std::size_t pages = 4096;
  std::size_t scan_mb = 256;
  std::size_t ahead_kb = 1024;
  std::size_t repeat = 1;
  double case_seconds = 4;
  Turns turns;
  std::string json;
  std::string plot;
  bool judge = false;
  MemberOptions member;
};

constexpr std::size_t kPagesPerMb = 256;
constexpr std::size_t kKbPerPage = 4;

std::vector<Setting> settings_of(const Options& options) {
  std::vector<Setting> settings;
  for (const Delivery delivery : {Delivery::kThread, Delivery::kInline}) {
    for (const LoopKind loops : {LoopKind::kShared, LoopKind::kDedicated, LoopKind::kSelf}) {
      const bool wanted = (options.delivery == "both" || options.delivery == name_of(delivery)) &&
                          (options.loops == "all" || options.loops == name_of(loops));
      if (wanted) settings.push_back({delivery, loops});
    }
  }
  return settings;
}

// All cases in all settings; grows with every repetition.
class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {
    sizes_ = {.pages = options.pages,
              .scan_pages = options.scan_mb * kPagesPerMb,
              .ahead_pages = options.ahead_kb / kKbPerPage};
    limits_ = {.floor_count = std::clamp<std::size_t>(options.pages, 16, 128),
               .case_ns = static_cast<std::uint64_t>(options.case_seconds * 1e9)};
  }

  void run_once(ProcessGroup& processes, FloorPair& floors) {
    for (const Setting& setting : settings_of(options_)) {
      for (const std::size_t node_count : {2U, 3U}) run_group(processes, floors, setting, node_count);
    }
  }

  std::vector<Figure> figures() const;

 private:
  using Key = std::tuple<std::size_t, std::uint64_t, Setting>;  // the case's place in the table, its rest

  void run_group(ProcessGroup& processes, FloorPair& floors, const Setting& setting, std::size_t node_count);
  Figure floor_figure(const std::string& floor, const std::vector<std::uint64_t>& ns) const;

  const Options& options_;
  Sizes sizes_;
  Limits limits_;
  std::size_t group_count_ = 0;
  std::map<Key, Measured> measured_;
};

// The cases that want so many nodes, in one cluster.
void Bench::run_group(ProcessGroup& processes, FloorPair& floors, const Setting& setting,
                      std::size_t node_count) {
  std::optional<Cluster> cluster;
  for (const std::string& name : options_.cases) {
    for (const CaseSpec& spec : case_specs(name, sizes_)) {
      if (spec.node_count != node_count) continue;
      if (!cluster) {
        cluster.emplace(processes, "nodes" + std::to_string(group_count_++), setting, node_count,
                        options_.turns);
        cluster->pause();
      }
      const auto place = std::ranges::find(case_names(), name) - case_names().begin();
      const Key key{static_cast<std::size_t>(place), spec.rest_ms, setting};
      measured_.try_emplace(key, spec, setting).first->second.run(*cluster, floors, sizes_, limits_);
    }
  }
  if (!cluster) return;
  cluster->resume();
  cluster->end();
}

std::vector<Figure> Bench::figures() const {
  std::vector<Figure> figures;
  FloorTimes floors;
  for (const auto& [key, measured] : measured_) {
    figures.push_back(measured.figure());
    for (const auto& [name, ns] : measured.floors())
      floors[name].insert(floors[name].end(), ns.begin(), ns.end());
  }
  for (const auto& [name, ns] : floors) {
    if (!ns.empty()) figures.push_back(floor_figure(name, ns));
  }
  return figures;
}

Figure Bench::floor_figure(const std::string& floor, const std::vector<std::uint64_t>& ns) const {
  Figure figure;
  figure.name = "floor:" + floor;
  figure.node_count = floor == "bare" || floor.starts_with("ping") ? 2 : 1;
  Samples samples;
  samples.add(ns);
  figure.times = samples.quantiles();
  return figure;
}

// Before anything is measured: with other programs on the cores nothing here is a figure of Pagewire's.
std::vector<std::string> warnings_before() {
  double load = 0;
  const auto cores = static_cast<double>(std::thread::hardware_concurrency());
  if (::getloadavg(&load, 1) != 1 || load <= cores) return {};
  return {fmt::format("other programs were running: load {:.1f} on {:.0f} cores; run it again", load, cores)};
}

// What the hypervisor has taken from all cores since boot, in ns; 0 if the kernel does not say.
std::uint64_t stolen_ns() {
  std::ifstream stat("/proc/stat");
  std::string cpu;
  std::uint64_t ticks = 0;
  stat >> cpu;
  for (int i = 0; i < 8 && stat >> ticks; ++i) {  // the eighth is steal
  }
  return stat ? ticks * 1'000'000'000 / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)) : 0;
}

void write_file(const std::string& name, const std::string& text) {
  std::ofstream file(name);
  file << text << std::flush;
  if (!file) throw Error("writing " + name, "the file could not be written", "Choose another --json FILE");
}

Report measure_all(const Options& options) {
  Report report{.figures = {}, .turns = options.turns, .warnings = warnings_before()};
  const std::uint64_t start_ns = now_ns();
  const std::uint64_t stolen_before_ns = stolen_ns();
  ProcessGroup processes;
  FloorPair floors(processes);
  Bench bench(options);
  for (std::size_t i = 0; i < options.repeat; ++i) bench.run_once(processes, floors);
  floors.end();
  report.figures = bench.figures();
  const double stolen =
      static_cast<double>(stolen_ns() - stolen_before_ns) / static_cast<double>(now_ns() - start_ns);
  if (stolen > 0.01)
    report.warnings.push_back(
        fmt::format("the hypervisor took {:.1f} % of a core: run it again", 100 * stolen));
  return report;
}

void run_all(const Options& options) {
  if (!options.plot.empty()) require_gnuplot();
  const Report report = measure_all(options);
  fmt::print("{}", text_of(report));
  if (options.judge) fmt::print("{}", judgement_of(report));
  if (!options.json.empty()) write_file(options.json, json_of(report));
  if (!options.plot.empty()) plot(report, options.plot);
}

void run_member(const Options& options) {
  const MemberOptions& member = options.member;
  const Channel channel(member.socket);
  const std::string folder = member.folder + "/" + member.subfolder;
  if (member.role == "floor") {
    run_floors({.index = member.index, .folder = folder}, channel);
    return;
  }
  const Setting setting = settings_of(options).at(0);
  run_node({.node = member.index,
            .node_count = member.count,
            .folder = folder,
            .delivery = setting.delivery,
            .loop_kind = setting.loops,
            .turns = options.turns},
           channel);
}

void add_member_options(CLI::App& app, MemberOptions& member) {
  const char* const hidden = "";  // a group without a name is not in the help
  app.add_option("--member", member.role)->group(hidden);
  app.add_option("--member-index", member.index)->group(hidden);
  app.add_option("--member-count", member.count)->group(hidden);
  app.add_option("--member-socket", member.socket)->group(hidden);
  app.add_option("--member-folder", member.folder)->group(hidden);
  app.add_option("--member-subfolder", member.subfolder)->group(hidden);
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--cases", options.cases, "those to run, separated by commas")
      ->delimiter(',')
      ->check(CLI::IsMember(case_names()));
  app.add_option("--delivery", options.delivery, "how faults come")
      ->check(CLI::IsMember({"thread", "inline", "both"}))
      ->capture_default_str();
  app.add_option("--loops", options.loops, "who drives the packet loops")
      ->check(CLI::IsMember({"shared", "dedicated", "self", "all"}))
      ->capture_default_str();
  app.add_option("--pages", options.pages, "faults measured of each kind")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--scan-mb", options.scan_mb, "size of what is scanned")
      ->check(CLI::Range(1, 1 << 14))
      ->capture_default_str();
  app.add_option("--ahead-kb", options.ahead_kb, "how far scan_prefetch asks ahead")
      ->check(CLI::Range(16, 1 << 20))
      ->capture_default_str();
  app.add_option("--repeat", options.repeat, "so often all of it; figures are of all together")
      ->check(CLI::Range(1, 1'000))
      ->capture_default_str();
  app.add_option("--case-seconds", options.case_seconds, "a case begins nothing more after this time")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str();
  app.add_option("--hand-on", options.turns.hand_on, "pages go on with the one store of a turn")
      ->capture_default_str();
  app.add_option("--hold-us", options.turns.hold_us, "how long a page that arrived stays, in µs")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("--json", options.json, "writes the figures to this file as well");
  app.add_option("--plot", options.plot, "draws the figures to this SVG file, by gnuplot");
  app.add_flag("--judge", options.judge, "says which bars the figures meet");
  add_member_options(app, options.member);
}

int run(int argc, char** argv) {
  CLI::App app("Latency of a fault on a page of another process, beside its floors");
  Options options;
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  if (options.member.role.empty()) {
    run_all(options);
  } else {
    run_member(options);
  }
  return 0;
}

}  // namespace

}  // namespace pagewire::bench

int main(int argc, char** argv) {
  try {
    return pagewire::bench::run(argc, argv);
  } catch (const pagewire::bench::Interrupted& interrupted) {
    ::signal(interrupted.signal, SIG_DFL);
    ::raise(interrupted.signal);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fault_latency: %s\n", error.what());
  }
  return 1;
}
