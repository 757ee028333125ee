// Runs every file of a folder through a fuzz target, without libFuzzer: PROGRAM FOLDER [gtest's flags]. One
// thread.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "test/proof/row.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

std::string folder;

std::vector<std::uint8_t> bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST(Replay, every_kept_input_passes) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  ASSERT_FALSE(files.empty()) << "no inputs in " << folder;
  for (const auto& file : files) {
    // A target that finds something ends the process: the last line names the input.
    std::fprintf(stderr, "replay: %s\n", file.c_str());
    const std::vector<std::uint8_t> input = bytes_of(file);
    EXPECT_EQ(LLVMFuzzerTestOneInput(input.data(), input.size()), 0) << file;
  }
  pagewire::proof::row("fuzzing", "kept inputs of " + folder.substr(folder.rfind('/') + 1),
                       std::to_string(files.size()) + " inputs, each once");
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 2) {
    std::fprintf(stderr, "replay: a folder is missing: %s FOLDER\n", argv[0]);
    return 2;
  }
  folder = argv[1];
  return RUN_ALL_TESTS();
}
