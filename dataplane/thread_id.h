// The kernel's id of the calling thread, asked for once a thread. Allowed in a signal handler.
#pragma once

#include <unistd.h>

#include <cstdint>

namespace pagewire::dataplane {

inline std::uint32_t this_thread_id() {
  static thread_local std::uint32_t id = 0;
  if (id == 0) id = static_cast<std::uint32_t>(gettid());
  return id;
}

}  // namespace pagewire::dataplane
