// The processes of the floors; see floor_member.h. One thread.
#include "bench/floor_member.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "bench/floors.h"
#include "bench/pinning.h"
#include "bench/wire_floors.h"
#include "dataplane/eal.h"
#include "dataplane/memif_port.h"
#include "pagewire/error.h"

namespace pagewire::bench {

namespace {

// As many as a case has by default, so that the caches are used as there; a measurement goes on where the
// last one ended.
constexpr std::size_t kPages = 4096;
// Twice around memif's rings: without hugepages the first use of each buffer is a fault of the kernel's.
constexpr std::size_t kPortWarmUp = 2048;

std::unique_ptr<dataplane::Port> open_port(const FloorMember& member) {
  dataplane::MemifOptions options;
  const auto eal = dataplane::Eal::start({.memory_mb = dataplane::eal_memory_mb(1, options.pool_frames)});
  options.folder = member.folder;
  options.node = protocol::NodeId{static_cast<std::uint8_t>(member.index)};
  options.node_count = 2;
  return dataplane::open_memif_port(eal, options);
}

// Process 0. Made before and after its thread is pinned: a fault thread stays where its maker may run.
class Asker {
 public:
  explicit Asker(dataplane::Port& port)
      : cores_(own_cores()), port_(port), floating_(kThreadFloorBase, kPages) {
    pin_this_thread(cores_.front());
    pinned_.emplace(kPinnedFloorBase, kPages);
    inline_.emplace(kPages);
    bare_.emplace(port, kPages);
    scan_.emplace();
    registration_.emplace();
    Samples discarded;
    ping(port_, kPortWarmUp, 0, discarded);
  }

  Json measure(const std::string& what, std::size_t count);

 private:
  std::vector<std::size_t> cores_;
  dataplane::Port& port_;
  LocalThreadFaults floating_;
  std::optional<LocalThreadFaults> pinned_;
  std::optional<LocalInlineFaults> inline_;
  std::optional<BareRemoteFaults> bare_;
  std::optional<LocalScan> scan_;
  std::size_t next_ = 0;  // page
  std::optional<dataplane::LoopThreadRegistration> registration_;
};

Json Asker::measure(const std::string& what, std::size_t count) {
  Samples samples(count);
  if (next_ + count > kPages) next_ = 0;
  const std::size_t first = std::exchange(next_, next_ + count);
  if (what == "local_thread") {
    touch_pages(floating_.memory(), first, count, kFloorWarmUp, samples);
  } else if (what == "local_pinned") {
    touch_pages(pinned_->memory(), first, count, kFloorWarmUp, samples);
  } else if (what == "local_inline") {
    touch_pages(inline_->memory(), first, count, kFloorWarmUp, samples);
  } else if (what == "local_scan") {
    scan_->measure(samples);
  } else if (what == "bare") {
    bare_->measure(first, count, kFloorWarmUp, samples);
  } else if (what == "line") {
    if (const auto ns = measure_line_round_trip_ns(cores_)) samples.add(*ns);
  } else {
    ping(port_, count, kFloorWarmUp, samples);
  }
  return {{"ns", samples.values()}};
}

class Answerer {
 public:
  explicit Answerer(dataplane::Port& port) : port_(port) {
    const std::vector<std::size_t> cores = own_cores();
    pin_this_thread(cores[1 % cores.size()]);
    registration_.emplace();
    echo(port_, page_frame_bytes(), kPortWarmUp);
  }

  Json measure(const std::string& what, std::size_t count) {
    if (what == "bare") {
      owner_.answer(port_, count);
    } else {
      echo(port_, what == "ping_page" ? page_frame_bytes() : kSmallFrameBytes, count);
    }
    return Json::object();
  }

 private:
  dataplane::Port& port_;
  BareOwner owner_;
  std::optional<dataplane::LoopThreadRegistration> registration_;
};

template <typename Side>
void answer_all(Side& side, const Channel& channel) {
  channel.send({{"ready", true}});
  while (true) {
    const Json message = channel.receive();
    const std::string what = message.at("do");
    if (what == "end") return;
    const std::size_t count = message.at("count");
    channel.send(side.measure(what, std::min(count, kPages / 2)));
  }
}

}  // namespace

void run_floors(const FloorMember& member, const Channel& channel) {
  const std::unique_ptr<dataplane::Port> port = open_port(member);
  if (member.index == 0) {
    Asker asker(*port);
    answer_all(asker, channel);
  } else {
    Answerer answerer(*port);
    answer_all(answerer, channel);
  }
}

}  // namespace pagewire::bench
