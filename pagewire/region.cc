// A region's handle. Any thread.
#include <algorithm>
#include <string>
#include <utility>

#include "pagewire/node_impl.h"

namespace pagewire {

const std::string& Region::name() const { return impl_->name; }
std::byte* Region::data() const { return impl_->data; }
std::size_t Region::bytes() const { return impl_->bytes; }
Stats Region::stats() const { return collect_stats(*impl_->node, impl_->state); }

namespace {

// The pages that [offset, offset + bytes) touches.
dataplane::Loop::PageRange pages_of(const Region::Impl& region, const char* what, std::size_t offset,
                                    std::size_t bytes, Access access) {
  if (offset > region.bytes || bytes > region.bytes - offset) {
    throw Error(std::string("cannot ") + what + " region \"" + region.name + "\"",
                "offset " + std::to_string(offset) + ", " + std::to_string(bytes) + " bytes",
                "The region has " + std::to_string(region.bytes) + " bytes");
  }
  const std::size_t first = offset / fault::kPageBytes;
  const std::size_t end = bytes == 0 ? first : (offset + bytes - 1) / fault::kPageBytes + 1;
  return {.region = region.state,
          .first_page = static_cast<std::uint32_t>(first),
          .page_count = static_cast<std::uint32_t>(end - first),
          .access = static_cast<protocol::Access>(access)};
}

}  // namespace

struct Hold::Impl {
  Node::Impl* node;
  dataplane::Loop::PageRange pages;
};

Hold::Hold(std::unique_ptr<Impl> impl, bool held) : impl_(std::move(impl)), held_(held) {}
Hold::Hold(Hold&& other) noexcept = default;
Hold::~Hold() {
  if (impl_) impl_->node->engine->end_hold(impl_->pages);
}

Hold Region::hold(std::size_t offset, std::size_t bytes, Access access,
                  std::chrono::microseconds at_most) const {
  auto hold = std::make_unique<Hold::Impl>(
      Hold::Impl{.node = impl_->node, .pages = pages_of(*impl_, "hold pages of", offset, bytes, access)});
  const std::uint64_t until_ns =
      dataplane::now_ns() + static_cast<std::uint64_t>(std::max<std::int64_t>(at_most.count(), 0)) * 1'000;
  const bool held = impl_->node->engine->hold(hold->pages, until_ns);
  if (!held) hold.reset();
  return Hold(std::move(hold), held);
}

void Region::prefetch(std::size_t offset, std::size_t bytes, Access access) const {
  const auto pages = pages_of(*impl_, "prefetch from", offset, bytes, access);
  if (pages.page_count == 0) return;
  impl_->node->engine->prefetch(*impl_->state, pages.first_page, pages.page_count, pages.access);
}

}  // namespace pagewire
