// What the tests of fault/ share: places in the address space, accesses whose signals are caught, sinks,
// children.
#pragma once

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csetjmp>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <iterator>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fault/fault_thread.h"
#include "fault/region_memory.h"

namespace pagewire::fault::testing {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
inline constexpr std::uintptr_t kBase =
    0x10'0000'0000;  // within the low memory that TSan leaves to the program
#else
inline constexpr bool kThreadSanitizer = false;
inline constexpr std::uintptr_t kBase = 0x2000'0000'0000;  // high memory to ASan
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

inline constexpr std::uint64_t kPattern = 0x5041'4745'5749'5245;

// Accesses that race by intent: plain loads and stores that the compiler leaves where they are, and TSan
// looks away.
#define PAGEWIRE_TEST_RACES_BY_INTENT __attribute__((noinline, no_sanitize("thread")))

inline volatile std::uint64_t* word(std::byte* view, std::size_t page, std::size_t index = 0) {
  return reinterpret_cast<volatile std::uint64_t*>(view + page * kPageBytes) + index;
}
PAGEWIRE_TEST_RACES_BY_INTENT inline std::uint64_t load_word(const volatile std::uint64_t* address) {
  return *address;
}
PAGEWIRE_TEST_RACES_BY_INTENT inline void store_word(volatile std::uint64_t* address, std::uint64_t value) {
  *address = value;
}
// The first word of a page.
inline std::uint64_t load(std::byte* view, std::size_t page) { return load_word(word(view, page)); }
inline void store(std::byte* view, std::size_t page, std::uint64_t value) {
  store_word(word(view, page), value);
}

// Within its life SIGBUS and SIGSEGV that an access through it raises are the result of that access. One at a
// time.
class SignalCatcher {
 public:
  SignalCatcher() {
    struct sigaction action {};
    action.sa_handler = &SignalCatcher::handle;
    action.sa_flags = SA_NODEFER;
    ::sigaction(SIGBUS, &action, &old_bus_);
    ::sigaction(SIGSEGV, &action, &old_segv_);
  }
  ~SignalCatcher() {
    ::sigaction(SIGBUS, &old_bus_, nullptr);
    ::sigaction(SIGSEGV, &old_segv_, nullptr);
  }
  SignalCatcher(const SignalCatcher&) = delete;
  SignalCatcher& operator=(const SignalCatcher&) = delete;

  // The signal that the load raised, or 0 and the value. Any thread.
  int try_load(const volatile std::uint64_t* address, std::uint64_t* value) {
    const int raised = sigsetjmp(resume_, 1);
    if (raised != 0) return raised;
    armed_ = 1;
    *value = load_word(address);
    armed_ = 0;
    return 0;
  }
  int try_store(volatile std::uint64_t* address, std::uint64_t value) {
    const int raised = sigsetjmp(resume_, 1);
    if (raised != 0) return raised;
    armed_ = 1;
    store_word(address, value);
    armed_ = 0;
    return 0;
  }

 private:
  static void handle(int number) {
    if (armed_ == 0) {  // not ours: die of it
      ::signal(number, SIG_DFL);
      return;
    }
    armed_ = 0;
    siglongjmp(resume_, number);
  }

  inline static thread_local sigjmp_buf resume_;
  inline static thread_local volatile sig_atomic_t armed_ = 0;
  struct sigaction old_bus_ {};
  struct sigaction old_segv_ {};
};

// Keeps all faults for the test to look at, and serves none, unless it is given what serves.
class RecordingSink : public FaultSink {
 public:
  using Serve = std::function<void(const Fault&)>;
  explicit RecordingSink(Serve serve = nullptr) : serve_(std::move(serve)) {}

  void on_faults(std::span<const Fault> faults) override {
    {
      const std::scoped_lock lock(mutex_);
      faults_.insert(faults_.end(), faults.begin(), faults.end());
    }
    changed_.notify_all();
    if (!serve_) return;
    for (const Fault& fault : faults) serve_(fault);
  }

  std::vector<Fault> wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return faults_.size() >= count; });
    return faults_;
  }
  std::vector<Fault> take() {
    const std::scoped_lock lock(mutex_);
    return std::exchange(faults_, {});
  }

 private:
  Serve serve_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Fault> faults_;
};

// Gives every load a Read page and every store a Write page.
inline RecordingSink::Serve serve_from(RegionMemory& memory) {
  return [&memory](const Fault& fault) {
    if (fault.write) {
      memory.map_write(fault.page);
    } else {
      memory.map_read(fault.page);
    }
  };
}

// A region whose faults are recorded, and served unless told otherwise.
struct ServedRegion {
  explicit ServedRegion(std::size_t pages, bool serve = true,
                        KernelFaults kernel_faults = KernelFaults::kAuto)
      : memory("test", kBase, pages * kPageBytes, kernel_faults),
        sink(serve ? serve_from(memory) : nullptr),
        thread(sink) {
    thread.add(7, memory);
  }
  ~ServedRegion() { thread.remove(7); }
  ServedRegion(const ServedRegion&) = delete;
  ServedRegion& operator=(const ServedRegion&) = delete;

  RegionMemory memory;
  RecordingSink sink;
  FaultThread thread;
};

// Runs `body` in a forked child, to be called while this process has one thread. The wait status; a child
// that throws says so and exits with 99.
inline int run_in_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::signal(SIGSEGV, SIG_DFL);
    ::signal(SIGBUS, SIG_DFL);
    int code = 99;
    try {
      code = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "in the child: %s\n", error.what());
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  int status = -1;
  while (child > 0 && ::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// Such as "exit 3" or "signal 11".
inline std::string status_text(int status) {
  if (WIFEXITED(status)) return "exit " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "status " + std::to_string(status);
}

// Returns once the kernel says that the thread sleeps, or has no such thread any more. The caller knows what
// it can only be sleeping in.
inline void wait_until_asleep(pid_t thread_id) {
  const std::string path = "/proc/self/task/" + std::to_string(thread_id) + "/stat";
  for (;;) {
    std::ifstream file(path);
    if (!file) return;
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const std::size_t at = text.rfind(')');
    if (at != std::string::npos && at + 2 < text.size() && text[at + 2] == 'S') return;
    std::this_thread::yield();
  }
}

}  // namespace pagewire::fault::testing
