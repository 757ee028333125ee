// Measuring in turns and keeping what stood still; see measure.h.
#include "bench/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace pagewire::bench {

namespace {

constexpr double kMovedBy = 1.5;
constexpr std::size_t kAttemptsPerChunk = 3;

std::uint64_t median(const std::vector<std::uint64_t>& values) {
  Samples samples;
  samples.add(values);
  return samples.quantiles().p50_ns;
}

std::uint64_t p50_of(const FloorTimes& times, const std::string& floor) {
  const auto found = times.find(floor);
  return found == times.end() ? 0 : median(found->second);
}

bool moved(std::uint64_t value, std::uint64_t middle) {
  if (value == 0 || middle == 0) return false;
  const auto [low, high] = std::minmax(static_cast<double>(value), static_cast<double>(middle));
  return high > kMovedBy * low;
}

void add(FloorTimes& sum, const FloorTimes& times) {
  for (const auto& [name, ns] : times) sum[name].insert(sum[name].end(), ns.begin(), ns.end());
}

}  // namespace

std::vector<std::string> floors_needed(FloorKind kind, Delivery delivery) {
  if (kind == FloorKind::kScan) return {"local_scan"};
  const std::string ping = kind == FloorKind::kSmall ? "ping_small" : "ping_page";
  if (delivery == Delivery::kInline) return {"bare", "local_inline", ping};
  return {"local_thread", "local_pinned", ping};
}

Floor floor_of(FloorKind kind, Delivery delivery, const FloorTimes& times) {
  if (kind == FloorKind::kScan) return {.name = "local_scan", .p50_ns = p50_of(times, "local_scan")};
  if (delivery == Delivery::kInline) return {.name = "bare", .p50_ns = p50_of(times, "bare")};
  const std::string ping = kind == FloorKind::kSmall ? "ping_small" : "ping_page";
  const std::uint64_t floating = p50_of(times, "local_thread");
  const std::uint64_t pinned = p50_of(times, "local_pinned");
  return {.name = (pinned <= floating ? "local_pinned+" : "local_thread+") + ping,
          .p50_ns = std::min(floating, pinned) + p50_of(times, ping)};
}

// Chunks and the floors around them: floors[i] was measured before chunks[i], floors[i + 1] after it.
struct Measured::Pass {
  FloorKind kind = FloorKind::kPage;
  Delivery delivery = Delivery::kThread;
  std::vector<Chunk> chunks;
  std::vector<FloorTimes> floors;

  // The floor's p50 at one time, made of what the whole pass's floor is made of.
  std::uint64_t floor_at(std::size_t i, const std::string& name) const {
    const FloorTimes& times = floors[i];
    const std::size_t plus = name.find('+');
    const std::uint64_t first = p50_of(times, name.substr(0, plus));
    return plus == std::string::npos ? first : first + p50_of(times, name.substr(plus + 1));
  }

  // Which chunks stood still.
  std::vector<bool> steady() const {
    FloorTimes all;
    for (const FloorTimes& times : floors) add(all, times);
    const std::string name = floor_of(kind, delivery, all).name;
    std::vector<std::uint64_t> floor_ns;
    std::vector<std::uint64_t> line_ns;
    for (std::size_t i = 0; i < floors.size(); ++i) {
      floor_ns.push_back(floor_at(i, name));
      line_ns.push_back(p50_of(floors[i], "line"));
    }
    const std::uint64_t floor_middle_ns = median(floor_ns);
    const std::uint64_t line_middle_ns = median(line_ns);
    std::vector<bool> kept;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      bool still = !chunks[i].miscounted;
      for (const std::size_t at : {i, i + 1})
        still = still && !moved(floor_ns[at], floor_middle_ns) && !moved(line_ns[at], line_middle_ns);
      kept.push_back(still);
    }
    return kept;
  }
  std::size_t steady_count() const {
    const std::vector<bool> kept = steady();
    return static_cast<std::size_t>(std::ranges::count(kept, true));
  }
};

void Measured::run(Cluster& cluster, FloorPair& floors, const Sizes& sizes, const Limits& limits) {
  const std::vector<std::string> needed = floors_needed(spec_.floor, setting_.delivery);
  const std::size_t wanted = spec_.chunk_count;
  Pass pass{.kind = spec_.floor, .delivery = setting_.delivery, .chunks = {}, .floors = {}};
  cluster.resume();
  const std::unique_ptr<Case> work = start_case(spec_, sizes, cluster);
  cluster.pause();
  pass.floors.push_back(floors.measure(needed, limits.floor_count));
  const std::uint64_t until_ns = now_ns() + limits.case_ns;
  bool in_time = true;
  while (in_time && pass.steady_count() < wanted && pass.chunks.size() < kAttemptsPerChunk * wanted) {
    cluster.resume();
    pass.chunks.push_back(work->run_chunk());
    cluster.pause();
    pass.floors.push_back(floors.measure(needed, limits.floor_count));
    in_time = now_ns() < until_ns;
  }
  cluster.resume();
  phases_ = cluster.ask(0, {{"do", "stats"}, {"region", work->region()}}).at("phases");
  cluster.pause();
  keep(pass, wanted);
}

void Measured::keep(const Pass& pass, std::size_t wanted) {
  std::vector<bool> kept = pass.steady();
  const auto steady = static_cast<std::size_t>(std::ranges::count(kept, true));
  if (steady == 0) {
    warnings_.push_back("no chunk stood still, so none was dropped: run it again");
    kept.assign(kept.size(), true);
  } else if (steady < wanted) {
    warnings_.push_back(
        fmt::format("{} chunks instead of {}: the time or the attempts were over", steady, wanted));
  }
  for (std::size_t i = 0; i < kept.size(); ++i) {
    miscounted_ += pass.chunks[i].miscounted ? 1 : 0;
    if (!kept[i]) {
      ++dropped_;
      continue;
    }
    chunks_.push_back(pass.chunks[i]);
    add(floor_times_, pass.floors[i]);
    add(floor_times_, pass.floors[i + 1]);
  }
  lines_ns_.push_back(p50_of(pass.floors.front(), "line"));
  lines_ns_.push_back(p50_of(pass.floors.back(), "line"));
}

Figure Measured::figure() const {
  Figure figure;
  figure.name = spec_.name;
  figure.setting = setting_;
  figure.node_count = spec_.node_count;
  figure.kind = spec_.kind;
  Samples samples;
  Samples shootdowns;
  Chunk sum;
  for (const Chunk& chunk : chunks_) {
    samples.add(chunk.ns);
    shootdowns.add(chunk.shootdown_ns);
    sum.elapsed_ns += chunk.elapsed_ns;
    sum.bytes += chunk.bytes;
    sum.hand_overs += chunk.hand_overs;
    for (const std::size_t side : {0U, 1U}) sum.stores.at(side) += chunk.stores.at(side);
    sum.longest_wait_ns = std::max(sum.longest_wait_ns, chunk.longest_wait_ns);
    sum.idle_cpu_ns += chunk.idle_cpu_ns;
    sum.idle_elapsed_ns += chunk.idle_elapsed_ns;
  }
  figure.times = samples.quantiles();
  const Floor floor = floor_of(spec_.floor, setting_.delivery, floor_times_);
  figure.floor = floor.name;
  figure.floor_p50_ns = floor.p50_ns;
  const auto per_s = [&](std::uint64_t value) {
    return static_cast<double>(value) * 1e9 / static_cast<double>(sum.elapsed_ns);
  };
  if (spec_.rest_ms > 0) {
    figure.rest_ms = spec_.rest_ms;
    figure.idle_cpu_share = static_cast<double>(sum.idle_cpu_ns) / static_cast<double>(sum.idle_elapsed_ns);
  }
  if (sum.bytes > 0) figure.gb_per_s = per_s(sum.bytes) / 1e9;
  if (sum.stores[0] + sum.stores[1] > 0) figure.stores_per_s = {per_s(sum.stores[0]), per_s(sum.stores[1])};
  if (sum.longest_wait_ns > 0) {
    figure.hand_overs_per_s = per_s(sum.hand_overs);
    figure.longest_wait_ns = sum.longest_wait_ns;
  }
  if (!shootdowns.values().empty()) figure.shootdown_p50_ns = shootdowns.quantiles().p50_ns;
  figure.dropped_chunks = dropped_;
  if (lines_ns_.front() > 0) {
    figure.line_before_ns = lines_ns_.front();
    figure.line_after_ns = lines_ns_.back();
  }
  figure.warnings = warnings_;
  if (miscounted_ > 0)
    figure.warnings.push_back(
        fmt::format("{} chunks in which the node counted other faults than those meant", miscounted_));
  figure.phases = phases_;
  return figure;
}

}  // namespace pagewire::bench
