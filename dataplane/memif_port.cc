#include "dataplane/memif_port.h"

#include <dirent.h>
#include <fcntl.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "dataplane/ethdev.h"
#include "dataplane/interrupt_park.h"
#include "dataplane/memif_folder.h"
#include "dataplane/mesh_port.h"
#include "fault/setup_error.h"

namespace pagewire::dataplane {
namespace {

using fault::SetupError;
using protocol::NodeId;

// A client that was refused hears nothing of it; so it tries a second time, but no more than that: a stopped
// server's queue of connections has two places, and connecting to a full one would block.
constexpr std::uint64_t kSecondTryNs = 1'000'000'000;

void check_options(const MemifOptions& options) {
  const auto refuse = [](const std::string& what, const std::string& seen, const std::string& remedy) {
    throw SetupError("reading memif's options: " + what, seen, remedy);
  };
  constexpr std::string_view kSpecial = ",=[]\"'\\ \t\n";  // EAL would read these as its own
  if (options.folder.empty() || options.folder.front() != '/' || options.folder.size() > 80 ||
      options.folder.find_first_of(kSpecial) != std::string::npos) {
    refuse("the folder", "\"" + options.folder + "\"",
           "Use an absolute path of at most 80 characters without spaces, quotes, commas, '=' or brackets");
  }
  if (options.node_count < 1 || options.node_count > protocol::kNodesMax ||
      options.node.value >= options.node_count) {
    refuse("the node", std::to_string(options.node.value) + " of " + std::to_string(options.node_count),
           "Use 1.." + std::to_string(protocol::kNodesMax) + " nodes, counted from 0");
  }
  if (options.queue_count < 1 || options.queue_count > 255) {
    refuse("the loops", std::to_string(options.queue_count), "Use 1..255");
  }
  if (!std::has_single_bit(options.ring_frames) || options.ring_frames < 2 || options.ring_frames > 16384) {
    refuse("the ring size", std::to_string(options.ring_frames), "Use a power of two, 2..16384");
  }
}

// net_memif forgets its listening socket without closing it or telling the interrupt thread. Another
// connection would make that thread use freed memory, and just closing the descriptor would make EAL abort.
// So an eventfd that never is readable takes its number.
void retire_listener(const std::string& path) {
  DIR* const folder = opendir("/proc/self/fd");
  if (folder == nullptr) return;
  while (const dirent* const entry = readdir(folder)) {
    const int fd = std::atoi(entry->d_name);
    sockaddr_un address{};
    socklen_t bytes = sizeof(address) - 1;
    int listens = 0;
    socklen_t listens_bytes = sizeof(listens);
    if (entry->d_name[0] == '.' || fd == dirfd(folder) ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) != 0 ||
        address.sun_family != AF_UNIX || path != address.sun_path ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_bytes) != 0 || listens == 0) {
      continue;
    }
    const int inert = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (inert >= 0) {
      dup3(inert, fd, O_CLOEXEC);
      close(inert);
    }
  }
  closedir(folder);
}

void nap_while_linking() {  // while linking: net_memif reports a link by nothing but its state
  constexpr timespec kNap{.tv_sec = 0, .tv_nsec = 2'000'000};
  nanosleep(&kNap, nullptr);
}

class MemifPort final : public MeshPort {
 public:
  MemifPort(std::shared_ptr<Eal> eal, const MemifOptions& options, std::uint64_t deadline_ns)
      : MeshPort(std::move(eal), options.node, options.node_count, options.queue_count, options.pool_frames,
                 OnSend::kDriverCopies),
        options_(options),
        folder_({.path = options.folder,
                 .node = options.node,
                 .node_count = options.node_count,
                 .queue_count = options.queue_count,
                 .ring_frames = options.ring_frames},
                deadline_ns) {
    park_.emplace();
    links_.resize(others().size());
    try {
      others().for_each([&](NodeId node) { add_peer(node, make_device(node)); });
      link(deadline_ns);
    } catch (...) {
      close();
      throw;
    }
  }
  ~MemifPort() override { close(); }

  std::vector<int> wake_fds(std::uint16_t queue) const override { return {folder_.bell_fd(queue)}; }
  void arm(std::uint16_t queue) override { folder_.arm(queue, Ringing::kAny); }
  void arm_for_urgent(std::uint16_t queue) override { folder_.arm(queue, Ringing::kUrgent); }
  void disarm(std::uint16_t queue) override { folder_.disarm(queue); }
  void drain(std::uint16_t queue) override { folder_.drain(queue); }

  // The links stay as they were made; what can be told is whether the node's process still runs.
  protocol::NodeSet connected() const override {
    protocol::NodeSet alive;
    if (!park_) return alive;
    others().with(self()).for_each([&](NodeId node) {
      if (folder_.alive(node)) alive.add(node);
    });
    return alive;
  }

  void close() override;

 protected:
  void wake(std::uint16_t queue, NodeId peer, bool urgent) override { folder_.ring(queue, peer, urgent); }

 private:
  struct Link {                     // of a client
    std::uint64_t server_life = 0;  // the run of the server that was tried
    std::uint64_t tried_ns = 0;
    bool tried_twice = false;
  };

  bool serves(NodeId peer) const { return self() < peer; }
  Ethdev make_device(NodeId peer);
  void link(std::uint64_t deadline_ns);
  void try_clients();
  void give_slots();
  void await_clients(std::uint64_t deadline_ns) const;
  protocol::NodeSet links_down() const;
  [[noreturn]] void throw_missing(protocol::NodeSet missing) const;

  MemifOptions options_;
  MemifFolder folder_;
  std::optional<InterruptPark> park_;
  std::vector<Link> links_;  // in the order of peers()
};

Ethdev MemifPort::make_device(NodeId peer) {
  const NodeId server = std::min(self(), peer);
  const NodeId client = std::max(self(), peer);
  Ethdev device =
      Ethdev::create(unique_name("net_memif_pagewire"),
                     std::string("role=") + (serves(peer) ? "server" : "client") +
                         ",id=0,socket-abstract=no,socket=" + folder_.socket_path(server, client) +
                         ",bsize=" + std::to_string(kFrameRoomBytes) +
                         ",rsize=" + std::to_string(std::countr_zero(options_.ring_frames)));
  device.configure(*pools());
  return device;
}

void MemifPort::link(std::uint64_t deadline_ns) {
  for (Peer& peer : peers()) {
    if (serves(peer.node)) peer.device.start();
  }
  folder_.set_phase(MemifFolder::Phase::kLinking);
  for (protocol::NodeSet down = links_down(); !down.empty(); down = links_down()) {
    if (monotonic_ns() >= deadline_ns) throw_missing(down);
    try_clients();
    nap_while_linking();
  }
  folder_.open_bells();
  if (!park_->park(deadline_ns)) {
    throw SetupError("linking the nodes in " + options_.folder,
                     "DPDK's interrupt thread doesn't come to a stand",
                     "Another memif port of this process may still wait for its nodes: start those too");
  }
  if (const protocol::NodeSet down = links_down(); !down.empty())
    throw_missing(down);  // went just before the park
  give_slots();
  folder_.set_phase(MemifFolder::Phase::kLinked);
  await_clients(deadline_ns);
}

// Frames from a server go into slots that the client gives it, for the first time when it first receives.
// Nothing can come in yet.
void MemifPort::give_slots() {
  for (const Peer& peer : peers()) {
    if (serves(peer.node)) continue;
    for (std::uint16_t queue = 0; queue < queue_count(); ++queue) {
      rte_mbuf* none = nullptr;
      if (rte_eth_rx_burst(peer.device.id(), queue, &none, 1) != 0) rte_pktmbuf_free(none);
    }
  }
}

// So that nothing is lost that is sent as soon as the port is open.
void MemifPort::await_clients(std::uint64_t deadline_ns) const {
  while (true) {
    protocol::NodeSet late;
    for (const Peer& peer : peers()) {
      if (serves(peer.node) && folder_.phase(peer.node) != MemifFolder::Phase::kLinked) late.add(peer.node);
    }
    if (late.empty()) return;
    if (monotonic_ns() >= deadline_ns) throw_missing(late);
    nap_while_linking();
  }
}

// A client connects once its server takes connections, and again if the server was started anew.
void MemifPort::try_clients() {
  for (std::size_t i = 0; i < peers().size(); ++i) {
    Peer& peer = peers()[i];
    Link& link = links_[i];
    if (serves(peer.node) || peer.device.link_up()) continue;
    if (folder_.phase(peer.node) != MemifFolder::Phase::kLinking || !folder_.alive(peer.node)) continue;
    const std::uint64_t life = folder_.life(peer.node);
    const std::uint64_t now_ns = monotonic_ns();
    const bool second = life == link.server_life;
    if (second && (link.tried_twice || now_ns < link.tried_ns + kSecondTryNs)) continue;
    if (link.server_life != 0) park_->run([&] { peer.device.stop(); });
    peer.device.try_start();
    link = Link{.server_life = life, .tried_ns = now_ns, .tried_twice = second};
  }
}

protocol::NodeSet MemifPort::links_down() const {
  protocol::NodeSet down;
  for (const Peer& peer : peers()) {
    if (!peer.device.link_up()) down.add(peer.node);
  }
  return down;
}

void MemifPort::throw_missing(protocol::NodeSet missing) const {
  std::string names;
  missing.for_each([&](NodeId node) {
    names += (names.empty() ? "" : ", ") + std::to_string(node.value);
    if (!folder_.alive(node)) {
      names += " (not started)";
    } else if (folder_.phase(node) == MemifFolder::Phase::kLinked) {
      names += " (linked with an earlier run of this node)";
    } else {
      names += " (being started)";
    }
  });
  throw SetupError("linking the nodes in " + options_.folder, "no link to node " + names,
                   "Start all nodes within " + std::to_string(options_.link_timeout_ns / 1'000'000'000) +
                       " s of each other and with the same folder, or raise that time");
}

void MemifPort::close() {
  if (!park_) return;
  drop_unsent();
  park_->leave();
  for (const Peer& peer : peers()) {
    if (serves(peer.node)) retire_listener(folder_.socket_path(self(), peer.node));
  }
  park_->run([&] {
    for (Peer& peer : peers()) peer.device.close();
  });
  park_.reset();
  folder_.close();
}

}  // namespace

std::unique_ptr<Port> open_memif_port(std::shared_ptr<Eal> eal, const MemifOptions& options) {
  check_options(options);
  return std::make_unique<MemifPort>(std::move(eal), options, monotonic_ns() + options.link_timeout_ns);
}

}  // namespace pagewire::dataplane
