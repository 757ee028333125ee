#include "dataplane/bus_port.h"

#include <poll.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "dataplane/af_packet.h"
#include "dataplane/ethdev.h"
#include "fault/setup_error.h"

namespace pagewire::dataplane {
namespace {

using fault::SetupError;
using protocol::NodeId;

constexpr std::uint32_t kAfPacketFrameBytesMax = 1514;
constexpr std::uint64_t kNapNs = 50'000;  // of a loop whose device can't wake it
constexpr std::string_view kAfPacketPrefix = "af_packet:";
constexpr std::string_view kEalPrefix = "eal:";

bool is_pci_address(const std::string& device) {
  return device.find(':') != std::string::npos && std::ranges::all_of(device, [](unsigned char c) {
           return std::isxdigit(c) != 0 || c == ':' || c == '.';
         });
}

MacAddress group_address(std::uint32_t cluster_id) {
  const std::uint32_t low = cluster_id ^ (cluster_id >> 24);
  return {0x03,
          0x50,
          0x57,
          static_cast<std::uint8_t>(low >> 16),
          static_cast<std::uint8_t>(low >> 8),
          static_cast<std::uint8_t>(low)};
}

// DPDK's receive interrupt of one queue, where the device has one that can be polled.
class RxInterrupt {
 public:
  static std::optional<int> fd_of(std::uint16_t device, std::uint16_t queue) {
    const int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(device, queue);
    if (fd < 0 || rte_eth_dev_rx_intr_enable(device, queue) != 0) return std::nullopt;
    rte_eth_dev_rx_intr_disable(device, queue);
    return fd;
  }
  // Only an eventfd keeps count; other descriptors are readable as long as frames wait.
  static bool is_eventfd(int fd) {
    std::array<char, 64> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    return readlink(link.c_str(), target.data(), target.size() - 1) > 0 &&
           std::string_view(target.data()) == "anon_inode:[eventfd]";
  }
};

class BusPort final : public Port {
 public:
  BusPort(std::shared_ptr<Eal> eal, const BusOptions& options);
  ~BusPort() override { close(); }

  std::uint16_t queue_count() const override { return static_cast<std::uint16_t>(queues_.size()); }
  // af_packet spreads frames by their hash, a NIC by its own: with several queues a frame comes in on any.
  bool keeps_queue() const override { return queues_.size() == 1; }
  bool has_multicast() const override { return true; }
  std::uint32_t frame_bytes_max() const override { return frame_bytes_max_; }
  std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> out) override;
  void send(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) override;
  void flush(std::uint16_t queue) override;
  void learn(std::uint16_t queue, NodeId sender, const rte_mbuf* frame) override;
  std::vector<int> wake_fds(std::uint16_t queue) const override;
  std::uint64_t nap_ns_max() const override { return can_wake_ ? 0 : kNapNs; }
  void arm(std::uint16_t queue) override;
  void disarm(std::uint16_t queue) override;
  void drain(std::uint16_t queue) override;
  rte_mempool* pool(std::uint16_t queue) const override { return pools_[queue].get(); }
  PortCounters counters(std::uint16_t queue) const override { return queues_[queue]->counters.read(); }
  protocol::NodeSet connected() const override { return others_.with(self_); }
  void close() override;

 private:
  struct alignas(64) Queue {
    TxBurst tx;
    QueueCounters counters;
    std::array<MacAddress, protocol::kNodesMax> address_of{};
    protocol::NodeSet learned;
    int socket = -1;     // af_packet's
    int interrupt = -1;  // a device's receive interrupt
    bool interrupt_counts = false;
  };

  void open_af_packet(const std::string& name);
  void open_device(const std::string& device);
  void start_device(bool interrupts);
  void read_own_address();
  void prepare_interrupts();

  std::shared_ptr<Eal> eal_;
  NodeId self_;
  protocol::NodeSet others_;
  Addresses addresses_{};
  std::uint32_t frame_bytes_max_ = 0;
  bool can_wake_ = false;
  bool promiscuous_ = false;
  std::vector<MbufPool> pools_;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::optional<Ethdev> device_;  // after the pools: it goes first
};

BusPort::BusPort(std::shared_ptr<Eal> eal, const BusOptions& options)
    : eal_(std::move(eal)),
      self_(options.node),
      others_(protocol::NodeSet::first(options.node_count).without(options.node)) {
  addresses_.group = group_address(options.cluster_id);
  for (std::uint16_t queue = 0; queue < options.queue_count; ++queue) {
    pools_.emplace_back(*eal_, options.pool_frames);
    queues_.push_back(std::make_unique<Queue>());
  }
  if (options.device.starts_with(kAfPacketPrefix)) {
    open_af_packet(options.device.substr(kAfPacketPrefix.size()));
  } else {
    open_device(options.device);
  }
}

void BusPort::open_af_packet(const std::string& name) {
  const Interface interface = find_interface(name);
  const std::vector<int> before = af_packet_sockets(interface);
  device_.emplace(
      Ethdev::create(unique_name("net_af_packet_pagewire"), af_packet_arguments(interface, queue_count())));
  std::vector<int> sockets;  // the driver opens them queue by queue, so they come in ascending order
  std::ranges::set_difference(af_packet_sockets(interface), before, std::back_inserter(sockets));
  if (sockets.size() != queues_.size()) {
    throw SetupError("finding the sockets of af_packet:" + name,
                     std::to_string(sockets.size()) + " for " + std::to_string(queues_.size()) + " queues",
                     "Open no other packet sockets on it at the same moment; try again");
  }
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    narrow_af_packet_socket(sockets[i], interface, addresses_.group);
    queues_[i]->socket = sockets[i];
  }
  frame_bytes_max_ = std::min(interface.mtu + kEthernetBytes, kAfPacketFrameBytesMax);
  can_wake_ = true;
  start_device(false);
  read_own_address();
}

void BusPort::open_device(const std::string& device) {
  if (device.starts_with(kEalPrefix)) {
    const std::string words = device.substr(kEalPrefix.size());
    const std::size_t comma = words.find(',');
    device_.emplace(
        Ethdev::create(words.substr(0, comma), comma == std::string::npos ? "" : words.substr(comma + 1)));
  } else {
    std::uint16_t id = 0;
    if (rte_eth_dev_get_port_by_name(device.c_str(), &id) != 0) {
      throw SetupError(
          "finding device " + device, "DPDK doesn't have it",
          "Bind it to vfio-pci (dpdk-devbind.py) and name it as 0000:00:05.0; a virtual one as eal:net_…");
    }
    device_.emplace(id, "");
  }
  std::uint16_t mtu = 0;
  if (rte_eth_dev_get_mtu(device_->id(), &mtu) != 0) mtu = 1500;
  frame_bytes_max_ = std::min<std::uint32_t>(mtu + std::uint32_t{kEthernetBytes}, kFrameRoomBytes);
  bool interrupts = true;
  try {
    start_device(true);
  } catch (const SetupError&) {
    interrupts = false;
    start_device(false);
  }
  read_own_address();
  promiscuous_ =
      rte_eth_promiscuous_get(device_->id()) == 0 && rte_eth_promiscuous_enable(device_->id()) == 0;
  rte_eth_allmulticast_enable(
      device_->id());  // where it can; the group's frames come in promiscuously as well
  if (interrupts) prepare_interrupts();
}

void BusPort::start_device(bool interrupts) {
  device_->configure(pools_, interrupts);
  device_->start();
}

void BusPort::read_own_address() {
  rte_ether_addr address{};
  if (rte_eth_macaddr_get(device_->id(), &address) != 0 || rte_is_zero_ether_addr(&address)) {
    rte_eth_random_addr(address.addr_bytes);  // a device without one
  }
  std::ranges::copy(address.addr_bytes, addresses_.own.begin());
}

void BusPort::prepare_interrupts() {
  can_wake_ = true;
  for (std::uint16_t queue = 0; queue < queue_count(); ++queue) {
    const std::optional<int> fd = RxInterrupt::fd_of(device_->id(), queue);
    if (!fd) {
      can_wake_ = false;
      return;
    }
    queues_[queue]->interrupt = *fd;
    queues_[queue]->interrupt_counts = RxInterrupt::is_eventfd(*fd);
  }
}

std::uint16_t BusPort::receive(std::uint16_t queue, std::span<rte_mbuf*> out) {
  const auto room = static_cast<std::uint16_t>(std::min<std::size_t>(out.size(), kBurstFrames));
  const std::uint16_t received = rte_eth_rx_burst(device_->id(), queue, out.data(), room);
  if (received == 0) return 0;
  return keep_ours(out.first(received), queues_[queue]->counters, &addresses_);
}

void BusPort::send(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) {
  Queue& q = *queues_[queue];
  const protocol::NodeSet rest = to.intersect(others_);
  if (rest.empty() || !frame_fits(*frame, frame_bytes_max_)) {
    if (!rest.empty()) q.counters.add_dropped(1);
    rte_pktmbuf_free(frame);
    return;
  }
  const bool to_one = rest.size() == 1;
  NodeId node{};
  rest.for_each([&](NodeId member) { node = member; });
  const bool known =
      to_one && q.learned.contains(node);  // before that, one node is reached by the group's address
  write_ethernet(*frame, known ? q.address_of[node.value] : addresses_.group, addresses_.own);
  if (!to_one) q.counters.add_multicast(1);
  q.tx.push(frame);
  if (q.tx.full()) flush(queue);
}

void BusPort::flush(std::uint16_t queue) {
  Queue& q = *queues_[queue];
  if (q.tx.empty()) return;
  // net_af_packet waits without end inside a burst when its ring is full and the socket's send buffer too.
  // Only the burst's own last step fills that buffer, so a socket that is writable now stays so until then.
  if (q.socket >= 0) {
    pollfd writable{.fd = q.socket, .events = POLLOUT, .revents = 0};
    if (poll(&writable, 1, 0) != 1 || (writable.revents & POLLOUT) == 0) {
      q.tx.drop_all(q.counters);
      return;
    }
  }
  q.tx.flush(device_->id(), queue, q.counters);
}

void BusPort::learn(std::uint16_t queue, NodeId sender, const rte_mbuf* frame) {
  if (sender.value >= protocol::kNodesMax || frame->data_len < kEthernetBytes) return;
  Queue& q = *queues_[queue];
  const auto* const header = rte_pktmbuf_mtod(frame, const rte_ether_hdr*);
  std::ranges::copy(header->src_addr.addr_bytes, q.address_of[sender.value].begin());
  q.learned.add(sender);
}

std::vector<int> BusPort::wake_fds(std::uint16_t queue) const {
  if (!can_wake_) return {};
  const Queue& q = *queues_[queue];
  return {q.socket >= 0 ? q.socket : q.interrupt};
}

// An af_packet socket is readable as long as frames wait in its ring: there is nothing to arm.
void BusPort::arm(std::uint16_t queue) {
  if (can_wake_ && queues_[queue]->interrupt >= 0) rte_eth_dev_rx_intr_enable(device_->id(), queue);
}

void BusPort::disarm(std::uint16_t queue) {
  if (can_wake_ && queues_[queue]->interrupt >= 0) rte_eth_dev_rx_intr_disable(device_->id(), queue);
}

void BusPort::drain(std::uint16_t queue) {
  const Queue& q = *queues_[queue];
  if (!can_wake_ || q.interrupt < 0) return;
  pollfd rung{.fd = q.interrupt, .events = POLLIN, .revents = 0};
  if (q.interrupt_counts && poll(&rung, 1, 0) == 1) {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t read_bytes = read(q.interrupt, &count, sizeof(count));
  }
}

void BusPort::close() {
  if (!device_) return;
  for (const std::unique_ptr<Queue>& q : queues_) q->tx.drop_all(q->counters);
  if (promiscuous_) rte_eth_promiscuous_disable(device_->id());
  device_.reset();
}

}  // namespace

std::vector<std::string> pci_devices_of(const std::string& device) {
  if (is_pci_address(device)) return {device};
  return {};
}

std::unique_ptr<Port> open_bus_port(std::shared_ptr<Eal> eal, const BusOptions& options) {
  if (!options.device.starts_with(kAfPacketPrefix) && !options.device.starts_with(kEalPrefix) &&
      !is_pci_address(options.device)) {
    throw SetupError("reading the device", "\"" + options.device + "\"",
                     "Use af_packet:INTERFACE, eal:net_NAME,… or a PCI address as 0000:00:05.0");
  }
  if (options.node_count < 1 || options.node_count > protocol::kNodesMax ||
      options.node.value >= options.node_count || options.queue_count < 1) {
    throw SetupError(
        "reading the port's options",
        "node " + std::to_string(options.node.value) + " of " + std::to_string(options.node_count) + ", " +
            std::to_string(options.queue_count) + " queues",
        "Use 1.." + std::to_string(protocol::kNodesMax) + " nodes, counted from 0, and a queue or more");
  }
  return std::make_unique<BusPort>(std::move(eal), options);
}

}  // namespace pagewire::dataplane
