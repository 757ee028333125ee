// The simulator, and with it the protocol and the codec, under AddressSanitizer and
// UndefinedBehaviorSanitizer: this program's own copy of them is compiled with both. Seeds are others than
// those of test/sim. One thread.
#include "test/sim/simulator.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "protocol/core.h"
#include "protocol/wire.h"
#include "test/proof/row.h"

namespace pagewire::sim {
namespace {

constexpr std::uint64_t kFirstSeed = 1'000'000'001;
constexpr std::uint64_t kSteps = 1'000;

std::uint64_t seed_count() { return std::getenv("PAGEWIRE_TEST_LONG") != nullptr ? 60'000 : 3'000; }

TEST(Sanitized, simulator_over_many_seeds) {
  Simulator simulator;
  std::uint64_t steps = 0;
  for (std::uint64_t seed = kFirstSeed; seed < kFirstSeed + seed_count(); ++seed) {
    const Report& report = simulator.run(seed, kSteps);
    ASSERT_FALSE(report.violation) << report.violation->what << "; replay it: bazel run //test/sim -- --seed "
                                   << seed << " --steps " << kSteps;
    steps += report.steps;
  }
  EXPECT_GE(steps, seed_count() * kSteps);
  proof::row("sanitizers", "ASan, UBSan: simulator, protocol, codec",
             std::to_string(seed_count()) + " seeds, " + std::to_string(steps) + " steps");
}

// A run that is told goes other ways through the code.
TEST(Sanitized, stories) {
  Simulator simulator;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Story story({});
    simulator.run(seed, kSteps, &story);
    EXPECT_FALSE(story.plain().empty());
    EXPECT_FALSE(story.mermaid(2).empty());
  }
}

// ---- what must be reported, each in a child of this program, and each in the protocol's own code

// A frame that claims a byte more than there is.
void read_past_a_frame() {
  const auto frame = std::make_unique<std::byte[]>(protocol::kHeaderBytes - 1);
  protocol::parse(std::span(frame.get(), protocol::kHeaderBytes));
}

// A body for which there is too little room.
void write_past_a_body() {
  const auto room = std::make_unique<std::byte[]>(8);
  protocol::Message message;
  message.type = protocol::MessageType::kOwnershipTransfer;
  protocol::encode_body(message, std::span(room.get(), protocol::kBodyBytesMax));
}

// A flag that is neither true nor false.
void load_a_broken_flag() {
  protocol::Message message;
  message.type = protocol::MessageType::kCopyReply;
  const std::uint8_t neither = 0xab;
  std::memcpy(&message.has_bytes, &neither, sizeof(neither));
  std::array<std::byte, protocol::kBodyBytesMax> room;
  protocol::encode_body(message, room);
}

TEST(PlantedDeathTest, overflow_by_reading) {
  EXPECT_DEATH(read_past_a_frame(), "heap-buffer-overflow.*READ.*protocol/wire[.]cc");
}

TEST(PlantedDeathTest, overflow_by_writing) {
  EXPECT_DEATH(write_past_a_body(), "heap-buffer-overflow.*WRITE.*protocol/wire[.]cc");
}

TEST(PlantedDeathTest, undefined_behaviour) {
  EXPECT_DEATH(load_a_broken_flag(), "protocol/wire[.]cc.*runtime error: load of value 171");
}

}  // namespace
}  // namespace pagewire::sim
