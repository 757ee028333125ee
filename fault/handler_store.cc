// Reads, decodes and carries out one store; see handler_store.h.
#include "fault/handler_store.h"

#if defined(__x86_64__)
#include <Zydis/Zydis.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#endif

namespace pagewire::fault {

#if defined(__x86_64__)
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr greg_t kTrapFlag = 1 << 8;

// In the processor's own order: Intel SDM volume 2, table 2-2 and REX.
constexpr std::array<int, 16> kGregs = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                        REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                        REG_R12, REG_R13, REG_R14, REG_R15};

// The index in gregs of the register whose low bits this is; -1 for all others.
int greg_of(ZydisRegister name) {
  if (name >= ZYDIS_REGISTER_AH && name <= ZYDIS_REGISTER_BH) return -1;
  const ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, name);
  if (whole < ZYDIS_REGISTER_RAX || whole > ZYDIS_REGISTER_R15) return -1;
  return kGregs[static_cast<std::size_t>(whole - ZYDIS_REGISTER_RAX)];
}

struct Instruction {
  ZydisDecodedInstruction what;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
};

// Code may be executable alone; reading it here, with all signals blocked, would end the process.
// rt_sigprocmask(2) copies the new set in before it looks at what to do with it, and changes nothing for an
// operation that there is not.
bool is_readable(std::uintptr_t at) {
  const std::uintptr_t word = at & ~std::uintptr_t{7};  // on the same page
  constexpr int kNoOperation = ~0;
  return ::syscall(SYS_rt_sigprocmask, kNoOperation, word, nullptr, sizeof(std::uint64_t)) != 0 &&
         errno != EFAULT;
}

// Not beyond the page that it begins on: the next one need not be there.
bool read_instruction(std::uintptr_t at, Instruction& instruction) {
  if (!is_readable(at)) return false;
  std::array<std::byte, ZYDIS_MAX_INSTRUCTION_LENGTH> code;
  const std::size_t bytes = std::min<std::size_t>(code.size(), kPageBytes - at % kPageBytes);
  std::memcpy(code.data(), reinterpret_cast<const void*>(at), bytes);
  ZydisDecoder decoder;
  if (ZYAN_FAILED(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64))) return false;
  return ZYAN_SUCCESS(
      ZydisDecoderDecodeFull(&decoder, code.data(), bytes, &instruction.what, instruction.operands.data()));
}

// Where it stores; false if that takes more than general registers.
bool address_of(const ZydisDecodedOperand& operand, const Instruction& instruction, const greg_t* gregs,
                std::uint64_t& address) {
  const ZydisDecodedOperandMem& memory = operand.mem;
  if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY || memory.type != ZYDIS_MEMOP_TYPE_MEM) return false;
  if (memory.segment == ZYDIS_REGISTER_FS || memory.segment == ZYDIS_REGISTER_GS) return false;
  if (instruction.what.address_width != 64) return false;
  address = static_cast<std::uint64_t>(memory.disp.has_displacement ? memory.disp.value : 0);
  if (memory.base == ZYDIS_REGISTER_RIP) {
    address += static_cast<std::uint64_t>(gregs[REG_RIP]) + instruction.what.length;
  } else if (memory.base != ZYDIS_REGISTER_NONE) {
    const int base = greg_of(memory.base);
    if (base < 0) return false;
    address += static_cast<std::uint64_t>(gregs[base]);
  }
  if (memory.index == ZYDIS_REGISTER_NONE) return true;
  const int index = greg_of(memory.index);
  if (index < 0) return false;
  address += static_cast<std::uint64_t>(gregs[index]) * memory.scale;
  return true;
}

template <typename Word>
std::uint64_t exchange(std::byte* at, std::uint64_t value) {
  return std::atomic_ref<Word>(*reinterpret_cast<Word*>(at)).exchange(static_cast<Word>(value));
}

// A MOV is a store with release on this processor, as any; an XCHG orders everything.
template <typename Word>
void store(std::byte* at, std::uint64_t value) {
  std::atomic_ref<Word>(*reinterpret_cast<Word*>(at))
      .store(static_cast<Word>(value), std::memory_order_release);
}

template <typename Word>
std::uint64_t carry_out_word(const HandlerStore& what, std::byte* at) {
  if (what.exchanged >= 0) return exchange<Word>(at, what.value);
  store<Word>(at, what.value);
  return 0;
}

std::uint64_t carry_out_store(const HandlerStore& what, std::byte* at) {
  switch (what.bytes) {
    case 1:
      return carry_out_word<std::uint8_t>(what, at);
    case 2:
      return carry_out_word<std::uint16_t>(what, at);
    case 4:
      return carry_out_word<std::uint32_t>(what, at);
    default:
      return carry_out_word<std::uint64_t>(what, at);
  }
}

// As the processor does: 4 bytes clear the upper half, 1 and 2 leave the rest.
greg_t put_into_register(greg_t before, std::uint64_t value, std::uint8_t bytes) {
  if (bytes >= 4) return static_cast<greg_t>(value);
  const std::uint64_t mask = (std::uint64_t{1} << (bytes * 8)) - 1;
  return static_cast<greg_t>((static_cast<std::uint64_t>(before) & ~mask) | (value & mask));
}

}  // namespace

std::optional<HandlerStore> store_of(const ucontext_t& context, std::uintptr_t fault_address) noexcept {
  const greg_t* const gregs = context.uc_mcontext.gregs;
  if ((gregs[REG_EFL] & kTrapFlag) != 0) return {};  // somebody steps through it
  Instruction instruction;
  if (!read_instruction(static_cast<std::uintptr_t>(gregs[REG_RIP]), instruction)) return {};
  const bool exchanges = instruction.what.mnemonic == ZYDIS_MNEMONIC_XCHG;
  if (!exchanges && instruction.what.mnemonic != ZYDIS_MNEMONIC_MOV) return {};
  const ZydisDecodedOperand& to = instruction.operands[0];
  const ZydisDecodedOperand& from = instruction.operands[1];
  std::uint64_t address = 0;
  if (!address_of(to, instruction, gregs, address) || address != fault_address) return {};
  const auto bytes = static_cast<std::uint8_t>(to.size / 8);
  if ((bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) || address % bytes != 0) return {};
  HandlerStore store{.address = fault_address, .bytes = bytes, .instruction_bytes = instruction.what.length};
  if (from.type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
    store.value = from.imm.value.u;
    return store;
  }
  const int source = from.type == ZYDIS_OPERAND_TYPE_REGISTER ? greg_of(from.reg.value) : -1;
  if (source < 0) return {};
  store.value = static_cast<std::uint64_t>(gregs[source]);
  if (exchanges) store.exchanged = static_cast<std::int8_t>(source);
  return store;
}

void carry_out(const HandlerStore& store, std::byte* view, ucontext_t& context) noexcept {
  greg_t* const gregs = context.uc_mcontext.gregs;
  const std::uint64_t old = carry_out_store(store, view + store.address % kPageBytes);
  if (store.exchanged >= 0)
    gregs[store.exchanged] = put_into_register(gregs[store.exchanged], old, store.bytes);
  gregs[REG_RIP] += store.instruction_bytes;
}

#else  // a processor whose instructions nobody decodes here

std::optional<HandlerStore> store_of(const ucontext_t&, std::uintptr_t) noexcept { return {}; }
void carry_out(const HandlerStore&, std::byte*, ucontext_t&) noexcept {}

#endif

}  // namespace pagewire::fault
