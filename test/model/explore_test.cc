// The exhaustive check of the real transition functions, and proof that it sees defects: each tamper is a bug
// that the code might have had, and each must be found.
#include "test/model/explore.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pagewire::model {
namespace {

using protocol::MessageType;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::Permission;
using protocol::Placement;
using protocol::Version;

void expect_sound(const Bounds& bounds) {
  const Report report = explore(bounds);
  testing::Test::RecordProperty("states", std::to_string(report.states));
  testing::Test::RecordProperty("edges", std::to_string(report.edges));
  EXPECT_TRUE(report.complete && report.violation.empty()) << report.summary();
  EXPECT_EQ(report.stuck, 0U);
  EXPECT_GT(report.states, 1000U) << "so few states that it shows nothing";
}

TEST(Explore, TwoNodesFourAccesses) { expect_sound({.nodes = 2, .faults = 4}); }

TEST(Explore, TwoNodesFourAccessesWithHold) {
  expect_sound({.nodes = 2, .faults = 4, .stores = 1, .hold = true});
}

TEST(Explore, TwoNodesFourAccessesThatAreForgotten) {
  expect_sound({.nodes = 2, .faults = 4, .stores = 1, .forgets = 1});
}

TEST(Explore, ThreeNodesTwoAccessesWithHoldThatAreForgotten) {
  expect_sound({.nodes = 3, .faults = 2, .forgets = 1, .hold = true});
}

TEST(Explore, ThreeNodesTwoAccessesFirstTouch) {
  expect_sound({.nodes = 3, .faults = 2, .forgets = 1, .hold = true, .placement = Placement::kFirstTouch});
}

TEST(Explore, ThreeNodesTwoAccessesWithHoldAndGrace) {
  expect_sound({.nodes = 3, .faults = 2, .forgets = 1, .grace = true, .hold = true});
}

TEST(Explore, ThreeNodesThreeAccessesWithGrace) {
  expect_sound({.nodes = 3, .faults = 3, .stores = 1, .grace = true, .placement = Placement::kFirstTouch});
}

TEST(Explore, ThreeNodesThreeAccesses) { expect_sound({.nodes = 3, .faults = 3, .stores = 1}); }

TEST(Explore, FourNodesTwoAccessesWithHold) { expect_sound({.nodes = 4, .faults = 2, .hold = true}); }

TEST(Explore, TwoPagesThatShareAPool) {
  expect_sound(
      {.nodes = 2, .pages = 2, .faults = 4, .stores = 1, .rounds = 2, .placement = Placement::kCyclic});
}

// What a defect is expected to break: the complaint starts with one of these.
void expect_caught(const Bounds& bounds, const Tamper& tamper,
                   std::initializer_list<const char*> complaints) {
  ASSERT_TRUE(explore(bounds).violation.empty()) << "the bounds are not sound without the defect";
  const Report report = explore(bounds, tamper);
  ASSERT_FALSE(report.violation.empty()) << "not caught in " << report.states << " states";
  const bool expected = std::any_of(complaints.begin(), complaints.end(),
                                    [&](const char* text) { return report.violation.rfind(text, 0) == 0; });
  EXPECT_TRUE(expected) << report.summary();
  EXPECT_NE(report.path.find("start\n"), std::string::npos);
}

constexpr Bounds kTwoNodes{.nodes = 2, .faults = 3};
constexpr Bounds kThreeNodes{.nodes = 3, .faults = 2};

bool delivers(const Action& action, MessageType type) {
  return action.kind == Action::Kind::kDeliver && action.envelope->message.type == type;
}

void drop_sent(Step& step, MessageType type) {
  std::erase_if(step.sent, [&](const Envelope& envelope) { return envelope.message.type == type; });
}

// R8: the copyset does not travel with ownership.
TEST(Tamper, CopysetLostInTransfer) {
  const Tamper tamper = [](const NodeCell&, const Action&, Step& step) {
    for (Envelope& envelope : step.sent) envelope.message.copyset = NodeSet{};
  };
  expect_caught(kThreeNodes, tamper, {"I1", "I2"});
}

// R4, R7: somebody promises in another node's name.
TEST(Tamper, ForgedAck) {
  const Tamper tamper = [](const NodeCell& before, const Action&, Step& step) {
    for (std::size_t i = 0; i < step.sent.size(); ++i) {
      const Envelope& asked = step.sent[i];
      if (asked.message.type != MessageType::kInvalidate) continue;
      Envelope forged{.to = before.self.value, .page = asked.page};
      forged.message.type = MessageType::kAck;
      forged.message.from = NodeId{asked.to};
      forged.message.version = asked.message.version;
      step.sent.push_back(forged);
    }
  };
  expect_caught(kTwoNodes, tamper, {"I1", "I2"});
}

// R3: the data leaves before the reader is in the copyset.
TEST(Tamper, ReaderNotInCopyset) {
  const Tamper tamper = [](const NodeCell& before, const Action& action, Step& step) {
    if (!delivers(action, MessageType::kCopyRequest)) return;
    step.after.pages[action.page].entry.copyset = before.pages[action.page].entry.copyset;
  };
  expect_caught(kTwoNodes, tamper, {"I1", "I2"});
}

// R5: the floor that was promised is forgotten.
TEST(Tamper, FloorForgotten) {
  const Tamper tamper = [](const NodeCell& before, const Action& action, Step& step) {
    if (!delivers(action, MessageType::kInvalidate)) return;
    step.after.pages[action.page].entry.floor = before.pages[action.page].entry.floor;
  };
  expect_caught(kTwoNodes, tamper, {"I1", "I2", "I6"});
}

// R7: the promise is sent, the mapping stays.
TEST(Tamper, ZapSkipped) {
  const Tamper tamper = [](const NodeCell& before, const Action& action, Step& step) {
    PageCell& page = step.after.pages[action.page];
    if (page.memory.mapping == Permission::kInvalid)
      page.memory.mapping = before.pages[action.page].memory.mapping;
  };
  expect_caught(kTwoNodes, tamper, {"I1", "I2", "EFFECTS: the mapping is not what the entry says"});
}

// R8: who handed over goes on as the owner.
TEST(Tamper, OwnerAfterHandOver) {
  const Tamper tamper = [](const NodeCell& before, const Action& action, Step& step) {
    step.after.pages[action.page].entry.owner |= before.pages[action.page].entry.owner;
  };
  expect_caught(kTwoNodes, tamper, {"I3", "I4"});
}

// R9: the epoch of an accepted transfer is lost, so that its double is accepted too.
TEST(Tamper, EpochLowered) {
  const Tamper tamper = [](const NodeCell& before, const Action& action, Step& step) {
    step.after.pages[action.page].entry.epoch = before.pages[action.page].entry.epoch;
  };
  expect_caught(kTwoNodes, tamper, {"I3", "I4"});
}

// Ownership vanishes: the target acknowledges and forgets.
TEST(Tamper, OwnershipDropped) {
  const Tamper tamper = [](const NodeCell&, const Action& action, Step& step) {
    if (delivers(action, MessageType::kOwnershipTransfer)) step.after.pages[action.page].entry.owner = false;
  };
  expect_caught(kTwoNodes, tamper, {"I4"});
}

// The bytes that came are not put where they belong.
TEST(Tamper, BytesNotInstalled) {
  const Tamper tamper = [](const NodeCell& before, const Action& action, Step& step) {
    if (action.kind != Action::Kind::kDeliver) return;
    step.after.pages[action.page].memory.value = before.pages[action.page].memory.value;
  };
  expect_caught(kTwoNodes, tamper, {"I2"});
}

// The bytes leave with a store missing: sent before access was stopped.
TEST(Tamper, BytesSentTooEarly) {
  const Tamper tamper = [](const NodeCell&, const Action&, Step& step) {
    for (Envelope& envelope : step.sent) {
      if (envelope.value > 0) envelope.value = static_cast<std::uint8_t>(envelope.value - 1);
    }
  };
  expect_caught(kTwoNodes, tamper, {"I2"});
}

// A new tenure keeps the tag of the old one: "you have these bytes" is said to nodes that do not.
TEST(Tamper, TagNotAdvanced) {
  const Tamper tamper = [](const NodeCell& before, const Action& action, Step& step) {
    PageCell& page = step.after.pages[action.page];
    if (page.memory.mapping == Permission::kWrite)
      page.entry.data_version = before.pages[action.page].entry.data_version;
  };
  expect_caught(kTwoNodes, tamper, {"I2"});
}

// A promise to a new tenure's reader that is counted for the next one too.
TEST(Tamper, PromiseOverstated) {
  const Tamper tamper = [](const NodeCell&, const Action&, Step& step) {
    for (Envelope& envelope : step.sent) {
      if (envelope.message.type == MessageType::kAck) envelope.message.version.value += 2;
    }
  };
  expect_caught({.nodes = 2, .faults = 4, .stores = 1}, tamper, {"I1", "I2", "I5"});
}

// I5: what must only grow.
TEST(Tamper, VersionFalls) {
  const Tamper tamper = [](const NodeCell&, const Action& action, Step& step) {
    if (delivers(action, MessageType::kInvalidate)) step.after.pages[action.page].entry.version = Version{};
  };
  expect_caught(kTwoNodes, tamper, {"I5: version fell"});
}

TEST(Tamper, FloorFalls) {
  const Tamper tamper = [](const NodeCell&, const Action& action, Step& step) {
    if (delivers(action, MessageType::kOwnershipTransfer))
      step.after.pages[action.page].entry.floor = Version{};
  };
  expect_caught(kTwoNodes, tamper, {"I5: floor fell"});
}

// I6: each of these must leave somebody waiting for ever.
TEST(Tamper, AcksLostForEver) {
  const Tamper tamper = [](const NodeCell&, const Action&, Step& step) {
    drop_sent(step, MessageType::kAck);
  };
  expect_caught(kTwoNodes, tamper, {"I6"});
}

TEST(Tamper, TransferAcksLostForEver) {
  const Tamper tamper = [](const NodeCell&, const Action&, Step& step) {
    drop_sent(step, MessageType::kTransferAck);
  };
  expect_caught(kTwoNodes, tamper, {"I6"});
}

TEST(Tamper, NothingIsRepeated) {
  const Tamper tamper = [](const NodeCell&, const Action& action, Step& step) {
    if (action.kind == Action::Kind::kTimeout) step.sent.clear();
  };
  expect_caught(kTwoNodes, tamper, {"I6"});
}

TEST(Tamper, WaitingThreadForgotten) {
  const Tamper tamper = [](const NodeCell&, const Action& action, Step& step) {
    PageCell& page = step.after.pages[action.page];
    if (action.kind == Action::Kind::kTimeout) page.round.wants_write = page.round.wants_read = false;
  };
  expect_caught(kTwoNodes, tamper, {"WAITERS"});
}

}  // namespace
}  // namespace pagewire::model
