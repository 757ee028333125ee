// Outcomes as text. Pure; any thread.
#include "test/litmus/outcome.h"

namespace pagewire::litmus {

namespace {
void append(std::string& text, const std::string& name, std::uint8_t value) {
  if (!text.empty()) text += ' ';
  text += name + '=' + (value == kGarbage ? "?" : std::to_string(value));
}
}  // namespace

std::string to_text(const Shape& shape, const Outcome& outcome) {
  std::string text;
  for (std::size_t i = 0; i < shape.register_count; ++i) {
    append(text, "r" + std::to_string(i), outcome.registers[i]);
  }
  for (std::size_t i = 0; shape.finals && i < shape.variable_count; ++i) {
    append(text, std::string(kVariableNames[i]), outcome.finals[i]);
  }
  return text;
}

}  // namespace pagewire::litmus
