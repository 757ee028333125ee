// One node of an end-to-end test: what its scenarios share. Each scenario is one function; it prints
// `key=value` lines that the test reads, and returns normally if all is well.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "pagewire/pagewire.h"

namespace pagewire::e2e {

struct Arguments {
  std::string scenario;
  Config config;
  std::uint64_t count = 0;    // how often, how many; the scenario's own
  std::string layout;         // counts: one, page, pages
  std::uint32_t threads = 1;  // of the service, on each node
  std::uint64_t seconds = 10;
};

inline void report(const std::string& key, std::uint64_t value) {
  std::printf("%s=%llu\n", key.c_str(), static_cast<unsigned long long>(value));
  std::fflush(stdout);
}

// The number of messages of a type that the region has sent from this node, or of all for "".
std::uint64_t sent(const Region& region, const std::string& type);

void run_counts(Node& node, const Arguments& arguments);
void run_peterson(Node& node, const Arguments& arguments);
void run_rows(Node& node, const Arguments& arguments);
void run_big(Node& node, const Arguments& arguments);
void run_dead_peer(Node& node, const Arguments& arguments);
void run_syscalls(Node& node, const Arguments& arguments);
void run_mismatch(Node& node, const Arguments& arguments);
void run_blocked_at_end(Node& node, const Arguments& arguments);
void run_multicast(Node& node, const Arguments& arguments);
void run_crowd(Node& node, const Arguments& arguments);
void run_soak(Node& node, const Arguments& arguments);

}  // namespace pagewire::e2e
