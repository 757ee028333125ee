// A port made of point-to-point devices, one a peer: what memif and net_ring have in common. Setting up and
// close(): one thread. The data path: the queue's loop. counters() and connected(): any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/eal.h"
#include "dataplane/ethdev.h"
#include "dataplane/port.h"

namespace pagewire::dataplane {

class MeshPort : public Port {
 public:
  std::uint16_t queue_count() const override { return static_cast<std::uint16_t>(queues_.size()); }
  bool keeps_queue() const override { return true; }
  bool has_multicast() const override { return false; }
  std::uint32_t frame_bytes_max() const override { return kFrameRoomBytes; }
  std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> out) override;
  void send(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) override;
  void send_quietly(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) override;
  void ring(std::uint16_t queue, protocol::NodeSet nodes) override;
  void flush(std::uint16_t queue) override;
  rte_mempool* pool(std::uint16_t queue) const override { return (*pools_)[queue].get(); }
  PortCounters counters(std::uint16_t queue) const override { return queues_[queue]->counters.read(); }

 protected:
  enum class OnSend : std::uint8_t {
    kDriverCopies,       // a frame to several peers is one mbuf, counted
    kDriverPassesMbufs,  // each peer gets an mbuf of its own, for it may write to it
  };

  MeshPort(std::shared_ptr<Eal> eal, protocol::NodeId self, std::uint32_t node_count,
           std::uint16_t queue_count, std::uint32_t pool_frames, OnSend on_send);

  // Frames for `peer` were just put into its device, urgent ones among them or not. Called by the queue's
  // loop.
  virtual void wake(std::uint16_t queue, protocol::NodeId peer, bool urgent) = 0;

  // Setting up: devices in the order of their nodes.
  void add_peer(protocol::NodeId node, Ethdev device) { peers_.push_back(Peer{node, std::move(device)}); }
  // Drops what wasn't flushed. For close(), before the devices go.
  void drop_unsent();

  struct Peer {
    protocol::NodeId node;
    Ethdev device;
  };

  protocol::NodeId self() const { return self_; }
  protocol::NodeSet others() const { return others_; }
  // Shared, for whoever may hold mbufs of ours after we are gone.
  const std::shared_ptr<std::vector<MbufPool>>& pools() const { return pools_; }
  std::vector<Peer>& peers() { return peers_; }
  const std::vector<Peer>& peers() const { return peers_; }

 private:
  struct alignas(64) Queue {
    std::vector<TxBurst> tx;     // one a peer
    protocol::NodeSet to_wake;   // were sent something since the last wake-up
    protocol::NodeSet urgent;    // were sent, or will be with the next flush, something urgent
    std::size_t first_peer = 0;  // whom receive() asks first
    QueueCounters counters;
  };

  std::size_t peer_index(protocol::NodeId node) const {
    return node.value > self_.value ? node.value - 1U : node.value;
  }
  void distribute(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame);
  void push(std::uint16_t queue, protocol::NodeId node, rte_mbuf* frame);
  void flush_peer(std::uint16_t queue, std::size_t index);
  void wake_peers(std::uint16_t queue);

  std::shared_ptr<Eal> eal_;
  protocol::NodeId self_;
  protocol::NodeSet others_;
  OnSend on_send_;
  std::shared_ptr<std::vector<MbufPool>> pools_;
  std::vector<std::unique_ptr<Queue>> queues_;
  std::vector<Peer> peers_;  // after the pools: devices go first
};

}  // namespace pagewire::dataplane
