// See phases.h.
#include "dataplane/phases.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

#include "dataplane/control_plane.h"

namespace pagewire::dataplane {

using protocol::MessageType;

namespace {

// Clocks that were read apart may disagree by some ns.
std::uint64_t since(std::uint64_t earlier_ns, std::uint64_t later_ns) {
  return later_ns > earlier_ns ? later_ns - earlier_ns : 0;
}

constexpr bool is_question(MessageType type) {
  return type == MessageType::kCopyRequest || type == MessageType::kWriteRequest ||
         type == MessageType::kInvalidate;
}

constexpr bool is_answer(MessageType type) {
  return type == MessageType::kCopyReply || type == MessageType::kOwnershipTransfer ||
         type == MessageType::kAck;
}

// The kernel reads its own clock from the counter only while it finds it steady, and alike on all cores.
bool counter_is_trusted() {
  static const bool trusted = [] {
    std::ifstream file("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    std::string source;
    return std::getline(file, source) && source == "tsc";
  }();
  return trusted;
}

}  // namespace

std::string_view kind_name(FaultKind kind) {
  static constexpr std::array<std::string_view, kFaultKinds> kNames = {"read_miss", "write_miss", "upgrade",
                                                                       "local"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string_view phase_name(Phase phase) {
  static constexpr std::array<std::string_view, kPhases> kNames = {"post", "send",   "wire", "service",
                                                                   "map",  "resume", "total"};
  return kNames[static_cast<std::size_t>(phase)];
}

StampClock StampClock::of_this_machine() {
  StampClock clock;
  clock.trusted_ = counter_is_trusted();
  return clock;
}

std::uint64_t StampClock::system_ns() { return dataplane::now_ns(); }

// Looks at both clocks at once. Who was interrupted in between tries again the next time.
void StampClock::step() {
  const std::uint64_t before = ticks();
  const std::uint64_t now_ns = system_ns();
  const std::uint64_t width = ticks() - before;
  if (trusted_ && width > kPairTicksMax) return;
  const std::uint64_t now_ticks = before + width / 2;
  base_ns_ = now_ns;
  base_ticks_ = now_ticks;
  if (!trusted_) return;
  const std::uint64_t ns = now_ns - rate_from_ns_;
  if (rate_from_ns_ != 0) {
    if (ns < kRateNs) return;
    const double ns_a_tick = static_cast<double>(ns) / static_cast<double>(now_ticks - rate_from_ticks_);
    const bool plausible = ns_a_tick > 0.01 && ns_a_tick < 100;
    scale_ = plausible ? static_cast<std::uint64_t>(ns_a_tick * (1U << kScaleBits)) : 0;
    if (plausible && ns < kRateNsMax) return;
  }
  rate_from_ns_ = now_ns;
  rate_from_ticks_ = now_ticks;
}

RegionPhases::RegionPhases(fault::Delivery delivery)
    : phase_count_(delivery == fault::Delivery::kInline ? kPhases : static_cast<std::size_t>(Phase::kResume)),
      histograms_(std::make_unique<Histogram[]>(kPhasedKinds * phase_count_)),
      repeated_(std::make_unique<Counter[]>(kPhasedKinds)) {}

void RegionPhases::record_total(FaultKind kind, std::uint64_t total_ns) {
  at(kind, Phase::kTotal).record_shared(total_ns);
}

void RegionPhases::record_end(FaultKind kind, std::uint64_t resume_ns, std::uint64_t total_ns) {
  at(kind, Phase::kResume).record_shared(resume_ns);
  record_total(kind, total_ns);
}

const Histogram* RegionPhases::histogram(FaultKind kind, Phase phase) const {
  if (static_cast<std::size_t>(phase) >= phase_count_) return nullptr;
  return &histograms_[static_cast<std::size_t>(kind) * phase_count_ + static_cast<std::size_t>(phase)];
}

int MappedBoard::claim(std::uint64_t trap_ns) {
  for (int probe = 0; probe < kProbes; ++probe) {
    const std::size_t place = place_of(trap_ns, probe);
    std::uint64_t free = 0;
    if (places_[place].compare_exchange_strong(free, trap_ns, std::memory_order_relaxed)) {
      return static_cast<int>(place);
    }
  }
  return kNoPlace;
}

MappedStamp MappedBoard::give_back(int place) {
  const std::uint64_t word = places_[static_cast<std::size_t>(place)].exchange(0, std::memory_order_relaxed);
  if ((word & kTold) == 0) return {};
  return {.kind = static_cast<FaultKind>((word & ~kTold) >> kKindShift),
          .mapped_ns = word & ((std::uint64_t{1} << kKindShift) - 1)};
}

bool MappedBoard::tell(std::uint64_t trap_ns, const MappedStamp& stamp) {
  const std::uint64_t word = kTold | static_cast<std::uint64_t>(stamp.kind) << kKindShift | stamp.mapped_ns;
  for (int probe = 0; probe < kProbes; ++probe) {
    std::uint64_t waiting = trap_ns;
    if (places_[place_of(trap_ns, probe)].compare_exchange_strong(waiting, word, std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

void FaultPhases::sent(std::uint64_t now_ns) {
  for (std::size_t i = 0; i < unsent_count_; ++i) {
    Stamps& stamps = stamps_[unsent_[i]];
    const bool waits = stamps.sent_ns == 0 && stamps.region != nullptr;  // else it has ended meanwhile
    if (waits) stamps.sent_ns = std::max(now_ns, stamps.posted_ns);
  }
}

void FaultPhases::note_unsent() {
  for (std::size_t i = 0; i < unsent_count_; ++i) {
    Stamps& stamps = stamps_[unsent_[i]];
    if (stamps.trap_ns != 0 && stamps.sent_ns != 0) note(stamps);
  }
  unsent_count_ = 0;
}

void FaultPhases::note(Stamps& stamps) {
  if (std::exchange(stamps.noted, true)) return;
  stamps.region->record(stamps.kind, Phase::kPost, since(stamps.trap_ns, stamps.posted_ns));
  stamps.region->record(stamps.kind, Phase::kSend, stamps.sent_ns - stamps.posted_ns);
}

void FaultPhases::opened(std::uint16_t round, FaultKind kind, std::uint64_t trap_ns) {
  stamps_[round] = Stamps{.trap_ns = trap_ns, .posted_ns = std::max(posted_ns_, trap_ns), .kind = kind};
}

void FaultPhases::queued(std::uint16_t round, MessageType type, RegionPhases& phases) {
  if (round == protocol::kNoRound || !is_question(type)) return;
  Stamps& stamps = stamps_[round];
  if (stamps.trap_ns == 0) return;
  const auto bit = static_cast<std::uint16_t>(1U << static_cast<unsigned>(type));
  if ((stamps.sent_types & bit) != 0) phases.count_repeated(stamps.kind);
  const bool is_first = stamps.sent_types == 0;
  stamps.sent_types |= bit;
  stamps.region = &phases;
  if (!is_first) return;
  if (unsent_count_ == kUnsentMax) {
    stamps.sent_ns = std::max(clock_.now_ns(), stamps.posted_ns);
  } else {
    unsent_[unsent_count_++] = round;
  }
}

void FaultPhases::answered(std::uint16_t round, MessageType type, std::uint32_t service_ns) {
  if (round == protocol::kNoRound || !is_answer(type)) return;
  stamps_[round].complete_ns = received_ns_;
  stamps_[round].service_ns = service_ns;
}

// Each stamp is kept between its neighbours, so that the phases add up whatever happened: a request that was
// under way before the fault, or none at all because the page came by itself.
void FaultPhases::mapped(std::uint16_t round, std::uint64_t mapped_ns, RegionPhases& phases,
                         fault::Delivery delivery) {
  Stamps& stamps = stamps_[round];
  stamps.region = &phases;
  if (stamps.sent_ns == 0) stamps.sent_ns = stamps.posted_ns;
  note(stamps);
  mapped_ns = std::max(mapped_ns, stamps.sent_ns);
  mapped_ns_ = mapped_ns;
  const std::uint64_t complete_ns =
      stamps.complete_ns == 0 ? stamps.sent_ns : std::clamp(stamps.complete_ns, stamps.sent_ns, mapped_ns);
  const std::uint64_t answer_ns = complete_ns - stamps.sent_ns;
  const std::uint64_t service_ns = std::min<std::uint64_t>(stamps.service_ns, answer_ns);
  phases.record(stamps.kind, Phase::kWire, answer_ns - service_ns);
  phases.record(stamps.kind, Phase::kService, service_ns);
  phases.record(stamps.kind, Phase::kMap, mapped_ns - complete_ns);
  const std::uint64_t trap_ns = std::exchange(stamps.trap_ns, 0);
  if (delivery != fault::Delivery::kInline) return;
  const MappedStamp stamp{.kind = stamps.kind, .mapped_ns = mapped_ns};
  if (trap_ns == own_trap_ns_) {
    own_ = stamp;
  } else if (!board_.tell(trap_ns, stamp)) {
    phases.record_total(stamp.kind, since(trap_ns, mapped_ns));
  }
}

void FaultPhases::question_ends(const protocol::Message& message, protocol::PageId page, bool waits) {
  asking_ = protocol::kNoNode;
  if (!waits || !is_question(message.type)) return;
  Question& question = question_of(page, message.from);
  if (question.from == protocol::kNoNode) ++question_count_;
  question = Question{.page = page,
                      .from = message.from,
                      .transaction = message.transaction.value,
                      .received_ns = received_ns_};
}

FaultPhases::Question* FaultPhases::waiting_question(protocol::NodeSet to, const protocol::Message& answer,
                                                     protocol::PageId page) {
  if (question_count_ == 0 || to.size() != 1) return nullptr;
  const protocol::NodeId asker{static_cast<std::uint8_t>(std::countr_zero(to.bits()))};
  Question& question = question_of(page, asker);
  const bool matches = question.from == asker && question.page == page &&
                       (answer.type == MessageType::kAck || question.transaction == answer.transaction.value);
  return matches ? &question : nullptr;
}

// Since its first time, if it was repeated while it waited.
std::uint64_t FaultPhases::asked_ns(protocol::NodeSet to, const protocol::Message& message,
                                    protocol::PageId page) {
  if (!is_answer(message.type)) return 0;
  if (Question* const question = waiting_question(to, message, page)) {
    question->from = protocol::kNoNode;
    --question_count_;
    return question->received_ns;
  }
  const bool at_once = asking_ != protocol::kNoNode && to == protocol::NodeSet::of(asking_);
  return at_once ? received_ns_ : 0;
}

std::uint32_t FaultPhases::service_ns(std::uint64_t asked_ns) const {
  if (asked_ns == 0) return 0;
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(since(asked_ns, clock_.now_ns()), std::numeric_limits<std::uint32_t>::max()));
}

InlineEnd::~InlineEnd() {
  if (place_ != MappedBoard::kNoPlace) phases_.board_.give_back(place_);
}

void InlineEnd::drives() {
  if (shared_) return;
  drives_ = true;
  phases_.own_trap_ns_ = trap_ns_;
  phases_.own_ = {};
}

void InlineEnd::shares() {
  if (std::exchange(shared_, true)) return;
  if (std::exchange(drives_, false)) {
    clock_ = phases_.clock_;
    mapped_ = phases_.own_;
    phases_.own_trap_ns_ = 0;
  }
  if (mapped_.mapped_ns == 0) place_ = phases_.board_.claim(trap_ns_);
}

void InlineEnd::leaves(bool served) {
  if (served) {
    if (!std::exchange(drives_, false)) return;
    clock_ = phases_.clock_;
    mapped_ = phases_.own_;
    phases_.own_trap_ns_ = 0;
    shared_ = true;
  } else {
    shares();
  }
}

void InlineEnd::record(RegionPhases& phases) {
  if (place_ != MappedBoard::kNoPlace) {
    mapped_ = phases_.board_.give_back(std::exchange(place_, MappedBoard::kNoPlace));
  }
  if (mapped_.mapped_ns == 0) return;  // another thread's fault brought the page
  const std::uint64_t now_ns = clock_.now_ns();
  phases.record_end(mapped_.kind, since(mapped_.mapped_ns, now_ns), since(trap_ns_, now_ns));
}

}  // namespace pagewire::dataplane
