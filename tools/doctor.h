// What the doctor finds. Not for services.
#pragma once

#include <string>
#include <vector>

#include "pagewire/config.h"

namespace pagewire::tools {

enum class Health : std::uint8_t { kOk, kWarn, kFail };

struct Finding {
  Health health = Health::kOk;
  std::string what;
  std::string seen;
  std::string remedy;  // empty if all is well
};

// Each looks at one part of the machine, changes nothing, and never throws.
std::vector<Finding> check_userfaultfd(const Config& config);
std::vector<Finding> check_memory(const Config& config);
std::vector<Finding> check_drivers(const Config& config);
std::vector<Finding> check_network(const Config& config);
std::vector<Finding> check_cores(const Config& config);
std::vector<Finding> check_real_time(const Config& config);
std::vector<Finding> check_region_addresses(const Config& config);

}  // namespace pagewire::tools
