// A service whose processes count together: counter NODES ID FOLDER, one process a node, FOLDER private to
// the cluster.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <thread>
#include <vector>

#include "pagewire/pagewire.h"

namespace {

constexpr std::uint64_t kAdditions = 1000;
constexpr int kThreads = 2;

int run(std::uint32_t node_count, std::uint32_t id, const std::string& folder) {
  pagewire::Config config = pagewire::Config::local(id, node_count, folder);
  config.cluster = "counter";
  pagewire::Node node(config);
  pagewire::Region region =
      node.open_region({.name = "counter", .bytes = sizeof(std::atomic<std::uint64_t>)});
  std::atomic<std::uint64_t>& counter = region.as<std::atomic<std::uint64_t>>()[0];

  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (std::uint64_t n = 0; n < kAdditions; ++n) counter.fetch_add(1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  node.barrier();

  const std::uint64_t wanted = node.size() * kThreads * kAdditions;
  const std::uint64_t counted = counter.load();
  std::cout << "node " << node.id() << ": " << counted << " of " << wanted << '\n';
  node.barrier();  // nobody leaves while others still look
  return counted == wanted ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 4) {
    std::cerr << "usage: counter NODES ID FOLDER\n";
    return 2;
  }
  try {
    return run(static_cast<std::uint32_t>(std::atoi(arguments[1])),
               static_cast<std::uint32_t>(std::atoi(arguments[2])), arguments[3]);
  } catch (const std::exception& error) {
    std::cerr << "counter: " << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
