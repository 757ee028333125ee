// Opening and probing userfaultfd; see userfaultfd_open.h. Any thread, while setting up.
#include "fault/userfaultfd_open.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include <cerrno>
#include <utility>

#include "fault/errno_text.h"
#include "fault/setup_error.h"
#include "fault/userfaultfd_api.h"

namespace pagewire::fault {
namespace {

constexpr char kDevicePath[] = "/dev/userfaultfd";
constexpr char kByCall[] = "userfaultfd(2)";
constexpr char kByCallUserMode[] = "userfaultfd(2), user mode only";
constexpr char kKernelRemedy[] =
    "Pagewire needs Linux 6.4 or later, built with CONFIG_USERFAULTFD and CONFIG_SHMEM";
constexpr char kRightsRemedy[] =
    "Either run 'sysctl vm.unprivileged_userfaultfd=1', or give the process CAP_SYS_PTRACE, or let its group "
    "open "
    "/dev/userfaultfd ('chgrp GROUP /dev/userfaultfd && chmod g+rw /dev/userfaultfd'); in a container the "
    "seccomp "
    "profile must allow userfaultfd(2)";

struct Opened {
  ArmedUserfaultfd userfaultfd;  // not armed yet; no descriptor if every way failed
  std::string failures;          // what was tried and what came of it
};

void note_failure(Opened& opened, const char* way) {
  if (!opened.failures.empty()) opened.failures += ", ";
  opened.failures += std::string(way) + " gave " + errno_text(errno);
}

// True if it is open now; errno of the failure is noted else.
bool try_call(Opened& opened, int extra_flags, const char* way) {
  const long fd = ::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | extra_flags);
  if (fd < 0) {
    note_failure(opened, way);
    return false;
  }
  opened.userfaultfd = {Descriptor(static_cast<int>(fd)), extra_flags == 0, way};
  return true;
}

bool try_device(Opened& opened) {
  const Descriptor device(::open(kDevicePath, O_RDWR | O_CLOEXEC));
  const int fd = device ? ::ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK) : -1;
  if (fd < 0) {
    note_failure(opened, kDevicePath);
    return false;
  }
  opened.userfaultfd = {Descriptor(fd), true, kDevicePath};
  return true;
}

Opened open_userfaultfd(KernelFaults kernel_faults, Delivery delivery) {
  Opened opened;
  if (delivery == Delivery::kInline) {
    if (!try_call(opened, UFFD_USER_MODE_ONLY, kByCallUserMode)) try_device(opened);
    opened.userfaultfd.kernel_faults = false;
    return opened;
  }
  if (kernel_faults != KernelFaults::kOff) {
    if (try_call(opened, 0, kByCall) || try_device(opened)) return opened;
    if (kernel_faults == KernelFaults::kRequired) return opened;
  }
  try_call(opened, UFFD_USER_MODE_ONLY, kByCallUserMode);
  return opened;
}

bool arm(const Descriptor& userfaultfd, std::uint64_t features) {
  uffdio_api argument{};
  argument.api = UFFD_API;
  argument.features = features;
  return ::ioctl(userfaultfd.get(), UFFDIO_API, &argument) == 0;
}

std::uint64_t features_needed(Delivery delivery) {
  return delivery == Delivery::kInline ? kFeaturesNeeded | UFFD_FEATURE_SIGBUS : kFeaturesNeeded;
}

// Which features the kernel has, of all that it knows. 0 if that can't be asked.
std::uint64_t supported_features(KernelFaults kernel_faults, Delivery delivery) {
  const Opened opened = open_userfaultfd(kernel_faults, delivery);
  uffdio_api argument{};
  argument.api = UFFD_API;
  if (!opened.userfaultfd.descriptor) return 0;
  return ::ioctl(opened.userfaultfd.descriptor.get(), UFFDIO_API, &argument) == 0 ? argument.features : 0;
}

std::string missing_features_text(std::uint64_t supported, std::uint64_t needed) {
  static constexpr std::pair<std::uint64_t, const char*> kNames[] = {
      {UFFD_FEATURE_MINOR_SHMEM, "MINOR_SHMEM"},
      {UFFD_FEATURE_MISSING_SHMEM, "MISSING_SHMEM"},
      {UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "WP_HUGETLBFS_SHMEM"},
      {UFFD_FEATURE_PAGEFAULT_FLAG_WP, "PAGEFAULT_FLAG_WP"},
      {UFFD_FEATURE_THREAD_ID, "THREAD_ID"},
      {UFFD_FEATURE_SIGBUS, "SIGBUS"},
  };
  std::string text;
  for (const auto& [feature, name] : kNames) {
    if ((needed & ~supported & feature) != 0) text += (text.empty() ? "" : ", ") + std::string(name);
  }
  return text;
}

// Maps one page of a trial memfd write-protected, the step of Linux 6.4 that no feature bit tells. 0, or the
// errno.
int try_continue_write_protected(const Descriptor& armed) {
  const Descriptor memfd(::memfd_create("pagewire:trial", MFD_CLOEXEC));
  if (!memfd || ::ftruncate(memfd.get(), kPageBytes) != 0) return errno;
  if (::fallocate(memfd.get(), 0, 0, kPageBytes) != 0) return errno;
  void* const page = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  if (page == MAP_FAILED) return errno;
  const uffdio_range range{reinterpret_cast<std::uintptr_t>(page), kPageBytes};
  uffdio_register registration{range, kRegisterModes, 0};
  uffdio_continue continuation{range, kContinueModeWriteProtect, 0};
  int error = 0;
  if (::ioctl(armed.get(), UFFDIO_REGISTER, &registration) != 0) {
    error = errno;
  } else if (::madvise(page, kPageBytes, MADV_DONTNEED_LOCKED) != 0) {  // mlockall() would have mapped it
    error = errno;
  } else if (::ioctl(armed.get(), UFFDIO_CONTINUE, &continuation) != 0) {
    error = errno;
  }
  ::munmap(page, kPageBytes);  // which unregisters it
  return error;
}

}  // namespace

std::string kernel_release() {
  utsname name{};
  return ::uname(&name) == 0 ? name.release : "unknown";
}

ArmedUserfaultfd open_armed_userfaultfd(KernelFaults kernel_faults, Delivery delivery) {
  if (kernel_faults == KernelFaults::kRequired && delivery == Delivery::kInline) {
    throw SetupError("Cannot open a userfaultfd that serves faults inside system calls",
                     "with inline delivery the kernel gives EFAULT for them",
                     "Choose thread delivery for this region, or do without faults inside system calls");
  }
  Opened opened = open_userfaultfd(kernel_faults, delivery);
  if (!opened.userfaultfd.descriptor) {
    throw SetupError(kernel_faults == KernelFaults::kRequired
                         ? "Cannot open a userfaultfd that serves faults inside system calls"
                         : "Cannot open a userfaultfd",
                     opened.failures, kRightsRemedy);
  }
  const std::uint64_t needed = features_needed(delivery);
  if (!arm(opened.userfaultfd.descriptor, needed)) {
    const std::uint64_t supported = supported_features(kernel_faults, delivery);
    throw SetupError("This kernel's userfaultfd lacks features",
                     "Linux " + kernel_release() + " without " + missing_features_text(supported, needed),
                     kKernelRemedy);
  }
  if (const int error = try_continue_write_protected(opened.userfaultfd.descriptor); error != 0) {
    throw SetupError("This kernel's userfaultfd cannot map a page write-protected (UFFDIO_CONTINUE_MODE_WP)",
                     "Linux " + kernel_release() + " gave " + errno_text(error), kKernelRemedy);
  }
  return std::move(opened.userfaultfd);
}

Support probe_support() {
  Support support;
  support.kernel_release = kernel_release();
  Opened opened = open_userfaultfd(KernelFaults::kAuto, Delivery::kThread);
  if (!opened.userfaultfd.descriptor) {
    support.remedy = std::string(kRightsRemedy) + " (" + opened.failures + ")";
    return support;
  }
  support.userfaultfd = true;
  support.kernel_faults = opened.userfaultfd.kernel_faults;
  support.opened_by = opened.userfaultfd.opened_by;
  const std::uint64_t features = supported_features(KernelFaults::kAuto, Delivery::kThread);
  support.minor_shmem = (features & UFFD_FEATURE_MINOR_SHMEM) != 0;
  support.write_protect_shmem = (features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM) != 0;
  support.sigbus = (features & UFFD_FEATURE_SIGBUS) != 0;
  support.poison = (features & kFeaturePoison) != 0;
  if (!arm(opened.userfaultfd.descriptor, kFeaturesNeeded)) {
    support.remedy =
        std::string(kKernelRemedy) + " (missing: " + missing_features_text(features, kFeaturesNeeded) + ")";
    return support;
  }
  const int error = try_continue_write_protected(opened.userfaultfd.descriptor);
  support.continue_write_protect = error == 0;
  if (error != 0) {
    support.remedy = std::string(kKernelRemedy) + " (mapping write-protected gave " + errno_text(error) + ")";
  }
  return support;
}

}  // namespace pagewire::fault
