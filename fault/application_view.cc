// Claiming address ranges and keeping tombstones; see application_view.h. Any thread.
#include "fault/application_view.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <map>
#include <mutex>
#include <vector>

#include "fault/errno_text.h"
#include "fault/setup_error.h"

namespace pagewire::fault {
namespace {

struct Range {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;  // one past
};

// The process's tombstones: begin -> end, disjoint.
struct Tombstones {
  std::mutex mutex;
  std::map<std::uintptr_t, std::uintptr_t> ranges;
  pid_t process = ::getpid();
};

Tombstones& tombstones() {
  static Tombstones* const all = new Tombstones;  // never destroyed: a static region may die after any static
  return *all;
}

// A forked child does not inherit the mappings (MADV_DONTFORK), so it starts with none. Under the lock.
void forget_after_fork(Tombstones& all) {
  if (all.process == ::getpid()) return;
  all.ranges.clear();
  all.process = ::getpid();
}

// The parts of `wanted` that no tombstone covers. Under the lock.
std::vector<Range> gaps_between(const Tombstones& all, Range wanted) {
  std::vector<Range> gaps;
  std::uintptr_t at = wanted.begin;
  for (const auto& [begin, end] : all.ranges) {
    if (end <= at) continue;
    if (begin >= wanted.end) break;
    if (begin > at) gaps.push_back({at, begin});
    at = end;
  }
  if (at < wanted.end) gaps.push_back({at, wanted.end});
  return gaps;
}

// Cuts `gone` out of the tombstones. Under the lock.
void erase_range(Tombstones& all, Range gone) {
  for (auto it = all.ranges.begin(); it != all.ranges.end() && it->first < gone.end;) {
    const auto [begin, end] = *it;
    if (end <= gone.begin) {
      ++it;
      continue;
    }
    it = all.ranges.erase(it);
    if (begin < gone.begin) all.ranges.emplace(begin, gone.begin);
    if (end > gone.end) all.ranges.emplace(gone.end, end);
  }
}

std::string hex(std::uintptr_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%" PRIxPTR, value);
  return text;
}

// The first lines of /proc/self/maps that overlap `wanted`.
std::string what_is_mapped(Range wanted) {
  constexpr int kLinesMax = 3;
  std::ifstream maps("/proc/self/maps");
  std::string found;
  int lines = 0;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR, &begin, &end) != 2) continue;
    if (end <= wanted.begin || begin >= wanted.end) continue;
    if (++lines > kLinesMax) return found + ", and more";
    found += (found.empty() ? "" : ", ") + ("'" + line + "'");
  }
  return found;
}

[[noreturn]] void throw_claim_failed(const std::string& name, Range wanted, int error) {
  const std::string what =
      "Cannot map region '" + name + "' at " + hex(wanted.begin) + " to " + hex(wanted.end);
  if (error == EEXIST) {
    throw SetupError(
        what, "the address is taken by " + what_is_mapped(wanted),
        "Choose another region base address, the same on every node, or create the region before the rest "
        "of the process maps memory there");
  }
  throw SetupError(
      what, "mmap gave " + errno_text(error),
      "Choose a region base address inside the user address space (such as 0x200000000000), the same on "
      "every node, and look at 'ulimit -v' and vm.max_map_count");
}

// Holds `gap` by a mapping that can't be touched. 0 or the errno.
int reserve(Range gap) {
  void* const wanted = reinterpret_cast<void*>(gap.begin);
  void* const got = ::mmap(wanted, gap.end - gap.begin, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return errno;
  if (got == wanted) return 0;
  ::munmap(got, gap.end - gap.begin);
  return EEXIST;
}

}  // namespace

// The gaps are reserved first, without replacing anything; after that the whole range is ours and is mapped
// in one step, so that a thread on its way into a tombstone meets the tombstone or the new region and nothing
// between.
ApplicationView::ApplicationView(const std::string& name, std::uintptr_t base, std::size_t bytes, int memfd)
    : base_(base), bytes_(bytes) {
  const Range wanted{base, base + bytes};
  Tombstones& all = tombstones();
  const std::scoped_lock lock(all.mutex);
  forget_after_fork(all);
  const std::vector<Range> gaps = gaps_between(all, wanted);
  std::size_t reserved_count = 0;
  int error = 0;
  while (reserved_count < gaps.size() && (error = reserve(gaps[reserved_count])) == 0) ++reserved_count;
  if (error == 0) {
    void* const got = ::mmap(reinterpret_cast<void*>(base), bytes, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_FIXED, memfd, 0);
    if (got == MAP_FAILED) error = errno;
  }
  if (error != 0) {
    for (std::size_t i = 0; i < reserved_count; ++i) {
      ::munmap(reinterpret_cast<void*>(gaps[i].begin), gaps[i].end - gaps[i].begin);
    }
    throw_claim_failed(name, wanted, error);
  }
  replaced_tombstone_ = gaps.size() != 1 || gaps[0].begin != wanted.begin || gaps[0].end != wanted.end;
  erase_range(all, wanted);
}

ApplicationView::~ApplicationView() {
  if (forget_) return;
  if (!keep_) {
    ::munmap(data(), bytes_);
    return;
  }
  Tombstones& all = tombstones();
  const std::scoped_lock lock(all.mutex);
  all.ranges.emplace(base_, base_ + bytes_);
}

std::size_t tombstone_bytes() {
  Tombstones& all = tombstones();
  const std::scoped_lock lock(all.mutex);
  forget_after_fork(all);
  std::size_t bytes = 0;
  for (const auto& [begin, end] : all.ranges) bytes += end - begin;
  return bytes;
}

}  // namespace pagewire::fault
