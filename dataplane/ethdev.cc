#include "dataplane/ethdev.h"

#include <rte_bus_vdev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <algorithm>

#include "dataplane/eal_log.h"
#include "fault/setup_error.h"

namespace pagewire::dataplane {

using fault::SetupError;

namespace {

constexpr std::uint32_t kPoolCacheFrames = 64;
constexpr std::uint16_t kDeviceRingFrames = 512;

std::string reason(int error) {
  std::string text = rte_strerror(error < 0 ? -error : error);
  if (const std::string tail = eal_log_tail(512); !tail.empty()) text += "; DPDK's log ends:\n" + tail;
  return text;
}

rte_mempool* create_pool(const Eal& eal, std::uint32_t frame_count) {
  // Without hugepages a pool of objects that must not cross a 4 KiB page would waste a third of its memory;
  // no device that such an EAL can drive looks at physical addresses.
  const unsigned flags = eal.hugepages() ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
  const std::string name = unique_name("pagewire_mbufs_");
  rte_mempool* const pool = rte_mempool_create_empty(
      name.c_str(), frame_count, sizeof(rte_mbuf) + RTE_PKTMBUF_HEADROOM + kFrameRoomBytes, kPoolCacheFrames,
      sizeof(rte_pktmbuf_pool_private), SOCKET_ID_ANY, flags);
  if (pool == nullptr) return nullptr;
  // The default ring must not be preempted in the middle; this one may.
  if (const int error = rte_mempool_set_ops_byname(pool, "ring_mt_hts", nullptr); error != 0) {
    rte_mempool_free(pool);
    rte_errno = -error;
    return nullptr;
  }
  rte_pktmbuf_pool_private layout{};
  layout.mbuf_data_room_size = RTE_PKTMBUF_HEADROOM + kFrameRoomBytes;
  rte_pktmbuf_pool_init(pool, &layout);
  if (const int populated = rte_mempool_populate_default(pool); populated < 0) {
    rte_mempool_free(pool);
    rte_errno = -populated;
    return nullptr;
  }
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
  return pool;
}

}  // namespace

std::string unique_name(const std::string& kind) {
  static std::atomic<std::uint32_t> next{0};
  return kind + std::to_string(next.fetch_add(1, std::memory_order_relaxed));
}

MbufPool::MbufPool(const Eal& eal, std::uint32_t frame_count) : pool_(create_pool(eal, frame_count)) {
  if (pool_ == nullptr) {
    throw SetupError("making a pool of " + std::to_string(frame_count) + " frames", rte_strerror(rte_errno),
                     "Give DPDK more memory (a queue needs about " +
                         std::to_string(eal_memory_mb(1, frame_count) - eal_memory_mb(0, 0)) +
                         " MB, it has " + std::to_string(eal.memory_mb()) +
                         " in all), or make the pools smaller");
  }
}

MbufPool::~MbufPool() { rte_mempool_free(pool_); }

std::uint32_t MbufPool::available_count() const { return rte_mempool_avail_count(pool_); }

Ethdev Ethdev::create(const std::string& name, const std::string& arguments) {
  if (const int error = rte_vdev_init(name.c_str(), arguments.c_str()); error != 0) {
    throw SetupError("making device " + name, reason(error),
                     "It was given \"" + arguments + "\"; see the log for why");
  }
  std::uint16_t id = kNone;
  if (const int error = rte_eth_dev_get_port_by_name(name.c_str(), &id); error != 0) {
    rte_vdev_uninit(name.c_str());
    throw SetupError("finding device " + name, reason(error), "Check that it is a network device");
  }
  return Ethdev(id, name);
}

void Ethdev::configure(std::span<const MbufPool> pools, bool interrupts) {
  const auto check = [&](const char* step, int error) {
    if (error != 0) {
      throw SetupError(std::string(step) + " of device " + virtual_name_, reason(error),
                       "Check that it has " + std::to_string(pools.size()) + " queues, or use fewer loops");
    }
  };
  rte_eth_dev_info info{};
  check("asking for the abilities", rte_eth_dev_info_get(id_, &info));
  const auto queue_count = static_cast<std::uint16_t>(pools.size());
  rte_eth_conf configuration{};
  configuration.intr_conf.rxq = interrupts ? 1 : 0;
  check("configuration", rte_eth_dev_configure(id_, queue_count, queue_count, &configuration));
  std::uint16_t rx_frames = kDeviceRingFrames;
  std::uint16_t tx_frames = kDeviceRingFrames;
  check("choosing the rings", rte_eth_dev_adjust_nb_rx_tx_desc(id_, &rx_frames, &tx_frames));
  const auto socket = static_cast<unsigned>(SOCKET_ID_ANY);
  for (std::uint16_t queue = 0; queue < queue_count; ++queue) {
    check("receive queue",
          rte_eth_rx_queue_setup(id_, queue, rx_frames, socket, nullptr, pools[queue].get()));
    check("send queue", rte_eth_tx_queue_setup(id_, queue, tx_frames, socket, nullptr));
  }
}

bool Ethdev::try_start() { return rte_eth_dev_start(id_) == 0; }

void Ethdev::start() {
  if (const int error = rte_eth_dev_start(id_); error != 0) {
    throw SetupError("starting device " + virtual_name_, reason(error), "See the log for why");
  }
}

void Ethdev::stop() { rte_eth_dev_stop(id_); }

void Ethdev::close() {
  if (id_ == kNone) return;
  rte_eth_dev_stop(id_);
  rte_eth_dev_close(id_);
  if (!virtual_name_.empty()) rte_vdev_uninit(virtual_name_.c_str());
  id_ = kNone;
}

bool Ethdev::link_up() const {
  rte_eth_link link{};
  return rte_eth_link_get_nowait(id_, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

PortCounters QueueCounters::read() const {
  const auto get = [](const Counter& counter) { return counter.load(std::memory_order_relaxed); };
  return PortCounters{.sent_frame_count = get(sent_frames_),
                      .sent_bytes = get(sent_bytes_),
                      .sent_multicast_count = get(sent_multicast_),
                      .send_dropped_count = get(send_dropped_),
                      .received_frame_count = get(received_frames_),
                      .received_bytes = get(received_bytes_),
                      .foreign_frame_count = get(foreign_frames_)};
}

std::uint16_t TxBurst::flush(std::uint16_t device, std::uint16_t queue, QueueCounters& counters) {
  std::array<std::uint32_t, kBurstFrames> lengths;  // the device frees what it takes, so look first
  for (std::uint16_t i = 0; i < count_; ++i) lengths[i] = frames_[i]->pkt_len;
  const std::uint16_t taken = rte_eth_tx_burst(device, queue, frames_.data(), count_);
  std::uint64_t bytes = 0;
  for (std::uint16_t i = 0; i < taken; ++i) bytes += lengths[i];
  for (std::uint16_t i = taken; i < count_; ++i) rte_pktmbuf_free(frames_[i]);
  counters.add_sent(taken, bytes);
  if (taken < count_) counters.add_dropped(count_ - taken);
  count_ = 0;
  return taken;
}

void TxBurst::drop_all(QueueCounters& counters) {
  for (std::uint16_t i = 0; i < count_; ++i) rte_pktmbuf_free(frames_[i]);
  counters.add_dropped(count_);
  count_ = 0;
}

bool frame_fits(const rte_mbuf& frame, std::uint32_t frame_bytes_max) {
  return frame.nb_segs == 1 && frame.pkt_len >= kEthernetBytes && frame.pkt_len <= frame_bytes_max;
}

std::uint16_t keep_ours(std::span<rte_mbuf*> frames, QueueCounters& counters, const Addresses* addresses) {
  std::uint16_t kept = 0;
  std::uint64_t bytes = 0;
  std::uint64_t foreign = 0;
  for (rte_mbuf* const frame : frames) {
    const auto* const header = rte_pktmbuf_mtod(frame, const rte_ether_hdr*);
    const bool whole = frame->nb_segs == 1 && frame->data_len >= kEthernetBytes;
    bool ours = whole && header->ether_type == rte_cpu_to_be_16(kEtherType);
    bool echo = false;
    if (ours && addresses != nullptr) {
      echo = std::ranges::equal(header->src_addr.addr_bytes, addresses->own);
      ours = !echo && (std::ranges::equal(header->dst_addr.addr_bytes, addresses->own) ||
                       std::ranges::equal(header->dst_addr.addr_bytes, addresses->group));
    }
    if (!ours) {
      if (!echo) ++foreign;
      rte_pktmbuf_free(frame);
      continue;
    }
    bytes += frame->pkt_len;
    frames[kept++] = frame;
  }
  if (kept != 0) counters.add_received(kept, bytes);
  if (foreign != 0) counters.add_foreign(foreign);
  return kept;
}

void write_ethernet(rte_mbuf& frame, const MacAddress& to, const MacAddress& from) {
  auto* const header = rte_pktmbuf_mtod(&frame, rte_ether_hdr*);
  std::ranges::copy(to, header->dst_addr.addr_bytes);
  std::ranges::copy(from, header->src_addr.addr_bytes);
  header->ether_type = rte_cpu_to_be_16(kEtherType);
}

}  // namespace pagewire::dataplane
