// The one store that stopped a thread, carried out by the thread itself in its signal handler, in place of
// the instruction. So the loop knows that the store is done while it still has the drive, and can hand the
// page on at once: who waits for it need not wait until the thread is interrupted, which costs more than all
// the rest (docs/latency.md).
//
// Only what is simple and frequent is done here: a plain MOV of a register or a constant to memory, and XCHG,
// of 1, 2, 4 or 8 bytes, aligned. Everything else runs as ever. Intel SDM volume 2, MOV and XCHG; decoded by
// Zydis, which allocates nothing. x86-64; elsewhere there is never one.
//
// Within the signal handler of the thread concerned; allocates nothing, takes no lock.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace pagewire::fault {

struct HandlerStore {
  std::uintptr_t address = 0;
  std::uint8_t bytes = 0;  // 1, 2, 4 or 8; the address is a multiple of it
  std::uint8_t instruction_bytes = 0;
  std::int8_t exchanged = -1;  // index in gregs of the register that gets the old value (XCHG); -1: none
  std::uint64_t value = 0;
};

// What the interrupted instruction stores at `fault_address`, if it is one of those. Changes errno.
std::optional<HandlerStore> store_of(const ucontext_t& context, std::uintptr_t fault_address) noexcept;

// Stores, atomically, where `view` shows the page's first byte (the service view, which never faults), and
// lets the thread go on behind the instruction. The page must be this node's to write, and stay so meanwhile.
void carry_out(const HandlerStore& store, std::byte* view, ucontext_t& context) noexcept;

}  // namespace pagewire::fault
