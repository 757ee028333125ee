// See mutex_mesh.h.
#include "test/sanitizers/mutex_mesh.h"

#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "dataplane/counter.h"
#include "dataplane/doorbell.h"

namespace pagewire::test {

namespace {

using dataplane::Counter;
using protocol::NodeId;
using protocol::NodeSet;

constexpr std::uint32_t kPoolCacheFrames = 32;
constexpr std::size_t kBoxFrames = 512;
constexpr char kPoolDriver[] = "pagewire_visible";

// ---- a mempool driver

struct Store {
  std::mutex mutex;
  std::vector<void*> objects;
};

Store& store_of(const rte_mempool* pool) { return *static_cast<Store*>(pool->pool_data); }

int make_store(rte_mempool* pool) {
  auto store = std::make_unique<Store>();
  store->objects.reserve(pool->size);
  pool->pool_data = store.release();
  return 0;
}

void free_store(rte_mempool* pool) { delete static_cast<Store*>(pool->pool_data); }

int put(rte_mempool* pool, void* const* objects, unsigned count) {
  Store& store = store_of(pool);
  const std::lock_guard lock(store.mutex);
  store.objects.insert(store.objects.end(), objects, objects + count);
  return 0;
}

int take(rte_mempool* pool, void** objects, unsigned count) {
  Store& store = store_of(pool);
  const std::lock_guard lock(store.mutex);
  if (store.objects.size() < count) return -ENOBUFS;
  for (unsigned i = 0; i < count; ++i) {
    objects[i] = store.objects.back();
    store.objects.pop_back();
  }
  return 0;
}

unsigned count_stored(const rte_mempool* pool) {
  Store& store = store_of(pool);
  const std::lock_guard lock(store.mutex);
  return static_cast<unsigned>(store.objects.size());
}

const rte_mempool_ops kDriver = [] {
  rte_mempool_ops driver{};
  std::memcpy(driver.name, kPoolDriver, sizeof(kPoolDriver));
  driver.alloc = make_store;
  driver.free = free_store;
  driver.enqueue = put;
  driver.dequeue = take;
  driver.get_count = count_stored;
  return driver;
}();

void register_driver() {
  static const int index = rte_mempool_register_ops(&kDriver);
  if (index < 0) throw std::runtime_error("no room for another mempool driver");
}

std::string unique_pool_name() {
  static std::atomic<std::uint32_t> next{0};
  return "visible_mbufs_" + std::to_string(next.fetch_add(1));
}

}  // namespace

VisiblePool::VisiblePool(std::uint32_t frame_count) {
  register_driver();
  pool_ = rte_pktmbuf_pool_create_by_ops(unique_pool_name().c_str(), frame_count, kPoolCacheFrames, 0,
                                         RTE_PKTMBUF_HEADROOM + dataplane::kFrameRoomBytes, SOCKET_ID_ANY,
                                         kPoolDriver);
  if (pool_ == nullptr)
    throw std::runtime_error("EAL has no memory for " + std::to_string(frame_count) + " frames");
}

VisiblePool::VisiblePool(VisiblePool&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)) {}

VisiblePool::~VisiblePool() { rte_mempool_free(pool_); }

// ---- the mesh

namespace {

// What is on its way to one queue of one node.
struct Box {
  std::mutex mutex;
  std::deque<rte_mbuf*> frames;
  dataplane::Doorbell bell;
};

}  // namespace

struct MutexMesh::State {
  MutexMeshOptions options;
  std::vector<VisiblePool> pools;  // by node and queue
  std::deque<Box> boxes;           // the same

  std::size_t at(NodeId node, std::uint16_t queue) const {
    return std::size_t{node.value} * options.queues + queue;
  }
};

namespace {

class MutexPort final : public dataplane::Port {
 public:
  MutexPort(MutexMesh::State& mesh, NodeId self, std::unique_ptr<dataplane::Port> companion)
      : mesh_(mesh), self_(self), companion_(std::move(companion)), queues_(mesh.options.queues) {}
  ~MutexPort() override { close(); }

  std::uint16_t queue_count() const override { return mesh_.options.queues; }
  bool keeps_queue() const override { return mesh_.options.queues == 1; }
  bool has_multicast() const override { return false; }
  std::uint32_t frame_bytes_max() const override { return mesh_.options.frame_bytes_max; }
  std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> out) override;
  void send(std::uint16_t queue, NodeSet to, rte_mbuf* frame) override;
  void flush(std::uint16_t queue) override;
  std::vector<int> wake_fds(std::uint16_t queue) const override { return {box(self_, queue).bell.fd()}; }
  void arm(std::uint16_t queue) override { box(self_, queue).bell.arm(); }
  void disarm(std::uint16_t queue) override { box(self_, queue).bell.disarm(); }
  void drain(std::uint16_t queue) override { box(self_, queue).bell.drain(); }
  rte_mempool* pool(std::uint16_t queue) const override { return mesh_.pools[mesh_.at(self_, queue)].get(); }
  dataplane::PortCounters counters(std::uint16_t queue) const override;
  NodeSet connected() const override { return NodeSet::first(mesh_.options.nodes); }
  void close() override;

 private:
  struct Leaving {
    NodeId to;
    rte_mbuf* frame;
  };
  struct Queue {  // its loop's alone, but for the counters
    std::vector<Leaving> leaving;
    std::uint64_t frame_number = 0;
    Counter sent, sent_bytes, dropped, received, received_bytes;
  };

  Box& box(NodeId node, std::uint16_t queue) const { return mesh_.boxes[mesh_.at(node, queue)]; }
  rte_mbuf* copy_of(std::uint16_t queue, rte_mbuf* frame) const;
  void deliver(std::uint16_t queue, const Leaving& leaving);

  MutexMesh::State& mesh_;
  NodeId self_;
  std::unique_ptr<dataplane::Port> companion_;
  std::vector<Queue> queues_;
};

std::uint16_t MutexPort::receive(std::uint16_t queue, std::span<rte_mbuf*> out) {
  Box& mine = box(self_, queue);
  Queue& q = queues_[queue];
  std::unique_lock lock(mine.mutex, std::defer_lock);
  if (!mesh_.options.forget_the_lock) lock.lock();
  std::uint16_t count = 0;
  while (count < out.size() && !mine.frames.empty()) {
    out[count] = mine.frames.front();
    mine.frames.pop_front();
    q.received_bytes.add(out[count++]->pkt_len);
  }
  q.received.add(count);
  return count;
}

// By hand: rte_pktmbuf_copy() is compiled with DPDK, and TSan does not see what it writes.
rte_mbuf* MutexPort::copy_of(std::uint16_t queue, rte_mbuf* frame) const {
  rte_mbuf* const copy = rte_pktmbuf_alloc(pool(queue));
  if (copy == nullptr) return nullptr;
  char* const data = rte_pktmbuf_append(copy, frame->data_len);
  std::memcpy(data, rte_pktmbuf_mtod(frame, const char*), frame->data_len);
  return copy;
}

void MutexPort::send(std::uint16_t queue, NodeSet to, rte_mbuf* frame) {
  Queue& q = queues_[queue];
  to.intersect(connected()).without(self_).for_each([&](NodeId node) {
    rte_mbuf* const copy = copy_of(queue, frame);
    if (copy == nullptr) return q.dropped.add();
    q.leaving.push_back({node, copy});
  });
  rte_pktmbuf_free(frame);
}

void MutexPort::deliver(std::uint16_t queue, const Leaving& leaving) {
  Queue& q = queues_[queue];
  const bool lost = mesh_.options.lose_every != 0 && ++q.frame_number % mesh_.options.lose_every == 0;
  const auto arrives_on = static_cast<std::uint16_t>((queue + 1) % mesh_.options.queues);
  Box& theirs = box(leaving.to, arrives_on);
  const std::uint32_t bytes = leaving.frame->pkt_len;
  bool taken = false;
  if (!lost) {
    const std::lock_guard lock(theirs.mutex);
    taken = theirs.frames.size() < kBoxFrames;
    if (taken) theirs.frames.push_back(leaving.frame);
  }
  if (!taken) {
    rte_pktmbuf_free(leaving.frame);
    return q.dropped.add();
  }
  theirs.bell.ring();
  q.sent.add();
  q.sent_bytes.add(bytes);
}

void MutexPort::flush(std::uint16_t queue) {
  for (const Leaving& leaving : queues_[queue].leaving) deliver(queue, leaving);
  queues_[queue].leaving.clear();
}

dataplane::PortCounters MutexPort::counters(std::uint16_t queue) const {
  const Queue& q = queues_[queue];
  return {.sent_frame_count = q.sent.get(),
          .sent_bytes = q.sent_bytes.get(),
          .send_dropped_count = q.dropped.get(),
          .received_frame_count = q.received.get(),
          .received_bytes = q.received_bytes.get()};
}

void MutexPort::close() {
  for (std::uint16_t queue = 0; queue < queue_count(); ++queue) {
    for (const Leaving& leaving : std::exchange(queues_[queue].leaving, {})) rte_pktmbuf_free(leaving.frame);
    Box& mine = box(self_, queue);
    const std::lock_guard lock(mine.mutex);
    for (rte_mbuf* const frame : std::exchange(mine.frames, {})) rte_pktmbuf_free(frame);
  }
  if (companion_) companion_->close();
}

}  // namespace

MutexMesh::MutexMesh(const MutexMeshOptions& options) : state_(std::make_unique<State>()) {
  state_->options = options;
  for (std::uint32_t i = 0; i < options.nodes * options.queues; ++i) {
    state_->pools.emplace_back(options.pool_frames);
    state_->boxes.emplace_back();
  }
}

MutexMesh::~MutexMesh() {
  for (Box& box : state_->boxes) {
    for (rte_mbuf* const frame : box.frames) rte_pktmbuf_free(frame);  // to a node that had closed already
  }
}

std::unique_ptr<dataplane::Port> MutexMesh::port(NodeId self, std::unique_ptr<dataplane::Port> companion) {
  return std::make_unique<MutexPort>(*state_, self, std::move(companion));
}

std::size_t MutexMesh::mbufs_in_use() const {
  std::size_t count = 0;
  for (const VisiblePool& pool : state_->pools) count += rte_mempool_in_use_count(pool.get());
  return count;
}

}  // namespace pagewire::test
