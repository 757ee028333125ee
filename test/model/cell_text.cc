// Cells and envelopes as bytes to compare and as text to read. The structured bindings name every field, so
// that a field that is added to the protocol's types does not compile here until it is told apart too.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "test/model/cell.h"

namespace pagewire::model {
namespace {

using protocol::Deferred;
using protocol::GrantedList;
using protocol::kNoRound;
using protocol::Message;
using protocol::MessageType;
using protocol::NodeId;
using protocol::PageEntry;
using protocol::Round;
using protocol::Time;

// Counters stay small within the bounds; one byte holds them. Without a rule that stops it (R10) a page may
// move for ever.
void put(std::string& out, std::uint64_t value) {
  if (value > 0xff) throw std::length_error("a counter above 255");
  out.push_back(static_cast<char>(value));
}

void put(std::string& out, const GrantedList& granted) {
  for (const auto slot : granted.raw()) {
    put(out, slot >> 56);
    put(out, slot & 0xffffffffffffff);
  }
}

void put(std::string& out, const PageEntry& entry) {
  const auto& [permission, owner, fresh, sharing, hint, heard_node, round, epoch, version, floor,
               data_version, copyset, last_transaction, heard, hold_until, granted] = entry;
  put(out, static_cast<std::uint64_t>(permission) | (owner ? 4U : 0U) | (fresh ? 8U : 0U) |
               (round != kNoRound ? 16U : 0U) | (hold_until != Time{} ? 32U : 0U) |
               std::uint64_t{sharing.uses} << 6);
  for (const std::uint64_t value :
       {std::uint64_t{hint.value}, std::uint64_t{heard_node.value}, epoch.value, version.value, floor.value,
        data_version.value, copyset.bits(), last_transaction.value, heard.value}) {
    put(out, value);
  }
  put(out, granted);
}

void put(std::string& out, const Deferred& deferred) {
  const auto& [type, from, direct, transaction, version, data_version] = deferred;
  for (const std::uint64_t value :
       {static_cast<std::uint64_t>(type) | (direct ? 16U : 0U), std::uint64_t{from.value}, transaction.value,
        version.value, data_version.value}) {
    put(out, value);
  }
}

void put(std::string& out, const Round& round, std::uint32_t nodes) {
  const auto& [stage, page, local, wants_read, wants_write, asked_all, attempts, held_answers, target,
               transaction, followed, new_version, copyset, held_by, deferred_count, deferred, promised] =
      round;
  if (page.region != 0 || attempts != 0 || held_answers != 0) std::abort();
  put(out, static_cast<std::uint64_t>(stage) | (local ? 8U : 0U) | (wants_read ? 16U : 0U) |
               (wants_write ? 32U : 0U) | (asked_all ? 64U : 0U));
  for (const std::uint64_t value :
       {std::uint64_t{target.value}, transaction.value, followed.value, new_version.value, copyset.bits(),
        held_by.bits(), std::uint64_t{deferred_count}}) {
    put(out, value);
  }
  for (std::size_t i = 0; i < deferred_count; ++i) put(out, deferred[i]);
  for (std::size_t i = 0; i < nodes; ++i) put(out, promised[i].value);
}

std::string describe(const GrantedList& granted) {
  std::string text;
  for (const auto slot : granted.raw()) {
    if (slot == 0) continue;
    text += " " + std::to_string((slot >> 56) - 1) + ":" + std::to_string(slot & 0xffffffffffffff);
  }
  return text;
}

}  // namespace

const char* name_of(MessageType type) {
  static constexpr const char* kNames[] = {
      "?",           "CopyRequest", "CopyReply", "WriteRequest", "OwnershipTransfer",
      "TransferAck", "Invalidate",  "Ack",       "NotOwner",     "Held"};
  return kNames[static_cast<std::size_t>(type)];
}

std::string encode(const Bounds& bounds, const NodeCell& cell) {
  std::string out;
  put(out, std::uint64_t{cell.self.value} | static_cast<std::uint64_t>(cell.life) << 4);
  for (std::uint32_t p = 0; p < bounds.pages; ++p) {
    const auto& [entry, round, armed, dropped_for_heard, refused_read, refused_write, memory] = cell.pages[p];
    put(out, entry);
    put(out, static_cast<std::uint64_t>(memory.mapping) | (armed ? 4U : 0U) | (dropped_for_heard ? 8U : 0U) |
                 (refused_read ? 16U : 0U) | (refused_write ? 32U : 0U));
    put(out, std::uint64_t{memory.value});
    if (entry.round != kNoRound) put(out, round, bounds.nodes);
  }
  return out;
}

std::string encode(const Envelope& envelope) {
  std::string out;
  const auto& [to, page, bytes, life, message] = envelope;
  const auto& [type, from, direct, has_bytes, sharing, hint, transaction, version, data_version, epoch,
               copyset, granted, wait_ns] = message;
  for (const std::uint64_t value :
       {std::uint64_t{to}, std::uint64_t{page}, std::uint64_t{bytes}, std::uint64_t{life},
        static_cast<std::uint64_t>(type), std::uint64_t{from.value}, std::uint64_t{direct},
        std::uint64_t{has_bytes} | std::uint64_t{sharing.uses} << 1, std::uint64_t{hint.value},
        transaction.value, version.value, data_version.value, epoch.value, copyset.bits(),
        std::uint64_t{wait_ns}}) {
    put(out, value);
  }
  put(out, granted);
  return out;
}

const char* describe(protocol::Sharing sharing) {
  if (sharing == protocol::Sharing{}) return "";
  return sharing.is_migratory() ? " migratory" : " migratory once";
}

std::string describe(const Envelope& envelope) {
  const Message& m = envelope.message;
  char text[256];
  std::snprintf(
      text, sizeof text, "%s %d>%d page %d t%llu v%llu dv%llu e%llu cs%llx%s%s", name_of(m.type),
      m.from.value, envelope.to, envelope.page, static_cast<unsigned long long>(m.transaction.value),
      static_cast<unsigned long long>(m.version.value), static_cast<unsigned long long>(m.data_version.value),
      static_cast<unsigned long long>(m.epoch.value), static_cast<unsigned long long>(m.copyset.bits()),
      m.direct ? " direct" : "", m.has_bytes ? " bytes=" : "");
  std::string out = text;
  if (m.has_bytes) out += std::to_string(envelope.value);
  out += describe(m.sharing);
  if (m.type == MessageType::kNotOwner) out += " hint " + std::to_string(m.hint.value);
  if (envelope.life != 0) out += " life " + std::to_string(envelope.life);
  if (m.granted != GrantedList{}) out += " granted" + describe(m.granted);
  return out;
}

std::string describe(const Bounds& bounds, const NodeCell& cell) {
  static constexpr const char* kStages[] = {"-", "Requesting", "Collecting", "Holding", "HandingOver"};
  std::string out = "node " + std::to_string(cell.self.value) + (cell.life != 0 ? " restarted:" : ":");
  for (std::uint32_t p = 0; p < bounds.pages; ++p) {
    const PageEntry& e = cell.pages[p].entry;
    const bool busy = e.round != kNoRound;
    const Round& r = cell.pages[p].round;
    char text[256];
    std::snprintf(
        text, sizeof text, " {%c%s%s%s e%llu v%llu f%llu dv%llu cs%llx bytes=%d%s %s%s%s t%llu nv%llu",
        "IRW"[static_cast<int>(e.permission)], e.owner ? " owner" : "", e.fresh ? " fresh" : "",
        describe(e.sharing), static_cast<unsigned long long>(e.epoch.value),
        static_cast<unsigned long long>(e.version.value), static_cast<unsigned long long>(e.floor.value),
        static_cast<unsigned long long>(e.data_version.value),
        static_cast<unsigned long long>(e.copyset.bits()), cell.pages[p].memory.value,
        e.hold_until != Time{} ? " held" : "", busy ? kStages[static_cast<int>(r.stage)] : "-",
        busy && r.wants_read ? " wants-read" : "", busy && r.wants_write ? " wants-write" : "",
        static_cast<unsigned long long>(busy ? r.transaction.value : 0),
        static_cast<unsigned long long>(busy ? r.new_version.value : 0));
    out += text;
    for (std::size_t i = 0; busy && i < r.deferred_count; ++i) {
      out +=
          std::string(" +") + name_of(r.deferred[i].type) + " of " + std::to_string(r.deferred[i].from.value);
    }
    out += describe(e.granted) + "}";
  }
  return out;
}

std::string describe(const Action& action, NodeId self) {
  std::string at = "node " + std::to_string(self.value) + " page " + std::to_string(action.page) + ": ";
  switch (action.kind) {
    case Action::Kind::kReadFault:
      return at + "wants to read";
    case Action::Kind::kWriteFault:
      return at + "wants to write";
    case Action::Kind::kTimeout:
      return at + "time-out";
    case Action::Kind::kHoldOver:
      return at + "the hold is over";
    case Action::Kind::kTurnTaken:
      return at + "the threads have had their turn";
    case Action::Kind::kForget:
      return at + "forgets what was granted";
    case Action::Kind::kStore:
      return at + "stores " + std::to_string(action.value);
    case Action::Kind::kRestart:
      return "node " + std::to_string(self.value) + " restarts, the page now begins at node " +
             std::to_string(action.value);
    case Action::Kind::kLoseAll:
      return "all messages on their way are lost";
    case Action::Kind::kDeliver:
      return (action.envelope->to == self.value ? "deliver "
                                                : "node " + std::to_string(self.value) + " overhears ") +
             describe(*action.envelope);
  }
  return at;
}

}  // namespace pagewire::model
