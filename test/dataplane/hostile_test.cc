// A real engine and, on the other port, frames written by hand: whatever fails a check is counted by its
// reason, dropped, and changes nothing; and nothing that comes off the wire, forged by a member or not,
// brings the process down.
#include <gtest/gtest.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "protocol/wire.h"
#include "test/dataplane/hand_made_node.h"
#include "test/dataplane/random_frames.h"
#include "test/dataplane/ring_cluster.h"

namespace pagewire::dataplane {
namespace {

using protocol::Access;
using protocol::Beat;
using protocol::Drop;
using protocol::Header;
using protocol::kHeaderBytes;
using protocol::kPageBytes;
using protocol::Message;
using protocol::MessageType;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::PageEntry;
using protocol::Permission;
using protocol::RegionDeclaration;
using protocol::Version;
using test::Bytes;
using test::eventually;
using test::HandMadeNode;
using test::RandomFrames;

constexpr std::size_t kPages = 40;
constexpr std::size_t kDrops = static_cast<std::size_t>(Drop::kCount);

struct Snapshot {
  std::vector<PageEntry> entries;
  Bytes memory;
  bool operator==(const Snapshot&) const = default;
};

class Hostile : public ::testing::Test {
 protected:
  void start(std::uint32_t loops = 1, std::size_t round_count = 512) {
    const test::ClusterOptions options{.nodes = 2, .loops = loops, .round_count = round_count};
    auto ports = make_ring_mesh(test::ring_eal(), 2, static_cast<std::uint16_t>(loops));
    for (const auto& port : ports) {
      for (std::uint16_t queue = 0; queue < loops; ++queue) pools_.push_back(port->pool(queue));
    }
    EngineOptions engine = test::engine_options(options, 0);
    engine.retry_ns = 50'000'000;  // node 1 does not answer every request; seldom asked again is enough
    engine.retry_ns_max = 1'000'000'000;
    peer_.emplace(std::move(ports[1]), engine);
    engine_ = std::make_unique<Engine>(engine, std::move(ports[0]));
  }

  void join() {
    ASSERT_TRUE(step_until([&] { return peer_->control().joined() && joined(); }));
    engine_->set_joined();
  }
  bool joined() {
    return engine_->control().with([](protocol::Control& state) { return state.joined(); });
  }

  // The region on both sides; then pages of every kind at node 0: its own written ones, others', a read copy
  // of page 1.
  void serve() {
    using State = protocol::Control::RegionState;
    RegionDeclaration wanted;
    wanted.set_name("grid");
    wanted.bytes = kPages * kPageBytes;
    const std::size_t theirs = peer_->control().declare(wanted);
    const std::size_t slot =
        engine_->control().change([&](protocol::Control& state) { return state.declare(wanted); });
    const auto reached = [&](State least) {
      return peer_->control().region_state(theirs) >= least &&
             engine_->control().with(
                 [&](protocol::Control& state) { return state.region_state(slot) >= least; });
    };
    ASSERT_TRUE(step_until([&] { return reached(State::kAgreed); }));
    region_ = &engine_->serve(
        engine_->control().with([&](protocol::Control& state) { return state.region(slot); }));
    engine_->control().change([&](protocol::Control& state) { return state.set_active(slot), true; });
    peer_->control().set_active(theirs);
    ASSERT_TRUE(step_until([&] { return reached(State::kAllActive); }));
    peer_->set_region(region_->id);
    for (std::size_t page = 0; page < kPages; page += 2) test::word_of(*region_, page).store(page + 1);
    read_page_1();
    peer_->be_silent();
    ASSERT_TRUE(step_until([&] { return mbufs_in_use() == 0; }));
  }

  // Asks for the copy as a load would, and answers by hand.
  void read_page_1() {
    peer_->received.clear();
    engine_->prefetch(*region_, 1, 1, Access::kRead);
    ASSERT_TRUE(step_until([&] { return !peer_->received.empty(); }));
    const Message request = peer_->received.front().message;
    ASSERT_EQ(request.type, MessageType::kCopyRequest);
    ASSERT_EQ(peer_->received.front().header.page.index, 1U);
    Message reply = valid_message(MessageType::kCopyReply);
    reply.transaction = request.transaction;
    reply.version = Version{2};
    reply.data_version = Version{2};
    const Bytes page(kPageBytes, std::byte{0x77});
    peer_->send(peer_->frame(peer_->page_header(reply.type, 1), reply, page));
    ASSERT_TRUE(eventually([&] { return region_->pages[1].summary().permission == Permission::kRead; }));
    ASSERT_EQ(test::word_of(*region_, 1).load(), 0x7777777777777777U);
    peer_->received.clear();
  }

  static Message valid_message(MessageType type) {
    Message message;
    message.type = type;
    message.from = NodeId{1};
    message.has_bytes = type == MessageType::kCopyReply || type == MessageType::kOwnershipTransfer;
    message.transaction = {.value = 9};
    message.version = Version{9};
    message.data_version = Version{9};
    message.epoch = {.value = 9};
    return message;
  }

  template <typename F>
  bool step_until(F&& holds) {
    return eventually([&] {
      peer_->step();
      return holds();
    });
  }

  // Only while the loop has nothing to do with pages.
  Snapshot snapshot() const {
    Snapshot now;
    for (std::size_t page = 0; page < kPages; ++page) now.entries.push_back(region_->pages[page].entry());
    now.memory.assign(region_->memory.service_view(), region_->memory.service_view() + kPages * kPageBytes);
    return now;
  }
  std::array<std::uint64_t, kDrops> drops() const {
    std::array<std::uint64_t, kDrops> sum{};
    for (const auto& loop : engine_->loops()) {
      for (std::size_t i = 0; i < kDrops; ++i) sum[i] += loop->counters().dropped[i].get();
    }
    return sum;
  }
  std::uint64_t drop_count() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : drops()) sum += count;
    return sum;
  }
  std::uint64_t frames_seen() const {
    std::uint64_t sum = 0;
    for (std::uint16_t queue = 0; queue < engine_->port().queue_count(); ++queue) {
      const PortCounters counters = engine_->port().counters(queue);
      sum += counters.received_frame_count + counters.foreign_frame_count;
    }
    return sum;
  }
  std::size_t mbufs_in_use() const {
    std::size_t count = 0;
    for (const rte_mempool* pool : pools_) count += rte_mempool_in_use_count(pool);
    return count;
  }

  // The frame is dropped, counted once and under this reason, nothing changes and nobody is answered.
  void expect_dropped(const std::string& what, Drop reason, std::span<const std::byte> payload,
                      std::uint16_t queue = 0) {
    SCOPED_TRACE(what);
    const Snapshot before = snapshot();
    auto expected = drops();
    ++expected[static_cast<std::size_t>(reason)];
    const std::uint64_t count = drop_count();
    peer_->received.clear();
    peer_->send(payload, queue);
    ASSERT_TRUE(step_until([&] { return drop_count() > count; })) << "was not dropped";
    EXPECT_EQ(drops(), expected);
    EXPECT_TRUE(snapshot() == before) << "something has changed";
    EXPECT_TRUE(step_until([&] { return mbufs_in_use() == 0; }));
    EXPECT_TRUE(peer_->received.empty()) << "it was answered";
  }

  // Sends as fast as the ring takes them, and takes the answers.
  template <typename Make>
  void flood(std::size_t frame_count, Make&& make) {
    constexpr std::size_t kBurst = 200;
    Bytes payload;
    for (std::size_t sent = 0; sent < frame_count;) {
      const std::uint64_t seen = frames_seen();
      const std::size_t burst = std::min(kBurst, frame_count - sent);
      std::array<bool, 2> used{};
      for (std::size_t i = 0; i < burst; ++i) {
        const std::uint16_t queue = make(payload);
        ASSERT_TRUE(peer_->try_send(payload, queue)) << "frames are not given back";
        used[queue] = true;
      }
      for (std::uint16_t queue = 0; queue < 2; ++queue) {
        if (used[queue]) peer_->port().flush(queue);
      }
      sent += burst;
      ASSERT_TRUE(step_until([&] { return frames_seen() >= seen + burst; }));
    }
  }

  std::unique_ptr<Engine> engine_;
  std::optional<HandMadeNode> peer_;
  std::vector<const rte_mempool*> pools_;
  RegionState* region_ = nullptr;
};

TEST_F(Hostile, good_frames__do_change_something) {  // or the others would prove nothing
  start();
  ASSERT_NO_FATAL_FAILURE(join());
  ASSERT_NO_FATAL_FAILURE(serve());
  const Snapshot before = snapshot();
  Message request = valid_message(MessageType::kWriteRequest);
  peer_->send(peer_->frame(peer_->page_header(request.type, 2), request));
  ASSERT_TRUE(step_until([&] { return !peer_->received.empty(); }));
  EXPECT_EQ(peer_->received.front().message.type, MessageType::kOwnershipTransfer);
  EXPECT_FALSE(snapshot() == before);
  EXPECT_EQ(drop_count(), 0U);
}

// With the region served, and what bad frames are made of: a write request for page 2, which would be handed
// over, and a reply with bytes.
class HostileFrames : public Hostile {
 protected:
  void SetUp() override {
    start();
    ASSERT_NO_FATAL_FAILURE(join());
    ASSERT_NO_FATAL_FAILURE(serve());
    good = header_with([](Header&) {});
  }
  template <typename Change>
  Bytes header_with(Change&& change) const {
    Header header = peer_->page_header(request.type, 2);
    change(header);
    return peer_->frame(header, request);
  }
  template <typename Change>
  Bytes body_with(Message message, Change&& change, std::span<const std::byte> fragment = {}) const {
    change(message);
    return peer_->frame(peer_->page_header(message.type, 2), message, fragment);
  }

  const Message request = valid_message(MessageType::kWriteRequest);
  const Message reply = valid_message(MessageType::kCopyReply);
  const Bytes page = Bytes(kPageBytes, std::byte{0xee});
  Bytes good;
};

TEST_F(HostileFrames, header__each_field) {
  expect_dropped("nothing at all", Drop::kTruncated, {});
  expect_dropped("garbage", Drop::kNotPagewire, Bytes(200, std::byte{0x5a}));
  expect_dropped("much garbage", Drop::kNotPagewire, Bytes(8'000, std::byte{0xa5}));
  for (std::size_t bytes = 1; bytes < good.size(); bytes += 7) {
    expect_dropped("truncated to " + std::to_string(bytes), Drop::kTruncated, std::span(good).first(bytes));
  }
  Bytes changed = good;
  changed[2] ^= std::byte{0xff};
  expect_dropped("another version of the wire", Drop::kWireVersion, changed);
  expect_dropped("another cluster", Drop::kForeignCluster, header_with([](Header& h) { h.cluster ^= 1; }));
  expect_dropped("a view before", Drop::kWrongView, header_with([](Header& h) { h.view -= 1; }));
  expect_dropped("a view to come", Drop::kWrongView, header_with([](Header& h) { h.view += 1; }));
  expect_dropped("our own", Drop::kOwnEcho, header_with([](Header& h) { h.sender = NodeId{0}; }));
  for (const std::uint8_t node : {std::uint8_t{2}, std::uint8_t{63}, std::uint8_t{64}, std::uint8_t{255}}) {
    expect_dropped("node " + std::to_string(node), Drop::kUnknownSender,
                   header_with([&](Header& h) { h.sender = NodeId{node}; }));
  }
  expect_dropped("for another", Drop::kNotForUs,
                 header_with([](Header& h) { h.to = NodeSet::of(NodeId{1}); }));
  expect_dropped("for nobody", Drop::kNotForUs, header_with([](Header& h) { h.to = NodeSet(); }));
  expect_dropped("an earlier life", Drop::kOldBootId, header_with([](Header& h) { h.boot_id -= 1; }));
  expect_dropped("a later life", Drop::kOldBootId, header_with([](Header& h) { h.boot_id += 1; }));
  for (const int type : {0, 10, 15, 19, 255}) {
    expect_dropped("type " + std::to_string(type), Drop::kUnknownType,
                   header_with([&](Header& h) { h.type = static_cast<std::uint8_t>(type); }));
  }
  expect_dropped("a region that is not", Drop::kUnknownRegion,
                 header_with([](Header& h) { h.page.region = 63; }));
  expect_dropped("a region that cannot be", Drop::kUnknownRegion,
                 header_with([](Header& h) { h.page.region = 64; }));
  expect_dropped("no region", Drop::kUnknownRegion,
                 header_with([](Header& h) { h.page.region = 0xffffffff; }));
  expect_dropped("the page after the last", Drop::kPageOutOfRange,
                 header_with([](Header& h) { h.page.index = kPages; }));
  expect_dropped("the highest page", Drop::kPageOutOfRange,
                 header_with([](Header& h) { h.page.index = ~0U; }));
}

TEST_F(HostileFrames, lengths__of_the_body_and_the_fragment) {
  Bytes changed = good;
  changed.resize(8'000);
  expect_dropped("oversized frame", Drop::kOversized, changed);
  changed[14] = std::byte{0x40}, changed[15] = std::byte{0x1f};  // body of 8,000 bytes
  expect_dropped("oversized body", Drop::kBadLength, changed);
  Bytes with_page = body_with(
      reply, [](Message&) {}, page);
  with_page.resize(8'000);
  with_page[kHeaderBytes - 2] = std::byte{0x40};  // fragment of 8,000 bytes
  with_page[kHeaderBytes - 1] = std::byte{0x1f};
  expect_dropped("oversized fragment", Drop::kBadLength, with_page);
  Bytes beyond = body_with(
      reply, [](Message&) {}, page);
  beyond[kHeaderBytes - 4] = std::byte{protocol::kFragmentUnitBytes};
  expect_dropped("a fragment beyond the page", Drop::kBadLength, beyond);
  beyond[kHeaderBytes - 4] = std::byte{1};
  expect_dropped("a fragment between units", Drop::kBadLength, beyond);
  changed = good;
  changed.push_back(std::byte{0});
  changed[14] = static_cast<std::byte>(std::to_integer<unsigned>(changed[14]) + 1);
  expect_dropped("a byte too many in the body", Drop::kBadLength, changed);
  expect_dropped("bytes with a request", Drop::kBadLength,
                 body_with(
                     request, [](Message&) {}, page));
  expect_dropped("a reply without its bytes", Drop::kBadLength, body_with(reply, [](Message&) {}));
}

TEST_F(HostileFrames, body__each_field) {
  const auto has_bytes = [](Message& m) { m.has_bytes = true; };
  expect_dropped("a request that says it has bytes", Drop::kBadField, body_with(request, has_bytes, page));
  expect_dropped("a hint at nobody", Drop::kBadField,
                 body_with(request, [](Message& m) { m.hint = NodeId{2}; }));
  const Message transfer = valid_message(MessageType::kOwnershipTransfer);
  expect_dropped("a copyset of strangers", Drop::kBadField,
                 body_with(
                     transfer, [](Message& m) { m.copyset = NodeSet(4); }, page));
  expect_dropped("a version that cannot be", Drop::kBadField,
                 body_with(
                     transfer, [](Message& m) { m.version.value = ~std::uint64_t{0}; }, page));
  expect_dropped("an epoch that cannot be", Drop::kBadField,
                 body_with(
                     transfer, [](Message& m) { m.epoch.value = std::uint64_t{1} << 56; }, page));

  Header later = peer_->page_header(reply.type, 2);
  later.fragment_offset = 2'048;
  expect_dropped("a later fragment that nobody waits for", Drop::kNotExpected,
                 peer_->frame(later, reply, std::span(page).first(1'024)));
}

TEST_F(HostileFrames, control__beats_and_regions) {
  Header beat = peer_->header();
  beat.type = protocol::kTypeBeat;
  Bytes short_beat = peer_->frame(beat, Beat{});
  short_beat[14] = static_cast<std::byte>(std::to_integer<unsigned>(short_beat[14]) - 8);
  short_beat.resize(short_beat.size() - 8);
  expect_dropped("a beat too short", Drop::kBadLength, short_beat);
  beat.boot_id += 1;
  expect_dropped("a beat of a later life, after the join", Drop::kOldBootId, peer_->frame(beat, Beat{}));
  Header named = peer_->header();
  named.type = protocol::kTypeRegion;
  expect_dropped("a region without a name", Drop::kBadField, peer_->frame(named, RegionDeclaration{}));
}

TEST_F(Hostile, bad_frames__on_the_queue_of_the_other_loop) {
  start(2);
  ASSERT_NO_FATAL_FAILURE(join());
  ASSERT_NO_FATAL_FAILURE(serve());
  static_assert(loop_of(2, 2) == 0 && loop_of(20, 2) == 1);
  const Message bad = [] {
    Message message = valid_message(MessageType::kWriteRequest);
    message.hint = NodeId{7};
    return message;
  }();
  for (const std::uint32_t page : {2U, 20U}) {
    for (const std::uint16_t queue : {std::uint16_t{0}, std::uint16_t{1}}) {
      expect_dropped("page " + std::to_string(page) + " on queue " + std::to_string(queue), Drop::kBadField,
                     peer_->frame(peer_->page_header(bad.type, page), bad), queue);
    }
  }
  Header named = peer_->header();
  named.type = protocol::kTypeRegion;
  expect_dropped("control on queue 1", Drop::kBadField, peer_->frame(named, RegionDeclaration{}), 1);
}

// Past the port's own check, which turns away what it would not carry: several segments, another EtherType.
TEST_F(Hostile, foreign_and_chained_frames__end_at_the_port) {
  start();
  ASSERT_NO_FATAL_FAILURE(join());
  ASSERT_NO_FATAL_FAILURE(serve());
  std::uint16_t newest = 0;  // node 1's device: the last that was made
  for (std::uint16_t device = 0; device < RTE_MAX_ETHPORTS; ++device) {
    if (rte_eth_dev_is_valid_port(device) != 0) newest = device;
  }
  const Snapshot before = snapshot();
  const std::uint64_t foreign = engine_->port().counters(0).foreign_frame_count;
  const Message request = valid_message(MessageType::kWriteRequest);
  const Bytes good = peer_->frame(peer_->page_header(request.type, 2), request);
  const auto make = [&](std::uint16_t type) {
    rte_mbuf* const frame = rte_pktmbuf_alloc(peer_->port().pool(0));
    char* const data = rte_pktmbuf_append(frame, static_cast<std::uint16_t>(kEthernetBytes + good.size()));
    std::memset(data, 0, kEthernetBytes);
    data[12] = static_cast<char>(type >> 8);
    data[13] = static_cast<char>(type & 0xff);
    std::memcpy(data + kEthernetBytes, good.data(), good.size());
    return frame;
  };
  rte_mbuf* const chained = make(kEtherType);
  rte_mbuf* const more = rte_pktmbuf_alloc(peer_->port().pool(0));
  rte_pktmbuf_append(more, 4'000);
  ASSERT_EQ(rte_pktmbuf_chain(chained, more), 0);
  std::array<rte_mbuf*, 3> frames{chained, make(0x0800), make(0)};
  ASSERT_EQ(rte_eth_tx_burst(newest, 0, frames.data(), 3), 3U);
  ASSERT_TRUE(step_until([&] { return engine_->port().counters(0).foreign_frame_count == foreign + 3; }));
  EXPECT_TRUE(step_until([&] { return mbufs_in_use() == 0; }));
  EXPECT_TRUE(snapshot() == before);
  EXPECT_EQ(drop_count(), 0U);
}

TEST_F(Hostile, join__a_node_may_come_back_with_a_later_life_until_all_are_there) {
  start();
  Header header = peer_->header();
  header.type = protocol::kTypeBeat;
  Beat beat;
  beat.sequence = 1;
  beat.region_base = test::kRegionBase;
  beat.loop_count = 1;
  beat.node_count = 2;
  const auto send_life = [&](std::uint64_t boot_id) {
    header.boot_id = boot_id;
    peer_->send(peer_->frame(header, beat));
  };
  const auto known = [&] { return engine_->membership().boot_ids[1].load(); };
  send_life(100);
  ASSERT_TRUE(eventually([&] { return known() == 100; }));
  send_life(200);
  ASSERT_TRUE(eventually([&] { return known() == 200; }));
  const std::uint64_t dropped = drop_count();
  send_life(100);
  ASSERT_TRUE(eventually([&] { return drop_count() == dropped + 1; }));
  EXPECT_EQ(known(), 200U);
  engine_->set_joined();
  send_life(300);
  ASSERT_TRUE(eventually([&] { return drop_count() == dropped + 2; }));
  EXPECT_EQ(known(), 200U);
  EXPECT_EQ(drops()[static_cast<std::size_t>(Drop::kOldBootId)], 2U);
}

TEST_F(Hostile, a_million_random_frames__change_nothing) {
  constexpr std::size_t kFrames = 1'000'000;
  start();
  ASSERT_NO_FATAL_FAILURE(join());
  ASSERT_NO_FATAL_FAILURE(serve());
  RandomFrames random(test::seed_of_this_run(), *peer_, *region_);
  const Snapshot before = snapshot();
  const auto membership_before = engine_->membership().boot_ids[1].load();
  flood(kFrames, [&](Bytes& payload) {
    random.bad(payload);
    return std::uint16_t{0};
  });
  ASSERT_TRUE(step_until([&] { return drop_count() >= kFrames; })) << drop_count();
  EXPECT_EQ(drop_count(), kFrames);
  EXPECT_TRUE(snapshot() == before);
  EXPECT_EQ(engine_->membership().boot_ids[1].load(), membership_before);
  EXPECT_TRUE(joined());
  EXPECT_TRUE(peer_->received.empty()) << "something was answered";
  const auto by_reason = drops();
  for (const Drop reason :
       {Drop::kTruncated, Drop::kNotPagewire, Drop::kWireVersion, Drop::kForeignCluster, Drop::kWrongView,
        Drop::kUnknownSender, Drop::kOwnEcho, Drop::kNotForUs, Drop::kOldBootId, Drop::kUnknownType,
        Drop::kBadLength, Drop::kUnknownRegion, Drop::kPageOutOfRange}) {
    EXPECT_GT(by_reason[static_cast<std::size_t>(reason)], 1'000U) << protocol::drop_name(reason);
  }
  EXPECT_TRUE(step_until([&] { return mbufs_in_use() == 0; })) << mbufs_in_use() << " mbufs are lost";
}

TEST_F(Hostile, random_frames_of_a_member__do_not_bring_it_down) {
  constexpr std::size_t kFrames = 400'000;
  start(2, 16);  // few rounds: there are always some too few
  ASSERT_NO_FATAL_FAILURE(join());
  ASSERT_NO_FATAL_FAILURE(serve());
  RandomFrames random(test::seed_of_this_run(), *peer_, *region_);
  std::size_t sent = 0;
  flood(kFrames, [&](Bytes& payload) {
    if (++sent % 500 == 0) {  // so that answers are awaited, too
      const auto access = random.one_in(2) ? Access::kRead : Access::kWrite;
      engine_->prefetch(*region_, 0, kPages, access);
    }
    random.forged(payload);
    return static_cast<std::uint16_t>(random.below(2));
  });
  EXPECT_LT(drop_count(), kFrames / 2) << "too few get through";
  // At rest but for what is repeated now and then.
  EXPECT_TRUE(step_until([&] { return mbufs_in_use() == 0; })) << mbufs_in_use() << " mbufs are lost";
  std::uint64_t messages = 0;
  for (const RegionCounters& counters : region_->counters) messages += counters.received_messages.get();
  EXPECT_GT(messages, kFrames / 2);
  engine_->stop();
}

}  // namespace
}  // namespace pagewire::dataplane
