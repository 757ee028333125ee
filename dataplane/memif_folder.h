// The private folder in which the nodes of one machine meet: memif's sockets, one FIFO a queue to wake its
// loop, and a shared file that says who is there and whose loop sleeps. Everything in it belongs to one user
// (0700).
//
// The file's bytes also carry locks (open-file-description locks: they end with the process, however it
// ends): byte 0 while somebody sets up or clears away, byte 1+i as long as node i lives. So what a killed
// process left behind is told from what is in use. Setting up and close(): one thread. ring(), arm(),
// disarm(), drain(): the queue's loop. alive(): any.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/doorbell.h"
#include "protocol/types.h"

namespace pagewire::dataplane {

struct MemifFolderOptions {
  std::string path;       // absolute; created 0700 if absent
  protocol::NodeId node;  // who we are
  std::uint32_t node_count = 0;
  std::uint16_t queue_count = 0;  // the same on all nodes
  std::uint32_t ring_frames = 0;  // likewise
};

class MemifFolder {
 public:
  // Where a node stands; others read it.
  enum class Phase : std::uint32_t { kAbsent = 0, kLinking = 1, kLinked = 2 };

  // Takes our place and makes our FIFOs. Throws SetupError: the folder is somebody else's or open to others,
  // our node runs already, the other nodes have another node count, queue count or ring size.
  MemifFolder(const MemifFolderOptions& options, std::uint64_t deadline_ns);
  ~MemifFolder() { close(); }
  MemifFolder(const MemifFolder&) = delete;
  MemifFolder& operator=(const MemifFolder&) = delete;

  std::string socket_path(protocol::NodeId server, protocol::NodeId client) const;

  void set_phase(Phase phase);
  Phase phase(protocol::NodeId node) const;
  std::uint64_t life(protocol::NodeId node) const;  // differs between two runs of the same node
  bool alive(protocol::NodeId node) const;          // its process runs and has the folder open

  // The FIFOs of all nodes, which have to be there by now. Throws SetupError.
  void open_bells();
  int bell_fd(std::uint16_t queue) const { return bells_[bell_index(options_.node, queue)]; }
  void arm(std::uint16_t queue, Ringing by);
  void disarm(std::uint16_t queue);
  void drain(std::uint16_t queue);
  void ring(std::uint16_t queue, protocol::NodeId peer,
            bool urgent);  // after the frames were handed to the device

  // Takes away what we made, and with the last node all of it.
  void close();

 private:
  struct Shared;

  std::size_t bell_index(protocol::NodeId node, std::uint16_t queue) const {
    return std::size_t{node.value} * options_.queue_count + queue;
  }
  std::atomic<std::uint32_t>& sleeping(protocol::NodeId node, std::uint16_t queue) const;
  std::string bell_path(protocol::NodeId node, std::uint16_t queue) const;
  std::size_t shared_bytes() const;

  void make_or_check_folder();
  bool open_shared_file(std::uint64_t deadline_ns);
  void take_place();
  void start_afresh();
  void check_same_cluster() const;
  void map_shared_file();
  void make_own_bells();
  bool anybody_else() const;

  MemifFolderOptions options_;
  bool made_folder_ = false;
  int file_ = -1;
  Shared* shared_ = nullptr;
  std::vector<int> bells_;
};

}  // namespace pagewire::dataplane
