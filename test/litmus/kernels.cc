// See kernels.h.
#include "test/litmus/kernels.h"

#include <immintrin.h>

#include <atomic>
#include <utility>

namespace pagewire::litmus {

namespace {

void pause(std::uint64_t turns) {
  for (; turns > 0; --turns) _mm_pause();
}

template <std::size_t ShapeIndex, std::size_t ThreadIndex, Order OrderOfAll, std::size_t OpIndex>
inline void perform(const ThreadRun& run, std::size_t instance, std::uint64_t gap) {
  constexpr Op kOp = kShapes[ShapeIndex].threads[ThreadIndex].ops[OpIndex];
  constexpr std::memory_order kMemoryOrder = memory_order_of(OrderOfAll, kOp.is_load);
  if constexpr (OpIndex > 0) pause(gap);
  const std::atomic_ref<std::uint32_t> word(run.variables[kOp.variable][instance * run.stride]);
  if constexpr (kOp.is_load) {
    run.registers[kOp.value][instance] = word.load(kMemoryOrder);
  } else {
    word.store(run.tag | kOp.value, kMemoryOrder);
  }
}

template <std::size_t ShapeIndex, std::size_t ThreadIndex, Order OrderOfAll>
void run_thread(const ThreadRun& given) {
  const ThreadRun run = given;
  Random random = run.random;
  std::size_t instance = run.start;
  for (std::size_t n = 0; n < run.instance_count; ++n) {
    instance &= run.instance_count - 1;
    const bool meets = (n & run.meet_mask) == 0;
    if (meets) run.barrier->wait();
    const std::uint32_t gap_mask = meets ? run.meet_gap_mask : run.gap_mask;
    std::uint64_t gap = 0;
    if ((run.pause_mask | gap_mask) != 0) {
      const std::uint64_t number = random.next();
      gap = (number >> 32) & gap_mask;
      pause(number & run.pause_mask);
    }
    [&]<std::size_t... OpIndexes>(std::index_sequence<OpIndexes...>) {
      (perform<ShapeIndex, ThreadIndex, OrderOfAll, OpIndexes>(run, instance, gap), ...);
    }
    (std::make_index_sequence<kShapes[ShapeIndex].threads[ThreadIndex].op_count>());
    instance += run.step;
  }
}

using Kernels = std::array<std::array<std::array<Kernel, kOrders.size()>, kThreadsMax>, kShapes.size()>;

template <std::size_t ShapeIndex, std::size_t ThreadIndex>
constexpr void fill_thread(Kernels& kernels) {
  if constexpr (ThreadIndex < kShapes[ShapeIndex].thread_count) {
    kernels[ShapeIndex][ThreadIndex] = {run_thread<ShapeIndex, ThreadIndex, Order::kRelaxed>,
                                        run_thread<ShapeIndex, ThreadIndex, Order::kAcquireRelease>,
                                        run_thread<ShapeIndex, ThreadIndex, Order::kSeqCst>};
  }
}

template <std::size_t... ShapeIndexes>
constexpr Kernels make_kernels(std::index_sequence<ShapeIndexes...>) {
  Kernels kernels{};
  const auto fill = [&kernels]<std::size_t ShapeIndex>(std::integral_constant<std::size_t, ShapeIndex>) {
    [&kernels]<std::size_t... ThreadIndexes>(std::index_sequence<ThreadIndexes...>) {
      (fill_thread<ShapeIndex, ThreadIndexes>(kernels), ...);
    }
    (std::make_index_sequence<kThreadsMax>());
  };
  (fill(std::integral_constant<std::size_t, ShapeIndexes>()), ...);
  return kernels;
}

constexpr Kernels kKernels = make_kernels(std::make_index_sequence<kShapes.size()>());

}  // namespace

Kernel kernel_for(std::size_t shape, std::size_t thread, Order order) {
  return kKernels[shape][thread][static_cast<std::size_t>(order)];
}

}  // namespace pagewire::litmus
