// What a node knows of a page: 104 bytes at rest. A plain value: copyable, comparable, encodable. Only the
// page's loop changes it.
#pragma once

#include <cstdint>

#include "protocol/message.h"
#include "protocol/types.h"

namespace pagewire::protocol {

inline constexpr std::uint16_t kNoRound = 0xffff;

struct PageEntry {
  Permission permission = Permission::kInvalid;  // what the application view lets through
  bool owner = false;              // an owner that has not touched the page yet is Invalid all the same
  bool fresh = false;              // first-touch placement: nobody has asked for the page yet
  Sharing sharing{};               // owner: it travels with ownership
  NodeId hint = kNoNode;           // probable owner; never trusted
  NodeId heard_node = kNoNode;     // with `heard`: the last write request heard, of whichever node, so that a
                                   // doubled one does not invalidate twice
  std::uint16_t round = kNoRound;  // what is under way, in Rounds
  Epoch epoch{};                   // highest hand-over count known here
  Version version{};               // of the copy or the ownership held here
  Version floor{};                 // the promise: never again a copy below it (R5)
  Version data_version{};          // tenure under which the bytes in the service view were last written
  NodeSet copyset{};               // owner: nodes that may hold read copies, itself not among them
  Transaction last_transaction{};  // of this node's requests about this page
  Transaction heard{};
  Time hold_until{};      // what was just granted is not given away before (the waiting threads' turn)
  GrantedList granted{};  // owner: R10

  bool operator==(const PageEntry&) const = default;
};
static_assert(sizeof(PageEntry) <= 120, "a page at rest fits two cache lines with its published word");

// Who owns fresh pages.
enum class Placement : std::uint8_t {
  kCyclic = 0,      // page i: node i mod n
  kBlock = 1,       // n contiguous ranges
  kFirstTouch = 2,  // whoever asks first; until then as cyclic
  kOneNode = 3,     // one given node
};

// The node that owns page `index` of a region of `page_count` pages before anybody asked. `one` is for
// kOneNode.
constexpr NodeId initial_owner(Placement placement, NodeId one, std::uint32_t node_count, std::uint32_t index,
                               std::uint32_t page_count) {
  switch (placement) {
    case Placement::kBlock: {
      const std::uint64_t block = (static_cast<std::uint64_t>(page_count) + node_count - 1) / node_count;
      return NodeId{static_cast<std::uint8_t>(index / block)};
    }
    case Placement::kOneNode:
      return one;
    case Placement::kCyclic:
    case Placement::kFirstTouch:
      break;
  }
  return NodeId{static_cast<std::uint8_t>(index % node_count)};
}

// The entry of a page that nobody has touched: all nodes hold the same zero bytes, tagged version 1.
constexpr PageEntry initial_entry(NodeId self, NodeId owner, Placement placement) {
  PageEntry page;
  if (placement != Placement::kFirstTouch)
    page.hint = owner;  // there the owner is probably somebody else by then
  page.data_version = Version{1};
  if (self == owner) {
    page.owner = true;
    page.fresh = placement == Placement::kFirstTouch;
    page.epoch = Epoch{1};
    page.version = Version{1};
    page.floor = Version{1};
  }
  return page;
}

}  // namespace pagewire::protocol
