// What a configuration must fulfil, and what stands in for a field that was left empty. Not a public header.
// Any thread.
#pragma once

#include <optional>
#include <string>

#include "pagewire/config.h"

namespace pagewire {

inline constexpr std::size_t kNodesMax = 64;
inline constexpr std::uint32_t kLoopsMax = 16;
inline constexpr std::uint32_t kMemoryMbMin = 32;
inline constexpr std::uint32_t kMemoryMbMax = 1 << 20;
// region_base is a multiple of this, and regions end below kRegionLimit.
inline constexpr std::uintptr_t kRegionAlignment = 2 << 20;
inline constexpr std::uintptr_t kRegionBaseMin = std::uintptr_t{1} << 32;
inline constexpr std::uintptr_t kRegionLimit = 0x7000'0000'0000;
// Of the folder's path: a socket's name must still fit behind it in a sockaddr_un.
inline constexpr std::size_t kFolderBytesMax = 80;

// A rule that is broken. `key` is the key of the file, as "loops.count" or "nodes[2].id"; "" for the file as
// a whole.
struct ConfigProblem {
  std::string key;
  std::string seen;
  std::string remedy;
};

// The first rule that is broken, in the order of the fields; looks at the folder, too, if the nodes use
// memif.
std::optional<ConfigProblem> find_problem(const Config& config);

bool uses_memif(const Config& config);

// config.folder, or if it is empty $XDG_RUNTIME_DIR/pagewire-CLUSTER, or without that
// /tmp/pagewire-UID-CLUSTER. Node creates it with mode 0700 if it is not there.
std::string folder_of(const Config& config);

// config.file_prefix, or if it is empty pagewire-CLUSTER-NODE-PID.
std::string file_prefix_of(const Config& config);

}  // namespace pagewire
