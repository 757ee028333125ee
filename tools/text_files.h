// The text that the demo counts. Any thread.
#pragma once

#include <string>
#include <vector>

namespace pagewire::tools {

// The Debian package whose text is the default.
inline constexpr const char* kTextPackage = "fortunes";
inline constexpr const char* kTextFolder = "/usr/share/games/fortunes";

// The files of that package, sorted. Throws Error if it is not installed.
std::vector<std::string> default_text_files();

// The files one after the other, a line's end between them. Throws Error: unreadable, not a file, nothing in
// it.
std::string read_text(const std::vector<std::string>& files);

}  // namespace pagewire::tools
