// Bounds by name: what the tests explore, what `./run prove` explores, and what takes a night. Any thread.
#pragma once

#include <span>
#include <string_view>

#include "test/model/cell.h"

namespace pagewire::model {

struct Preset {
  const char* name;
  const char* what;
  Bounds bounds;
  bool in_test = false;  // some seconds at the most
};

std::span<const Preset> presets();
const Preset* find_preset(std::string_view name);

}  // namespace pagewire::model
