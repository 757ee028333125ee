#include "dataplane/doorbell.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>

#include "fault/setup_error.h"

namespace pagewire::dataplane {

Doorbell::Doorbell() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (fd_ < 0) {
    throw fault::SetupError("making a doorbell", std::strerror(errno),
                            "Raise the limit of open files (ulimit -n)");
  }
}

Doorbell::~Doorbell() { close(fd_); }

bool Doorbell::ring(bool urgent) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!is_rung(sleeping_.load(std::memory_order_relaxed), urgent) || sleeping_.exchange(0) == 0) return false;
  const std::uint64_t one = 1;
  return write(fd_, &one, sizeof(one)) == sizeof(one);
}

void Doorbell::ring_for_good() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(fd_, &one, sizeof(one));
}

void Doorbell::arm(Ringing by) {
  sleeping_.store(static_cast<std::uint32_t>(by), std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

// A ringer that took the 1 may not have written yet: then a later sleep ends at once, which harms nobody.
void Doorbell::disarm() { sleeping_.store(0, std::memory_order_relaxed); }

void Doorbell::drain() {
  std::uint64_t rung = 0;
  [[maybe_unused]] const ssize_t read_bytes = read(fd_, &rung, sizeof(rung));
}

}  // namespace pagewire::dataplane
