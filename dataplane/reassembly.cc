#include "dataplane/reassembly.h"

#include <algorithm>
#include <cstring>

namespace pagewire::dataplane {

Reassembly::Reassembly(std::size_t buffer_count) : buffers_(buffer_count) {}

Reassembly::Buffer& Reassembly::find(const protocol::Header& header, const protocol::Message& message) {
  Buffer* oldest = &buffers_.front();
  for (Buffer& buffer : buffers_) {
    if (buffer.used && buffer.page == header.page && buffer.boot_id == header.boot_id &&
        buffer.message == message) {
      return buffer;
    }
    if (!buffer.used ? oldest->used : (oldest->used && buffer.age < oldest->age)) oldest = &buffer;
  }
  if (oldest->used) ++evicted_count_;
  oldest->used = true;
  oldest->age = ++clock_;
  oldest->boot_id = header.boot_id;
  oldest->page = header.page;
  oldest->message = message;
  oldest->have.fill(0);
  return *oldest;
}

std::span<const std::byte> Reassembly::add(const protocol::Header& header, const protocol::Message& message,
                                           std::span<const std::byte> fragment) {
  if (fragment.size() == protocol::kPageBytes) return fragment;
  Buffer& buffer = find(header, message);
  std::memcpy(buffer.bytes.data() + header.fragment_offset, fragment.data(), fragment.size());
  const std::size_t first = header.fragment_offset / protocol::kFragmentUnitBytes;
  const std::size_t end = first + fragment.size() / protocol::kFragmentUnitBytes;
  for (std::size_t unit = first; unit < end; ++unit) buffer.have[unit / 64] |= std::uint64_t{1} << unit % 64;
  const bool whole =
      std::all_of(buffer.have.begin(), buffer.have.end(), [](std::uint64_t word) { return ~word == 0; });
  if (!whole) return {};
  buffer.used = false;
  return buffer.bytes;
}

}  // namespace pagewire::dataplane
