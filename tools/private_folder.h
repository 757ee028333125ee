// A folder of mode 0700 in /tmp that is gone, with all in it, when the object is. Any thread.
#pragma once

#include <string>

namespace pagewire::tools {

class PrivateFolder {
 public:
  PrivateFolder();  // throws Error
  ~PrivateFolder();
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace pagewire::tools
