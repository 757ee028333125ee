#include "test/sim/network.h"

#include <algorithm>
#include <cstdlib>

namespace pagewire::sim {
namespace {

using protocol::kHeaderBytes;

// Offsets in the header, as docs/protocol.md draws it.
constexpr std::size_t kMagicAt = 0;
constexpr std::size_t kVersionAt = 2;
constexpr std::size_t kTypeAt = 3;
constexpr std::size_t kClusterAt = 4;
constexpr std::size_t kSenderAt = 12;
constexpr std::size_t kBodyLengthAt = 14;
constexpr std::size_t kRegionAt = 40;
constexpr std::size_t kPageAt = 44;
constexpr std::size_t kFragmentLengthAt = 54;
constexpr std::size_t kFirstFieldTopAt = kHeaderBytes + 4 + 7;  // the top byte of a body's first number

void flip(Frame& frame, std::size_t at, unsigned bits) { frame.bytes[at] ^= static_cast<std::byte>(bits); }

// Frames carry no checksum of their own, so only such damage is done as the codec is bound to refuse.
void garble(Frame& frame, Random& random) {
  frame.garbled = true;
  switch (random.below(12)) {
    case 0:
      frame.length = static_cast<std::uint16_t>(random.below(frame.length));
      return;
    case 1:
      frame.length = static_cast<std::uint16_t>(frame.length + 5 + random.below(8));
      return;
    case 2:
      return flip(frame, kMagicAt + random.below(2), 1U << random.below(8));
    case 3:
      return flip(frame, kVersionAt, 1U << random.below(8));
    case 4:
      return flip(frame, kClusterAt + random.below(4), 1U << random.below(8));
    case 5:
      return flip(frame, kSenderAt, 0x80 >> random.below(4));
    case 6:
      frame.bytes[kTypeAt] = random.coin() ? std::byte{0} : static_cast<std::byte>(protocol::kMessageTypes);
      return;
    case 7:
      return flip(frame, kRegionAt + random.below(4), 1U << random.below(8));
    case 8:
      return flip(frame, kPageAt + 1 + random.below(3), 1U << random.below(8));
    case 9:
      frame.bytes[kBodyLengthAt + 1] = std::byte{1};
      return;
    case 10:
      return flip(frame, kFragmentLengthAt, 1U << random.below(3));
    default:
      frame.bytes[kFirstFieldTopAt] = std::byte{0xff};
  }
}

}  // namespace

void Network::start(const Setting& setting, Random& random) {
  setting_ = setting;
  calm_ = false;
  in_flight_ = 0;
  free_.clear();
  for (std::uint32_t i = kFramesMax; i-- > 0;) free_.push_back(i);
  for (Link& each : links_) {
    each = Link{};
    each.delay_ns = setting.delay_ns / 4 + random.below(setting.delay_ns * 3 / 4 + 1);
    each.loss = static_cast<std::uint32_t>(random.below(setting.loss + 1));
    each.doubling = static_cast<std::uint32_t>(random.below(setting.doubling + 1));
  }
}

void Network::calm() {
  calm_ = true;
  for (Link& each : links_) {
    each.clogged_until = 0;
    each.cut_until = 0;
  }
}

std::uint32_t Network::take() {
  if (free_.empty()) return kNoFrame;
  const std::uint32_t frame = free_.back();
  free_.pop_back();
  frames_[frame].arrivals = 1;  // the sender's own hold on it
  frames_[frame].garbled = false;
  return frame;
}

void Network::release(std::uint32_t frame) {
  if (frames_[frame].arrivals == 0) std::abort();
  if (--frames_[frame].arrivals == 0) free_.push_back(frame);
}

void Network::arrived(std::uint32_t frame) {
  --in_flight_;
  release(frame);
}

void Network::push(std::uint32_t frame, std::uint8_t to, std::uint64_t time, EventQueue& queue) {
  ++frames_[frame].arrivals;
  ++in_flight_;
  queue.push(time, Event::Kind::kDeliver, to, frame);
}

std::uint64_t Network::arrival(Link& at, std::uint64_t now, Random& random, Counters& counters) {
  std::uint64_t delay = at.delay_ns;
  if (setting_.jitter_ns != 0) {
    const std::uint64_t jitter = random.below(setting_.jitter_ns + 1);
    delay += random.chance(kAlways / 16) ? jitter << random.below(5) : jitter;
  }
  std::uint64_t time = std::max(now, at.clogged_until) + delay;
  if (now < at.clogged_until) counters.add(Counter::kFramesClogged);
  if (!calm_ && random.chance(setting_.reordering)) {
    counters.add(Counter::kFramesOvertaken);
    return time + random.below(4 * setting_.delay_ns_max() + 1);
  }
  if (setting_.in_order) {
    time = std::max(time, at.last_arrival);
    at.last_arrival = time;
  }
  return time;
}

std::uint32_t Network::garbled_copy(std::uint32_t frame, Random& random) {
  const std::uint32_t copy = take();
  if (copy == kNoFrame) return kNoFrame;
  const std::uint16_t hold = frames_[copy].arrivals;
  frames_[copy] = frames_[frame];
  frames_[copy].arrivals = hold;
  garble(frames_[copy], random);
  return copy;
}

Fate Network::send(std::uint32_t frame, std::uint8_t from, std::uint8_t to, std::uint64_t now, Random& random,
                   EventQueue& queue, Counters& counters) {
  Link& at = link(from, to);
  counters.add(Counter::kFramesSent);
  if (now < at.cut_until) {
    counters.add(Counter::kFramesCut);
    return Fate::kCut;
  }
  if (calm_) {
    push(frame, to, arrival(at, now, random, counters), queue);
    return Fate::kGoes;
  }
  if (random.chance(at.loss)) {
    counters.add(Counter::kFramesLost);
    return Fate::kLost;
  }
  if (random.chance(setting_.garbage)) {
    const std::uint32_t copy = garbled_copy(frame, random);
    if (copy == kNoFrame) return Fate::kNoRoom;
    counters.add(Counter::kFramesGarbled);
    push(copy, to, arrival(at, now, random, counters), queue);
    release(copy);
    return Fate::kGarbled;
  }
  push(frame, to, arrival(at, now, random, counters), queue);
  if (random.chance(at.doubling)) {
    counters.add(Counter::kFramesDoubled);
    push(frame, to, arrival(at, now, random, counters), queue);
  }
  if (random.chance(setting_.lateness)) {
    counters.add(Counter::kFramesLate);
    push(frame, to, now + random.below(setting_.late_ns), queue);
  }
  return Fate::kGoes;
}

}  // namespace pagewire::sim
