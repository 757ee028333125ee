// The decoder of frames: what it lets through is within bounds, lies inside the frame, and means the same
// when it is written and read again; and what is written can be read. One thread.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "protocol/wire.h"
#include "test/fuzz/input.h"

namespace pagewire::test {
namespace {

using protocol::Beat;
using protocol::Drop;
using protocol::Header;
using protocol::kBodyBytesMax;
using protocol::kHeaderBytes;
using protocol::kTrailerBytesMax;
using protocol::Message;
using protocol::MessageType;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::Parsed;
using protocol::RegionDeclaration;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kReservedByte = 13;  // of the header
constexpr std::uint64_t kCountMax = std::uint64_t{1} << 56;

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::ranges::equal(a, b);
}

void check_header(const Parsed& parsed, std::span<const std::byte> payload) {
  std::array<std::byte, kHeaderBytes> again{};
  require(encode_header(parsed.header, parsed.body.size(), again) == kHeaderBytes,
          "a header can be written again");
  std::array<std::byte, kHeaderBytes> before{};
  std::copy_n(payload.begin(), kHeaderBytes, before.begin());
  before[kReservedByte] = std::byte{0};
  require(same_bytes(again, before), "a header that was read is written as it was");
  std::array<std::byte, kHeaderBytes - 1> too_short{};
  require(encode_header(parsed.header, 0, too_short) == 0, "a header is not cut short");
}

void check_parsed(const Parsed& parsed, std::span<const std::byte> payload) {
  if (parsed.drop != Drop::kNone) {
    require(parsed.body.empty() && parsed.fragment.empty(), "a frame that is dropped has no parts");
    return;
  }
  const Header& header = parsed.header;
  const std::size_t whole = kHeaderBytes + parsed.body.size() + parsed.fragment.size();
  require(parsed.body.size() <= kBodyBytesMax, "a body has a limit");
  require(parsed.body.data() == payload.data() + kHeaderBytes, "the body follows the header");
  require(parsed.fragment.data() == parsed.body.data() + parsed.body.size(), "the fragment follows the body");
  require(whole <= payload.size() && payload.size() <= whole + kTrailerBytesMax, "the parts are the frame");
  require(parsed.fragment.size() == header.fragment_bytes &&
              header.fragment_offset + parsed.fragment.size() <= protocol::kPageBytes &&
              header.fragment_offset % protocol::kFragmentUnitBytes == 0 &&
              header.fragment_bytes % protocol::kFragmentUnitBytes == 0,
          "a fragment lies in its page");
  check_header(parsed, payload);
  for (const std::size_t shorter : {std::size_t{0}, kHeaderBytes - 1, kHeaderBytes, whole / 2, whole - 1}) {
    if (shorter >= whole) continue;
    require(protocol::parse(payload.first(shorter)).drop == Drop::kTruncated,
            "a frame cut short is truncated");
  }
  Bytes longer(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(whole));
  longer.resize(whole + kTrailerBytesMax + 1);
  require(protocol::parse(longer).drop == Drop::kOversized, "a frame with more behind it is oversized");
}

// Writes the body, and reads it again as `parsed` was read.
template <typename Body, typename Decode>
void check_again(const Parsed& parsed, const Body& body, Decode&& decode) {
  std::array<std::byte, kBodyBytesMax> room{};
  const std::size_t bytes = encode_body(body, room);
  require(bytes == parsed.body.size(), "a body that was read is written as long as it was");
  Parsed again = parsed;
  again.body = std::span(room).first(bytes);
  Body read{};
  require(decode(again, read) == Drop::kNone && read == body, "a body means the same when it is read again");
  for (std::size_t shorter = 0; shorter < bytes; shorter += 7) {
    require(encode_body(body, std::span(room).first(shorter)) == 0, "a body is not cut short");
    again.body = parsed.body.first(shorter);
    require(decode(again, read) != Drop::kNone, "a body cut short is not read");
  }
}

void check_message(const Parsed& parsed, std::uint32_t node_count) {
  const auto decode = [&](const Parsed& from, Message& to) { return decode_body(from, node_count, to); };
  Message message;
  const Drop drop = decode(parsed, message);
  if (drop != Drop::kNone) {
    return require(drop == Drop::kUnknownType || drop == Drop::kBadLength || drop == Drop::kBadField,
                   "a message is dropped for one of three reasons");
  }
  require(message.type >= MessageType::kCopyRequest && message.type <= MessageType::kHeld, "a type is known");
  require(message.from == parsed.header.sender && message.from.value < node_count, "a sender is a member");
  require(message.hint == protocol::kNoNode || message.hint.value < node_count,
          "a hint is a member or nobody");
  require(message.copyset.without(NodeSet::first(node_count)).empty(), "a copyset is of members");
  require(std::max({message.transaction.value, message.version.value, message.data_version.value,
                    message.epoch.value}) < kCountMax,
          "a count can be counted on");
  require(message.has_bytes == !parsed.fragment.empty(), "bytes come with those that say so");
  require(!message.has_bytes || message.type == MessageType::kCopyReply ||
              message.type == MessageType::kOwnershipTransfer,
          "only two kinds bring bytes");
  require(protocol::body_bytes(message) == parsed.body.size(), "body_bytes() says the length");
  check_again(parsed, message, decode);
}

void check_control(const Parsed& parsed) {
  const auto decode_beat = [](const Parsed& from, Beat& to) { return decode_body(from, to); };
  const auto decode_region = [](const Parsed& from, RegionDeclaration& to) { return decode_body(from, to); };
  Beat beat;
  if (decode_beat(parsed, beat) == Drop::kNone) {
    require(parsed.fragment.empty(), "a beat brings no page");
    check_again(parsed, beat, decode_beat);
  }
  RegionDeclaration region;
  if (decode_region(parsed, region) == Drop::kNone) {
    require(parsed.fragment.empty(), "a declaration brings no page");
    require(!region.name_view().empty() && region.name_view().size() <= protocol::kRegionNameMax,
            "a region has a name");
    require(region.placement <= protocol::Placement::kOneNode, "a placement is one of four");
    require(region.id == protocol::kNoRegion || region.id < protocol::kRegionsMax,
            "a region's number is in bounds");
    check_again(parsed, region, decode_region);
  }
}

void check_requests(const Parsed& parsed, std::uint32_t node_count) {
  if (parsed.header.type != protocol::kTypeRequests) return;
  std::array<protocol::Request, protocol::kRequestsMax> requests;
  std::size_t count = 0;
  const Drop drop = decode_requests(parsed, node_count, requests, count);
  if (drop != Drop::kNone) {
    return require(drop == Drop::kBadLength || drop == Drop::kBadField,
                   "requests are dropped for one of two reasons");
  }
  require(count > 0 && count <= requests.size(), "there are as many as there is room for");
  require(requests[0].page == parsed.header.page.index, "the header names the first");
  std::array<std::byte, protocol::kRequestsMax * protocol::kRequestBytes> room{};
  std::size_t bytes = 0;
  for (const protocol::Request& request : std::span(requests).first(count)) {
    const Message& message = request.message;
    require(message.type == MessageType::kCopyRequest || message.type == MessageType::kWriteRequest,
            "they are requests");
    require(message.from == parsed.header.sender && message.from.value < node_count, "a sender is a member");
    require(
        std::max({message.transaction.value, message.version.value, message.data_version.value}) < kCountMax,
        "a count can be counted on");
    bytes += protocol::encode_request(request, std::span(room).subspan(bytes));
  }
  require(bytes == parsed.fragment.size(), "requests that were read are written as long as they were");
  Parsed again = parsed;
  again.fragment = std::span(room).first(bytes);
  std::array<protocol::Request, protocol::kRequestsMax> read;
  std::size_t read_count = 0;
  require(decode_requests(again, node_count, read, read_count) == Drop::kNone && read_count == count,
          "they are read again");
  for (std::size_t i = 0; i < count; ++i) {
    require(read[i].page == requests[i].page && read[i].message == requests[i].message, "and mean the same");
  }
}

void check_payload(std::span<const std::byte> payload, std::uint32_t node_count) {
  const Parsed parsed = protocol::parse(payload);
  check_parsed(parsed, payload);
  if (parsed.drop != Drop::kNone) return;
  check_message(parsed, node_count);
  check_control(parsed);
  check_requests(parsed, node_count);
}

// The other way: any message that a node could write, with any part of a page, is read as it was.
void check_written(Input input, std::uint32_t node_count) {
  Message message;
  message.type = static_cast<MessageType>(1 + input.below(protocol::kMessageTypes - 1));
  message.from = NodeId{input.below(node_count)};
  const bool carries =
      message.type == MessageType::kCopyReply || message.type == MessageType::kOwnershipTransfer;
  message.direct = input.flag();
  message.has_bytes = carries && input.flag();
  if (input.flag()) message.hint = NodeId{input.below(node_count)};
  const auto count = [&] { return input.get<std::uint64_t>() % kCountMax; };
  const bool asks =
      message.type <= MessageType::kWriteRequest || message.type == MessageType::kOwnershipTransfer;
  const bool floor = message.type == MessageType::kInvalidate || message.type == MessageType::kAck;
  const bool held = message.type == MessageType::kHeld;
  if (asks || held || message.type == MessageType::kNotOwner) message.transaction.value = count();
  if (asks || held || floor) message.version.value = count();
  if (held) message.wait_ns = count();
  if (asks) message.data_version.value = count();
  if (message.type == MessageType::kTransferAck) message.epoch.value = count();
  if (message.type == MessageType::kOwnershipTransfer) {
    message.epoch.value = count();
    message.copyset = NodeSet(input.get<std::uint64_t>() & NodeSet::first(node_count).bits());
    std::array<std::uint64_t, protocol::GrantedList::kCapacity> granted{};
    for (auto& slot : granted) slot = input.get<std::uint64_t>();
    message.granted = protocol::GrantedList::from_raw(granted);
  }
  Header header;
  header.type = static_cast<std::uint8_t>(message.type);
  header.sender = message.from;
  constexpr std::size_t kUnit = protocol::kFragmentUnitBytes;
  constexpr std::size_t kUnits = protocol::kPageBytes / kUnit;
  const std::size_t first = input.get<std::uint16_t>() % kUnits;
  const std::size_t units = message.has_bytes ? 1 + input.get<std::uint16_t>() % (kUnits - first) : 0;
  header.fragment_offset = static_cast<std::uint16_t>(first * kUnit);
  header.fragment_bytes = static_cast<std::uint16_t>(units * kUnit);
  Bytes payload(kHeaderBytes + protocol::body_bytes(message) + header.fragment_bytes +
                input.below(kTrailerBytesMax + 1));
  const std::size_t body_bytes = encode_body(message, std::span(payload).subspan(kHeaderBytes));
  encode_header(header, body_bytes, payload);
  const Parsed parsed = protocol::parse(payload);
  Message read;
  require(parsed.drop == Drop::kNone && decode_body(parsed, node_count, read) == Drop::kNone,
          "what is written is read");
  require(read == message, "a message is read as it was written");
  check_payload(payload, node_count);
}

}  // namespace
}  // namespace pagewire::test

// The first byte: how many nodes there are, and which way to go.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pagewire::test::Input input({data, size});
  const std::uint8_t first = input.get();
  const std::uint32_t node_count = 1U + first % pagewire::protocol::kNodesMax;
  if (first < 192) {
    pagewire::test::check_payload(input.all(), node_count);
  } else {
    pagewire::test::check_written(input, node_count);
  }
  return 0;
}
