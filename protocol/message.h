// What nodes say to each other about one page. Plain values; page bytes are not here, only whether they
// travel along.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "protocol/types.h"

namespace pagewire::protocol {

enum class MessageType : std::uint8_t {
  kCopyRequest = 1,   // a reader asks for a copy
  kCopyReply = 2,     // the owner's answer
  kWriteRequest = 3,  // a writer asks for ownership; whoever holds a copy drops it and acks to the writer
  kOwnershipTransfer = 4,  // the owner hands over
  kTransferAck = 5,        // accepted (now or earlier)
  kInvalidate = 6,         // a collecting owner asks for a floor
  kAck = 7,                // the promise of a floor
  kNotOwner = 8,  // the answer to a request that went to a hint alone, and wrongly; or that came to a node
                  // that is just handing the page over
  kHeld = 9,      // the answer to what has to wait until the threads here have had their turn: who asked may
                  // ask again then
};
inline constexpr std::size_t kMessageTypes = 10;

// The latest granted requests of a page (R10): travels with ownership, newest first, a short list.
class GrantedList {
 public:
  static constexpr std::size_t kCapacity = 4;

  // Remembers that `node`'s request was granted; the oldest entry falls out.
  constexpr void add(NodeId node, Transaction transaction) {
    std::uint64_t moved = pack(node, transaction);
    for (auto& slot : slots_) {
      const std::uint64_t previous = slot;
      slot = moved;
      moved = previous;
      if (moved == 0 || node_of(moved) == node) break;
    }
  }
  // True if this request of the node, or a later one, is known to have been granted.
  constexpr bool covers(NodeId node, Transaction transaction) const {
    for (const auto slot : slots_) {
      if (slot != 0 && node_of(slot) == node) return (slot & kTransactionMask) >= transaction.value;
    }
    return false;
  }
  constexpr const std::array<std::uint64_t, kCapacity>& raw() const { return slots_; }
  static constexpr GrantedList from_raw(const std::array<std::uint64_t, kCapacity>& raw) {
    GrantedList list;
    list.slots_ = raw;
    return list;
  }
  constexpr bool operator==(const GrantedList&) const = default;

 private:
  static constexpr std::uint64_t kTransactionMask = (std::uint64_t{1} << 56) - 1;
  // Node in the top byte, plus one, so that an empty slot is 0.
  static constexpr std::uint64_t pack(NodeId node, Transaction transaction) {
    return (static_cast<std::uint64_t>(node.value) + 1) << 56 | (transaction.value & kTransactionMask);
  }
  static constexpr NodeId node_of(std::uint64_t slot) {
    return NodeId{static_cast<std::uint8_t>((slot >> 56) - 1)};
  }
  std::array<std::uint64_t, kCapacity> slots_{};
};

// One message. Which fields mean something depends on the type; the others are zero.
struct Message {
  MessageType type = MessageType::kCopyRequest;
  NodeId from{};
  bool direct = false;        // requests: sent to the hinted owner alone, who says so if it is not
  bool has_bytes = false;     // kCopyReply, kOwnershipTransfer: the page travels with it
  Sharing sharing{};          // kOwnershipTransfer: see PageEntry
  NodeId hint = kNoNode;      // kNotOwner: who the sender thinks owns the page
  Transaction transaction{};  // requests; kCopyReply, kNotOwner, kOwnershipTransfer, kHeld: the request it
                              // answers
  Version version{};          // requests: the sender's floor; kCopyReply, kOwnershipTransfer: the version;
                              // kInvalidate: the floor asked for; kAck: the floor promised; kHeld: the floor
                              // it answers, if that was an invalidation
  Version data_version{};  // requests: the tag of the bytes that the sender still has; replies: of the page
  Epoch epoch{};      // kOwnershipTransfer, kTransferAck; kNotOwner: of the hand-over that the hint is from
  NodeSet copyset{};  // kOwnershipTransfer
  GrantedList granted{};      // kOwnershipTransfer
  std::uint64_t wait_ns = 0;  // kHeld: how long the page will stay, at most

  constexpr bool operator==(const Message&) const = default;
};

}  // namespace pagewire::protocol
