// What the nodes of the end-to-end tests do when all goes well: counting, locking, the ten rows, a large
// region.
#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "test/e2e/node_main.h"

namespace pagewire::e2e {

namespace {
constexpr std::size_t kPageBytes = 4096;
using Word = std::atomic<std::uint64_t>;

Word& word(const Region& region, std::size_t page, std::size_t index = 0) {
  return region.as<Word>()[page * (kPageBytes / sizeof(Word)) + index];
}

// A load that the compiler keeps.
std::uint64_t look(const Region& region, std::size_t page) { return word(region, page).load(); }
}  // namespace

// Every node adds `count` times to one word and `count` times, in turn, to 64 others; the totals must be
// exact.
void run_counts(Node& node, const Arguments& arguments) {
  const Region region = node.open_region({.name = "counts", .bytes = 65 * kPageBytes});
  const auto spread = [&](std::size_t i) -> Word& {
    return arguments.layout == "page" ? word(region, 1, i) : word(region, 1 + i);
  };
  for (std::uint64_t i = 0; i < arguments.count; ++i) {
    if (arguments.layout == "one") {
      word(region, 0).fetch_add(1);
    } else {
      spread((i * 7 + node.id()) % 64).fetch_add(1);
    }
  }
  node.barrier();
  std::uint64_t total = arguments.layout == "one" ? word(region, 0).load() : 0;
  if (arguments.layout != "one") {
    for (std::size_t i = 0; i < 64; ++i) total += spread(i).load();
  }
  report("total", total);
  node.barrier();
}

// Peterson's lock between nodes 0 and 1 with sequentially consistent atomics: never both inside, and the
// plain counter that it guards loses nothing.
void run_peterson(Node& node, const Arguments& arguments) {
  const Region region = node.open_region({.name = "lock", .bytes = 6 * kPageBytes});
  const std::size_t stride = arguments.layout == "pages" ? 1 : 0;  // all on one page, or each on its own
  Word& my_flag = word(region, node.id() * stride, node.id());
  Word& other_flag = word(region, (1 - node.id()) * stride, 1 - node.id());
  Word& turn = word(region, 2 * stride, 2);
  Word& inside = word(region, 3 * stride, 3);
  auto& guarded = region.as<std::uint64_t>()[3 * stride * (kPageBytes / 8) + 4];
  auto& last_inside = region.as<std::uint64_t>()[3 * stride * (kPageBytes / 8) + 5];
  // So that neither runs through before the other has begun: nobody is more than this many entries ahead.
  constexpr std::uint64_t kAhead = 200;
  Word& my_progress = word(region, 4 + node.id());
  Word& other_progress = word(region, 5 - node.id());
  std::uint64_t violations = 0;
  std::uint64_t switches = 0;  // entries right after one of the other node
  node.barrier();
  for (std::uint64_t i = 0; i < arguments.count; ++i) {
    if (i % (kAhead / 2) == 0) {
      my_progress.store(i);
      while (i > other_progress.load() + kAhead) std::this_thread::yield();
    }
    my_flag.store(1);
    turn.store(1 - node.id());
    for (int spins = 0; other_flag.load() == 1 && turn.load() == 1 - node.id(); ++spins) {
      if (spins % 64 == 63)
        std::this_thread::yield();  // with as many spinners as cores the loops wait for a tick
    }
    if (inside.fetch_add(1) != 0) ++violations;
    guarded = guarded + 1;
    switches += last_inside != node.id() + 1 ? 1 : 0;
    last_inside = node.id() + 1;
    if (inside.fetch_sub(1) != 1) ++violations;
    my_flag.store(0);
  }
  my_progress.store(arguments.count);
  node.barrier();
  report("violations", violations);
  report("switches", switches);
  report("total", guarded);
  node.barrier();
}

// The ten rows of the state table, seen from node 0, with nodes 1 and 2 as the others. After each row every
// node reports what it has sent meanwhile.
void run_rows(Node& node, const Arguments&) {
  const Region mine = node.open_region(
      {.name = "mine", .bytes = 16 * kPageBytes, .placement = Placement::kOneNode, .placement_node = 0});
  const Region theirs = node.open_region(
      {.name = "theirs", .bytes = 16 * kPageBytes, .placement = Placement::kOneNode, .placement_node = 1});
  const auto on = [&](std::uint32_t who, const std::function<void()>& what) {
    if (node.id() == who) what();
    node.barrier();
  };
  const auto row = [&](int number, const Region& region, const std::function<void()>& what) {
    const Stats before = region.stats();
    node.barrier();
    on(0, what);
    node.barrier();
    const Stats after = region.stats();
    const std::string prefix = "row" + std::to_string(number) + ".";
    for (std::size_t i = 0; i < after.sent_messages.size(); ++i) {
      const std::uint64_t sent = after.sent_messages[i].count - before.sent_messages[i].count;
      if (sent > 0) report(prefix + after.sent_messages[i].name, sent);
    }
    if (node.id() == 0)
      report(prefix + "bytes_seen", after.received_message_count - before.received_message_count);
    node.barrier();
  };
  std::uint64_t wrong = 0;
  const auto expect = [&](std::uint64_t seen, std::uint64_t wanted) { wrong += seen != wanted ? 1 : 0; };

  on(0, [&] { look(mine, 1); });
  row(1, mine, [&] { expect(look(mine, 1), 0); });
  on(0, [&] { word(mine, 2).store(22); });
  row(2, mine, [&] { expect(look(mine, 2), 22); });
  on(0, [&] { word(mine, 3).store(33); });
  on(1, [&] { expect(look(mine, 3), 33); });
  on(2, [&] { expect(look(mine, 3), 33); });
  row(3, mine, [&] { expect(look(mine, 3), 33); });
  on(1, [&] { word(theirs, 4).store(44); });
  on(0, [&] { expect(look(theirs, 4), 44); });
  row(4, theirs, [&] { expect(look(theirs, 4), 44); });
  on(1, [&] { word(theirs, 5).store(55); });
  on(2, [&] { expect(look(theirs, 5), 55); });
  row(5, theirs, [&] { expect(look(theirs, 5), 55); });
  on(1, [&] { word(theirs, 6).store(66); });
  row(6, theirs, [&] { expect(look(theirs, 6), 66); });
  row(7, mine, [&] { word(mine, 2).store(77); });
  on(0, [&] { word(mine, 8).store(8); });
  on(1, [&] { expect(look(mine, 8), 8); });
  on(2, [&] { expect(look(mine, 8), 8); });
  row(8, mine, [&] { word(mine, 8).store(88); });
  on(1, [&] { expect(look(mine, 8), 88); });
  on(1, [&] { word(theirs, 9).store(9); });
  on(0, [&] { expect(look(theirs, 9), 9); });
  on(2, [&] { expect(look(theirs, 9), 9); });
  row(9, theirs, [&] { word(theirs, 9).fetch_add(90); });
  on(1, [&] { expect(look(theirs, 9), 99); });
  on(1, [&] { word(theirs, 10).store(10); });
  on(2, [&] { expect(look(theirs, 10), 10); });
  row(10, theirs, [&] { word(theirs, 10).fetch_add(100); });
  on(2, [&] { expect(look(theirs, 10), 110); });
  report("wrong", wrong);
}

namespace {
// Bytes of memory that this process has to itself, of memory shared with others its part: a page that is
// mapped twice here counts once.
std::uint64_t own_bytes() {
  std::FILE* file = std::fopen("/proc/self/smaps_rollup", "r");
  std::uint64_t total_kb = 0;
  char line[256];
  while (file != nullptr && std::fgets(line, sizeof(line), file) != nullptr) {
    unsigned long long kb = 0;
    if (std::sscanf(line, "Pss_Shmem: %llu kB", &kb) == 1 ||
        std::sscanf(line, "Pss_Anon: %llu kB", &kb) == 1) {
      total_kb += kb;
    }
  }
  if (file != nullptr) std::fclose(file);
  return total_kb * 1024;
}
}  // namespace

// `count` MB written by node 0 and read by the others: right, and the memory is the region once and a little
// a page.
void run_big(Node& node, const Arguments& arguments) {
  const Region region = node.open_region({.name = "big", .bytes = arguments.count << 20});
  const auto words = region.as<std::uint64_t>();
  if (node.id() == 0) {
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = i * 0x9e3779b97f4a7c15ULL;
  }
  node.barrier();
  std::uint64_t wrong = 0;
  if (node.id() != 0) {
    for (std::size_t i = 0; i < words.size(); ++i) wrong += words[i] != i * 0x9e3779b97f4a7c15ULL ? 1 : 0;
  }
  report("wrong", wrong);
  report("own_bytes", own_bytes());
  node.barrier();
}

// Node 1 reads `count` pages of which it does not know the owner: each copy request must leave as one frame
// to all.
void run_multicast(Node& node, const Arguments& arguments) {
  const Region region = node.open_region(
      {.name = "wander", .bytes = arguments.count * kPageBytes, .placement = Placement::kFirstTouch});
  for (std::size_t page = 0; node.id() == 2 && page < arguments.count; ++page) word(region, page).store(7);
  node.barrier();
  const Stats before = node.stats();
  std::uint64_t seen = 0;
  for (std::size_t page = 0; node.id() == 1 && page < arguments.count; ++page) seen += look(region, page);
  const Stats after = node.stats();
  report("seen", seen);
  report("copy_requests", sent(region, "copy_request"));
  report("multicast_frames", after.sent_multicast_count - before.sent_multicast_count);
  report("frames", after.sent_frame_count - before.sent_frame_count);
  node.barrier();
}

}  // namespace pagewire::e2e
