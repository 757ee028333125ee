// Being a guest in somebody's process: what is left behind, what a forked child sees, what happens without
// rights, without memory, on an old kernel, under mlockall(), and what the errors say.
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fault/region_memory.h"
#include "fault/setup_error.h"
#include "fault/userfaultfd_api.h"
#include "test/fault/test_support.h"

namespace pagewire::fault::testing {
namespace {

std::unique_ptr<RegionMemory> make_region(KernelFaults kernel_faults = KernelFaults::kAuto,
                                          std::size_t pages = 4) {
  return std::make_unique<RegionMemory>("guest", kBase, pages * kPageBytes, kernel_faults);
}

// The error of making a region; empty if there was none.
std::string error_of(KernelFaults kernel_faults, std::size_t pages = 4) {
  try {
    make_region(kernel_faults, pages);
    return "";
  } catch (const SetupError& error) {
    return error.what();
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// In a child: 0 if `text` has all `parts`, else 1 and the text.
int check_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    if (contains(text, part)) continue;
    std::fprintf(stderr, "'%s' is not in: %s\n", part.c_str(), text.c_str());
    return 1;
  }
  return 0;
}

// Loads and stores through a region with a fault thread work. Creates a thread.
bool faults_are_served(KernelFaults kernel_faults) {
  ServedRegion region(2, true, kernel_faults);
  store(region.memory.service_view(), 0, kPattern);
  store(region.memory.application_view(), 1, kPattern);
  return load(region.memory.application_view(), 0) == kPattern &&
         load(region.memory.service_view(), 1) == kPattern && region.sink.take().size() == 2;
}

// For the calling process, for good: system call `number` fails with `error`; if `second_argument` is not 0,
// then only if that is its second argument.
void refuse_system_call(long number, std::uint32_t second_argument, std::uint32_t error) {
  const auto offset_of_second =
      static_cast<std::uint32_t>(offsetof(seccomp_data, args) + sizeof(std::uint64_t));
  const std::uint8_t skip = second_argument == 0 ? 1 : 0;
  std::vector<sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset_of_second),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second_argument, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  if (skip != 0) program[3] = BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0, 0, 1);  // always
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
    throw SetupError("seccomp", "prctl failed", "");
  }
}

// True if this process is an ordinary user now.
bool become_nobody() {
  constexpr uid_t kNobody = 65534;
  if (::geteuid() != 0) return true;
  return ::setgroups(0, nullptr) == 0 && ::setgid(kNobody) == 0 && ::setuid(kNobody) == 0;
}

bool sysctl_lets_everybody() {
  std::ifstream file("/proc/sys/vm/unprivileged_userfaultfd");
  int value = 0;
  return (file >> value) && value == 1;
}

std::set<std::string> open_files() {
  std::set<std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // the directory's own descriptor
    const auto target = std::filesystem::read_symlink(entry.path(), gone);
    if (!contains(target.string(), "/proc/"))
      all.insert(entry.path().filename().string() + " " + target.string());
  }
  return all;
}

// Mappings but the heap and, under a sanitizer, what that maps for itself.
std::set<std::string> mappings() {
  std::set<std::string> all;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (contains(line, "[heap]")) continue;
    const bool ours =
        contains(line, "memfd:") || contains(line, "userfaultfd") || std::stoull(line, nullptr, 16) == kBase;
    if (!(kThreadSanitizer || kAddressSanitizer) || ours) all.insert(line);
  }
  return all;
}

TEST(Leaks, a_regions_life__leaves_no_descriptor_and_no_mapping) {
  const auto live = [] { EXPECT_TRUE(faults_are_served(KernelFaults::kAuto)); };
  live();  // the C library keeps the first thread's stack and arena
  live();
  const std::set<std::string> files = open_files();
  const std::set<std::string> maps = mappings();
  live();
  EXPECT_EQ(open_files(), files);
  EXPECT_EQ(mappings(), maps);
  {
    const auto region = make_region();
    EXPECT_EQ(open_files().size(),
              files.size() + 2);  // the memfd and the userfaultfd: the check above can fail
    EXPECT_GE(mappings().size(), maps.size() + 2);
    EXPECT_THROW(make_region(), SetupError);  // the address is taken
    EXPECT_EQ(open_files().size(), files.size() + 2);
  }
  EXPECT_EQ(open_files(), files);
  EXPECT_EQ(mappings(), maps);
}

TEST(Fork, child__has_neither_view) {
  const auto region = make_region();
  region->map_write(0, 4);
  EXPECT_EQ(status_text(run_in_child([&] { return load(region->application_view(), 0) == 0 ? 0 : 1; })),
            "signal 11");
  EXPECT_EQ(status_text(run_in_child([&] { return load(region->service_view(), 0) == 0 ? 0 : 1; })),
            "signal 11");
}

TEST(Fork, child_that_destroys_the_region__leaves_the_parents_alone) {
  auto region = make_region();
  region->map_write(0, 4);
  store(region->application_view(), 3, kPattern);
  const int status = run_in_child([&] {
    region->retire(true);
    region.reset();
    return 0;
  });
  EXPECT_EQ(status_text(status), "exit 0");
  EXPECT_EQ(load(region->application_view(), 3), kPattern);
  region->zap(3);
  region->map_read(3);
  EXPECT_EQ(load(region->application_view(), 3), kPattern);
}

TEST(Shape, wrong_sizes_and_addresses__are_refused) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, kPageBytes + 1, std::size_t{1} << 50}) {
    EXPECT_THROW(RegionMemory("guest", kBase, bytes, KernelFaults::kAuto), SetupError) << bytes;
  }
  for (const std::uintptr_t base : {std::uintptr_t{0}, kBase + 1, ~std::uintptr_t{0} - kPageBytes + 1}) {
    EXPECT_THROW(RegionMemory("guest", base, kPageBytes, KernelFaults::kAuto), SetupError) << base;
  }
}

TEST(Memory, more_than_there_is__names_what_is_there) {
  const std::string error = error_of(KernelFaults::kAuto, std::size_t{1} << 30);
  EXPECT_TRUE(contains(error, "No room for region 'guest' of 4398046511104 bytes")) << error;
  EXPECT_TRUE(contains(error, "are available")) << error;
}

TEST(Memory, file_size_limit__is_an_error_and_not_a_signal) {
  const int status = run_in_child([] {
    const rlimit limit{kPageBytes, kPageBytes};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    return check_parts(error_of(KernelFaults::kAuto), {"RLIMIT_FSIZE is 4096 bytes", "ulimit -f unlimited"});
  });
  EXPECT_EQ(status_text(status), "exit 0");
}

TEST(Memory, too_many_open_files__is_an_error) {
  const int status = run_in_child([] {
    const rlimit limit{3, 3};
    ::setrlimit(RLIMIT_NOFILE, &limit);
    return check_parts(error_of(KernelFaults::kAuto), {"EMFILE"});
  });
  EXPECT_EQ(status_text(status), "exit 0");
}

// mlockall() has mmap map every page at once, and MADV_DONTNEED refuse.
TEST(Memory, locked_memory__still_faults_and_zaps) {
  const int status = run_in_child([] {
    if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 77;
    if (!faults_are_served(KernelFaults::kAuto)) return 1;
    ServedRegion region(2);
    store(region.memory.application_view(), 1, kPattern);
    region.memory.zap(1);
    region.sink.take();
    if (load(region.memory.application_view(), 1) != kPattern) return 2;
    return region.sink.take().size() == 1 ? 0 : 3;
  });
  if (status_text(status) == "exit 77") GTEST_SKIP() << "no right to mlockall()";
  EXPECT_EQ(status_text(status), "exit 0");
}

TEST(Rights, ordinary_user__gets_user_mode_faults_or_an_error_that_helps) {
  const int status = run_in_child([] {
    if (!become_nobody()) return 77;
    const Support support = probe_support();
    const bool more_rights = sysctl_lets_everybody() || ::access("/dev/userfaultfd", R_OK | W_OK) == 0;
    if (support.kernel_faults != more_rights) return 2;
    if (!support.userfaultfd || !support.remedy.empty()) return 3;
    if (!faults_are_served(KernelFaults::kAuto)) return 4;
    if (make_region(KernelFaults::kAuto)->kernel_faults() != more_rights) return 5;
    if (more_rights) return faults_are_served(KernelFaults::kRequired) ? 0 : 6;
    return check_parts(
        error_of(KernelFaults::kRequired),
        {"userfaultfd(2) gave EPERM", "/dev/userfaultfd gave ", "sysctl vm.unprivileged_userfaultfd=1",
         "CAP_SYS_PTRACE", "chgrp GROUP /dev/userfaultfd"});
  });
  if (status_text(status) == "exit 77") GTEST_SKIP() << "cannot become another user here";
  EXPECT_EQ(status_text(status), "exit 0");
}

TEST(Rights, no_way_at_all__tells_each_that_was_tried) {
  const int status = run_in_child([] {
    if (!become_nobody()) return 77;
    refuse_system_call(SYS_userfaultfd, 0, EPERM);
    if (::access("/dev/userfaultfd", R_OK | W_OK) == 0) return 77;
    const Support support = probe_support();
    if (support.userfaultfd || !support.opened_by.empty() || support.remedy.empty()) return 2;
    return check_parts(error_of(KernelFaults::kAuto),
                       {"Cannot open a userfaultfd", "userfaultfd(2) gave EPERM", "user mode only gave EPERM",
                        "seccomp profile must allow userfaultfd(2)"});
  });
  if (status_text(status) == "exit 77") GTEST_SKIP() << "/dev/userfaultfd is open to everybody";
  EXPECT_EQ(status_text(status), "exit 0");
}

TEST(Rights, device__is_taken_where_the_call_is_refused) {
  if (::access("/dev/userfaultfd", R_OK | W_OK) != 0) GTEST_SKIP() << "no right to /dev/userfaultfd";
  const int status = run_in_child([] {
    refuse_system_call(SYS_userfaultfd, 0, EPERM);
    if (probe_support().opened_by != "/dev/userfaultfd" || !probe_support().kernel_faults) return 1;
    return faults_are_served(KernelFaults::kRequired) ? 0 : 2;
  });
  EXPECT_EQ(status_text(status), "exit 0");
}

// What a kernel before 5.19 answers: it does not know the features.
TEST(OldKernel, unknown_features__are_named) {
  const int status = run_in_child([] {
    refuse_system_call(SYS_ioctl, static_cast<std::uint32_t>(UFFDIO_API), EINVAL);
    const Support support = probe_support();
    if (!support.userfaultfd || support.minor_shmem || support.write_protect_shmem || support.remedy.empty())
      return 2;
    return check_parts(error_of(KernelFaults::kAuto), {"lacks features", "Linux " + support.kernel_release,
                                                       "WP_HUGETLBFS_SHMEM", "Linux 6.4 or later"});
  });
  EXPECT_EQ(status_text(status), "exit 0");
}

// What a kernel before 6.4 answers: all features, but not UFFDIO_CONTINUE with the write-protect mode.
TEST(OldKernel, continue_without_write_protection__is_named) {
  const int status = run_in_child([] {
    refuse_system_call(SYS_ioctl, static_cast<std::uint32_t>(UFFDIO_CONTINUE), EINVAL);
    const Support support = probe_support();
    if (!support.write_protect_shmem || support.continue_write_protect) return 2;
    return check_parts(support.remedy, {"Linux 6.4 or later"}) |
           check_parts(error_of(KernelFaults::kAuto),
                       {"UFFDIO_CONTINUE_MODE_WP", "EINVAL", "Linux 6.4 or later"});
  });
  EXPECT_EQ(status_text(status), "exit 0");
}

TEST(Support, probe__agrees_with_what_can_be_made) {
  const Support support = probe_support();
  EXPECT_FALSE(support.kernel_release.empty());
  EXPECT_TRUE(support.userfaultfd && support.minor_shmem && support.write_protect_shmem &&
              support.continue_write_protect)
      << support.remedy;
  EXPECT_EQ(support.remedy, "");
  EXPECT_EQ(make_region()->kernel_faults(), support.kernel_faults);
  EXPECT_EQ(error_of(KernelFaults::kRequired).empty(), support.kernel_faults);
}

}  // namespace
}  // namespace pagewire::fault::testing
