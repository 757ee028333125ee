// Several requests in one frame: what is written is read back, and what is not as it should be is dropped
// whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "protocol/wire.h"

namespace pagewire::protocol {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint32_t kNodes = 8;
constexpr std::size_t kCountAt = kHeaderBytes;
constexpr std::size_t kEntriesAt = kHeaderBytes + sizeof(std::uint64_t);

Request request_of(std::size_t i) {
  Request request;
  request.page = static_cast<std::uint32_t>(1'000 + 3 * i);
  request.message.type = i % 2 == 0 ? MessageType::kCopyRequest : MessageType::kWriteRequest;
  request.message.from = NodeId{6};
  request.message.direct = i % 3 == 0;
  request.message.transaction = Transaction{0x00a1a2a3a4a5a600 + i};
  request.message.version = Version{0x00b1b2b3b4b5b600 + i};
  request.message.data_version = Version{0x00c1c2c3c4c5c600 + i};
  return request;
}

Bytes frame_of(std::size_t count) {
  Bytes frame(kEntriesAt + count * kRequestBytes);
  Header header;
  header.type = kTypeRequests;
  header.sender = NodeId{6};
  header.page = PageId{3, request_of(0).page};
  header.fragment_bytes = static_cast<std::uint16_t>(count * kRequestBytes);
  encode_header(header, sizeof(std::uint64_t), frame);
  EXPECT_EQ(encode_requests_body(count, std::span(frame).subspan(kCountAt)), sizeof(std::uint64_t));
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_EQ(encode_request(request_of(i), std::span(frame).subspan(kEntriesAt + i * kRequestBytes)),
              kRequestBytes);
  }
  return frame;
}

Drop verdict(const Bytes& frame, std::uint32_t nodes = kNodes) {
  const Parsed parsed = parse(frame);
  if (parsed.drop != Drop::kNone) return parsed.drop;
  std::array<Request, kRequestsMax> requests;
  std::size_t count = 0;
  return decode_requests(parsed, nodes, requests, count);
}

TEST(Requests, every_count_comes_back) {
  for (std::size_t count = 1; count <= kRequestsMax; ++count) {
    const Bytes frame = frame_of(count);
    EXPECT_LE(frame.size() + 14, 1'514U) << "of an ordinary Ethernet";
    const Parsed parsed = parse(frame);
    ASSERT_EQ(parsed.drop, Drop::kNone);
    std::array<Request, kRequestsMax> requests;
    std::size_t read = 0;
    ASSERT_EQ(decode_requests(parsed, kNodes, requests, read), Drop::kNone);
    ASSERT_EQ(read, count);
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(requests[i].page, request_of(i).page);
      EXPECT_EQ(requests[i].message, request_of(i).message);
    }
    Message message;
    EXPECT_EQ(decode_body(parsed, kNodes, message), Drop::kUnknownType) << "it is no message";
  }
}

TEST(Requests, encode__too_little_room_writes_nothing) {
  Bytes room(kRequestBytes - 1);
  EXPECT_EQ(encode_request(request_of(0), room), 0U);
  EXPECT_EQ(encode_requests_body(1, std::span(room).first(7)), 0U);
}

TEST(Requests, what_is_wrong__drops_all_of_them) {
  struct Wrong {
    const char* what;
    std::function<void(Bytes&)> change;
    Drop drop;
  };
  const std::size_t last = kEntriesAt + 2 * kRequestBytes;
  const std::vector<Wrong> all = {
      {"none", [](Bytes& f) { f[kCountAt] = std::byte{0}; }, Drop::kBadLength},
      {"more than there are", [](Bytes& f) { f[kCountAt] = std::byte{4}; }, Drop::kBadLength},
      {"fewer than there are", [](Bytes& f) { f[kCountAt] = std::byte{2}; }, Drop::kBadLength},
      {"a count beyond all bounds", [](Bytes& f) { f[kCountAt + 7] = std::byte{0xff}; }, Drop::kBadLength},
      {"a type that asks for nothing",
       [=](Bytes& f) { f[last + 4] = static_cast<std::byte>(MessageType::kCopyReply); }, Drop::kBadField},
      {"no type", [=](Bytes& f) { f[last + 4] = std::byte{0}; }, Drop::kBadField},
      {"a version that nobody counts up to", [=](Bytes& f) { f[last + 23] = std::byte{1}; }, Drop::kBadField},
      {"another page first", [](Bytes& f) { f[kEntriesAt] ^= std::byte{1}; }, Drop::kBadField},
      {"an entry cut short", [](Bytes& f) { f.pop_back(); }, Drop::kTruncated},
      {"at an offset", [](Bytes& f) { f[kHeaderBytes - 4] = std::byte{kFragmentUnitBytes}; },
       Drop::kBadLength},
  };
  EXPECT_EQ(verdict(frame_of(3)), Drop::kNone);
  for (const Wrong& wrong : all) {
    Bytes frame = frame_of(3);
    wrong.change(frame);
    EXPECT_EQ(verdict(frame), wrong.drop) << wrong.what;
  }
  EXPECT_EQ(verdict(frame_of(3), 6), Drop::kBadField) << "the sender is no member";
}

TEST(Requests, more_than_fit__are_dropped) {
  Bytes frame = frame_of(kRequestsMax + 1);
  EXPECT_EQ(verdict(frame), Drop::kBadLength);
  frame = frame_of(3);
  const Parsed parsed = parse(frame);
  std::array<Request, 2> room;
  std::size_t count = 0;
  EXPECT_EQ(decode_requests(parsed, kNodes, room, count), Drop::kBadLength);
}

TEST(Requests, bits_flipped__are_read_within_bounds_or_not_at_all) {
  constexpr std::uint64_t kSeed = 20'26'11'24;
  std::mt19937_64 random(kSeed);
  const std::vector<Bytes> good = {frame_of(1), frame_of(5), frame_of(kRequestsMax)};
  std::size_t read_count = 0;
  for (int i = 0; i < 100'000; ++i) {
    Bytes frame = good[random() % good.size()];
    for (std::size_t flips = 1 + random() % 4; flips > 0; --flips) {
      const std::size_t bit = random() % (frame.size() * 8);
      frame[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    }
    const Parsed parsed = parse(frame);
    if (parsed.drop != Drop::kNone || parsed.header.type != kTypeRequests) continue;
    std::array<Request, kRequestsMax> requests;
    std::size_t count = 0;
    if (decode_requests(parsed, kNodes, requests, count) != Drop::kNone) continue;
    ++read_count;
    ASSERT_LE(count, requests.size()) << "seed " << kSeed << ", frame " << i;
    for (const Request& request : std::span(requests).first(count)) {
      ASSERT_LT(request.message.from.value, kNodes);
      ASSERT_LE(request.message.type, MessageType::kWriteRequest);
      ASSERT_NE(request.message.type, MessageType::kCopyReply);
    }
  }
  EXPECT_GT(read_count, 10'000U) << "too few get as far as the fields";
}

}  // namespace
}  // namespace pagewire::protocol
