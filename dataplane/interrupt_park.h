// EAL's interrupt thread, held still while loops use memif devices. When a peer dies, net_memif's callback on
// that thread unmaps the rings at once, under the feet of a loop that is inside a burst. So: devices link up
// and go down while the thread is free; loops run while it is parked. Setting up and closing; any thread.
//
// Nothing else of EAL's that needs that thread (alarms, link-change interrupts of NICs) happens while it is
// parked.
#pragma once

#include <cstdint>
#include <functional>

namespace pagewire::dataplane {

// From construction to destruction: first linking (the thread is free, no loop may use a device), then, after
// park(), parked. Several users in a process may link at the same time; while somebody is parked nobody can
// begin.
class InterruptPark {
 public:
  InterruptPark();  // throws SetupError if the thread is parked, or about to be
  ~InterruptPark();
  InterruptPark(const InterruptPark&) = delete;
  InterruptPark& operator=(const InterruptPark&) = delete;

  // Linking -> parked. Waits until everybody who links has done so, and until the thread stands still. False
  // when `deadline_ns` (CLOCK_MONOTONIC) comes first; then still linking.
  bool park(std::uint64_t deadline_ns);
  // Parked -> linking, after the loops have left. The thread goes on once nobody wants it parked any more.
  // Nothing if linking.
  void leave();

  // Runs `work` while no callback of a driver runs: on the interrupt thread, or here if others keep that
  // parked. To be called while linking. Waits for it.
  void run(const std::function<void()>& work);

 private:
  bool parked_ = false;
};

std::uint64_t monotonic_ns();

}  // namespace pagewire::dataplane
