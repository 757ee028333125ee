// Opening a userfaultfd by the first way that the process's rights allow, and finding out what the kernel can
// do. Any thread, while setting up.
#pragma once

#include <string>

#include "fault/descriptor.h"
#include "fault/region_memory.h"

namespace pagewire::fault {

struct ArmedUserfaultfd {
  Descriptor descriptor;
  bool kernel_faults = false;
  std::string opened_by;  // as Support::opened_by
};

// A non-blocking userfaultfd with the features that RegionMemory needs, on a kernel that was seen to map a
// page write-protected. Tried in turn for Delivery::kThread: userfaultfd(2), /dev/userfaultfd, userfaultfd(2)
// for user mode alone; for kInline, which is user code's alone, the last of these first. Throws SetupError.
ArmedUserfaultfd open_armed_userfaultfd(KernelFaults kernel_faults, Delivery delivery);

// As uname(2) gives it.
std::string kernel_release();

}  // namespace pagewire::fault
