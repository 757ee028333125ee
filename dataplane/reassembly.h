// Gathers the fragments of pages that do not fit one frame. A bounded number of buffers, allocated once; the
// oldest gives way. Bytes reach the service view only when they are complete and the protocol says install.
// One loop owns it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "protocol/message.h"
#include "protocol/types.h"
#include "protocol/wire.h"

namespace pagewire::dataplane {

class Reassembly {
 public:
  explicit Reassembly(std::size_t buffer_count);

  // Adds one fragment of the page that travels with `message`. Returns the whole page (kPageBytes, valid
  // until the next call) if this one completed it, else an empty span. Fragments of different messages never
  // mix.
  std::span<const std::byte> add(const protocol::Header& header, const protocol::Message& message,
                                 std::span<const std::byte> fragment);

  std::uint64_t evicted_count() const { return evicted_count_; }
  std::size_t memory_bytes() const { return buffers_.size() * sizeof(Buffer); }

 private:
  static constexpr std::size_t kUnits = protocol::kPageBytes / protocol::kFragmentUnitBytes;
  struct Buffer {
    bool used = false;
    std::uint64_t age = 0;
    std::uint64_t boot_id = 0;
    protocol::PageId page{};
    protocol::Message message{};
    std::array<std::uint64_t, kUnits / 64> have{};
    std::array<std::byte, protocol::kPageBytes> bytes;
  };
  Buffer& find(const protocol::Header& header, const protocol::Message& message);

  std::vector<Buffer> buffers_;
  std::uint64_t clock_ = 0;
  std::uint64_t evicted_count_ = 0;
};

}  // namespace pagewire::dataplane
