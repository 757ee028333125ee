// One node's data plane put together: port, loops, fault thread, control plane, regions. Built, asked and
// torn down by threads of the service; the work is done by the loops.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "dataplane/control_plane.h"
#include "dataplane/loop.h"
#include "dataplane/port.h"
#include "dataplane/region_state.h"
#include "fault/fault_threads.h"
#include "fault/inline_faults.h"
#include "fault/region_memory.h"
#include "protocol/control.h"

namespace pagewire::dataplane {

struct EngineOptions {
  std::uint32_t cluster = 0;
  protocol::NodeId self{};
  std::uint32_t node_count = 1;
  std::vector<int> loop_cores;    // one a loop; -1: floats
  std::uint64_t region_base = 0;  // agreed on by all nodes
  std::uint64_t map_base = 0;  // where regions really go: region_base, unless several nodes share a process
  fault::KernelFaults kernel_faults = fault::KernelFaults::kAuto;
  std::uint64_t silence_ns = 5'000'000'000;
  std::uint64_t retry_ns = 2'000'000;
  std::uint64_t retry_ns_max = 100'000'000;
  std::uint64_t grace_ns = 10'000;
  std::uint64_t hold_ns = 0;
  std::size_t round_count = 512;
  LoopKind loop_kind = LoopKind::kShared;
  bool real_time = true;   // threads that never spin long go before others, if the process may ask for that
  bool scan_ahead = true;  // ask ahead of scans
  bool hand_on = true;     // with the one store of a turn
};

class Engine final : public fault::FaultSink, public fault::InlineSink {
 public:
  // Starts the loops at once. The port has one queue a loop. Throws SetupError.
  Engine(const EngineOptions& options, std::unique_ptr<Port> port);
  ~Engine() override;

  ControlPlane& control() { return *control_; }
  const Membership& membership() const { return shared_.membership; }

  // Maps a region that all nodes agree on and serves its pages from here on. Throws SetupError.
  RegionState& serve(const protocol::RegionDeclaration& declaration,
                     fault::Delivery delivery = fault::Delivery::kThread);
  // A thread of the service that has nothing to do until done(control) or the deadline (false if that came
  // first). With LoopKind::kSelf it drives the loops meanwhile, and sleeps in place of their threads.
  bool wait_until(ControlPlane::Clock::time_point deadline,
                  const std::function<bool(const protocol::Control&)>& done);
  // Asks for pages ahead; any thread.
  void prefetch(const RegionState& region, std::uint32_t first_page, std::uint32_t page_count,
                protocol::Access access);

  // Keeps pages here until end_hold() with the same range, or until the time is up. False if they could not
  // be had before: then none is held. A thread of the service.
  bool hold(const Loop::PageRange& range, std::uint64_t until_ns);
  void end_hold(const Loop::PageRange& range);

  // Says goodbye and waits until nobody needs an answer or a repetition of us, or until the time is up.
  void leave(std::uint64_t timeout_ns);
  // Ends everything; threads that still wait for pages get SIGBUS. The destructor calls it.
  void stop();
  // All nodes are there: from now on a node that comes with another boot id is not the one we know.
  void set_joined() { shared_.membership.joined.store(true); }

  // Any thread.
  std::span<const std::unique_ptr<Loop>> loops() const { return shared_.loops; }
  const Port& port() const { return *port_; }
  protocol::NodeSet silent() const;
  std::vector<const RegionState*> regions() const;
  std::size_t loop_bytes() const;

  void on_faults(std::span<const fault::Fault> faults) override;  // fault threads
  bool turn() override;                                           // likewise
  bool on_inline_fault(const fault::Fault& fault, fault::Interrupted& interrupted) noexcept override;

 private:
  class Waiter;
  class SignalsWaiting;
  std::optional<bool> wait_in_place(std::uint64_t deadline_ns,
                                    const std::function<bool(const protocol::Control&)>& done,
                                    SignalsWaiting& signals);
  bool threads_wait(const RegionState& region) const;

  EngineOptions options_;
  std::unique_ptr<Port> port_;
  LoopShared shared_;
  std::unique_ptr<ControlPlane> control_;
  std::unique_ptr<fault::FaultThreads> fault_threads_;
  mutable std::mutex regions_mutex_;
  std::vector<std::unique_ptr<RegionState>> regions_;
  std::vector<std::unique_ptr<fault::InlineFaults>> inline_faults_;
  bool stopped_ = false;
};

}  // namespace pagewire::dataplane
