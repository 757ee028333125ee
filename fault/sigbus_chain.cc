// Installing, passing on and putting back the SIGBUS handler; see sigbus_chain.h for which thread may call
// what.
#include "fault/sigbus_chain.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "fault/errno_text.h"
#include "fault/interrupted.h"
#include "fault/setup_error.h"

namespace pagewire::fault {
namespace {

constexpr std::size_t kLevels = 8;
constexpr std::size_t kKernelSigsetBytes = _NSIG / 8;

using SignalAction = struct sigaction;

// A disposition that was there before ours. Never freed: a handler on another thread may be reading it.
struct Before {
  SignalAction action{};
  std::atomic<bool> spent{false};  // SA_RESETHAND, and it has run
  Before* next = nullptr;          // all that were ever met
};

// By level; null if the level was never installed.
std::array<std::atomic<Before*>, kLevels> levels{};

// Under the mutex.
struct Chain {
  std::mutex mutex;
  std::size_t hold_count = 0;
  Before* befores = nullptr;
  std::optional<SignalAction> above;  // whoever was above ours when the last hold ended
};
Chain chain;

static_assert(std::atomic<Before*>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

// ---- Within the handler: nothing below allocates, throws or locks.

bool is_default(const SignalAction& action) { return action.sa_handler == SIG_DFL; }
bool is_ignored(const SignalAction& action) { return action.sa_handler == SIG_IGN; }

// An instruction raised it and will again; else somebody sent it.
bool is_fault(const siginfo_t& info) { return info.si_code > 0 && info.si_code != BUS_MCEERR_AO; }

// The process ends as if there had never been a handler.
void end_by_default(siginfo_t* info) {
  SignalAction action{};
  action.sa_handler = SIG_DFL;
  ::sigaction(SIGBUS, &action, nullptr);
  if (is_fault(*info)) return;  // to the instruction, whose next fault ends the process with its true address
  if (::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::gettid(), SIGBUS, info) != 0) ::raise(SIGBUS);
  sigset_t bus;
  ::sigemptyset(&bus);
  ::sigaddset(&bus, SIGBUS);
  ::pthread_sigmask(SIG_UNBLOCK, &bus, nullptr);
}

// What the kernel would have done, had `before` been installed.
void pass_on(Before& before, int number, siginfo_t* info, void* context) {
  const SignalAction& action = before.action;
  const bool once = (static_cast<unsigned>(action.sa_flags) & SA_RESETHAND) != 0;
  const bool gone = once && before.spent.exchange(true);
  if (is_ignored(action) && !is_fault(*info)) return;
  if (gone || is_default(action) || is_ignored(action)) {
    end_by_default(info);
    return;
  }
  const sigset_t interrupted = interrupted_signals(*static_cast<ucontext_t*>(context));
  sigset_t blocked;
  sigset_t at_entry;
  ::sigorset(&blocked, &interrupted, &action.sa_mask);
  if ((action.sa_flags & SA_NODEFER) == 0) ::sigaddset(&blocked, number);
  ::pthread_sigmask(SIG_SETMASK, &blocked, &at_entry);
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(number, info, context);
  } else {
    action.sa_handler(number);
  }
  ::pthread_sigmask(SIG_SETMASK, &at_entry, nullptr);
}

template <std::size_t Level>
void on_sigbus(int number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const bool served = serve_inline_fault(*info, *static_cast<ucontext_t*>(context));
  errno = saved_errno;
  if (!served) pass_on(*levels[Level].load(), number, info, context);
}

using Handler = void (*)(int, siginfo_t*, void*);

template <std::size_t... Level>
constexpr std::array<Handler, kLevels> make_handlers(std::index_sequence<Level...>) {
  return {&on_sigbus<Level>...};
}
constexpr std::array<Handler, kLevels> kHandlers = make_handlers(std::make_index_sequence<kLevels>());

// ---- Setting up: under the mutex.

SignalAction current_action() {
  SignalAction action{};
  if (::sigaction(SIGBUS, nullptr, &action) != 0) {
    throw SetupError("Cannot ask for the SIGBUS handler", "sigaction gave " + errno_text(errno),
                     "See whether a seccomp profile forbids rt_sigaction(2)");
  }
  return action;
}

// The level whose function `action` is, or kLevels.
std::size_t level_of(const SignalAction& action) {
  if ((action.sa_flags & SA_SIGINFO) == 0) return kLevels;
  const auto found = std::find(kHandlers.begin(), kHandlers.end(), action.sa_sigaction);
  return static_cast<std::size_t>(found - kHandlers.begin());
}

bool same_action(const SignalAction& one, const SignalAction& other) {
  return one.sa_handler == other.sa_handler && one.sa_flags == other.sa_flags &&
         std::memcmp(&one.sa_mask, &other.sa_mask, kKernelSigsetBytes) == 0;
}

Before* remember(const SignalAction& action) {
  for (Before* before = chain.befores; before != nullptr; before = before->next) {
    if (same_action(before->action, action) && !before->spent.load()) return before;
  }
  auto* const before = new Before;
  before->action = action;
  before->next = chain.befores;
  chain.befores = before;
  return before;
}

// Whether a SIGBUS that `action` gets reaches ours.
bool leads_to_ours(const SignalAction& action) {
  if (level_of(action) != kLevels) return true;
  if (is_default(action) || is_ignored(action)) return false;
  return chain.hold_count > 0 || (chain.above.has_value() && same_action(*chain.above, action));
}

// A level that `current` cannot lead to: one that was above it before, or that nobody ever saw. One that ends
// the chain makes no circle anywhere.
std::size_t level_above(const SignalAction& current) {
  for (std::size_t level = 0; level < kLevels; ++level) {
    const Before* const before = levels[level].load();
    if (before == nullptr || before->action.sa_handler == current.sa_handler) return level;
  }
  if (is_default(current) || is_ignored(current)) return 0;
  throw SetupError("Cannot install the SIGBUS handler",
                   std::to_string(kLevels) + " other ones were found there, one by one",
                   "Install the service's own SIGBUS handler once, and before the first region");
}

void install(const SignalAction& current) {
  const std::size_t level = level_above(current);
  levels[level].store(remember(current));
  SignalAction ours{};
  ours.sa_sigaction = kHandlers[level];
  // A SIGBUS that was sent ends a waiting system call, or does not, as it did before.
  ours.sa_flags = SA_SIGINFO | (is_ignored(current) ? SA_RESTART : current.sa_flags & SA_RESTART);
  ::sigfillset(&ours.sa_mask);
  SignalAction replaced{};
  if (::sigaction(SIGBUS, &ours, &replaced) != 0) {
    throw SetupError("Cannot install the SIGBUS handler", "sigaction gave " + errno_text(errno),
                     "See whether a seccomp profile forbids rt_sigaction(2)");
  }
}

}  // namespace

sigset_t interrupted_signals(const ucontext_t& context) noexcept {
  sigset_t signals;
  ::sigemptyset(&signals);
  std::memcpy(&signals, &context.uc_sigmask, kKernelSigsetBytes);
  return signals;
}

void hold_sigbus() {
  const std::scoped_lock lock(chain.mutex);
  const SignalAction current = current_action();
  if (!leads_to_ours(current)) install(current);
  ++chain.hold_count;
}

// If a handler of the service is above ours, it stays, and ours stays below it and passes on.
void release_sigbus() noexcept {
  const std::scoped_lock lock(chain.mutex);
  if (--chain.hold_count > 0) return;
  SignalAction current{};
  ::sigaction(SIGBUS, nullptr, &current);
  const std::size_t level = level_of(current);
  if (level == kLevels) {
    chain.above = current;
    return;
  }
  const Before& before = *levels[level].load();
  SignalAction put_back = before.action;
  if (before.spent.load()) put_back.sa_handler = SIG_DFL;
  ::sigaction(SIGBUS, &put_back, nullptr);
}

}  // namespace pagewire::fault
