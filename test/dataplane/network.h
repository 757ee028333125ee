// Network namespaces, each with an interface eth0, all on one bridge; gone again when the object goes. Needs
// root.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace pagewire::test {

class Network {
 public:
  explicit Network(int node_count) {
    const std::string id = std::to_string(getpid());
    bridge_ = "pwb" + id;
    for (int node = 0; node < node_count; ++node) spaces_.push_back("pwn" + id + "x" + std::to_string(node));
    usable_ = geteuid() == 0 && run("ip netns add " + bridge_) &&
              run("ip -n " + bridge_ + " link add br0 type bridge mcast_snooping 0") &&
              run("ip -n " + bridge_ + " link set br0 up");
    for (int node = 0; usable_ && node < node_count; ++node) usable_ = add(node);
  }
  ~Network() {
    if (geteuid() != 0) return;
    for (const std::string& space : spaces_) run("ip netns del " + space);
    run("ip netns del " + bridge_);
  }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  bool usable() const { return usable_; }
  // For PeerProcess: runs a command in the node's namespace, under the same process id.
  std::vector<std::string> enter(int node) const {
    return {"ip", "netns", "exec", spaces_[static_cast<std::size_t>(node)]};
  }
  bool set_link(int node, const std::string& what) {
    return run("ip -n " + spaces_[static_cast<std::size_t>(node)] + " link set eth0 " + what);
  }

 private:
  bool add(int node) {
    const std::string& space = spaces_[static_cast<std::size_t>(node)];
    const std::string there = "v" + std::to_string(node);
    return run("ip netns add " + space) &&
           // Without IPv6 nobody but us sends on it.
           run("ip netns exec " + space +
               " sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1") &&
           run("ip -n " + space + " link add eth0 type veth peer name " + there + " netns " + bridge_) &&
           run("ip -n " + bridge_ + " link set " + there + " master br0 up") &&
           run("ip -n " + space + " link set eth0 up");
  }
  static bool run(const std::string& command) {
    return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
  }

  std::string bridge_;
  std::vector<std::string> spaces_;
  bool usable_ = false;
};

}  // namespace pagewire::test
