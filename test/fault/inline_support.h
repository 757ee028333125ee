// What the tests of inline delivery share: sinks, a served region, an address whose SIGBUS is nobody's.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <utility>

#include "fault/descriptor.h"
#include "fault/inline_faults.h"
#include "fault/region_memory.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {

// Asks a function, which must keep to the rules of a signal handler.
class FunctionSink : public InlineSink {
 public:
  using Serve = std::function<bool(const Fault&, Interrupted&)>;
  explicit FunctionSink(Serve serve) : serve_(std::move(serve)) {}
  bool on_inline_fault(const Fault& fault, Interrupted& interrupted) noexcept override {
    return serve_(fault, interrupted);
  }

 private:
  Serve serve_;
};

// Serves every fault there and then, one thread a page at a time, and counts.
class ServingSink : public InlineSink {
 public:
  static constexpr std::size_t kPagesMax = 64;
  explicit ServingSink(RegionMemory& memory) : memory_(memory) {}

  bool on_inline_fault(const Fault& fault, Interrupted&) noexcept override {
    (fault.write ? write_count : read_count).fetch_add(1);
    lock(fault.page);
    Rights& rights = rights_[fault.page];
    if (fault.write && rights != Rights::kWrite) {
      memory_.map_write(fault.page);
      rights = Rights::kWrite;
    } else if (rights == Rights::kNone) {
      memory_.map_read(fault.page);
      rights = Rights::kRead;
    }
    unlock(fault.page);
    return true;
  }

  void zap(std::size_t page) {
    const BlockedSignals blocked;  // as in the handler: nobody may be interrupted who holds the page
    lock(page);
    memory_.zap(page);
    rights_[page] = Rights::kNone;
    unlock(page);
  }

  std::atomic<std::uint64_t> read_count{0};
  std::atomic<std::uint64_t> write_count{0};

 private:
  enum class Rights : std::uint8_t { kNone, kRead, kWrite };
  struct BlockedSignals {
    BlockedSignals() {
      sigset_t all;
      ::sigfillset(&all);
      ::pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); }
    sigset_t before{};
  };

  void lock(std::size_t page) {
    while (locked_[page].test_and_set(std::memory_order_acquire)) ::sched_yield();
  }
  void unlock(std::size_t page) { locked_[page].clear(std::memory_order_release); }

  RegionMemory& memory_;
  std::array<std::atomic_flag, kPagesMax> locked_{};
  std::array<Rights, kPagesMax> rights_{};
};

inline RegionMemory make_inline_memory(std::size_t pages, std::uintptr_t base = kBase) {
  return RegionMemory("test", base, pages * kPageBytes, KernelFaults::kOff, Delivery::kInline);
}

struct InlineRegion {
  explicit InlineRegion(std::size_t pages) : memory(make_inline_memory(pages)) {}
  std::byte* view() const { return memory.application_view(); }

  RegionMemory memory;
  ServingSink sink{memory};
  InlineFaults faults{5, memory, sink};
};

// A page past the end of its file, where every access raises a SIGBUS that no region has to do with, until
// fill().
class Hole {
 public:
  Hole() : file_(::memfd_create("hole", MFD_CLOEXEC)) {
    data_ = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    if (data_ == MAP_FAILED) throw std::runtime_error("no mapping for a hole");
  }
  ~Hole() { ::munmap(data_, kPageBytes); }
  Hole(const Hole&) = delete;
  Hole& operator=(const Hole&) = delete;

  volatile std::uint64_t* word() const { return static_cast<volatile std::uint64_t*>(data_) + 3; }
  // Signal handlers, too.
  bool fill() const { return ::ftruncate(file_.get(), kPageBytes) == 0; }
  bool empty() const { return ::ftruncate(file_.get(), 0) == 0; }

 private:
  Descriptor file_;
  void* data_ = nullptr;
};

// The signals that the calling thread has blocked.
inline sigset_t blocked_signals() {
  sigset_t blocked;
  ::sigemptyset(&blocked);
  ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  return blocked;
}

inline void wait_for_flag(const std::atomic<bool>& flag) {
  while (!flag.load()) ::sched_yield();
}

}  // namespace pagewire::fault::testing
