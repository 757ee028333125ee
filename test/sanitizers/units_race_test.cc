// The tests of what threads share, once more under ThreadSanitizer: this program is made of the ring's, the
// page table's, the histogram's and the doorbell's tests and a copy of dataplane/ compiled with
// -fsanitize=thread. Here is only what shows that the sanitizer is on: uses that break a rule of these parts,
// and must be reported.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "dataplane/page_table.h"
#include "fault/spsc_ring.h"

namespace pagewire {
namespace {

// Runs f on two threads, both at it at once.
template <typename F>
void on_two_threads(F f) {
  std::atomic<int> ready{0};
  const auto body = [&] {
    ready.fetch_add(1, std::memory_order_relaxed);  // relaxed: it must order nothing
    while (ready.load(std::memory_order_relaxed) < 2) std::this_thread::yield();
    f();
  };
  std::thread first(body);
  std::thread second(body);
  first.join();
  second.join();
}

void push_from_two_threads() {
  fault::SpscRing<std::uint64_t> ring(8);  // full at once: then both look again where the consumer is
  on_two_threads([&] {
    for (std::uint64_t i = 0; i < 500; ++i) ring.try_push(i);
  });
}

void write_an_entry_from_two_threads() {
  dataplane::PageTable table(1, [](std::size_t) { return protocol::PageEntry{}; });
  on_two_threads([&] {
    for (std::uint64_t i = 0; i < 500; ++i) {
      table[0].entry().version = protocol::Version{i};
      table[0].publish();
    }
  });
}

TEST(PlantedRaceDeathTest, two_producers_at_a_ring) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(push_from_two_threads(), "data race.*fault/spsc_ring[.]h");
}

TEST(PlantedRaceDeathTest, two_loops_at_a_page) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(write_an_entry_from_two_threads(), "data race.*write_an_entry_from_two_threads");
}

}  // namespace
}  // namespace pagewire
