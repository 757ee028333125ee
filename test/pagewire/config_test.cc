// Configuration: what a good file gives, and what each mistake is told. Blocks in the order of config.cc and
// config_file.cc.
#include "pagewire/config.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "pagewire/config_file.h"
#include "pagewire/config_rules.h"
#include "pagewire/error.h"

namespace pagewire {
namespace {

// A private folder that goes away with the test.
class Folder {
 public:
  Folder() {
    std::string shape = std::filesystem::temp_directory_path() / "pagewire-config-test-XXXXXX";
    path_ = ::mkdtemp(shape.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

constexpr const char* kTwoNodes = "[[nodes]]\nid = 0\n[[nodes]]\nid = 1\n";  // four lines

std::string message_of(const std::string& text) {
  try {
    Config::from_text(text, "cluster.toml");
  } catch (const Error& error) {
    EXPECT_FALSE(error.what_failed().empty());
    EXPECT_FALSE(error.seen().empty());
    EXPECT_FALSE(error.remedy().empty());
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "no error";
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.is_open()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void expect_equal(const Config& a, const Config& b) {
  EXPECT_EQ(a.cluster, b.cluster);
  EXPECT_EQ(a.node, b.node);
  EXPECT_EQ(a.folder, b.folder);
  EXPECT_EQ(a.file_prefix, b.file_prefix);
  EXPECT_EQ(a.delivery, b.delivery);
  EXPECT_EQ(a.loop_kind, b.loop_kind);
  EXPECT_EQ(a.scan_ahead, b.scan_ahead);
  EXPECT_EQ(a.hand_on, b.hand_on);
  EXPECT_EQ(a.real_time, b.real_time);
  EXPECT_EQ(a.loops, b.loops);
  EXPECT_EQ(a.loop_cores, b.loop_cores);
  EXPECT_EQ(a.memory_mb, b.memory_mb);
  EXPECT_EQ(a.hugepages, b.hugepages);
  EXPECT_EQ(a.kernel_faults, b.kernel_faults);
  EXPECT_EQ(a.region_base, b.region_base);
  EXPECT_EQ(a.join_timeout_ms, b.join_timeout_ms);
  EXPECT_EQ(a.silence_timeout_ms, b.silence_timeout_ms);
  EXPECT_EQ(a.leave_timeout_ms, b.leave_timeout_ms);
  EXPECT_EQ(a.retry_us, b.retry_us);
  EXPECT_EQ(a.retry_max_us, b.retry_max_us);
  EXPECT_EQ(a.hold_us, b.hold_us);
  EXPECT_EQ(a.impairment.drop, b.impairment.drop);
  EXPECT_EQ(a.impairment.duplicate, b.impairment.duplicate);
  EXPECT_EQ(a.impairment.reorder, b.impairment.reorder);
  EXPECT_EQ(a.impairment.seed, b.impairment.seed);
}

TEST(validate, made_in_code__good_and_bad) {
  const Folder folder;
  Config config = Config::local(1, 3, folder.path());
  EXPECT_NO_THROW(config.validate());
  ASSERT_EQ(config.nodes.size(), 3U);
  EXPECT_EQ(config.nodes[2].id, 2U);
  EXPECT_EQ(config.nodes[2].port, "memif");
  EXPECT_EQ(config.node, 1U);
  config.node = 3;
  try {
    config.validate();
    FAIL() << "node 3 of 3 passed";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "configuration: node: 3 among 3 nodes. Say which node this is: 0 to 2");
  }
}

TEST(validate, nodes__64_pass_65_do_not) {
  const Folder folder;
  EXPECT_NO_THROW(Config::local(63, 64, folder.path()).validate());
  EXPECT_THROW(Config::local(0, 65, folder.path()).validate(), Error);
  EXPECT_THROW(Config::local(0, 0, folder.path()).validate(), Error);
}

TEST(validate, ports__every_kind) {
  for (const char* port :
       {"af_packet:eth0", "eal:net_ring0", "eal:net_af_xdp,iface=eth0", "0000:00:05.0", "0000:3b:00.1"}) {
    Config config;
    config.nodes = {{.id = 0, .port = port}, {.id = 1, .port = port}};
    EXPECT_FALSE(find_problem(config)) << port;
  }
  for (const char* port : {"", "memif0", "af_packet:", "af_packet:a-name-of-sixteen", "af_packet:a,b", "eal:",
                           "eal:net_", "eal:crypto_null", "0000:00:05", "00:05.0", "0000:00:0g.0", "eth0"}) {
    Config config;
    config.nodes = {{.id = 0, .port = port}};
    const auto found = find_problem(config);
    ASSERT_TRUE(found) << port;
    EXPECT_EQ(found->key, "nodes[0].port") << port;
  }
}

TEST(validate, ranges__each_edge) {
  const Folder folder;
  struct Edge {
    const char* key;
    void (*good)(Config&);
    void (*bad)(Config&);
  };
  const Edge edges[] = {
      {"cluster", [](Config& c) { c.cluster = "a.B_c-9"; }, [](Config& c) { c.cluster = "a b"; }},
      {"cluster", [](Config& c) { c.cluster = std::string(48, 'x'); },
       [](Config& c) { c.cluster = std::string(49, 'x'); }},
      {"cluster", [](Config&) {}, [](Config& c) { c.cluster = ""; }},
      {"file_prefix", [](Config& c) { c.file_prefix = "p"; }, [](Config& c) { c.file_prefix = "a/b"; }},
      {"loops.count", [](Config& c) { c.loops = 16; }, [](Config& c) { c.loops = 17; }},
      {"loops.count", [](Config& c) { c.loops = 1; }, [](Config& c) { c.loops = 0; }},
      {"loops.cores",
       [](Config& c) {
         c.loops = 2, c.loop_cores = {0, 1};
       },
       [](Config& c) {
         c.loop_cores = {0, 1};
       }},
      {"loops.cores", [](Config& c) { c.loop_cores = {0}; }, [](Config& c) { c.loop_cores = {-1}; }},
      {"memory.mb", [](Config& c) { c.memory_mb = kMemoryMbMin; },
       [](Config& c) { c.memory_mb = kMemoryMbMin - 1; }},
      {"memory.region_base", [](Config& c) { c.region_base = 0x3000'0000'0000; },
       [](Config& c) { c.region_base = 0x3000'0000'1000; }},
      {"memory.region_base", [](Config& c) { c.region_base = kRegionBaseMin; },
       [](Config& c) { c.region_base = 0; }},
      {"memory.region_base", [](Config& c) { c.region_base = kRegionLimit - kRegionAlignment; },
       [](Config& c) { c.region_base = kRegionLimit; }},
      {"timeouts.join_ms", [](Config& c) { c.join_timeout_ms = 1; },
       [](Config& c) { c.join_timeout_ms = 0; }},
      {"timeouts.silence_ms", [](Config& c) { c.silence_timeout_ms = 10; },
       [](Config& c) { c.silence_timeout_ms = 9; }},
      {"timeouts.leave_ms", [](Config& c) { c.leave_timeout_ms = 0; },
       [](Config& c) { c.leave_timeout_ms = 3'600'001; }},
      {"timeouts.retry_us", [](Config& c) { c.retry_us = 50; }, [](Config& c) { c.retry_us = 49; }},
      {"timeouts.retry_max_us", [](Config& c) { c.retry_max_us = c.retry_us; },
       [](Config& c) { c.retry_max_us = c.retry_us - 1; }},
      {"timeouts.hold_us", [](Config& c) { c.hold_us = 0; }, [](Config& c) { c.hold_us = 1'000'001; }},
      {"impairment.drop", [](Config& c) { c.impairment.drop = 1; },
       [](Config& c) { c.impairment.drop = 1.001; }},
      {"impairment.duplicate", [](Config&) {}, [](Config& c) { c.impairment.duplicate = -0.1; }},
      {"impairment.reorder", [](Config&) {}, [](Config& c) { c.impairment.reorder = std::nan(""); }},
  };
  for (const Edge& edge : edges) {
    Config good = Config::local(0, 2, folder.path());
    edge.good(good);
    const auto not_expected = find_problem(good);
    EXPECT_FALSE(not_expected) << edge.key << ": " << not_expected->key << ' ' << not_expected->seen;
    Config bad = Config::local(0, 2, folder.path());
    edge.bad(bad);
    const auto found = find_problem(bad);
    ASSERT_TRUE(found) << edge.key;
    EXPECT_EQ(found->key, edge.key);
  }
}

TEST(validate, folder__each_way_to_be_unusable) {
  const Folder folder;
  const auto seen_for = [](const std::string& path) {
    const auto found = find_problem(Config::local(0, 2, path));
    return found ? found->key + ": " + found->seen : std::string("fine");
  };
  EXPECT_EQ(seen_for(folder.path()), "fine");
  EXPECT_EQ(seen_for(folder.path() + "/made_by_node"), "fine");
  EXPECT_EQ(seen_for(folder.path() + "/"), "fine");
  EXPECT_EQ(seen_for(folder.path() + "/no/such"),
            "folder: " + folder.path() + "/no/such (No such file or directory)");
  EXPECT_EQ(seen_for(folder.path() + "/a,b"), "folder: " + folder.path() + "/a,b (with a comma or a space)");
  EXPECT_NE(seen_for("/" + std::string(kFolderBytesMax, 'x')).find("81 bytes"), std::string::npos);
  EXPECT_EQ(seen_for("here"), "folder: here (not from the root)");
  { std::ofstream file(folder.path() + "/file"); }
  EXPECT_EQ(seen_for(folder.path() + "/file"), "folder: " + folder.path() + "/file (not a folder)");
  ASSERT_EQ(::chmod(folder.path().c_str(), 0750), 0);
  EXPECT_EQ(seen_for(folder.path()), "folder: " + folder.path() + " (mode 0750)");
  ASSERT_EQ(::chmod(folder.path().c_str(), 0700), 0);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(folder.path().c_str(), 65534, 65534), 0);
    EXPECT_EQ(seen_for(folder.path()), "folder: " + folder.path() + " (belongs to user 65534, we are 0)");
    ASSERT_EQ(::chown(folder.path().c_str(), 0, 0), 0);
  }
}

TEST(validate, folder__does_not_matter_without_memif) {
  Config config;
  config.folder = "/no/such/folder";
  config.nodes = {{.id = 0, .port = "af_packet:eth0"}};
  EXPECT_FALSE(find_problem(config));
}

TEST(folder_of, empty__from_the_environment) {
  Config config;
  config.cluster = "demo";
  const char* const before = std::getenv("XDG_RUNTIME_DIR");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
  EXPECT_EQ(folder_of(config), "/run/user/7/pagewire-demo");
  ::unsetenv("XDG_RUNTIME_DIR");
  EXPECT_EQ(folder_of(config), "/tmp/pagewire-" + std::to_string(::geteuid()) + "-demo");
  if (before != nullptr) ::setenv("XDG_RUNTIME_DIR", kept.c_str(), 1);
  config.folder = "/x";
  EXPECT_EQ(folder_of(config), "/x");
}

TEST(from_text, a_whole_file) {
  const Folder folder;
  const Config config = Config::from_text(
      "cluster = \"demo\"\nnode = 1\nfolder = \"" + folder.path() +
          "\"\nfile_prefix = \"pre\"\ndelivery = \"inline\"\nreal_time = false\nscan_ahead = false\n"
          "hand_on = false\n"
          "[[nodes]]\nid = 1\n[[nodes]]\nid = 0\nport = \"memif\"\n"
          "[loops]\nkind = \"dedicated\"\ncount = 2\ncores = [0, 1]\n"
          "[memory]\nmb = 256\nhugepages = \"off\"\nkernel_faults = \"required\"\n"
          "region_base = 0x3000_0000_0000\n"
          "[timeouts]\njoin_ms = 1\nsilence_ms = 20\nleave_ms = 3\nretry_us = 400\n"
          "retry_max_us = 5000\nhold_us = 6\n"
          "[impairment]\ndrop = 0.1\nduplicate = 0.05\nreorder = 1\nseed = 42\n",
      "cluster.toml");
  Config wanted = Config::local(1, 2, folder.path());
  wanted.cluster = "demo";
  wanted.file_prefix = "pre";
  wanted.delivery = Delivery::kInline;
  wanted.loop_kind = LoopKind::kDedicated;
  wanted.scan_ahead = false;
  wanted.hand_on = false;
  wanted.real_time = false;
  wanted.loops = 2;
  wanted.loop_cores = {0, 1};
  wanted.memory_mb = 256;
  wanted.hugepages = Hugepages::kOff;
  wanted.kernel_faults = KernelFaults::kRequired;
  wanted.region_base = 0x3000'0000'0000;
  wanted.join_timeout_ms = 1;
  wanted.silence_timeout_ms = 20;
  wanted.leave_timeout_ms = 3;
  wanted.retry_us = 400;
  wanted.retry_max_us = 5000;
  wanted.hold_us = 6;
  wanted.impairment = {.drop = 0.1, .duplicate = 0.05, .reorder = 1, .seed = 42};
  expect_equal(config, wanted);
  ASSERT_EQ(config.nodes.size(), 2U);
  EXPECT_EQ(config.nodes[0].id, 1U);
  EXPECT_EQ(config.nodes[0].port, "memif");
}

TEST(from_text, loops__by_one_word) {
  EXPECT_EQ(Config::from_text("loops = \"self\"\n" + std::string(kTwoNodes), "cluster.toml").loop_kind,
            LoopKind::kSelf);
}

TEST(from_text, mistakes__file_line_value_and_remedy) {
  const std::string two = kTwoNodes;
  const struct {
    std::string text;
    const char* start;  // of the message
    const char* also;   // somewhere in it
  } cases[] = {
      {"cluster = \n", "cluster.toml:1: not TOML: ", "Mend this line"},
      {"node = 0\nnode = 1\n", "cluster.toml:2: not TOML: ", "node"},
      {"", "cluster.toml: nodes: no nodes. ", "[[nodes]]"},
      {two + "colour = 1\n", "cluster.toml:5: nodes[1].colour: unknown key. ", "id, port"},
      {"colour = 1\n" + two, "cluster.toml:1: colour: unknown key. ", "[timeouts]"},
      {two + "[timeouts]\njoin = 1\n", "cluster.toml:6: timeouts.join: unknown key. ", "join_ms"},
      {two + "[tuning]\nx = 1\n", "cluster.toml:5: tuning: unknown key. ", "[memory]"},
      {"cluster = 7\n" + two, "cluster.toml:1: cluster: integer 7. ", "Use a string"},
      {"cluster = \"a b\"\n" + two, "cluster.toml:1: cluster: \"a b\". ", "letters"},
      {"node = \"0\"\n" + two, "cluster.toml:1: node: string '0'. ", "Use an integer"},
      {"node = 2\n" + two, "cluster.toml:1: node: 2 among 2 nodes. ", "0 to 1"},
      {"node = -1\n" + two, "cluster.toml:1: node: -1. ", "0 or more"},
      {"nodes = 3\n", "cluster.toml:1: nodes: integer 3. ", "[[nodes]]"},
      {"nodes = [3]\n", "cluster.toml:1: nodes[0]: integer 3. ", "table"},
      {"[[nodes]]\nport = \"memif\"\n", "cluster.toml:1: nodes[0].id: missing. ", "id"},
      {"[[nodes]]\nid = 0\n[[nodes]]\nid = 0\n", "cluster.toml:4: nodes[1].id: 0, as nodes[0] has it. ",
       "own"},
      {"[[nodes]]\nid = 0\n[[nodes]]\nid = 2\n", "cluster.toml:4: nodes[1].id: 2 among 2 nodes. ", "0 to 1"},
      {"[[nodes]]\nid = 4294967296\n", "cluster.toml:2: nodes[0].id: 4294967296. ", "smaller"},
      {"[[nodes]]\nid = 0\nport = \"wifi\"\n", "cluster.toml:3: nodes[0].port: \"wifi\". ",
       "af_packet:IFACE"},
      {two + "port = \"af_packet:eth0\"\n",
       "cluster.toml:5: nodes[1].port: \"af_packet:eth0\" beside \"memif\". ", "none"},
      {"loops = \"mine\"\n" + two, "cluster.toml:1: loops: \"mine\". ",
       "\"shared\", \"dedicated\" or \"self\""},
      {two + "[loops]\nkind = 1\n", "cluster.toml:6: loops.kind: integer 1. ", "a string"},
      {"real_time = \"no\"\n" + two, "cluster.toml:1: real_time: string 'no'. ", "true or false"},
      {"scan_ahead = 1\n" + two, "cluster.toml:1: scan_ahead: integer 1. ", "true or false"},
      {"hand_on = 0.5\n" + two, "cluster.toml:1: hand_on: floating-point 0.5. ", "true or false"},
      {"delivery = \"fast\"\n" + two, "cluster.toml:1: delivery: \"fast\". ", "\"thread\" or \"inline\""},
      {two + "[loops]\ncount = 17\n", "cluster.toml:6: loops.count: 17. ", "1 to 16"},
      {two + "[loops]\ncount = 1.5\n", "cluster.toml:6: loops.count: floating-point 1.5. ", "an integer"},
      {two + "[loops]\ncount = 2\ncores = [0]\n", "cluster.toml:7: loops.cores: 1 cores for 2 loops. ",
       "one core a loop"},
      {two + "[loops]\ncores = \"fly\"\n", "cluster.toml:6: loops.cores: string 'fly'. ", "\"float\""},
      {two + "[loops]\ncores = []\n", "cluster.toml:6: loops.cores: array . ", "\"float\""},
      {two + "[loops]\ncores = [\n0,\n\"one\"]\n", "cluster.toml:8: loops.cores: string 'one'. ", "integer"},
      {"loops = 2\n" + two, "cluster.toml:1: loops: integer 2. ", "[loops] table"},
      {two + "[memory]\nmb = 1\n", "cluster.toml:6: memory.mb: 1. ", "32 to"},
      {two + "[memory]\nhugepages = true\n", "cluster.toml:6: memory.hugepages: boolean true. ", "string"},
      {two + "[memory]\nhugepages = \"yes\"\n", "cluster.toml:6: memory.hugepages: \"yes\". ",
       "\"required\""},
      {two + "[memory]\nregion_base = 0x200000001000\n",
       "cluster.toml:6: memory.region_base: 0x200000001000. ", "multiple"},
      {two + "[timeouts]\njoin_ms = 0\n", "cluster.toml:6: timeouts.join_ms: 0. ", "1 to"},
      {two + "[timeouts]\nretry_max_us = 60\n",
       "cluster.toml:6: timeouts.retry_max_us: 60, less than retry_us = 2000. ", "retry_us"},
      {two + "[impairment]\ndrop = 2\n", "cluster.toml:6: impairment.drop: 2. ", "0 to 1"},
      {two + "[impairment]\ndrop = nan\n", "cluster.toml:6: impairment.drop: nan. ", "0 to 1"},
      {"folder = \"/no/such/folder\"\n" + two, "cluster.toml:1: folder: /no/such/folder (No such file",
       "mkdir"},
  };
  for (const auto& mistake : cases) {
    const std::string message = message_of(mistake.text);
    EXPECT_TRUE(message.starts_with(mistake.start)) << message << "\n  instead of " << mistake.start;
    EXPECT_NE(message.find(mistake.also), std::string::npos) << message;
  }
}

TEST(from_text, too_many_nodes) {
  std::string text;
  for (int id = 0; id < 65; ++id) text += "[[nodes]]\nid = " + std::to_string(id) + "\n";
  EXPECT_TRUE(message_of(text).starts_with("cluster.toml:1: nodes: 65 nodes. Use at most 64"))
      << message_of(text);
}

TEST(from_file, there_and_not_there) {
  const Folder folder;
  const std::string path = folder.path() + "/cluster.toml";
  { std::ofstream(path) << "folder = \"" << folder.path() << "\"\n" << kTwoNodes; }
  EXPECT_EQ(Config::from_file(path).nodes.size(), 2U);
  for (const std::string& bad : {folder.path() + "/none.toml", folder.path()}) {
    try {
      Config::from_file(bad);
      FAIL() << bad << " was read";
    } catch (const Error& error) {
      EXPECT_EQ(error.what_failed(), bad);
      EXPECT_EQ(error.seen(), bad == folder.path() ? "Is a directory" : "No such file or directory");
    }
  }
}

TEST(documentation, names_the_keys_that_the_code_knows) {
  const std::string text = read_file("docs/configuration.md");
  std::set<std::string> documented;
  const std::regex row("\n\\| `([a-z_.]+)` \\|");
  for (auto it = std::sregex_iterator(text.begin(), text.end(), row); it != std::sregex_iterator(); ++it) {
    EXPECT_TRUE(documented.insert((*it)[1]).second) << (*it)[1] << " is there twice";
  }
  const auto keys = config_file_keys();
  EXPECT_EQ(documented, std::set<std::string>(keys.begin(), keys.end()));
}

TEST(documentation, the_file_with_every_default_is_the_default) {
  const std::string text = read_file("docs/configuration.md");
  const std::string fence = "```toml\n";
  const std::size_t start = text.find(fence);
  ASSERT_NE(start, std::string::npos);
  const std::size_t end = text.find("```", start + fence.size());
  ASSERT_NE(end, std::string::npos);
  const std::string file = text.substr(start + fence.size(), end - start - fence.size());
  const Config read = Config::from_text(file, "docs/configuration.md");
  Config wanted;
  expect_equal(read, wanted);
  ASSERT_EQ(read.nodes.size(), 2U);
  EXPECT_EQ(read.nodes[1].port, NodeDescription{}.port);
  for (const std::string_view key : config_file_keys()) {
    const std::string name(key.substr(key.find('.') == key.npos ? 0 : key.find('.') + 1));
    EXPECT_TRUE(std::regex_search(file, std::regex("(^|\n)" + name + " = "))) << key << " is not in the file";
  }
}

}  // namespace
}  // namespace pagewire
