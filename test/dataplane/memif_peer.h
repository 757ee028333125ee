// One node of a memif test, in a process of its own since EAL starts once a process.
#pragma once

#include <span>

namespace pagewire::test {

// Arguments: --memif-peer ROLE FOLDER NODE NODE_COUNT [KEY=VALUE…]. The process's exit code.
int run_memif_peer(std::span<char*> arguments);

}  // namespace pagewire::test
