// Pagewire: memory shared between processes and machines with plain loads and stores.
//
//   pagewire::Node node(pagewire::Config::from_file("cluster.toml"));
//   pagewire::Region region = node.open_region({.name = "grid", .bytes = 1 << 20});
//   std::span<double> cells = region.as<double>();  // the same address on every node
//   cells[42] += 1.0;
//   node.barrier();
//
// Any thread may load and store in a region and call any function here; opening the same region, and
// barriers, are for one thread of a node at a time. Across nodes memory is sequentially consistent, so
// std::atomic works on it. Not covered: atomic::wait and pthread objects (futexes do not cross nodes), fork
// (a child gets SIGSEGV), and pages pinned for devices or io_uring.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "pagewire/config.h"
#include "pagewire/error.h"
#include "pagewire/stats.h"

namespace pagewire {

enum class Access : std::uint8_t { kRead = 1, kWrite = 2 };

// Who owns pages that nobody has used yet.
enum class Placement : std::uint8_t {
  kCyclic = 0,      // page i belongs to node i mod n
  kBlock = 1,       // n contiguous ranges
  kFirstTouch = 2,  // whoever uses it first
  kOneNode = 3,     // RegionOptions::placement_node
};

struct RegionOptions {
  std::string name;       // 1..48 characters
  std::size_t bytes = 0;  // rounded up to whole pages of 4,096
  Placement placement = Placement::kCyclic;
  std::uint32_t placement_node = 0;
  std::optional<Delivery> delivery = {};  // on this node; absent: Config::delivery
};

// Pages that stay here as long as it lives, and no longer than was asked for. Region::hold() makes it; one
// thread.
class Hold {
 public:
  ~Hold();
  Hold(Hold&& other) noexcept;
  Hold& operator=(Hold&&) = delete;
  // False if the pages could not all be had in time: nothing is promised then.
  bool held() const { return held_; }

  struct Impl;
  Hold(std::unique_ptr<Impl> impl, bool held);

 private:
  std::unique_ptr<Impl> impl_;
  bool held_;
};

// A handle to a shared range; copies name the same range. The range lives as long as its Node.
class Region {
 public:
  const std::string& name() const;
  std::byte* data() const;    // the same address on every node
  std::size_t bytes() const;  // as asked for, not rounded
  std::span<std::byte> span() const { return {data(), bytes()}; }
  template <typename T>
  std::span<T> as() const {
    return {reinterpret_cast<T*>(data()), bytes() / sizeof(T)};
  }

  // Asks for the pages of [offset, offset + bytes) ahead of their use, and returns at once. Throws Error if
  // the range is not within the region.
  void prefetch(std::size_t offset, std::size_t bytes, Access access) const;

  // Brings the pages of [offset, offset + bytes) and keeps them here, with that access, until the Hold is
  // gone, at the latest until `at_most` from now: others that want them wait so long. For system calls on
  // pages that may not be here: read(fd, page, n) would give EFAULT with inline delivery. Blocks until the
  // pages are here or the time is up. Throws Error if the range is not within the region.
  Hold hold(std::size_t offset, std::size_t bytes, Access access, std::chrono::microseconds at_most) const;

  Stats stats() const;

  struct Impl;
  explicit Region(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

class Node {
 public:
  // Joins the cluster; returns when all nodes are there. Throws Error (nodes that did not come are named).
  explicit Node(const Config& config);
  // Leaves. Threads still blocked on a region, and later accesses, get SIGBUS.
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Every node opens a region by name; returns when all have. Throws Error on every node if size or options
  // differ.
  Region open_region(const RegionOptions& options);

  // Returns when every node has called it as often as this one. Throws Error naming the nodes that fell
  // silent.
  void barrier();

  std::uint32_t id() const;
  std::uint32_t size() const;
  Stats stats() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace pagewire
