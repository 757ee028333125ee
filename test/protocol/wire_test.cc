// The codec: what is written is read back, and whatever else comes in is turned away within bounds.
#include "protocol/wire.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace pagewire::protocol {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint32_t kNodes = 8;
constexpr std::size_t kEthernetBytes = 14;
constexpr std::uint64_t kSeed = 20'24'11'23;

// Where the header's fields are, as docs/protocol.md draws them.
constexpr std::size_t kVersionAt = 2;
constexpr std::size_t kBodyBytesAt = 14;
constexpr std::size_t kFragmentOffsetAt = kHeaderBytes - 4;
constexpr std::size_t kFragmentBytesAt = kHeaderBytes - 2;
constexpr std::size_t kUnit = kFragmentUnitBytes;

Header header_of(std::uint8_t type) {
  Header header;
  header.type = type;
  header.cluster = 0x01020304;
  header.view = 0x05060708;
  header.sender = NodeId{6};
  header.to = NodeSet(0x5152535455565758);
  header.boot_id = 0x1112131415161718;
  header.packet_number = 0x2122232425262728;
  header.page = PageId{0x31323334, 0x41424344};
  header.service_ns = 0x61626364;
  return header;
}

// Every field that travels with this type has a value of its own.
Message message_of(MessageType type) {
  Message message;
  message.type = type;
  message.from = NodeId{6};
  message.hint = NodeId{5};
  const auto with_versions = [&] {
    message.transaction = Transaction{0x00a1a2a3a4a5a6a7};
    message.version = Version{0x00b1b2b3b4b5b6b7};
    message.data_version = Version{0x00c1c2c3c4c5c6c7};
  };
  switch (type) {
    case MessageType::kCopyRequest:
    case MessageType::kWriteRequest:
      with_versions();
      message.direct = true;
      break;
    case MessageType::kCopyReply:
      with_versions();
      message.has_bytes = true;
      break;
    case MessageType::kOwnershipTransfer:
      with_versions();
      message.has_bytes = true;
      message.epoch = Epoch{0x00d1d2d3d4d5d6d7};
      message.copyset = NodeSet(0b1011'0101);
      for (std::uint8_t node = 0; node < 5; ++node)
        message.granted.add(NodeId{node}, Transaction{node + 77U});
      break;
    case MessageType::kTransferAck:
      message.epoch = Epoch{0x00d1d2d3d4d5d6d7};
      break;
    case MessageType::kInvalidate:
    case MessageType::kAck:
      message.version = Version{0x00b1b2b3b4b5b6b7};
      break;
    case MessageType::kNotOwner:
      message.transaction = Transaction{0x00a1a2a3a4a5a6a7};
      message.epoch = Epoch{0x00d1d2d3d4d5d6d7};
      break;
    case MessageType::kHeld:
      message.transaction = Transaction{0x00a1a2a3a4a5a6a7};
      message.version = Version{0x00b1b2b3b4b5b6b7};
      message.wait_ns = 0x00e1e2e3e4e5e6e7;
      break;
  }
  return message;
}

Beat beat_of_all_fields() {
  return Beat{.sequence = 0x0102030405060708,
              .echo = 0x1112131415161718,
              .barrier_count = 0x2122232425262728,
              .heard = NodeSet(0x3132333435363738),
              .region_base = 0x4142434445464748,
              .loop_count = 0x51525354,
              .node_count = 0x61626364,
              .wants_answer = true,
              .leaving = true};
}

RegionDeclaration declaration_of_all_fields() {
  RegionDeclaration declaration;
  declaration.set_name("a name of forty-eight characters, no more, no les");
  declaration.bytes = 0x0102030405060708;
  declaration.placement = Placement::kOneNode;
  declaration.placement_node = 7;
  declaration.attempt = 0x11121314;
  declaration.id = kRegionsMax - 1;
  declaration.offset = 0x2122232425262728;
  declaration.active = true;
  declaration.wants_answer = true;
  return declaration;
}

template <typename Body>
Bytes frame_of(Header header, const Body& body, std::span<const std::byte> fragment = {}) {
  std::array<std::byte, kBodyBytesMax> room{};
  const std::size_t body_bytes = encode_body(body, room);
  EXPECT_GT(body_bytes, 0U);
  header.fragment_bytes = static_cast<std::uint16_t>(fragment.size());
  Bytes frame(kHeaderBytes + body_bytes + fragment.size());
  EXPECT_EQ(encode_header(header, body_bytes, frame), kHeaderBytes);
  std::copy_n(room.begin(), body_bytes, frame.begin() + kHeaderBytes);
  std::ranges::copy(fragment, frame.begin() + static_cast<std::ptrdiff_t>(kHeaderBytes + body_bytes));
  return frame;
}

Bytes page_bytes() {
  Bytes page(kPageBytes);
  for (std::size_t i = 0; i < page.size(); ++i) page[i] = static_cast<std::byte>(i * 7 >> 3);
  return page;
}

Bytes frame_of_message(MessageType type) {
  const Message message = message_of(type);
  const Bytes page = page_bytes();
  const std::span<const std::byte> fragment(page.data(), message.has_bytes ? 128 : 0);
  return frame_of(header_of(static_cast<std::uint8_t>(type)), message, fragment);
}

std::vector<Bytes> one_frame_of_each() {
  std::vector<Bytes> frames;
  for (std::size_t type = 1; type < kMessageTypes; ++type) {
    frames.push_back(frame_of_message(static_cast<MessageType>(type)));
  }
  frames.push_back(frame_of(header_of(kTypeBeat), beat_of_all_fields()));
  frames.push_back(frame_of(header_of(kTypeRegion), declaration_of_all_fields()));
  return frames;
}

void put16(Bytes& frame, std::size_t at, std::size_t value) {
  frame[at] = static_cast<std::byte>(value & 0xff);
  frame[at + 1] = static_cast<std::byte>(value >> 8 & 0xff);
}

void expect_equal(const Header& read, const Header& written) {
  EXPECT_EQ(read.type, written.type);
  EXPECT_EQ(read.cluster, written.cluster);
  EXPECT_EQ(read.view, written.view);
  EXPECT_EQ(read.sender, written.sender);
  EXPECT_EQ(read.to, written.to);
  EXPECT_EQ(read.boot_id, written.boot_id);
  EXPECT_EQ(read.packet_number, written.packet_number);
  EXPECT_EQ(read.page, written.page);
  EXPECT_EQ(read.service_ns, written.service_ns);
}

// What a reader of the wire relies on without looking again. Empty if it holds.
std::string broken_promise(const Bytes& payload) {
  const Parsed parsed = parse(payload);
  if (parsed.drop != Drop::kNone) return "";
  const std::byte* const begin = payload.data();
  const std::byte* const end = begin + payload.size();
  if (parsed.body.data() < begin || parsed.body.data() + parsed.body.size() > end) return "body";
  if (parsed.fragment.data() < begin || parsed.fragment.data() + parsed.fragment.size() > end)
    return "fragment";
  if (parsed.body.size() > kBodyBytesMax) return "length of the body";
  const std::size_t page_end = std::size_t{parsed.header.fragment_offset} + parsed.fragment.size();
  if (page_end > kPageBytes || parsed.fragment.size() != parsed.header.fragment_bytes)
    return "end of the fragment";
  if (parsed.header.fragment_offset % kFragmentUnitBytes != 0 ||
      parsed.fragment.size() % kFragmentUnitBytes != 0) {
    return "unit of the fragment";
  }
  Message message;
  if (decode_body(parsed, kNodes, message) == Drop::kNone) {
    const auto type = static_cast<std::uint8_t>(message.type);
    if (type == 0 || type >= kMessageTypes) return "type";
    if (message.from.value >= kNodes) return "sender";
    if (message.hint != kNoNode && message.hint.value >= kNodes) return "hint";
    if (!message.copyset.without(NodeSet::first(kNodes)).empty()) return "copyset";
    if (message.has_bytes == parsed.fragment.empty()) return "bytes";
    if (message.has_bytes && message.type != MessageType::kCopyReply &&
        message.type != MessageType::kOwnershipTransfer) {
      return "bytes of a message that has none";
    }
  }
  Beat beat;
  if (decode_body(parsed, beat) == Drop::kNone && !parsed.fragment.empty()) return "beat with bytes";
  RegionDeclaration declaration;
  if (decode_body(parsed, declaration) == Drop::kNone) {
    if (declaration.name_view().empty() || declaration.name_view().size() > kRegionNameMax) return "name";
    if (declaration.id != kNoRegion && declaration.id >= kRegionsMax) return "region id";
    if (declaration.placement > Placement::kOneNode) return "placement";
  }
  return "";
}

TEST(Wire, message__every_type_with_every_field_comes_back) {
  for (std::size_t type = 1; type < kMessageTypes; ++type) {
    SCOPED_TRACE("type " + std::to_string(type));
    const Message written = message_of(static_cast<MessageType>(type));
    const Bytes frame = frame_of_message(written.type);
    const Parsed parsed = parse(frame);
    ASSERT_EQ(parsed.drop, Drop::kNone);
    expect_equal(parsed.header, header_of(static_cast<std::uint8_t>(type)));
    Message read;
    ASSERT_EQ(decode_body(parsed, kNodes, read), Drop::kNone);
    EXPECT_EQ(read, written);
    EXPECT_EQ(body_bytes(written), parsed.body.size());
    const Bytes page = page_bytes();
    EXPECT_TRUE(std::ranges::equal(parsed.fragment, std::span(page).first(written.has_bytes ? 128 : 0)));
  }
}

TEST(Wire, message__without_hint_and_flags_comes_back) {
  Message written = message_of(MessageType::kCopyReply);
  written.hint = kNoNode;
  written.has_bytes = false;
  const Bytes frame = frame_of(header_of(2), written);
  Message read;
  ASSERT_EQ(decode_body(parse(frame), kNodes, read), Drop::kNone);
  EXPECT_EQ(read, written);
}

TEST(Wire, beat__comes_back) {
  const Bytes frame = frame_of(header_of(kTypeBeat), beat_of_all_fields());
  const Parsed parsed = parse(frame);
  expect_equal(parsed.header, header_of(kTypeBeat));
  Beat read;
  ASSERT_EQ(decode_body(parsed, read), Drop::kNone);
  EXPECT_EQ(read, beat_of_all_fields());
}

TEST(Wire, beat__flags_are_told_apart) {
  for (const bool wants_answer : {false, true}) {
    for (const bool leaving : {false, true}) {
      Beat written;
      written.wants_answer = wants_answer;
      written.leaving = leaving;
      const Bytes frame = frame_of(header_of(kTypeBeat), written);
      Beat read;
      ASSERT_EQ(decode_body(parse(frame), read), Drop::kNone);
      EXPECT_EQ(read, written);
    }
  }
}

TEST(Wire, region__comes_back) {
  for (const bool flag : {false, true}) {
    RegionDeclaration written = declaration_of_all_fields();
    written.active = flag;
    written.wants_answer = !flag;
    const Bytes frame = frame_of(header_of(kTypeRegion), written);
    RegionDeclaration read;
    ASSERT_EQ(decode_body(parse(frame), read), Drop::kNone);
    EXPECT_EQ(read, written);
    EXPECT_EQ(read.name_view().size(), kRegionNameMax);  // the longest name has no zero at its end
  }
}

TEST(Wire, region__bad_fields) {
  const auto verdict = [](auto&& change) {
    RegionDeclaration declaration = declaration_of_all_fields();
    change(declaration);
    const Bytes frame = frame_of(header_of(kTypeRegion), declaration);
    RegionDeclaration read;
    return decode_body(parse(frame), read);
  };
  EXPECT_EQ(verdict([](auto&) {}), Drop::kNone);
  EXPECT_EQ(verdict([](auto& region) { region.id = kNoRegion; }), Drop::kNone);
  EXPECT_EQ(verdict([](auto& region) { region.id = kRegionsMax; }), Drop::kBadField);
  EXPECT_EQ(verdict([](auto& region) { region.set_name(""); }), Drop::kBadField);
  EXPECT_EQ(verdict([](auto& region) { region.placement = static_cast<Placement>(4); }), Drop::kBadField);
}

TEST(Wire, encode__too_little_room_writes_nothing) {
  std::array<std::byte, kBodyBytesMax> room{};
  for (std::size_t type = 1; type < kMessageTypes; ++type) {
    const Message message = message_of(static_cast<MessageType>(type));
    const std::size_t needed = body_bytes(message);
    for (std::size_t bytes = 0; bytes < needed; ++bytes) {
      EXPECT_EQ(encode_body(message, std::span(room).first(bytes)), 0U);
    }
    EXPECT_EQ(encode_body(message, std::span(room).first(needed)), needed);
  }
  for (std::size_t bytes = 0; bytes < kHeaderBytes; ++bytes) {
    EXPECT_EQ(encode_header(Header{}, 0, std::span(room).first(bytes)), 0U);
  }
}

TEST(Wire, parse__truncated_at_every_length) {
  for (const Bytes& frame : one_frame_of_each()) {
    for (std::size_t bytes = 0; bytes < frame.size(); ++bytes) {
      const Bytes cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(bytes));
      ASSERT_EQ(parse(cut).drop, Drop::kTruncated) << "type " << static_cast<int>(frame[3]) << ", " << bytes;
    }
    EXPECT_EQ(parse(frame).drop, Drop::kNone);
  }
}

TEST(Wire, parse__a_trailer_is_ignored__more_is_too_long) {
  for (const Bytes& frame : one_frame_of_each()) {
    Bytes longer = frame;
    longer.insert(longer.end(), kTrailerBytesMax, std::byte{0xa5});
    const Parsed plain = parse(frame);
    const Parsed with_trailer = parse(longer);
    ASSERT_EQ(with_trailer.drop, Drop::kNone);
    EXPECT_TRUE(std::ranges::equal(with_trailer.body, plain.body));
    EXPECT_TRUE(std::ranges::equal(with_trailer.fragment, plain.fragment));
    longer.push_back(std::byte{0xa5});
    EXPECT_EQ(parse(longer).drop, Drop::kOversized);
    longer.resize(8'000);
    EXPECT_EQ(parse(longer).drop, Drop::kOversized);
  }
}

TEST(Wire, parse__errors_of_each_header_field) {
  const Bytes good = frame_of_message(MessageType::kCopyReply);
  ASSERT_EQ(parse(good).drop, Drop::kNone);
  const auto verdict = [&](auto&& change) {
    Bytes frame = good;
    change(frame);
    return parse(frame).drop;
  };
  EXPECT_EQ(verdict([](Bytes& frame) { frame[0] ^= std::byte{1}; }), Drop::kNotPagewire);
  EXPECT_EQ(verdict([](Bytes& frame) { frame[1] ^= std::byte{0x80}; }), Drop::kNotPagewire);
  EXPECT_EQ(verdict([](Bytes& frame) { frame[kVersionAt] = std::byte{kWireVersion + 1}; }),
            Drop::kWireVersion);
  EXPECT_EQ(verdict([](Bytes& frame) { put16(frame, kBodyBytesAt, kBodyBytesMax + 1); }), Drop::kBadLength);
  EXPECT_EQ(verdict([](Bytes& frame) { put16(frame, kBodyBytesAt, 0xffff); }), Drop::kBadLength);
  EXPECT_EQ(verdict([](Bytes& frame) { put16(frame, kBodyBytesAt, kBodyBytesMax); }), Drop::kTruncated);
  EXPECT_EQ(verdict([](Bytes& frame) { put16(frame, kFragmentBytesAt, 256); }), Drop::kTruncated);
}

TEST(Wire, parse__fragment_bounds) {
  const Bytes page = page_bytes();
  const auto verdict = [&](std::size_t offset, std::size_t bytes) {
    Bytes frame = frame_of(header_of(2), message_of(MessageType::kCopyReply), page);
    put16(frame, kFragmentOffsetAt, offset);
    put16(frame, kFragmentBytesAt, bytes);
    if (bytes < kPageBytes) frame.resize(frame.size() - kPageBytes + bytes);
    return parse(frame).drop;
  };
  EXPECT_EQ(verdict(0, kPageBytes), Drop::kNone);
  EXPECT_EQ(verdict(kPageBytes - kUnit, kUnit), Drop::kNone);
  EXPECT_EQ(verdict(kPageBytes, 0), Drop::kNone);
  EXPECT_EQ(verdict(0, kPageBytes + kUnit), Drop::kBadLength);
  EXPECT_EQ(verdict(kUnit, kPageBytes), Drop::kBadLength);
  EXPECT_EQ(verdict(kPageBytes, kUnit), Drop::kBadLength);
  EXPECT_EQ(verdict(0x10000 - kUnit, 0x10000 - kUnit), Drop::kBadLength);  // does not wrap around
  EXPECT_EQ(verdict(kUnit / 2, kUnit), Drop::kBadLength);
  EXPECT_EQ(verdict(0, kUnit + 1), Drop::kBadLength);
}

TEST(Wire, decode__wrong_type_length_and_fields) {
  const auto verdict = [](Message message, auto&& change, std::size_t fragment_bytes) {
    const Bytes page = page_bytes();
    Bytes frame = frame_of(header_of(static_cast<std::uint8_t>(message.type)), message,
                           std::span(page).first(fragment_bytes));
    change(frame);
    Message read;
    return decode_body(parse(frame), kNodes, read);
  };
  const auto as_it_is = [](Bytes&) {};
  const Message request = message_of(MessageType::kWriteRequest);
  const Message transfer = message_of(MessageType::kOwnershipTransfer);
  for (const int type : {0, 10, 15, 16, 17, 255}) {
    const auto change = [&](Bytes& frame) { frame[3] = static_cast<std::byte>(type); };
    EXPECT_EQ(verdict(request, change, 0), Drop::kUnknownType) << type;
  }
  EXPECT_EQ(verdict(
                request, [](Bytes& frame) { put16(frame, kBodyBytesAt, 27); }, 0),
            Drop::kBadLength);
  const auto longer = [](Bytes& frame) {
    put16(frame, kBodyBytesAt, 29);
    frame.push_back(std::byte{0});
  };
  EXPECT_EQ(verdict(request, longer, 0), Drop::kBadLength);
  EXPECT_EQ(verdict(request, as_it_is, 64), Drop::kBadLength) << "bytes that the flags do not tell of";
  EXPECT_EQ(verdict(transfer, as_it_is, 0), Drop::kBadLength) << "no bytes, though the flags say so";

  const auto field = [&](Message message, auto&& change) {
    change(message);
    return verdict(message, as_it_is, message.has_bytes ? 64 : 0);
  };
  EXPECT_EQ(field(transfer, [](Message&) {}), Drop::kNone);
  EXPECT_EQ(field(request, [](Message& m) { m.has_bytes = true; }), Drop::kBadField);
  EXPECT_EQ(field(request, [](Message& m) { m.hint = NodeId{kNodes}; }), Drop::kBadField);
  EXPECT_EQ(field(transfer, [](Message& m) { m.copyset.add(NodeId{kNodes}); }), Drop::kBadField);
  EXPECT_EQ(field(transfer, [](Message& m) { m.copyset.add(NodeId{63}); }), Drop::kBadField);
  constexpr std::uint64_t kTooHigh = std::uint64_t{1} << 56;
  EXPECT_EQ(field(transfer, [](Message& m) { m.transaction.value = kTooHigh; }), Drop::kBadField);
  EXPECT_EQ(field(transfer, [](Message& m) { m.version.value = kTooHigh; }), Drop::kBadField);
  EXPECT_EQ(field(transfer, [](Message& m) { m.data_version.value = ~std::uint64_t{0}; }), Drop::kBadField);
  EXPECT_EQ(field(transfer, [](Message& m) { m.epoch.value = kTooHigh; }), Drop::kBadField);
}

TEST(Wire, decode__sender_is_a_node_of_the_cluster) {
  Header header = header_of(3);
  header.sender = NodeId{kNodes};
  const Bytes frame = frame_of(header, message_of(MessageType::kWriteRequest));
  Message read;
  EXPECT_EQ(decode_body(parse(frame), kNodes, read), Drop::kBadField);
}

TEST(Wire, decode__beat_and_region_of_wrong_length) {
  Bytes beat_frame = frame_of(header_of(kTypeBeat), beat_of_all_fields());
  put16(beat_frame, kBodyBytesAt, parse(beat_frame).body.size() - 1);
  Beat beat;
  EXPECT_EQ(decode_body(parse(beat_frame), beat), Drop::kBadLength);
  Bytes region_frame = frame_of(header_of(kTypeRegion), declaration_of_all_fields());
  put16(region_frame, kBodyBytesAt, parse(region_frame).body.size() - 1);
  RegionDeclaration declaration;
  EXPECT_EQ(decode_body(parse(region_frame), declaration), Drop::kBadLength);
  const Bytes with_bytes = frame_of(header_of(kTypeBeat), beat_of_all_fields(), page_bytes());
  EXPECT_EQ(decode_body(parse(with_bytes), beat), Drop::kBadLength);
}

TEST(Wire, fragments__three_frames_of_1514_bytes_carry_a_page_with_the_longest_body) {
  std::size_t longest = 0;
  for (std::size_t type = 1; type < kMessageTypes; ++type) {
    longest = std::max(longest, body_bytes(message_of(static_cast<MessageType>(type))));
  }
  const std::size_t room = 1514 - kEthernetBytes - kHeaderBytes - longest;
  EXPECT_GE(3 * (room / kFragmentUnitBytes * kFragmentUnitBytes), std::size_t{kPageBytes});
}

TEST(Wire, hostile__a_million_random_payloads) {
  std::mt19937_64 random(kSeed);
  RecordProperty("seed", std::to_string(kSeed));
  Bytes payload;
  std::size_t parsed_count = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    payload.resize(random() % 320);
    for (std::size_t at = 0; at < payload.size(); at += 8) {
      const std::uint64_t word = random();
      std::memcpy(&payload[at], &word, std::min<std::size_t>(8, payload.size() - at));
    }
    if (payload.size() > kHeaderBytes && i % 2 == 0) {  // pure noise does not get past the magic
      payload[0] = std::byte{0x50};
      payload[1] = std::byte{0x57};
      payload[kVersionAt] = std::byte{kWireVersion};
      payload[3] = static_cast<std::byte>(random() % 20);
      put16(payload, kFragmentOffsetAt, random() % (kPageBytes / kUnit + 20) * kUnit);
      const std::size_t body = random() % 100;
      const std::size_t fragment = random() % 4 * kUnit;
      put16(payload, kBodyBytesAt, body);
      put16(payload, kFragmentBytesAt, fragment);
      if (i % 4 == 0) payload.resize(kHeaderBytes + body + fragment);  // lengths that are true
    }
    parsed_count += parse(payload).drop == Drop::kNone ? 1 : 0;
    ASSERT_EQ(broken_promise(payload), "") << "seed " << kSeed << ", payload " << i;
  }
  EXPECT_GT(parsed_count, 100'000U) << "the bodies are not reached";
}

TEST(Wire, hostile__a_million_valid_frames_with_bits_flipped) {
  std::mt19937_64 random(kSeed);
  RecordProperty("seed", std::to_string(kSeed));
  const std::vector<Bytes> good = one_frame_of_each();
  std::size_t decoded_count = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    Bytes frame = good[random() % good.size()];
    const std::size_t flips = 1 + random() % 4;
    for (std::size_t flip = 0; flip < flips; ++flip) {
      const std::size_t bit = random() % (frame.size() * 8);
      frame[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    }
    Message message;
    decoded_count += decode_body(parse(frame), kNodes, message) == Drop::kNone ? 1 : 0;
    ASSERT_EQ(broken_promise(frame), "") << "seed " << kSeed << ", frame " << i;
  }
  EXPECT_GT(decoded_count, 100'000U) << "too few get as far as the fields";
}

}  // namespace
}  // namespace pagewire::protocol
