#include "dataplane/mesh_port.h"

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <utility>

namespace pagewire::dataplane {
namespace {

// Nobody routes by these; they make captures readable. Locally administered, the last byte names the node.
MacAddress address_of(protocol::NodeId node) { return {0x02, 0x50, 0x57, 0, 0, node.value}; }
constexpr MacAddress kAllNodes = {0x03, 0x50, 0x57, 0, 0, 0};

}  // namespace

MeshPort::MeshPort(std::shared_ptr<Eal> eal, protocol::NodeId self, std::uint32_t node_count,
                   std::uint16_t queue_count, std::uint32_t pool_frames, OnSend on_send)
    : eal_(std::move(eal)),
      self_(self),
      others_(protocol::NodeSet::first(node_count).without(self)),
      on_send_(on_send),
      pools_(std::make_shared<std::vector<MbufPool>>()) {
  pools_->reserve(queue_count);
  peers_.reserve(others_.size());
  for (std::uint16_t queue = 0; queue < queue_count; ++queue) {
    pools_->emplace_back(*eal_, pool_frames);
    queues_.push_back(std::make_unique<Queue>());
    queues_.back()->tx.resize(others_.size());
  }
}

std::uint16_t MeshPort::receive(std::uint16_t queue, std::span<rte_mbuf*> out) {
  Queue& q = *queues_[queue];
  const std::size_t peer_count = peers_.size();
  std::uint16_t received = 0;
  for (std::size_t i = 0; i < peer_count && received < out.size(); ++i) {
    const std::size_t index = (q.first_peer + i) % peer_count;
    const auto room = static_cast<std::uint16_t>(std::min<std::size_t>(out.size() - received, kBurstFrames));
    received = static_cast<std::uint16_t>(
        received + rte_eth_rx_burst(peers_[index].device.id(), queue, &out[received], room));
  }
  if (received == 0) return 0;
  q.first_peer = (q.first_peer + 1) % peer_count;  // so that one busy peer can't starve the others
  return keep_ours(out.first(received), q.counters);
}

void MeshPort::send(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) {
  to.intersect(others_).for_each([&](protocol::NodeId node) { queues_[queue]->urgent.add(node); });
  distribute(queue, to, frame);
}

void MeshPort::send_quietly(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) {
  distribute(queue, to, frame);
}

void MeshPort::ring(std::uint16_t queue, protocol::NodeSet nodes) {
  nodes.intersect(others_).for_each([&](protocol::NodeId node) { wake(queue, node, true); });
}

void MeshPort::distribute(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) {
  Queue& q = *queues_[queue];
  protocol::NodeSet rest = to.intersect(others_);
  if (rest.empty() || !frame_fits(*frame, frame_bytes_max())) {
    q.counters.add_dropped(rest.size());
    rte_pktmbuf_free(frame);
    return;
  }
  const std::uint32_t count = rest.size();
  protocol::NodeId last{};
  rest.for_each([&](protocol::NodeId node) { last = node; });
  write_ethernet(*frame, count == 1 ? address_of(last) : kAllNodes, address_of(self_));
  rest.remove(last);
  if (on_send_ == OnSend::kDriverCopies) {
    if (count > 1) rte_mbuf_refcnt_update(frame, static_cast<std::int16_t>(count - 1));
    rest.for_each([&](protocol::NodeId node) { push(queue, node, frame); });
  } else {
    rest.for_each([&](protocol::NodeId node) {
      rte_mbuf* const copy = rte_pktmbuf_copy(frame, pool(queue), 0, frame->pkt_len);
      if (copy == nullptr) return q.counters.add_dropped(1);
      push(queue, node, copy);
    });
  }
  push(queue, last, frame);
}

void MeshPort::push(std::uint16_t queue, protocol::NodeId node, rte_mbuf* frame) {
  const std::size_t index = peer_index(node);
  TxBurst& burst = queues_[queue]->tx[index];
  burst.push(frame);
  if (burst.full()) {
    flush_peer(queue, index);
    wake_peers(queue);
  }
}

void MeshPort::flush_peer(std::uint16_t queue, std::size_t index) {
  Queue& q = *queues_[queue];
  const std::uint16_t taken = q.tx[index].flush(peers_[index].device.id(), queue, q.counters);
  if (taken != 0) q.to_wake.add(peers_[index].node);
}

void MeshPort::wake_peers(std::uint16_t queue) {
  Queue& q = *queues_[queue];
  std::exchange(q.to_wake, protocol::NodeSet()).for_each([&](protocol::NodeId node) {
    wake(queue, node, q.urgent.contains(node));
    q.urgent.remove(node);
  });
}

void MeshPort::flush(std::uint16_t queue) {
  Queue& q = *queues_[queue];
  for (std::size_t index = 0; index < q.tx.size(); ++index) {
    if (!q.tx[index].empty()) flush_peer(queue, index);
  }
  if (!q.to_wake.empty()) wake_peers(queue);
}

void MeshPort::drop_unsent() {
  for (const std::unique_ptr<Queue>& q : queues_) {
    for (TxBurst& burst : q->tx) burst.drop_all(q->counters);
  }
}

}  // namespace pagewire::dataplane
