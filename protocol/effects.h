// What a transition wants done, in order. The caller carries each effect out before the next, and all of them
// before the page's next transition.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "protocol/message.h"
#include "protocol/types.h"

namespace pagewire::protocol {

struct Effect {
  enum class Kind : std::uint8_t {
    kInstall,    // copy the bytes of the message being handled into the service view
    kMapRead,    // application view: Invalid -> Read
    kMapWrite,   // Invalid -> Write
    kUnprotect,  // Read -> Write
    kProtect,    // Write -> Read
    kZap,        // any -> Invalid
    kWake,       // threads that wait for the page try again
    kSend,       // `message` to `to`; with the page's bytes as they are at this moment if message.has_bytes
  };
  Kind kind = Kind::kWake;
  NodeSet to{};
  Message message{};
};

// A fixed-capacity list; a transition that overflows it is a bug, which aborts.
class Effects {
 public:
  static constexpr std::size_t kCapacity = 48;

  void clear() { count_ = 0; }
  void add(Effect::Kind kind);
  void send(NodeSet to, const Message& message);
  std::span<const Effect> all() const { return {effects_.data(), count_}; }
  bool empty() const { return count_ == 0; }

 private:
  std::array<Effect, kCapacity> effects_{};
  std::size_t count_ = 0;
};

}  // namespace pagewire::protocol
