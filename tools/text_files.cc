#include "tools/text_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

#include "pagewire/error.h"

namespace pagewire::tools {

namespace {

void append_file(const std::string& path, std::string& text) {
  struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Closer> file(std::fopen(path.c_str(), "rb"));
  int error = file ? 0 : errno;
  char part[1 << 16];
  for (std::size_t got = sizeof part; error == 0 && got == sizeof part;) {
    got = std::fread(part, 1, sizeof part, file.get());
    text.append(part, got);
    if (std::ferror(file.get()) != 0) error = errno;
  }
  if (error != 0) throw Error(path, std::generic_category().message(error), "Name readable text files");
}

}  // namespace

std::vector<std::string> default_text_files() {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(kTextFolder, error)) {
    // NAME is the text; NAME.dat is its index and NAME.u8 a link to it.
    if (entry.is_regular_file() && !entry.path().has_extension()) files.push_back(entry.path().string());
  }
  if (files.empty()) {
    throw Error("the demo's text", fmt::format("nothing in {}", kTextFolder),
                fmt::format("Name text files, or install Debian's {} (apt-get install {})", kTextPackage,
                            kTextPackage));
  }
  std::ranges::sort(files);
  return files;
}

std::string read_text(const std::vector<std::string>& files) {
  std::string text;
  for (const std::string& path : files) {
    append_file(path, text);
    text += '\n';
  }
  if (text.size() == files.size()) throw Error(files.front(), "empty", "Name a file with text in it");
  return text;
}

}  // namespace pagewire::tools
