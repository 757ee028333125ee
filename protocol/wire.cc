// The codec. Any thread.
#include "protocol/wire.h"

#include <algorithm>

namespace pagewire::protocol {

namespace {

// Writes little-endian integers one after the other; too long and it only remembers that.
class Writer {
 public:
  explicit Writer(std::span<std::byte> out) : out_(out) {}
  template <typename T>
  void put(T value) {
    if (at_ + sizeof(T) > out_.size()) {
      failed_ = true;
      return;
    }
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      out_[at_ + i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xff);
    }
    at_ += sizeof(T);
  }
  std::size_t written() const { return failed_ ? 0 : at_; }

 private:
  std::span<std::byte> out_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

// Reads them; past the end it gives zeroes and remembers that.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) : in_(in) {}
  template <typename T>
  T get() {
    if (in_.size() - at_ < sizeof(T)) {
      failed_ = true;
      return T{};
    }
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<std::uint64_t>(in_[at_ + i]) << (8 * i);
    at_ += sizeof(T);
    return static_cast<T>(value);
  }
  // Everything was there and nothing is left over.
  bool exact() const { return !failed_ && at_ == in_.size(); }

 private:
  std::span<const std::byte> in_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

constexpr std::uint8_t kFlagDirect = 1;
constexpr std::uint8_t kFlagBytes = 2;
constexpr unsigned kSharingShift = 2;  // of the flags: two bits
constexpr std::uint8_t kSharingMask = Sharing::kUsesMax;
constexpr std::uint8_t kFlagAnswer = 1;
constexpr std::uint8_t kFlagLeaving = 2;
constexpr std::uint8_t kFlagActive = 2;

void put_body(Writer& writer, const Message& message) {
  std::uint8_t flags = 0;
  if (message.direct) flags |= kFlagDirect;
  if (message.has_bytes) flags |= kFlagBytes;
  flags |= static_cast<std::uint8_t>(message.sharing.uses << kSharingShift);
  writer.put<std::uint8_t>(flags);
  writer.put<std::uint8_t>(message.hint.value);
  writer.put<std::uint16_t>(0);
  switch (message.type) {
    case MessageType::kCopyRequest:
    case MessageType::kCopyReply:
    case MessageType::kWriteRequest:
      writer.put(message.transaction.value);
      writer.put(message.version.value);
      writer.put(message.data_version.value);
      break;
    case MessageType::kOwnershipTransfer:
      writer.put(message.transaction.value);
      writer.put(message.version.value);
      writer.put(message.data_version.value);
      writer.put(message.epoch.value);
      writer.put(message.copyset.bits());
      for (const auto slot : message.granted.raw()) writer.put(slot);
      break;
    case MessageType::kTransferAck:
      writer.put(message.epoch.value);
      break;
    case MessageType::kInvalidate:
    case MessageType::kAck:
      writer.put(message.version.value);
      break;
    case MessageType::kNotOwner:
      writer.put(message.transaction.value);
      writer.put(message.epoch.value);
      break;
    case MessageType::kHeld:
      writer.put(message.transaction.value);
      writer.put(message.version.value);
      writer.put(message.wait_ns);
      break;
  }
}

void get_body(Reader& reader, Message& message) {
  switch (message.type) {
    case MessageType::kCopyRequest:
    case MessageType::kCopyReply:
    case MessageType::kWriteRequest:
      message.transaction.value = reader.get<std::uint64_t>();
      message.version.value = reader.get<std::uint64_t>();
      message.data_version.value = reader.get<std::uint64_t>();
      break;
    case MessageType::kOwnershipTransfer: {
      message.transaction.value = reader.get<std::uint64_t>();
      message.version.value = reader.get<std::uint64_t>();
      message.data_version.value = reader.get<std::uint64_t>();
      message.epoch.value = reader.get<std::uint64_t>();
      message.copyset = NodeSet(reader.get<std::uint64_t>());
      std::array<std::uint64_t, GrantedList::kCapacity> granted{};
      for (auto& slot : granted) slot = reader.get<std::uint64_t>();
      message.granted = GrantedList::from_raw(granted);
      break;
    }
    case MessageType::kTransferAck:
      message.epoch.value = reader.get<std::uint64_t>();
      break;
    case MessageType::kInvalidate:
    case MessageType::kAck:
      message.version.value = reader.get<std::uint64_t>();
      break;
    case MessageType::kNotOwner:
      message.transaction.value = reader.get<std::uint64_t>();
      message.epoch.value = reader.get<std::uint64_t>();
      break;
    case MessageType::kHeld:
      message.transaction.value = reader.get<std::uint64_t>();
      message.version.value = reader.get<std::uint64_t>();
      message.wait_ns = reader.get<std::uint64_t>();
      break;
  }
}

// Versions and epochs count tenures, and nobody holds a page for years: a value near the top comes by damage
// alone.
constexpr std::uint64_t kCountMax = std::uint64_t{1} << 56;

bool plausible(const Message& message, std::uint32_t node_count) {
  const bool carries =
      message.type == MessageType::kCopyReply || message.type == MessageType::kOwnershipTransfer;
  if (message.has_bytes && !carries) return false;
  if (message.sharing != Sharing{} && message.type != MessageType::kOwnershipTransfer) return false;
  if (message.from.value >= node_count) return false;
  if (message.hint != kNoNode && message.hint.value >= node_count) return false;
  if (!message.copyset.without(NodeSet::first(node_count)).empty()) return false;
  return std::max({message.transaction.value, message.version.value, message.data_version.value,
                   message.epoch.value, message.wait_ns}) < kCountMax;
}

bool fragment_fits(const Header& header) {
  const std::size_t end = std::size_t{header.fragment_offset} + header.fragment_bytes;
  return end <= kPageBytes && header.fragment_offset % kFragmentUnitBytes == 0 &&
         header.fragment_bytes % kFragmentUnitBytes == 0;
}

}  // namespace

std::string_view drop_name(Drop drop) {
  static constexpr std::array<std::string_view, static_cast<std::size_t>(Drop::kCount)> kNames = {
      "none",       "truncated",      "oversized",         "not_pagewire", "wire_version", "foreign_cluster",
      "wrong_view", "unknown_sender", "own_echo",          "not_for_us",   "old_boot_id",  "unknown_type",
      "bad_length", "unknown_region", "page_out_of_range", "bad_field",    "not_expected", "no_buffer"};
  return kNames[static_cast<std::size_t>(drop)];
}

std::size_t encode_header(const Header& header, std::size_t body_bytes, std::span<std::byte> out) {
  Writer writer(out);
  writer.put(kWireMagic);
  writer.put(kWireVersion);
  writer.put(header.type);
  writer.put(header.cluster);
  writer.put(header.view);
  writer.put(header.sender.value);
  writer.put<std::uint8_t>(0);
  writer.put(static_cast<std::uint16_t>(body_bytes));
  writer.put(header.to.bits());
  writer.put(header.boot_id);
  writer.put(header.packet_number);
  writer.put(header.page.region);
  writer.put(header.page.index);
  writer.put(header.service_ns);
  writer.put(header.fragment_offset);
  writer.put(header.fragment_bytes);
  return writer.written();
}

std::size_t encode_body(const Message& message, std::span<std::byte> out) {
  Writer writer(out);
  put_body(writer, message);
  return writer.written();
}

std::size_t encode_body(const Beat& beat, std::span<std::byte> out) {
  Writer writer(out);
  writer.put(beat.sequence);
  writer.put(beat.echo);
  writer.put(beat.barrier_count);
  writer.put(beat.heard.bits());
  writer.put(beat.region_base);
  writer.put(beat.loop_count);
  writer.put(beat.node_count);
  writer.put(
      static_cast<std::uint64_t>((beat.wants_answer ? kFlagAnswer : 0) | (beat.leaving ? kFlagLeaving : 0)));
  return writer.written();
}

std::size_t encode_body(const RegionDeclaration& declaration, std::span<std::byte> out) {
  Writer writer(out);
  for (const char letter : declaration.name) writer.put(static_cast<std::uint8_t>(letter));
  writer.put(declaration.bytes);
  writer.put(static_cast<std::uint8_t>(declaration.placement));
  writer.put(declaration.placement_node);
  writer.put(static_cast<std::uint16_t>((declaration.wants_answer ? kFlagAnswer : 0) |
                                        (declaration.active ? kFlagActive : 0)));
  writer.put(declaration.attempt);
  writer.put(declaration.id);
  writer.put<std::uint32_t>(0);
  writer.put(declaration.offset);
  return writer.written();
}

std::size_t body_bytes(const Message& message) {
  std::array<std::byte, kBodyBytesMax> scratch;
  return encode_body(message, scratch);
}

Parsed parse(std::span<const std::byte> payload) {
  Parsed parsed;
  if (payload.size() < kHeaderBytes) {
    parsed.drop = Drop::kTruncated;
    return parsed;
  }
  Reader reader(payload.first(kHeaderBytes));
  const auto magic = reader.get<std::uint16_t>();
  const auto version = reader.get<std::uint8_t>();
  Header& header = parsed.header;
  header.type = reader.get<std::uint8_t>();
  header.cluster = reader.get<std::uint32_t>();
  header.view = reader.get<std::uint32_t>();
  header.sender.value = reader.get<std::uint8_t>();
  reader.get<std::uint8_t>();
  const std::size_t body = reader.get<std::uint16_t>();
  header.to = NodeSet(reader.get<std::uint64_t>());
  header.boot_id = reader.get<std::uint64_t>();
  header.packet_number = reader.get<std::uint64_t>();
  header.page.region = reader.get<std::uint32_t>();
  header.page.index = reader.get<std::uint32_t>();
  header.service_ns = reader.get<std::uint32_t>();
  header.fragment_offset = reader.get<std::uint16_t>();
  header.fragment_bytes = reader.get<std::uint16_t>();
  if (magic != kWireMagic) {
    parsed.drop = Drop::kNotPagewire;
  } else if (version != kWireVersion) {
    parsed.drop = Drop::kWireVersion;
  } else if (body > kBodyBytesMax || !fragment_fits(header)) {
    parsed.drop = Drop::kBadLength;
  } else if (payload.size() - kHeaderBytes < body + header.fragment_bytes) {
    parsed.drop = Drop::kTruncated;
  } else if (payload.size() - kHeaderBytes > body + header.fragment_bytes + kTrailerBytesMax) {
    parsed.drop = Drop::kOversized;
  } else {
    parsed.body = payload.subspan(kHeaderBytes, body);
    parsed.fragment = payload.subspan(kHeaderBytes + body, header.fragment_bytes);
  }
  return parsed;
}

Drop decode_body(const Parsed& parsed, std::uint32_t node_count, Message& message) {
  const std::uint8_t type = parsed.header.type;
  if (type == 0 || type >= kMessageTypes) return Drop::kUnknownType;
  message = Message{};
  message.type = static_cast<MessageType>(type);
  message.from = parsed.header.sender;
  Reader reader(parsed.body);
  const auto flags = reader.get<std::uint8_t>();
  message.direct = (flags & kFlagDirect) != 0;
  message.has_bytes = (flags & kFlagBytes) != 0;
  message.sharing.uses = flags >> kSharingShift & kSharingMask;
  message.hint.value = reader.get<std::uint8_t>();
  reader.get<std::uint16_t>();
  get_body(reader, message);
  if (!reader.exact() || message.has_bytes == parsed.fragment.empty()) return Drop::kBadLength;
  return plausible(message, node_count) ? Drop::kNone : Drop::kBadField;
}

Drop decode_body(const Parsed& parsed, Beat& beat) {
  Reader reader(parsed.body);
  beat.sequence = reader.get<std::uint64_t>();
  beat.echo = reader.get<std::uint64_t>();
  beat.barrier_count = reader.get<std::uint64_t>();
  beat.heard = NodeSet(reader.get<std::uint64_t>());
  beat.region_base = reader.get<std::uint64_t>();
  beat.loop_count = reader.get<std::uint32_t>();
  beat.node_count = reader.get<std::uint32_t>();
  const auto flags = reader.get<std::uint64_t>();
  beat.wants_answer = (flags & kFlagAnswer) != 0;
  beat.leaving = (flags & kFlagLeaving) != 0;
  return reader.exact() && parsed.fragment.empty() ? Drop::kNone : Drop::kBadLength;
}

Drop decode_body(const Parsed& parsed, RegionDeclaration& declaration) {
  Reader reader(parsed.body);
  for (char& letter : declaration.name) letter = static_cast<char>(reader.get<std::uint8_t>());
  declaration.bytes = reader.get<std::uint64_t>();
  const auto placement = reader.get<std::uint8_t>();
  declaration.placement = static_cast<Placement>(placement);
  declaration.placement_node = reader.get<std::uint8_t>();
  const auto flags = reader.get<std::uint16_t>();
  declaration.wants_answer = (flags & kFlagAnswer) != 0;
  declaration.active = (flags & kFlagActive) != 0;
  declaration.attempt = reader.get<std::uint32_t>();
  declaration.id = reader.get<std::uint32_t>();
  reader.get<std::uint32_t>();
  declaration.offset = reader.get<std::uint64_t>();
  if (!reader.exact() || !parsed.fragment.empty()) return Drop::kBadLength;
  const bool named = declaration.name[0] != '\0';
  const bool placed = declaration.id == kNoRegion || declaration.id < kRegionsMax;
  return named && placed && placement <= static_cast<std::uint8_t>(Placement::kOneNode) ? Drop::kNone
                                                                                        : Drop::kBadField;
}

std::size_t encode_requests_body(std::size_t count, std::span<std::byte> out) {
  Writer writer(out);
  writer.put(static_cast<std::uint64_t>(count));
  return writer.written();
}

std::size_t encode_request(const Request& request, std::span<std::byte> out) {
  Writer writer(out);
  writer.put(request.page);
  writer.put(static_cast<std::uint8_t>(request.message.type));
  writer.put<std::uint8_t>(request.message.direct ? kFlagDirect : 0);
  writer.put<std::uint16_t>(0);
  writer.put(request.message.transaction.value);
  writer.put(request.message.version.value);
  writer.put(request.message.data_version.value);
  return writer.written();
}

Drop decode_requests(const Parsed& parsed, std::uint32_t node_count, std::span<Request> out,
                     std::size_t& count) {
  Reader body(parsed.body);
  const auto told = body.get<std::uint64_t>();
  if (!body.exact() || told == 0 || told > std::min(out.size(), kRequestsMax) ||
      parsed.fragment.size() != told * kRequestBytes || parsed.header.fragment_offset != 0) {
    return Drop::kBadLength;
  }
  count = static_cast<std::size_t>(told);
  Reader reader(parsed.fragment);
  for (Request& request : out.first(count)) {
    request = Request{};
    request.page = reader.get<std::uint32_t>();
    const auto type = reader.get<std::uint8_t>();
    const auto flags = reader.get<std::uint8_t>();
    reader.get<std::uint16_t>();
    Message& message = request.message;
    message.type = static_cast<MessageType>(type);
    message.from = parsed.header.sender;
    message.direct = (flags & kFlagDirect) != 0;
    message.transaction.value = reader.get<std::uint64_t>();
    message.version.value = reader.get<std::uint64_t>();
    message.data_version.value = reader.get<std::uint64_t>();
    const bool asks = message.type == MessageType::kCopyRequest || message.type == MessageType::kWriteRequest;
    if (!asks || !plausible(message, node_count)) return Drop::kBadField;
  }
  if (out.front().page != parsed.header.page.index) return Drop::kBadField;
  return Drop::kNone;
}

}  // namespace pagewire::protocol
