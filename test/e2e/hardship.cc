// What the nodes of the end-to-end tests do when something goes wrong: a dead peer, options that differ, an
// end while threads wait, system calls on region memory.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <memory>
#include <thread>

#include "test/e2e/node_main.h"

namespace pagewire::e2e {

namespace {
constexpr std::size_t kPageBytes = 4096;
using Word = std::atomic<std::uint64_t>;
Word& first_word(const Region& region, std::size_t page) {
  return region.as<Word>()[page * (kPageBytes / sizeof(Word))];
}
}  // namespace

// The last node tells its process id and waits to be killed. The others go on with what does not need it; one
// thread of node 0 needs one of its pages and waits; statistics name who is silent.
void run_dead_peer(Node& node, const Arguments&) {
  const std::uint32_t victim = node.size() - 1;
  const Region region = node.open_region(
      {.name = "page", .bytes = 64 * kPageBytes, .placement = Placement::kOneNode, .placement_node = victim});
  const Region ours = node.open_region(
      {.name = "ours", .bytes = 64 * kPageBytes, .placement = Placement::kOneNode, .placement_node = 0});
  std::atomic<bool> stop{false};
  std::thread load([&] {  // keeps all links busy at the moment of death
    for (std::uint64_t i = 0; !stop.load(); ++i) first_word(ours, i % 32).fetch_add(1);
  });
  node.barrier();
  if (node.id() == victim) {  // it may die once the others have passed the barrier
    while (first_word(ours, 60).load() + first_word(ours, 61).load() < 2) std::this_thread::yield();
    report("victim_ready", 1);
    for (;;) pause();
  }
  first_word(ours, 60 + node.id()).store(1);
  while (node.stats().silent_nodes.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  report("silent", node.stats().silent_nodes.front());
  if (node.id() == 0) {
    std::thread([region] { first_word(region, 40).fetch_add(1); }).detach();  // waits for ever
    while (region.stats().waiting_fault_count == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    report("waits", region.stats().waiting_fault_count);
  }
  const std::uint64_t before = first_word(ours, 50).load();
  std::uint64_t done = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  while (std::chrono::steady_clock::now() <
         until) {  // the survivors write by turns; the victim never had this page
    first_word(ours, 50).fetch_add(1);
    ++done;
  }
  report("went_on", done > 0 && first_word(ours, 50).load() >= before + done ? 1 : 0);
  stop.store(true);
  load.detach();  // it may itself wait for a page that died with the victim
  report("finished", 1);
  for (;;) pause();  // the other survivor may still need our pages: the test ends us both
}

// read(2) and write(2) with a buffer in the region, on pages that are not here.
void run_syscalls(Node& node, const Arguments&) {
  const Region region = node.open_region(
      {.name = "files", .bytes = 8 * kPageBytes, .placement = Placement::kOneNode, .placement_node = 0});
  if (node.id() == 0) std::memset(region.data(), 'x', 4 * kPageBytes);
  node.barrier();
  if (node.id() == 1) {
    int ends[2];
    if (pipe(ends) != 0) throw Error("pipe", std::strerror(errno), "");
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 16);
    report("written", static_cast<std::uint64_t>(write(ends[1], region.data(), 3 * kPageBytes)));
    report("read", static_cast<std::uint64_t>(read(ends[0], region.data() + 4 * kPageBytes, 3 * kPageBytes)));
    close(ends[0]);
    close(ends[1]);
  }
  node.barrier();
  if (node.id() == 0)
    report("same", std::memcmp(region.data(), region.data() + 4 * kPageBytes, 3 * kPageBytes) == 0 ? 1 : 0);
  node.barrier();
}

// Two nodes open one name with different sizes: an error on both, with both values; then they agree and go
// on.
void run_mismatch(Node& node, const Arguments&) {
  try {
    node.open_region({.name = "grid", .bytes = (node.id() + 1) * kPageBytes});
    report("no_error", 1);
  } catch (const Error& error) {
    std::printf("mismatch=%s\n", error.what());
  }
  node.barrier();
  const Region region = node.open_region({.name = "other", .bytes = kPageBytes});
  first_word(region, 0).fetch_add(1);
  node.barrier();
  report("total", first_word(region, 0).load());
  node.barrier();
}

namespace {
sigjmp_buf bus_jump;
void on_bus(int) { siglongjmp(bus_jump, 1); }
}  // namespace

// A thread is blocked on a page of a stopped peer when its own node is destroyed: SIGBUS, not a zero.
void run_blocked_at_end(Node& node, const Arguments&) {
  // Before the region, so that with inline delivery it is the handler of before, to which the end is passed
  // on.
  std::signal(SIGBUS, on_bus);
  const Region warm = node.open_region(
      {.name = "warm", .bytes = 2 * kPageBytes, .placement = Placement::kOneNode, .placement_node = 1});
  if (node.id() == 0) first_word(warm, 1).store(1);
  if (node.id() == 1) {
    while (first_word(warm, 1).load() == 0) std::this_thread::yield();
    report("victim_ready", 1);
    for (;;) pause();
  }
  while (node.stats().silent_nodes.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  // The blocked thread outlives the node, which our caller destroys after we return.
  const Region* region = &warm;
  static std::atomic<int> outcome{0};
  auto* target = &first_word(*region, 0);
  static std::thread blocked([target] {
    if (sigsetjmp(bus_jump, 1) == 0) {
      outcome.store(target->load() == 0 ? 2 : 3);
    } else {
      outcome.store(1);
    }
  });
  static struct Check {
    ~Check() {  // after the node is gone
      blocked.join();
      report("outcome", static_cast<std::uint64_t>(outcome.load()));
    }
  } check;
  while (warm.stats().waiting_fault_count == 0 && outcome.load() == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  report("waits", warm.stats().waiting_fault_count);
}

}  // namespace pagewire::e2e
