// How a thread wakes a loop that sleeps, and costs next to nothing while the loop is awake.
//
// The hand-over, the same for every bell here (this one, and memif's between processes):
//
//     loop:   drain the fd;  sleeping = 1 (A);  look for work once more (B);  poll(fd);  sleeping = 0;  work
//     other:  put the work where the loop looks (C);  if sleeping (D) exchange it for 0 and make the fd
//     readable
//
// A before B and C before D are ordered by sequentially consistent fences, so of the loads B and D at least
// one sees the other side's store (Dekker): either the loop finds the work, or the other finds it asleep and
// rings. The fd stays readable until it is drained, before the next A and by who has the drive, so a ring
// between B and poll() isn't lost. Only one of several ringers writes.
//
// A loop for which nobody waits may sleep through what is not urgent (Ringing::kUrgent); it finds that when
// it is awake for another reason.
#pragma once

#include <atomic>
#include <cstdint>

namespace pagewire::dataplane {

// What `sleeping` says, in memory that processes share, too. 0: awake.
enum class Ringing : std::uint32_t { kAny = 1, kUrgent = 2 };
inline bool is_rung(std::uint32_t sleeping, bool urgent) {
  return sleeping == static_cast<std::uint32_t>(Ringing::kAny) ||
         (urgent && sleeping == static_cast<std::uint32_t>(Ringing::kUrgent));
}

class Doorbell {
 public:
  Doorbell();  // throws SetupError (no descriptor left)
  ~Doorbell();
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;

  // Any thread, after it has put its work where the loop looks. True if the loop slept and is being woken.
  bool ring(bool urgent = true);
  // Who drives the loop: after arm() looks for work once more; then who sleeps may poll fd() for input.
  // disarm() costs a store, the fd stays as it is.
  void arm(Ringing by = Ringing::kAny);
  void disarm();
  void drain();  // with the drive, before arm()
  // Makes the fd readable and leaves it so; for a bell that is never drained.
  void ring_for_good();
  int fd() const { return fd_; }

 private:
  std::atomic<std::uint32_t> sleeping_{0};
  int fd_ = -1;
};

}  // namespace pagewire::dataplane
