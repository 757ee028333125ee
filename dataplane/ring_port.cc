#include "dataplane/ring_port.h"

#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <bit>
#include <deque>
#include <string>
#include <utility>

#include "dataplane/doorbell.h"
#include "dataplane/ethdev.h"
#include "dataplane/mesh_port.h"
#include "fault/setup_error.h"

namespace pagewire::dataplane {
namespace {

using fault::SetupError;
using protocol::NodeId;

class Ring {
 public:
  explicit Ring(std::uint32_t frames)
      : ring_(rte_ring_create(unique_name("pagewire_ring_").c_str(), frames, SOCKET_ID_ANY,
                              RING_F_SP_ENQ | RING_F_SC_DEQ)) {
    if (ring_ == nullptr) {
      throw SetupError("making a ring of " + std::to_string(frames) + " frames", rte_strerror(rte_errno),
                       "Use a power of two, and give DPDK enough memory");
    }
  }
  ~Ring() {
    if (ring_ == nullptr) return;
    drain();
    rte_ring_free(ring_);
  }
  Ring(Ring&& other) noexcept : ring_(std::exchange(other.ring_, nullptr)) {}
  Ring& operator=(Ring&&) = delete;
  rte_ring* get() const { return ring_; }
  void drain() const {  // by the receiver
    void* frame = nullptr;
    while (rte_ring_dequeue(ring_, &frame) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(frame));
  }

 private:
  rte_ring* ring_;
};

// What the ports of one mesh share; goes with the last of them.
struct Mesh {
  Mesh(std::uint32_t nodes, std::uint16_t queues, std::uint32_t ring_frames)
      : node_count(nodes), queue_count(queues), bells(std::size_t{nodes} * queues) {
    for (std::size_t i = 0; i < std::size_t{nodes} * nodes * queues; ++i) rings.emplace_back(ring_frames);
  }

  const Ring& ring(std::uint32_t from, std::uint32_t to, std::uint32_t queue) const {
    return rings[(from * node_count + to) * queue_count + queue];
  }
  Doorbell& bell(std::uint32_t node, std::uint32_t queue) { return bells[node * queue_count + queue]; }

  std::uint32_t node_count;
  std::uint32_t queue_count;
  std::vector<std::shared_ptr<std::vector<MbufPool>>>
      pools;  // before the rings: mbufs in those go back first
  std::vector<Ring> rings;
  std::deque<Doorbell> bells;
};

class RingPort final : public MeshPort {
 public:
  RingPort(std::shared_ptr<Eal> eal, std::shared_ptr<Mesh> mesh, NodeId self, const RingMeshOptions& options)
      : MeshPort(std::move(eal), self, mesh->node_count, static_cast<std::uint16_t>(mesh->queue_count),
                 options.pool_frames, OnSend::kDriverPassesMbufs),
        mesh_(std::move(mesh)) {
    mesh_->pools.push_back(pools());
    others().for_each([&](NodeId node) { add_peer(node, make_device(node)); });
    for (Peer& peer : peers()) {
      peer.device.configure(*pools());
      peer.device.start();
    }
  }
  ~RingPort() override { close(); }

  std::vector<int> wake_fds(std::uint16_t queue) const override {
    return {mesh_->bell(self().value, queue).fd()};
  }
  void arm(std::uint16_t queue) override { mesh_->bell(self().value, queue).arm(); }
  void arm_for_urgent(std::uint16_t queue) override {
    mesh_->bell(self().value, queue).arm(Ringing::kUrgent);
  }
  void disarm(std::uint16_t queue) override { mesh_->bell(self().value, queue).disarm(); }
  void drain(std::uint16_t queue) override { mesh_->bell(self().value, queue).drain(); }
  protocol::NodeSet connected() const override { return others().with(self()); }

  void close() override {
    drop_unsent();
    for (Peer& peer : peers()) {
      peer.device.close();
      for (std::uint16_t queue = 0; queue < queue_count(); ++queue) {
        mesh_->ring(peer.node.value, self().value, queue).drain();
      }
    }
  }

 protected:
  void wake(std::uint16_t queue, NodeId peer, bool urgent) override {
    mesh_->bell(peer.value, queue).ring(urgent);
  }

 private:
  Ethdev make_device(NodeId peer) {
    std::vector<rte_ring*> receive;
    std::vector<rte_ring*> send;
    for (std::uint32_t queue = 0; queue < mesh_->queue_count; ++queue) {
      receive.push_back(mesh_->ring(peer.value, self().value, queue).get());
      send.push_back(mesh_->ring(self().value, peer.value, queue).get());
    }
    const std::string name = unique_name("pw");
    const auto count = static_cast<unsigned>(receive.size());
    const int id = rte_eth_from_rings(name.c_str(), receive.data(), count, send.data(), count, 0);
    if (id < 0) {
      throw SetupError("making a ring device", rte_strerror(rte_errno),
                       "Use fewer nodes or queues in one process");
    }
    return Ethdev(static_cast<std::uint16_t>(id), "net_ring_" + name);
  }

  std::shared_ptr<Mesh> mesh_;
};

}  // namespace

std::vector<std::unique_ptr<Port>> make_ring_mesh(const std::shared_ptr<Eal>& eal, std::uint32_t node_count,
                                                  std::uint16_t queue_count, const RingMeshOptions& options) {
  if (node_count < 1 || node_count > protocol::kNodesMax || queue_count < 1 ||
      !std::has_single_bit(options.ring_frames)) {
    throw SetupError(
        "making a ring mesh",
        std::to_string(node_count) + " nodes, " + std::to_string(queue_count) + " queues, rings of " +
            std::to_string(options.ring_frames),
        "Use 1.." + std::to_string(protocol::kNodesMax) + " nodes, a queue or more, a power of two");
  }
  const auto mesh = std::make_shared<Mesh>(node_count, queue_count, options.ring_frames);
  std::vector<std::unique_ptr<Port>> ports;
  for (std::uint32_t node = 0; node < node_count; ++node) {
    ports.push_back(std::make_unique<RingPort>(eal, mesh, NodeId{static_cast<std::uint8_t>(node)}, options));
  }
  return ports;
}

}  // namespace pagewire::dataplane
