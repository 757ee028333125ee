// Inline delivery: the thread that touches a page gets SIGBUS, and the process's one SIGBUS handler hands the
// fault to a sink on that thread. No other thread has to be woken, so it is the shortest way to serve a
// fault.
//
// The handler is installed with the first InlineFaults and what was there before is put back with the last.
// SIGBUS that is not ours (sent by kill(2), an address of nobody, a region that has ended) goes to the
// handler that was there before, with the signal mask that it would have had.
//
// The limits, each of which a service has to know:
//  * A fault inside a system call gives EFAULT: the kernel raises no signal for it. io_uring, O_DIRECT and
//  the
//    like meet the same. Touch the page first, and hold it for as long as the call runs.
//  * A thread that touches pages must not have SIGBUS blocked: for a fault the kernel then ends the process.
//  * The handler runs on the stack of the faulting thread, which needs a few KiB left; nothing switches to
//  the
//    alternate stack, neither for us nor for a handler of before that had SA_ONSTACK.
//  * A service that installs a SIGBUS handler of its own later has to call ours (sigaction(2) gave it to it)
//    for what it does not know, with all three arguments, and with all signals blocked: its sa_mask is full.
//    Otherwise a signal could interrupt the sink, and a page touched by its handler would wait for ever.
//  * A signal handler of the service that runs while the thread waits for a page must return; if it leaves by
//    longjmp or ends the thread, the region counts that thread as inside for ever.
//  * The code of the handler must stay loaded after the last InlineFaults: a thread may be on its way into
//  it.
//
// x86-64 and AArch64; the latter compiles by the kernel's documents and has not been run.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <cstddef>
#include <cstdint>

#include "fault/fault.h"
#include "fault/interrupted.h"
#include "fault/region_memory.h"

namespace pagewire::fault {

class InlineSink {
 public:
  virtual ~InlineSink() = default;
  // Called on the faulting thread, inside its SIGBUS handler, with all signals blocked; `interrupted` is what
  // it was about. A sink that waits long may set its signal mask (pthread_sigmask) for that time, so that
  // other signals are served, and has to block all again after. May be entered by many threads at once and,
  // while that mask is set, again by the same thread (a nested fault). Must not allocate,
  // throw, or take a lock that the interrupted code could hold. errno may be changed: the handler puts it
  // back.
  //
  // True: the instruction is tried again, also if the page was there already; unless the sink has carried it
  // out. False: the region has ended;
  // the signal goes to whoever had SIGBUS before.
  virtual bool on_inline_fault(const Fault& fault, Interrupted& interrupted) noexcept = 0;
};

// How many InlineFaults a process may have at once.
inline constexpr std::size_t kInlineRegionsMax = 256;  // some nodes of 64 regions each

// As long as it lives, SIGBUS in this region's application view goes to the sink. Any thread constructs and
// destroys it, outside of signal handlers.
class InlineFaults {
 public:
  // `memory` must have Delivery::kInline; it and `sink` must outlive this. Throws SetupError (too many of
  // them, sigaction refused, another delivery).
  InlineFaults(std::uint32_t region, const RegionMemory& memory, InlineSink& sink);
  // Returns when no thread is inside the sink for this region: tell the sink first to let them go. Threads
  // that fault from here on are not ours any more. In a forked child it waits for nobody.
  ~InlineFaults();
  InlineFaults(const InlineFaults&) = delete;
  InlineFaults& operator=(const InlineFaults&) = delete;

 private:
  std::size_t slot_ = 0;
  pid_t process_ = 0;
};

}  // namespace pagewire::fault
