// A history on disk: one text file a client, so that it can be read, sent along, and changed by hand to see
// what the checks say. Any thread.
//
// A file has lines of a key and a number, then `operations N` and N lines of kind (R read, W write, X
// exchange, C compare-exchange, F failed compare-exchange), word, value read, value written, invoked,
// responded.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "test/history/history.h"

namespace pagewire::history {

struct ClientRecord {
  std::map<std::string, std::uint64_t> facts;  // `client`, `clients`, and what else the run had to say
  std::vector<Operation> operations;
};

std::string file_of(const std::string& folder, std::uint64_t client);

// Throws pagewire::Error.
void write_record(const std::string& folder, const ClientRecord& record);

struct KeptHistory {
  History history;
  std::vector<std::map<std::string, std::uint64_t>> facts;  // by client

  std::uint64_t fact(const std::string& key) const;   // as the first client has it, 0 without
  std::uint64_t total(const std::string& key) const;  // over the clients
};

// The files of all clients of one run. Throws pagewire::Error, with the file and its line.
KeptHistory read_history(const std::string& folder);

}  // namespace pagewire::history
