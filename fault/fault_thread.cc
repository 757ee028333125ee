// The fault thread: poll, read, drop repetitions, hand on. See fault_thread.h for which thread may call what.
#include "fault/fault_thread.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "fault/descriptor.h"
#include "fault/errno_text.h"
#include "fault/monotonic.h"
#include "fault/scheduling.h"
#include "fault/setup_error.h"
#include "fault/userfaultfd_api.h"

namespace pagewire::fault {
namespace {

constexpr char kThreadName[] = "pagewire-fault";

// What the thread needs of a region; a copy, so that a delivery reads nothing that others write.
struct Watched {
  std::uint32_t region = 0;
  int userfaultfd = -1;
  std::uint64_t base = 0;
  std::size_t page_count = 0;
};

[[noreturn]] void abort_broken(std::uint32_t region, const char* what, std::uint64_t value) {
  std::fprintf(stderr, "pagewire: the fault thread, region %u: %s: 0x%llx\n", region, what,
               static_cast<unsigned long long>(value));
  std::abort();
}

Fault decode(const Watched& watched, const uffd_msg& message, std::uint64_t now_ns) {
  if (message.event != UFFD_EVENT_PAGEFAULT) {  // none is enabled
    abort_broken(watched.region, "an event nobody asked for", message.event);
  }
  const std::uint64_t address = message.arg.pagefault.address;
  const std::uint64_t page = (address - watched.base) / kPageBytes;
  if (address < watched.base || page >= watched.page_count) {
    abort_broken(watched.region, "a fault outside the region", address);
  }
  constexpr std::uint64_t kStore = UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP;
  return Fault{.region = watched.region,
               .page = static_cast<std::uint32_t>(page),
               .write = (message.arg.pagefault.flags & kStore) != 0,
               .thread_id = message.arg.pagefault.feat.ptid,
               .time_ns = now_ns};
}

}  // namespace

struct FaultThread::State {
  State(FaultSink& to, int on_core) : sink(to), core(on_core) {}

  FaultSink& sink;
  int core;             // -1: floats
  Descriptor doorbell;  // an eventfd: the list has changed, or stop
  std::thread thread;

  std::mutex mutex;  // guards the next four
  std::condition_variable taken_over;
  std::vector<Watched> wanted;
  std::uint64_t wanted_generation = 0;  // grows with each change of `wanted`
  std::uint64_t seen_generation = 0;    // the one the thread works by
  bool stop = false;

  std::atomic<std::uint64_t> read_count{0};
  std::atomic<std::uint64_t> message_count{0};
  std::atomic<std::uint64_t> duplicate_count{0};

  // The fault thread's own.
  std::vector<Watched> watched;
  std::vector<pollfd> polled;  // the doorbell, then one for each of `watched`
  std::array<uffd_msg, kFaultBatchMax> messages;
  std::array<Fault, kFaultBatchMax> faults;

  void run();
  bool take_over();
  void wait_for_faults();
  void deliver(const Watched& region);
  std::size_t decode_distinct(const Watched& region, std::size_t count);

  void ring();
  void await(std::unique_lock<std::mutex>& lock);
};

// Between two turns of the loop no fault is in this thread's hands, so that is where a changed list comes
// into force.
void FaultThread::State::run() {
  ::pthread_setname_np(::pthread_self(), kThreadName);
  if (core >= 0) stay_on_core(core);
  ask_for_short_slices();
  while (take_over()) {
    wait_for_faults();
    for (std::size_t i = 0; i < watched.size(); ++i) {
      if (polled[i + 1].revents != 0) deliver(watched[i]);
    }
    while (sink.turn() && take_over()) {
      for (const Watched& region : watched) deliver(region);
    }
  }
}

// Takes the list of regions as others want it. False if the thread is to end.
bool FaultThread::State::take_over() {
  const std::scoped_lock lock(mutex);
  if (seen_generation != wanted_generation) {
    watched = wanted;
    polled.assign(1, pollfd{doorbell.get(), POLLIN, 0});
    for (const Watched& region : watched) polled.push_back(pollfd{region.userfaultfd, POLLIN, 0});
    seen_generation = wanted_generation;
    taken_over.notify_all();
  }
  return !stop;
}

void FaultThread::State::wait_for_faults() {
  while (::poll(polled.data(), polled.size(), -1) < 0) {
    if (errno != EINTR && errno != EAGAIN)
      abort_broken(0, "poll(2) failed with errno", static_cast<unsigned>(errno));
  }
  if (polled[0].revents != 0) {
    std::uint64_t rings = 0;
    [[maybe_unused]] const auto got =
        ::read(doorbell.get(), &rings, sizeof rings);  // the list is looked at anyway
  }
}

// One read of a region's userfaultfd, and its faults to the sink. What is left there makes the next poll
// return at once.
void FaultThread::State::deliver(const Watched& region) {
  ssize_t got = 0;
  do {
    got = ::read(region.userfaultfd, messages.data(), sizeof messages);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return;  // served or gone between poll and read
  if (got <= 0) {
    abort_broken(region.region, "was it retired before remove()? read(2) failed with errno",
                 static_cast<unsigned>(errno));
  }
  const std::size_t count = static_cast<std::size_t>(got) / sizeof(uffd_msg);
  const std::size_t distinct = decode_distinct(region, count);
  read_count.fetch_add(1, std::memory_order_relaxed);
  message_count.fetch_add(count, std::memory_order_relaxed);
  duplicate_count.fetch_add(count - distinct, std::memory_order_relaxed);
  sink.on_faults(std::span<const Fault>(faults.data(), distinct));
}

// Fills `faults` from `messages`, each page and kind once; how many.
std::size_t FaultThread::State::decode_distinct(const Watched& region, std::size_t count) {
  const std::uint64_t now_ns = monotonic_ns();
  std::size_t distinct = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Fault fault = decode(region, messages[i], now_ns);
    const auto end = faults.begin() + static_cast<std::ptrdiff_t>(distinct);
    const bool known = std::any_of(faults.begin(), end, [&](const Fault& other) {
      return other.page == fault.page && other.write == fault.write;
    });
    if (!known) faults[distinct++] = fault;
  }
  return distinct;
}

void FaultThread::State::ring() {
  const std::uint64_t one = 1;
  while (::write(doorbell.get(), &one, sizeof one) < 0) {
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return;  // it is ringing already, 2^64 times
    abort_broken(0, "write(2) to the eventfd failed with errno", static_cast<unsigned>(errno));
  }
}

// Returns when the thread works by the list as it is now, or a later one.
void FaultThread::State::await(std::unique_lock<std::mutex>& lock) {
  const std::uint64_t generation = ++wanted_generation;
  ring();
  taken_over.wait(lock, [&] { return seen_generation >= generation; });
}

FaultThread::FaultThread(FaultSink& sink, int core) : state_(std::make_unique<State>(sink, core)) {
  State& state = *state_;
  state.doorbell = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!state.doorbell) {
    throw SetupError("Cannot start the fault thread", "eventfd gave " + errno_text(errno),
                     "Raise 'ulimit -n' if it is too many open files");
  }
  state.polled.assign(1, pollfd{state.doorbell.get(), POLLIN, 0});
  sigset_t all_signals;
  sigset_t callers_signals;
  ::sigfillset(&all_signals);
  ::pthread_sigmask(SIG_SETMASK, &all_signals, &callers_signals);  // the new thread inherits the mask
  int error = 0;
  try {
    state.thread = std::thread([&state] { state.run(); });
  } catch (const std::system_error& failure) {
    error = failure.code().value();
  }
  ::pthread_sigmask(SIG_SETMASK, &callers_signals, nullptr);
  if (error != 0) {
    throw SetupError("Cannot start the fault thread", "pthread_create gave " + errno_text(error),
                     "Raise 'ulimit -u' or the cgroup's pids.max");
  }
}

FaultThread::~FaultThread() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->stop = true;
    state_->ring();
  }
  state_->thread.join();
}

void FaultThread::add(std::uint32_t region, const RegionMemory& memory) {
  std::unique_lock lock(state_->mutex);
  const auto same = [&](const Watched& other) { return other.region == region; };
  if (std::any_of(state_->wanted.begin(), state_->wanted.end(), same)) {
    abort_broken(region, "added twice, page count", memory.page_count());
  }
  state_->wanted.push_back(Watched{.region = region,
                                   .userfaultfd = memory.userfaultfd(),
                                   .base = reinterpret_cast<std::uintptr_t>(memory.application_view()),
                                   .page_count = memory.page_count()});
  state_->await(lock);
}

void FaultThread::remove(std::uint32_t region) {
  std::unique_lock lock(state_->mutex);
  const auto same = [&](const Watched& other) { return other.region == region; };
  if (std::erase_if(state_->wanted, same) != 0) state_->await(lock);
}

FaultThread::Counters FaultThread::counters() const {
  return Counters{.read_count = state_->read_count.load(std::memory_order_relaxed),
                  .message_count = state_->message_count.load(std::memory_order_relaxed),
                  .duplicate_count = state_->duplicate_count.load(std::memory_order_relaxed)};
}

}  // namespace pagewire::fault
