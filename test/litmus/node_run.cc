// See node_run.h.
#include "test/litmus/node_run.h"

#include <sys/resource.h>

#include <atomic>
#include <bit>
#include <chrono>

#include "test/litmus/kernels.h"
#include "test/litmus/plan.h"

namespace pagewire::litmus {

namespace {

std::uint64_t now_ns() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
}

// Page faults of this thread so far. Of those in the memory under test each is one wait for another node, or
// a page of our own mapped anew.
std::uint64_t thread_faults() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return static_cast<std::uint64_t>(usage.ru_minflt + usage.ru_majflt);
}

std::uint8_t value_of(std::uint32_t word, std::uint32_t tag) {
  constexpr std::uint32_t kValueMask = (1U << kValueBits) - 1;
  return (word & ~kValueMask) == tag ? static_cast<std::uint8_t>(word & kValueMask) : kGarbage;
}

using Word = std::atomic_ref<std::uint32_t>;

}  // namespace

std::size_t instance_count(const Case& one) {
  constexpr std::size_t kWords = kPageBytes / sizeof(std::uint32_t);
  static_assert(kWords == kInstancesMax);
  return one.layout == Layout::kPages ? kWords : kWords / std::bit_ceil(one.code().variable_count);
}

Outcome decode(const Shape& shape, const Scaffold& scaffold, std::size_t instance, std::uint32_t tag) {
  Outcome outcome;
  for (std::size_t i = 0; i < shape.register_count; ++i) {
    outcome.registers[i] = value_of(scaffold.registers[i][instance], tag);
  }
  for (std::size_t i = 0; shape.finals && i < shape.variable_count; ++i) {
    outcome.finals[i] = value_of(scaffold.finals[i][instance], tag);
  }
  return outcome;
}

NodeRun::Words NodeRun::words_of(const Case& one) const {
  constexpr std::size_t kWords = kPageBytes / sizeof(std::uint32_t);
  Words words;
  const bool own_pages = one.layout == Layout::kPages;
  words.stride = own_pages ? 1 : std::bit_ceil(one.code().variable_count);
  for (std::size_t v = 0; v < one.code().variable_count; ++v) {
    words.variables[v] = memory_.data() + (own_pages ? v * kWords : kVariablesMax * kWords + v);
  }
  return words;
}

void NodeRun::run_batch(const Case& one, std::uint64_t batch, CaseResult& result) {
  const Shape& shape = one.code();
  const std::size_t instances = instance_count(one);
  const BatchPlan plan = plan_batch(task_.seed, one, batch, instances);
  const ThreadPlan& mine = plan.threads[task_.node];
  const Words words = words_of(one);
  const std::uint32_t tag = tag_of(batches_++);
  const auto word = [&words](std::size_t variable, std::size_t instance) {
    return Word(words.variables[variable][instance * words.stride]);
  };

  for (std::size_t v = 0; v < shape.variable_count; ++v) {
    if (plan.resetters[v] != task_.node) continue;
    for (std::size_t i = 0; i < instances; ++i) word(v, i).store(tag, std::memory_order_relaxed);
  }
  barrier_.wait();
  for (std::size_t v = 0; v < shape.variable_count; ++v) {
    if (mine.touches[v] == Touch::kLoad) word(v, 0).load(std::memory_order_relaxed);
    if (mine.touches[v] == Touch::kStore) word(v, 0).fetch_add(0, std::memory_order_relaxed);
  }
  ThreadRun run{.variables = words.variables,
                .stride = words.stride,
                .tag = tag,
                .instance_count = instances,
                .start = mine.start,
                .step = mine.step,
                .pause_mask = mine.pause_mask,
                .gap_mask = mine.gap_mask,
                .meet_mask = plan.meet_every - 1,
                .meet_gap_mask = mine.meet_gap_mask,
                .barrier = &barrier_,
                .random = Random(mine.seed)};
  for (std::size_t r = 0; r < kRegistersMax; ++r) run.registers[r] = scaffold_.registers[r].data();
  const Kernel kernel = kernel_for(one.shape, task_.node, one.order);
  const std::uint64_t faults_before = thread_faults();
  barrier_.wait();
  kernel(run);
  scaffold_.nodes[task_.node].fault_count += thread_faults() - faults_before;
  barrier_.wait();
  if (shape.finals) {
    for (std::size_t v = 0; plan.reader == task_.node && v < shape.variable_count; ++v) {
      for (std::size_t i = 0; i < instances; ++i) {
        scaffold_.finals[v][i] = word(v, i).load(std::memory_order_relaxed);
      }
    }
    barrier_.wait();
  }
  if (task_.node != 0) return;
  for (std::size_t i = 0; i < instances; ++i)
    result.histogram.add(decode(shape, scaffold_, i, tag), batch, i);
  ++result.batch_count;
}

bool NodeRun::is_enough(const CaseResult& result, std::uint64_t started_ns) const {
  if (result.histogram.total() >= task_.iterations) return true;
  return task_.seconds > 0 && static_cast<double>(now_ns() - started_ns) * 1e-9 >= task_.seconds;
}

void NodeRun::run_case(std::size_t index) {
  const Case& one = task_.cases[index];
  CaseResult& result = scaffold_.results[index];
  scaffold_.nodes[task_.node].fault_count = 0;
  const std::uint64_t started_ns = now_ns();
  for (std::uint64_t batch = 0;; ++batch) {
    run_batch(one, batch, result);
    if (task_.node == 0 && is_enough(result, started_ns)) {
      scaffold_.ended_cases.store(static_cast<std::uint32_t>(index + 1), std::memory_order_relaxed);
    }
    barrier_.wait();
    if (scaffold_.ended_cases.load(std::memory_order_relaxed) > index) break;
  }
  if (task_.node == 0) {
    result.nanoseconds = now_ns() - started_ns;
    for (std::uint32_t node = 0; node < task_.node_count; ++node) {
      result.fault_count += scaffold_.nodes[node].fault_count;
    }
  }
  barrier_.wait();
}

}  // namespace pagewire::litmus
