// Scheduling of the threads that serve others: a short slice, so that on waking they go before threads that
// compute.
#pragma once

namespace pagewire::fault {

// Asks the kernel to give the calling thread slices of 100 µs instead of some milliseconds: with as many
// computing threads as cores, a thread that just woke would otherwise wait for the end of another's slice.
// Needs no right; before Linux 6.12 it changes nothing. Source: sched_setattr(2), sched_runtime under
// SCHED_OTHER (EEVDF).
void ask_for_short_slices();

}  // namespace pagewire::fault
