// The network between the nodes: frames as bytes, and for each link from one node to another what it does to
// them. Decides when a frame arrives, how often, and in which shape; the simulator takes it from there. One
// thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "protocol/message.h"
#include "protocol/wire.h"
#include "test/sim/counters.h"
#include "test/sim/event_queue.h"
#include "test/sim/random.h"
#include "test/sim/setting.h"

namespace pagewire::sim {

inline constexpr std::size_t kFrameBytesMax = 160;

// A frame on its way, perhaps to several nodes. What it was made from is kept beside it: who takes it must
// find the same in its bytes.
struct Frame {
  std::array<std::byte, kFrameBytesMax> bytes{};
  std::uint16_t length = 0;
  std::uint16_t arrivals = 0;  // still to come
  bool garbled = false;        // the codec must not let it through
  std::uint32_t page = 0;
  protocol::Message message{};
  std::uint64_t value = 0;  // of the page's bytes
  std::uint64_t step = 0;   // in which it was sent

  std::span<const std::byte> payload() const { return {bytes.data(), length}; }
};

enum class Fate : std::uint8_t { kGoes, kLost, kCut, kGarbled, kNoRoom };

class Network {
 public:
  static constexpr std::uint32_t kFramesMax = 8192;
  static constexpr std::uint32_t kNoFrame = ~std::uint32_t{0};

  Network() : frames_(kFramesMax) {}

  // A new run: each link's own weather is drawn.
  void start(const Setting& setting, Random& random);
  // From now on nothing is lost, doubled or held up; what is on its way still arrives.
  void calm();

  // An empty frame, or kNoFrame. Each frame taken is released once, after it was sent to all.
  std::uint32_t take();
  Frame& operator[](std::uint32_t frame) { return frames_[frame]; }
  void release(std::uint32_t frame);

  Fate send(std::uint32_t frame, std::uint8_t from, std::uint8_t to, std::uint64_t now, Random& random,
            EventQueue& queue, Counters& counters);
  // An arrival was handled.
  void arrived(std::uint32_t frame);
  std::uint64_t in_flight() const { return in_flight_; }

  void clog(std::uint8_t from, std::uint8_t to, std::uint64_t until) { link(from, to).clogged_until = until; }
  void cut(std::uint8_t from, std::uint8_t to, std::uint64_t until) { link(from, to).cut_until = until; }

 private:
  struct Link {
    std::uint64_t delay_ns = 0;
    std::uint32_t loss = 0;
    std::uint32_t doubling = 0;
    std::uint64_t clogged_until = 0;
    std::uint64_t cut_until = 0;
    std::uint64_t last_arrival = 0;
  };

  Link& link(std::uint8_t from, std::uint8_t to) { return links_[from * kNodesMax + to]; }
  std::uint64_t arrival(Link& at, std::uint64_t now, Random& random, Counters& counters);
  void push(std::uint32_t frame, std::uint8_t to, std::uint64_t time, EventQueue& queue);
  std::uint32_t garbled_copy(std::uint32_t frame, Random& random);

  Setting setting_;
  bool calm_ = false;
  std::array<Link, kNodesMax * kNodesMax> links_{};
  std::vector<Frame> frames_;
  std::vector<std::uint32_t> free_;
  std::uint64_t in_flight_ = 0;
};

}  // namespace pagewire::sim
