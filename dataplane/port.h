// A port: the way frames leave this node and come in. Behind it are DPDK ethdevs, in one of two shapes: a
// mesh of point-to-point devices, one a peer (memif, net_ring), or one device on a medium that all nodes
// share (af_packet, a NIC). A loop uses one queue of a port and no other thread uses that queue, so nothing
// here locks.
#pragma once

#include <poll.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "protocol/types.h"

struct rte_mbuf;
struct rte_mempool;

namespace pagewire::dataplane {

// Every frame starts with an Ethernet header of this many bytes: whoever builds a frame leaves the room, the
// port fills it in send(); on receive() it is still there.
inline constexpr std::uint16_t kEthernetBytes = 14;
inline constexpr std::uint16_t kEtherType = 0x88B5;  // IEEE 802 local experimental 1

// Room of one mbuf, headroom aside: a whole page with its headers, and more than any device here delivers.
inline constexpr std::uint16_t kFrameRoomBytes = 8192;

struct PortCounters {  // since the port was opened; written by the queue's loop, readable by anybody
  std::uint64_t sent_frame_count = 0;  // handed to a device and taken by it
  std::uint64_t sent_bytes = 0;
  std::uint64_t sent_multicast_count = 0;  // of the frames: those that one transmission brings to all nodes
  std::uint64_t send_dropped_count = 0;    // the device would not take them (ring full, peer gone)
  std::uint64_t received_frame_count = 0;
  std::uint64_t received_bytes = 0;
  std::uint64_t foreign_frame_count = 0;  // received but not ours: another EtherType, several segments; freed
};

class Port {
 public:
  virtual ~Port() = default;

  virtual std::uint16_t queue_count() const = 0;
  // True if what goes out on queue q comes in on queue q at the peer (memif, net_ring): pages then need no
  // redirection.
  virtual bool keeps_queue() const = 0;
  // True if one transmission reaches every node.
  virtual bool has_multicast() const = 0;
  // The longest frame that it carries, the Ethernet header included.
  virtual std::uint32_t frame_bytes_max() const = 0;

  // Up to out.size() frames; the caller owns them. Never blocks.
  virtual std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> out) = 0;
  // Takes the frame and queues it to go to each node in `to` (this node is skipped). With more than one and a
  // port that has multicast it goes out once, to all. Never blocks; flushes by itself when its burst is full.
  virtual void send(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) = 0;
  // The same for a frame that nobody waits for: a peer that armed itself for urgent frames alone sleeps on,
  // where the port knows how to tell them.
  virtual void send_quietly(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) {
    send(queue, to, frame);
  }
  // Rings these nodes if they sleep, for what was sent to them quietly after all, and flushed. Nothing where
  // send_quietly() rings.
  virtual void ring(std::uint16_t /*queue*/, protocol::NodeSet /*nodes*/) {}
  // Hands what is queued to the devices; what they refuse is freed and counted. Rings peers that sleep.
  virtual void flush(std::uint16_t queue) = 0;

  // The sender of a frame that was checked; a shared medium remembers its Ethernet address.
  virtual void learn(std::uint16_t /*queue*/, protocol::NodeId /*sender*/, const rte_mbuf* /*frame*/) {}

  // Sleeping: between arm() and disarm() the arrival of a frame makes one of the fds readable. A loop drains,
  // arms, polls once more, and only then sleeps; disarm() leaves the fds as they are. An empty list and
  // nap_ns_max() > 0 means that the device cannot wake anybody: sleep no longer than that.
  virtual std::vector<int> wake_fds(std::uint16_t queue) const = 0;
  virtual std::uint64_t nap_ns_max() const { return 0; }
  virtual void arm(std::uint16_t queue) = 0;
  virtual void arm_for_urgent(std::uint16_t queue) { arm(queue); }
  virtual void disarm(std::uint16_t queue) = 0;
  virtual void drain(std::uint16_t queue) = 0;

  // Mbufs for this queue's frames to send; room for kFrameRoomBytes each.
  virtual rte_mempool* pool(std::uint16_t queue) const = 0;
  virtual PortCounters counters(std::uint16_t queue) const = 0;

  // Nodes whose link is up (all on a shared medium). For the error that names who did not come.
  virtual protocol::NodeSet connected() const = 0;

  // Stops the devices. Only after every loop has left the port. Called by the destructor as well.
  virtual void close() = 0;
};

}  // namespace pagewire::dataplane
