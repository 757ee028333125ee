// A node of a cluster of two that is played by hand: it joins as any other, and then sends whatever a test
// gives it. One thread.
#pragma once

#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "dataplane/control_plane.h"
#include "dataplane/engine.h"
#include "dataplane/port.h"
#include "protocol/control.h"
#include "protocol/wire.h"

namespace pagewire::test {

using Bytes = std::vector<std::byte>;

inline constexpr std::uint64_t kHandMadeBootId = 5'000'000;

// Node 1 of 2; the engine is node 0.
class HandMadeNode {
 public:
  HandMadeNode(std::unique_ptr<dataplane::Port> port, const dataplane::EngineOptions& engine)
      : port_(std::move(port)), region_base_(engine.region_base) {
    header_.cluster = engine.cluster;
    header_.view = 1;
    header_.sender = protocol::NodeId{1};
    header_.to = protocol::NodeSet::of(protocol::NodeId{0});
    header_.boot_id = kHandMadeBootId;
    protocol::ControlSettings settings;
    settings.self = protocol::NodeId{1};
    settings.members = protocol::NodeSet::first(2);
    settings.region_base = engine.region_base;
    settings.loop_count = static_cast<std::uint32_t>(engine.loop_cores.size());
    control_.emplace(settings, protocol::Time{dataplane::now_ns()});
  }

  dataplane::Port& port() { return *port_; }
  protocol::Control& control() { return *control_; }
  const protocol::Header& header() const { return header_; }
  std::uint64_t region_base() const { return region_base_; }

  protocol::Header page_header(protocol::MessageType type, std::uint32_t page) const {
    protocol::Header header = header_;
    header.type = static_cast<std::uint8_t>(type);
    header.page = {.region = region_, .index = page};
    return header;
  }
  void set_region(std::uint32_t region) { region_ = region; }

  template <typename Body>
  Bytes frame(protocol::Header header, const Body& body, std::span<const std::byte> fragment = {}) const {
    Bytes payload(protocol::kHeaderBytes + protocol::kBodyBytesMax);
    const std::size_t body_bytes = encode_body(body, std::span(payload).subspan(protocol::kHeaderBytes));
    header.fragment_bytes = static_cast<std::uint16_t>(fragment.size());
    encode_header(header, body_bytes, payload);
    payload.resize(protocol::kHeaderBytes + body_bytes);
    payload.insert(payload.end(), fragment.begin(), fragment.end());
    return payload;
  }

  // False if there was no room for it now.
  bool try_send(std::span<const std::byte> payload, std::uint16_t queue = 0) {
    rte_mbuf* const frame = rte_pktmbuf_alloc(port_->pool(queue));
    if (frame == nullptr) return false;
    char* const data =
        rte_pktmbuf_append(frame, static_cast<std::uint16_t>(dataplane::kEthernetBytes + payload.size()));
    if (!payload.empty()) std::memcpy(data + dataplane::kEthernetBytes, payload.data(), payload.size());
    port_->send(queue, protocol::NodeSet::of(protocol::NodeId{0}), frame);
    return true;
  }
  void send(std::span<const std::byte> payload, std::uint16_t queue = 0) {
    ASSERT_TRUE(try_send(payload, queue));
    port_->flush(queue);
  }

  // Takes what has come: control frames go to our control, page messages are kept. Answers, and says what is
  // due.
  void step() {
    std::array<rte_mbuf*, 32> frames{};
    protocol::ControlFrames out;
    for (std::uint16_t queue = 0; queue < port_->queue_count(); ++queue) {
      const std::uint16_t count = port_->receive(queue, frames);
      for (std::uint16_t i = 0; i < count; ++i) {
        take(frames[i], out);
        rte_pktmbuf_free(frames[i]);
      }
    }
    if (!silent_) control_->tick(protocol::Time{dataplane::now_ns()}, out);
    for (const protocol::ControlFrame& frame : out.all()) {
      if (silent_) break;
      protocol::Header header = header_;
      header.type = frame.is_region ? protocol::kTypeRegion : protocol::kTypeBeat;
      send(frame.is_region ? this->frame(header, frame.region) : this->frame(header, frame.beat));
    }
  }
  // From here on it says nothing of its own.
  void be_silent() { silent_ = true; }

  struct Received {
    protocol::Header header;
    protocol::Message message;
  };
  std::vector<Received> received;

 private:
  void take(rte_mbuf* frame, protocol::ControlFrames& out) {
    const auto* payload = rte_pktmbuf_mtod_offset(frame, const std::byte*, dataplane::kEthernetBytes);
    const protocol::Parsed parsed =
        protocol::parse({payload, std::size_t{frame->data_len} - dataplane::kEthernetBytes});
    if (parsed.drop != protocol::Drop::kNone) return;
    const protocol::Time now{dataplane::now_ns()};
    protocol::Beat beat;
    protocol::RegionDeclaration region;
    protocol::Message message;
    if (parsed.header.type == protocol::kTypeBeat) {
      if (decode_body(parsed, beat) == protocol::Drop::kNone)
        control_->on_beat(parsed.header.sender, beat, now, out);
    } else if (parsed.header.type == protocol::kTypeRegion) {
      if (decode_body(parsed, region) == protocol::Drop::kNone)
        control_->on_region(parsed.header.sender, region, now, out);
    } else if (decode_body(parsed, 2, message) == protocol::Drop::kNone && received.size() < 10'000) {
      received.push_back({parsed.header, message});
    }
  }

  std::unique_ptr<dataplane::Port> port_;
  std::optional<protocol::Control> control_;
  protocol::Header header_;
  std::uint32_t region_ = 0;
  std::uint64_t region_base_;
  bool silent_ = false;
};

}  // namespace pagewire::test
