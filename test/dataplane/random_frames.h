// Random frames, by a seed: such that a check must stop, and such as a member that has lost its mind might
// send. One thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <span>
#include <string>

#include "dataplane/region_state.h"
#include "protocol/wire.h"
#include "test/dataplane/hand_made_node.h"

namespace pagewire::test {

class RandomFrames {
 public:
  RandomFrames(std::uint64_t seed, const HandMadeNode& peer, const dataplane::RegionState& region)
      : random_(seed),
        peer_(peer),
        region_(region.id),
        page_count_(static_cast<std::uint32_t>(region.pages.size())) {}

  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
  bool one_in(std::uint64_t count) { return below(count) == 0; }

  void fill(std::span<std::byte> bytes) {
    for (std::size_t at = 0; at < bytes.size(); at += 8) {
      const std::uint64_t word = random_();
      std::memcpy(&bytes[at], &word, std::min<std::size_t>(8, bytes.size() - at));
    }
  }

  // Fails at least one check, whatever the rest of it is.
  void bad(Bytes& payload) {
    const std::size_t bytes = one_in(1'000) ? below(8'000) : below(300);
    payload.resize(bytes);
    fill(payload);
    if (bytes < protocol::kHeaderBytes || one_in(4)) {
      if (bytes > 0) payload[0] = std::byte{0x51};  // not the magic, not even by chance
      return;
    }
    protocol::Header header = random_header(bytes);
    std::size_t body_bytes = below(100);
    spoil(header, body_bytes);
    const std::size_t true_bytes = protocol::kHeaderBytes + body_bytes + header.fragment_bytes;
    if (true_bytes <= 8'000 && one_in(2)) {  // lengths that are true
      payload.resize(true_bytes);
      fill(payload);
    }
    encode_header(header, body_bytes, payload);
    if (spoil_version_) payload[2] = std::byte{0x7f};
  }

  // What a member that has lost its mind might send: every check passes, or nearly so.
  void forged(Bytes& payload) {
    protocol::Header header = peer_.header();
    header.page = {.region = region_, .index = static_cast<std::uint32_t>(below(page_count_))};
    header.type = static_cast<std::uint8_t>(1 + below(protocol::kMessageTypes - 1));
    if (one_in(50)) return forged_control(header, payload);
    protocol::Message message;
    message.type = static_cast<protocol::MessageType>(header.type);
    message.direct = one_in(2);
    message.hint = one_in(3) ? protocol::kNoNode : protocol::NodeId{static_cast<std::uint8_t>(below(2))};
    message.transaction.value = number();
    message.version.value = number();
    message.data_version.value = number();
    message.epoch.value = number();
    message.copyset = protocol::NodeSet(below(4));
    std::array<std::uint64_t, protocol::GrantedList::kCapacity> granted{};
    for (auto& slot : granted) slot = one_in(2) ? random_() : 0;
    message.granted = protocol::GrantedList::from_raw(granted);
    const bool may_carry = message.type == protocol::MessageType::kCopyReply ||
                           message.type == protocol::MessageType::kOwnershipTransfer;
    message.has_bytes = may_carry && !one_in(4);
    Bytes fragment;
    if (message.has_bytes) {
      const std::size_t units = protocol::kPageBytes / protocol::kFragmentUnitBytes;
      const std::size_t first = one_in(2) ? 0 : below(units);
      const std::size_t count = first == 0 && one_in(2) ? units : 1 + below(units - first);
      header.fragment_offset = static_cast<std::uint16_t>(first * protocol::kFragmentUnitBytes);
      fragment.assign(count * protocol::kFragmentUnitBytes, static_cast<std::byte>(below(256)));
    }
    payload = peer_.frame(header, message, fragment);
  }

 private:
  protocol::Header random_header(std::size_t room) {
    protocol::Header header = peer_.header();
    header.type = static_cast<std::uint8_t>(one_in(8) ? below(256) : below(19));
    header.packet_number = random_();
    header.page = {.region = region_, .index = static_cast<std::uint32_t>(below(page_count_))};
    header.fragment_offset = static_cast<std::uint16_t>(below(64) * protocol::kFragmentUnitBytes);
    header.fragment_bytes = static_cast<std::uint16_t>(below(room / 8 + 1) * 8);
    return header;
  }

  // One field, or a length, that cannot pass.
  void spoil(protocol::Header& header, std::size_t& body_bytes) {
    spoil_version_ = false;
    const bool control = header.type == protocol::kTypeBeat || header.type == protocol::kTypeRegion;
    switch (below(control ? 8 : 11)) {
      case 0:
        spoil_version_ = true;
        return;
      case 1:
        header.cluster ^= 1 + static_cast<std::uint32_t>(below(1'000));
        return;
      case 2:
        header.view += 1 + static_cast<std::uint32_t>(below(1'000));
        return;
      case 3:
        header.sender =
            one_in(2) ? protocol::NodeId{0} : protocol::NodeId{static_cast<std::uint8_t>(2 + below(254))};
        return;
      case 4:
        header.boot_id += 1 + below(1'000);
        return;
      case 5:
        header.boot_id -= 1 + below(1'000);
        return;
      case 6:
        header.to = protocol::NodeSet(random_()).without(protocol::NodeId{0});
        return;
      case 7:  // no body is as short as this, none as long as the other
        body_bytes = one_in(2) ? below(8) : protocol::kBodyBytesMax + 1 + below(60'000);
        return;
      case 8:
        header.page.region = one_in(2) ? region_ + 1 : static_cast<std::uint32_t>(random_()) | 0x40;
        return;
      case 9:
        header.page.index = page_count_ + static_cast<std::uint32_t>(below(1U << 31));
        return;
      default:
        header.type = static_cast<std::uint8_t>(one_in(2) ? 0 : 19 + below(237));
        return;
    }
  }

  void forged_control(protocol::Header header, Bytes& payload) {
    if (one_in(2)) {
      header.type = protocol::kTypeBeat;
      protocol::Beat beat{.sequence = number(),
                          .echo = number(),
                          .barrier_count = number(),
                          .heard = protocol::NodeSet(random_())};
      beat.region_base = one_in(2) ? random_() : peer_.region_base();
      beat.wants_answer = one_in(2);
      beat.leaving = one_in(10);
      payload = peer_.frame(header, beat);
    } else {
      header.type = protocol::kTypeRegion;
      protocol::RegionDeclaration region;
      region.set_name(one_in(2) ? "grid" : "r" + std::to_string(below(200)));
      region.bytes = random_();
      region.placement = static_cast<protocol::Placement>(below(4));
      region.placement_node = static_cast<std::uint8_t>(random_());
      region.attempt = static_cast<std::uint32_t>(one_in(2) ? 1 : random_());
      region.id = one_in(2) ? protocol::kNoRegion : static_cast<std::uint32_t>(below(protocol::kRegionsMax));
      region.offset = random_();
      region.active = one_in(2);
      region.wants_answer = one_in(2);
      payload = peer_.frame(header, region);
    }
  }

  // Mostly one that meets what is there; now and then the highest that passes.
  std::uint64_t number() {
    if (one_in(1'000)) return (std::uint64_t{1} << 56) - 1 - below(3);
    return below(one_in(10) ? 100'000 : 12);
  }

  std::mt19937_64 random_;
  const HandMadeNode& peer_;
  std::uint32_t region_;
  std::uint32_t page_count_;
  bool spoil_version_ = false;
};

}  // namespace pagewire::test
