// Stores that a handler carries out in place of the instruction: each form of it once on a region and once on
// ordinary memory, and memory and registers must be the same after; and what it must leave alone.
#include "fault/handler_store.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "test/fault/inline_support.h"

namespace pagewire::fault::testing {
namespace {

#if defined(__x86_64__)

constexpr std::uint64_t kValue = 0x1122'3344'5566'7788;
constexpr std::size_t kAt = 512;  // in the page
constexpr std::size_t kShown = 64;

// One instruction that stores at `at`; gives the register that took part.
struct Form {
  const char* name;
  bool by_handler;
  std::uint64_t (*run)(std::byte* at);
  std::size_t at = kAt;
};

#define PAGEWIRE_STORE(instruction, at, value)                      \
  ({                                                                \
    std::uint64_t used = (value);                                   \
    asm volatile(instruction                                        \
                 : [used] "+a"(used)                                \
                 : [at] "r"(at), [one] "r"(1UL), [two] "r"(at - 16) \
                 : "memory", "cc", "r8", "r12", "r13", "xmm0");     \
    used;                                                           \
  })
#define PAGEWIRE_FORM(instruction) [](std::byte* at) { return PAGEWIRE_STORE(instruction, at, kValue); }

const Form kForms[] = {
    {"mov_8", true, PAGEWIRE_FORM("movb %%al, (%[at])")},
    {"mov_16", true, PAGEWIRE_FORM("movw %%ax, (%[at])")},
    {"mov_32", true, PAGEWIRE_FORM("movl %%eax, (%[at])")},
    {"mov_64", true, PAGEWIRE_FORM("movq %%rax, (%[at])")},
    {"mov_constant_8", true, PAGEWIRE_FORM("movb $-3, (%[at])")},
    {"mov_constant_16", true, PAGEWIRE_FORM("movw $-300, (%[at])")},
    {"mov_constant_32", true, PAGEWIRE_FORM("movl $0x81234567, (%[at])")},
    {"mov_constant_64__sign_extended", true, PAGEWIRE_FORM("movq $-5, (%[at])")},
    {"mov_index_and_displacement", true, PAGEWIRE_FORM("movq %%rax, 8(%[two], %[one], 8)")},
    {"mov_long_displacement", true, PAGEWIRE_FORM("movq %%rax, 4096(%[two], %[one], 8)"), 3 * 4096 + 8},
    {"mov_by_r12", true, PAGEWIRE_FORM("movq %[at], %%r12\n movq %%rax, (%%r12)")},
    {"mov_by_r13_of_r8", true, PAGEWIRE_FORM("movq %[at], %%r13\n movq %%rax, %%r8\n movl %%r8d, (%%r13)")},
    {"mov_high_byte", false, PAGEWIRE_FORM("movb %%ah, (%[at])")},
    {"xchg_8", true, PAGEWIRE_FORM("xchgb %%al, (%[at])")},
    {"xchg_16", true, PAGEWIRE_FORM("xchgw %%ax, (%[at])")},
    {"xchg_32__clears_the_upper_half", true, PAGEWIRE_FORM("xchgl %%eax, (%[at])")},
    {"xchg_64", true, PAGEWIRE_FORM("xchgq %%rax, (%[at])")},
    {"xchg_64_locked", true, PAGEWIRE_FORM("lock xchgq %%rax, (%[at])")},
    {"mov_not_aligned", false, PAGEWIRE_FORM("movq %%rax, (%[at])"), kAt + 4},
    {"mov_segment", false, PAGEWIRE_FORM("movw %%ds, (%[at])")},
    {"add", false, PAGEWIRE_FORM("addq %%rax, (%[at])")},
    {"inc", false, PAGEWIRE_FORM("incq (%[at])")},
    {"lock_xadd", false, PAGEWIRE_FORM("lock xaddq %%rax, (%[at])")},
    {"lock_cmpxchg", false, PAGEWIRE_FORM("lock cmpxchgq %[one], (%[at])")},
    {"movnti", false, PAGEWIRE_FORM("movntiq %%rax, (%[at])")},
    {"movbe", false, PAGEWIRE_FORM("movbeq %%rax, (%[at])")},
    {"movdqu", false, PAGEWIRE_FORM("movq %%rax, %%xmm0\n movdqu %%xmm0, (%[at])")},
    {"movq_xmm", false, PAGEWIRE_FORM("movq %%rax, %%xmm0\n movq %%xmm0, (%[at])")},
    {"stos", false, PAGEWIRE_FORM("pushq %%rdi\n movq %[at], %%rdi\n stosq\n popq %%rdi")},
    {"pop", false, PAGEWIRE_FORM("pushq %%rax\n popq (%[at])")},
};

// Carries out what it can, maps the page for the rest.
class StoringSink : public InlineSink {
 public:
  explicit StoringSink(RegionMemory& memory) : memory_(memory) {}
  bool on_inline_fault(const Fault& fault, Interrupted& interrupted) noexcept override {
    const auto store = interrupted.store();
    if (store && fault.write) {
      interrupted.carry_out(*store, memory_.service_view() + std::size_t{fault.page} * kPageBytes);
      ++carried_out_count;
    } else {
      memory_.map_write(fault.page);
      ++mapped_count;
    }
    return true;
  }

  int carried_out_count = 0;
  int mapped_count = 0;

 private:
  RegionMemory& memory_;
};

class HandlerStores : public ::testing::TestWithParam<Form> {
 protected:
  static constexpr std::size_t kPages = 5;
  void fill(std::byte* bytes) const {
    for (std::size_t i = 0; i < kPages * kPageBytes; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 3);
  }
};
INSTANTIATE_TEST_SUITE_P(Forms, HandlerStores, ::testing::ValuesIn(kForms),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(HandlerStores, are_as_the_processor_has_them) {
  const Form& form = GetParam();
  std::array<std::byte, kPages * kPageBytes> plain{};
  fill(plain.data());
  RegionMemory memory = make_inline_memory(kPages);
  fill(memory.service_view());
  StoringSink sink(memory);
  const InlineFaults faults(3, memory, sink);
  EXPECT_EQ(form.run(memory.application_view() + form.at), form.run(plain.data() + form.at));
  EXPECT_EQ(std::memcmp(memory.service_view(), plain.data(), plain.size()), 0);
  EXPECT_EQ(sink.carried_out_count, form.by_handler ? 1 : 0);
  EXPECT_EQ(sink.mapped_count, form.by_handler ? 0 : 1);
}

// Several in a row, none of them mapped: the thread always goes on behind the instruction, and flags stay.
TEST(HandlerStore, the_thread_goes_on_behind_it) {
  RegionMemory memory = make_inline_memory(1);
  StoringSink sink(memory);
  const InlineFaults faults(3, memory, sink);
  std::uint64_t zero = 0;
  std::uint64_t carry = 0;
  asm volatile(
      "stc\n movq $1, (%[at])\n movl $2, 8(%[at])\n movb $3, 16(%[at])\n xchgq %[zero], 24(%[at])\n adcq $0, "
      "%[carry]"
      : [zero] "+r"(zero), [carry] "+r"(carry)
      : [at] "r"(memory.application_view())
      : "memory", "cc");
  EXPECT_EQ(carry, 1U) << "the carry flag went through four signals";
  EXPECT_EQ(sink.carried_out_count, 4);
  EXPECT_EQ(sink.mapped_count, 0);
  EXPECT_EQ(*word(memory.service_view(), 0, 0), 1U);
  EXPECT_EQ(*word(memory.service_view(), 0, 1), 2U);
  EXPECT_EQ(*word(memory.service_view(), 0, 2), 3U);
}

// A store that reaches into the next page stops at either, and is left to the processor.
TEST(HandlerStore, one_that_spans_two_pages_is_none) {
  RegionMemory memory = make_inline_memory(2);
  StoringSink sink(memory);
  const InlineFaults faults(3, memory, sink);
  std::byte* const at = memory.application_view() + kPageBytes - 4;
  asm volatile("movq %[value], (%[at])" : : [value] "r"(kValue), [at] "r"(at) : "memory");
  EXPECT_EQ(sink.carried_out_count, 0);
  EXPECT_EQ(sink.mapped_count, 2);
  std::uint64_t seen = 0;
  std::memcpy(&seen, memory.service_view() + kPageBytes - 4, sizeof seen);
  EXPECT_EQ(seen, kValue);
}

// Code at the end of its page, with nothing behind; and code that cannot be read, where the machine has such.
class CopiedCode {
 public:
  // mov %rsi, (%rdi); ret
  static constexpr std::array<unsigned char, 4> kStore = {0x48, 0x89, 0x37, 0xc3};
  explicit CopiedCode(int protection)
      : pages_(static_cast<std::byte*>(
            ::mmap(nullptr, 2 * kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    std::memcpy(code(), kStore.data(), kStore.size());
    ::mprotect(pages_ + kPageBytes, kPageBytes, PROT_NONE);
    ::mprotect(pages_, kPageBytes, protection);
  }
  ~CopiedCode() { ::munmap(pages_, 2 * kPageBytes); }
  CopiedCode(const CopiedCode&) = delete;
  CopiedCode& operator=(const CopiedCode&) = delete;
  void run(std::byte* at, std::uint64_t value) const {
    reinterpret_cast<void (*)(std::byte*, std::uint64_t)>(code())(at, value);
  }

 private:
  std::byte* code() const { return pages_ + kPageBytes - kStore.size(); }
  std::byte* pages_;
};

TEST(HandlerStore, nothing_behind_the_code_is_read) {
  RegionMemory memory = make_inline_memory(1);
  StoringSink sink(memory);
  const InlineFaults faults(3, memory, sink);
  const CopiedCode code(PROT_READ | PROT_EXEC);
  code.run(memory.application_view(), kValue);
  EXPECT_EQ(*word(memory.service_view(), 0), kValue);
  EXPECT_EQ(sink.carried_out_count, 1);
}

TEST(HandlerStore, code_that_cannot_be_read_runs_as_ever) {
  RegionMemory memory = make_inline_memory(1);
  StoringSink sink(memory);
  const InlineFaults faults(3, memory, sink);
  const CopiedCode code(PROT_EXEC);
  code.run(memory.application_view(), kValue);  // readable all the same where there are no protection keys
  EXPECT_EQ(*word(memory.service_view(), 0), kValue);
  EXPECT_EQ(sink.carried_out_count + sink.mapped_count, 1);
}

#endif  // elsewhere there is never one

}  // namespace
}  // namespace pagewire::fault::testing
