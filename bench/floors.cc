#include "bench/floors.h"

#include <pthread.h>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "dataplane/eal.h"
#include "pagewire/error.h"
#include "protocol/wire.h"

namespace pagewire::bench {

namespace {

// Away from where nodes map their regions.
constexpr std::uintptr_t kLocalBase = 0x1000'0000'0000;

std::vector<std::size_t> own_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof(allowed), &allowed);
  std::vector<std::size_t> cores;
  for (std::size_t core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  return cores;
}

void pin_this_thread(std::size_t core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  ::pthread_setaffinity_np(::pthread_self(), sizeof(cores), &cores);
}

// As long as it lives the thread runs on one core: two of them, of the two processes, on different ones, as
// far as there are. Left alone the scheduler may put both on one when others run, and a round trip is then
// two of its turns.
class OnOwnCore {
 public:
  explicit OnOwnCore(std::size_t index) {
    ::pthread_getaffinity_np(::pthread_self(), sizeof(before_), &before_);
    const std::vector<std::size_t> cores = own_cores();
    if (cores.size() > 1) pin_this_thread(cores[index]);
  }
  ~OnOwnCore() { ::pthread_setaffinity_np(::pthread_self(), sizeof(before_), &before_); }
  OnOwnCore(const OnOwnCore&) = delete;
  OnOwnCore& operator=(const OnOwnCore&) = delete;

 private:
  cpu_set_t before_{};
};

// Spins for a moment, as a loop would, and then lets others run.
class Patience {
 public:
  void wait() {
    if (++waits_ < kSpins) {
      rte_pause();
    } else {
      ::sched_yield();
    }
  }

 private:
  static constexpr std::uint32_t kSpins = 2'000;
  std::uint32_t waits_ = 0;
};

void wait_for(const std::atomic<std::uint64_t>& line, std::uint64_t value) {
  Patience patience;
  while (line.load(std::memory_order_acquire) != value) patience.wait();
}

rte_mbuf* receive_one(dataplane::Port& port) {
  constexpr std::uint64_t kPollsBetweenClocks = 1 << 16;
  constexpr std::uint64_t kLimitNs = 10'000'000'000;
  std::array<rte_mbuf*, 1> frames{};
  Patience patience;
  std::uint64_t first_look_ns = 0;
  for (std::uint64_t polls = 1; port.receive(0, frames) == 0; ++polls) {
    patience.wait();
    if (polls % kPollsBetweenClocks != 0) continue;
    if (first_look_ns == 0) first_look_ns = now_ns();
    if (now_ns() - first_look_ns > kLimitNs) {
      throw Error("measuring the port's round trip", "no frame came for ten seconds",
                  "See what the other process said");
    }
  }
  return frames[0];
}

}  // namespace

std::optional<std::uint64_t> measure_line_round_trip_ns() {
  constexpr std::size_t kBatches = 200;
  constexpr std::uint64_t kTripsPerBatch = 100;
  const std::vector<std::size_t> cores = own_cores();
  if (cores.size() < 2) return std::nullopt;
  alignas(64) std::atomic<std::uint64_t> line{0};
  Samples samples(kBatches);
  std::thread there([&] {
    pin_this_thread(cores[1]);
    for (std::uint64_t trip = 0; trip < kBatches * kTripsPerBatch; ++trip) {
      wait_for(line, 2 * trip + 1);
      line.store(2 * trip + 2, std::memory_order_release);
    }
  });
  std::thread here([&] {
    pin_this_thread(cores[0]);
    std::uint64_t trip = 0;
    for (std::size_t batch = 0; batch < kBatches; ++batch) {
      const std::uint64_t start_ns = now_ns();
      for (std::uint64_t i = 0; i < kTripsPerBatch; ++i, ++trip) {
        line.store(2 * trip + 1, std::memory_order_release);
        wait_for(line, 2 * trip + 2);
      }
      samples.add((now_ns() - start_ns) / kTripsPerBatch);
    }
  });
  here.join();
  there.join();
  return samples.quantiles().p50_ns;
}

LocalFaults::LocalFaults(std::size_t page_count)
    : memory_("local-floor", kLocalBase, page_count * fault::kPageBytes, fault::KernelFaults::kAuto),
      fault_thread_(*this) {
  fault_thread_.add(0, memory_);
}

LocalFaults::~LocalFaults() { fault_thread_.remove(0); }

void LocalFaults::on_faults(std::span<const fault::Fault> faults) {
  for (const fault::Fault& fault : faults) memory_.map_read(fault.page);
}

void LocalFaults::measure(std::size_t page_count, Samples& samples) {
  const std::size_t count = std::min(page_count, memory_.page_count());
  memory_.zap(0, count);
  for (std::size_t page = 0; page < count; ++page) {
    std::atomic_ref<std::uint64_t> word(
        *reinterpret_cast<std::uint64_t*>(memory_.application_view() + page * fault::kPageBytes));
    const std::uint64_t start_ns = now_ns();
    word.load(std::memory_order_relaxed);
    samples.add(now_ns() - start_ns);
  }
}

std::uint16_t page_frame_bytes() {
  protocol::Message transfer;
  transfer.type = protocol::MessageType::kOwnershipTransfer;
  return static_cast<std::uint16_t>(dataplane::kEthernetBytes + protocol::kHeaderBytes +
                                    protocol::body_bytes(transfer) + protocol::kPageBytes);
}

void ping(dataplane::Port& port, std::uint16_t frame_bytes, std::size_t count, Samples& samples) {
  const OnOwnCore core(0);
  const dataplane::LoopThreadRegistration registration;
  std::uint64_t before_ns = now_ns();
  for (std::size_t i = 0; i < count; ++i) {
    rte_mbuf* const frame = rte_pktmbuf_alloc(port.pool(0));
    char* const bytes = frame == nullptr ? nullptr : rte_pktmbuf_append(frame, frame_bytes);
    if (bytes == nullptr) {
      rte_pktmbuf_free(frame);
      throw Error("measuring the port's round trip", "no buffer for a frame", "Give DPDK more memory");
    }
    port.send(0, protocol::NodeSet::of(protocol::NodeId{1}), frame);
    port.flush(0);
    rte_pktmbuf_free(receive_one(port));
    const std::uint64_t after_ns = now_ns();
    samples.add(after_ns - before_ns);
    before_ns = after_ns;
  }
}

void echo(dataplane::Port& port, std::size_t count) {
  const OnOwnCore core(1);
  const dataplane::LoopThreadRegistration registration;
  for (std::size_t i = 0; i < count; ++i) {
    port.send(0, protocol::NodeSet::of(protocol::NodeId{0}), receive_one(port));
    port.flush(0);
  }
}

}  // namespace pagewire::bench
