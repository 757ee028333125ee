// Numbers as people read them. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace pagewire::tools {

std::string grouped(std::uint64_t value);     // 1,234,567
std::string time_text(std::uint64_t ns);      // 12.3 µs
std::string bytes_text(std::uint64_t bytes);  // 2.6 MB

}  // namespace pagewire::tools
