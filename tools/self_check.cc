#include "tools/self_check.h"

#include <fmt/format.h>

#include <atomic>

namespace pagewire::tools {

namespace {

constexpr std::uint64_t kRounds = 100;
constexpr std::size_t kPageBytes = 4096;

struct alignas(kPageBytes) Cell {
  std::atomic<std::uint64_t> value;
};

void expect(const char* what, std::uint64_t seen, std::uint64_t wanted) {
  if (seen == wanted) return;
  throw Error("sharing memory", fmt::format("{} is {} instead of {}", what, seen, wanted),
              "This is a defect of Pagewire: please report it");
}

}  // namespace

void check_sharing(Node& node) {
  // A cell that all add to, and one for each node on a page of its own.
  const Region region =
      node.open_region({.name = "pagewire.check", .bytes = sizeof(Cell) * (1 + node.size())});
  const std::span<Cell> cells = region.as<Cell>();
  for (std::uint64_t i = 0; i < kRounds; ++i) {
    cells[0].value.fetch_add(1);
    cells[1 + node.id()].value.fetch_add(1 + node.id());
  }
  node.barrier();
  expect("the counter of all nodes", cells[0].value.load(), kRounds * node.size());
  for (std::uint32_t id = 0; id < node.size(); ++id) {
    expect(fmt::format("the cell of node {}", id).c_str(), cells[1 + id].value.load(), kRounds * (1 + id));
  }
  node.barrier();  // nobody leaves while others still look
}

}  // namespace pagewire::tools
