// A wire that ThreadSanitizer sees all of: ports of several nodes in one process that hand each other mbufs
// under a mutex. DPDK's own devices are compiled without instrumentation; of their hand-over TSan sees the
// data and not the order. The same goes for a mempool's ring, so the pools here keep their mbufs in a vector
// under a mutex, as a mempool driver that is ours. What is left of DPDK on a frame's way is inline, thus
// instrumented: the mbuf and the pool's cache of each thread.
//
// Frames come in on the other loop's queue, so that loops have to pass them on; each nth is lost, so that
// time-outs have work. A port: as port.h says. The mesh: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "dataplane/port.h"

struct rte_mempool;

namespace pagewire::test {

// Mbufs with room for kFrameRoomBytes. EAL has been started.
class VisiblePool {
 public:
  explicit VisiblePool(std::uint32_t frame_count);
  ~VisiblePool();
  VisiblePool(VisiblePool&& other) noexcept;
  VisiblePool& operator=(VisiblePool&&) = delete;

  rte_mempool* get() const { return pool_; }

 private:
  rte_mempool* pool_ = nullptr;
};

struct MutexMeshOptions {
  std::uint32_t nodes = 2;
  std::uint16_t queues = 1;
  std::uint32_t pool_frames = 512;       // of each queue
  std::uint32_t lose_every = 0;          // of the frames of a queue; 0: none
  std::uint32_t frame_bytes_max = 4200;  // 1514: pages travel as fragments
  bool forget_the_lock = false;          // a planted race: receivers look without the mutex
};

class MutexMesh {
 public:
  explicit MutexMesh(const MutexMeshOptions& options);
  ~MutexMesh();
  MutexMesh(const MutexMesh&) = delete;
  MutexMesh& operator=(const MutexMesh&) = delete;

  // Node `self`'s end, once; it keeps `companion` (what it stands in for) until it goes. The mesh must
  // outlive it.
  std::unique_ptr<dataplane::Port> port(protocol::NodeId self, std::unique_ptr<dataplane::Port> companion);
  std::size_t mbufs_in_use() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace pagewire::test
