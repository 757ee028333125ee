#include "tools/private_folder.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "pagewire/error.h"

namespace pagewire::tools {

// In /tmp and not in $TMPDIR: the sockets' whole path must be short.
PrivateFolder::PrivateFolder() : path_("/tmp/pagewire-XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) throw Error(path_, std::strerror(errno), "Make room in /tmp");
}

PrivateFolder::~PrivateFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace pagewire::tools
