// The loop itself: run() is the whole of it; the rest of this file is how it rests. Loop thread, unless said
// otherwise.
#include "dataplane/loop.h"

#include <pthread.h>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <sched.h>

#include <algorithm>
#include <csignal>
#include <ctime>

#include "dataplane/eal.h"
#include "fault/short_slice.h"

namespace pagewire::dataplane {

Loop::Loop(LoopShared& shared, Port& port, const LoopOptions& options)
    : shared_(shared),
      port_(port),
      options_(options),
      round_storage_(options.round_count),
      deadline_storage_(options.round_count),
      rounds_(round_storage_, deadline_storage_),
      waiting_(options.round_count),
      reassembly_(options.reassembly_count),
      fault_ring_(kFaultRing) {
  for (std::uint32_t i = 0; i < port.queue_count(); ++i) {
    inbox_.push_back(std::make_unique<fault::SpscRing<rte_mbuf*>>(kInboxRing));
  }
  wake_fds_.push_back(pollfd{.fd = doorbell_.fd(), .events = POLLIN, .revents = 0});
  for (const int fd : port.wake_fds(static_cast<std::uint16_t>(options.index))) {
    wake_fds_.push_back(pollfd{.fd = fd, .events = POLLIN, .revents = 0});
  }
}

Loop::~Loop() {
  stop();
  for (auto& inbox : inbox_) {
    while (rte_mbuf** frame = inbox->peek()) {
      rte_pktmbuf_free(*frame);
      inbox->pop();
    }
  }
}

void Loop::run() {
  const LoopThreadRegistration registration;
  fault::ask_for_short_slices();
  while (!stop_.load(std::memory_order_relaxed)) {
    now_ns_ = now_ns();
    bool worked = receive();
    worked |= faults();
    worked |= timers();
    worked |= control();
    port_.flush(static_cast<std::uint16_t>(options_.index));
    if (worked) {
      idle_since_ns_ = 0;
    } else {
      idle();
    }
  }
}

void Loop::start() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // the service's signals are for the service's threads
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  const std::string name = "pagewire-loop" + std::to_string(options_.index);
  pthread_setname_np(thread_.native_handle(), name.c_str());
  if (options_.core >= 0) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(static_cast<std::size_t>(options_.core), &cores);
    pthread_setaffinity_np(thread_.native_handle(), sizeof(cores), &cores);
  }
}

void Loop::stop() {
  stop_.store(true);
  doorbell_.ring();
  if (thread_.joinable()) thread_.join();
}

void Loop::push_fault(const fault::Fault& fault) {
  while (!fault_ring_.try_push(fault)) {  // as many as there are blocked threads, so this is rare
    doorbell_.ring();
    if (stop_.load(std::memory_order_relaxed)) return refused_fault_.store(true);
    sched_yield();
  }
  doorbell_.ring();
}

void Loop::push_prefetch(const Prefetch& prefetch) {
  prefetches_.push(prefetch);
  doorbell_.ring();
}

std::size_t Loop::memory_bytes() const {
  return sizeof(*this) +
         round_storage_.size() * (sizeof(protocol::Round) + sizeof(protocol::Time) + sizeof(Waiting)) +
         reassembly_.memory_bytes() + kFaultRing * sizeof(fault::Fault) +
         inbox_.size() * kInboxRing * sizeof(void*);
}

bool Loop::receive() {
  std::array<rte_mbuf*, kBurst> frames;
  const std::uint16_t count = port_.receive(static_cast<std::uint16_t>(options_.index), frames);
  for (std::uint16_t i = 0; i < count; ++i) on_frame(frames[i]);
  bool worked = count > 0;
  for (auto& inbox : inbox_) {
    while (rte_mbuf** frame = inbox->peek()) {
      rte_mbuf* taken = *frame;
      inbox->pop();
      on_frame(taken);
      worked = true;
    }
  }
  return worked;
}

bool Loop::faults() {
  bool worked = false;
  for (std::size_t i = 0; i < kBurst; ++i) {
    const fault::Fault* fault = fault_ring_.peek();
    if (fault == nullptr || !on_fault(*fault)) break;  // no round free: the fault waits in its ring
    fault_ring_.pop();
    worked = true;
  }
  return prefetch_some() || worked;
}

bool Loop::timers() {
  const protocol::Time now{now_ns_};
  if (rounds_.next_deadline() > now) return false;
  std::uint16_t round = rounds_.next_expired(now, 0);
  while (round != protocol::kNoRound) {
    on_round_expired(round);
    round = rounds_.next_expired(now, static_cast<std::uint16_t>(round + 1));
  }
  return true;
}

bool Loop::control() {
  for (std::size_t i = 0; i < protocol::kEvents; ++i) {
    const std::uint64_t counted = rounds_.events(static_cast<protocol::Event>(i));
    if (counted != counters_.events[i].get()) counters_.events[i].add(counted - counters_.events[i].get());
  }
  if (options_.index != 0 || !shared_.control->is_due(now_ns_)) return false;
  control_frames_.clear();
  shared_.control->tick(now_ns_, control_frames_);
  send_control(control_frames_);
  return true;
}

// Spins a little, then yields, then sleeps. A yield that took long says that others compute on this core:
// then it is better to sleep at once, for a thread that is woken goes before them, and one that yielded waits
// for its turn.
void Loop::idle() {
  if (idle_since_ns_ == 0) idle_since_ns_ = now_ns_;
  const std::uint64_t idle_ns = now_ns_ - idle_since_ns_;
  if (now_ns_ < crowded_until_ns_ || idle_ns >= options_.yield_ns) return sleep();
  if (idle_ns < options_.spin_ns) return rte_pause();
  sched_yield();
  const std::uint64_t after_ns = now_ns();
  if (after_ns - now_ns_ > options_.crowded_ns) crowded_until_ns_ = after_ns + kCrowdedForNs;
}

// True if it is right to sleep. Called after arming: whoever brings work later rings.
bool Loop::nothing_waits() {
  if (receive() || stop_.load()) return false;
  if (fault_ring_.peek() != nullptr && rounds_.has_room_for_local()) return false;
  const bool prefetch_waits = prefetching_.page_count > 0 || !prefetches_.empty();
  if (prefetch_waits && rounds_.has_room_for_local()) return false;
  return options_.index != 0 || !shared_.control->is_due(now_ns_);
}

void Loop::sleep() {
  const auto queue = static_cast<std::uint16_t>(options_.index);
  doorbell_.arm();
  port_.arm(queue);
  if (nothing_waits()) {
    std::uint64_t until = rounds_.next_deadline().ns;
    if (options_.index == 0) until = std::min(until, shared_.control->due_ns());
    if (port_.nap_ns_max() > 0) until = std::min(until, now_ns_ + port_.nap_ns_max());
    const std::uint64_t left = until > now_ns_ ? std::min<std::uint64_t>(until - now_ns_, 1'000'000'000) : 0;
    const timespec timeout{.tv_sec = static_cast<time_t>(left / 1'000'000'000),
                           .tv_nsec = static_cast<long>(left % 1'000'000'000)};
    counters_.sleeps.add();
    ppoll(wake_fds_.data(), wake_fds_.size(), &timeout, nullptr);
  }
  port_.disarm(queue);
  doorbell_.disarm();
  idle_since_ns_ = 0;
}

}  // namespace pagewire::dataplane
