// What every port does with DPDK's ethdevs: mbuf pools, one device with its queues, a burst to send,
// counters. Setting up: one thread at a time. TxBurst and QueueCounters: the queue's loop; counters can be
// read by any thread. Source: DPDK 22.11 API, rte_ethdev.h, rte_mbuf.h, rte_bus_vdev.h.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "dataplane/eal.h"
#include "dataplane/port.h"

namespace pagewire::dataplane {

inline constexpr std::uint16_t kBurstFrames = 32;

// A name that no other device, ring or pool of this process has: "<kind><number>".
std::string unique_name(const std::string& kind);

// Mbufs of kFrameRoomBytes behind DPDK's usual headroom. Any thread may allocate from it and free to it, and
// may be preempted while doing so.
class MbufPool {
 public:
  // Throws SetupError (no memory left in EAL).
  MbufPool(const Eal& eal, std::uint32_t frame_count);
  ~MbufPool();
  MbufPool(MbufPool&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)) {}
  MbufPool& operator=(MbufPool&&) = delete;

  rte_mempool* get() const { return pool_; }
  std::uint32_t available_count() const;

 private:
  rte_mempool* pool_ = nullptr;
};

// One device with as many receive as send queues. Closing frees it and, if it is a virtual one, removes it.
class Ethdev {
 public:
  // A virtual device: `name` as EAL wants it ("net_memif0"), its arguments "key=value,…". Throws SetupError.
  static Ethdev create(const std::string& name, const std::string& arguments);
  // A device that is there already; `virtual_name` empty unless closing shall remove a virtual device.
  Ethdev(std::uint16_t id, std::string virtual_name) : id_(id), virtual_name_(std::move(virtual_name)) {}
  ~Ethdev() { close(); }
  Ethdev(Ethdev&& other) noexcept
      : id_(std::exchange(other.id_, kNone)), virtual_name_(std::move(other.virtual_name_)) {}
  Ethdev& operator=(Ethdev&&) = delete;

  // One queue a pool. `interrupts`: ask for receive interrupts. Throws SetupError.
  void configure(std::span<const MbufPool> pools, bool interrupts = false);
  // True if it runs now. A memif client whose server is away gives false.
  bool try_start();
  void start();  // throws SetupError
  void stop();
  void close();

  std::uint16_t id() const { return id_; }
  bool link_up() const;

 private:
  static constexpr std::uint16_t kNone = 0xffff;
  std::uint16_t id_ = kNone;
  std::string virtual_name_;
};

// The counters of one queue: written by its loop alone, read by anybody.
class QueueCounters {
 public:
  void add_sent(std::uint64_t frames, std::uint64_t bytes) {
    add(sent_frames_, frames), add(sent_bytes_, bytes);
  }
  void add_multicast(std::uint64_t frames) { add(sent_multicast_, frames); }
  void add_dropped(std::uint64_t frames) { add(send_dropped_, frames); }
  void add_received(std::uint64_t frames, std::uint64_t bytes) {
    add(received_frames_, frames), add(received_bytes_, bytes);
  }
  void add_foreign(std::uint64_t frames) { add(foreign_frames_, frames); }
  PortCounters read() const;

 private:
  using Counter = std::atomic<std::uint64_t>;
  static void add(Counter& counter, std::uint64_t n) {
    counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  Counter sent_frames_{0}, sent_bytes_{0}, sent_multicast_{0}, send_dropped_{0};
  Counter received_frames_{0}, received_bytes_{0}, foreign_frames_{0};
};

// Frames that wait to be handed to one queue of one device.
class TxBurst {
 public:
  bool empty() const { return count_ == 0; }
  bool full() const { return count_ == kBurstFrames; }
  void push(rte_mbuf* frame) { frames_[count_++] = frame; }  // not when full
  // Hands them over; frees and counts what the device refuses. Returns how many it took.
  std::uint16_t flush(std::uint16_t device, std::uint16_t queue, QueueCounters& counters);
  void drop_all(QueueCounters& counters);

 private:
  std::array<rte_mbuf*, kBurstFrames> frames_{};
  std::uint16_t count_ = 0;
};

// True if a frame to send is one that ports take: one segment, kEthernetBytes..frame_bytes_max long.
bool frame_fits(const rte_mbuf& frame, std::uint32_t frame_bytes_max);

using MacAddress = std::array<std::uint8_t, 6>;

// On a shared medium: what is to us or to our group, and isn't an echo of our own.
struct Addresses {
  MacAddress own;
  MacAddress group;
};

// Keeps, in place, what is in one segment, of our EtherType and, given `addresses`, meant for us; frees and
// counts the rest as foreign, and counts what is kept as received. Echoes are freed uncounted. Returns how
// many are kept.
std::uint16_t keep_ours(std::span<rte_mbuf*> frames, QueueCounters& counters,
                        const Addresses* addresses = nullptr);

void write_ethernet(rte_mbuf& frame, const MacAddress& to, const MacAddress& from);

}  // namespace pagewire::dataplane
