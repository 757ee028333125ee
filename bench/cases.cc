// The cases; see cases.h and the list at the head of fault_latency.cc.
#include "bench/cases.h"

#include <algorithm>
#include <utility>

#include "pagewire/error.h"

namespace pagewire::bench {

namespace {

constexpr std::size_t kOwner = 1;
constexpr std::size_t kChunkPages = 256;
constexpr std::size_t kWarmUpPages = 16;  // of each chunk, not counted
// Pages of a chunk are so far apart that no neighbours are asked for ahead, in whatever order they are
// touched.
constexpr std::size_t kPagesApart = 67;
constexpr std::size_t kScanChunkPages = 8192;
constexpr std::size_t kZaps = 32;

using Times = std::vector<std::uint64_t>;

std::size_t chunks_of(std::size_t count, std::size_t in_one) { return (count + in_one - 1) / in_one; }

std::uint64_t share_less(std::uint64_t value) { return value - value / 32; }

// Marks that were never used before in this process: pages have more than 32 bits of room above them.
std::uint64_t next_mark() {
  static std::uint64_t last = 0;
  return ++last << 32;
}

// ---- one fault a page: read_miss, read_miss_downgrade, write_miss, upgrade_1, upgrade_2

struct FaultShape {
  bool store = false;
  std::vector<std::size_t> readers;  // have a copy before
  bool others_rest = false;          // nodes above 1 wait outside Pagewire
  bool shootdown = false;            // the owner zaps
};

class FaultCase final : public Case {
 public:
  FaultCase(const CaseSpec& spec, FaultShape shape, std::size_t page_count, Cluster& cluster)
      : cluster_(cluster), region_(spec.name), kind_(spec.kind), shape_(std::move(shape)) {
    in_chunk_ = std::min(kChunkPages, page_count) + kWarmUpPages;
    marks_.resize(chunks_of(page_count, kChunkPages));
    if (shape_.others_rest) resting_.insert(2);
    cluster_.open(region_, in_chunk_ * marks_.size());
    for (std::size_t window = 0; window < marks_.size(); ++window) bring(window);
  }

  const std::string& region() const override { return region_; }

  Chunk run_chunk() override {
    const std::size_t window = next_window_++ % marks_.size();
    const auto with = [&](Json message) { return message.update(pages_of(window)), message; };
    const std::uint64_t written = next_mark();
    cluster_.phase({{kOwner, with({{"do", "write"}, {"was", marks_[window]}, {"is", written}})}});
    if (!shape_.readers.empty()) {
      std::vector<Task> reads;
      for (const std::size_t node : shape_.readers)
        reads.push_back({node, with({{"do", "read"}, {"was", written}})});
      cluster_.phase(reads);
    }
    Json touch = with({{"do", "touch"},
                       {"store", shape_.store},
                       {"was", written},
                       {"warm_up", kWarmUpPages},
                       {"kind", kind_}});
    marks_[window] = written;
    if (shape_.store) touch["is"] = marks_[window] = next_mark();
    const Json answer = cluster_.phase({{0, touch}}, resting_).at(0);
    Chunk chunk;
    chunk.ns = answer.at("ns").get<Times>();
    const std::uint64_t counted = answer.at("counted");
    chunk.miscounted = counted < share_less(in_chunk_) || counted > in_chunk_ + in_chunk_ / 32;
    if (shape_.shootdown)
      chunk.shootdown_ns = cluster_.ask(kOwner, {{"do", "zap"}, {"count", kZaps}}).at("ns").get<Times>();
    return chunk;
  }

 private:
  // Every page is at node 0 once before: the first use of a page's memory is a fault of the kernel's, too. By
  // a fault of another kind than the case's, so that the node's statistics of that kind are the case's alone.
  void bring(std::size_t window) {
    const auto with = [&](Json message) { return message.update(pages_of(window)), message; };
    std::uint64_t mark = next_mark();
    cluster_.phase({{kOwner, with({{"do", "write"}, {"is", mark}})}});
    if (shape_.store) {
      cluster_.phase({{0, with({{"do", "read"}, {"was", mark}})}});
    } else {
      mark = next_mark();
      cluster_.phase({{0, with({{"do", "write"}, {"is", mark}})}});
    }
    marks_[window] = mark;
  }

  // A window is a chunk's pages.
  Json pages_of(std::size_t window) const {
    return {{"region", region_}, {"first", window * in_chunk_}, {"count", in_chunk_}, {"stride", 1}};
  }

  Cluster& cluster_;
  std::string region_;
  std::string kind_;
  FaultShape shape_;
  std::size_t in_chunk_ = 0;
  std::vector<std::uint64_t> marks_;  // what each window's pages were last marked with
  std::set<std::size_t> resting_;
  std::size_t next_window_ = 0;
};

FaultShape shape_of(const std::string& name) {
  if (name == "read_miss") return {.store = false, .readers = {2}, .others_rest = true};
  if (name == "read_miss_downgrade") return {.store = false, .readers = {}};
  if (name == "write_miss") return {.store = true, .readers = {}, .shootdown = true};
  if (name == "upgrade_1") return {.store = true, .readers = {0}, .shootdown = true};
  return {.store = true, .readers = {0, 2}};
}

// ---- the first fault after rest

class RestCase final : public Case {
 public:
  RestCase(const CaseSpec& spec, std::size_t in_chunk, Cluster& cluster)
      : cluster_(cluster),
        region_(spec.name + "_" + std::to_string(spec.rest_ms)),
        rest_ms_(spec.rest_ms),
        in_chunk_(in_chunk) {
    cluster_.open(region_, in_chunk_ * kPagesApart);
  }

  const std::string& region() const override { return region_; }

  Chunk run_chunk() override {
    const Json where = {{"region", region_}, {"first", 0}, {"count", in_chunk_}, {"stride", kPagesApart}};
    const std::uint64_t mark = next_mark();
    Json write = {{"do", "write"}, {"is", mark}};
    write.update(where);
    cluster_.phase({{kOwner, write}});
    Json rest = {{"do", "rest"}, {"was", mark}, {"rest_ms", rest_ms_}};
    rest.update(where);
    const std::vector<Json> answers = cluster_.phase({{0, rest}});
    Chunk chunk;
    chunk.ns = answers[0].at("ns").get<Times>();
    for (const Json& answer : answers) {
      const std::uint64_t cpu_ns = answer.at("cpu_ns");
      if (cpu_ns < chunk.idle_cpu_ns) continue;
      chunk.idle_cpu_ns = cpu_ns;
      chunk.idle_elapsed_ns = answer.at("elapsed_ns");
    }
    return chunk;
  }

 private:
  Cluster& cluster_;
  std::string region_;
  std::uint64_t rest_ms_;
  std::size_t in_chunk_;
};

// ---- both write one page

class PingPongCase final : public Case {
 public:
  PingPongCase(const CaseSpec& spec, Cluster& cluster) : cluster_(cluster), region_(spec.name) {
    cluster_.open(region_, 1);
  }

  const std::string& region() const override { return region_; }

  Chunk run_chunk() override {
    const auto side = [&](std::size_t node) {
      return Task{node,
                  {{"do", "ping_pong"},
                   {"region", region_},
                   {"side", node},
                   {"turns", turns_},
                   {"warm_up", kWarmUpTurns},
                   {"start", start_}}};
    };
    const std::vector<Json> answers = cluster_.phase({side(0), side(1)});
    start_ += 2 * (turns_ + kWarmUpTurns);
    Chunk chunk;
    chunk.ns = answers[0].at("ns").get<Times>();
    chunk.elapsed_ns = answers[0].at("elapsed_ns");
    chunk.hand_overs = answers[0].at("hand_overs");
    for (const Json& answer : answers)
      chunk.longest_wait_ns =
          std::max(chunk.longest_wait_ns, answer.at("longest_wait_ns").get<std::uint64_t>());
    turns_ = std::clamp(turns_ * kChunkNs / chunk.elapsed_ns, kTurnsMin, kTurnsMax);
    return chunk;
  }

 private:
  static constexpr std::uint64_t kChunkNs = 50'000'000;  // what the number of turns aims at
  static constexpr std::size_t kWarmUpTurns = 4;
  static constexpr std::size_t kTurnsMin = 16;
  static constexpr std::size_t kTurnsMax = 4'096;

  Cluster& cluster_;
  std::string region_;
  std::size_t turns_ = kTurnsMin;
  std::uint64_t start_ = 0;
};

class FalseSharingCase final : public Case {
 public:
  FalseSharingCase(const CaseSpec& spec, Cluster& cluster) : cluster_(cluster), region_(spec.name) {
    cluster_.open(region_, 1);
  }

  const std::string& region() const override { return region_; }

  Chunk run_chunk() override {
    constexpr std::uint64_t kChunkMs = 20;
    const auto side = [&](std::size_t node) {
      return Task{node,
                  {{"do", "hammer"},
                   {"region", region_},
                   {"side", node},
                   {"ms", kChunkMs},
                   {"start", values_.at(node)}}};
    };
    const std::vector<Json> answers = cluster_.phase({side(0), side(1)});
    Chunk chunk;
    for (const std::size_t node : {0U, 1U}) {
      const Json& answer = answers[node];
      values_.at(node) = answer.at("value");
      chunk.stores.at(node) = answer.at("stores");
      chunk.hand_overs += answer.at("hand_overs").get<std::uint64_t>();
      chunk.elapsed_ns = std::max(chunk.elapsed_ns, answer.at("elapsed_ns").get<std::uint64_t>());
      chunk.longest_wait_ns =
          std::max(chunk.longest_wait_ns, answer.at("longest_wait_ns").get<std::uint64_t>());
      const Times waits = answer.at("ns").get<Times>();
      chunk.ns.insert(chunk.ns.end(), waits.begin(), waits.end());
    }
    cluster_.phase({{0, {{"do", "check_words"}, {"region", region_}, {"values", values_}}}});
    return chunk;
  }

 private:
  Cluster& cluster_;
  std::string region_;
  std::array<std::uint64_t, 2> values_{};
};

// ---- one after the other

class ScanCase final : public Case {
 public:
  ScanCase(std::size_t page_count, std::size_t ahead_pages, Cluster& cluster)
      : cluster_(cluster),
        page_count_(page_count),
        in_chunk_(std::min(page_count, kScanChunkPages)),
        ahead_pages_(ahead_pages) {
    cluster_.open(region_, page_count_);
  }

  const std::string& region() const override { return region_; }

  Chunk run_chunk() override {
    const std::size_t first = next_window_++ % (page_count_ / in_chunk_) * in_chunk_;
    const Json where = {{"region", region_}, {"first", first}, {"count", in_chunk_}, {"salt", next_mark()}};
    Json fill = {{"do", "fill"}};
    fill.update(where);
    cluster_.phase({{kOwner, fill}});
    Json scan = {{"do", "scan"}, {"ahead", ahead_pages_}};
    scan.update(where);
    const Json answer = cluster_.phase({{0, scan}}).at(0);
    Chunk chunk;
    chunk.ns = answer.at("ns").get<Times>();
    chunk.elapsed_ns = answer.at("elapsed_ns");
    chunk.bytes = answer.at("bytes");
    return chunk;
  }

 private:
  Cluster& cluster_;
  std::string region_ = "scan";  // of both scans: it is large
  std::size_t page_count_;
  std::size_t in_chunk_;
  std::size_t ahead_pages_;
  std::size_t next_window_ = 0;
};

struct Rest {
  std::uint64_t ms;
  std::size_t in_chunk;
  std::size_t chunk_count;
};
constexpr std::array<Rest, 3> kRests = {Rest{1, 16, 4}, Rest{100, 3, 3}, Rest{1'000, 1, 3}};
constexpr std::size_t kContendedChunks = 8;

}  // namespace

const std::vector<std::string>& case_names() {
  static const std::vector<std::string> names = {
      "read_miss", "read_miss_downgrade", "write_miss", "upgrade_1",     "upgrade_2",
      "ping_pong", "false_sharing",       "scan",       "scan_prefetch", "first_after_rest"};
  return names;
}

std::vector<CaseSpec> case_specs(const std::string& name, const Sizes& sizes) {
  CaseSpec spec{
      .name = name, .rest_ms = 0, .node_count = 2, .floor = FloorKind::kPage, .chunk_count = 0, .kind = {}};
  if (name == "first_after_rest") {
    std::vector<CaseSpec> specs;
    for (const Rest& rest : kRests) {
      spec.rest_ms = rest.ms;
      spec.chunk_count = sizes.pages < kChunkPages ? 1 : rest.chunk_count;
      specs.push_back(spec);
    }
    return specs;
  }
  if (name.starts_with("scan")) {
    spec.floor = FloorKind::kScan;
    spec.chunk_count = chunks_of(sizes.scan_pages, kScanChunkPages);
  } else if (name == "ping_pong" || name == "false_sharing") {
    spec.chunk_count = std::min(kContendedChunks, chunks_of(sizes.pages, kChunkPages));
  } else {
    const FaultShape shape = shape_of(name);
    const bool upgrades = shape.store && !shape.readers.empty();
    spec.kind = !shape.store ? "read_miss" : upgrades ? "upgrade" : "write_miss";
    spec.floor = upgrades ? FloorKind::kSmall : FloorKind::kPage;
    spec.node_count = name == "read_miss" || name == "upgrade_2" ? 3 : 2;
    spec.chunk_count = chunks_of(sizes.pages, kChunkPages);
  }
  return {spec};
}

std::unique_ptr<Case> start_case(const CaseSpec& spec, const Sizes& sizes, Cluster& cluster) {
  if (spec.rest_ms > 0) {
    const auto rest = std::ranges::find(kRests, spec.rest_ms, &Rest::ms);
    return std::make_unique<RestCase>(spec, rest->in_chunk, cluster);
  }
  if (spec.name == "scan") return std::make_unique<ScanCase>(sizes.scan_pages, 0, cluster);
  if (spec.name == "scan_prefetch")
    return std::make_unique<ScanCase>(sizes.scan_pages, sizes.ahead_pages, cluster);
  if (spec.name == "ping_pong") return std::make_unique<PingPongCase>(spec, cluster);
  if (spec.name == "false_sharing") return std::make_unique<FalseSharingCase>(spec, cluster);
  return std::make_unique<FaultCase>(spec, shape_of(spec.name), sizes.pages, cluster);
}

}  // namespace pagewire::bench
