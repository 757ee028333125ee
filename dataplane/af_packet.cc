#include "dataplane/af_packet.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "dataplane/port.h"
#include "fault/setup_error.h"

namespace pagewire::dataplane {

using fault::SetupError;

namespace {

// A ring frame holds the kernel's header, its padding and an Ethernet frame of the largest MTU that is used
// here.
constexpr std::uint32_t kRingFrameBytes = 2048;
constexpr std::uint32_t kRingBlockBytes = 32768;
constexpr std::uint32_t kRingFrames = 1024;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

Interface find_interface(const std::string& name) {
  ifreq request{};
  const Socket socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto plain = [](char c) {
    return std::isgraph(static_cast<unsigned char>(c)) != 0 && !std::strchr(",=[]/", c);
  };
  if (name.empty() || name.size() >= sizeof(request.ifr_name) || !std::ranges::all_of(name, plain)) {
    throw SetupError("reading af_packet's interface", "\"" + name + "\"", "Name one that `ip link` shows");
  }
  std::ranges::copy(name, request.ifr_name);
  Interface interface { .name = name };
  if (ioctl(socket.fd(), SIOCGIFINDEX, &request) != 0) {
    throw SetupError("looking for interface " + name, std::strerror(errno),
                     "Name one that `ip link` shows here");
  }
  interface.index = request.ifr_ifindex;
  if (ioctl(socket.fd(), SIOCGIFFLAGS, &request) != 0 || (request.ifr_flags & IFF_UP) == 0) {
    throw SetupError("using interface " + name, "it is down", "ip link set " + name + " up");
  }
  if (ioctl(socket.fd(), SIOCGIFMTU, &request) != 0) {
    throw SetupError("asking for the MTU of " + name, std::strerror(errno),
                     "Look at `ip link show " + name + "`");
  }
  interface.mtu = static_cast<std::uint32_t>(request.ifr_mtu);
  return interface;
}

std::string af_packet_arguments(const Interface& interface, std::uint16_t queue_count) {
  return "iface=" + interface.name + ",qpairs=" + std::to_string(queue_count) +
         ",framesz=" + std::to_string(kRingFrameBytes) + ",blocksz=" + std::to_string(kRingBlockBytes) +
         ",framecnt=" + std::to_string(kRingFrames);
}

std::vector<int> af_packet_sockets(const Interface& interface) {
  std::vector<int> sockets;
  DIR* const folder = opendir("/proc/self/fd");
  if (folder == nullptr) return sockets;
  while (const dirent* const entry = readdir(folder)) {
    const int fd = std::atoi(entry->d_name);
    sockaddr_ll address{};
    socklen_t bytes = sizeof(address);
    if (entry->d_name[0] != '.' && fd != dirfd(folder) &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) == 0 &&
        address.sll_family == AF_PACKET && address.sll_ifindex == interface.index) {
      sockets.push_back(fd);
    }
  }
  closedir(folder);
  std::ranges::sort(sockets);
  return sockets;
}

void narrow_af_packet_socket(int socket, const Interface& interface, const MacAddress& group) {
  constexpr std::uint32_t kEtherTypeOffset = 12;
  std::array<sock_filter, 4> steps = {{
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kEtherTypeOffset),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kEtherType, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  }};
  const sock_fprog filter{.len = steps.size(), .filter = steps.data()};
  packet_mreq membership{};
  membership.mr_ifindex = interface.index;
  membership.mr_type = PACKET_MR_MULTICAST;
  membership.mr_alen = static_cast<unsigned short>(group.size());
  std::ranges::copy(group, membership.mr_address);
  if (setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) != 0 ||
      setsockopt(socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof(membership)) != 0) {
    throw SetupError("joining the cluster's multicast group on " + interface.name, std::strerror(errno),
                     "Use an Ethernet interface");
  }
}

}  // namespace pagewire::dataplane
