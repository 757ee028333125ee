// The node of a bench: joining, and what it can be asked to do; see node_member.h. One thread.
#include "bench/node_member.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "bench/pages.h"
#include "bench/pinning.h"
#include "bench/samples.h"
#include "fault/region_memory.h"
#include "pagewire/pagewire.h"

namespace pagewire::bench {

namespace {

constexpr std::uint32_t kOwnerNode = 1;
// Of two writers on one page, each on a cache line of its own.
constexpr std::size_t kWordsBetweenWriters = 8;
constexpr std::uint64_t kStallNs = 30'000'000'000;
// Away from where nodes map their regions.
constexpr std::uintptr_t kScratchBase = 0x1000'0000'0000;
constexpr std::size_t kScratchPages = 64;
constexpr std::size_t kScanBatch = 64;  // divides 1 MB

std::uint64_t cpu_time_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

void sleep_ms(std::uint64_t ms) {
  timespec left{.tv_sec = static_cast<time_t>(ms / 1'000),
                .tv_nsec = static_cast<long>(ms % 1'000 * 1'000'000)};
  while (::clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
  }
}

// Loops of kDedicated get a core each where there are enough for them beside the threads of the service.
Config config_of(const NodeMember& member) {
  Config config = Config::local(member.node, member.node_count, member.folder);
  config.cluster = "bench";
  config.hold_us = member.turns.hold_us;
  config.hand_on = member.turns.hand_on;
  config.loop_kind = member.loop_kind;
  config.delivery = member.delivery;
  const std::vector<std::size_t> cores = own_cores();
  if (member.loop_kind == LoopKind::kDedicated && cores.size() >= 2 * member.node_count)
    config.loop_cores = {static_cast<int>(cores[member.node_count + member.node])};
  return config;
}

std::size_t size_in(const Json& message, const char* key) { return message.at(key).get<std::size_t>(); }

// The message's pages, `stride` apart.
std::vector<std::size_t> pages_in(const Json& message) {
  std::vector<std::size_t> pages(size_in(message, "count"));
  std::size_t page = size_in(message, "first");
  for (std::size_t& listed : pages) listed = std::exchange(page, page + size_in(message, "stride"));
  return pages;
}

// True if the page would be the third of three in equal steps, among those touched last: the beginning of a
// scan.
bool would_scan(std::span<const std::size_t> touched, std::size_t page) {
  constexpr std::size_t kLast = 16;
  const auto last = touched.last(std::min(kLast, touched.size()));
  for (std::size_t j = 1; j < last.size(); ++j) {
    for (std::size_t i = 0; i < j; ++i) {
      if (page + last[i] == 2 * last[j]) return true;
    }
  }
  return false;
}

// In a random order in which nobody could see a scan, so that nothing is asked for ahead.
std::vector<std::size_t> shuffled_pages_in(const Json& message, std::uint64_t seed) {
  std::vector<std::size_t> pages = pages_in(message);
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(seed));
  for (std::size_t done = 0; done < pages.size(); ++done) {
    const auto rest = pages.begin() + static_cast<std::ptrdiff_t>(done);
    const std::span<const std::size_t> touched(pages.begin(), rest);
    const auto next =
        std::find_if(rest, pages.end(), [&](std::size_t page) { return !would_scan(touched, page); });
    if (next != pages.end()) std::iter_swap(rest, next);  // else there are only few left
  }
  return pages;
}

const Latency& latency_of(const Stats& stats, const std::string& kind) {
  if (kind == "read_miss") return stats.read_miss;
  return kind == "write_miss" ? stats.write_miss : stats.upgrade;
}

// One object for each phase of each kind of fault that occurred.
Json phases_of(const Stats& stats) {
  Json phases = Json::array();
  for (const KindPhases& kind : stats.phases) {
    for (const PhaseLatency& phase : kind.phases) {
      if (phase.latency.count == 0) continue;
      phases.push_back({{"kind", kind.kind},
                        {"phase", phase.name},
                        {"repeated_count", kind.repeated_count},
                        {"count", phase.latency.count},
                        {"p50_ns", phase.latency.p50_ns},
                        {"p90_ns", phase.latency.p90_ns},
                        {"p99_ns", phase.latency.p99_ns},
                        {"max_ns", phase.latency.max_ns}});
    }
  }
  return phases;
}

class NodeProcess {
 public:
  NodeProcess(const NodeMember& member, const Channel& channel)
      : channel_(channel),
        node_(config_of(member)),
        scratch_("scratch", kScratchBase, kScratchPages * kPageBytes, fault::KernelFaults::kAuto) {}

  Json answer(const Json& message);

 private:
  Json open(const Json& message);
  Json serve();
  Json write(const Json& message) const;
  Json read(const Json& message) const;
  Json touch(const Json& message) const;
  Json rest(const Json& message) const;
  Json ping_pong(const Json& message) const;
  Json hammer(const Json& message) const;
  Json check_words(const Json& message) const;
  Json fill(const Json& message) const;
  Json scan(const Json& message) const;
  Json zap(const Json& message);
  Json stats(const Json& message) const;

  const Region& region_of(const Json& message) const { return regions_.at(message.at("region")); }
  Pages pages_of(const Json& message) const { return Pages(region_of(message).as<std::uint64_t>()); }

  const Channel& channel_;
  Node node_;
  fault::RegionMemory scratch_;
  std::map<std::string, Region> regions_;
};

Json NodeProcess::answer(const Json& message) {
  const std::string what = message.at("do");
  const std::map<std::string_view, std::function<Json()>> known = {
      {"open", [&] { return open(message); }},
      {"barrier", [&] { return node_.barrier(), Json::object(); }},
      {"serve", [&] { return serve(); }},
      {"write", [&] { return write(message); }},
      {"read", [&] { return read(message); }},
      {"touch", [&] { return touch(message); }},
      {"rest", [&] { return rest(message); }},
      {"ping_pong", [&] { return ping_pong(message); }},
      {"hammer", [&] { return hammer(message); }},
      {"check_words", [&] { return check_words(message); }},
      {"fill", [&] { return fill(message); }},
      {"scan", [&] { return scan(message); }},
      {"zap", [&] { return zap(message); }},
      {"stats", [&] { return stats(message); }},
  };
  return known.at(what)();
}

Json NodeProcess::open(const Json& message) {
  const std::string name = message.at("region");
  regions_.emplace(name, node_.open_region({.name = name,
                                            .bytes = size_in(message, "pages") * kPageBytes,
                                            .placement = Placement::kOneNode,
                                            .placement_node = kOwnerNode}));
  return Json::object();
}

Json NodeProcess::serve() {
  channel_.send({{"serving", true}});
  const std::uint64_t start_ns = now_ns();
  const std::uint64_t cpu_ns = cpu_time_ns();
  node_.barrier();
  return {{"cpu_ns", cpu_time_ns() - cpu_ns}, {"elapsed_ns", now_ns() - start_ns}};
}

Json NodeProcess::write(const Json& message) const {
  const Pages pages = pages_of(message);
  const std::uint64_t is = message.at("is");
  for (const std::size_t page : shuffled_pages_in(message, is)) {
    if (message.contains("was")) pages.expect_mark(page, message["was"]);
    pages.mark(page, is);
  }
  return Json::object();
}

Json NodeProcess::read(const Json& message) const {
  const Pages pages = pages_of(message);
  const std::uint64_t was = message.at("was");
  for (const std::size_t page : shuffled_pages_in(message, was + 1)) pages.expect_mark(page, was);
  return Json::object();
}

// The node's own count of such faults is given as well: if it differs, something else was measured. A fault
// may be counted a moment after its thread went on.
Json NodeProcess::touch(const Json& message) const {
  const Pages pages = pages_of(message);
  const std::size_t count = size_in(message, "count");
  const std::size_t warm_up = size_in(message, "warm_up");
  const bool store = message.at("store");
  const std::uint64_t was = message.at("was");
  const std::uint64_t is = store ? message.at("is").get<std::uint64_t>() : was;
  const std::string kind = message.at("kind");
  const std::uint64_t counted_before = latency_of(region_of(message).stats(), kind).count;
  Samples samples(count);
  std::size_t done = 0;
  for (const std::size_t page : shuffled_pages_in(message, was + 2)) {
    const std::uint64_t start_ns = now_ns();
    if (store) {
      pages.store(page, is + page);
    } else {
      static_cast<void>(pages.load(page));
    }
    const std::uint64_t took_ns = now_ns() - start_ns;
    if (++done > warm_up) samples.add(took_ns);
    pages.expect(page, is, 0);
    pages.expect(page, was, kWordsPerPage - 1);
    if (store) pages.mark(page, is);
  }
  std::uint64_t counted = 0;
  const std::uint64_t until_ns = now_ns() + 100'000'000;
  do {
    std::this_thread::yield();
    counted = latency_of(region_of(message).stats(), kind).count - counted_before;
  } while (counted < count && now_ns() < until_ns);
  return {{"ns", samples.values()}, {"counted", counted}};
}

Json NodeProcess::rest(const Json& message) const {
  const Pages pages = pages_of(message);
  Samples samples(size_in(message, "count"));
  std::uint64_t resting_ns = 0;
  std::uint64_t resting_cpu_ns = 0;
  for (const std::size_t page : pages_in(message)) {
    const std::uint64_t rest_ns = now_ns();
    const std::uint64_t cpu_ns = cpu_time_ns();
    sleep_ms(size_in(message, "rest_ms"));
    resting_cpu_ns += cpu_time_ns() - cpu_ns;
    const std::uint64_t start_ns = now_ns();
    static_cast<void>(pages.load(page));
    samples.add(now_ns() - start_ns);
    resting_ns += start_ns - rest_ns;
    pages.expect_mark(page, message.at("was"));
  }
  return {{"ns", samples.values()}, {"cpu_ns", resting_cpu_ns}, {"elapsed_ns", resting_ns}};
}

// Spins as a service would, until the other side has made it our turn.
void await_turn(const Pages& pages, std::uint64_t mine) {
  constexpr std::uint64_t kLoadsBetweenClocks = 1 << 12;
  std::uint64_t stalled_ns = 0;
  for (std::uint64_t loads = 1;; ++loads) {
    const std::uint64_t seen = pages.load(0);
    if (seen == mine) return;
    if (seen + 1 != mine)
      throw Error("a turn of ping_pong is wrong", fmt::format("{} while waiting for {}", seen, mine),
                  "This is a defect of Pagewire: report it");
    if (loads % kLoadsBetweenClocks != 0) continue;
    if (stalled_ns == 0) stalled_ns = now_ns() + kStallNs;
    if (now_ns() > stalled_ns)
      throw Error("waiting for a turn of ping_pong", "it did not come for 30 seconds",
                  "See what the other process said, and report it if that is nothing");
  }
}

Json NodeProcess::ping_pong(const Json& message) const {
  const Pages pages = pages_of(message);
  const std::uint64_t side = message.at("side");
  const std::uint64_t start = message.at("start");
  const std::size_t warm_up = size_in(message, "warm_up");
  const std::size_t turns = size_in(message, "turns") + warm_up;
  Samples samples(turns);
  std::uint64_t first_ns = 0;
  std::uint64_t last_ns = now_ns();
  std::uint64_t longest_ns = 0;
  for (std::size_t turn = 0; turn < turns; ++turn) {
    const std::uint64_t mine = start + 2 * turn + side;
    await_turn(pages, mine);
    pages.store(0, mine + 1);
    const std::uint64_t stored_ns = now_ns();
    if (turn == warm_up) first_ns = last_ns;
    if (turn >= warm_up) {
      samples.add((stored_ns - last_ns) / 2);  // the page went there and came back
      longest_ns = std::max(longest_ns, stored_ns - last_ns);
    }
    last_ns = stored_ns;
  }
  return {{"ns", samples.values()},
          {"elapsed_ns", last_ns - first_ns},
          {"hand_overs", 2 * (turns - warm_up)},
          {"longest_wait_ns", longest_ns}};
}

// The clock is read once in a while, so that it is stores that are counted; a wait within is seen all the
// same.
Json NodeProcess::hammer(const Json& message) const {
  constexpr std::size_t kStoresBetweenClocks = 64;
  constexpr std::uint64_t kWaitNs = 2'000;  // so long do not take 64 stores to a page that is here
  const Region& region = region_of(message);
  const Pages pages = pages_of(message);
  const std::size_t word = size_in(message, "side") * kWordsBetweenWriters;
  const std::uint64_t start = message.at("start");
  const auto taken = [&] {
    const Stats stats = region.stats();
    return stats.write_miss.count + stats.upgrade.count;
  };
  const std::uint64_t taken_before = taken();
  std::uint64_t value = start;
  std::uint64_t longest_ns = 0;
  Samples samples(1 << 16);
  const std::uint64_t start_ns = now_ns();
  const std::uint64_t until_ns = start_ns + message.at("ms").get<std::uint64_t>() * 1'000'000;
  std::uint64_t last_ns = start_ns;
  while (last_ns < until_ns) {
    for (std::size_t i = 0; i < kStoresBetweenClocks; ++i) pages.store(0, ++value, word);
    const std::uint64_t stored_ns = now_ns();
    if (stored_ns - last_ns >= kWaitNs) samples.add(stored_ns - last_ns);
    longest_ns = std::max(longest_ns, stored_ns - last_ns);
    last_ns = stored_ns;
  }
  return {{"ns", samples.values()},  {"elapsed_ns", last_ns - start_ns},     {"value", value},
          {"stores", value - start}, {"hand_overs", taken() - taken_before}, {"longest_wait_ns", longest_ns}};
}

Json NodeProcess::check_words(const Json& message) const {
  const Pages pages = pages_of(message);
  for (std::size_t side = 0; side < 2; ++side) {
    const std::uint64_t seen = pages.load(0, side * kWordsBetweenWriters);
    const std::uint64_t wanted = message.at("values").at(side);
    if (seen == wanted) continue;
    throw Error(fmt::format("the word that writer {} alone writes is wrong", side),
                fmt::format("{} where {} was written", seen, wanted),
                "This is a defect of Pagewire: report it");
  }
  return Json::object();
}

Json NodeProcess::fill(const Json& message) const {
  const Pages pages = pages_of(message);
  const std::uint64_t salt = message.at("salt");
  const std::size_t first = size_in(message, "first");
  const std::size_t count = size_in(message, "count");
  region_of(message).prefetch(first * kPageBytes, count * kPageBytes, Access::kWrite);
  for (std::size_t page = first; page < first + count; ++page) {
    for (std::size_t word = 0; word < kWordsPerPage; ++word)
      pages.store(page, salt + page * kWordsPerPage + word, word);
  }
  return Json::object();
}

// Every byte is summed, as words; a sample is a page's time, on the average of a batch. With `ahead` pages,
// so many are asked for ahead, a quarter of them at a time.
Json NodeProcess::scan(const Json& message) const {
  const Region& region = region_of(message);
  const Pages pages = pages_of(message);
  const std::uint64_t salt = message.at("salt");
  const std::size_t first = size_in(message, "first");
  const std::size_t end = first + size_in(message, "count");
  const std::size_t ahead = size_in(message, "ahead");
  const std::size_t step = std::max<std::size_t>(ahead / 4, 1);
  std::size_t asked = first;
  std::uint64_t sum = 0;
  Samples samples((end - first) / kScanBatch);
  const std::uint64_t start_ns = now_ns();
  std::uint64_t last_ns = start_ns;
  for (std::size_t page = first; page < end; ++page) {
    for (; ahead > 0 && asked < end && asked + step <= page + ahead; asked += step)
      region.prefetch(asked * kPageBytes, std::min(step, end - asked) * kPageBytes, Access::kRead);
    for (const std::uint64_t word : pages.page(page)) sum += word;
    if ((page + 1 - first) % kScanBatch != 0) continue;
    const std::uint64_t summed_ns = now_ns();
    samples.add((summed_ns - last_ns) / kScanBatch);
    last_ns = summed_ns;
  }
  std::uint64_t wanted = 0;
  for (std::uint64_t word = first * kWordsPerPage; word < end * kWordsPerPage; ++word) wanted += salt + word;
  if (sum != wanted)
    throw Error(fmt::format("the sum of pages {} to {} is wrong", first, end),
                fmt::format("{:#x} where it should be {:#x}", sum, wanted),
                "This is a defect of Pagewire: report it");
  return {
      {"ns", samples.values()}, {"elapsed_ns", last_ns - start_ns}, {"bytes", (end - first) * kPageBytes}};
}

Json NodeProcess::zap(const Json& message) {
  const std::size_t count = size_in(message, "count");
  Samples samples(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t page = i % kScratchPages;
    scratch_.map_write(page);
    reinterpret_cast<std::uint64_t*>(scratch_.application_view())[page * kWordsPerPage] = i;
    const std::uint64_t start_ns = now_ns();
    scratch_.zap(page);
    samples.add(now_ns() - start_ns);
  }
  return {{"ns", samples.values()}};
}

Json NodeProcess::stats(const Json& message) const {
  return {{"phases", phases_of(region_of(message).stats())}};
}

}  // namespace

void run_node(const NodeMember& member, const Channel& channel) {
  NodeProcess process(member, channel);
  const std::vector<std::size_t> cores = own_cores();
  pin_this_thread(cores[member.node % cores.size()]);  // the threads that the node started float
  channel.send({{"joined", true}});
  while (true) {
    const Json message = channel.receive();
    if (message.at("do") == "end") return;
    channel.send(process.answer(message));
  }
}

}  // namespace pagewire::bench
