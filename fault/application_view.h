// The place of a region in the address space, at an address that is the same on every node. Claims it without
// harming a mapping that is there already, and gives it up again, or leaves a tombstone behind: an address
// range where every access raises SIGBUS, for threads that were still on their way into it.
//
// Construction and destruction by any thread; tombstones are shared by all regions of the process under one
// lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace pagewire::fault {

class ApplicationView {
 public:
  // Maps `bytes` of `memfd` readable and writable, shared, at exactly `base` (both multiples of the page
  // size). Tombstones in the range are replaced; anything else there is a SetupError that names it.
  ApplicationView(const std::string& name, std::uintptr_t base, std::size_t bytes, int memfd);
  // Unmaps the range, or keeps it as a tombstone.
  ~ApplicationView();
  ApplicationView(const ApplicationView&) = delete;
  ApplicationView& operator=(const ApplicationView&) = delete;

  std::byte* data() const { return reinterpret_cast<std::byte*>(base_); }
  // True if a tombstone was in the range: threads of an earlier region may still come.
  bool replaced_tombstone() const { return replaced_tombstone_; }

  // The destructor will leave a tombstone; the memfd must be empty (truncated to 0) by then.
  void keep_as_tombstone() { keep_ = true; }
  // The destructor will do nothing: in a forked child the range is not ours.
  void forget() { forget_ = true; }

 private:
  std::uintptr_t base_;
  std::size_t bytes_;
  bool replaced_tombstone_ = false;
  bool keep_ = false;
  bool forget_ = false;
};

// How many bytes of this process's address space are tombstones now. Any thread.
std::size_t tombstone_bytes();

}  // namespace pagewire::fault
