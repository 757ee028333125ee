// The kernel's userfaultfd interface, and the constants that are newer than the headers of Debian 12
// (Linux 6.1). They have names of their own, so that newer headers do not clash. Only fault/ may include
// this, and no header others see. Source: include/uapi/linux/userfaultfd.h and
// Documentation/admin-guide/mm/userfaultfd.rst of the Linux kernel.
#pragma once

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace pagewire::fault {

// UFFDIO_CONTINUE maps the page write-protected. Linux 6.4.
inline constexpr std::uint64_t kContinueModeWriteProtect = std::uint64_t{1} << 1;
// UFFDIO_POISON is there. Linux 6.6.
inline constexpr std::uint64_t kFeaturePoison = std::uint64_t{1} << 14;

// All that RegionMemory asks for. No EVENT_* feature: with EVENT_REMOVE an madvise from the thread that
// serves the faults would wait for itself.
inline constexpr std::uint64_t kFeaturesNeeded = UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_SHMEM |
                                                 UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                                                 UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_THREAD_ID;

inline constexpr std::uint64_t kRegisterModes =
    UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP;

inline constexpr std::uint64_t kRangeIoctlsNeeded = std::uint64_t{1} << _UFFDIO_WAKE |
                                                    std::uint64_t{1} << _UFFDIO_WRITEPROTECT |
                                                    std::uint64_t{1} << _UFFDIO_CONTINUE;

}  // namespace pagewire::fault
