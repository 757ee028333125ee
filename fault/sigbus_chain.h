// The process's SIGBUS handler, and the one that was there before. Of fault/ alone; see inline_faults.h for
// what a service has to know.
//
// A service may put a handler of its own above ours, or take it away again, at any time. A handler above that
// passes SIGBUS on to ours must not become what ours passes on to, or the two would call each other for ever.
// So there are a few functions, the levels, each with its own "before": who calls us again from further up
// meets another level, and the chain only ever goes down.
#pragma once

#include <ucontext.h>

#include <csignal>

namespace pagewire::fault {

// What the handler asks first, on the faulting thread with all signals blocked; defined by inline_faults.cc.
// True: served. False: not ours.
bool serve_inline_fault(const siginfo_t& info, ucontext_t& context) noexcept;

// The first hold installs the handler, the last release puts back what was there. While held, a handler that
// the service put above ours is trusted to call ours. Any thread, outside of signal handlers. hold_sigbus
// throws SetupError.
void hold_sigbus();
void release_sigbus() noexcept;

}  // namespace pagewire::fault
