// Every structure and limit of the wire. Little-endian, explicit lengths, every read checked against the
// frame's end. A frame's payload (after the Ethernet header) is a header, a body whose length depends on the
// type, and for replies with bytes a fragment of the page. docs/protocol.md draws it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "protocol/control.h"
#include "protocol/message.h"
#include "protocol/types.h"

namespace pagewire::protocol {

inline constexpr std::uint16_t kWireMagic = 0x5750;  // "PW"
inline constexpr std::uint8_t kWireVersion = 3;
inline constexpr std::size_t kHeaderBytes =
    56;                                    // a page with the longest body fits three frames of 1,514 bytes
inline constexpr std::size_t kTypeAt = 3;  // of a frame's payload
inline constexpr std::size_t kBodyBytesMax = 192;
inline constexpr std::size_t kTrailerBytesMax = 4;    // what a device may leave behind a frame (a checksum)
inline constexpr std::size_t kFragmentUnitBytes = 8;  // fragments start and end at multiples of it

inline constexpr std::uint8_t kTypeBeat = 16;
inline constexpr std::uint8_t kTypeRegion = 17;
inline constexpr std::uint8_t kTypeRequests = 18;  // several requests for pages of one region

// What every frame begins with.
struct Header {
  std::uint8_t type = 0;
  std::uint32_t cluster = 0;
  std::uint32_t view = 0;
  NodeId sender{};
  NodeSet to{};                     // on a shared medium others hear it, too: it is not for them
  std::uint64_t boot_id = 0;        // one life of the sending process
  std::uint64_t packet_number = 0;  // counts the frames of one sender's queue
  PageId page{};
  std::uint32_t service_ns = 0;       // answers: since the question came in, at most; else 0
  std::uint16_t fragment_offset = 0;  // bytes into the page
  std::uint16_t fragment_bytes = 0;   // 0: no page bytes in this frame
};

// Why a frame was dropped; each is counted.
enum class Drop : std::uint8_t {
  kNone,
  kTruncated,    // shorter than its own lengths
  kOversized,    // longer than its own lengths, more than by a trailer
  kNotPagewire,  // magic
  kWireVersion,  // spoken by another version
  kForeignCluster,
  kWrongView,
  kUnknownSender,  // not a member
  kOwnEcho,        // we sent it
  kNotForUs,       // addressed to others: a shared medium brings what a bridge floods
  kOldBootId,      // of another life of the sender
  kUnknownType,
  kBadLength,  // body or fragment lengths that cannot be
  kUnknownRegion,
  kPageOutOfRange,
  kBadField,     // a value that no correct sender writes
  kNotExpected,  // page bytes that nobody waits for
  kNoBuffer,     // no room to gather fragments
  kCount,
};
std::string_view drop_name(Drop drop);

// Writes the header and returns kHeaderBytes, or 0 if `out` is too short.
std::size_t encode_header(const Header& header, std::size_t body_bytes, std::span<std::byte> out);
// Writes the body of a message, a beat or a declaration; the bytes written, or 0 if `out` is too short.
std::size_t encode_body(const Message& message, std::span<std::byte> out);
std::size_t encode_body(const Beat& beat, std::span<std::byte> out);
std::size_t encode_body(const RegionDeclaration& declaration, std::span<std::byte> out);
// Requests (copy or write) that go to the same nodes may share a frame: a body that says how many, and one
// entry each in the fragment's place. The header names the first one's page.
inline constexpr std::size_t kRequestBytes = 32;
inline constexpr std::size_t kRequestsMax = 32;
struct Request {
  std::uint32_t page = 0;
  Message message{};
};
std::size_t encode_requests_body(std::size_t count, std::span<std::byte> out);
std::size_t encode_request(const Request& request, std::span<std::byte> out);

// The length that encode_body would write.
std::size_t body_bytes(const Message& message);

struct Parsed {
  Drop drop = Drop::kNone;
  Header header;
  std::span<const std::byte> body;
  std::span<const std::byte> fragment;
};
// Checks lengths and magic and splits the payload. Our shortest frame needs no padding, so what follows the
// frame's own lengths can only be a trailer.
Parsed parse(std::span<const std::byte> payload);

// A page message; kNone if it is well-formed. Node ids are checked against `node_count`.
Drop decode_body(const Parsed& parsed, std::uint32_t node_count, Message& message);
Drop decode_body(const Parsed& parsed, Beat& beat);
Drop decode_body(const Parsed& parsed, RegionDeclaration& declaration);
// All of them or none; `count` of `out` are filled, which has room for kRequestsMax.
Drop decode_requests(const Parsed& parsed, std::uint32_t node_count, std::span<Request> out,
                     std::size_t& count);

}  // namespace pagewire::protocol
