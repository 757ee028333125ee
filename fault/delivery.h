// How the faults of a region reach us. A plain value.
#pragma once

#include <cstdint>

namespace pagewire::fault {

enum class Delivery : std::uint8_t {
  kThread,  // the faulting thread sleeps in the kernel, a FaultThread reads the fault
  kInline,  // the faulting thread gets SIGBUS, InlineFaults' handler serves it there (UFFD_FEATURE_SIGBUS)
};

}  // namespace pagewire::fault
