#include "test/sim/setting.h"

#include <fmt/format.h>

namespace pagewire::sim {
namespace {

using protocol::Placement;

constexpr std::array<const char*, kMixes> kMixNames = {"uniform", "hot pages", "ping-pong", "read-mostly",
                                                       "own pages"};
constexpr std::array<const char*, 4> kPlacementNames = {"cyclic", "block", "first touch", "one node"};

// Somewhere in low..high by orders of two: small values as often as large ones.
std::uint64_t log_uniform(Random& random, std::uint64_t low, std::uint64_t high) {
  std::uint64_t doublings = 0;
  while ((low << (doublings + 1)) <= high) ++doublings;
  const std::uint64_t base = low << random.below(doublings + 1);
  return base + random.below(base);
}

void draw_cluster(Random& random, Setting& setting) {
  setting.nodes = static_cast<std::uint8_t>(random.between(2, kNodesMax));
  if (random.chance(kAlways / 4)) setting.nodes = static_cast<std::uint8_t>(random.between(2, 4));
  setting.pages = static_cast<std::uint32_t>(random.between(1, 4));
  if (random.chance(kAlways / 4)) setting.pages = static_cast<std::uint32_t>(random.between(5, 16));
  if (random.chance(kAlways / 32)) setting.pages = static_cast<std::uint32_t>(random.between(17, kPagesMax));
  setting.rounds = static_cast<std::uint32_t>(random.between(2, random.coin() ? 4 : 16));
  setting.threads = static_cast<std::uint32_t>(random.between(1, kThreadsMax));
  setting.placement = random.one_of(std::array{Placement::kCyclic, Placement::kBlock, Placement::kFirstTouch,
                                               Placement::kFirstTouch, Placement::kOneNode});
  setting.placement_node.value = static_cast<std::uint8_t>(random.below(setting.nodes));
  setting.hold_ns = random.one_of(std::array<std::uint64_t, 5>{0, 5'000, 30'000, 150'000, 1'000'000});
  setting.grace_ns = random.one_of(std::array<std::uint64_t, 5>{0, 0, 5'000, 30'000, 100'000});
  setting.retry_ns = log_uniform(random, 10'000, 640'000);
  setting.retry_ns_max = setting.retry_ns << random.below(6);
}

void draw_workload(Random& random, Setting& setting) {
  setting.mix = static_cast<Mix>(random.below(kMixes));
  setting.store_share = setting.mix == Mix::kReadMostly
                            ? kAlways / 32
                            : random.one_of(std::array{kAlways / 8, kAlways / 3, kAlways / 2, kAlways});
  if (random.coin()) setting.prefetch_share = kAlways / 16;
  setting.think_ns = log_uniform(random, 500, 64'000);
  setting.wake_ns = log_uniform(random, 100, 12'800);
  setting.ring_ns = log_uniform(random, 100, 6'400);
}

// Each kind of fault is on in some seeds only, so that none hides what another would show.
void draw_weather(Random& random, Setting& setting) {
  constexpr std::uint32_t kOften = kAlways / 2;
  setting.delay_ns = log_uniform(random, 500, 16'000);
  setting.jitter_ns = random.coin() ? log_uniform(random, 100, 12'800) : 0;
  setting.in_order = random.coin();
  if (random.chance(kOften)) setting.loss = static_cast<std::uint32_t>(log_uniform(random, 300, 20'000));
  if (random.chance(kOften)) setting.doubling = static_cast<std::uint32_t>(log_uniform(random, 600, 20'000));
  if (random.chance(kOften))
    setting.reordering = static_cast<std::uint32_t>(log_uniform(random, 600, 16'000));
  if (random.chance(kOften)) setting.lateness = static_cast<std::uint32_t>(log_uniform(random, 600, 16'000));
  if (random.chance(kOften / 2)) setting.flooding = random.coin() ? kAlways : kAlways / 8;
  if (random.chance(kOften / 2))
    setting.garbage = static_cast<std::uint32_t>(log_uniform(random, 300, 4'000));
  setting.late_ns = log_uniform(random, 50'000, 3'200'000);
  setting.calamity_ns = log_uniform(random, 20'000, 2'560'000);
  for (const Calamity calamity :
       {Calamity::kClog, Calamity::kCutOneWay, Calamity::kCutTwoWay, Calamity::kPause}) {
    if (random.chance(kAlways / 3))
      setting.gap_ns[static_cast<std::size_t>(calamity)] = log_uniform(random, 30'000, 1'920'000);
  }
  for (const Calamity calamity : {Calamity::kRestartOne, Calamity::kRestartBoot, Calamity::kRestartView}) {
    if (random.chance(kAlways / 8))
      setting.gap_ns[static_cast<std::size_t>(calamity)] = log_uniform(random, 100'000, 1'600'000);
  }
  if (setting.gap(Calamity::kRestartOne) != 0)
    setting.gap_ns[static_cast<std::size_t>(Calamity::kStrangerSpeaks)] = 30'000;
}

}  // namespace

const char* calamity_name(Calamity calamity) {
  static constexpr std::array<const char*, kCalamities> kNames = {"clog",
                                                                  "cut one way",
                                                                  "cut two ways",
                                                                  "pause",
                                                                  "restart of a node",
                                                                  "restart in new lives",
                                                                  "restart in next view",
                                                                  "a stranger speaks"};
  return kNames[static_cast<std::size_t>(calamity)];
}

Setting draw_setting(Random& random) {
  Setting setting;
  draw_cluster(random, setting);
  draw_workload(random, setting);
  draw_weather(random, setting);
  if (setting.gap(Calamity::kRestartOne) != 0) {
    // What waits for the dead node keeps its round for ever: the pool must have room for all of that.
    setting.pages = std::min(setting.pages, 12U);
    setting.rounds = setting.pages * 2 + 2;
  }
  setting.sees_turns = !random.chance(kAlways / 4);
  setting.turn_ns = log_uniform(random, 100, 6'400);
  if (random.coin()) setting.false_turns = kAlways / 16;
  if (random.chance(kAlways / 8)) make_calm(setting);
  return setting;
}

void make_calm(Setting& setting) {
  setting.calm = true;
  setting.rounds = setting.pages * 2 + 2;
  setting.hold_ns = 1'000'000;
  setting.sees_turns = true;
  setting.false_turns = 0;
  setting.grace_ns = 100'000;
  setting.retry_ns = 20'000'000;  // longer than queueing takes: who repeats was forgotten
  setting.retry_ns_max = 100'000'000;
  setting.jitter_ns = 0;
  setting.in_order = true;
  setting.loss = setting.doubling = setting.reordering = 0;
  setting.lateness = setting.flooding = setting.garbage = 0;
  setting.gap_ns = {};
}

std::string describe(const Setting& s) {
  const auto percent = [](std::uint32_t share) { return 100.0 * share / kAlways; };
  std::string text = fmt::format(
      "cluster   {} nodes, {} pages ({}), {} rounds and {} threads a node\n"
      "          hold {} us{}, grace {} us, retry {} to {} us\n"
      "workload  {}, {:.0f} % stores, {:.0f} % ahead of need, thinks up to {:.1f} us\n"
      "weather   delay {:.1f} us, jitter {:.1f} us, {}; worst link loses {:.1f} % and doubles {:.1f} %\n"
      "          overtaking {:.1f} %, late copies {:.1f} % by up to {} us, flooding {:.1f} %, garbage {:.1f} "
      "%\n",
      s.nodes, s.pages, kPlacementNames[static_cast<std::size_t>(s.placement)], s.rounds, s.threads,
      s.hold_ns / 1000, s.sees_turns ? " or a turn" : "", s.grace_ns / 1000, s.retry_ns / 1000,
      s.retry_ns_max / 1000, kMixNames[static_cast<std::size_t>(s.mix)], percent(s.store_share),
      percent(s.prefetch_share), static_cast<double>(s.think_ns) / 1e3, static_cast<double>(s.delay_ns) / 1e3,
      static_cast<double>(s.jitter_ns) / 1e3, s.in_order ? "in order" : "in any order", percent(s.loss),
      percent(s.doubling), percent(s.reordering), percent(s.lateness), s.late_ns / 1000, percent(s.flooding),
      percent(s.garbage));
  std::string calamities;
  for (std::size_t i = 0; i < kCalamities; ++i) {
    if (s.gap_ns[i] == 0) continue;
    calamities += fmt::format("{}{} every {} us", calamities.empty() ? "" : ", ",
                              calamity_name(static_cast<Calamity>(i)), s.gap_ns[i] / 1000);
  }
  if (calamities.empty()) return text;
  return text + fmt::format("          {}; up to {} us\n", calamities, s.calamity_ns / 1000);
}

}  // namespace pagewire::sim
