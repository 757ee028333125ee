// What befalls the cluster in the first phase: clogged and cut links, pauses, restarts.
#include <fmt/format.h>

#include "test/sim/simulator.h"

namespace pagewire::sim {

using protocol::NodeId;
using protocol::NodeSet;

void Simulator::start_weather() {
  for (std::uint32_t i = 0; i < kCalamities; ++i) {
    if (setting_.gap_ns[i] != 0)
      queue_.push(now_ + random_.below(2 * setting_.gap_ns[i]), Event::Kind::kWeather, 0, i);
  }
}

void Simulator::befall(Calamity calamity) {
  count_step(Event::Kind::kWeather, 0, 0, static_cast<std::uint64_t>(calamity));
  switch (calamity) {
    case Calamity::kClog:
      clog();
      break;
    case Calamity::kCutOneWay:
      cut_one_way();
      break;
    case Calamity::kCutTwoWay:
      cut_two_ways();
      break;
    case Calamity::kPause:
      pause();
      break;
    case Calamity::kRestartOne:
      restart_one();
      break;
    case Calamity::kRestartBoot:
      restart_all(true);
      break;
    case Calamity::kRestartView:
      restart_all(false);
      break;
    case Calamity::kStrangerSpeaks:
      stranger_speaks();
      break;
  }
  queue_.push(now_ + 1 + random_.below(2 * setting_.gap(calamity)), Event::Kind::kWeather, 0,
              static_cast<std::uint32_t>(calamity));
}

void Simulator::happened(Calamity calamity, const std::string& text) {
  ++report_.counters.calamities[static_cast<std::size_t>(calamity)];
  if (tells(std::nullopt)) tell(Line::Kind::kWeather, 0, 0, std::nullopt, text);
}

std::uint8_t Simulator::any_node() { return static_cast<std::uint8_t>(random_.below(setting_.nodes)); }

void Simulator::clog() {
  const std::uint8_t from = any_node();
  const std::uint8_t to = any_node();
  const std::uint64_t length = random_.below(setting_.calamity_ns);
  network_.clog(from, to, now_ + length);
  happened(Calamity::kClog, fmt::format("N{} to N{} clogged for {} us", from, to, length / 1000));
}

void Simulator::cut_one_way() {
  const std::uint8_t from = any_node();
  const std::uint8_t to = any_node();
  const std::uint64_t length = random_.below(setting_.calamity_ns);
  network_.cut(from, to, now_ + length);
  happened(Calamity::kCutOneWay, fmt::format("N{} to N{} cut for {} us", from, to, length / 1000));
}

void Simulator::cut_two_ways() {
  const NodeSet half(random_.next() & NodeSet::first(setting_.nodes).bits());
  const NodeSet other = NodeSet::first(setting_.nodes).without(half);
  const std::uint64_t length = random_.below(setting_.calamity_ns);
  half.for_each([&](NodeId one) {
    other.for_each([&](NodeId two) {
      network_.cut(one.value, two.value, now_ + length);
      network_.cut(two.value, one.value, now_ + length);
    });
  });
  happened(Calamity::kCutTwoWay,
           fmt::format("nodes {:#x} and {:#x} parted for {} us", half.bits(), other.bits(), length / 1000));
}

void Simulator::pause() {
  const std::uint8_t node = any_node();
  const std::uint64_t length = random_.below(setting_.calamity_ns);
  nodes_[node].paused_until = now_ + length;
  happened(Calamity::kPause, fmt::format("N{} stands still for {} us", node, length / 1000));
}

// One is always left alive.
void Simulator::restart_one() {
  const std::uint8_t victim = any_node();
  Node& node = nodes_[victim];
  if (living_ < 2 || node.dead) return;
  happened(Calamity::kRestartOne, fmt::format("N{} restarts", victim));
  node.dead = true;
  node.boot_id = ++last_boot_;
  --living_;
  for (std::uint32_t page = 0; page < setting_.pages; ++page) {
    if (slot(victim, page).entry.owner || stage(victim, page) == protocol::Stage::kHandingOver) give_up(page);
    give_up_what_is_with_the_dead(page);
    const protocol::Epoch epoch = slot(victim, page).entry.epoch;
    slot(victim, page) = Slot{};
    slot(victim, page).entry.epoch = epoch;  // says which hand-overs it had accepted
  }
  keep_events(victim);
  node.rounds.emplace(node.storage, node.deadlines);
  node.timer_at = protocol::kNever.ns;
  ++node.timer_number;
  for (std::uint32_t i = 0; i < setting_.threads; ++i) {
    Thread& thread = threads_[victim * setting_.threads + i];
    if (thread.state != Thread::State::kResting) --active_threads_;
    thread.state = Thread::State::kResting;
  }
}

// What was sent before is still on its way, and must not be taken for anything of now (R11).
void Simulator::restart_all(bool new_lives) {
  happened(new_lives ? Calamity::kRestartBoot : Calamity::kRestartView,
           new_lives ? "all start anew, in new lives" : "all start anew, in the next view");
  queue_.erase_if([](const Event& event) {
    return event.kind != Event::Kind::kDeliver && event.kind != Event::Kind::kWeather;
  });
  for (std::uint8_t n = 0; n < setting_.nodes; ++n) {
    keep_events(n);
    if (new_lives) nodes_[n].boot_id = ++last_boot_;
  }
  if (!new_lives) ++view_;
  start_cluster();
}

// Beats for joining, and requests as if it had joined: none of it may have an effect.
void Simulator::stranger_speaks() {
  NodeSet strangers;
  for (std::uint8_t n = 0; n < setting_.nodes; ++n) {
    if (nodes_[n].dead) strangers.add(NodeId{n});
  }
  if (strangers.empty()) return;
  const std::uint8_t node = any_node();
  if (!strangers.contains(NodeId{node})) return;
  protocol::Message message;
  message.type = random_.coin() ? protocol::MessageType::kCopyRequest : protocol::MessageType::kWriteRequest;
  message.from = NodeId{node};
  message.transaction.value = 1 + random_.below(8);
  message.data_version.value = 1;
  const NodeSet to = NodeSet::first(setting_.nodes).without(NodeId{node});
  const auto page = static_cast<std::uint32_t>(random_.below(setting_.pages));
  const std::uint32_t frame = encode(node, to, page, message, 0);
  if (frame == Network::kNoFrame) return;
  if (random_.coin()) make_beat(network_[frame], node, to);
  happened(Calamity::kStrangerSpeaks, fmt::format("N{} speaks in its new life", node));
  report_.counters.add(Counter::kStrangeFrames, to.size());
  send_frame(frame, node, to);
}

}  // namespace pagewire::sim
