// One region's memory: a memfd mapped twice, and the page permissions of the view that the service sees.
//
// The application view is registered with userfaultfd for MISSING, MINOR and write-protect; the service view
// is plain memory that never faults. Who may call: construction and destruction by one thread; map_*,
// protect, zap and wake by the page's loop (different pages may be worked on by different threads at once);
// the rest by any thread. Source: Documentation/admin-guide/mm/userfaultfd.rst of the Linux kernel.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "fault/application_view.h"
#include "fault/delivery.h"
#include "fault/descriptor.h"

namespace pagewire::fault {

inline constexpr std::size_t kPageBytes = 4096;

// Whether faults that the kernel takes on the service's behalf (read(2) into a page) are served as well.
enum class KernelFaults : std::uint8_t {
  kAuto,      // yes if the process may, else faults of user code alone
  kRequired,  // SetupError if the process may not
  kOff,       // user code alone; read(2) into an absent page gives EFAULT
};

class RegionMemory {
 public:
  // Maps `bytes` (a multiple of kPageBytes) at exactly `base`; all pages present in the memfd (zero), none
  // mapped in the application view. Throws SetupError (address taken, kernel too old, no right to
  // userfaultfd, no memory, KernelFaults::kRequired with Delivery::kInline).
  RegionMemory(const std::string& name, std::uintptr_t base, std::size_t bytes, KernelFaults kernel_faults,
               Delivery delivery = Delivery::kThread);
  // As retire(false) unless it was retired; then unmaps both views. A FaultThread that has it must have
  // removed it. In a forked child it leaves the parent's memory alone.
  ~RegionMemory();
  RegionMemory(const RegionMemory&) = delete;
  RegionMemory& operator=(const RegionMemory&) = delete;

  std::byte* application_view() const { return application_view_->data(); }
  std::byte* service_view() const { return service_view_.data; }
  std::size_t bytes() const { return bytes_; }
  std::size_t page_count() const { return bytes_ / kPageBytes; }
  int userfaultfd() const { return userfaultfd_.get(); }  // -1 after retire()
  bool kernel_faults() const { return kernel_faults_; }   // false with Delivery::kInline
  Delivery delivery() const { return delivery_; }

  // `page` and `count` are pages, and page + count <= page_count(), else it aborts; it also aborts if the
  // kernel refuses, which it has no reason to. None of them allocates or waits for another thread.
  //
  // Whatever the pages were before, after map_read they are Read, after map_write they are Write.
  //
  // With Delivery::kInline nobody waits in the kernel: none of them wakes, and a SIGBUS handler may call
  // them. Else whoever maps says whether the threads that wait for the pages are woken, or wakes them later.
  enum class Waking : std::uint8_t { kNow, kLater };

  // Invalid -> Read: UFFDIO_CONTINUE with the write-protect mode.
  void map_read(std::size_t page, std::size_t count = 1, Waking waking = Waking::kNow);
  // Invalid -> Write: UFFDIO_CONTINUE.
  void map_write(std::size_t page, std::size_t count = 1, Waking waking = Waking::kNow);
  // Read -> Write: UFFDIO_WRITEPROTECT(0). An Invalid page stays Invalid.
  void unprotect(std::size_t page, std::size_t count = 1, Waking waking = Waking::kNow);
  // Write -> Read: UFFDIO_WRITEPROTECT. When it returns, every earlier store is in the service view and no
  // later one can come. An Invalid page stays Invalid.
  void protect(std::size_t page, std::size_t count = 1);
  // any -> Invalid: MADV_DONTNEED on the application view. The same promise as protect's.
  void zap(std::size_t page, std::size_t count = 1);
  // UFFDIO_WAKE: waiting threads try again. Nothing with Delivery::kInline.
  void wake(std::size_t page, std::size_t count = 1);

  // From here on every access to the application view raises SIGBUS (a system call gives EFAULT), and waiting
  // threads are woken to meet it; none of them ever reads a zero. The service view must not be touched again,
  // by anybody: it raises SIGBUS too. The loops have left the region by now, and FaultThread::remove() has
  // returned, because the userfaultfd is closed. After it the destructor keeps the (empty) address range
  // reserved if `threads_waiting`, so that a thread which has not run yet meets SIGBUS and not somebody
  // else's mapping; a later region at the same place takes it over. A second call does nothing. Any one
  // thread.
  void retire(bool threads_waiting);

 private:
  struct ServiceView {
    ServiceView() = default;
    ServiceView(const ServiceView&) = delete;
    ServiceView& operator=(const ServiceView&) = delete;
    ~ServiceView();
    std::byte* data = nullptr;
    std::size_t bytes = 0;
  };

  void create_memfd(const std::string& name);
  void map_service_view(const std::string& name);
  void register_application_view(const std::string& name);
  void truncate_memfd();

  std::uint64_t address_of(std::size_t page, std::size_t count, const char* operation) const;
  bool wakes(Waking waking) const { return delivery_ == Delivery::kThread && waking == Waking::kNow; }
  void continue_pages(const char* operation, std::size_t page, std::size_t count, bool write_protected,
                      Waking waking);
  void write_protect(const char* operation, std::uint64_t start, std::uint64_t length, bool protected_after,
                     Waking waking);
  void wake_range(const char* operation, std::uint64_t start, std::uint64_t length);
  void fill_hole(const char* operation, std::uint64_t start);
  [[noreturn]] void abort_broken(const char* operation, const char* call, std::uint64_t start,
                                 std::uint64_t length, int error) const;

  std::size_t bytes_ = 0;
  pid_t process_ = 0;  // a forked child is somebody else
  Delivery delivery_ = Delivery::kThread;
  bool kernel_faults_ = false;
  bool retired_ = false;
  Descriptor userfaultfd_;
  Descriptor memfd_;
  ServiceView service_view_;
  std::optional<ApplicationView> application_view_;
};

// What this kernel and this process's rights allow; never throws. For `pagewire doctor`.
struct Support {
  std::string kernel_release;           // as uname(2) gives it
  bool userfaultfd = false;             // any way to open one
  bool kernel_faults = false;           // faults inside system calls are served too
  bool minor_shmem = false;             // UFFD_FEATURE_MINOR_SHMEM
  bool write_protect_shmem = false;     // UFFD_FEATURE_WP_HUGETLBFS_SHMEM (Linux 5.19)
  bool continue_write_protect = false;  // UFFDIO_CONTINUE_MODE_WP works (Linux 6.4)
  bool sigbus = false;                  // UFFD_FEATURE_SIGBUS: Delivery::kInline works (Linux 4.14)
  bool poison = false;                  // UFFD_FEATURE_POISON (Linux 6.6); not needed
  std::string opened_by;  // "userfaultfd(2)", "/dev/userfaultfd", "userfaultfd(2), user mode only", ""
  std::string remedy;     // empty if all that is needed is there
};
Support probe_support();

}  // namespace pagewire::fault
