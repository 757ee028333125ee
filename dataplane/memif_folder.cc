#include "dataplane/memif_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "dataplane/interrupt_park.h"
#include "fault/setup_error.h"

namespace pagewire::dataplane {
namespace {

using fault::SetupError;
using protocol::NodeId;

constexpr std::uint64_t kMagic = 0x31'66'69'6d'65'6d'77'70;  // "pwmemif1"; changes with the layout
constexpr off_t kSetupByte = 0;
off_t life_byte(NodeId node) { return 1 + off_t{node.value}; }

std::string error_text() { return std::strerror(errno); }

bool lock_byte(int file, off_t byte, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return fcntl(file, F_OFD_SETLK, &lock) == 0;
}

// Whether anybody but us holds one of these bytes.
bool others_hold(int file, off_t byte, off_t count) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = count;
  return fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

void nap_for_lock() {  // a lock holder sets up or clears away, which takes microseconds
  constexpr timespec kNap{.tv_sec = 0, .tv_nsec = 1'000'000};
  nanosleep(&kNap, nullptr);
}

// All FIFOs and sockets, whoever made them. Only while nobody lives in the folder.
void clear(const std::string& path) {
  DIR* const folder = opendir(path.c_str());
  if (folder == nullptr) return;
  while (const dirent* const entry = readdir(folder)) {
    const std::string_view name = entry->d_name;
    if (name.starts_with("bell.") || name.starts_with("link.")) unlinkat(dirfd(folder), entry->d_name, 0);
  }
  closedir(folder);
}

}  // namespace

struct MemifFolder::Shared {
  struct alignas(64) Node {
    std::atomic<std::uint32_t> phase;
    std::atomic<std::int32_t> process_id;
    std::atomic<std::uint64_t> life;
  };
  struct alignas(64) Bell {  // a line of its own: armed by one loop, looked at by all senders
    std::atomic<std::uint32_t> sleeping;
  };
  std::uint64_t magic;
  std::uint32_t node_count;
  std::uint32_t queue_count;
  std::uint32_t ring_frames;
  std::uint32_t made_folder;  // by us, so that the last one takes it away
  std::array<Node, protocol::kNodesMax> nodes;
  static constexpr std::size_t kHeaderBytes = 24;  // what comes before the nodes
  // Then node_count * queue_count bells.
  Bell* bells() { return reinterpret_cast<Bell*>(this + 1); }
};

MemifFolder::MemifFolder(const MemifFolderOptions& options, std::uint64_t deadline_ns) : options_(options) {
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free && sizeof(Shared) % 64 == 0);
  static_assert(offsetof(Shared, nodes) >= Shared::kHeaderBytes);
  bells_.assign(std::size_t{options_.node_count} * options_.queue_count, -1);
  do {
    make_or_check_folder();
  } while (!open_shared_file(deadline_ns));
  try {
    take_place();
    make_own_bells();
  } catch (...) {
    close();
    throw;
  }
  lock_byte(file_, kSetupByte, F_UNLCK);
}

void MemifFolder::make_or_check_folder() {
  const char* const path = options_.path.c_str();
  if (mkdir(path, 0700) == 0) {
    made_folder_ = true;
  } else if (errno != EEXIST) {
    throw SetupError("making memif's folder " + options_.path, error_text(),
                     "Name a folder whose parent exists and is writable");
  }
  struct stat status {};
  if (lstat(path, &status) != 0) {
    if (errno == ENOENT)
      return;  // taken away by the last node of an earlier run: opening fails, and we come again
    throw SetupError("looking at memif's folder " + options_.path, error_text(), "Name a folder of your own");
  }
  if (!S_ISDIR(status.st_mode)) {
    throw SetupError("looking at memif's folder " + options_.path, "it is no folder", "Name a folder");
  }
  if (status.st_uid != geteuid()) {
    throw SetupError(
        "looking at memif's folder " + options_.path,
        "it belongs to user " + std::to_string(status.st_uid) + ", we are " + std::to_string(geteuid()),
        "Name a folder of your own: whoever owns it can read and write the shared memory");
  }
  if ((status.st_mode & 0077) != 0) {
    std::array<char, 8> mode;
    snprintf(mode.data(), mode.size(), "%04o", status.st_mode & 07777);
    throw SetupError("looking at memif's folder " + options_.path,
                     std::string("its mode is ") + mode.data() + ", open to other users",
                     "chmod 700 " + options_.path);
  }
}

// Opens the file and takes the set-up lock. False if it was taken away meanwhile.
bool MemifFolder::open_shared_file(std::uint64_t deadline_ns) {
  const std::string path = options_.path + "/doorbells";
  file_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file_ < 0) {
    if (errno == ENOENT && monotonic_ns() < deadline_ns) return false;
    throw SetupError("opening " + path, error_text(),
                     "Remove it if no node of yours runs, or name another folder");
  }
  while (!lock_byte(file_, kSetupByte, F_WRLCK)) {
    if (monotonic_ns() >= deadline_ns) {
      ::close(std::exchange(file_, -1));
      throw SetupError("taking a place in " + options_.path, "another node is setting up and doesn't get on",
                       "Look for a stopped process of this cluster");
    }
    nap_for_lock();
  }
  struct stat here {};
  struct stat there {};
  if (fstat(file_, &here) == 0 && stat(path.c_str(), &there) == 0 && here.st_ino == there.st_ino) return true;
  ::close(std::exchange(file_, -1));
  return false;
}

bool MemifFolder::anybody_else() const { return others_hold(file_, 1, protocol::kNodesMax); }

void MemifFolder::take_place() {
  if (!lock_byte(file_, life_byte(options_.node), F_WRLCK)) {
    throw SetupError(
        "taking the place of node " + std::to_string(options_.node.value) + " in " + options_.path,
        "a running process has it", "Stop that one, give this one another node, or use another folder");
  }
  if (!anybody_else()) start_afresh();
  map_shared_file();
  check_same_cluster();
  if (made_folder_) shared_->made_folder = 1;  // who made the folder needn't be who wrote the file
  Shared::Node& me = shared_->nodes[options_.node.value];
  me.phase.store(static_cast<std::uint32_t>(Phase::kAbsent));
  me.process_id.store(getpid());
  me.life.store(monotonic_ns() | 1);
}

// Nobody lives here: away with what killed processes left, and write the cluster's shape anew.
void MemifFolder::start_afresh() {
  clear(options_.path);
  Shared header{};
  if (pread(file_, &header, Shared::kHeaderBytes, 0) == static_cast<ssize_t>(Shared::kHeaderBytes) &&
      header.magic == kMagic) {
    made_folder_ = made_folder_ || header.made_folder != 0;
  }
  if (ftruncate(file_, 0) != 0 || ftruncate(file_, static_cast<off_t>(shared_bytes())) != 0) {
    throw SetupError("writing " + options_.path + "/doorbells", error_text(), "Make room on its file system");
  }
  header.magic = kMagic;
  header.node_count = options_.node_count;
  header.queue_count = options_.queue_count;
  header.ring_frames = options_.ring_frames;
  header.made_folder = made_folder_ ? 1 : 0;
  if (pwrite(file_, &header, Shared::kHeaderBytes, 0) != static_cast<ssize_t>(Shared::kHeaderBytes)) {
    throw SetupError("writing " + options_.path + "/doorbells", error_text(), "Make room on its file system");
  }
}

std::size_t MemifFolder::shared_bytes() const {
  return sizeof(Shared) + std::size_t{options_.node_count} * options_.queue_count * sizeof(Shared::Bell);
}

void MemifFolder::check_same_cluster() const {
  const auto check = [&](const char* what, std::uint32_t theirs, std::uint32_t ours) {
    if (theirs == ours) return;
    throw SetupError(
        std::string("joining the nodes in ") + options_.path,
        std::string(what) + " is " + std::to_string(theirs) + " there and " + std::to_string(ours) + " here",
        "Give all nodes the same configuration, or each cluster its own folder");
  };
  check("the number of nodes", shared_->node_count, options_.node_count);
  check("the number of loops", shared_->queue_count, options_.queue_count);
  check("the ring size", shared_->ring_frames, options_.ring_frames);
}

void MemifFolder::map_shared_file() {
  Shared header{};
  struct stat status {};
  if (pread(file_, &header, Shared::kHeaderBytes, 0) != static_cast<ssize_t>(Shared::kHeaderBytes) ||
      header.magic != kMagic || fstat(file_, &status) != 0 ||
      static_cast<std::size_t>(status.st_size) < sizeof(Shared)) {
    throw SetupError("reading " + options_.path + "/doorbells", "it isn't as this version writes it",
                     "Stop the nodes of another version that use this folder, or name another");
  }
  // Of another size if their cluster has another shape; the caller then refuses before it touches a bell.
  const std::size_t bytes = shared_bytes();
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (memory == MAP_FAILED) {
    throw SetupError("mapping " + options_.path + "/doorbells", error_text(), "Free memory and try again");
  }
  shared_ = static_cast<Shared*>(memory);
}

std::string MemifFolder::socket_path(NodeId server, NodeId client) const {
  return options_.path + "/link." + std::to_string(server.value) + "." + std::to_string(client.value);
}

std::string MemifFolder::bell_path(NodeId node, std::uint16_t queue) const {
  return options_.path + "/bell." + std::to_string(node.value) + "." + std::to_string(queue);
}

void MemifFolder::make_own_bells() {
  for (std::uint16_t queue = 0; queue < options_.queue_count; ++queue) {
    const std::string path = bell_path(options_.node, queue);
    unlink(path.c_str());  // a killed process's
    if (mkfifo(path.c_str(), 0600) != 0) {
      throw SetupError("making " + path, error_text(), "Name a folder on a local file system with room");
    }
    sleeping(options_.node, queue).store(0);
  }
  for (std::uint32_t node = 0; node < options_.node_count; ++node) {  // and its sockets
    unlink(socket_path(options_.node, NodeId{static_cast<std::uint8_t>(node)}).c_str());
  }
}

void MemifFolder::open_bells() {
  for (std::uint32_t node = 0; node < options_.node_count; ++node) {
    for (std::uint16_t queue = 0; queue < options_.queue_count; ++queue) {
      const NodeId id{static_cast<std::uint8_t>(node)};
      const std::string path = bell_path(id, queue);
      // For reading and writing: then opening waits for nobody and a vanished reader raises no SIGPIPE.
      const int bell = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
      if (bell < 0) {
        throw SetupError(
            "opening " + path, error_text(),
            "Start all nodes again: node " + std::to_string(node) + " went away while it was being linked");
      }
      bells_[bell_index(id, queue)] = bell;
    }
  }
}

void MemifFolder::set_phase(Phase phase) {
  shared_->nodes[options_.node.value].phase.store(static_cast<std::uint32_t>(phase));
}

MemifFolder::Phase MemifFolder::phase(NodeId node) const {
  return static_cast<Phase>(shared_->nodes[node.value].phase.load());
}

std::uint64_t MemifFolder::life(NodeId node) const { return shared_->nodes[node.value].life.load(); }

bool MemifFolder::alive(NodeId node) const {
  return node == options_.node || others_hold(file_, life_byte(node), 1);
}

std::atomic<std::uint32_t>& MemifFolder::sleeping(NodeId node, std::uint16_t queue) const {
  return shared_->bells()[bell_index(node, queue)].sleeping;
}

// The hand-over of doorbell.h, with a word in shared memory for the flag and a FIFO for the eventfd. What the
// sender puts where the loop looks is memif's ring index, stored by rte_eth_tx_burst().
void MemifFolder::arm(std::uint16_t queue, Ringing by) {
  sleeping(options_.node, queue).store(static_cast<std::uint32_t>(by), std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void MemifFolder::ring(std::uint16_t queue, NodeId peer, bool urgent) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  std::atomic<std::uint32_t>& word = sleeping(peer, queue);
  if (!is_rung(word.load(std::memory_order_relaxed), urgent) || word.exchange(0) == 0) return;
  const char one = 1;
  [[maybe_unused]] const ssize_t written =
      write(bells_[bell_index(peer, queue)], &one, 1);  // full: readable as well
}

void MemifFolder::disarm(std::uint16_t queue) {
  sleeping(options_.node, queue).store(0, std::memory_order_relaxed);
}

void MemifFolder::drain(std::uint16_t queue) {
  std::array<char, 64> rung;
  while (read(bell_fd(queue), rung.data(), rung.size()) == static_cast<ssize_t>(rung.size())) {
  }
}

void MemifFolder::close() {
  if (file_ < 0) return;
  const std::uint64_t deadline_ns = monotonic_ns() + 1'000'000'000;
  bool alone = lock_byte(file_, kSetupByte, F_WRLCK);
  while (!alone && monotonic_ns() < deadline_ns) {
    nap_for_lock();
    alone = lock_byte(file_, kSetupByte, F_WRLCK);
  }
  // shared_ is set only once the place was ours: who was refused takes nothing away.
  if (shared_ != nullptr) {
    for (std::uint16_t queue = 0; queue < options_.queue_count; ++queue) {
      unlink(bell_path(options_.node, queue).c_str());
    }
    for (std::uint32_t node = 0; node < options_.node_count; ++node) {
      unlink(socket_path(options_.node, NodeId{static_cast<std::uint8_t>(node)}).c_str());
    }
    const bool folder_goes = shared_->made_folder != 0;
    munmap(std::exchange(shared_, nullptr), shared_bytes());
    if (alone && !anybody_else()) {
      clear(options_.path);  // also what a killed node left
      unlink((options_.path + "/doorbells").c_str());
      if (folder_goes) rmdir(options_.path.c_str());
    }
  }
  for (int& bell : bells_) {
    if (bell >= 0) ::close(std::exchange(bell, -1));
  }
  ::close(std::exchange(file_, -1));
}

}  // namespace pagewire::dataplane
