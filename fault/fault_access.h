// Whether the instruction that faulted is a load or a store, out of what the kernel tells a signal handler.
// Allocates nothing; any thread, signal handlers included.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace pagewire::fault {

// AArch64's answer, out of uc_mcontext.__reserved: a list of records {magic, size, ...} that ends with a zero
// one. The kernel's esr_context holds the syndrome of the abort: WnR, and CM for cache maintenance, which
// says WnR but stores nothing. Without such a record: a store, because a page for a store serves a load too.
// Source: arch/arm64/include/uapi/asm/sigcontext.h of the Linux kernel; Arm ARM, "ESR_ELx, ISS encoding for
// an exception from a Data Abort".
inline bool esr_says_store(std::span<const std::byte> records) noexcept {
  constexpr std::uint32_t kEsrMagic = 0x4553'5201;
  constexpr std::uint64_t kWriteNotRead = std::uint64_t{1} << 6;
  constexpr std::uint64_t kCacheMaintenance = std::uint64_t{1} << 8;
  struct Head {
    std::uint32_t magic;
    std::uint32_t size;  // with the head
  };
  Head head{};
  std::uint64_t syndrome = 0;
  while (records.size() >= sizeof head + sizeof syndrome) {
    std::memcpy(&head, records.data(), sizeof head);
    if (head.magic == kEsrMagic) {
      std::memcpy(&syndrome, records.data() + sizeof head, sizeof syndrome);
      return (syndrome & kWriteNotRead) != 0 && (syndrome & kCacheMaintenance) == 0;
    }
    if (head.size < sizeof head || head.size > records.size()) break;
    records = records.subspan(head.size);
  }
  return true;
}

inline bool fault_is_store(const ucontext_t& context) noexcept {
#if defined(__x86_64__)
  constexpr greg_t kWrite = 1 << 1;  // of the page fault's error code
  return (context.uc_mcontext.gregs[REG_ERR] & kWrite) != 0;
#elif defined(__aarch64__)
  return esr_says_store(std::as_bytes(std::span(context.uc_mcontext.__reserved)));
#else
#error "fault_access.h: inline delivery has to know a load from a store; add this processor's way of telling"
#endif
}

}  // namespace pagewire::fault
