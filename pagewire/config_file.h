// Reading a cluster's description from TOML. Not a public header. Any thread.
#pragma once

#include <string_view>
#include <vector>

namespace pagewire {

// Every key that a file may have, as "cluster", "loops.count" or "nodes.id", sorted. docs/configuration.md
// explains each; a test holds the two together.
std::vector<std::string_view> config_file_keys();

}  // namespace pagewire
