// The two views of a region and the permissions of its pages; see region_memory.h for which thread may call
// what.
#include "fault/region_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "fault/errno_text.h"
#include "fault/setup_error.h"
#include "fault/userfaultfd_api.h"
#include "fault/userfaultfd_open.h"

namespace pagewire::fault {
namespace {

constexpr std::size_t kFillStepBytes = std::size_t{4}
                                       << 20;  // a signal makes fallocate undo what it did: small steps
constexpr std::size_t kMemfdNameMax = 200;     // memfd_create takes 249
constexpr std::size_t kPageCountMax = std::numeric_limits<std::uint32_t>::max();

void check_shape(const std::string& name, std::uintptr_t base, std::size_t bytes) {
  const std::string what = "Cannot create region '" + name + "'";
  if (bytes == 0 || bytes % kPageBytes != 0 || bytes / kPageBytes > kPageCountMax) {
    throw SetupError(what, std::to_string(bytes) + " bytes",
                     "The size must be a positive multiple of " + std::to_string(kPageBytes) + ", at most " +
                         std::to_string(kPageCountMax) + " pages");
  }
  if (base == 0 || base % kPageBytes != 0 || base > std::numeric_limits<std::uintptr_t>::max() - bytes) {
    throw SetupError(
        what, "base address " + std::to_string(base),
        "The base must be a multiple of " + std::to_string(kPageBytes) + " in the user address space");
  }
}

// What can be had without the out-of-memory killer, swap included; no limit if the kernel does not say.
std::size_t available_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::size_t total = 0;
  bool known = false;
  std::string key;
  std::string rest;
  for (std::size_t kib = 0; meminfo >> key >> kib && std::getline(meminfo, rest);) {
    if (key != "MemAvailable:" && key != "SwapFree:") continue;
    known = known || key == "MemAvailable:";
    total += kib * 1024;
  }
  return known ? total : std::numeric_limits<std::size_t>::max();
}

void check_room(const std::string& name, std::size_t bytes) {
  const std::string what = "No room for region '" + name + "' of " + std::to_string(bytes) + " bytes";
  rlimit limit{};
  // Beyond RLIMIT_FSIZE ftruncate() does not just fail, it raises SIGXFSZ.
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < bytes) {
    throw SetupError(what, "RLIMIT_FSIZE is " + std::to_string(limit.rlim_cur) + " bytes",
                     "Raise it with 'ulimit -f unlimited'");
  }
  if (const std::size_t available = available_bytes(); available < bytes) {
    throw SetupError(what, std::to_string(available) + " bytes of memory and swap are available",
                     "Make the region smaller, or free memory");
  }
}

[[noreturn]] void throw_call_failed(const std::string& name, const char* call, int error,
                                    const char* remedy) {
  throw SetupError("Cannot create region '" + name + "'", std::string(call) + " gave " + errno_text(error),
                   remedy);
}

constexpr char kMemoryRemedy[] =
    "Make the region smaller, or free memory (see also 'ulimit -v' and the memory cgroup)";

}  // namespace

RegionMemory::ServiceView::~ServiceView() {
  if (data != nullptr) ::munmap(data, bytes);
}

RegionMemory::RegionMemory(const std::string& name, std::uintptr_t base, std::size_t bytes,
                           KernelFaults kernel_faults, Delivery delivery)
    : bytes_(bytes), process_(::getpid()), delivery_(delivery) {
  check_shape(name, base, bytes);
  check_room(name, bytes);
  ArmedUserfaultfd armed = open_armed_userfaultfd(kernel_faults, delivery);
  userfaultfd_ = std::move(armed.descriptor);
  kernel_faults_ = armed.kernel_faults;
  create_memfd(name);
  map_service_view(name);
  application_view_.emplace(name, base, bytes, memfd_.get());
  try {
    register_application_view(name);
  } catch (...) {
    if (application_view_
            ->replaced_tombstone()) {  // what waited for the tombstone must not meet an unmapped page
      truncate_memfd();
      application_view_->keep_as_tombstone();
    }
    throw;
  }
}

RegionMemory::~RegionMemory() {
  if (process_ != ::getpid()) {
    application_view_->forget();
    service_view_.data = nullptr;  // neither view was inherited (MADV_DONTFORK)
    return;
  }
  retire(false);
}

void RegionMemory::create_memfd(const std::string& name) {
  const std::string memfd_name = "pagewire:" + name.substr(0, kMemfdNameMax);
  memfd_ = Descriptor(::memfd_create(memfd_name.c_str(), MFD_CLOEXEC));
  if (!memfd_)
    throw_call_failed(name, "memfd_create", errno, "Raise 'ulimit -n' if it is too many open files");
  if (::ftruncate(memfd_.get(), static_cast<off_t>(bytes_)) != 0) {
    throw_call_failed(name, "ftruncate", errno, kMemoryRemedy);
  }
  for (std::size_t done = 0; done < bytes_;) {
    const std::size_t step = std::min(kFillStepBytes, bytes_ - done);
    if (::fallocate(memfd_.get(), 0, static_cast<off_t>(done), static_cast<off_t>(step)) == 0) {
      done += step;
    } else if (errno != EINTR) {
      throw_call_failed(name, "fallocate", errno, kMemoryRemedy);
    }
  }
}

void RegionMemory::map_service_view(const std::string& name) {
  void* const got = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_.get(), 0);
  if (got == MAP_FAILED) throw_call_failed(name, "mmap of the service view", errno, kMemoryRemedy);
  service_view_.data = static_cast<std::byte*>(got);
  service_view_.bytes = bytes_;
  if (::madvise(got, bytes_, MADV_DONTFORK) != 0)
    throw_call_failed(name, "MADV_DONTFORK", errno, kMemoryRemedy);
  // The pages are there (fallocate); mapping them here takes a fault of the kernel's, over 1 µs, off the
  // first use of each.
  while (::madvise(got, bytes_, MADV_POPULATE_WRITE) != 0) {
    if (errno != EINTR && errno != EAGAIN)
      throw_call_failed(name, "MADV_POPULATE_WRITE", errno, kMemoryRemedy);
  }
}

void RegionMemory::register_application_view(const std::string& name) {
  std::byte* const view = application_view();
  if (::madvise(view, bytes_, MADV_DONTFORK) != 0)
    throw_call_failed(name, "MADV_DONTFORK", errno, kMemoryRemedy);
  // A kernel built without huge pages does not know the advice, and does not need it.
  if (::madvise(view, bytes_, MADV_NOHUGEPAGE) != 0 && errno != EINVAL) {
    throw_call_failed(name, "MADV_NOHUGEPAGE", errno, kMemoryRemedy);
  }
  uffdio_register registration{};
  registration.range = {reinterpret_cast<std::uintptr_t>(view), bytes_};
  registration.mode = kRegisterModes;
  if (::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &registration) != 0) {
    throw_call_failed(name, "UFFDIO_REGISTER", errno, "Pagewire needs Linux 6.4 or later");
  }
  if ((registration.ioctls & kRangeIoctlsNeeded) != kRangeIoctlsNeeded) {
    throw SetupError("This kernel's userfaultfd lacks operations on a memfd", "Linux " + kernel_release(),
                     "Pagewire needs Linux 6.4 or later");
  }
  // In a process that called mlockall(MCL_FUTURE), mmap has mapped every page already.
  if (::madvise(view, bytes_, MADV_DONTNEED_LOCKED) != 0) {
    throw_call_failed(name, "MADV_DONTNEED_LOCKED", errno, "Pagewire needs Linux 6.4 or later");
  }
}

void RegionMemory::map_read(std::size_t page, std::size_t count, Waking waking) {
  continue_pages("map_read", page, count, true, waking);
}

void RegionMemory::map_write(std::size_t page, std::size_t count, Waking waking) {
  continue_pages("map_write", page, count, false, waking);
}

void RegionMemory::unprotect(std::size_t page, std::size_t count, Waking waking) {
  write_protect("unprotect", address_of(page, count, "unprotect"), count * kPageBytes, false, waking);
}

void RegionMemory::protect(std::size_t page, std::size_t count) {
  write_protect("protect", address_of(page, count, "protect"), count * kPageBytes, true, Waking::kLater);
}

void RegionMemory::zap(std::size_t page, std::size_t count) {
  const std::uint64_t start = address_of(page, count, "zap");
  // _LOCKED: the service may have called mlockall(). Else it is MADV_DONTNEED.
  while (::madvise(reinterpret_cast<void*>(start), count * kPageBytes, MADV_DONTNEED_LOCKED) != 0) {
    if (errno != EAGAIN && errno != EINTR)
      abort_broken("zap", "MADV_DONTNEED", start, count * kPageBytes, errno);
  }
}

void RegionMemory::wake(std::size_t page, std::size_t count) {
  const std::uint64_t start = address_of(page, count, "wake");
  if (count != 0 && delivery_ == Delivery::kThread) wake_range("wake", start, count * kPageBytes);
}

// The kernel's promise that all of this stands on: a fault looks at the file's size before it looks at
// userfaultfd, so an empty memfd gives SIGBUS while the range is still registered, and there is no moment in
// which a page of zeroes could be had. UNREGISTER wakes under the lock that also excludes a fault which is
// just about to wait: after it no thread waits, and none starts to. (WAKE would miss that one, and closing is
// no release while a forked child has the descriptor too.)
void RegionMemory::retire(bool threads_waiting) {
  if (retired_ || process_ != ::getpid()) return;
  retired_ = true;
  truncate_memfd();
  uffdio_range range{reinterpret_cast<std::uintptr_t>(application_view()), bytes_};
  if (::ioctl(userfaultfd_.get(), UFFDIO_UNREGISTER, &range) != 0) {
    abort_broken("retire", "UFFDIO_UNREGISTER", range.start, range.len, errno);
  }
  userfaultfd_.reset();
  memfd_.reset();
  if (threads_waiting) application_view_->keep_as_tombstone();
}

void RegionMemory::truncate_memfd() {
  while (::ftruncate(memfd_.get(), 0) != 0) {
    if (errno != EINTR) {
      abort_broken("retire", "ftruncate", reinterpret_cast<std::uintptr_t>(application_view()), bytes_,
                   errno);
    }
  }
}

// The address of `page`; aborts if the pages are not in the region.
std::uint64_t RegionMemory::address_of(std::size_t page, std::size_t count, const char* operation) const {
  const std::uint64_t start = reinterpret_cast<std::uintptr_t>(application_view()) + page * kPageBytes;
  if (page > page_count() || count > page_count() - page || retired_) {
    abort_broken(operation, retired_ ? "after retire()" : "outside the region", start, count * kPageBytes, 0);
  }
  return start;
}

void RegionMemory::continue_pages(const char* operation, std::size_t page, std::size_t count,
                                  bool write_protected, Waking waking) {
  std::uint64_t start = address_of(page, count, operation);
  const std::uint64_t end = start + count * kPageBytes;
  while (start < end) {
    uffdio_continue argument{};
    argument.range = {start, end - start};
    argument.mode = write_protected ? kContinueModeWriteProtect : 0;
    if (!wakes(waking)) argument.mode |= UFFDIO_CONTINUE_MODE_DONTWAKE;
    const int error = ::ioctl(userfaultfd_.get(), UFFDIO_CONTINUE, &argument) == 0 ? 0 : errno;
    if (argument.mapped > 0) {  // done in part or whole, and its threads are woken; EAGAIN if in part
      start += static_cast<std::uint64_t>(argument.mapped);
      continue;
    }
    switch (error) {
      case EAGAIN:
        break;
      case EEXIST:  // mapped already: only the permission may be wrong, and nobody has been woken
        write_protect(operation, start, kPageBytes, write_protected, Waking::kLater);
        if (wakes(waking)) wake_range(operation, start, kPageBytes);
        start += kPageBytes;
        break;
      case EFAULT:  // not in the memfd: somebody punched a hole
        fill_hole(operation, start);
        break;
      default:
        abort_broken(operation, "UFFDIO_CONTINUE", start, end - start, error);
    }
  }
}

// Protecting wakes nobody in any case.
void RegionMemory::write_protect(const char* operation, std::uint64_t start, std::uint64_t length,
                                 bool protected_after, Waking waking) {
  if (length == 0) return;
  uffdio_writeprotect argument{};
  argument.range = {start, length};
  const std::uint64_t unprotecting = wakes(waking) ? 0 : UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
  argument.mode = protected_after ? UFFDIO_WRITEPROTECT_MODE_WP : unprotecting;
  while (::ioctl(userfaultfd_.get(), UFFDIO_WRITEPROTECT, &argument) != 0) {
    if (errno != EAGAIN && errno != EINTR)
      abort_broken(operation, "UFFDIO_WRITEPROTECT", start, length, errno);
  }
}

void RegionMemory::wake_range(const char* operation, std::uint64_t start, std::uint64_t length) {
  uffdio_range range{start, length};
  if (::ioctl(userfaultfd_.get(), UFFDIO_WAKE, &range) != 0) {
    abort_broken(operation, "UFFDIO_WAKE", start, length, errno);
  }
}

void RegionMemory::fill_hole(const char* operation, std::uint64_t start) {
  const std::uint64_t offset = start - reinterpret_cast<std::uintptr_t>(application_view());
  while (::fallocate(memfd_.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(kPageBytes)) != 0) {
    if (errno != EINTR) abort_broken(operation, "fallocate", start, kPageBytes, errno);
  }
}

void RegionMemory::abort_broken(const char* operation, const char* call, std::uint64_t start,
                                std::uint64_t length, int error) const {
  const std::uint64_t base = reinterpret_cast<std::uintptr_t>(application_view());
  std::fprintf(stderr,
               "pagewire: %s of page %llu, %llu pages, of the region at 0x%llx with %zu pages: %s: %s\n",
               operation, static_cast<unsigned long long>((start - base) / kPageBytes),
               static_cast<unsigned long long>(length / kPageBytes), static_cast<unsigned long long>(base),
               page_count(), call, error == 0 ? "broken call" : errno_name(error));
  std::abort();
}

}  // namespace pagewire::fault
