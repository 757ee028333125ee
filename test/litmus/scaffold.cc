// See scaffold.h.
#include "test/litmus/scaffold.h"

#include <fcntl.h>
#include <immintrin.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace pagewire::litmus {

SharedFile::SharedFile(const std::string& path, std::size_t bytes) : bytes_(bytes) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  void* mapped = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0) {
    mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  const int error = errno;
  if (fd >= 0) close(fd);
  if (mapped == MAP_FAILED) throw std::runtime_error("cannot map " + path + ": " + std::strerror(error));
  data_ = static_cast<std::byte*>(mapped);
}

SharedFile::~SharedFile() { munmap(data_, bytes_); }

bool Barrier::all_here() const {
  const std::uint64_t mine = scaffold_.nodes[node_].arrivals.load(std::memory_order_relaxed);
  for (std::uint32_t node = 0; node < node_count_; ++node) {
    if (scaffold_.nodes[node].arrivals.load(std::memory_order_acquire) < mine) return false;
  }
  return true;
}

void Barrier::fail() const {
  if (scaffold_.failed.load() != 0) throw std::runtime_error("another node gave up");
  const std::uint64_t mine = scaffold_.nodes[node_].arrivals.load(std::memory_order_relaxed);
  std::string missing;
  for (std::uint32_t node = 0; node < node_count_; ++node) {
    if (scaffold_.nodes[node].arrivals.load() >= mine) continue;
    missing += (missing.empty() ? "" : ", ") + std::to_string(node);
  }
  throw std::runtime_error("nodes that did not come to the barrier in " + std::to_string(patience_seconds_) +
                           " s: " + missing + ". They died, or wait for a page that nobody sends");
}

void Barrier::wait() {
  scaffold_.nodes[node_].arrivals.fetch_add(1, std::memory_order_release);
  constexpr int kSpins = 200;
  for (int i = 0; i < kSpins; ++i) {
    if (all_here()) return;
    _mm_pause();
  }
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(patience_seconds_);
  for (unsigned turns = 1; !all_here(); ++turns) {
    sched_yield();
    if (scaffold_.failed.load(std::memory_order_relaxed) != 0) fail();
    if (turns % 64 == 0 && std::chrono::steady_clock::now() > until && !all_here()) fail();
  }
}

}  // namespace pagewire::litmus
