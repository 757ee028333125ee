// The litmus tests as data: which thread stores and loads what. The judge (judge.h) computes from them which
// outcomes are allowed, and kernels.cc compiles the same table into the code that runs, so that the two
// cannot differ. Pure; any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

namespace pagewire::litmus {

inline constexpr std::size_t kThreadsMax = 4;
inline constexpr std::size_t kOpsMax = 3;  // of one thread
inline constexpr std::size_t kVariablesMax = 3;
inline constexpr std::size_t kRegistersMax = 4;
inline constexpr std::array<std::string_view, kVariablesMax> kVariableNames = {"x", "y", "z"};

// One store of `value` (1 or above; all begin at 0) or one load into register `value`.
struct Op {
  bool is_load = false;
  std::uint8_t variable = 0;
  std::uint8_t value = 0;
};
constexpr Op store(std::uint8_t variable, std::uint8_t value) { return {false, variable, value}; }
constexpr Op load(std::uint8_t variable, std::uint8_t reg) { return {true, variable, reg}; }

struct ThreadCode {
  std::array<Op, kOpsMax> ops{};
  std::size_t op_count = 0;
};

struct Shape {
  std::string_view name;
  std::string_view about;  // the question that it asks
  std::array<ThreadCode, kThreadsMax> threads{};
  std::size_t thread_count = 0;
  std::size_t variable_count = 0;
  std::size_t register_count = 0;
  bool finals = false;  // the outcome includes what memory holds at the end
};

constexpr Shape make_shape(std::string_view name, std::string_view about, bool finals,
                           std::initializer_list<std::initializer_list<Op>> threads) {
  Shape shape{.name = name, .about = about, .finals = finals};
  for (const auto& ops : threads) {
    ThreadCode& thread = shape.threads[shape.thread_count++];
    for (const Op& op : ops) {
      thread.ops[thread.op_count++] = op;
      if (op.variable >= shape.variable_count) shape.variable_count = op.variable + std::size_t{1};
      if (op.is_load && op.value >= shape.register_count) shape.register_count = op.value + std::size_t{1};
    }
  }
  return shape;
}

namespace variables {
inline constexpr std::uint8_t kX = 0;
inline constexpr std::uint8_t kY = 1;
inline constexpr std::uint8_t kZ = 2;
}  // namespace variables

inline constexpr std::array kShapes = {
    make_shape("SB", "store buffering: may both miss the other's store?", false,
               {{store(variables::kX, 1), load(variables::kY, 0)},
                {store(variables::kY, 1), load(variables::kX, 1)}}),
    make_shape("MP", "message passing: is the message there when its flag is?", false,
               {{store(variables::kX, 1), store(variables::kY, 1)},
                {load(variables::kY, 0), load(variables::kX, 1)}}),
    make_shape("LB", "load buffering: may both see a store that comes after the other's load?", false,
               {{load(variables::kX, 0), store(variables::kY, 1)},
                {load(variables::kY, 1), store(variables::kX, 1)}}),
    make_shape("IRIW", "two readers of two independent writers: do they agree on the order?", false,
               {{store(variables::kX, 1)},
                {store(variables::kY, 1)},
                {load(variables::kX, 0), load(variables::kY, 1)},
                {load(variables::kY, 2), load(variables::kX, 3)}}),
    make_shape("CoRR", "coherence: may one variable go back for a reader?", false,
               {{store(variables::kX, 1)}, {load(variables::kX, 0), load(variables::kX, 1)}}),
    make_shape("CoWR", "coherence: may a writer read what its own store replaced?", true,
               {{store(variables::kX, 1), load(variables::kX, 0)}, {store(variables::kX, 2)}}),
    make_shape("2+2W", "two writers of two variables: may each first store be the one that stays?", true,
               {{store(variables::kX, 1), store(variables::kY, 2)},
                {store(variables::kY, 1), store(variables::kX, 2)}}),
    make_shape("WRC", "write to read causality: does what was seen travel on?", false,
               {{store(variables::kX, 1)},
                {load(variables::kX, 0), store(variables::kY, 1)},
                {load(variables::kY, 1), load(variables::kX, 2)}}),
    make_shape("ISA2", "message passing through a third thread and a third variable", false,
               {{store(variables::kX, 1), store(variables::kY, 1)},
                {load(variables::kY, 0), store(variables::kZ, 1)},
                {load(variables::kZ, 1), load(variables::kX, 2)}}),
};

enum class Order : std::uint8_t { kRelaxed, kAcquireRelease, kSeqCst };
inline constexpr std::array kOrders = {Order::kRelaxed, Order::kAcquireRelease, Order::kSeqCst};
inline constexpr std::array<std::string_view, kOrders.size()> kOrderNames = {"relaxed", "acq_rel", "seq_cst"};

enum class Layout : std::uint8_t { kPages, kOnePage };
inline constexpr std::array kLayouts = {Layout::kPages, Layout::kOnePage};
inline constexpr std::array<std::string_view, kLayouts.size()> kLayoutNames = {"pages", "one_page"};

constexpr std::memory_order memory_order_of(Order order, bool is_load) {
  if (order == Order::kRelaxed) return std::memory_order_relaxed;
  if (order == Order::kSeqCst) return std::memory_order_seq_cst;
  return is_load ? std::memory_order_acquire : std::memory_order_release;
}

// One thing to run: a shape by its index in kShapes, with all its operations of one order.
struct Case {
  std::size_t shape = 0;
  Order order = Order::kRelaxed;
  Layout layout = Layout::kPages;

  const Shape& code() const { return kShapes[shape]; }
  std::string_view order_name() const { return kOrderNames[static_cast<std::size_t>(order)]; }
  std::string_view layout_name() const { return kLayoutNames[static_cast<std::size_t>(layout)]; }
};

// The index of a name in a list of names; nothing if it is not there.
template <typename Names>
std::optional<std::size_t> index_of(const Names& names, std::string_view name) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) return i;
  }
  return std::nullopt;
}

constexpr auto shape_names() {
  std::array<std::string_view, kShapes.size()> names{};
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kShapes[i].name;
  return names;
}

}  // namespace pagewire::litmus
