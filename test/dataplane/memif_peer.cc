// The roles that a node of a memif test can have. Each prints "linked" once the port is open (or "error
// TEXT"), then what it measured; and "pools BEFORE AFTER" when it ends in order.
#include "test/dataplane/memif_peer.h"

#include <poll.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/eal.h"
#include "dataplane/memif_port.h"
#include "fault/setup_error.h"

namespace pagewire::test {
namespace {

using dataplane::kEthernetBytes;
using dataplane::Port;
using protocol::NodeId;
using protocol::NodeSet;
using Clock = std::chrono::steady_clock;

struct Payload {  // what follows the Ethernet header
  std::uint8_t sender;
  std::uint8_t fill;
  std::uint32_t sequence;
} __attribute__((packed));
constexpr std::uint32_t kSmallestFrame = kEthernetBytes + sizeof(Payload);

struct Peer {
  NodeId node;
  std::uint32_t node_count = 0;
  std::uint16_t queue_count = 1;
  std::map<std::string, std::string> options;
  std::unique_ptr<Port> port;

  std::uint64_t number(const std::string& key, std::uint64_t otherwise) const {
    const auto found = options.find(key);
    return found == options.end() ? otherwise : std::stoull(found->second);
  }
  NodeSet others() const { return NodeSet::first(node_count).without(node); }
};

void say(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

bool stop_asked() {
  pollfd input{.fd = 0, .events = POLLIN, .revents = 0};
  return poll(&input, 1, 0) > 0;
}

Payload payload_of(const rte_mbuf* frame) {
  Payload payload;
  std::memcpy(&payload, rte_pktmbuf_mtod_offset(frame, const char*, kEthernetBytes), sizeof(payload));
  return payload;
}

rte_mbuf* make_frame(const Peer& peer, std::uint16_t queue, std::uint32_t bytes, std::uint32_t sequence) {
  rte_mbuf* const frame = rte_pktmbuf_alloc(peer.port->pool(queue));
  if (frame == nullptr) return nullptr;
  char* const data = rte_pktmbuf_append(frame, static_cast<std::uint16_t>(bytes));
  const Payload payload{peer.node.value, static_cast<std::uint8_t>(sequence * 7 + bytes), sequence};
  std::memset(data + kEthernetBytes, payload.fill, bytes - kEthernetBytes);
  std::memcpy(data + kEthernetBytes, &payload, sizeof(payload));
  return frame;
}

bool intact(const rte_mbuf* frame, std::uint32_t bytes) {
  if (frame->pkt_len != bytes || frame->nb_segs != 1) return false;
  const auto* const data = rte_pktmbuf_mtod(frame, const std::uint8_t*);
  const std::uint8_t fill = payload_of(frame).fill;
  for (std::uint32_t i = kSmallestFrame; i < bytes; ++i) {
    if (data[i] != fill) return false;
  }
  return true;
}

// One frame, spinning; nullptr after ten seconds or when the test is over.
rte_mbuf* receive_one(const Peer& peer, std::uint16_t queue) {
  std::array<rte_mbuf*, 1> frames{};
  const auto deadline = Clock::now() + std::chrono::seconds(10);
  while (peer.port->receive(queue, frames) == 0) {
    if (Clock::now() > deadline) return nullptr;
    std::this_thread::yield();
  }
  return frames[0];
}

// Sends each frame back to its sender until told to stop.
void echo(Peer& peer) {
  std::array<rte_mbuf*, 32> frames{};
  while (!stop_asked()) {
    for (std::uint16_t queue = 0; queue < peer.queue_count; ++queue) {
      const std::uint16_t count = peer.port->receive(queue, frames);
      for (std::uint16_t i = 0; i < count; ++i) {
        peer.port->send(queue, NodeSet::of(NodeId{payload_of(frames[i]).sender}), frames[i]);
      }
      peer.port->flush(queue);
    }
    std::this_thread::yield();
  }
}

// Every size once a queue, to all others at once; the answers must be what was sent.
void sizes(Peer& peer) {
  std::uint64_t wrong = 0;
  std::uint64_t right = 0;
  for (std::uint32_t bytes = kSmallestFrame; bytes <= peer.port->frame_bytes_max();
       bytes += bytes < 80 ? 1 : 37) {
    const auto queue = static_cast<std::uint16_t>(bytes % peer.queue_count);
    rte_mbuf* const frame = make_frame(peer, queue, bytes, bytes);
    peer.port->send(queue, peer.others(), frame);
    peer.port->flush(queue);
    for (std::uint32_t i = 0; i < peer.others().size(); ++i) {
      rte_mbuf* const answer = receive_one(peer, queue);
      ++(answer != nullptr && intact(answer, bytes) ? right : wrong);
      rte_pktmbuf_free(answer);
    }
  }
  // The longest, and one byte more, which must not leave.
  rte_mbuf* const longest = make_frame(peer, 0, peer.port->frame_bytes_max(), 1);
  peer.port->send(0, peer.others(), longest);
  peer.port->flush(0);
  for (std::uint32_t i = 0; i < peer.others().size(); ++i) {
    rte_mbuf* const answer = receive_one(peer, 0);
    ++(answer != nullptr && intact(answer, peer.port->frame_bytes_max()) ? right : wrong);
    rte_pktmbuf_free(answer);
  }
  say("sizes right " + std::to_string(right) + " wrong " + std::to_string(wrong));
}

// A frame goes to and fro; each side sleeps until it comes. Node 0 begins and measures.
void hand_over(Peer& peer) {
  const std::uint64_t rounds = peer.number("rounds", 1000);
  const NodeId other{static_cast<std::uint8_t>(1 - peer.node.value)};
  std::uint64_t sleeps = 0;
  const auto start = Clock::now();
  rte_mbuf* frame = peer.node.value == 0 ? make_frame(peer, 0, 64, 0) : nullptr;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    if (frame != nullptr) {
      peer.port->send(0, NodeSet::of(other), frame);
      peer.port->flush(0);
    }
    std::array<rte_mbuf*, 1> frames{};
    while (peer.port->receive(0, frames) == 0) {
      peer.port->arm(0);
      if (peer.port->receive(0, frames) != 0) {
        peer.port->disarm(0);
        break;
      }
      pollfd bell{.fd = peer.port->wake_fds(0)[0], .events = POLLIN, .revents = 0};
      const int woken = poll(&bell, 1, 5000);  // far longer than any wake-up: running out of it is a lost one
      peer.port->disarm(0);
      peer.port->drain(0);
      ++sleeps;
      if (woken != 1) return say("lost wake-up in round " + std::to_string(round));
    }
    frame = frames[0];
  }
  if (peer.node.value == 1) {
    peer.port->send(0, NodeSet::of(other), frame);
    peer.port->flush(0);
  } else {
    rte_pktmbuf_free(frame);
  }
  const auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
  say("handed over " + std::to_string(rounds) + " sleeps " + std::to_string(sleeps) + " ns " +
      std::to_string(took.count() / static_cast<std::int64_t>(rounds)));
}

// The links' shared memory that this process has mapped.
int mapped_region_count() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);)
    count += line.find("memif_region") != std::string::npos ? 1 : 0;
  return count;
}

// Sends and receives as fast as it can on every queue, a thread each; says so when all others have been heard
// of.
void flood(Peer& peer) {
  const int mapped_before = mapped_region_count();
  std::atomic<bool> over{false};
  std::atomic<std::uint32_t> busy_queues{0};
  std::vector<std::thread> loops;
  for (std::uint16_t queue = 0; queue < peer.queue_count; ++queue) {
    loops.emplace_back([&, queue] {
      const dataplane::LoopThreadRegistration registration;
      std::array<rte_mbuf*, 32> frames{};
      NodeSet heard;
      for (std::uint32_t sequence = 0; !over.load(std::memory_order_relaxed); ++sequence) {
        for (int i = 0; i < 16; ++i) {
          rte_mbuf* const frame = make_frame(peer, queue, i == 0 ? 4300 : 64, sequence);
          if (frame != nullptr) peer.port->send(queue, peer.others(), frame);
        }
        peer.port->flush(queue);
        const std::uint16_t count = peer.port->receive(queue, frames);
        for (std::uint16_t i = 0; i < count; ++i) {
          const NodeId sender{payload_of(frames[i]).sender};
          if (!heard.contains(sender)) {
            heard.add(sender);
            if (heard == peer.others()) busy_queues.fetch_add(1);
          }
          rte_pktmbuf_free(frames[i]);
        }
      }
      // What still waits, so that every mbuf is back in its pool.
      for (int i = 0; i < 100; ++i) {
        const std::uint16_t count = peer.port->receive(queue, frames);
        rte_pktmbuf_free_bulk(frames.data(), count);
      }
    });
  }
  while (busy_queues.load() < peer.queue_count && !stop_asked())
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  say("busy");
  pollfd input{.fd = 0, .events = POLLIN, .revents = 0};
  poll(&input, 1, -1);
  const int mapped_after = mapped_region_count();
  over.store(true);
  for (std::thread& loop : loops) loop.join();
  std::uint64_t dropped = 0;
  for (std::uint16_t queue = 0; queue < peer.queue_count; ++queue) {
    dropped += peer.port->counters(queue).send_dropped_count;
  }
  say("dropped " + std::to_string(dropped) + " regions " + std::to_string(mapped_before) + " " +
      std::to_string(mapped_after) + " connected " + std::to_string(peer.port->connected().bits()));
}

void wait_for_stop(Peer&) {
  pollfd input{.fd = 0, .events = POLLIN, .revents = 0};
  poll(&input, 1, -1);
}

std::string pool_counts(const Peer& peer) {
  std::string counts;
  for (std::uint16_t queue = 0; queue < peer.queue_count; ++queue) {
    counts += " " + std::to_string(rte_mempool_avail_count(peer.port->pool(queue)));
  }
  return counts;
}

}  // namespace

int run_memif_peer(std::span<char*> arguments) {
  if (arguments.size() < 6) return 2;
  const std::map<std::string, void (*)(Peer&)> roles = {
      {"echo", echo}, {"sizes", sizes}, {"hand_over", hand_over}, {"flood", flood}, {"open", wait_for_stop}};
  const auto role = roles.find(arguments[2]);
  if (role == roles.end()) return 2;
  Peer peer;
  peer.node = NodeId{static_cast<std::uint8_t>(std::stoul(arguments[4]))};
  peer.node_count = static_cast<std::uint32_t>(std::stoul(arguments[5]));
  for (const std::string word : arguments.subspan(6)) {
    const std::size_t equals = word.find('=');
    peer.options[word.substr(0, equals)] = word.substr(equals + 1);
  }
  peer.queue_count = static_cast<std::uint16_t>(peer.number("queues", 1));
  const auto pool_frames = static_cast<std::uint32_t>(peer.number("pool", 512));
  try {
    const auto eal =
        dataplane::Eal::start({.memory_mb = dataplane::eal_memory_mb(peer.queue_count, pool_frames)});
    peer.port =
        dataplane::open_memif_port(eal, {.folder = arguments[3],
                                         .node = peer.node,
                                         .node_count = peer.node_count,
                                         .queue_count = peer.queue_count,
                                         .ring_frames = static_cast<std::uint32_t>(peer.number("ring", 128)),
                                         .pool_frames = pool_frames,
                                         .link_timeout_ns = peer.number("timeout_ms", 10000) * 1'000'000});
  } catch (const fault::SetupError& error) {
    std::string text = error.what();
    for (char& c : text) c = c == '\n' ? ' ' : c;
    say("error " + text);
    return 1;
  }
  const std::string before = pool_counts(peer);
  say("linked");
  role->second(peer);
  say("pools" + before + pool_counts(peer));
  peer.port->close();
  say("closed");
  return 0;
}

}  // namespace pagewire::test
