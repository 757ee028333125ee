// Where the time of a fault goes. A fault is stamped when the service's thread was stopped (trap), when a
// driver took the fault in (posted), when the request was about to be flushed (sent), when the port was asked
// for the frame that completed the answer (complete: the turn's beginning, for a look at the clock between
// port and frame would hold up the processor by 90 ns), when the page was mapped, and, delivered inline, when
// the handler is about to return (resumed). The owner sends back how long a request was in its hands, as a
// duration, for clocks of two hosts differ.
//
// The phases between the stamps add up to the whole. Whoever has the loop's drive calls what is here, unless
// said otherwise; nothing allocates after the start.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "dataplane/counter.h"
#include "dataplane/histogram.h"
#include "fault/delivery.h"
#include "protocol/message.h"
#include "protocol/types.h"

namespace pagewire::dataplane {

enum class FaultKind : std::uint8_t { kReadMiss, kWriteMiss, kUpgrade, kLocal };
inline constexpr std::size_t kFaultKinds = 4;
inline constexpr std::size_t kPhasedKinds = 3;  // those before kLocal: they ask another node
std::string_view kind_name(FaultKind kind);

enum class Phase : std::uint8_t {
  kPost,     // trap to posted
  kSend,     // posted to sent, the first time if it was repeated
  kWire,     // sent to complete, without the service; telling the device and waking the peer included
  kService,  // the answering node: from the turn that took the request to the answer, as that node measured
             // it
  kMap,      // complete to mapped
  kResume,   // inline delivery alone: mapped to the handler's return
  kTotal,    // trap to the last stamp
};
inline constexpr std::size_t kPhases = 7;
std::string_view phase_name(Phase phase);

// CLOCK_MONOTONIC for half the price: from the processor's time stamp counter, where the kernel itself trusts
// that, else from the system. Some ns beside it. A copy may be read by another thread, for some milliseconds.
class StampClock {
 public:
  StampClock() = default;
  // Reads what the kernel says of the counter: at the start, not on the way of a fault.
  static StampClock of_this_machine();

  // Once a turn, with the clock as it was just read.
  void keep_step(std::uint64_t now_ns) {
    if (now_ns - base_ns_ >= kStepNs) step();
  }
  std::uint64_t now_ns() const {
    return scale_ == 0 ? system_ns() : base_ns_ + ((ticks() - base_ticks_) * scale_ >> kScaleBits);
  }

 private:
  static constexpr std::uint64_t kStepNs = 1'000'000;
  static constexpr std::uint64_t kRateNs = 10'000'000;        // the least that the rate is measured over
  static constexpr std::uint64_t kRateNsMax = 1'000'000'000;  // ... and the most
  static constexpr std::uint64_t kPairTicksMax = 1'000;       // a longer look at both was interrupted
  static constexpr unsigned kScaleBits = 24;

  static std::uint64_t ticks() {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return 0;  // never trusted
#endif
  }
  static std::uint64_t system_ns();
  void step();

  bool trusted_ = false;
  std::uint64_t scale_ = 0;  // ns a tick; 0: not known
  std::uint64_t base_ns_ = 0;
  std::uint64_t base_ticks_ = 0;
  std::uint64_t rate_from_ns_ = 0;  // the rate is measured from here to the latest step
  std::uint64_t rate_from_ticks_ = 0;
};

// What one loop counts about the faults of one region. Read by anybody.
class RegionPhases {
 public:
  explicit RegionPhases(fault::Delivery delivery);

  void record(FaultKind kind, Phase phase, std::uint64_t ns) { at(kind, phase).record(ns); }
  void count_repeated(FaultKind kind) { repeated_[static_cast<std::size_t>(kind)].add(); }
  // Any thread, several at once. Inline delivery.
  void record_total(FaultKind kind, std::uint64_t total_ns);
  void record_end(FaultKind kind, std::uint64_t resume_ns, std::uint64_t total_ns);

  // Empty for what is not measured: with thread delivery nothing is known of the resume, and the total is the
  // latency until the page was mapped, which RegionCounters has.
  const Histogram* histogram(FaultKind kind, Phase phase) const;
  std::uint64_t repeated_count(FaultKind kind) const {
    return repeated_[static_cast<std::size_t>(kind)].get();
  }
  std::size_t memory_bytes() const {
    return kPhasedKinds * (phase_count_ * sizeof(Histogram) + sizeof(Counter));
  }

 private:
  Histogram& at(FaultKind kind, Phase phase) {
    return histograms_[static_cast<std::size_t>(kind) * phase_count_ + static_cast<std::size_t>(phase)];
  }

  std::size_t phase_count_;
  std::unique_ptr<Histogram[]> histograms_;  // by kind, then phase
  std::unique_ptr<Counter[]> repeated_;      // by kind
};

// When a fault that is delivered inline was mapped, and as what.
struct MappedStamp {
  FaultKind kind = FaultKind::kLocal;
  std::uint64_t mapped_ns = 0;  // 0: not known
};

// Inline faults whose thread does not drive: here the driver leaves it word when it mapped their page. A
// place holds the trap's time, then the stamp, so the thread may leave at any moment. Lock-free.
class MappedBoard {
 public:
  static constexpr int kNoPlace = -1;
  // The faulting thread: the place, or kNoPlace if there is none to be had.
  int claim(std::uint64_t trap_ns);
  MappedStamp give_back(int place);
  // The driver. False if no thread waits with this trap.
  bool tell(std::uint64_t trap_ns, const MappedStamp& stamp);

 private:
  static constexpr unsigned kPlaceBits = 8;
  static constexpr int kProbes = 8;
  static constexpr std::uint64_t kTold = std::uint64_t{1} << 63;
  static constexpr unsigned kKindShift = 61;

  static std::size_t place_of(std::uint64_t trap_ns, int probe) {
    const std::uint64_t hash = trap_ns * 0x9e3779b97f4a7c15 >> (64 - kPlaceBits);
    return (hash + static_cast<std::uint64_t>(probe)) % (std::size_t{1} << kPlaceBits);
  }

  std::array<std::atomic<std::uint64_t>, std::size_t{1} << kPlaceBits> places_{};
};

// The stamps of the faults that one loop has under way.
class FaultPhases {
 public:
  explicit FaultPhases(std::size_t round_count)
      : clock_(StampClock::of_this_machine()), stamps_(round_count) {}

  // A turn begins, or a driver takes a fault in; what was queued before has been flushed, and frames are
  // taken from the port next. A thread that waits for its answer has the time to take notes of it.
  void begin(std::uint64_t now_ns) {
    clock_.keep_step(now_ns);
    posted_ns_ = now_ns;
    received_ns_ = now_ns;
    if (unsent_count_ > 0) note_unsent();
  }
  // What is queued goes to the device now. The stamp is taken before: while the device is told of it, or a
  // peer woken, the other node may be at work already.
  void flushes() {
    if (unsent_count_ > 0) sent(clock_.now_ns());
  }
  // Frames are taken once more after a turn, before the drive is given up. If a thread waits there is time.
  void looks_again(bool one_waits) {
    if (one_waits) {
      received_ns_ = clock_.now_ns();
    } else if (mapped_ns_ > received_ns_) {
      received_ns_ = mapped_ns_;
    }
  }
  void board_taken() { posted_ns_ = clock_.now_ns(); }
  std::uint64_t stamp_ns() const { return clock_.now_ns(); }
  const StampClock& clock() const { return clock_; }

  // A thread waits for this round from now on.
  void opened(std::uint16_t round, FaultKind kind, std::uint64_t trap_ns);
  // A message of this page is queued. What it asks with is sent for the fault of the page's round.
  void queued(std::uint16_t round, protocol::MessageType type, RegionPhases& phases);
  // The frame that completes a message. What it answers is the fault of the page's round.
  void answered(std::uint16_t round, protocol::MessageType type, std::uint32_t service_ns);
  // The page is mapped, its thread goes on.
  void mapped(std::uint16_t round, std::uint64_t mapped_ns, RegionPhases& phases, fault::Delivery delivery);

  // The owner's side: a message of another node is being worked on, until answered or left waiting.
  void question(protocol::NodeId from) { asking_ = from; }
  void question_ends(const protocol::Message& message, protocol::PageId page, bool waits);
  // When the question that `message` answers came in; 0: it answers none, or that is not known.
  std::uint64_t asked_ns(protocol::NodeSet to, const protocol::Message& message, protocol::PageId page);
  // What goes into the frame's header.
  std::uint32_t service_ns(std::uint64_t asked_ns) const;

  std::size_t memory_bytes() const { return stamps_.capacity() * sizeof(Stamps); }

 private:
  friend class InlineEnd;

  struct alignas(64) Stamps {
    std::uint64_t trap_ns = 0;  // 0: no thread waits
    std::uint64_t posted_ns = 0;
    std::uint64_t sent_ns = 0;  // 0: not yet
    std::uint64_t complete_ns = 0;
    std::uint32_t service_ns = 0;
    FaultKind kind = FaultKind::kLocal;
    std::uint16_t sent_types = 0;    // a bit a message type
    bool noted = false;              // what came before the answer
    RegionPhases* region = nullptr;  // set when it was queued
  };
  // A question that waits for its turn here: of one node about one page.
  struct Question {
    protocol::PageId page{};
    protocol::NodeId from = protocol::kNoNode;
    std::uint64_t transaction = 0;
    std::uint64_t received_ns = 0;
  };
  static constexpr std::size_t kUnsentMax = 64;  // what is more is stamped when it is queued
  static constexpr std::size_t kQuestions = 256;

  void sent(std::uint64_t now_ns);
  void note_unsent();
  static void note(Stamps& stamps);
  Question* waiting_question(protocol::NodeSet to, const protocol::Message& answer, protocol::PageId page);
  Question& question_of(protocol::PageId page, protocol::NodeId from) {
    return questions_[(page.index * 5U + page.region * 67U + from.value * 31U) % kQuestions];
  }

  // What each fault touches is together.
  alignas(64) StampClock clock_;
  std::uint64_t posted_ns_ = 0;    // of faults taken in now
  std::uint64_t received_ns_ = 0;  // of frames worked on now
  std::uint64_t mapped_ns_ = 0;    // the latest
  std::uint64_t own_trap_ns_ = 0;  // of the driver itself, if it waits inline
  MappedStamp own_;
  std::vector<Stamps> stamps_;  // by round
  std::size_t unsent_count_ = 0;
  std::size_t question_count_ = 0;
  protocol::NodeId asking_ = protocol::kNoNode;
  std::array<std::uint16_t, kUnsentMax> unsent_{};
  MappedBoard board_;
  std::array<Question, kQuestions> questions_;
};

// The last phase, of one fault delivered inline. On the stack of the faulting thread, who calls it.
class InlineEnd {
 public:
  InlineEnd(FaultPhases& phases, std::uint64_t trap_ns) : phases_(phases), trap_ns_(trap_ns) {}
  ~InlineEnd();
  InlineEnd(const InlineEnd&) = delete;
  InlineEnd& operator=(const InlineEnd&) = delete;

  // With the drive: it drives for itself now, so nobody has to leave it word.
  void drives();
  // Before the drive is given up, or without it, before others may serve the fault.
  void shares();
  // With the drive, before it is given up for good: takes the stamp along.
  void leaves(bool served);
  // At the very end, with or without the drive.
  void record(RegionPhases& phases);

 private:
  FaultPhases& phases_;
  std::uint64_t trap_ns_;
  StampClock clock_;
  MappedStamp mapped_;
  int place_ = MappedBoard::kNoPlace;
  bool drives_ = false;
  bool shared_ = false;
};

}  // namespace pagewire::dataplane
