// Adds up what the loops count. Any thread; nothing is stopped for it.
#include <array>
#include <string>
#include <utility>

#include "pagewire/node_impl.h"
#include "protocol/wire.h"

namespace pagewire {

namespace {

using dataplane::FaultKind;
using dataplane::HistogramSnapshot;
using dataplane::Phase;
using dataplane::RegionState;

constexpr std::array<const char*, protocol::kMessageTypes> kMessageNames = {
    "",           "copy_request", "copy_reply", "write_request", "ownership_transfer", "transfer_ack",
    "invalidate", "ack",          "not_owner",  "held"};
constexpr std::array<const char*, protocol::kEvents> kEventNames = {
    "busy",      "stale",       "below_floor", "already_granted", "deferred", "deferred_lost",
    "not_owner", "unsolicited", "repeated",    "asked_again",     "refused"};

Latency summarise(const dataplane::HistogramSnapshot& snapshot) {
  return Latency{.count = snapshot.count(),
                 .p50_ns = snapshot.quantile_ns(0.5),
                 .p90_ns = snapshot.quantile_ns(0.9),
                 .p99_ns = snapshot.quantile_ns(0.99),
                 .max_ns = snapshot.max_ns()};
}

// With thread delivery the total is the latency until the page was mapped.
void add_phase(const RegionState& region, FaultKind kind, Phase phase, HistogramSnapshot& snapshot) {
  for (std::size_t loop = 0; loop < region.phases.size(); ++loop) {
    const dataplane::Histogram* const histogram = region.phases[loop].histogram(kind, phase);
    if (histogram != nullptr) {
      snapshot.add(*histogram);
    } else if (phase == Phase::kTotal) {
      snapshot.add(region.counters[loop].latency[static_cast<std::size_t>(kind)]);
    }
  }
}

void add_phases(const std::vector<const RegionState*>& regions, Stats& stats) {
  for (std::size_t kind = 0; kind < dataplane::kPhasedKinds; ++kind) {
    KindPhases all;
    all.kind = kind_name(static_cast<FaultKind>(kind));
    for (std::size_t phase = 0; phase < dataplane::kPhases; ++phase) {
      HistogramSnapshot snapshot;
      for (const RegionState* region : regions) {
        add_phase(*region, static_cast<FaultKind>(kind), static_cast<Phase>(phase), snapshot);
      }
      const auto name = std::string(phase_name(static_cast<Phase>(phase)));
      all.phases.push_back(PhaseLatency{.name = name, .latency = summarise(snapshot)});
    }
    for (const RegionState* region : regions) {
      for (const auto& of_loop : region->phases) {
        all.repeated_count += of_loop.repeated_count(static_cast<FaultKind>(kind));
      }
    }
    stats.phases.push_back(std::move(all));
  }
  KindPhases local;
  local.kind = kind_name(FaultKind::kLocal);
  local.phases.push_back(
      PhaseLatency{.name = std::string(phase_name(Phase::kTotal)), .latency = stats.local});
  stats.phases.push_back(std::move(local));
}

void add_regions(const std::vector<const RegionState*>& regions, Stats& stats) {
  std::array<dataplane::HistogramSnapshot, dataplane::kFaultKinds> latency;
  std::array<std::uint64_t, protocol::kMessageTypes> sent{};
  for (const RegionState* region : regions) {
    for (const dataplane::RegionCounters& counters : region->counters) {
      for (std::size_t i = 0; i < latency.size(); ++i) latency[i].add(counters.latency[i]);
      for (std::size_t i = 0; i < sent.size(); ++i) sent[i] += counters.sent_messages[i].get();
      stats.sent_bytes += counters.sent_bytes.get();
      stats.received_message_count += counters.received_messages.get();
      stats.waiting_fault_count += counters.waiting.get();
    }
    stats.page_table_bytes += region->pages.memory_bytes();
    stats.counter_bytes += region->counter_bytes();
  }
  stats.read_miss = summarise(latency[static_cast<std::size_t>(FaultKind::kReadMiss)]);
  stats.write_miss = summarise(latency[static_cast<std::size_t>(FaultKind::kWriteMiss)]);
  stats.upgrade = summarise(latency[static_cast<std::size_t>(FaultKind::kUpgrade)]);
  stats.local = summarise(latency[static_cast<std::size_t>(FaultKind::kLocal)]);
  add_phases(regions, stats);
  for (std::size_t i = 1; i < sent.size(); ++i) {
    stats.sent_message_count += sent[i];
    stats.sent_messages.push_back(NamedCount{.name = kMessageNames[i], .count = sent[i]});
  }
}

void add_loops(const dataplane::Engine& engine, Stats& stats) {
  std::array<std::uint64_t, static_cast<std::size_t>(protocol::Drop::kCount)> dropped{};
  std::array<std::uint64_t, protocol::kEvents> events{};
  std::uint64_t no_mbuf = 0;
  for (const auto& loop : engine.loops()) {
    const dataplane::LoopCounters& counters = loop->counters();
    for (std::size_t i = 0; i < dropped.size(); ++i) dropped[i] += counters.dropped[i].get();
    for (std::size_t i = 0; i < events.size(); ++i) events[i] += counters.events[i].get();
    no_mbuf += counters.no_mbuf.get();
    stats.handed_on_count += counters.handed_on.get();
    stats.spun_ns += counters.spun_ns.get() + counters.spun_beside_ns.get();
  }
  const auto add = [](std::vector<NamedCount>& list, std::string name, std::uint64_t count) {
    if (count > 0) list.push_back(NamedCount{.name = std::move(name), .count = count});
  };
  for (std::size_t i = 0; i < dropped.size(); ++i) {
    add(stats.dropped_frames, std::string(protocol::drop_name(static_cast<protocol::Drop>(i))), dropped[i]);
  }
  for (std::size_t i = 0; i < events.size(); ++i) add(stats.events, kEventNames[i], events[i]);
  add(stats.dropped_frames, "no_mbuf_to_send", no_mbuf);
}

void add_port(const dataplane::Port& port, Stats& stats) {
  std::uint64_t refused = 0;
  std::uint64_t foreign = 0;
  stats.sent_bytes = 0;
  for (std::uint16_t queue = 0; queue < port.queue_count(); ++queue) {
    const dataplane::PortCounters counters = port.counters(queue);
    stats.sent_frame_count += counters.sent_frame_count;
    stats.sent_multicast_count += counters.sent_multicast_count;
    stats.sent_bytes += counters.sent_bytes;
    refused += counters.send_dropped_count;
    foreign += counters.foreign_frame_count;
  }
  if (refused > 0) stats.dropped_frames.push_back(NamedCount{.name = "refused_by_device", .count = refused});
  if (foreign > 0) stats.dropped_frames.push_back(NamedCount{.name = "foreign_ethertype", .count = foreign});
}

}  // namespace

Stats collect_stats(const Node::Impl& node, const RegionState* only) {
  Stats stats;
  const dataplane::Engine& engine = *node.engine;
  add_regions(only != nullptr ? std::vector<const RegionState*>{only} : engine.regions(), stats);
  add_loops(engine, stats);
  if (only == nullptr) add_port(engine.port(), stats);
  engine.silent().for_each([&](protocol::NodeId silent) { stats.silent_nodes.push_back(silent.value); });
  stats.fixed_bytes = node.port_bytes + engine.loop_bytes();
  return stats;
}

}  // namespace pagewire
