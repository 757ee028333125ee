// What the bytes of receive_fuzz mean: a life of a node as a sequence of frames, faults, prefetches and time.
// Most frames are well-formed and about what the node is at, some are spoilt in one field, some are raw
// bytes. Within a turn of ScriptedNode.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "test/fuzz/input.h"
#include "test/fuzz/scripted_node.h"

namespace pagewire::test {

class NodeScript {
 public:
  // What a step does: the low bits of its first byte.
  enum class Step : std::uint8_t {
    kMessage,       // a message about a page, good
    kFragment,      // the same with some of the page's bytes, good
    kAnswer,        // what answers the node's last message about a page
    kSpoiltHeader,  // a message with one field of the header changed
    kSpoiltLength,  // a message cut short, or with bytes behind it
    kRawBody,       // a good header, then bytes of the input
    kRaw,           // bytes of the input
    kUnchecked,     // a frame that the port would have turned away
    kBeat,
    kDeclaration,
    kAgain,  // an earlier frame again
    kFault,
    kPrefetch,
    kTime,
    kStall,         // the peers stop taking frames, or go on
    kService,       // what the service's threads ask of the control plane
    kSpoiltAnswer,  // an answer whose lengths are not those of its frame
    kCount,
  };
  static constexpr std::size_t kStepsMax = 300;

  explicit NodeScript(Input input) : input_(input) {}

  ScriptedNode::Start start();
  // False at the end.
  bool turn(ScriptedNode& node);

 private:
  protocol::NodeId peer();
  std::uint64_t number(std::uint64_t near);
  protocol::Message message(const ScriptedNode& node, std::uint32_t page);
  protocol::Message answer(const ScriptedNode& node, std::uint32_t page);
  protocol::NodeSet copyset();
  void send(ScriptedNode& node, protocol::NodeId from, const protocol::Header& header,
            const protocol::Message& message);
  void send_fragment(ScriptedNode& node, protocol::NodeId from, protocol::Header header,
                     const protocol::Message& message);
  void send_lying(ScriptedNode& node, protocol::NodeId from, const protocol::Header& header,
                  const protocol::Message& message);
  void send_payload(ScriptedNode& node, protocol::NodeId from, Bytes payload);
  void spoil(protocol::Header& header);
  void send_beat(ScriptedNode& node);
  void send_declaration(ScriptedNode& node);
  void send_raw(ScriptedNode& node, Step step);
  void ask_control(ScriptedNode& node);
  void step(ScriptedNode& node, Step step);

  Input input_;
  std::size_t steps_ = 0;
  std::size_t prefetches_ = 0;
  struct Kept {
    protocol::NodeId from{};
    Bytes payload;
  };
  static constexpr std::uint32_t kKept = 8;
  std::array<Kept, kKept> kept_;  // the latest frames
  std::size_t kept_count_ = 0;
};

}  // namespace pagewire::test
