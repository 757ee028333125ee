#include "test/history/machines.h"

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <utility>

namespace pagewire::history {

namespace {

using Random = std::mt19937_64;
std::uint32_t below(Random& random, std::uint32_t bound) {
  return static_cast<std::uint32_t>(random() % bound);
}

class Machine {
 public:
  Machine(const Load& load, Random& random)
      : load_(load),
        random_(random),
        words_(load.words, kInitialValue),
        buffers_(load.clients),
        copies_(load.clients) {}

  void carry_out(std::uint32_t client, Operation& operation) {
    if (load_.memory == Memory::kStoreBuffers && operation.kind == Kind::kWrite) {
      buffers_[client].emplace_back(operation.word, operation.written);
      return;
    }
    if (operation.writes()) flush(client);
    if (operation.reads()) operation.read = look(client, operation.word);
    if (operation.writes()) write(client, operation.word, operation.written);
  }
  // Between operations.
  void settle() {
    for (auto& buffer : buffers_) {
      if (!buffer.empty() && below(random_, 8) == 0) flush_one(buffer);
    }
    for (auto& copies : copies_) {
      if (!copies.empty() && below(random_, 6) == 0) copies.clear();
    }
  }

 private:
  using Buffer = std::deque<std::pair<std::uint32_t, Value>>;
  void flush_one(Buffer& buffer) {
    words_[buffer.front().first] = buffer.front().second;
    buffer.pop_front();
  }
  void flush(std::uint32_t client) {
    while (!buffers_[client].empty()) flush_one(buffers_[client]);
  }
  Value look(std::uint32_t client, std::uint32_t word) {
    for (auto store = buffers_[client].rbegin(); store != buffers_[client].rend(); ++store) {
      if (store->first == word) return store->second;
    }
    if (load_.memory != Memory::kLateInvalidate) return words_[word];
    return copies_[client].emplace(word, words_[word]).first->second;
  }
  void write(std::uint32_t client, std::uint32_t word, Value value) {
    words_[word] = value;
    copies_[client][word] = value;
  }

  const Load& load_;
  Random& random_;
  std::vector<Value> words_;
  std::vector<Buffer> buffers_;
  std::vector<std::map<std::uint32_t, Value>> copies_;
};

// Each client's operations took effect at its points; widens them to times that do not overlap in one client.
void widen(std::vector<Operation>& list, Random& random) {
  std::int64_t free_from = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::int64_t point = list[i].invoked_ns;
    const std::int64_t next = i + 1 < list.size() ? list[i + 1].invoked_ns : point + 100;
    const auto within = [&](std::int64_t from, std::int64_t to) {
      return from + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(to - from + 1));
    };
    list[i].invoked_ns = within(free_from, point);
    list[i].responded_ns = within(point, next - 1);
    free_from = list[i].responded_ns + 1;
  }
}

class Trying {
 public:
  Trying(const History& history, bool by_clock) : history_(history), by_clock_(by_clock) {
    place_.assign(history.clients.size(), 0);
  }

  bool run() {
    bool any = false;
    for (std::size_t client = 0; client < place_.size(); ++client) {
      if (place_[client] == history_.clients[client].size()) continue;
      any = true;
      const Operation& operation = history_.clients[client][place_[client]];
      if (operation.reads() && memory_[operation.word] != operation.read) continue;
      if (by_clock_ && another_ended_before(operation)) continue;
      const Value before = memory_[operation.word];
      if (operation.writes()) memory_[operation.word] = operation.written;
      ++place_[client];
      if (run()) return true;
      --place_[client];
      memory_[operation.word] = before;
    }
    return !any;
  }

 private:
  bool another_ended_before(const Operation& operation) const {
    for (std::size_t client = 0; client < place_.size(); ++client) {
      const auto& list = history_.clients[client];
      if (place_[client] < list.size() && list[place_[client]].responded_ns < operation.invoked_ns)
        return true;
    }
    return false;
  }

  const History& history_;
  const bool by_clock_;
  std::vector<std::size_t> place_;
  std::map<std::uint32_t, Value> memory_;
};

}  // namespace

History simulate(const Load& load, std::uint64_t seed) {
  Random random(seed);
  Machine machine(load, random);
  History history;
  history.clients.resize(load.clients);
  for (std::uint32_t i = 0; i < load.operations; ++i) {
    const std::uint32_t client = below(random, load.clients);
    Operation operation{.kind = Kind::kRead, .word = below(random, load.words)};
    if (below(random, 2) == 0) {
      operation.kind = below(random, 100) < load.plain_percent ? Kind::kWrite : Kind::kExchange;
      operation.written = i + 1;
    }
    machine.carry_out(client, operation);
    operation.invoked_ns = 100 * (i + 1) + 50;
    history.clients[client].push_back(operation);
    machine.settle();
  }
  for (auto& list : history.clients) widen(list, random);
  return history;
}

History random_history(std::uint64_t seed) {
  Random random(seed);
  const std::uint32_t clients = 2 + below(random, 3);
  const std::uint32_t words = 1 + below(random, 3);
  const std::uint32_t length = 2 + below(random, 4);
  const std::uint32_t exchanges = below(random, 4);  // of the writes, so many in 4
  History history;
  history.clients.resize(clients);
  std::vector<std::vector<Value>> values(words, {kInitialValue});
  Value next = 1;
  for (auto& list : history.clients) {
    std::int64_t clock = below(random, 10);
    for (std::uint32_t i = 0; i < length; ++i) {
      Operation operation{.kind = Kind::kRead, .word = below(random, words), .invoked_ns = clock};
      if (below(random, 2) == 0) {
        operation.kind = below(random, 4) < exchanges ? Kind::kExchange : Kind::kWrite;
        operation.written = next++;
        values[operation.word].push_back(operation.written);
      }
      operation.responded_ns = clock + below(random, 40);
      clock = operation.responded_ns + 1 + below(random, 5);
      list.push_back(operation);
    }
  }
  for (auto& list : history.clients) {
    for (Operation& operation : list) {
      const auto& choice = values[operation.word];
      if (operation.reads())
        operation.read = choice[below(random, static_cast<std::uint32_t>(choice.size()))];
    }
  }
  return history;
}

bool make_one_read_go_back(History& history, std::uint64_t seed) {
  struct Spot {
    Operation* operation;
    Value value;
  };
  std::vector<Spot> spots;
  for (auto& list : history.clients) {
    std::map<std::uint32_t, std::pair<Value, Value>> seen;  // by word: the last value, and the one before it
    for (Operation& operation : list) {
      const auto found = seen.find(operation.word);
      if (found != seen.end() && !operation.writes() && operation.read == found->second.first) {
        if (found->second.second != found->second.first) spots.push_back({&operation, found->second.second});
      }
      const auto note = [&](Value value) {
        auto& [last, before] = seen.try_emplace(operation.word, value, value).first->second;
        if (value != last) before = std::exchange(last, value);
      };
      if (operation.reads()) note(operation.read);
      if (operation.writes()) note(operation.written);
    }
  }
  if (spots.empty()) return false;
  const Spot& spot = spots[seed % spots.size()];
  spot.operation->read = spot.value;
  return true;
}

bool is_sequential_by_trying(const History& history) { return Trying(history, false).run(); }

bool is_linearizable_by_trying(const History& history) {
  std::uint32_t words = 0;
  for (const auto& list : history.clients) {
    for (const Operation& operation : list) words = std::max(words, operation.word + 1);
  }
  for (std::uint32_t word = 0; word < words; ++word) {
    History of_word = history;
    for (auto& list : of_word.clients) {
      std::erase_if(list, [&](const Operation& operation) { return operation.word != word; });
    }
    if (!Trying(of_word, true).run()) return false;
  }
  return true;
}

}  // namespace pagewire::history
