// oneTBB's allocation, as ThreadSanitizer sees it: these two take the place of libtbb's own, which hand
// memory out of libtbbmalloc. That one is compiled without instrumentation: memory that one thread gives back
// and another gets would look like a race between the two. Any thread.
#include <tbb/cache_aligned_allocator.h>

#include <cstdlib>
#include <new>

namespace tbb::detail::r1 {

void* cache_aligned_allocate(std::size_t bytes) {
  constexpr std::size_t kLine = 128;
  void* const memory = std::aligned_alloc(kLine, (bytes + kLine - 1) / kLine * kLine);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void cache_aligned_deallocate(void* memory) { std::free(memory); }

}  // namespace tbb::detail::r1
