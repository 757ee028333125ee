#include "test/history/history.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <unordered_map>

namespace pagewire::history {

namespace {

// 1,234,567
std::string grouped(std::int64_t value) {
  std::string text = std::to_string(value);
  const std::size_t digits_begin = value < 0 ? 1 : 0;
  for (std::size_t place = text.size(); place > digits_begin + 3; place -= 3) text.insert(place - 3, ",");
  return text;
}

[[noreturn]] void refuse(std::size_t client, std::size_t place, const std::string& what) {
  throw std::invalid_argument(fmt::format("not a history: client {} #{} {}", client, place, what));
}

}  // namespace

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kHolds:
      return "holds";
    case Verdict::kViolated:
      return "VIOLATED";
    case Verdict::kUndecided:
      return "undecided";
  }
  return "?";
}

Resolved::Resolved(const History& history) {
  flatten(history);
  find_sources();
  if (violation_.empty()) find_replacers();
  if (violation_.empty()) list_readers();
  if (violation_.empty()) find_clusters();
}

void Resolved::flatten(const History& history) {
  begin_ns_ = std::numeric_limits<std::int64_t>::max();
  for (std::size_t client = 0; client < history.clients.size(); ++client) {
    first_of_.push_back(static_cast<Index>(operations_.size()));
    std::int64_t before = std::numeric_limits<std::int64_t>::min();
    const auto& list = history.clients[client];
    for (std::size_t place = 0; place < list.size(); ++place) {
      const Operation& operation = list[place];
      if (operation.invoked_ns < before) refuse(client, place, "was invoked before the one before responded");
      if (operation.responded_ns < operation.invoked_ns)
        refuse(client, place, "responded before its invocation");
      if (operation.word >= kWordsMax) refuse(client, place, fmt::format("is on word {}", operation.word));
      before = operation.responded_ns;
      begin_ns_ = std::min(begin_ns_, operation.invoked_ns);
      word_count_ = std::max(word_count_, operation.word + 1);
      operations_.push_back(operation);
      client_of_.push_back(static_cast<std::uint32_t>(client));
    }
  }
  first_of_.push_back(static_cast<Index>(operations_.size()));
  operation_count_ = static_cast<Index>(operations_.size());
  for (std::uint32_t word = 0; word < word_count_; ++word) {
    operations_.push_back({.kind = Kind::kWrite,
                           .word = word,
                           .written = kInitialValue,
                           .invoked_ns = std::numeric_limits<std::int64_t>::min(),
                           .responded_ns = std::numeric_limits<std::int64_t>::min()});
  }
}

void Resolved::find_sources() {
  std::unordered_map<Value, Index> writer_of;
  writer_of.reserve(operation_count_);
  for (Index i = 0; i < operation_count_; ++i) {
    const Operation& operation = operations_[i];
    if (!operation.writes()) continue;
    const std::size_t place = i - first_of_[client_of_[i]];
    if (operation.written == kInitialValue)
      refuse(client_of_[i], place, "writes 0, every word's first value");
    if (!writer_of.emplace(operation.written, i).second) {
      refuse(client_of_[i], place, fmt::format("writes {}, which another wrote, too", operation.written));
    }
  }
  source_.assign(operations_.size(), kNone);
  for (Index i = 0; i < operation_count_; ++i) {
    const Operation& operation = operations_[i];
    if (!operation.reads()) continue;
    ++reads_from_count_;
    if (operation.read == kInitialValue) {
      source_[i] = first_value(operation.word);
      continue;
    }
    const auto found = writer_of.find(operation.read);
    if (found == writer_of.end()) {
      violation_ = "a value out of thin air, nobody wrote it:\n  " + text(i) + "\n";
      return;
    }
    if (operations_[found->second].word != operation.word) {
      violation_ = "a value of another word:\n  " + text(found->second) + "\n  " + text(i) + "\n";
      return;
    }
    source_[i] = found->second;
  }
}

void Resolved::find_replacers() {
  replacer_.assign(operations_.size(), kNone);
  for (Index i = 0; i < operation_count_; ++i) {
    if (!operations_[i].replaces()) continue;
    Index& replacer = replacer_[source_[i]];
    if (replacer != kNone) {
      violation_ = "a lost update, both replaced one value:\n  " + text(source_[i]) + "\n  " +
                   text(replacer) + "\n  " + text(i) + "\n";
      return;
    }
    replacer = i;
  }
}

void Resolved::list_readers() {
  readers_begin_.assign(operations_.size() + 1, 0);
  for (Index i = 0; i < operation_count_; ++i) {
    if (!operations_[i].writes()) ++readers_begin_[source_[i] + 1];
  }
  for (std::size_t i = 1; i < readers_begin_.size(); ++i) readers_begin_[i] += readers_begin_[i - 1];
  readers_.resize(readers_begin_.back());
  std::vector<std::uint32_t> next(readers_begin_.begin(), readers_begin_.end() - 1);
  for (Index i = 0; i < operation_count_; ++i) {
    if (!operations_[i].writes()) readers_[next[source_[i]]++] = i;
  }
}

void Resolved::find_clusters() {
  cluster_of_.assign(operations_.size(), kNone);
  const auto gather = [&](Index head) {
    const auto name = static_cast<std::uint32_t>(clusters_.size());
    Cluster cluster{.word = operations_[head].word, .head = head, .count = 0};
    for (Index write = head; write != kNone; write = replacer_[write]) {
      cluster_of_[write] = name;
      for (const Index reader : readers(write)) cluster_of_[reader] = name;
      cluster.count += (is_first_value(write) ? 0 : 1) + static_cast<std::uint32_t>(readers(write).size());
    }
    clusters_.push_back(cluster);
  };
  for (std::uint32_t word = 0; word < word_count_; ++word) gather(first_value(word));
  for (Index i = 0; i < operation_count_; ++i) {
    if (operations_[i].kind == Kind::kWrite) gather(i);
  }
  for (Index i = 0; i < operation_count_; ++i) {
    if (cluster_of_[i] != kNone || !operations_[i].writes()) continue;
    violation_ = "exchanges that replaced one another in a circle:\n";
    Index write = i;
    do {
      violation_ += "  " + text(write) + "\n";
      write = source_[write];
    } while (write != i);
    return;
  }
}

std::string Resolved::text(Index node) const {
  const Operation& operation = operations_[node];
  if (is_first_value(node)) return fmt::format("word {}'s first value, 0", operation.word);
  std::string what;
  switch (operation.kind) {
    case Kind::kRead:
      what = fmt::format("read word {}: {}", operation.word, operation.read);
      break;
    case Kind::kWrite:
      what = fmt::format("write word {}: {}", operation.word, operation.written);
      break;
    case Kind::kExchange:
      what = fmt::format("exchange word {}: {} -> {}", operation.word, operation.read, operation.written);
      break;
    case Kind::kCompareExchange:
      what = fmt::format("compare-exchange word {}: {} -> {}", operation.word, operation.read,
                         operation.written);
      break;
    case Kind::kCompareExchangeFailed:
      what = fmt::format("failed compare-exchange word {}: {}", operation.word, operation.read);
      break;
  }
  return fmt::format("client {} #{}  {}  [{} .. {} ns]", client_of_[node], node - first_of_[client_of_[node]],
                     what, grouped(operation.invoked_ns - begin_ns_),
                     grouped(operation.responded_ns - begin_ns_));
}

}  // namespace pagewire::history
