#include "test/fuzz/coming_to_rest.h"

#include <algorithm>
#include <bit>

#include "test/fuzz/input.h"

namespace pagewire::test {

using protocol::Message;
using protocol::MessageType;
using protocol::NodeId;
using protocol::PageEntry;

namespace {

constexpr NodeId kPeer{2};
constexpr std::uint32_t kLocalShare =
    ScriptedNode::kRounds - (ScriptedNode::kRounds + 3) / 4;  // protocol/round.cc

Message transfer(const PageEntry& entry, protocol::Transaction transaction) {
  Message message;
  message.type = MessageType::kOwnershipTransfer;
  message.transaction = transaction;
  message.version = std::max(entry.version, entry.floor).next();
  message.data_version = entry.data_version;  // so no bytes need to come
  message.epoch = entry.epoch.next();
  return message;
}

NodeId lowest(protocol::NodeSet nodes) {
  return NodeId{static_cast<std::uint8_t>(std::countr_zero(nodes.bits()))};
}

void send(ScriptedNode& node, NodeId from, const Message& message, std::uint32_t page) {
  node.send(node.header(from, static_cast<std::uint8_t>(message.type), page), message);
}

}  // namespace

void ComingToRest::next(Stage stage) {
  stage_ = stage;
  turns_ = 0;
  quiet_turns_ = 0;
  page_ = 0;
}

// Answers what the node last said about the page, if that waits for an answer. True if a frame was sent.
bool ComingToRest::answer(ScriptedNode& node, std::uint32_t page) {
  const PageEntry& entry = node.entry(page);
  const ScriptedNode::Sent& sent = node.last_sent(page);
  if (entry.round == protocol::kNoRound || !sent.any) return false;
  Message reply;
  switch (sent.message.type) {
    case MessageType::kCopyRequest:
    case MessageType::kWriteRequest:
      send(node, kPeer, transfer(entry, sent.message.transaction), page);
      return true;
    case MessageType::kOwnershipTransfer:
      reply.type = MessageType::kTransferAck;
      reply.epoch = sent.message.epoch;
      send(node, lowest(sent.to), reply, page);
      return true;
    case MessageType::kInvalidate:
      reply.type = MessageType::kAck;
      reply.version.value = ScriptedNode::kReachable - 1;
      send(node, lowest(sent.to), reply, page);  // asked again, the node names those who lack it still
      return true;
    default:
      return false;
  }
}

// Time goes on and the pages are answered in turn. True once nothing has been under way for so many turns
// that every prefetch must have been looked at: a pass of the loop takes one, and a pass that ends asleep is
// two turns.
bool ComingToRest::at_rest(ScriptedNode& node) {
  if (turns_ + 1 == kTurnsMax) node.describe();
  require(++turns_ < kTurnsMax, "every page comes to rest when it is answered");
  const bool quiet = node.under_way_count() == 0 && !node.loop().has_unserved_faults();
  quiet_turns_ = quiet ? quiet_turns_ + 1 : 0;
  if (quiet) return quiet_turns_ > 2 + 2 * node.prefetch_count();
  node.advance(2 * ScriptedNode::kRetryNsMax);  // what was lost on the way is said again
  for (std::uint32_t i = 0; i < ScriptedNode::kPages; ++i) {
    page_ = (page_ + 1) % ScriptedNode::kPages;
    if (answer(node, page_)) break;
  }
  return false;
}

// Whoever the node has not heard yet says so, for else nothing of it would be let in.
bool ComingToRest::introduce(ScriptedNode& node) {
  for (; page_ < ScriptedNode::kNodes; ++page_) {
    const NodeId from{static_cast<std::uint8_t>(page_)};
    if (from == ScriptedNode::kSelf || node.membership().boot_ids[page_].load() != 0) continue;
    node.send(node.header(from, protocol::kTypeBeat), protocol::Beat{});
    return false;
  }
  return true;
}

bool ComingToRest::own_all(ScriptedNode& node) {
  if (page_ == ScriptedNode::kPages) return true;
  if (!node.entry(page_).owner) send(node, kPeer, transfer(node.entry(page_), {}), page_);
  ++page_;
  return false;
}

bool ComingToRest::ask_for_all(ScriptedNode& node) {
  if (page_ == ScriptedNode::kPages) return true;
  Message request;
  request.type = MessageType::kWriteRequest;
  request.transaction.value = ScriptedNode::kReachable;
  send(node, kPeer, request, page_);
  ++page_;
  return false;
}

bool ComingToRest::fault_on_all(ScriptedNode& node) {
  for (; page_ < ScriptedNode::kPages; ++page_) node.fault(page_, true);
  return turns_++ > 0;  // the loop has looked at them
}

bool ComingToRest::turn(ScriptedNode& node) {
  node.stall(false);
  switch (stage_) {
    case Stage::kIntroduce:
      if (node.beyond_reach()) return false;  // nobody could answer
      if (introduce(node)) next(Stage::kAnswer);
      return true;
    case Stage::kAnswer:
      if (at_rest(node)) next(Stage::kOwnAll);
      return true;
    case Stage::kOwnAll:
      if (!own_all(node)) return true;
      for (std::uint32_t i = 0; i < ScriptedNode::kPages; ++i)
        require(node.entry(i).owner, "a page at rest takes a transfer");
      next(Stage::kHandAllOver);
      return true;
    case Stage::kHandAllOver:
      if (!ask_for_all(node)) return true;
      if (node.under_way_count() != ScriptedNode::kRounds) node.describe();
      require(node.under_way_count() == ScriptedNode::kRounds, "at rest every round of the pool is free");
      next(Stage::kGiveBack);
      return true;
    case Stage::kGiveBack:
      if (at_rest(node)) next(Stage::kFaultOnAll);
      return true;
    case Stage::kFaultOnAll:
      if (!fault_on_all(node)) return true;
      if (node.under_way_count() != kLocalShare) node.describe();
      require(node.under_way_count() == kLocalShare, "own faults get their share of the pool, and no more");
      next(Stage::kAnswerFaults);
      return true;
    case Stage::kAnswerFaults:
      if (!at_rest(node)) return true;
      require(node.region().counters[0].waiting.get() == 0, "at rest nobody waits for a page");
      require(node.loop().counters().hand_overs.get() == 0, "at rest no hand-over is under way");
      return false;
  }
  return false;
}

}  // namespace pagewire::test
