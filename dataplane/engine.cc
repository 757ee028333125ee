#include "dataplane/engine.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "dataplane/thread_id.h"
#include "fault/setup_error.h"

namespace pagewire::dataplane {

namespace {

// Grows from one life of this node to the next, so that a later life is told from an earlier one.
std::uint64_t make_boot_id() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::system_clock::now().time_since_epoch())
                                        .count());
}

// Of the calling fault thread, which is one engine's.
thread_local std::array<Loop::FaultDrive, kLoopsMax> fault_drives;

}  // namespace

Engine::Engine(const EngineOptions& options, std::unique_ptr<Port> port)
    : options_(options), port_(std::move(port)) {
  Membership& membership = shared_.membership;
  membership.cluster = options.cluster;
  membership.self = options.self;
  membership.node_count = options.node_count;
  membership.boot_id = make_boot_id();
  shared_.view.self = options.self;
  shared_.view.members = membership.members();
  shared_.view.number = membership.view;
  shared_.view.retry_ns = options.retry_ns;
  shared_.view.retry_ns_max = options.retry_ns_max;
  shared_.view.grace_ns = options.grace_ns;
  shared_.view.hold_ns = options.hold_ns;

  protocol::ControlSettings settings;
  settings.self = options.self;
  settings.members = membership.members();
  settings.region_base = options.region_base;
  settings.loop_count = static_cast<std::uint32_t>(options.loop_cores.size());
  settings.silence_ns = options.silence_ns;
  control_ = std::make_unique<ControlPlane>(settings, membership, [this] { shared_.loops.front()->wake(); });
  shared_.control = control_.get();
  shared_.scan_ahead = options.scan_ahead;
  shared_.hand_on = options.hand_on;

  for (std::size_t i = 0; i < options.loop_cores.size(); ++i) {
    LoopOptions loop;
    loop.index = static_cast<std::uint32_t>(i);
    loop.core = options.loop_cores[i];
    loop.kind = options.loop_kind;
    loop.real_time = options.real_time;
    loop.round_count = options.round_count;
    shared_.loops.push_back(std::make_unique<Loop>(shared_, *port_, loop));
  }
  fault_threads_ = std::make_unique<fault::FaultThreads>(*this);
  for (auto& loop : shared_.loops) loop->start();
}

Engine::~Engine() { stop(); }

RegionState& Engine::serve(const protocol::RegionDeclaration& declaration, fault::Delivery delivery) {
  auto region = std::make_unique<RegionState>(declaration, options_.map_base, options_.kernel_faults,
                                              delivery, options_.self, options_.node_count,
                                              static_cast<std::uint32_t>(shared_.loops.size()));
  RegionState& served = *region;
  {
    const std::lock_guard lock(regions_mutex_);
    regions_.push_back(std::move(region));
  }
  shared_.regions[served.id].store(&served, std::memory_order_release);
  if (delivery == fault::Delivery::kThread) {
    fault_threads_->add(served.id, served.memory);
  } else {
    auto faults = std::make_unique<fault::InlineFaults>(served.id, served.memory, *this);
    const std::lock_guard lock(regions_mutex_);
    inline_faults_.push_back(std::move(faults));
  }
  return served;
}

void Engine::prefetch(const RegionState& region, std::uint32_t first_page, std::uint32_t page_count,
                      protocol::Access access) {
  for (auto& loop : shared_.loops) {  // each takes the pages that are its own
    loop->push_prefetch(Loop::Prefetch{
        .region = region.id, .first_page = first_page, .page_count = page_count, .access = access});
  }
}

void Engine::on_faults(std::span<const fault::Fault> faults) {
  const auto loop_count = static_cast<std::uint32_t>(shared_.loops.size());
  for (const fault::Fault& fault : faults) {
    const std::uint32_t loop = loop_of(fault.page, loop_count);
    shared_.loops[loop]->take_fault(fault, fault_drives[loop]);
  }
}

bool Engine::turn() {
  bool more = false;
  const auto drive = [&](bool wakes) {  // first the loops whose threads only wait to be woken
    for (std::size_t i = 0; i < shared_.loops.size(); ++i) {
      const bool has_to_wake = fault_drives[i].driving && shared_.loops[i]->has_to_wake();
      if (has_to_wake == wakes) more |= shared_.loops[i]->drive_for_faults(fault_drives[i]);
    }
  };
  drive(true);
  drive(false);
  return more;
}

bool Engine::on_inline_fault(const fault::Fault& fault, fault::Interrupted& interrupted) noexcept {
  RegionState* const region = shared_.regions[fault.region].load(std::memory_order_acquire);
  const auto loop_count = static_cast<std::uint32_t>(shared_.loops.size());
  fault::Fault of_thread = fault;
  of_thread.thread_id = this_thread_id();
  return shared_.loops[loop_of(fault.page, loop_count)]->wait_inline(*region, of_thread, interrupted);
}

void Engine::leave(std::uint64_t timeout_ns) {
  const auto deadline = ControlPlane::Clock::now() + std::chrono::nanoseconds(timeout_ns);
  for (const auto& loop : shared_.loops) loop->set_leaving();
  control_->change([](protocol::Control& control) {
    control.leave();
    return true;
  });
  wait_until(deadline, [&](const protocol::Control& control) {
    const bool handing_over = std::any_of(shared_.loops.begin(), shared_.loops.end(), [](const auto& loop) {
      return loop->counters().hand_overs.get() > 0;
    });
    return control.may_go(protocol::Time{now_ns()}) &&
           (!handing_over || !control.silent(protocol::Time{now_ns()}).empty());
  });
}

// True if a thread of the service may be blocked on the region, or on its way back into it. After the loops
// have stopped.
bool Engine::threads_wait(const RegionState& region) const {
  // Who left the signal handler a moment ago has not run its instruction again, and nobody has counted it.
  if (region.memory.delivery() == fault::Delivery::kInline) return true;
  pollfd unread{.fd = region.memory.userfaultfd(), .events = POLLIN, .revents = 0};
  if (poll(&unread, 1, 0) > 0) return true;
  return std::any_of(region.counters.begin(), region.counters.end(),
                     [](const RegionCounters& counters) { return counters.waiting.get() > 0; }) ||
         std::any_of(shared_.loops.begin(), shared_.loops.end(),
                     [](const auto& loop) { return loop->has_unserved_faults(); });
}

void Engine::stop() {
  if (std::exchange(stopped_, true)) return;
  for (auto& loop : shared_.loops) loop->stop();  // first: the fault thread may wait for room in their rings
  fault_threads_.reset();                         // from here on faulting threads wait in the kernel
  inline_faults_.clear();                         // waits for those in the handler, who see the loops' end
  for (auto& region : regions_) region->memory.retire(threads_wait(*region));
  const std::lock_guard lock(regions_mutex_);
  regions_.clear();
  shared_.loops.clear();  // before the port: frames between loops are mbufs of its pools
  port_->close();
}

protocol::NodeSet Engine::silent() const {
  return control_->with([](protocol::Control& control) { return control.silent(protocol::Time{now_ns()}); });
}

std::vector<const RegionState*> Engine::regions() const {
  const std::lock_guard lock(regions_mutex_);
  std::vector<const RegionState*> all;
  for (const auto& region : regions_) all.push_back(region.get());
  return all;
}

std::size_t Engine::loop_bytes() const {
  std::size_t bytes = 0;
  for (const auto& loop : shared_.loops) bytes += loop->memory_bytes();
  return bytes;
}

}  // namespace pagewire::dataplane
