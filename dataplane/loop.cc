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
#include <utility>

#include "dataplane/eal.h"
#include "dataplane/futex.h"
#include "fault/scheduling.h"

namespace pagewire::dataplane {

namespace {

// Of the loop's own thread. By itself it rests at once: threads that wait do the spinning.
Patience patience_of(LoopKind kind) {
  switch (kind) {
    case LoopKind::kShared:
      return {.spin_ns = 5'000, .yield_ns = 50'000};
    case LoopKind::kDedicated:
      return {.spin_ns = 20'000, .yield_ns = 200'000'000};
    case LoopKind::kSelf:
      break;
  }
  return {.spin_ns = 0, .yield_ns = 0};
}

}  // namespace

Loop::Loop(LoopShared& shared, Port& port, const LoopOptions& options)
    : shared_(shared),
      port_(port),
      options_(options),
      round_storage_(options.round_count),
      deadline_storage_(options.round_count),
      rounds_(round_storage_, deadline_storage_),
      waiting_(options.round_count),
      phases_(options.round_count),
      reassembly_(options.reassembly_count),
      patience_(patience_of(options.kind)) {
  for (std::uint32_t i = 0; i < port.queue_count(); ++i) {
    inbox_.push_back(std::make_unique<fault::SpscRing<rte_mbuf*>>(kInboxRing));
  }
  wake_fds_.push_back(pollfd{.fd = doorbell_.fd(), .events = POLLIN, .revents = 0});
  wake_fds_.push_back(pollfd{.fd = end_bell_.fd(), .events = POLLIN, .revents = 0});
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
  core_id_ = registration.core_id();
  // By itself it never spins, so it may go before everybody.
  const bool real_time = options_.kind == LoopKind::kSelf && options_.real_time && fault::ask_for_real_time();
  if (!real_time) fault::ask_for_short_slices();
  while (!stop_.load(std::memory_order_relaxed)) {
    if (turn()) {
      if (worked_on_pages_) idle_since_ns_ = 0;
    } else {
      idle();
    }
    if (drive_.wanted()) give_way();
  }
  drive_.release();
}

bool Loop::turn() {
  const LoopIdentity identity(core_id_);
  const std::uint64_t before_ns = std::exchange(now_ns_, now_ns());
  if (turn_was_idle_) counters_.spun_ns.add(std::min(now_ns_ - before_ns, kYieldCallNs));
  phases_.begin(now_ns_);
  worked_on_pages_ = false;
  bool worked = receive();
  // Deadlines may have come because nobody looked at what answers them.
  for (int i = 0; i < kBurstsMax && burst_was_full_ && rounds_.next_deadline() <= protocol::Time{now_ns_};
       ++i) {
    receive();
  }
  worked |= faults();
  worked |= timers();
  worked |= control();
  worked |= watched_count_ > 0 && end_turns();
  map_arrived();
  phases_.flushes();
  port_.flush(static_cast<std::uint16_t>(options_.index));
  if (rings_later_.at_ns != 0 && now_ns_ >= rings_later_.at_ns) ring_now();
  turn_was_idle_ = !worked;
  return worked;
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

// Whoever waits or drives sees stop_ and goes; at the end the drive is nobody's any more.
void Loop::stop() {
  stop_.store(true);
  end_bell_.ring_for_good();
  futex_wake(sleeper_, kWakeAll);
  for (std::uint32_t i = 0; i < kWaitWords; ++i) wake_sleepers(i);
  if (!thread_.joinable()) return;
  thread_.join();
  drive_.take();
}

void Loop::push_fault(const fault::Fault& fault) {
  while (!board_.post(fault)) {  // as many as there are blocked threads, so this is rare
    doorbell_.ring();
    if (stop_.load(std::memory_order_relaxed)) return refused_fault_.store(true);
    sched_yield();
  }
  doorbell_.ring();
}

bool Loop::push_prefetch(const Prefetch& prefetch) {
  const bool posted = prefetches_.post(prefetch);
  doorbell_.ring();
  return posted;
}

std::size_t Loop::memory_bytes() const {
  return sizeof(*this) +
         round_storage_.size() * (sizeof(protocol::Round) + sizeof(protocol::Time) + sizeof(Waiting)) +
         reassembly_.memory_bytes() + phases_.memory_bytes() + inbox_.size() * kInboxRing * sizeof(void*);
}

bool Loop::receive() {
  std::array<rte_mbuf*, kBurst> frames;
  const std::uint16_t count = port_.receive(static_cast<std::uint16_t>(options_.index), frames);
  withdraw_runs(std::span(frames).first(count));
  for (std::uint16_t i = 0; i < count; ++i) on_frame(frames[i]);
  restore_runs();
  burst_was_full_ = count == frames.size();
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
  const bool posted = !board_.empty();
  if (posted) phases_.board_taken();
  const bool worked = posted && board_.take([this](const fault::Fault& fault) { return on_fault(fault); });
  return prefetch_some() || worked;
}

bool Loop::timers() {
  const protocol::Time now{now_ns_};
  if (rounds_.next_deadline() > now) return false;
  std::uint16_t round = rounds_.next_expired(now, 0);
  const bool expired = round != protocol::kNoRound;
  while (round != protocol::kNoRound) {
    on_round_expired(round);
    round = rounds_.next_expired(now, static_cast<std::uint16_t>(round + 1));
  }
  return expired;
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

// The loop's thread without work: spins a little, then yields, then sleeps. A yield that took long says that
// others compute on this core: then it is better to sleep at once, for a thread that is woken goes before
// them, and one that yielded waits for its turn.
void Loop::idle() {
  if (idle_since_ns_ == 0) idle_since_ns_ = now_ns_;
  const std::uint64_t idle_ns = now_ns_ - idle_since_ns_;
  if (now_ns_ < crowded_until_ns_ || idle_ns >= patience_.yield_ns) return sleep();
  if (idle_ns < patience_.spin_ns) return rte_pause();
  if (options_.kind == LoopKind::kDedicated) {
    sched_yield();
  } else if (!yield_drive()) {
    sleep_beside_driver();
  }
  const std::uint64_t after_ns = now_ns();
  if (after_ns - now_ns_ > options_.crowded_ns) crowded_until_ns_ = after_ns + kCrowdedForNs;
}

// To a thread that sleeps until it has the drive.
void Loop::give_way() {
  drive_.release();
  const std::uint64_t until_ns = now_ns() + kGiveWayNs;
  while (drive_.is_free() && now_ns() < until_ns) sched_yield();
  drive_.take();
}

// Lets others have the processor, and the drive. False if one of them has it now.
bool Loop::yield_drive() {
  drive_.release();
  sched_yield();
  return drive_.try_take();
}

// Whoever drives leaves properly, and rings if there is a deadline before that.
void Loop::sleep_beside_driver() {
  const std::uint64_t until_ns = options_.index == 0 ? shared_.control->due_ns() : protocol::kNever.ns;
  back_by_ns_.store(until_ns, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (drive_.try_take()) return;  // it has left already, before it could see that
  poll_fds(until_ns);
  come_back();
  drain();  // with the drive: without it, that could be the ring for what the one who leaves does not see
}

void Loop::sleep() {
  idle_since_ns_ = 0;
  if (sleeper_.load() != 0) {
    if (!leave()) return;
    for (std::uint32_t other = sleeper_.load(); other != 0 && !stopping(); other = sleeper_.load()) {
      futex_wait(sleeper_, other);
    }
    return drive_.take();
  }
  std::uint64_t until_ns = 0;
  if (!leave_to_sleep(until_ns)) return;
  poll_fds(until_ns);
  follow_service();
  come_back();
}

// Where the service's threads fault is the best place to serve others: what is withdrawn there interrupts no
// other core.
void Loop::follow_service() {
  const int core = service_core_.load(std::memory_order_relaxed);
  if (options_.kind != LoopKind::kSelf || options_.core >= 0 || core < 0 || core == own_core_) return;
  own_core_ = core;
  fault::stay_on_core(core);
}

void Loop::poll_fds(std::uint64_t until_ns) {
  const std::uint64_t now = now_ns();
  const std::uint64_t left = until_ns > now ? std::min<std::uint64_t>(until_ns - now, 1'000'000'000) : 0;
  const timespec timeout{.tv_sec = static_cast<time_t>(left / 1'000'000'000),
                         .tv_nsec = static_cast<long>(left % 1'000'000'000)};
  std::array<pollfd, kWakeFdsMax> fds;  // a copy: two threads may sleep at once
  const std::size_t count = std::min(wake_fds_.size(), fds.size());
  std::copy_n(wake_fds_.begin(), count, fds.begin());
  ppoll(fds.data(), count, &timeout, nullptr);
}

void Loop::arm() {
  phases_.flushes();
  port_.flush(static_cast<std::uint16_t>(options_.index));
  if (rings_later_.at_ns != 0) ring_now();  // nobody may be here to do it later
  const auto queue = static_cast<std::uint16_t>(options_.index);
  doorbell_.arm();
  const bool somebody_waits =
      waiting_count_ > 0 || wish_count_ > 0 || !board_.empty() || !prefetches_.empty();
  if (somebody_waits || leaving_.load(std::memory_order_relaxed)) return port_.arm(queue);
  port_.arm_for_urgent(queue);
}

void Loop::disarm() {
  port_.disarm(static_cast<std::uint16_t>(options_.index));
  doorbell_.disarm();
}

// True if it is right to go. Called after arming: whoever brings work later rings.
bool Loop::nothing_waits() {
  const LoopIdentity identity(core_id_);
  phases_.looks_again(waiting_count_ > 0);
  if (receive() || rounds_.next_deadline() <= protocol::Time{now_ns_}) return false;
  if (!board_.empty() && rounds_.has_room_for_local()) return false;
  const bool wishes_wait = wish_count_ > 0 || !prefetches_.empty();
  if (wishes_wait && has_room_ahead()) return false;
  return options_.index != 0 || !shared_.control->is_due(now_ns_);
}

// When somebody has to look at the loop even if nothing comes. Not for the end of a hold: who waits for it
// asks again, and a timer costs more than most holds last.
std::uint64_t Loop::wake_time_ns() {
  std::uint64_t until = board_.empty() ? rounds_.next_wake().ns : rounds_.next_deadline().ns;
  if (options_.index == 0) until = std::min(until, shared_.control->due_ns());
  if (port_.nap_ns_max() > 0) until = std::min(until, now_ns_ + port_.nap_ns_max());
  return until;
}

bool Loop::begin() {
  if (stopping() || !drive_.try_take()) return false;
  turn_was_idle_ = false;
  disarm();
  service_core_.store(sched_getcpu(), std::memory_order_relaxed);
  counters_.driven_by_waiting.add();
  return true;
}

bool Loop::begin_for_sure() {
  if (stopping()) return false;
  drive_.take();
  disarm();
  if (!stopping()) return true;
  drive_.release();
  return false;
}

bool Loop::leave(std::span<const Run> to_wake) {
  if (!stopping()) {
    arm();
    if (!nothing_waits()) {
      disarm();
      return false;
    }
  }
  const std::uint64_t wake_ns = wake_time_ns();
  drive_.release();
  wake(to_wake);  // first of all: the loop's thread, if we ring it, goes before us
  std::atomic_thread_fence(std::memory_order_seq_cst);  // with sleep_beside_driver()
  if (wake_ns >= back_by_ns_.load(std::memory_order_relaxed)) return true;
  short_sleeps_until_ns_.store(now_ns() + kShortSleepsNs, std::memory_order_relaxed);
  doorbell_.ring();
  return true;
}

bool Loop::leave_to_sleep(std::uint64_t& until_ns) {
  if (stopping()) return false;
  drain();
  arm();
  if (!nothing_waits()) {
    disarm();
    return false;
  }
  until_ns = wake_time_ns();
  // Whoever left before with a hand-over that may have to be repeated had to ring for that, in the midst of a
  // fault: better to be back before the next one's repetition is due.
  if (now_ns_ < short_sleeps_until_ns_.load(std::memory_order_relaxed))
    until_ns = std::min(until_ns, now_ns_ + shared_.view.retry_ns);
  back_by_ns_.store(until_ns, std::memory_order_relaxed);
  counters_.sleeps.add();
  drive_.release();
  return true;
}

// The loop's own thread, or one that sleeps in its place.
void Loop::come_back() {
  drive_.take();
  turn_was_idle_ = false;
  disarm();
}

// Before a sleep, and before the last look for work: what was rung until then was seen. Not after it, for
// there is work then, and somebody waits for it.
void Loop::drain() {
  doorbell_.drain();
  port_.drain(static_cast<std::uint16_t>(options_.index));
}

}  // namespace pagewire::dataplane
