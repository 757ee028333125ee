// Scheduling of the threads that serve others. Each function is about the calling thread, which is one of
// ours.
#pragma once

namespace pagewire::fault {

// Asks the kernel to give the calling thread slices of 100 µs instead of some milliseconds: with as many
// computing threads as cores, a thread that just woke would otherwise wait for the end of another's slice.
// Needs no right; before Linux 6.12 it changes nothing. Source: sched_setattr(2), sched_runtime under
// SCHED_OTHER (EEVDF).
void ask_for_short_slices();

// Asks for the lowest real-time priority (SCHED_FIFO 1): on waking, the thread then goes before any that
// computes, at once. A kernel that preempts lazily otherwise lets the other compute on until the next tick,
// up to 4 ms. For threads that never spin. False if the process may not (CAP_SYS_NICE or RLIMIT_RTPRIO;
// sched(7)).
bool ask_for_real_time();

// Moves the calling thread to one core. Refused: it stays where it is, which costs latency only.
void stay_on_core(int core);

}  // namespace pagewire::fault
