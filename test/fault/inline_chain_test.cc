// SIGBUS that is not ours: the handler that was there before gets it as if ours had never been installed, and
// the disposition is put back. Each test is a child of its own, because handlers are the process's.
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "fault/inline_faults.h"
#include "fault/setup_error.h"
#include "test/fault/inline_support.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {
namespace {

using SignalAction = struct sigaction;
constexpr int kSaRestorer = 0x0400'0000;  // the C library adds it
constexpr int kOnce = static_cast<int>(SA_RESETHAND);

// ---- The handlers of the service, and what they saw.

struct Seen {
  int count = 0;
  int number = 0;
  siginfo_t info{};
  bool has_context = false;
  sigset_t blocked{};
  int errno_at_entry = 0;
};
Seen seen;
const Hole* filled_by_handler = nullptr;  // so that the instruction comes through
SignalAction passed_on_to{};              // by the handlers that were installed above ours
int above_count = 0;

void note(int number) {
  ++seen.count;
  seen.number = number;
  seen.errno_at_entry = errno;
  seen.blocked = blocked_signals();
  if (filled_by_handler != nullptr) filled_by_handler->fill();
}
void plain_handler(int number) { note(number); }
void info_handler(int number, siginfo_t* info, void* context) {
  seen.info = *info;
  seen.has_context = context != nullptr;
  note(number);
}
void pass_on_handler(int number, siginfo_t* info, void* context) {
  ++above_count;
  passed_on_to.sa_sigaction(number, info, context);
}

// As many different handlers as one likes.
template <int Number>
void numbered_handler(int number) {
  note(number + Number);
}
template <int... Number>
std::array<void (*)(int), sizeof...(Number)> make_handlers(std::integer_sequence<int, Number...>) {
  return {&numbered_handler<Number>...};
}

SignalAction make_action(void (*handler)(int, siginfo_t*, void*), int flags = 0) {
  SignalAction action{};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  return action;
}
SignalAction make_plain_action(void (*handler)(int), int flags = 0) {
  SignalAction action{};
  action.sa_handler = handler;
  action.sa_flags = flags;
  return action;
}
SignalAction current_action() {
  SignalAction action{};
  ::sigaction(SIGBUS, nullptr, &action);
  return action;
}
// The service installs `action` and keeps what was there.
SignalAction install(const SignalAction& action) {
  SignalAction before{};
  ::sigaction(SIGBUS, &action, &before);
  return before;
}
void expect_same(const SignalAction& one, const SignalAction& other) {
  EXPECT_EQ(one.sa_handler, other.sa_handler);
  EXPECT_EQ(one.sa_flags & ~kSaRestorer, other.sa_flags & ~kSaRestorer);
  EXPECT_EQ(std::memcmp(&one.sa_mask, &other.sa_mask, _NSIG / 8), 0);
}

// How a child ended that ran `body` and whose expectations held; "exit 1" if they did not.
std::string in_child(const std::function<void()>& body) {
  return status_text(run_in_child([&] {
    body();
    return ::testing::Test::HasFailure() ? 1 : 0;
  }));
}

// Touches a page of a region, which must be served inline.
void expect_served(InlineRegion& region) {
  const std::uint64_t before = region.sink.write_count.load();
  region.sink.zap(0);
  store(region.view(), 0, kPattern);
  EXPECT_EQ(region.sink.write_count.load(), before + 1);
}

// Raises a SIGBUS that is nobody's; the handler of before must make it good.
void expect_seen_once(const Hole& hole) {
  const int before = seen.count;
  filled_by_handler = &hole;
  store_word(hole.word(), kPattern);
  EXPECT_EQ(seen.count, before + 1);
  EXPECT_EQ(load_word(hole.word()), kPattern);
  EXPECT_TRUE(hole.empty());
}

// ---- Passing on

TEST(PassOn, siginfo_handler__gets_all_three_arguments) {
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler));
              InlineRegion region(1);
              const Hole hole;
              expect_seen_once(hole);
              EXPECT_EQ(seen.number, SIGBUS);
              EXPECT_EQ(seen.info.si_code, BUS_ADRERR);
              EXPECT_EQ(seen.info.si_addr, const_cast<std::uint64_t*>(hole.word()));
              EXPECT_TRUE(seen.has_context);
              expect_served(region);
            }),
            "exit 0");
}

TEST(PassOn, plain_handler__gets_the_number) {
  EXPECT_EQ(in_child([] {
              install(make_plain_action(&plain_handler));
              InlineRegion region(1);
              const Hole hole;
              expect_seen_once(hole);
              EXPECT_EQ(seen.number, SIGBUS);
            }),
            "exit 0");
}

TEST(PassOn, signal_mask__is_the_interrupted_one_with_the_handlers_own) {
  EXPECT_EQ(in_child([] {
              SignalAction action = make_action(&info_handler);
              ::sigaddset(&action.sa_mask, SIGUSR1);
              install(action);
              InlineRegion region(1);
              const Hole hole;
              sigset_t user2;
              ::sigemptyset(&user2);
              ::sigaddset(&user2, SIGUSR2);
              ::pthread_sigmask(SIG_BLOCK, &user2, nullptr);
              expect_seen_once(hole);
              for (const int signal : {SIGUSR1, SIGUSR2, SIGBUS}) {
                EXPECT_EQ(::sigismember(&seen.blocked, signal), 1) << signal;
              }
              for (const int signal : {SIGTERM, SIGALRM, SIGSEGV}) {
                EXPECT_EQ(::sigismember(&seen.blocked, signal), 0) << signal;
              }
              const sigset_t after = blocked_signals();
              EXPECT_EQ(::sigismember(&after, SIGUSR1), 0);
              EXPECT_EQ(::sigismember(&after, SIGUSR2), 1);
            }),
            "exit 0");
}

TEST(PassOn, SA_NODEFER__leaves_SIGBUS_open) {
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler, SA_NODEFER));
              InlineRegion region(1);
              const Hole hole;
              expect_seen_once(hole);
              EXPECT_EQ(::sigismember(&seen.blocked, SIGBUS), 0);
            }),
            "exit 0");
}

TEST(PassOn, errno__is_that_of_the_interrupted_code) {
  if (kThreadSanitizer)
    GTEST_SKIP() << "TSan changes errno around a handler, to find out who does not keep it";
  EXPECT_EQ(in_child([] {
              install(make_plain_action(&plain_handler));
              InlineRegion region(1);
              const Hole hole;
              errno = EXDEV;
              expect_seen_once(hole);
              EXPECT_EQ(seen.errno_at_entry, EXDEV);
            }),
            "exit 0");
}

TEST(PassOn, SA_RESETHAND__runs_once_and_is_put_back_spent) {
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler, kOnce));
              {
                InlineRegion region(1);
                const Hole hole;
                expect_seen_once(hole);
                expect_served(region);
              }
              EXPECT_EQ(current_action().sa_handler, SIG_DFL);
            }),
            "exit 0");
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler, kOnce));
              InlineRegion region(1);
              const Hole hole;
              expect_seen_once(hole);
              expect_seen_once(hole);
            }),
            "signal 7");
}

TEST(PassOn, signal_that_was_sent__keeps_its_sender_and_value) {
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler));
              InlineRegion region(1);
              ::kill(::getpid(), SIGBUS);
              EXPECT_EQ(seen.count, 1);
              EXPECT_EQ(seen.info.si_code, SI_USER);
              EXPECT_EQ(seen.info.si_pid, ::getpid());
              sigval value{};
              value.sival_int = 4711;
              ::sigqueue(::getpid(), SIGBUS, value);
              EXPECT_EQ(seen.count, 2);
              EXPECT_EQ(seen.info.si_code, SI_QUEUE);
              EXPECT_EQ(seen.info.si_value.sival_int, 4711);
              EXPECT_EQ(region.sink.read_count.load() + region.sink.write_count.load(), 0U);
            }),
            "exit 0");
}

// An address within the region, sent by somebody: no fault of ours.
TEST(PassOn, signal_sent_with_an_address_of_the_region__is_not_ours) {
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler));
              InlineRegion region(1);
              siginfo_t info{};
              info.si_code = SI_QUEUE;
              info.si_addr = region.view();
              ASSERT_EQ(::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::gettid(), SIGBUS, &info), 0);
              EXPECT_EQ(seen.count, 1);
              EXPECT_EQ(region.sink.read_count.load() + region.sink.write_count.load(), 0U);
            }),
            "exit 0");
}

// ---- No handler before

TEST(PassOnToDefault, fault_and_signal__end_the_process) {
  for (void (*const disposition)(int) : {SIG_DFL, SIG_IGN}) {
    EXPECT_EQ(in_child([disposition] {
                install(make_plain_action(disposition));
                InlineRegion region(1);
                expect_served(region);
                const Hole hole;
                store_word(hole.word(), 1);
              }),
              "signal 7");
  }
  EXPECT_EQ(in_child([] {
              InlineRegion region(1);
              ::raise(SIGBUS);
            }),
            "signal 7");
}

TEST(PassOnToDefault, signal_sent_while_ignored__is_ignored) {
  EXPECT_EQ(in_child([] {
              install(make_plain_action(SIG_IGN));
              InlineRegion region(1);
              ::raise(SIGBUS);
              expect_served(region);
            }),
            "exit 0");
}

TEST(PassOnToDefault, region_that_has_ended__ends_the_process) {
  EXPECT_EQ(in_child([] {
              RegionMemory memory = make_inline_memory(1);
              FunctionSink sink([](const Fault&, Interrupted&) { return false; });
              const InlineFaults faults(1, memory, sink);
              store(memory.application_view(), 0, 1);
            }),
            "signal 7");
}

// What a debugger sees: the signal that ends the process tells the true address.
TEST(PassOnToDefault, last_signal__has_the_true_address) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::signal(SIGBUS, SIG_DFL);
    InlineRegion region(1);
    const Hole hole;
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);  // the parent goes on from here
    store_word(hole.word(), 1);
    ::_exit(0);
  }
  int stops = 0;
  int status = 0;
  int signal = 0;
  siginfo_t last{};
  while (::waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
    signal = WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
    if (signal == SIGBUS) {
      ++stops;
      ::ptrace(PTRACE_GETSIGINFO, child, nullptr, &last);
    }
    ::ptrace(PTRACE_CONT, child, nullptr, signal);
  }
  EXPECT_EQ(status_text(status), "signal 7");
  EXPECT_EQ(stops, 2);  // to ours, and by default
  EXPECT_EQ(last.si_code, BUS_ADRERR);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(last.si_addr) % kPageBytes, 3 * sizeof(std::uint64_t));
}

// ---- Installing and putting back

TEST(PutBack, last_one__leaves_all_as_it_was) {
  EXPECT_EQ(in_child([] {
              SignalAction action = make_action(&info_handler, SA_RESTART | SA_ONSTACK | SA_NODEFER);
              ::sigaddset(&action.sa_mask, SIGUSR1);
              install(action);
              const SignalAction before = current_action();
              for (int round = 0; round < 100; ++round) {
                std::optional<InlineRegion> one(1);
                EXPECT_NE(current_action().sa_sigaction, &info_handler);
                RegionMemory memory = make_inline_memory(1, kBase + 16 * kPageBytes);
                ServingSink sink(memory);
                const InlineFaults two(2, memory, sink);
                one.reset();
                EXPECT_NE(current_action().sa_sigaction, &info_handler);
                EXPECT_EQ(load(memory.application_view(), 0), 0U);
              }
              expect_same(current_action(), before);
            }),
            "exit 0");
}

TEST(PutBack, no_handler__is_put_back_too) {
  for (void (*const disposition)(int) : {SIG_DFL, SIG_IGN}) {
    EXPECT_EQ(in_child([disposition] {
                install(make_plain_action(disposition));
                const SignalAction before = current_action();
                { const InlineRegion region(1); }
                expect_same(current_action(), before);
              }),
              "exit 0");
  }
}

TEST(HandlerAbove, passes_on_to_ours__is_left_there_when_ours_goes) {
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler));
              const Hole hole;
              {
                InlineRegion region(1);
                passed_on_to = install(make_action(&pass_on_handler));
                expect_served(region);
                EXPECT_EQ(above_count, 1);
                expect_seen_once(hole);
              }
              EXPECT_EQ(current_action().sa_sigaction, &pass_on_handler);
              expect_seen_once(hole);  // through ours, which serves nobody now
              InlineRegion again(1);
              EXPECT_EQ(current_action().sa_sigaction, &pass_on_handler);
              expect_served(again);
              expect_seen_once(hole);
            }),
            "exit 0");
}

TEST(HandlerAbove, taken_away_again__ours_puts_back_what_was_before) {
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler));
              const SignalAction before = current_action();
              {
                std::optional<InlineRegion> region(1);
                passed_on_to = install(make_action(&pass_on_handler));
                region.reset();
                install(passed_on_to);  // ours, of a time when there was a region
                region.emplace(1);
                expect_served(*region);
                EXPECT_EQ(above_count, 0);
              }
              expect_same(current_action(), before);
            }),
            "exit 0");
}

// Ours goes above a handler that leads to ours from a time when there was a region: no circle.
TEST(HandlerAbove, unknown_when_ours_comes_again__is_called_once) {
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler));
              const Hole hole;
              {
                const InlineRegion region(1);
                passed_on_to = current_action();
              }
              install(make_action(&pass_on_handler));
              for (int round = 1; round <= 20; ++round) {
                const SignalAction before = current_action();
                {
                  InlineRegion region(1);
                  EXPECT_NE(current_action().sa_sigaction, &pass_on_handler);
                  expect_served(region);
                  EXPECT_EQ(above_count, round - 1);
                  expect_seen_once(hole);
                  EXPECT_EQ(above_count, round);
                }
                expect_same(current_action(), before);
              }
            }),
            "exit 0");
}

// The same after ours was left below a handler that is no more.
TEST(HandlerAbove, another_one_than_ours_was_left_below__is_called_once) {
  EXPECT_EQ(in_child([] {
              install(make_action(&info_handler));
              const Hole hole;
              {
                const InlineRegion region(1);
                passed_on_to = install(make_plain_action(&plain_handler));
              }
              install(make_action(&pass_on_handler));
              InlineRegion region(1);
              expect_served(region);
              EXPECT_EQ(above_count, 0);
              expect_seen_once(hole);
              EXPECT_EQ(above_count, 1);
            }),
            "exit 0");
}

// A service that installs ever new ones: refused rather than led in a circle.
TEST(HandlerAbove, ever_new_ones__are_a_SetupError_in_the_end) {
  EXPECT_EQ(in_child([] {
              int refused = 0;
              const std::array handlers = make_handlers(std::make_integer_sequence<int, 30>());
              for (void (*const handler)(int) : handlers) {
                install(make_plain_action(handler));
                const SignalAction before = current_action();
                try {
                  const InlineRegion region(1);
                } catch (const SetupError&) {
                  ++refused;
                }
                expect_same(current_action(), before);
              }
              EXPECT_GT(refused, 0);
              EXPECT_LT(refused, 29);
              ::signal(SIGBUS, SIG_DFL);
              InlineRegion region(1);
              expect_served(region);
            }),
            "exit 0");
}

TEST(HandlerAbove, default_instead_of_ours__the_next_region_installs_it_again) {
  EXPECT_EQ(in_child([] {
              const InlineRegion first(1);
              ::signal(SIGBUS, SIG_DFL);
              RegionMemory memory = make_inline_memory(1, kBase + 16 * kPageBytes);
              ServingSink sink(memory);
              const InlineFaults second(2, memory, sink);
              store(memory.application_view(), 0, 1);
              EXPECT_EQ(sink.write_count.load(), 1U);
            }),
            "exit 0");
}

}  // namespace
}  // namespace pagewire::fault::testing
