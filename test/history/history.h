// What clients of a shared memory did and saw, and what follows from it without any search: who wrote each
// value, and which operations on a word must stand side by side in every order that explains the history. The
// two checks, sequential.h and linearizable.h, begin here. Pure; one thread at a time.
//
// Each write puts a value that no other operation writes, so a read names the write that it saw. The order of
// the writes of a word is what is not known, and deciding it is what makes the question NP-hard in general.
// An exchange tells: it returned the value that it replaced, so it stands right after that value's write. A
// plain write begins a new *cluster*: the write, the exchanges that replaced one another after it, and all
// that read their values. Nothing else on that word can come between the operations of a cluster, so in every
// explanation the clusters of a word follow one another as blocks. The word's first value, 0, has one, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace pagewire::history {

using Value = std::uint64_t;
inline constexpr Value kInitialValue = 0;  // of each word; nobody writes it

enum class Kind : std::uint8_t {
  kRead,
  kWrite,                  // a plain store
  kExchange,               // saw `read`, left `written`
  kCompareExchange,        // the same, and `read` was as expected
  kCompareExchangeFailed,  // saw `read`, left it
};

struct Operation {
  Kind kind = Kind::kRead;
  std::uint32_t word = 0;
  Value read = 0;                 // unless kWrite
  Value written = 0;              // unless kRead, kCompareExchangeFailed
  std::int64_t invoked_ns = 0;    // one clock for all clients
  std::int64_t responded_ns = 0;  // at or after invoked_ns, at or before the client's next invoked_ns

  bool reads() const { return kind != Kind::kWrite; }
  bool writes() const { return kind != Kind::kRead && kind != Kind::kCompareExchangeFailed; }
  bool replaces() const { return reads() && writes(); }
  bool operator==(const Operation&) const = default;
};

struct History {
  std::vector<std::vector<Operation>> clients;  // each in the order in which its client did them
};

enum class Verdict : std::uint8_t { kHolds, kViolated, kUndecided };
const char* name_of(Verdict verdict);

// Operations are numbered client after client; the words' first values come after the last one.
using Index = std::uint32_t;
inline constexpr Index kNone = std::numeric_limits<Index>::max();

struct Cluster {
  std::uint32_t word = 0;
  Index head = 0;           // the plain write, or the word's first value
  std::uint32_t count = 0;  // operations in it; a first value is none
};

class Resolved {
 public:
  // Throws std::invalid_argument, saying what and where, if the history is not one: a value written twice, 0
  // written, a client that did two things at once, a word above kWordsMax.
  explicit Resolved(const History& history);
  static constexpr std::uint32_t kWordsMax = 1 << 20;

  // What is wrong already: a value out of thin air or of another word, an update lost between two exchanges,
  // exchanges that replaced one another in a circle. Empty if nothing; only then the rest has its meaning.
  const std::string& violation() const { return violation_; }

  std::uint32_t client_count() const { return static_cast<std::uint32_t>(first_of_.size() - 1); }
  std::uint32_t word_count() const { return word_count_; }
  Index operation_count() const { return operation_count_; }
  Index node_count() const { return static_cast<Index>(operations_.size()); }  // with the first values
  Index first_value(std::uint32_t word) const { return operation_count_ + word; }
  bool is_first_value(Index node) const { return node >= operation_count_; }

  const Operation& at(Index node) const { return operations_[node]; }
  std::uint32_t client_of(Index operation) const { return client_of_[operation]; }
  Index first_of(std::uint32_t client) const { return first_of_[client]; }  // client_count(): one past all
  Index source(Index operation) const { return source_[operation]; }  // whose value it read; kNone: read none
  Index replacer(Index write) const { return replacer_[write]; }      // the exchange that read it, or kNone
  std::span<const Index> readers(Index write) const {                 // that did not replace it
    return {readers_.data() + readers_begin_[write], readers_.data() + readers_begin_[write + 1]};
  }
  const std::vector<Cluster>& clusters() const {
    return clusters_;
  }  // the first word_count() are first values
  std::uint32_t cluster_of(Index node) const { return cluster_of_[node]; }
  std::uint64_t reads_from_count() const { return reads_from_count_; }

  // "client 2 #17  exchange word 3: 41 -> 45  [1,204 .. 1,377 ns]", times since the first operation.
  std::string text(Index node) const;

 private:
  void flatten(const History& history);
  void find_sources();
  void find_replacers();
  void list_readers();
  void find_clusters();

  Index operation_count_ = 0;
  std::uint32_t word_count_ = 0;
  std::int64_t begin_ns_ = 0;
  std::uint64_t reads_from_count_ = 0;
  std::string violation_;
  std::vector<Operation> operations_;
  std::vector<std::uint32_t> client_of_;
  std::vector<Index> first_of_;
  std::vector<Index> source_;
  std::vector<Index> replacer_;
  std::vector<std::uint32_t> readers_begin_;
  std::vector<Index> readers_;
  std::vector<Cluster> clusters_;
  std::vector<std::uint32_t> cluster_of_;
};

}  // namespace pagewire::history
