// What stands behind Node and Region; not installed.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "dataplane/engine.h"
#include "pagewire/pagewire.h"

namespace pagewire {

struct Node::Impl {
  explicit Impl(Config settings);
  ~Impl();

  Region open_region(const RegionOptions& options);
  void barrier();

  Config config;
  std::size_t port_bytes = 0;
  std::unique_ptr<dataplane::Engine> engine;
  std::mutex open_mutex;  // one open_region at a time
  std::map<std::string, Region> open_regions;
  std::mutex barrier_mutex;  // one barrier at a time

 private:
  void join();
  [[noreturn]] void fail_differing(protocol::NodeId node) const;
};

struct Region::Impl {
  Node::Impl* node = nullptr;
  dataplane::RegionState* state = nullptr;
  std::string name;
  std::size_t bytes = 0;
  std::byte* data = nullptr;
};

// The statistics of the node, or of one of its regions.
Stats collect_stats(const Node::Impl& node, const dataplane::RegionState* only);

// "nodes 1, 3" or "node 2".
std::string name_nodes(protocol::NodeSet nodes);

}  // namespace pagewire
