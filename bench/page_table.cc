// Which container the page table is: nanoseconds from a page's number to what is published of the page, and
// bytes a page, for the candidates of oneTBB side by side. What dataplane/page_table.h uses is
// concurrent_vector; vector is the floor: a plain array, which nobody may grow while others read it.
//
// A look-up finds the slot and loads its published word. The next one starts only when that word is there, so
// a figure is a latency, with the misses of cache and address translation that the table's size brings, and
// not what a processor can overlap. Columns: with two threads read "CPU", which is what a look-up costs a
// thread; "Time" is the wall's clock. In with_updates, another thread all the while publishes random pages,
// as a loop does, through what the container demands of a writer (concurrent_hash_map: the element's lock);
// updates_per_s says how busy it was. All tables are filled before, in pages' order, told their size ahead
// where the container can be, and use their default hash. bytes_per_page: how much the resident memory of a
// fresh process grew by filling the table; an entry itself is sizeof(PageSlot) of it.
#include "dataplane/page_table.h"

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <tbb/concurrent_hash_map.h>
#include <tbb/concurrent_unordered_map.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/google_main.h"

namespace pagewire::bench {

namespace {

using dataplane::PageSlot;
using dataplane::PageSummary;
using Index = std::uint32_t;

constexpr std::array<Index, 2> kPageCounts = {16'384, 1'048'576};  // powers of two: 64 MB and 4 GB of pages
constexpr const char* kMeasureFlag = "--measure-bytes";            // of this program, started by itself

protocol::PageEntry initial_entry(std::size_t page) {
  const protocol::NodeId owner{static_cast<std::uint8_t>(page % 3)};
  return protocol::initial_entry(protocol::NodeId{0}, owner, protocol::Placement::kCyclic);
}

// What the page's loop does after a transition.
void change(PageSlot& slot) {
  slot.entry().version.value ^= 1;
  slot.publish();
}

// ---- the candidates: fill, look up from any thread, update from one thread
// -----------------------------------------

struct Vector {
  static constexpr const char* kName = "vector";
  explicit Vector(Index pages) {
    slots.reserve(pages);
    for (Index i = 0; i < pages; ++i) slots.emplace_back(initial_entry(i));
  }
  PageSummary look_up(Index page) const { return slots[page].summary(); }
  void update(Index page) { change(slots[page]); }
  std::vector<PageSlot> slots;
};

struct ConcurrentVector {
  static constexpr const char* kName = "concurrent_vector";
  explicit ConcurrentVector(Index pages) : table(pages, initial_entry) {}
  PageSummary look_up(Index page) const { return table[page].summary(); }
  void update(Index page) { change(table[page]); }
  dataplane::PageTable table;
};

struct ConcurrentUnorderedMap {
  static constexpr const char* kName = "concurrent_unordered_map";
  explicit ConcurrentUnorderedMap(Index pages) {
    map.reserve(pages);
    for (Index i = 0; i < pages; ++i) map.emplace(i, PageSlot(initial_entry(i)));
  }
  PageSummary look_up(Index page) const { return map.find(page)->second.summary(); }
  void update(Index page) { change(map.find(page)->second); }
  tbb::concurrent_unordered_map<Index, PageSlot> map;
};

struct ConcurrentHashMap {
  static constexpr const char* kName = "concurrent_hash_map";
  using Map = tbb::concurrent_hash_map<Index, PageSlot>;
  explicit ConcurrentHashMap(Index pages) : map(pages) {
    for (Index i = 0; i < pages; ++i) map.emplace(i, PageSlot(initial_entry(i)));
  }
  PageSummary look_up(Index page) const {
    Map::const_accessor found;
    map.find(found, page);
    return found->second.summary();
  }
  void update(Index page) {
    Map::accessor found;
    map.find(found, page);
    change(found->second);
  }
  Map map;
};

// ---- bytes a page
// --------------------------------------------------------------------------------------------------

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total_pages = 0;
  std::size_t resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

template <typename Table>
std::size_t grown_by(Index pages) {
  { const Table warm_up(64); }  // the allocator's own beginnings
  const std::size_t before = resident_bytes();
  const Table table(pages);
  return resident_bytes() - before;
}

// In the process that was started for it: prints the bytes. False if the name is of no candidate.
bool print_grown_by(const std::string& name, Index pages) {
  ::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);  // else memory comes in steps of 2 MB
  std::size_t bytes = 0;
  if (name == Vector::kName) bytes = grown_by<Vector>(pages);
  if (name == ConcurrentVector::kName) bytes = grown_by<ConcurrentVector>(pages);
  if (name == ConcurrentUnorderedMap::kName) bytes = grown_by<ConcurrentUnorderedMap>(pages);
  if (name == ConcurrentHashMap::kName) bytes = grown_by<ConcurrentHashMap>(pages);
  std::printf("%zu\n", bytes);
  return bytes > 0;
}

// Starts this program for one table; memory that an earlier table left behind would hide what this one takes.
// Negative if that failed.
double measure_bytes_per_page(const char* name, Index pages) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return -1;
  const std::string count = std::to_string(pages);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::execl("/proc/self/exe", "page_table", kMeasureFlag, name, count.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  std::array<char, 32> text{};
  const ssize_t got = child > 0 ? ::read(ends[0], text.data(), text.size() - 1) : -1;
  ::close(ends[0]);
  int status = -1;
  if (child > 0) ::waitpid(child, &status, 0);
  std::size_t bytes = 0;
  if (got <= 0 || status != 0 || std::from_chars(text.data(), text.data() + got, bytes).ec != std::errc())
    return -1;
  return static_cast<double>(bytes) / pages;
}

double bytes_per_page(const char* name, Index pages) {
  static std::map<std::pair<std::string, Index>, double> known;
  const auto [at, is_new] = known.try_emplace({name, pages}, 0.0);
  if (is_new) at->second = measure_bytes_per_page(name, pages);
  return at->second;
}

// ---- the look-ups
// --------------------------------------------------------------------------------------------------

// The table under test. One at a time: the large ones take some 100 MB each.
template <typename Table>
struct Holder {
  std::unique_ptr<Table> table;
  Index pages = 0;
};
template <typename Table>
Holder<Table> current;
void (*drop_current)() = [] {};

template <typename Table>
Table& table_of(Index pages) {
  Holder<Table>& holder = current<Table>;
  if (holder.table == nullptr || holder.pages != pages) {
    drop_current();
    holder.table = std::make_unique<Table>(pages);
    holder.pages = pages;
    drop_current = [] { current<Table>.table.reset(); };
  }
  return *holder.table;
}

enum class Order : std::uint8_t { kRandom, kSequential };

// The numbers of the pages to look at.
class Walk {
 public:
  Walk(Order order, Index pages, int thread)
      : order_(order),
        shift_(64 - std::countr_zero(pages)),
        mask_(pages - 1),
        state_(static_cast<std::uint64_t>(thread) << 32 | 12345) {}

  // `previous` is what the last look-up gave; nothing follows from it but that this one has to wait for it.
  Index next(PageSummary previous) {
    const Index wait = previous.version >> 31;  // versions here stay small
    if (order_ == Order::kSequential) return (static_cast<Index>(++state_) + wait) & mask_;
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;  // Knuth's generator, its high bits
    return (static_cast<Index>(state_ >> shift_) + wait) & mask_;
  }

 private:
  Order order_;
  int shift_;
  Index mask_;
  std::uint64_t state_;
};

template <typename Table>
void look_up(benchmark::State& state, Index pages, Order order) {
  if (state.thread_index() == 0) {
    table_of<Table>(pages);
    state.counters["bytes_per_page"] = bytes_per_page(Table::kName, pages);
  }
  Walk walk(order, pages, state.thread_index());
  PageSummary seen;
  for (auto _ : state) {
    seen = current<Table>.table->look_up(walk.next(seen));
    benchmark::DoNotOptimize(seen);
  }
}

template <typename Table>
void look_up_with_updates(benchmark::State& state, Index pages, Order order) {
  Table& table = table_of<Table>(pages);
  state.counters["bytes_per_page"] = bytes_per_page(Table::kName, pages);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> updates{0};
  std::thread updater([&] {
    Walk walk(Order::kRandom, pages, 1);
    while (!stop.load(std::memory_order_relaxed)) {
      table.update(walk.next(PageSummary{}));
      updates.fetch_add(1, std::memory_order_relaxed);
    }
  });
  while (updates.load() == 0) std::this_thread::yield();
  const std::uint64_t updates_before = updates.load();
  const auto started = std::chrono::steady_clock::now();
  Walk walk(order, pages, 0);
  PageSummary seen;
  for (auto _ : state) {
    seen = table.look_up(walk.next(seen));
    benchmark::DoNotOptimize(seen);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
  state.counters["updates_per_s"] = static_cast<double>(updates.load() - updates_before) / seconds.count();
  stop.store(true);
  updater.join();
}

template <typename Table>
void register_candidate(Index pages) {
  for (const Order order : {Order::kRandom, Order::kSequential}) {
    const std::string name = std::string(order == Order::kRandom ? "random/" : "sequential/") +
                             std::to_string(pages) + "/" + Table::kName;
    const auto plain = [=](benchmark::State& state) { look_up<Table>(state, pages, order); };
    const auto updated = [=](benchmark::State& state) { look_up_with_updates<Table>(state, pages, order); };
    benchmark::RegisterBenchmark(name.c_str(), plain)->Threads(1)->Threads(2);
    if (order == Order::kRandom) benchmark::RegisterBenchmark((name + "/with_updates").c_str(), updated);
  }
}

void register_all() {
  for (const Index pages : kPageCounts) {
    register_candidate<Vector>(pages);
    register_candidate<ConcurrentVector>(pages);
    register_candidate<ConcurrentUnorderedMap>(pages);
    register_candidate<ConcurrentHashMap>(pages);
  }
}

int run(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], kMeasureFlag) == 0) {
    return print_grown_by(argv[2], static_cast<Index>(std::strtoul(argv[3], nullptr, 10))) ? 0 : 1;
  }
  register_all();
  const int code = run_google_benchmarks(argc, argv);
  drop_current();
  return code;
}

}  // namespace

}  // namespace pagewire::bench

int main(int argc, char** argv) { return pagewire::bench::run(argc, argv); }
