// The exhaustive check of the real transition functions, and proof that it sees defects: each tamper is a bug
// that the code might have had, and each must be found.
#include "test/model/explore.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "test/model/presets.h"
#include "test/model/relabel.h"
#include "test/proof/row.h"

namespace pagewire::model {
namespace {

using protocol::MessageType;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::Permission;
using protocol::Version;

class Bounded : public testing::TestWithParam<Preset> {};

TEST_P(Bounded, IsSound) {
  const Report report = explore(GetParam().bounds);
  std::printf("%-12s %s\n", GetParam().name, report.summary().c_str());
  proof::row("checker", GetParam().what, report.figure());
  EXPECT_TRUE(report.complete && report.violation.empty()) << report.summary() << "\n" << report.path_text();
  EXPECT_EQ(report.stuck, 0U);
  EXPECT_EQ(report.deadlocks, 0U);
  EXPECT_GT(report.states, 1000U) << "so few states that it shows nothing";
}

std::vector<Preset> for_tests() {
  std::vector<Preset> chosen;
  for (const Preset& preset : presets()) {
    if (preset.in_test) chosen.push_back(preset);
  }
  return chosen;
}

INSTANTIATE_TEST_SUITE_P(Presets, Bounded, testing::ValuesIn(for_tests()), [](const auto& tested) {
  std::string name = tested.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// Folding loses nothing: the transition functions do the same whatever the nodes are called.
TEST(Fold, StepsDoNotDependOnNames) {
  for (const char* name : {"2x4", "3x2-grace", "3x2-touch", "2x2x4"}) {
    Bounds bounds = find_preset(name)->bounds;
    bounds.states_max = 50'000;
    Tamper compare = [&](const NodeCell& before, const Action& action, Step& step) {
      const Permutations permutations(bounds.nodes);
      for (std::size_t i = 1; i < permutations.size(); ++i) {
        const Names& names = permutations[i];
        Envelope envelope;
        Action renamed = action;
        if (action.envelope != nullptr) {
          envelope = relabel(bounds, *action.envelope, names);
          renamed.envelope = &envelope;
        }
        const Step other = take_step(bounds, relabel(bounds, before, names), renamed);
        ASSERT_EQ(encode(bounds, relabel(bounds, step.after, names)), encode(bounds, other.after));
        std::vector<std::string> sent;
        std::vector<std::string> other_sent;
        for (const Envelope& one : step.sent) sent.push_back(encode(relabel(bounds, one, names)));
        for (const Envelope& one : other.sent) other_sent.push_back(encode(one));
        std::sort(sent.begin(), sent.end());
        std::sort(other_sent.begin(), other_sent.end());
        ASSERT_EQ(sent, other_sent);
      }
    };
    EXPECT_GT(explore(bounds, {.tamper = compare}).states, 1000U);
    ASSERT_FALSE(HasFatalFailure()) << name;
  }
}

// With and without folding the same is found; folding saves states.
TEST(Fold, FindsTheSame) {
  Bounds bounds{.nodes = 3, .faults = 2};
  const Report folded = explore(bounds);
  bounds.fold = false;
  const Report whole = explore(bounds);
  EXPECT_TRUE(folded.complete && whole.complete);
  EXPECT_EQ(folded.depth, whole.depth);
  EXPECT_EQ(folded.stuck, whole.stuck);
  EXPECT_LT(folded.states, whole.states);
  EXPECT_GE(folded.states * 6, whole.states);
}

// What a defect is expected to break: the complaint starts with one of these.
void expect_caught(const Bounds& bounds, const Tamper& tamper,
                   std::initializer_list<const char*> complaints) {
  ASSERT_TRUE(explore(bounds).violation.empty()) << "the bounds are not sound without the defect";
  const Report report = explore(bounds, {.tamper = tamper});
  ASSERT_FALSE(report.violation.empty()) << "not caught in " << report.states << " states";
  const bool expected = std::any_of(complaints.begin(), complaints.end(),
                                    [&](const char* text) { return report.violation.rfind(text, 0) == 0; });
  EXPECT_TRUE(expected) << report.summary() << "\n" << report.path_text();
  ASSERT_FALSE(report.path.empty());
  EXPECT_EQ(report.path.front().text, "start");
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
  expect_caught(kTwoNodes, tamper, {"I1", "I2", "S2"});
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
  expect_caught(kTwoNodes, tamper, {"I2", "S4"});
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
  expect_caught(kTwoNodes, tamper, {"I6"});
}

}  // namespace
}  // namespace pagewire::model
