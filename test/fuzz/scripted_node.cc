#include "test/fuzz/scripted_node.h"

#include <fcntl.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "dataplane/eal.h"
#include "dataplane/ring_port.h"
#include "protocol/admission.h"
#include "test/fuzz/input.h"
#include "test/fuzz/scripted_clock.h"
#include "test/fuzz/scripted_port.h"

namespace pagewire::test {

using dataplane::kEthernetBytes;
using protocol::Drop;
using protocol::kPageBytes;
using protocol::NodeId;
using protocol::NodeSet;

namespace {

constexpr std::uint32_t kCluster = 0xc1a57e12;
constexpr std::uint64_t kBootId = 5'000'000;
constexpr std::uint64_t kStartNs = 1'000'000'000'000;
constexpr std::uint32_t kPoolFrames = 128;  // few: a script can use them up
constexpr std::uint32_t kRingFrames = 128;

protocol::RegionDeclaration declaration() {
  protocol::RegionDeclaration wanted;
  wanted.set_name("grid");
  wanted.bytes = ScriptedNode::kPages * kPageBytes;
  wanted.id = ScriptedNode::kRegion;
  return wanted;
}

}  // namespace

ScriptedNode::ScriptedNode() {
  const auto eal = dataplane::Eal::start({.memory_mb = 64, .hugepages = dataplane::Hugepages::kNo});
  ports_ =
      dataplane::make_ring_mesh(eal, kNodes, 1, {.ring_frames = kRingFrames, .pool_frames = kPoolFrames});
  port_ = std::make_unique<ScriptedPort>(std::move(ports_[kSelf.value]), [this] { before_receive(); });
  region_ = std::make_unique<dataplane::RegionState>(declaration(), kRegionBase, fault::KernelFaults::kOff,
                                                     fault::Delivery::kThread, kSelf, kNodes, 1);
  // So that the kernel has no reason to take a mapping back, which check_mapping() would find missing.
  require(mlock(region_->memory.service_view(), kPages * kPageBytes) == 0,
          "24 KiB can be locked (ulimit -l)");
  page_map_ = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  require(page_map_ >= 0, "/proc/self/pagemap can be read");
}

ScriptedNode::~ScriptedNode() {
  close(page_map_);
  const auto unpoison = [](rte_mempool*, void*, void* object, unsigned) {
    ScriptedPort::unpoison(*static_cast<const rte_mbuf*>(object));
  };
  rte_mempool_obj_iter(frame_pool(), unpoison, nullptr);  // DPDK clears the memory of a pool that goes
}

// Whose mbufs the script's frames are, from whichever node they come.
rte_mempool* ScriptedNode::frame_pool() const { return ports_[kSelf.value + 1]->pool(0); }

void ScriptedNode::reset(const Start& start) {
  region_->memory.zap(0, kPages);
  std::memset(region_->memory.service_view(), 0, kPages * kPageBytes);
  memory_.assign(kPages * kPageBytes, std::byte{0});
  region_->counters = std::vector<dataplane::RegionCounters>(1);
  region_->scans.assign(1, dataplane::ScanDetector(static_cast<std::uint32_t>(kPages)));
  for (std::uint32_t page = 0; page < kPages; ++page) {
    const NodeId owner = protocol::initial_owner(start.placement, NodeId{2}, kNodes, page, kPages);
    dataplane::PageSlot& slot = region_->pages[page];
    slot.entry() = protocol::initial_entry(kSelf, owner, start.placement);
    slot.unmapped = slot.protected_early = slot.in_flight = false;  // nothing of the life before
    slot.asked = dataplane::Asked::kNo;
    slot.holds = 0;
    slot.publish();
    before_[page] = entry(page);
  }
  now_ns_ = kStartNs;
  set_clock(now_ns_);
  ended_ = false;
  prefetch_count_ = 0;
  stalled_ = false;
  beyond_reach_ = false;
  expected_ = Expected{};
  drops_.fill(0);
  received_messages_ = 0;
  sent_ = {};
  packets_seen_.fill(0);
}

void ScriptedNode::make_loop(const Start& start) {
  shared_.emplace();
  dataplane::Membership& membership = shared_->membership;
  membership.cluster = kCluster;
  membership.self = kSelf;
  membership.node_count = kNodes;
  membership.boot_id = kBootId + kSelf.value;
  membership.joined = start.joined;
  if (start.joined) {
    membership.members().without(kSelf).for_each(
        [&](NodeId node) { membership.boot_ids[node.value] = kBootId + node.value; });
  }
  shared_->view.self = kSelf;
  shared_->view.members = membership.members();
  shared_->view.grace_ns = 10'000;
  shared_->view.retry_ns_max = kRetryNsMax;
  shared_->view.hold_ns = start.holds ? 20'000 : 0;
  protocol::ControlSettings settings;
  settings.self = kSelf;
  settings.members = membership.members();
  settings.region_base = kRegionBase;
  control_.emplace(settings, membership, [this] { loop().wake(); });
  shared_->control = &*control_;
  shared_->regions[kRegion] = region_.get();
  port_->set_narrow(start.narrow);
  port_->expect_new_thread();
  port_->let_sleep(false);
  dataplane::LoopOptions options;
  options.round_count = kRounds;
  options.reassembly_count = 2;
  shared_->loops.push_back(std::make_unique<dataplane::Loop>(*shared_, *port_, options));
}

void ScriptedNode::run(const Start& start, const std::function<bool()>& turn) {
  reset(start);
  make_loop(start);
  turn_ = &turn;
  loop().start();
  end_.acquire();
  loop().stop();
  stalled_ = false;
  port_->flush(0);
  for (int i = 0; i < 8 && mbufs_in_use() > 0; ++i) collect();
  require(mbufs_in_use() == 0, "at the end every mbuf is back in its pool");
  shared_.reset();
  control_.reset();
  release_clock();
}

void ScriptedNode::before_receive() {
  if (ended_) return advance(100'000);  // past the time for which it would rather spin
  collect();
  check_drops();
  for (std::uint32_t page = 0; page < kPages; ++page) check_entry(page);
  check_mapping();
  check_bytes();
  check_control();
  expected_ = Expected{};
  if (!(*turn_)()) {
    ended_ = true;
    port_->let_sleep(true);
    end_.release();
  }
}

void ScriptedNode::advance(std::uint64_t ns) {
  now_ns_ += std::min<std::uint64_t>(ns, 3'600'000'000'000);
  set_clock(now_ns_);
}

std::uint32_t ScriptedNode::under_way_count() const {
  std::uint32_t count = 0;
  for (std::uint32_t page = 0; page < kPages; ++page)
    count += entry(page).round != protocol::kNoRound ? 1 : 0;
  return count;
}

protocol::Header ScriptedNode::header(NodeId from, std::uint8_t type, std::uint32_t page) const {
  const std::uint64_t known = shared_->membership.boot_ids[from.value].load();
  protocol::Header header;
  header.type = type;
  header.cluster = kCluster;
  header.view = 1;
  header.sender = from;
  header.to = NodeSet::of(kSelf);
  header.boot_id = known != 0 ? known : kBootId + from.value;
  header.page = {.region = kRegion, .index = page};
  return header;
}

// What the ladder in dataplane/loop_receive.cc has to say of a payload, from the pure functions alone.
ScriptedNode::Expected ScriptedNode::expect(std::span<const std::byte> payload) const {
  Expected expected{.frame = true};
  const protocol::Parsed parsed = protocol::parse(payload);
  expected.drop = parsed.drop;
  if (expected.drop != Drop::kNone) return expected;
  const protocol::Header& header = parsed.header;
  const dataplane::Membership& membership = shared_->membership;
  const protocol::Listener here{.self = kSelf,
                                .node_count = kNodes,
                                .cluster = kCluster,
                                .view = membership.view,
                                .joined = membership.joined.load()};
  const std::uint64_t known =
      header.sender.value < kNodes ? membership.boot_ids[header.sender.value].load() : 0;
  expected.drop = protocol::admit(here, header, known);
  if (expected.drop != Drop::kNone) return expected;
  if (header.type == protocol::kTypeBeat) {
    protocol::Beat beat;
    expected.drop = decode_body(parsed, beat);
  } else if (header.type == protocol::kTypeRegion) {
    protocol::RegionDeclaration region;
    expected.drop = decode_body(parsed, region);
  } else if (header.type != protocol::kTypeRequests &&
             (header.type == 0 || header.type >= protocol::kMessageTypes)) {
    expected.drop = Drop::kUnknownType;
  } else if (header.page.region != kRegion) {
    expected.drop = Drop::kUnknownRegion;
  } else if (header.page.index >= kPages) {
    expected.drop = Drop::kPageOutOfRange;
  } else if (header.type == protocol::kTypeRequests) {
    std::array<protocol::Request, protocol::kRequestsMax> requests;
    std::size_t count = 0;
    expected.drop = decode_requests(parsed, kNodes, requests, count);
    for (std::size_t i = 0; i < count && expected.drop == Drop::kNone; ++i) {
      if (requests[i].page >= kPages) expected.drop = Drop::kPageOutOfRange;
    }
  } else {
    protocol::Message message;
    expected.drop = decode_body(parsed, kNodes, message);
    expected.may_be_unexpected = message.has_bytes && header.fragment_offset != 0;
    if (message.has_bytes) expected.may_fill = header.page.index;
  }
  return expected;
}

void ScriptedNode::note_reach(std::span<const std::byte> payload) {
  protocol::Message message;
  const protocol::Parsed parsed = protocol::parse(payload);
  if (parsed.drop != Drop::kNone) return;
  std::array<protocol::Request, protocol::kRequestsMax> requests;
  std::size_t count = 0;
  if (parsed.header.type == protocol::kTypeRequests &&
      decode_requests(parsed, kNodes, requests, count) == Drop::kNone) {
    for (const protocol::Request& request : std::span(requests).first(count)) {
      beyond_reach_ |= std::max({request.message.transaction.value, request.message.version.value,
                                 request.message.data_version.value}) >= kReachable;
    }
    return;
  }
  if (decode_body(parsed, kNodes, message) != Drop::kNone) return;
  std::uint64_t highest = std::max(
      {message.transaction.value, message.version.value, message.data_version.value, message.epoch.value});
  constexpr std::uint64_t kTransactionMask = (std::uint64_t{1} << 56) - 1;
  for (const std::uint64_t granted : message.granted.raw())
    highest = std::max(highest, granted & kTransactionMask);
  beyond_reach_ |= highest >= kReachable;
}

// With `room_before` bytes for the port.
rte_mbuf* ScriptedNode::make_frame(std::span<const std::byte> bytes, std::uint16_t room_before) {
  rte_mbuf* const frame = rte_pktmbuf_alloc(frame_pool());
  require(frame != nullptr, "the loop gives received frames back");
  ScriptedPort::unpoison(*frame);
  char* const data = rte_pktmbuf_append(frame, static_cast<std::uint16_t>(room_before + bytes.size()));
  require(data != nullptr, "a frame of the script fits its buffer");
  std::memset(data, 0, room_before);
  if (!bytes.empty()) std::memcpy(data + room_before, bytes.data(), bytes.size());
  return frame;
}

void ScriptedNode::send(NodeId from, std::span<const std::byte> payload) {
  expected_ = payload.empty() ? Expected{.frame = true, .drop = Drop::kTruncated} : expect(payload);
  note_reach(payload);
  ports_[from.value]->send(0, NodeSet::of(kSelf), make_frame(payload, kEthernetBytes));
  ports_[from.value]->flush(0);
}

template <typename Body>
void ScriptedNode::encode_and_send(const protocol::Header& header, const Body& body) {
  std::array<std::byte, protocol::kHeaderBytes + protocol::kBodyBytesMax> payload{};
  const std::size_t body_bytes = encode_body(body, std::span(payload).subspan(protocol::kHeaderBytes));
  encode_header(header, body_bytes, payload);
  send(header.sender, std::span(payload).first(protocol::kHeaderBytes + body_bytes));
}

void ScriptedNode::send(const protocol::Header& header, const protocol::Message& message) {
  encode_and_send(header, message);
}

void ScriptedNode::send(const protocol::Header& header, const protocol::Beat& beat) {
  encode_and_send(header, beat);
}

void ScriptedNode::send_unchecked(std::span<const std::byte> frame, bool chained) {
  const std::size_t first = chained ? frame.size() / 2 : frame.size();
  rte_mbuf* const head = make_frame(frame.first(first), 0);
  if (chained) {
    rte_mbuf* const tail = make_frame(frame.subspan(first), 0);
    require(rte_pktmbuf_chain(head, tail) == 0, "two segments can be chained");
  }
  if (chained || frame.size() <= kEthernetBytes) {
    expected_ = Expected{.frame = true, .drop = Drop::kTruncated};
  } else {
    expected_ = expect(frame.subspan(kEthernetBytes));
    note_reach(frame.subspan(kEthernetBytes));
  }
  port_->put(head);
}

void ScriptedNode::fault(std::uint32_t page, bool write) {
  dataplane::Loop::FaultDrive drive;  // the loop's thread has the drive, within its turn
  loop().take_fault({.region = kRegion, .page = page, .write = write, .thread_id = 1, .time_ns = now_ns_},
                    drive);
}

void ScriptedNode::prefetch(std::uint32_t first_page, std::uint32_t page_count, bool write) {
  ++prefetch_count_;
  loop().push_prefetch({.region = kRegion,
                        .first_page = first_page,
                        .page_count = std::min(page_count, kPages - first_page),
                        .access = write ? protocol::Access::kWrite : protocol::Access::kRead});
}

std::size_t ScriptedNode::mbufs_in_use() const {
  std::size_t count = rte_mempool_in_use_count(port_->pool(0));
  for (const auto& port : ports_) count += port ? rte_mempool_in_use_count(port->pool(0)) : 0;
  return count;
}

}  // namespace pagewire::test
