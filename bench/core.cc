// What the protocol costs: nanoseconds of one transition of the pure core, of whole exchanges, and of the
// wire codec.
//
// A figure holds the transition function alone: no frame is sent, no page mapped, no page byte copied, and
// all that it touches lies in the processor's caches. Two kinds of figures need more words.
//
// Those under transition_of_batch/ change the page so that it cannot be done again at once: each is measured
// over 256 pages that were prepared with the clock stopped. empty_batch is the part that is the harness's.
//
// Those under exchange/ deliver all messages that follow from a fault, at all nodes, one after the other,
// through a queue in memory. So they are the work of all nodes together, the queue's copies included, and not
// a latency; `transitions` is how many there are.
#include "protocol/core.h"

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "bench/google_main.h"
#include "protocol/wire.h"

namespace pagewire::bench {

namespace {

using protocol::Access;
using protocol::Effect;
using protocol::Effects;
using protocol::Message;
using protocol::MessageType;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::PageEntry;
using protocol::Permission;
using protocol::Time;

constexpr std::uint32_t kPages = 256;
constexpr std::size_t kRounds = 512;  // local faults may take three quarters of them
constexpr Time kNow{1'000'000'000};
constexpr NodeId kOwner{1};  // of all pages, at first

struct Delivery {
  NodeId to;
  std::uint32_t page = 0;
  Message message;
};

// Nodes that share kPages pages, and the messages between them.
class Cluster {
 public:
  explicit Cluster(std::uint32_t node_count) {
    for (std::uint32_t i = 0; i < node_count; ++i) {
      nodes_.push_back(std::make_unique<Node>(NodeId{static_cast<std::uint8_t>(i)}, node_count));
    }
    queue_.reserve(std::size_t{kPages} * node_count * 4);
    reset();
  }

  // Everything as if nobody had touched a page.
  void reset() {
    for (auto& node : nodes_) node->reset();
    queue_.clear();
  }

  // One transition. Its effects are in effects(); nobody carries them out.
  void fault(NodeId node, std::uint32_t page, Access access) {
    Node& at = *nodes_[node.value];
    effects_.clear();
    const auto outcome = protocol::on_fault(at.view, at.ref(page), access, kNow, effects_);
    if (outcome != protocol::Outcome::kDone) std::abort();  // kRounds is too small for the benchmark
  }
  void deliver(const Delivery& delivery) {
    Node& at = *nodes_[delivery.to.value];
    effects_.clear();
    protocol::on_message(at.view, at.ref(delivery.page), delivery.message, kNow, effects_);
  }
  const Effects& effects() const { return effects_; }
  PageEntry& entry(NodeId node, std::uint32_t page) { return nodes_[node.value]->entries[page]; }

  // Puts what the last transition sends into the queue.
  void enqueue(std::uint32_t page) {
    for (const Effect& effect : effects_.all()) {
      if (effect.kind != Effect::Kind::kSend) continue;
      effect.to.for_each([&](NodeId to) { queue_.push_back({to, page, effect.message}); });
    }
  }
  // The queue as it is now, which is then empty.
  std::vector<Delivery> take_queue() { return std::exchange(queue_, {}); }

  // A fault and everything that follows. Returns the number of transitions.
  std::size_t complete_fault(NodeId node, std::uint32_t page, Access access) {
    fault(node, page, access);
    enqueue(page);
    for (std::size_t i = 0; i < queue_.size(); ++i) {
      const Delivery delivery = queue_[i];
      deliver(delivery);
      enqueue(delivery.page);
    }
    const std::size_t transitions = 1 + queue_.size();
    queue_.clear();
    return transitions;
  }

 private:
  struct Node {
    Node(NodeId self, std::uint32_t node_count)
        : view{.self = self, .members = NodeSet::first(node_count)}, rounds({}, {}) {}

    void reset() {
      entries.fill(protocol::initial_entry(view.self, kOwner, protocol::Placement::kOneNode));
      rounds = protocol::Rounds(round_storage, deadline_storage);
    }
    protocol::PageRef ref(std::uint32_t page) {
      return {.id = {.region = 0, .index = page}, .entry = entries[page], .rounds = rounds};
    }

    protocol::View view;
    std::array<PageEntry, kPages> entries{};
    std::array<protocol::Round, kRounds> round_storage{};
    std::array<Time, kRounds> deadline_storage{};
    protocol::Rounds rounds;
  };

  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<Delivery> queue_;
  Effects effects_;
};

// ---- transitions that can be done again and again on one page
// ----------------------------------------------------

// Another thread's fault was served meanwhile: wake.
void read_hit(benchmark::State& state) {
  Cluster cluster(2);
  cluster.complete_fault(kOwner, 0, Access::kRead);
  for (auto _ : state) {
    cluster.fault(kOwner, 0, Access::kRead);
    benchmark::DoNotOptimize(cluster.effects());
  }
}
BENCHMARK(read_hit)->Name("transition/read_hit_wake");

// Rows 7 and 8 without copies elsewhere: the owner goes from Read to Write without a message.
void write_grant_local(benchmark::State& state) {
  Cluster cluster(2);
  cluster.complete_fault(kOwner, 0, Access::kRead);
  for (auto _ : state) {
    cluster.entry(kOwner, 0).permission = Permission::kRead;
    cluster.fault(kOwner, 0, Access::kWrite);
    benchmark::DoNotOptimize(cluster.effects());
  }
}
BENCHMARK(write_grant_local)->Name("transition/write_grant_local");

// Rows 5 and 6: the owner adds the reader to the copyset and replies; from Write it protects the page first.
void copy_request_at_owner(benchmark::State& state, Permission held) {
  Cluster cluster(2);
  cluster.complete_fault(kOwner, 0, Access::kWrite);
  Delivery request{.to = kOwner, .page = 0, .message = {}};
  request.message.from = NodeId{0};
  for (auto _ : state) {
    ++request.message.transaction.value;
    cluster.entry(kOwner, 0).permission = held;
    cluster.deliver(request);
    benchmark::DoNotOptimize(cluster.effects());
  }
}
BENCHMARK_CAPTURE(copy_request_at_owner, read, Permission::kRead)
    ->Name("transition/copy_request_at_owner/in_read");
BENCHMARK_CAPTURE(copy_request_at_owner, write, Permission::kWrite)
    ->Name("transition/copy_request_at_owner/in_write");

// ---- transitions over a batch of prepared pages
// --------------------------------------------------------------------

constexpr NodeId kAsker{0};

// Measures the delivery of `pending`, one message a page, as prepare() leaves it. `node_count` nodes.
template <typename Prepare>
void deliver_batches(benchmark::State& state, std::uint32_t node_count, Prepare&& prepare) {
  Cluster cluster(node_count);
  while (state.KeepRunningBatch(kPages)) {
    state.PauseTiming();
    cluster.reset();
    const std::vector<Delivery> pending = prepare(cluster);
    if (pending.size() != kPages) std::abort();  // the figure would be of something else
    state.ResumeTiming();
    for (const Delivery& delivery : pending) {
      cluster.deliver(delivery);
      benchmark::DoNotOptimize(cluster.effects());
    }
  }
}

void ask_all(Cluster& cluster, Access access) {
  for (std::uint32_t page = 0; page < kPages; ++page) {
    cluster.fault(kAsker, page, access);
    cluster.enqueue(page);
  }
}

// Delivers what is pending and gives what the receivers answer.
std::vector<Delivery> answers_to(Cluster& cluster, const std::vector<Delivery>& pending) {
  for (const Delivery& delivery : pending) {
    cluster.deliver(delivery);
    cluster.enqueue(delivery.page);
  }
  return cluster.take_queue();
}

void complete_all(Cluster& cluster, NodeId node, Access access) {
  for (std::uint32_t page = 0; page < kPages; ++page) cluster.complete_fault(node, page, access);
}

void empty_batch(benchmark::State& state) {
  Cluster cluster(2);
  while (state.KeepRunningBatch(kPages)) {
    state.PauseTiming();
    state.ResumeTiming();
    for (std::uint32_t page = 0; page < kPages; ++page) benchmark::DoNotOptimize(cluster.effects());
  }
}
BENCHMARK(empty_batch)->Name("transition_of_batch/empty_batch");

// A load of an absent page: takes a round, asks.
void read_fault_asks(benchmark::State& state) {
  Cluster cluster(2);
  while (state.KeepRunningBatch(kPages)) {
    state.PauseTiming();
    cluster.reset();
    state.ResumeTiming();
    for (std::uint32_t page = 0; page < kPages; ++page) {
      cluster.fault(kAsker, page, Access::kRead);
      benchmark::DoNotOptimize(cluster.effects());
    }
  }
}
BENCHMARK(read_fault_asks)->Name("transition_of_batch/read_fault_asks");

// Install, map, give the round back.
void copy_reply(benchmark::State& state) {
  deliver_batches(state, 2, [](Cluster& cluster) {
    complete_all(cluster, kOwner, Access::kWrite);
    ask_all(cluster, Access::kRead);
    return answers_to(cluster, cluster.take_queue());
  });
}
BENCHMARK(copy_reply)->Name("transition_of_batch/copy_reply");

// Row 10 at the owner: zap, hand over with the bytes, keep the round until that is acknowledged.
void write_request_at_owner(benchmark::State& state) {
  deliver_batches(state, 2, [](Cluster& cluster) {
    complete_all(cluster, kOwner, Access::kWrite);
    ask_all(cluster, Access::kWrite);
    return cluster.take_queue();
  });
}
BENCHMARK(write_request_at_owner)->Name("transition_of_batch/write_request_at_owner");

// Row 9 at a node that holds a copy: zap, promise to the writer.
void write_request_at_holder(benchmark::State& state) {
  constexpr NodeId kHolder{2};
  deliver_batches(state, 3, [&](Cluster& cluster) {
    complete_all(cluster, kHolder, Access::kRead);
    ask_all(cluster, Access::kWrite);
    std::vector<Delivery> pending = cluster.take_queue();
    std::erase_if(pending, [&](const Delivery& delivery) { return delivery.to != kHolder; });
    return pending;
  });
}
BENCHMARK(write_request_at_holder)->Name("transition_of_batch/write_request_at_holder");

// At the writer, nobody else having a copy: install, acknowledge, own, map for writing.
void transfer_at_writer(benchmark::State& state) {
  deliver_batches(state, 2, [](Cluster& cluster) {
    complete_all(cluster, kOwner, Access::kWrite);
    ask_all(cluster, Access::kWrite);
    return answers_to(cluster, cluster.take_queue());
  });
}
BENCHMARK(transfer_at_writer)->Name("transition_of_batch/ownership_transfer");

// At the former owner: the hand-over is done.
void transfer_ack(benchmark::State& state) {
  deliver_batches(state, 2, [](Cluster& cluster) {
    complete_all(cluster, kOwner, Access::kWrite);
    ask_all(cluster, Access::kWrite);
    return answers_to(cluster, answers_to(cluster, cluster.take_queue()));
  });
}
BENCHMARK(transfer_ack)->Name("transition_of_batch/transfer_ack");

// ---- whole exchanges
// -----------------------------------------------------------------------------------------------

void report(benchmark::State& state, std::size_t transitions) {
  state.counters["transitions"] =
      benchmark::Counter(static_cast<double>(transitions), benchmark::Counter::kAvgIterations);
}

// Write request, transfer, its acknowledgement: two nodes take the page from each other.
void write_exchange(benchmark::State& state) {
  Cluster cluster(2);
  std::size_t transitions = 0;
  std::uint8_t writer = 0;
  for (auto _ : state) {
    transitions += cluster.complete_fault(NodeId{writer}, 0, Access::kWrite);
    writer ^= 1U;
  }
  report(state, transitions);
}
BENCHMARK(write_exchange)->Name("exchange/write/nodes:2");

// The same among several, when all have read the page since the last write: the holders promise to the
// writer. Each page has another owner then; the reads in between are not measured.
void write_exchange_with_copies(benchmark::State& state) {
  const auto node_count = static_cast<std::uint8_t>(state.range(0));
  Cluster cluster(node_count);
  std::size_t transitions = 0;
  std::uint8_t writer = 0;
  while (state.KeepRunningBatch(kPages)) {
    state.PauseTiming();
    for (std::uint8_t node = 0; node < node_count; ++node) complete_all(cluster, NodeId{node}, Access::kRead);
    writer = static_cast<std::uint8_t>((writer + 2) %
                                       node_count);  // the owner is another, from the second time on
    state.ResumeTiming();
    for (std::uint32_t page = 0; page < kPages; ++page) {
      transitions += cluster.complete_fault(NodeId{writer}, page, Access::kWrite);
    }
  }
  report(state, transitions);
}
BENCHMARK(write_exchange_with_copies)->Name("exchange/write_all_have_copies/nodes")->Arg(4);

// Row 8: the owner has all holders of copies invalidate, and goes on when the last has promised.
void invalidate_exchange(benchmark::State& state) {
  const auto holders = static_cast<std::uint8_t>(state.range(0));
  Cluster cluster(holders + 1U);
  std::size_t transitions = 0;
  while (state.KeepRunningBatch(kPages)) {
    state.PauseTiming();
    for (std::uint8_t node = 0; node <= holders; ++node) complete_all(cluster, NodeId{node}, Access::kRead);
    state.ResumeTiming();
    for (std::uint32_t page = 0; page < kPages; ++page) {
      transitions += cluster.complete_fault(kOwner, page, Access::kWrite);
    }
  }
  report(state, transitions);
}
BENCHMARK(invalidate_exchange)->Name("exchange/invalidate_and_acks/holders")->Arg(7);

// ---- the wire
// ------------------------------------------------------------------------------------------------------

// Every field has a value, so that none is cheaper than on a real wire.
Message message_of(MessageType type) {
  Message message;
  message.type = type;
  message.from = NodeId{1};
  message.transaction.value = 0x1234567;
  message.version.value = 0x2345678;
  message.data_version.value = 0x3456789;
  if (type == MessageType::kOwnershipTransfer) {
    message.epoch.value = 0x4567;
    message.copyset = NodeSet(0b101);
    for (std::uint8_t node = 0; node < 4; ++node) message.granted.add(NodeId{node}, message.transaction);
  }
  return message;
}

std::size_t encode(const Message& message, std::span<std::byte> out) {
  protocol::Header header;
  header.type = static_cast<std::uint8_t>(message.type);
  header.sender = message.from;
  const std::size_t body = protocol::encode_body(message, out.subspan(protocol::kHeaderBytes));
  return protocol::encode_header(header, body, out) + body;
}

using FrameRoom = std::array<std::byte, protocol::kHeaderBytes + protocol::kBodyBytesMax>;

// Header and body; the page's bytes would be one memcpy.
void wire_encode(benchmark::State& state, MessageType type) {
  Message message = message_of(type);
  FrameRoom frame;
  for (auto _ : state) {
    benchmark::DoNotOptimize(message);
    benchmark::DoNotOptimize(encode(message, frame));
    benchmark::ClobberMemory();
  }
}
BENCHMARK_CAPTURE(wire_encode, request, MessageType::kCopyRequest)->Name("wire/encode/copy_request");
BENCHMARK_CAPTURE(wire_encode, transfer, MessageType::kOwnershipTransfer)
    ->Name("wire/encode/ownership_transfer");

// With all checks of a hostile frame.
void wire_decode(benchmark::State& state, MessageType type) {
  FrameRoom frame;
  const std::size_t bytes = encode(message_of(type), frame);
  Message message;
  for (auto _ : state) {
    benchmark::DoNotOptimize(frame);
    const protocol::Parsed parsed = protocol::parse({frame.data(), bytes});
    if (parsed.drop != protocol::Drop::kNone ||
        protocol::decode_body(parsed, 4, message) != protocol::Drop::kNone) {
      state.SkipWithError("the frame was not understood");
      break;
    }
    benchmark::DoNotOptimize(message);
  }
}
BENCHMARK_CAPTURE(wire_decode, request, MessageType::kCopyRequest)->Name("wire/decode/copy_request");
BENCHMARK_CAPTURE(wire_decode, transfer, MessageType::kOwnershipTransfer)
    ->Name("wire/decode/ownership_transfer");

}  // namespace

}  // namespace pagewire::bench

int main(int argc, char** argv) { return pagewire::bench::run_google_benchmarks(argc, argv); }
