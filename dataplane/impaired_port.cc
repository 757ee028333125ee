#include "dataplane/impaired_port.h"

#include <rte_mbuf.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/ethdev.h"
#include "fault/setup_error.h"

namespace pagewire::dataplane {
namespace {

constexpr std::size_t kHeldMax = 32;                            // a queue; beyond that nothing is held back
constexpr std::size_t kReadyMax = 2 * kBurstFrames + kHeldMax;  // a burst, doubled, and all that was held
constexpr std::uint32_t kLaterFramesMax = 8;

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  bool chance(double share) { return static_cast<double>(next() >> 11) * 0x1p-53 < share; }

 private:
  std::uint64_t state_;
};

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

struct Decision {
  bool drop;
  bool duplicate;
  bool reorder;
  std::uint32_t later_frames;
};

struct Held {
  rte_mbuf* frame;
  std::uint32_t later_frames;
  std::uint64_t until_ns;
};

struct Counters {
  std::atomic<std::uint64_t> seen{0}, dropped{0}, duplicated{0}, reordered{0};
};

void add_one(std::atomic<std::uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

struct alignas(64) Queue {
  explicit Queue(std::uint64_t seed) : random(seed) {}

  void push_ready(rte_mbuf* frame) { ready[(ready_first + ready_count++) % kReadyMax] = frame; }
  rte_mbuf* pop_ready() {
    rte_mbuf* const frame = ready[ready_first];
    ready_first = (ready_first + 1) % kReadyMax;
    --ready_count;
    return frame;
  }

  Random random;
  std::array<Held, kHeldMax> held{};
  std::size_t held_count = 0;
  std::array<rte_mbuf*, kReadyMax> ready{};
  std::size_t ready_first = 0;
  std::size_t ready_count = 0;
  std::atomic<bool> waiting{false};  // something is held or ready
  Counters counters;
};

class ImpairedPortImpl final : public ImpairedPort {
 public:
  ImpairedPortImpl(std::unique_ptr<Port> inner, const Impairment& impairment)
      : inner_(std::move(inner)), impairment_(impairment) {
    for (std::uint16_t queue = 0; queue < inner_->queue_count(); ++queue) {
      queues_.push_back(std::make_unique<Queue>(Random(impairment.seed + queue).next()));
    }
  }
  ~ImpairedPortImpl() override { close(); }

  std::uint16_t queue_count() const override { return inner_->queue_count(); }
  bool keeps_queue() const override { return inner_->keeps_queue(); }
  bool has_multicast() const override { return inner_->has_multicast(); }
  std::uint32_t frame_bytes_max() const override { return inner_->frame_bytes_max(); }
  std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> out) override;
  void send(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) override {
    inner_->send(queue, to, frame);
  }
  void send_quietly(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) override {
    inner_->send_quietly(queue, to, frame);
  }
  void ring(std::uint16_t queue, protocol::NodeSet nodes) override { inner_->ring(queue, nodes); }
  void flush(std::uint16_t queue) override { inner_->flush(queue); }
  void learn(std::uint16_t queue, protocol::NodeId sender, const rte_mbuf* frame) override {
    inner_->learn(queue, sender, frame);
  }
  std::vector<int> wake_fds(std::uint16_t queue) const override { return inner_->wake_fds(queue); }
  // While something is held back no descriptor tells when it is due: come back in time.
  std::uint64_t nap_ns_max() const override;
  void arm(std::uint16_t queue) override { inner_->arm(queue); }
  void arm_for_urgent(std::uint16_t queue) override { inner_->arm_for_urgent(queue); }
  void disarm(std::uint16_t queue) override { inner_->disarm(queue); }
  void drain(std::uint16_t queue) override { inner_->drain(queue); }
  rte_mempool* pool(std::uint16_t queue) const override { return inner_->pool(queue); }
  PortCounters counters(std::uint16_t queue) const override { return inner_->counters(queue); }
  protocol::NodeSet connected() const override { return inner_->connected(); }
  void close() override;

  std::uint64_t seed() const override { return impairment_.seed; }
  ImpairmentCounters impairments(std::uint16_t queue) const override;

 private:
  Decision decide(Queue& q) const;
  void impair(Queue& q, std::uint16_t queue, rte_mbuf* frame, std::uint64_t now);
  void pass(Queue& q, rte_mbuf* frame);
  void release_due(Queue& q, std::uint64_t now);

  std::unique_ptr<Port> inner_;
  Impairment impairment_;
  std::vector<std::unique_ptr<Queue>> queues_;
};

// Always the same number of draws, so that one decision doesn't shift the next frame's.
Decision ImpairedPortImpl::decide(Queue& q) const {
  const bool drop = q.random.chance(impairment_.drop);
  const bool duplicate = q.random.chance(impairment_.duplicate);
  const bool reorder = q.random.chance(impairment_.reorder);
  const auto later_frames = static_cast<std::uint32_t>(1 + q.random.next() % kLaterFramesMax);
  return {drop, duplicate, reorder, later_frames};
}

std::uint16_t ImpairedPortImpl::receive(std::uint16_t queue, std::span<rte_mbuf*> out) {
  Queue& q = *queues_[queue];
  if (q.ready_count == 0) {
    std::array<rte_mbuf*, kBurstFrames> frames;
    const std::uint16_t count = inner_->receive(queue, frames);
    if (count == 0 && q.held_count == 0) return 0;
    const std::uint64_t now = now_ns();
    for (std::uint16_t i = 0; i < count; ++i) impair(q, queue, frames[i], now);
    release_due(q, now);
  }
  const auto given = static_cast<std::uint16_t>(std::min(out.size(), q.ready_count));
  for (std::uint16_t i = 0; i < given; ++i) out[i] = q.pop_ready();
  q.waiting.store(q.held_count + q.ready_count != 0, std::memory_order_relaxed);
  return given;
}

void ImpairedPortImpl::impair(Queue& q, std::uint16_t queue, rte_mbuf* frame, std::uint64_t now) {
  const Decision decision = decide(q);
  add_one(q.counters.seen);
  if (decision.drop) {
    add_one(q.counters.dropped);
    rte_pktmbuf_free(frame);
    return;
  }
  rte_mbuf* copy = nullptr;
  if (decision.duplicate) copy = rte_pktmbuf_copy(frame, inner_->pool(queue), 0, frame->pkt_len);
  if (decision.reorder && q.held_count < kHeldMax) {
    add_one(q.counters.reordered);
    q.held[q.held_count++] = Held{frame, decision.later_frames, now + impairment_.hold_ns};
  } else {
    pass(q, frame);
  }
  if (copy != nullptr) {
    add_one(q.counters.duplicated);
    pass(q, copy);
  }
}

// Hands a frame on, and after it those that were to come so many frames later.
void ImpairedPortImpl::pass(Queue& q, rte_mbuf* frame) {
  q.push_ready(frame);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < q.held_count; ++i) {
    if (--q.held[i].later_frames == 0) {
      q.push_ready(q.held[i].frame);
    } else {
      q.held[kept++] = q.held[i];
    }
  }
  q.held_count = kept;
}

void ImpairedPortImpl::release_due(Queue& q, std::uint64_t now) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < q.held_count; ++i) {
    if (q.held[i].until_ns <= now) {
      q.push_ready(q.held[i].frame);
    } else {
      q.held[kept++] = q.held[i];
    }
  }
  q.held_count = kept;
}

std::uint64_t ImpairedPortImpl::nap_ns_max() const {
  const std::uint64_t inner = inner_->nap_ns_max();
  const bool waiting = std::ranges::any_of(
      queues_, [](const std::unique_ptr<Queue>& q) { return q->waiting.load(std::memory_order_relaxed); });
  if (!waiting) return inner;
  return inner == 0 ? impairment_.hold_ns : std::min(inner, impairment_.hold_ns);
}

ImpairmentCounters ImpairedPortImpl::impairments(std::uint16_t queue) const {
  const Counters& counters = queues_[queue]->counters;
  return {.seen_count = counters.seen.load(std::memory_order_relaxed),
          .dropped_count = counters.dropped.load(std::memory_order_relaxed),
          .duplicated_count = counters.duplicated.load(std::memory_order_relaxed),
          .reordered_count = counters.reordered.load(std::memory_order_relaxed)};
}

void ImpairedPortImpl::close() {
  for (const std::unique_ptr<Queue>& q : queues_) {
    for (std::size_t i = 0; i < q->held_count; ++i) rte_pktmbuf_free(q->held[i].frame);
    q->held_count = 0;
    while (q->ready_count != 0) rte_pktmbuf_free(q->pop_ready());
  }
  inner_->close();
}

}  // namespace

std::unique_ptr<ImpairedPort> make_impaired_port(std::unique_ptr<Port> inner, const Impairment& impairment) {
  for (const double share : {impairment.drop, impairment.duplicate, impairment.reorder}) {
    if (!(share >= 0 && share <= 1)) {
      throw fault::SetupError("impairing a port", "a share of " + std::to_string(share),
                              "Use 0..1 (0.1 is 10 %)");
    }
  }
  return std::make_unique<ImpairedPortImpl>(std::move(inner), impairment);
}

}  // namespace pagewire::dataplane
