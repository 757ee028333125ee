// Carries a transition's effects out against a modelled mapping, and holds them to what the real memory would
// demand. Shared by the explorer and the randomized test; plain functions, any thread.
#pragma once

#include <cstdint>

#include "protocol/core.h"

namespace pagewire::model {

// What a node has of a page outside its entry: the application view's mapping, and the bytes as a count of
// the stores.
struct Memory {
  protocol::Permission mapping = protocol::Permission::kInvalid;
  std::uint8_t value = 0;
  bool operator==(const Memory&) const = default;
};

// The event that a transition handled, as far as its effects may depend on it.
struct Handled {
  const protocol::Message* message = nullptr;  // none: a fault or a time-out
  std::uint8_t value = 0;                      // the bytes that came with it
  bool wanted_bytes = false;                   // what wants_bytes() said before the transition
};

// Changes the mapping as the effect says; the complaint if it cannot follow what is mapped now, else nullptr.
inline const char* change_mapping(protocol::Effect::Kind kind, protocol::Permission& mapping) {
  using Kind = protocol::Effect::Kind;
  using protocol::Permission;
  const Permission before = mapping;
  switch (kind) {
    case Kind::kMapRead:
      mapping = Permission::kRead;
      return before == Permission::kInvalid ? nullptr : "EFFECTS: kMapRead of what is mapped";
    case Kind::kMapWrite:
      mapping = Permission::kWrite;
      return before == Permission::kInvalid ? nullptr : "EFFECTS: kMapWrite of what is mapped";
    case Kind::kUnprotect:
      mapping = Permission::kWrite;
      return before == Permission::kRead ? nullptr : "EFFECTS: kUnprotect of what is not mapped Read";
    case Kind::kProtect:
      mapping = Permission::kRead;
      return before == Permission::kWrite ? nullptr : "EFFECTS: kProtect of what is not mapped Write";
    case Kind::kZap:
      mapping = Permission::kInvalid;
      return before != Permission::kInvalid ? nullptr : "EFFECTS: kZap of what is not mapped";
    case Kind::kInstall:
    case Kind::kWake:
    case Kind::kSend:
      break;
  }
  return nullptr;
}

// R7 and R8 as the order of effects: what a message says must be true of the mapping when it is sent.
inline const char* check_send(const protocol::View& view, const protocol::PageEntry& after,
                              const protocol::Effect& effect, protocol::Permission mapping) {
  using protocol::MessageType;
  using protocol::Permission;
  if (effect.message.from != view.self) return "EFFECTS: sent in another's name";
  if (effect.to.empty() || !effect.to.without(view.others()).empty())
    return "EFFECTS: sent to nobody, self or a stranger";
  switch (effect.message.type) {
    case MessageType::kOwnershipTransfer:
      return mapping == Permission::kInvalid ? nullptr : "R8: transfer sent while the page is mapped";
    case MessageType::kCopyReply:
      return mapping != Permission::kWrite ? nullptr : "R3: copy sent while the page is writable";
    case MessageType::kAck:
      return mapping == Permission::kInvalid || after.version >= effect.message.version
                 ? nullptr
                 : "R7: promise sent while an older copy is mapped";
    default:
      return effect.message.has_bytes ? "EFFECTS: bytes with a message that carries none" : nullptr;
  }
}

// All effects in their order. `send(const Effect&, value)` is called for each kSend, with the bytes as they
// are then. Returns the first complaint, or nullptr; the effects are carried out to the end all the same.
template <typename Send>
const char* carry_out(const protocol::View& view, const protocol::PageEntry& after,
                      const protocol::Effects& effects, const Handled& handled, Memory& memory, Send&& send) {
  using Kind = protocol::Effect::Kind;
  const char* first = nullptr;
  const auto complain = [&](const char* complaint) { first = first == nullptr ? complaint : first; };
  for (const auto& effect : effects.all()) {
    if (effect.kind == Kind::kInstall) {
      if (handled.message == nullptr || !handled.message->has_bytes)
        complain("EFFECTS: kInstall without bytes");
      if (!handled.wanted_bytes) complain("EFFECTS: kInstall, but wants_bytes said no");
      if (memory.mapping != protocol::Permission::kInvalid) complain("EFFECTS: kInstall under a mapping");
      memory.value = handled.value;
    } else if (effect.kind == Kind::kSend) {
      complain(check_send(view, after, effect, memory.mapping));
      send(effect, effect.message.has_bytes ? memory.value : std::uint8_t{0});
    } else {
      complain(change_mapping(effect.kind, memory.mapping));
    }
  }
  if (memory.mapping != after.permission) complain("EFFECTS: the mapping is not what the entry says");
  return first;
}

}  // namespace pagewire::model
