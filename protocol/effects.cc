#include "protocol/effects.h"

#include <cstdlib>

namespace pagewire::protocol {

void Effects::add(Effect::Kind kind) {
  if (count_ == kCapacity) std::abort();
  effects_[count_].kind = kind;
  ++count_;
}

void Effects::send(NodeSet to, const Message& message) {
  if (to.empty()) return;
  if (count_ == kCapacity) std::abort();
  effects_[count_].kind = Effect::Kind::kSend;
  effects_[count_].to = to;
  effects_[count_].message = message;
  ++count_;
}

}  // namespace pagewire::protocol
