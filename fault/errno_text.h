// An errno value in words, for messages while setting up and for the last words before abort(). Any thread.
#pragma once

#include <cstring>
#include <string>

namespace pagewire::fault {

// The symbol of `error`, such as "EPERM"; never null, allocates nothing.
inline const char* errno_name(int error) {
  const char* name = ::strerrorname_np(error);
  return name != nullptr ? name : "unknown errno";
}

// Such as "EPERM (Operation not permitted)".
inline std::string errno_text(int error) {
  const char* words = ::strerrordesc_np(error);
  return std::string(errno_name(error)) + " (" + (words != nullptr ? words : std::to_string(error)) + ")";
}

}  // namespace pagewire::fault
