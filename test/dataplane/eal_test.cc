// EAL starts once a process, so each test runs it in a child of its own, in a role that main() chooses.
#include "dataplane/eal.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <rte_mempool.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/eal_log.h"
#include "dataplane/ethdev.h"
#include "fault/setup_error.h"
#include "test/dataplane/peer_process.h"

namespace pagewire::dataplane {
namespace {

using test::PeerProcess;

// ---- in the child

struct Guest {  // all that a guest must leave as it was
  std::vector<struct sigaction> actions;
  sigset_t mask{};
  cpu_set_t affinity{};
  rlimit open_files{};
  std::string thread_name;
  FILE* out = stdout;
  FILE* err = stderr;
  unsigned lcore = 0;

  static Guest look() {
    Guest guest;
    for (int signal = 1; signal < NSIG; ++signal) {
      struct sigaction action {};
      sigaction(signal, nullptr, &action);
      guest.actions.push_back(action);
    }
    pthread_sigmask(SIG_SETMASK, nullptr, &guest.mask);
    sched_getaffinity(0, sizeof(guest.affinity), &guest.affinity);
    getrlimit(RLIMIT_NOFILE, &guest.open_files);
    char name[16] = {};
    pthread_getname_np(pthread_self(), name, sizeof(name));
    guest.thread_name = name;
    return guest;
  }
};

constexpr std::size_t kSignalSetBytes = 8;  // what the kernel fills in of a sigset_t

std::string differences(const Guest& a, const Guest& b) {
  std::string found;
  for (std::size_t i = 0; i < a.actions.size(); ++i) {
    if (a.actions[i].sa_handler != b.actions[i].sa_handler ||
        a.actions[i].sa_flags != b.actions[i].sa_flags ||
        std::memcmp(&a.actions[i].sa_mask, &b.actions[i].sa_mask, kSignalSetBytes) != 0) {
      found += " signal" + std::to_string(i + 1);
    }
  }
  if (std::memcmp(&a.mask, &b.mask, kSignalSetBytes) != 0) found += " mask";
  if (!CPU_EQUAL(&a.affinity, &b.affinity)) found += " affinity";
  if (a.open_files.rlim_cur != b.open_files.rlim_cur) found += " open_files";
  if (a.thread_name != b.thread_name) found += " thread_name";
  if (a.out != b.out || a.err != b.err) found += " streams";
  return found.empty() ? "none" : found;
}

void handle(int) {}

// Threads that came with EAL must not take the process's signals: all that can be blocked are.
std::string unblocked_threads() {
  std::string found;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == std::to_string(getpid())) continue;
    std::ifstream status(task.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("SigBlk:")) continue;
      const auto blocked = std::stoull(line.substr(7), nullptr, 16);
      constexpr std::uint64_t kUsual =
          (1ULL << (SIGTERM - 1)) | (1ULL << (SIGUSR1 - 1)) | (1ULL << (SIGINT - 1));
      if ((blocked & kUsual) != kUsual) found += " " + task.path().filename().string();
    }
  }
  return found.empty() ? "none" : found;
}

int guest_role() {
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  sigaction(SIGBUS, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = 512;
  setrlimit(RLIMIT_NOFILE, &files);
  const Guest before = Guest::look();
  const auto eal = Eal::start({.memory_mb = 48});
  std::cout << "differences: " << differences(before, Guest::look()) << std::endl;
  std::cout << "unblocked threads: " << unblocked_threads() << std::endl;
  std::cout << "same again: " << (Eal::start({.memory_mb = 32}) == eal) << std::endl;
  std::cout << "says what it costs: " << (eal->hugepages() == eal->limits().empty()) << std::endl;
  {
    const MbufPool pool(*eal, 2048);
    std::cout << "pool: " << pool.available_count() << std::endl;
  }
  std::thread([] {
    const LoopThreadRegistration registration;
    std::cout << "loop thread registered: " << registration.registered() << std::endl;
  }).join();
  return 0;
}

// An ordinary user whose runtime folder can't be written.
int nobody_role() {
  constexpr id_t kNobody = 65534;
  setenv("XDG_RUNTIME_DIR", "/proc", 1);
  if (setgid(kNobody) != 0 || setuid(kNobody) != 0) return 3;
  const auto eal = Eal::start({.memory_mb = 48, .hugepages = Hugepages::kNo});
  const MbufPool pool(*eal, 1024);
  std::cout << "pool: " << pool.available_count() << std::endl;
  return 0;
}

int twice_role() {  // the second wants more memory than there is
  const auto eal = Eal::start({.memory_mb = 48, .hugepages = Hugepages::kNo});
  Eal::start({.memory_mb = 64});
  return 0;
}

int no_memory_role() {
  // Without room to map, EAL itself fails, and would say so on stderr.
  rlimit room{.rlim_cur = 3ULL << 30, .rlim_max = 3ULL << 30};
  setrlimit(RLIMIT_AS, &room);
  Eal::start({.memory_mb = 4096, .hugepages = Hugepages::kNo});
  return 0;
}

int wrong_core_role() {
  Eal::start({.memory_mb = 32, .main_core = 1023});
  return 0;
}

int small_pool_role() {
  const auto eal = Eal::start({.memory_mb = 24, .hugepages = Hugepages::kNo});
  const MbufPool pool(*eal, 8192);
  return 0;
}

// eal_memory_mb() must be enough for the pools that it counts.
int sized_role() {
  const auto eal = Eal::start({.memory_mb = eal_memory_mb(4, 2048), .hugepages = Hugepages::kNo});
  std::vector<MbufPool> pools;
  pools.reserve(4);
  for (int i = 0; i < 4; ++i) pools.emplace_back(*eal, 2048);
  std::cout << "pools: " << pools.size() << std::endl;
  return 0;
}

// ---- in the test

// Everything the child writes, to stdout and to stderr.
std::vector<std::string> run(const std::string& role) {
  PeerProcess child({"--eal-role", role}, {"sh", "-c", R"(exec "$0" "$@" 2>&1)"});
  std::vector<std::string> lines;
  for (std::string line = child.line(); line != "<closed>"; line = child.line()) {
    lines.push_back(line);
    if (line == "<timeout>") return lines;
  }
  lines.push_back("exit " + std::to_string(child.wait()));
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(Eal, start__leaves_its_host_as_it_was_and_prints_nothing) {
  EXPECT_EQ(joined(run("guest")),
            "differences: none\n"
            "unblocked threads: none\n"
            "same again: 1\n"
            "says what it costs: 1\n"
            "pool: 2048\n"
            "loop thread registered: 1\n"
            "exit 0\n");
}

TEST(Eal, start__leaves_no_files) {
  PeerProcess child({"--eal-role", "sized"});
  const std::string prefix = "pagewire-" + std::to_string(child.process_id());
  EXPECT_EQ(child.line(), "pools: 4");
  EXPECT_EQ(child.wait(), 0);
  for (const char* folder : {"/var/run/dpdk", "/tmp/dpdk", "/dev/hugepages"}) {
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
      EXPECT_EQ(entry.path().string().find(prefix), std::string::npos) << entry.path();
    }
  }
}

TEST(Eal, start__works_for_an_ordinary_user_without_hugepages) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
  EXPECT_EQ(joined(run("nobody")), "pool: 1024\nexit 0\n");
}

TEST(Eal, memory__is_enough_for_what_it_was_asked_for) {
  EXPECT_EQ(joined(run("sized")), "pools: 4\nexit 0\n");
}

TEST(Eal, start__twice_refuses_more_memory_and_names_both) {
  const std::string text = joined(run("twice"));
  EXPECT_NE(text.find("SetupError: growing DPDK's memory: it runs with 48 MB, 64 MB are wanted"),
            std::string::npos)
      << text;
}

TEST(Eal, start__failing_gives_the_log_and_prints_nothing) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need the address space that this test takes away";
#endif
  const std::vector<std::string> lines = run("no_memory");
  ASSERT_FALSE(lines.empty());
  EXPECT_TRUE(lines.front().starts_with("SetupError: starting DPDK: ")) << joined(lines);
  EXPECT_NE(joined(lines).find("EAL: "), std::string::npos) << joined(lines);  // the log's own words
  EXPECT_EQ(lines.back(), "exit 1");
}

TEST(Eal, start__refuses_a_core_that_is_not_ours) {
  const std::string text = joined(run("wrong_core"));
  EXPECT_NE(text.find("core 1023 isn't ours to use"), std::string::npos) << text;
}

TEST(Eal, pool__too_large_names_what_is_needed) {
  const std::string text = joined(run("small_pool"));
  EXPECT_NE(text.find("SetupError: making a pool of 8192 frames"), std::string::npos) << text;
}

TEST(Eal, start__refuses_words_that_are_none) {
  EXPECT_THROW(Eal::start({.file_prefix = "a b"}), fault::SetupError);
  EXPECT_THROW(Eal::start({.pci_devices = {"--help"}}), fault::SetupError);
}

int child(const std::string& role) {
  const std::map<std::string, int (*)()> roles = {
      {"guest", guest_role},         {"nobody", nobody_role},         {"twice", twice_role},
      {"no_memory", no_memory_role}, {"wrong_core", wrong_core_role}, {"small_pool", small_pool_role},
      {"sized", sized_role}};
  try {
    return roles.at(role)();
  } catch (const fault::SetupError& error) {
    std::cout << "SetupError: " << error.what() << std::endl;
    return 1;
  }
}

}  // namespace
}  // namespace pagewire::dataplane

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--eal-role") return pagewire::dataplane::child(argv[2]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
