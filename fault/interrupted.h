// What a thread was about when SIGBUS stopped it, for a sink of inline delivery. On that thread, within its
// handler.
#pragma once

#include <ucontext.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "fault/handler_store.h"

namespace pagewire::fault {

// The signals that were blocked in the interrupted code. The kernel writes fewer bytes than sigset_t has.
sigset_t interrupted_signals(const ucontext_t& context) noexcept;

class Interrupted {
 public:
  Interrupted(ucontext_t& context, std::uintptr_t fault_address) noexcept
      : context_(context), fault_address_(fault_address), signals_(interrupted_signals(context)) {}

  // Its signal mask.
  const sigset_t& signals() const noexcept { return signals_; }

  // The one store that it was about, if the handler can carry it out in its place.
  std::optional<HandlerStore> store() const noexcept { return store_of(context_, fault_address_); }
  // Does so, where `view` shows the page (handler_store.h).
  void carry_out(const HandlerStore& store, std::byte* view) noexcept {
    fault::carry_out(store, view, context_);
  }

 private:
  ucontext_t& context_;
  std::uintptr_t fault_address_;
  sigset_t signals_;
};

}  // namespace pagewire::fault
