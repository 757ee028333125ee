// A region's handle. Any thread.
#include <string>

#include "pagewire/node_impl.h"

namespace pagewire {

const std::string& Region::name() const { return impl_->name; }
std::byte* Region::data() const { return impl_->data; }
std::size_t Region::bytes() const { return impl_->bytes; }
Stats Region::stats() const { return collect_stats(*impl_->node, impl_->state); }

void Region::prefetch(std::size_t offset, std::size_t bytes, Access access) const {
  if (offset > impl_->bytes || bytes > impl_->bytes - offset) {
    throw Error("cannot prefetch from region \"" + impl_->name + "\"",
                "offset " + std::to_string(offset) + ", " + std::to_string(bytes) + " bytes",
                "The region has " + std::to_string(impl_->bytes) + " bytes");
  }
  if (bytes == 0) return;
  const std::size_t first = offset / fault::kPageBytes;
  const std::size_t last = (offset + bytes - 1) / fault::kPageBytes;
  impl_->node->engine->prefetch(*impl_->state, static_cast<std::uint32_t>(first),
                                static_cast<std::uint32_t>(last - first + 1),
                                static_cast<protocol::Access>(access));
}

}  // namespace pagewire
