// What the nodes of the end-to-end tests do when much is asked of them: more threads than cores with mixed
// accesses, and for a long time with faults of both deliveries.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "test/e2e/node_main.h"

namespace pagewire::e2e {

namespace {

using Clock = std::chrono::steady_clock;
using Word = std::atomic<std::uint64_t>;
constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kWords = kPageBytes / sizeof(Word);
constexpr std::size_t kSharedWord = 0;  // of each page: all add to it
constexpr std::size_t kFirstOwnWord = 1;

Word& word(const Region& region, std::size_t page, std::size_t index) {
  return region.as<Word>()[page * kWords + index];
}

// One thread of the service, with a word of its own on each page that no other stores to.
class Worker {
 public:
  Worker(const Region& region, std::size_t own_word, std::uint64_t seed)
      : region_(region),
        pages_(region.bytes() / kPageBytes),
        own_word_(own_word),
        random_(seed),
        stored_(pages_, 0),
        seen_(pages_, 0) {}

  void one_access() {
    const std::size_t page = random_() % pages_;
    const std::uint64_t dice = random_() % 10;
    const Clock::time_point before = Clock::now();
    if (dice < 3) {
      word(region_, page, kSharedWord).fetch_add(1);
      ++adds;
    } else if (dice < 6) {  // plain: a mov
      word(region_, page, own_word_).store(++stored_[page], std::memory_order_relaxed);
    } else if (dice < 7) {
      if (word(region_, page, own_word_).load(std::memory_order_relaxed) != stored_[page]) ++wrong;
    } else {
      const std::uint64_t value = word(region_, page, kSharedWord).load();
      if (value < seen_[page]) ++wrong;  // it only grows
      seen_[page] = value;
    }
    worst = std::max(worst, Clock::now() - before);
  }
  // All pages from the first one on: what the scan detector sees.
  void scan() {
    for (std::size_t page = 0; page < pages_; ++page) {
      if (word(region_, page, own_word_).load(std::memory_order_relaxed) != stored_[page]) ++wrong;
    }
  }

  std::uint64_t adds = 0;
  std::uint64_t wrong = 0;
  Clock::duration worst{};

 private:
  const Region region_;
  std::size_t pages_;
  std::size_t own_word_;
  std::mt19937_64 random_;
  std::vector<std::uint64_t> stored_;  // in the own word of each page
  std::vector<std::uint64_t> seen_;    // in the shared word of each page
};

std::uint64_t in_us(Clock::duration time) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(time).count());
}

// Processor time of this process.
std::uint64_t processor_us() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto us = [](const timeval& time) {
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(time.tv_usec);
  };
  return us(used.ru_utime) + us(used.ru_stime);
}

std::uint64_t shared_sum(const Region& region) {
  std::uint64_t sum = 0;
  for (std::size_t page = 0; page < region.bytes() / kPageBytes; ++page)
    sum += word(region, page, kSharedWord).load();
  return sum;
}

// What all nodes together added, each saying what it did in a word of its own.
std::uint64_t told_by_all(Node& node, const Region& told, std::size_t page, std::uint64_t mine) {
  word(told, page, node.id()).store(mine);
  node.barrier();
  std::uint64_t sum = 0;
  for (std::size_t other = 0; other < node.size(); ++other) sum += word(told, page, other).load();
  return sum;
}

}  // namespace

// `threads` threads a node, `count` accesses each, on 64 pages: which end, none waits long, and totals are
// exact.
void run_crowd(Node& node, const Arguments& arguments) {
  constexpr std::size_t kPages = 64;
  const Region region = node.open_region({.name = "crowd", .bytes = kPages * kPageBytes});
  const Region told = node.open_region({.name = "told", .bytes = kPageBytes});
  std::vector<Worker> workers;
  for (std::uint32_t i = 0; i < arguments.threads; ++i) {
    const std::uint32_t number = node.id() * arguments.threads + i;
    workers.emplace_back(region, kFirstOwnWord + number, arguments.config.impairment.seed * 1'000 + number);
  }
  node.barrier();
  const Clock::time_point before = Clock::now();
  const std::uint64_t processor_before = processor_us();
  const std::uint64_t spun_before = node.stats().spun_ns;
  std::vector<std::thread> threads;
  for (Worker& worker : workers) {
    threads.emplace_back([&] {
      for (std::uint64_t i = 0; i < arguments.count; ++i) worker.one_access();
    });
  }
  for (std::thread& thread : threads) thread.join();
  report("wall_us", in_us(Clock::now() - before));
  report("processor_us", processor_us() - processor_before);
  report("spun_us", (node.stats().spun_ns - spun_before) / 1'000);
  std::uint64_t adds = 0;
  std::uint64_t wrong = 0;
  Clock::duration worst{};
  for (Worker& worker : workers) {
    worker.scan();
    adds += worker.adds;
    wrong += worker.wrong;
    worst = std::max(worst, worker.worst);
  }
  const std::uint64_t expected = told_by_all(node, told, 0, adds);
  report("wrong", wrong);
  report("worst_us", in_us(worst));
  report("expected", expected);
  report("total", shared_sum(region));
  node.barrier();
}

namespace {

// Of /proc/self/status, in KiB.
std::uint64_t status_kb(const char* key) {
  std::FILE* const file = std::fopen("/proc/self/status", "r");
  char line[256];
  unsigned long long kb = 0;
  while (file != nullptr && std::fgets(line, sizeof(line), file) != nullptr) {
    if (std::strncmp(line, key, std::strlen(key)) == 0 && line[std::strlen(key)] == ':') {
      std::sscanf(line + std::strlen(key) + 1, "%llu kB", &kb);
    }
  }
  if (file != nullptr) std::fclose(file);
  return kb;
}

// The size of this process once a second, from a tenth of the time on.
class MemoryWatch {
 public:
  void sample(bool counts) {
    for (std::size_t i = 0; i < kKeys.size(); ++i) {
      const std::uint64_t kb = status_kb(kKeys[i]);
      if (!counts) first_kb_[i] = kb;
      most_kb_[i] = counts ? std::max(most_kb_[i], kb) : kb;
    }
    sample_count_ += counts ? 1 : 0;
  }
  void tell() const {
    for (std::size_t i = 0; i < kKeys.size(); ++i) {
      report(std::string(kKeys[i]) + "_kb", first_kb_[i]);
      report(std::string(kKeys[i]) + "_growth_kb", most_kb_[i] - std::min(most_kb_[i], first_kb_[i]));
    }
    report("samples", sample_count_);
  }

 private:
  static constexpr std::array<const char*, 2> kKeys = {"VmRSS", "RssAnon"};
  std::array<std::uint64_t, 2> first_kb_{};
  std::array<std::uint64_t, 2> most_kb_{};
  std::uint64_t sample_count_ = 0;
};

struct Soaked {
  std::uint64_t accesses = 0;
  std::array<std::uint64_t, 2> adds{};  // by region
  std::uint64_t wrong = 0;
  Clock::duration worst{};
};

// Accesses at random to both regions, now and then a scan, now and then a prefetch.
Soaked soak(const std::array<Region, 2>& regions, std::size_t own_word, std::uint64_t seed,
            const std::atomic<bool>& stop) {
  std::array<Worker, 2> workers = {Worker(regions[0], own_word, seed), Worker(regions[1], own_word, ~seed)};
  std::mt19937_64 random(seed * 7);
  Soaked soaked;
  while (!stop.load(std::memory_order_relaxed)) {
    const std::size_t which = random() % 2;
    const Region& region = regions[which];
    const std::uint64_t dice = random() % 2'000;
    if (dice == 0) {
      workers[which].scan();
    } else if (dice < 20) {
      const std::size_t page = random() % (region.bytes() / kPageBytes);
      const std::size_t count = std::min(1 + random() % 32, region.bytes() / kPageBytes - page);
      region.prefetch(page * kPageBytes, count * kPageBytes, dice < 10 ? Access::kRead : Access::kWrite);
    } else {
      workers[which].one_access();
      ++soaked.accesses;
    }
  }
  for (std::size_t which = 0; which < 2; ++which) {
    workers[which].scan();
    soaked.adds[which] = workers[which].adds;
    soaked.wrong += workers[which].wrong;
    soaked.worst = std::max(soaked.worst, workers[which].worst);
  }
  return soaked;
}

}  // namespace

// `seconds` of accesses by `threads` threads a node to two regions, one of each delivery. At the end totals
// are exact, nobody waits, and the process is not larger than it was after a tenth of the time.
void run_soak(Node& node, const Arguments& arguments) {
  constexpr std::size_t kPages = 128;
  const std::array<Region, 2> regions = {
      node.open_region({.name = "inline", .bytes = kPages * kPageBytes, .delivery = Delivery::kInline}),
      node.open_region({.name = "thread", .bytes = kPages * kPageBytes, .delivery = Delivery::kThread})};
  const Region told = node.open_region({.name = "told", .bytes = 2 * kPageBytes});
  std::atomic<bool> stop{false};
  std::vector<Soaked> soaked(arguments.threads);
  std::vector<std::thread> threads;
  node.barrier();
  for (std::uint32_t i = 0; i < arguments.threads; ++i) {
    const std::uint32_t number = node.id() * arguments.threads + i;
    threads.emplace_back([&, i, number] {
      soaked[i] =
          soak(regions, kFirstOwnWord + number, arguments.config.impairment.seed * 1'000 + number, stop);
    });
  }
  MemoryWatch memory;
  const auto length = std::chrono::seconds(arguments.seconds);
  const Clock::time_point begin = Clock::now();
  for (std::uint64_t second = 1; second <= arguments.seconds; ++second) {
    std::this_thread::sleep_until(begin + std::chrono::seconds(second));
    memory.sample(Clock::now() - begin > length / 10 + std::chrono::seconds(1));
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  memory.tell();
  Soaked all;
  for (const Soaked& one : soaked) {
    all.accesses += one.accesses;
    all.wrong += one.wrong;
    all.worst = std::max(all.worst, one.worst);
    for (std::size_t which = 0; which < 2; ++which) all.adds[which] += one.adds[which];
  }
  report("accesses", all.accesses);
  report("wrong", all.wrong);
  report("worst_us", in_us(all.worst));
  for (std::size_t which = 0; which < 2; ++which) {
    const std::string& name = regions[which].name();
    report(name + ".expected", told_by_all(node, told, which, all.adds[which]));
    report(name + ".total", shared_sum(regions[which]));
    node.barrier();
    const Stats stats = regions[which].stats();
    report(name + ".faults", stats.read_miss.count + stats.write_miss.count + stats.upgrade.count);
    report(name + ".waiting", stats.waiting_fault_count);
  }
  node.barrier();
}

}  // namespace pagewire::e2e
