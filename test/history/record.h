// Records a history by real processes that share a region over memif ports, with or without loss. One thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "test/history/history_file.h"

namespace pagewire::history {

struct RecordOptions {
  std::uint32_t nodes = 3;
  std::uint32_t threads = 1;           // clients of each node
  std::uint64_t operations = 100'000;  // of all clients together
  std::uint32_t words = 12;
  std::uint32_t pages = 4;
  std::uint32_t loops = 1;
  bool inline_delivery = false;
  bool self_driven = false;     // loops without a thread that spins
  std::uint32_t pause_us = 40;  // longest pause between two operations of a client
  std::uint64_t seed = 1;       // of what is done, and of what is lost
  double loss = 0;              // share of frames lost; as many are overtaken, half as many doubled
  std::string keep{};           // a folder for the files; empty: they go when they have been read
};

// Starts the nodes with the program that PAGEWIRE_NODE_PROGRAM names (main.cc), waits for their end and reads
// what they wrote. Whatever goes wrong, nothing is left running. Throws pagewire::Error, with what a node
// that failed has said; also when *stop became true.
KeptHistory record(const RecordOptions& options, const std::atomic<bool>* stop = nullptr);

}  // namespace pagewire::history
