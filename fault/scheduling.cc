#include "fault/scheduling.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace pagewire::fault {

namespace {

// struct sched_attr of linux/sched/types.h, which cannot be included beside glibc's sched.h.
struct SchedulingAttributes {
  std::uint32_t size = sizeof(SchedulingAttributes);
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime_ns = 0;
  std::uint64_t deadline_ns = 0;
  std::uint64_t period_ns = 0;
};
constexpr std::uint32_t kFifo = 1;           // SCHED_FIFO
constexpr std::uint64_t kSliceNs = 100'000;  // the shortest that the kernel takes

}  // namespace

void ask_for_short_slices() {
  SchedulingAttributes attributes;
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0) return;
  if (attributes.policy != 0) return;  // the service chose a policy of its own for us
  attributes.runtime_ns = kSliceNs;
  syscall(SYS_sched_setattr, 0, &attributes, 0);  // a refusal costs latency only
}

bool ask_for_real_time() {
  SchedulingAttributes attributes;
  attributes.policy = kFifo;
  attributes.priority = 1;
  return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

void stay_on_core(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<std::size_t>(core), &cores);
  sched_setaffinity(0, sizeof(cores), &cores);
}

}  // namespace pagewire::fault
