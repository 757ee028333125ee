// The demo's work on one node: counting the words of one text together with all other nodes, over shared
// memory. It uses nothing of Pagewire but what a service has. One thread of each node calls count_words().
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "pagewire/pagewire.h"
#include "tools/words.h"

namespace pagewire::tools {

enum class Step : std::uint32_t { kStarting, kJoining, kFilling, kCounting, kChecking, kDone };
const char* name_of(Step step);

// Called by count_words() as it gets on.
using Progress = std::function<void(Step, std::uint32_t percent)>;

// What a node tells node 0, through a shared region: fixed in size.
struct NodeReport {
  Latency read_miss;
  Latency write_miss;
  Latency upgrade;
  std::uint64_t local_count;
  std::uint64_t message_count;
  std::uint64_t repeated_count;  // time-outs that sent something again
  std::uint64_t frame_count;
  std::uint64_t multicast_count;
  std::uint64_t frame_bytes;
  std::uint64_t word_count;  // of its share
};

struct CountResult {
  bool right = false;
  std::vector<std::string> differences;  // the first few, if it is not right
  std::uint64_t text_bytes = 0;
  std::uint64_t word_count = 0;
  std::uint64_t different_word_count = 0;
  std::vector<std::pair<std::string, std::uint64_t>> top_words;  // ten, most frequent first
  std::uint64_t elapsed_ns = 0;  // from the text in the region to the table complete
  std::vector<NodeReport> reports;
};

struct CountOptions {
  std::vector<std::string> files;  // node 0 reads them
  bool corrupt = false;            // the last node adds one word too many: to see that it is found
};

// Node 0's preparation, before it joins: the text and its count made without Pagewire. Throws Error.
struct Expected {
  std::string text;
  WordCounts counts;
};
Expected prepare(const std::vector<std::string>& files);

// All nodes call it together; `expected` is node 0's and null elsewhere. The result is node 0's; elsewhere it
// is empty and right. Throws Error.
CountResult count_words(Node& node, const Expected* expected, bool corrupt, const Progress& progress);

// The verdict, the top words and the tables, as they are printed.
std::string text_of(const CountResult& result);

}  // namespace pagewire::tools
