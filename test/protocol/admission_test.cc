// Whose frames are let in at all, each refusal alone; and that the shipped build keeps every rule.
#include "protocol/admission.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "protocol/rules.h"
#include "protocol/wire.h"

namespace pagewire::protocol {
namespace {

// Nothing is left of the switches: what this build asks is decided when it is compiled.
static_assert([] {
  for (std::size_t i = 0; i < kRules; ++i) {
    if (!keeps(static_cast<Rule>(i))) return false;
  }
  return true;
}());

constexpr std::uint64_t kBoot = 7;
constexpr Listener kHere{.self = NodeId{1}, .node_count = 3, .cluster = 5, .view = 2, .joined = true};

Header good() {
  Header header;
  header.type = static_cast<std::uint8_t>(MessageType::kCopyRequest);
  header.cluster = kHere.cluster;
  header.view = kHere.view;
  header.sender = NodeId{2};
  header.to = NodeSet::of(kHere.self).with(NodeId{0});
  header.boot_id = kBoot;
  return header;
}

TEST(Admission, LetsInWhatIsForUs) { EXPECT_EQ(admit(kHere, good(), kBoot), Drop::kNone); }

TEST(Admission, RefusesEachForItsReason) {
  const auto refused = [](auto&& spoil) {
    Header header = good();
    spoil(header);
    return admit(kHere, header, kBoot);
  };
  EXPECT_EQ(refused([](Header& header) { header.cluster = 6; }), Drop::kForeignCluster);
  EXPECT_EQ(refused([](Header& header) { header.view = 1; }), Drop::kWrongView);
  EXPECT_EQ(refused([](Header& header) { header.sender = kHere.self; }), Drop::kOwnEcho);
  EXPECT_EQ(refused([](Header& header) { header.sender = NodeId{3}; }), Drop::kUnknownSender);
  EXPECT_EQ(refused([](Header& header) { header.sender = kNoNode; }), Drop::kUnknownSender);
  EXPECT_EQ(refused([](Header& header) { header.to = NodeSet::of(NodeId{0}); }), Drop::kNotForUs);
  EXPECT_EQ(refused([](Header& header) { header.boot_id = kBoot - 1; }), Drop::kOldBootId);
  EXPECT_EQ(refused([](Header& header) { header.boot_id = kBoot + 1; }), Drop::kOldBootId);
}

// Only a beat brings a newer life, and only until all have met.
TEST(Admission, NewerLife) {
  Listener here = kHere;
  Header beat = good();
  beat.type = kTypeBeat;
  Header request = good();

  EXPECT_EQ(admit(here, beat, 0), Drop::kNone) << "the first that is heard of it";
  EXPECT_EQ(admit(here, request, 0), Drop::kOldBootId) << "nothing else before a beat";
  EXPECT_EQ(admit(here, beat, kBoot - 1), Drop::kOldBootId) << "joined: it cannot come back";
  here.joined = false;
  EXPECT_EQ(admit(here, beat, kBoot - 1), Drop::kNone);
  EXPECT_EQ(admit(here, request, kBoot - 1), Drop::kOldBootId);
  EXPECT_EQ(admit(here, beat, kBoot + 1), Drop::kOldBootId) << "an older life is over";
}

TEST(Drops, drop_name__each_reason_has_one_of_its_own) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < static_cast<std::size_t>(Drop::kCount); ++i) {
    const std::string name(drop_name(static_cast<Drop>(i)));
    EXPECT_FALSE(name.empty()) << i;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(drop_name(Drop::kNone), "none");
  EXPECT_EQ(drop_name(Drop::kOldBootId), "old_boot_id");
  EXPECT_EQ(drop_name(Drop::kNoBuffer), "no_buffer");
}

}  // namespace
}  // namespace pagewire::protocol
