#include "tools/numbers.h"

#include <fmt/format.h>

namespace pagewire::tools {

std::string grouped(std::uint64_t value) {
  std::string text = fmt::format("{}", value);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string time_text(std::uint64_t ns) {
  const double value = static_cast<double>(ns);
  if (ns < 1'000) return fmt::format("{} ns", ns);
  if (ns < 1'000'000) return fmt::format("{:.1f} µs", value * 1e-3);
  if (ns < 1'000'000'000) return fmt::format("{:.1f} ms", value * 1e-6);
  return fmt::format("{:.2f} s", value * 1e-9);
}

std::string bytes_text(std::uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  if (bytes < 1'000) return fmt::format("{} bytes", bytes);
  if (bytes < 1'000'000) return fmt::format("{:.1f} kB", value * 1e-3);
  if (bytes < 1'000'000'000) return fmt::format("{:.1f} MB", value * 1e-6);
  return fmt::format("{:.2f} GB", value * 1e-9);
}

}  // namespace pagewire::tools
