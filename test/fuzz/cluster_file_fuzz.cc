// The reader of cluster files: whatever the text, it gives a Config that keeps docs/configuration.md's
// limits, or a pagewire::Error that says what, where and what to do; and a Config that was read, written out
// and read again is the same. One thread.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pagewire/config.h"
#include "pagewire/config_file.h"
#include "pagewire/config_rules.h"
#include "pagewire/error.h"
#include "test/fuzz/input.h"

namespace pagewire::test {
namespace {

constexpr char kName[] = "fuzzed.toml";

std::optional<Config> read(std::string_view text) {
  try {
    return Config::from_text(text, kName);
  } catch (const Error& error) {  // any other exception ends the process
    require(error.what_failed().starts_with(kName), "an error names the file");
    require(!error.seen().empty() && !error.remedy().empty(), "an error says what was seen and what to do");
    return std::nullopt;
  }
}

bool is_name(std::string_view text) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !text.empty() && text.size() <= 48 && text.find_first_not_of(kLetters) == text.npos;
}

template <typename T>
bool between(T value, T least, T most) {
  return value >= least && value <= most;
}

// The limits as docs/configuration.md has them, written once more.
void check_limits(const Config& config) {
  require(is_name(config.cluster), "cluster");
  require(config.file_prefix.empty() || is_name(config.file_prefix), "file_prefix");
  require(between<std::size_t>(config.nodes.size(), 1, 64) && config.node < config.nodes.size(),
          "node, and nodes");
  std::vector<bool> seen(config.nodes.size());
  for (const NodeDescription& node : config.nodes) {
    require(node.id < seen.size() && !seen[node.id], "node ids are 0 to n-1, each once");
    seen[node.id] = true;
    require((node.port == "memif") == (config.nodes[0].port == "memif"), "all nodes use memif, or none");
    require(node.port == "memif" || node.port.starts_with("af_packet:") ||
                node.port.starts_with("eal:net_") || node.port.size() == 12,
            "nodes.port");
  }
  require(between(config.loops, 1U, 16U), "loops.count");
  require(config.loop_cores.empty() || config.loop_cores.size() == config.loops, "one core a loop");
  require(std::ranges::all_of(config.loop_cores, [](int core) { return between(core, 0, 1023); }),
          "loops.cores");
  require(between(config.memory_mb, 32U, 1'048'576U), "memory.mb");
  require(config.region_base % (2 << 20) == 0 &&
              between<std::uintptr_t>(config.region_base, 0x1'0000'0000, 0x6fff'ffe0'0000),
          "memory.region_base");
  require(config.join_timeout_ms >= 1 && config.silence_timeout_ms >= 10,
          "timeouts.join_ms, timeouts.silence_ms");
  require(between<std::uint64_t>(config.retry_us, 50, 60'000'000) &&
              between<std::uint64_t>(config.retry_max_us, config.retry_us, 60'000'000) &&
              config.hold_us <= 1'000'000,
          "timeouts.retry_us, timeouts.retry_max_us, timeouts.hold_us");
  const Impairment& impairment = config.impairment;
  require(between(impairment.drop, 0.0, 1.0) && between(impairment.duplicate, 0.0, 1.0) &&
              between(impairment.reorder, 0.0, 1.0),
          "impairment");
  const std::string folder = folder_of(config);
  require(!uses_memif(config) || (folder.starts_with('/') && folder.find_first_of(", \t\n") == folder.npos),
          "folder");
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '"' || c == '\\') {
      out += fmt::format("\\u{:04x}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

const char* word_of(auto choice) {
  using Choice = decltype(choice);
  return choice == Choice::kAuto ? "auto" : choice == Choice::kRequired ? "required" : "off";
}

std::string written(const Config& config) {
  std::string text =
      fmt::format("cluster = {}\nnode = {}\nfolder = {}\nfile_prefix = {}\n", quoted(config.cluster),
                  config.node, quoted(config.folder), quoted(config.file_prefix));
  for (const NodeDescription& node : config.nodes) {
    text += fmt::format("[[nodes]]\nid = {}\nport = {}\n", node.id, quoted(node.port));
  }
  text += fmt::format("[loops]\ncount = {}\n", config.loops);
  if (!config.loop_cores.empty()) text += fmt::format("cores = [{}]\n", fmt::join(config.loop_cores, ", "));
  text += fmt::format("[memory]\nmb = {}\nhugepages = \"{}\"\nkernel_faults = \"{}\"\nregion_base = {:#x}\n",
                      config.memory_mb, word_of(config.hugepages), word_of(config.kernel_faults),
                      config.region_base);
  text += fmt::format(
      "[timeouts]\njoin_ms = {}\nsilence_ms = {}\nleave_ms = {}\nretry_us = {}\nretry_max_us = {}\nhold_us = "
      "{}\n",
      config.join_timeout_ms, config.silence_timeout_ms, config.leave_timeout_ms, config.retry_us,
      config.retry_max_us, config.hold_us);
  const Impairment& impairment = config.impairment;
  return text + fmt::format("[impairment]\ndrop = {:e}\nduplicate = {:e}\nreorder = {:e}\nseed = {}\n",
                            impairment.drop, impairment.duplicate, impairment.reorder, impairment.seed);
}

void check_read(std::string_view text) {
  const std::optional<Config> config = read(text);
  if (!config) return;
  check_limits(*config);
  config->validate();
  const std::string once = written(*config);
  const std::optional<Config> again = read(once);
  require(again.has_value(), "a configuration that was read can be written and read again");
  require(written(*again) == once, "a configuration is the same when it is read again");
}

// Values at the limits and beside them, right and wrong for one key or another.
constexpr std::string_view kValues[] = {
    "0",
    "1",
    "2",
    "9",
    "10",
    "16",
    "17",
    "31",
    "32",
    "49",
    "50",
    "64",
    "-1",
    "1_000_000",
    "1_000_001",
    "1_048_576",
    "1_048_577",
    "3_600_000",
    "3_600_001",
    "60_000_000",
    "60_000_001",
    "0x7fff_ffff_ffff_ffff",
    "0x1_0000_0000",
    "0xffe0_0000",
    "0x2000_0000_1000",
    "0x6fff_ffe0_0000",
    "0x7000_0000_0000",
    "0.5",
    "1.0",
    "1.0000001",
    "-0.0000001",
    "nan",
    "inf",
    "[0, 1]",
    "[1024]",
    "[-1]",
    "[]",
    "'float'",
    "'auto'",
    "'required'",
    "'off'",
    "'memif'",
    "''",
    "'a,b'",
    "'/tmp/a'",
    "'0123456789012345678901234567890123456789012345678'",
    "true",
};

// A file made of known keys and such values, which bytes alone would seldom hit upon.
std::string composed(Input input) {
  constexpr std::string_view kPorts[] = {"memif",         "memif",        "af_packet:eth0",
                                         "eal:net_ring0", "0000:00:05.0", "x"};
  const std::uint8_t node_count = input.below(66);
  const std::string_view port = kPorts[input.below(std::size(kPorts))];
  std::string text;
  std::vector<std::string_view> keys = config_file_keys();
  std::erase_if(keys, [](std::string_view key) { return key.starts_with("nodes."); });
  while (!input.empty() && !keys.empty()) {  // each key once
    const auto key = keys.begin() + input.below(static_cast<std::uint32_t>(keys.size()));
    text += fmt::format("{} = {}\n", *key, kValues[input.below(std::size(kValues))]);
    keys.erase(key);
  }
  for (std::uint32_t id = 0; id < node_count; ++id)
    text += fmt::format("[[nodes]]\nid = {}\nport = \"{}\"\n", id, port);
  return text;
}

}  // namespace
}  // namespace pagewire::test

// An input that begins with a zero byte, which no TOML file does, says how to compose a file; any other is
// one.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool unset =
      ::unsetenv("XDG_RUNTIME_DIR") == 0;  // where sockets would go is no business of the input
  pagewire::test::require(unset, "the environment can be changed");
  pagewire::test::Input input({data, size});
  if (size > 0 && input.get() == 0) {
    pagewire::test::check_read(pagewire::test::composed(input));
  } else {
    pagewire::test::check_read({reinterpret_cast<const char*>(data), size});
  }
  return 0;
}
