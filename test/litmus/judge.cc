// See judge.h.
#include "test/litmus/judge.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstdint>

namespace pagewire::litmus {

namespace {

// --- Sequential consistency: all interleavings
// ---------------------------------------------------------------

struct Interleaving {
  std::vector<std::size_t> next;  // operation, by thread
  std::array<std::uint8_t, kVariablesMax> memory{};
  Outcome outcome;
};

void interleave(const Program& program, const Interleaving& state, std::set<Outcome>& outcomes) {
  bool ended = true;
  for (std::size_t t = 0; t < program.threads.size(); ++t) {
    if (state.next[t] == program.threads[t].size()) continue;
    ended = false;
    Interleaving after = state;
    const Op op = program.threads[t][after.next[t]++].op;
    if (op.is_load) {
      after.outcome.registers[op.value] = after.memory[op.variable];
    } else {
      after.memory[op.variable] = op.value;
    }
    interleave(program, after, outcomes);
  }
  if (!ended) return;
  Outcome outcome = state.outcome;
  if (program.finals) outcome.finals = state.memory;
  outcomes.insert(outcome);
}

// --- C++: all executions
// -------------------------------------------------------------------------------------

// A relation between at most 32 events: row a has bit b if (a, b) is in it.
class Relation {
 public:
  void add(std::size_t from, std::size_t to) { rows_[from] |= std::uint32_t{1} << to; }
  bool has(std::size_t from, std::size_t to) const { return (rows_[from] >> to & 1) != 0; }
  Relation& operator|=(const Relation& other) {
    for (std::size_t i = 0; i < rows_.size(); ++i) rows_[i] |= other.rows_[i];
    return *this;
  }
  // (a, c) for each (a, b) here and (b, c) in `next`.
  Relation then(const Relation& next) const {
    Relation result;
    for (std::size_t from = 0; from < rows_.size(); ++from) {
      for (std::uint32_t left = rows_[from]; left != 0; left &= left - 1) {
        result.rows_[from] |= next.rows_[static_cast<std::size_t>(std::countr_zero(left))];
      }
    }
    return result;
  }
  Relation closed() const {
    Relation result = *this;
    for (std::size_t middle = 0; middle < rows_.size(); ++middle) {
      for (std::uint32_t& row : result.rows_) {
        if ((row >> middle & 1) != 0) row |= result.rows_[middle];
      }
    }
    return result;
  }
  bool is_irreflexive() const {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (has(i, i)) return false;
    }
    return true;
  }
  Relation only_among(std::uint32_t events) const {
    Relation result;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if ((events >> i & 1) != 0) result.rows_[i] = rows_[i] & events;
    }
    return result;
  }

 private:
  std::array<std::uint32_t, 32> rows_{};
};

struct Event {
  std::size_t thread = 0;
  Op op;
  std::memory_order order = std::memory_order_relaxed;
};

bool is_seq_cst(const Event& event) { return event.order == std::memory_order_seq_cst; }
bool releases(const Event& event) {
  return !event.op.is_load && (is_seq_cst(event) || event.order == std::memory_order_release);
}
bool acquires(const Event& event) {
  return event.op.is_load && (is_seq_cst(event) || event.order == std::memory_order_acquire);
}

// All executions of a program, one after the other. Events 0..variables-1 are the initial values.
class Executions {
 public:
  explicit Executions(const Program& program) : program_(program) {
    for (std::uint8_t variable = 0; variable < program.variable_count; ++variable) {
      events_.push_back(Event{.thread = program.threads.size(), .op = store(variable, 0)});
    }
    for (std::size_t thread = 0; thread < program.threads.size(); ++thread) {
      for (const OrderedOp& ordered : program.threads[thread]) {
        events_.push_back(Event{.thread = thread, .op = ordered.op, .order = ordered.order});
      }
    }
    assert(events_.size() <= 32);
    read_from_.resize(events_.size());
    orders_.resize(program.variable_count);
    for (std::size_t i = 0; i < events_.size(); ++i) {
      if (!events_[i].op.is_load) orders_[events_[i].op.variable].push_back(i);
      for (std::size_t j = 0; j < events_.size(); ++j) {
        const bool from_start = i < program.variable_count && j >= program.variable_count;
        if (from_start || (i < j && events_[i].thread == events_[j].thread && i >= program.variable_count)) {
          program_order_.add(i, j);
        }
      }
    }
  }

  std::set<Outcome> allowed() {
    choose_order(0);
    return std::move(outcomes_);
  }

 private:
  // Every order of the stores to each variable from this one on; the initial value stays first.
  void choose_order(std::size_t variable) {
    if (variable == orders_.size()) return choose_source(program_.variable_count);
    std::vector<std::size_t>& order = orders_[variable];
    do {
      choose_order(variable + 1);
    } while (std::next_permutation(order.begin() + 1, order.end()));
  }

  // Every store that each load from this event on can read from.
  void choose_source(std::size_t event) {
    while (event < events_.size() && !events_[event].op.is_load) ++event;
    if (event == events_.size()) {
      if (is_allowed()) outcomes_.insert(outcome());
      return;
    }
    for (const std::size_t source : orders_[events_[event].op.variable]) {
      read_from_[event] = source;
      choose_source(event + 1);
    }
  }

  bool is_allowed() const {
    Relation coherence_ordered;
    Relation synchronizes;
    Relation synchronizes_seq_cst;
    for (const std::vector<std::size_t>& order : orders_) {
      for (std::size_t i = 0; i + 1 < order.size(); ++i) coherence_ordered.add(order[i], order[i + 1]);
    }
    for (std::size_t load = 0; load < events_.size(); ++load) {
      if (!events_[load].op.is_load) continue;
      const std::size_t source = read_from_[load];
      coherence_ordered.add(source, load);
      const std::vector<std::size_t>& order = orders_[events_[load].op.variable];
      const auto after = std::find(order.begin(), order.end(), source) + 1;
      if (after != order.end()) coherence_ordered.add(load, *after);  // from-reads
      if (!releases(events_[source]) || !acquires(events_[load])) continue;
      synchronizes.add(source, load);
      if (is_seq_cst(events_[source]) && is_seq_cst(events_[load])) synchronizes_seq_cst.add(source, load);
    }
    coherence_ordered = coherence_ordered.closed();

    Relation happens_before = program_order_;
    happens_before |= synchronizes;
    happens_before = happens_before.closed();
    if (!happens_before.is_irreflexive()) return false;
    if (!happens_before.then(coherence_ordered).is_irreflexive()) return false;

    Relation single_order = program_order_.then(happens_before).then(program_order_);
    single_order |= program_order_;
    single_order |= synchronizes_seq_cst;
    single_order = single_order.closed();  // strongly happens before
    single_order |= coherence_ordered;
    std::uint32_t seq_cst_events = 0;
    for (std::size_t i = 0; i < events_.size(); ++i) {
      if (is_seq_cst(events_[i])) seq_cst_events |= std::uint32_t{1} << i;
    }
    return single_order.only_among(seq_cst_events).closed().is_irreflexive();
  }

  Outcome outcome() const {
    Outcome result;
    for (std::size_t i = 0; i < events_.size(); ++i) {
      if (events_[i].op.is_load) {
        result.registers[events_[i].op.value] = events_[read_from_[i]].op.value;
      }
    }
    for (std::size_t i = 0; program_.finals && i < orders_.size(); ++i) {
      result.finals[i] = events_[orders_[i].back()].op.value;
    }
    return result;
  }

  const Program& program_;
  std::vector<Event> events_;
  Relation program_order_;
  std::vector<std::size_t> read_from_;            // by load
  std::vector<std::vector<std::size_t>> orders_;  // by variable: its stores, oldest first
  std::set<Outcome> outcomes_;
};

}  // namespace

Program program_of(const Shape& shape, Order order) {
  Program program{.threads = {}, .variable_count = shape.variable_count, .finals = shape.finals};
  for (std::size_t t = 0; t < shape.thread_count; ++t) {
    std::vector<OrderedOp>& thread = program.threads.emplace_back();
    for (std::size_t i = 0; i < shape.threads[t].op_count; ++i) {
      const Op op = shape.threads[t].ops[i];
      thread.push_back(OrderedOp{.op = op, .order = memory_order_of(order, op.is_load)});
    }
  }
  return program;
}

std::set<Outcome> sequentially_consistent_outcomes(const Program& program) {
  std::set<Outcome> outcomes;
  interleave(program, Interleaving{.next = std::vector<std::size_t>(program.threads.size()), .outcome = {}},
             outcomes);
  return outcomes;
}

std::set<Outcome> cpp_outcomes(const Program& program) { return Executions(program).allowed(); }

std::set<Outcome> conceivable_outcomes(const Program& program) {
  std::array<std::set<std::uint8_t>, kVariablesMax> values;
  for (std::set<std::uint8_t>& of_variable : values) of_variable.insert(0);
  for (const auto& thread : program.threads) {
    for (const OrderedOp& ordered : thread) {
      if (!ordered.op.is_load) values[ordered.op.variable].insert(ordered.op.value);
    }
  }
  std::set<Outcome> outcomes = {Outcome{}};
  const auto vary = [&outcomes](const std::set<std::uint8_t>& choices, const auto& place) {
    std::set<Outcome> more;
    for (const Outcome& outcome : outcomes) {
      for (const std::uint8_t choice : choices) {
        Outcome varied = outcome;
        place(varied) = choice;
        more.insert(varied);
      }
    }
    outcomes = std::move(more);
  };
  for (const auto& thread : program.threads) {
    for (const OrderedOp& ordered : thread) {
      const Op op = ordered.op;
      if (op.is_load) {
        vary(values[op.variable], [op](Outcome& o) -> std::uint8_t& { return o.registers[op.value]; });
      }
    }
  }
  for (std::size_t v = 0; program.finals && v < program.variable_count; ++v) {
    vary(values[v], [v](Outcome& o) -> std::uint8_t& { return o.finals[v]; });
  }
  return outcomes;
}

Judgement judge(const Shape& shape, Order order) {
  const Program program = program_of(shape, order);
  return Judgement{.conceivable = conceivable_outcomes(program),
                   .sequentially_consistent = sequentially_consistent_outcomes(program),
                   .cpp = cpp_outcomes(program)};
}

}  // namespace pagewire::litmus
