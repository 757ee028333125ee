#include "fault/fault_threads.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "fault/descriptor.h"
#include "fault/scheduling.h"
#include "fault/setup_error.h"

namespace pagewire::fault {

int core_of_thread(std::uint32_t thread_id) {
  std::array<char, 64> path;
  std::snprintf(path.data(), path.size(), "/proc/self/task/%u/stat", thread_id);
  const Descriptor file(::open(path.data(), O_RDONLY | O_CLOEXEC));
  std::array<char, 1024> text;
  const ssize_t got = file ? ::read(file.get(), text.data(), text.size() - 1) : -1;
  if (got <= 0) return -1;
  text[static_cast<std::size_t>(got)] = 0;
  // Field 39 (proc(5)), counted behind the name, which is field 2 and may contain anything.
  const char* at = std::strrchr(text.data(), ')');
  for (int field = 2; at != nullptr && field < 39; ++field) at = std::strchr(at + 1, ' ');
  return at == nullptr ? -1 : std::atoi(at + 1);
}

// One thread, and what it knows of the threads whose faults it reads.
class FaultThreads::Member final : private FaultSink {
 public:
  Member(FaultThreads& all, int core) : all_(all), core_(core), thread_(*this, core) {}

  int core() const { return core_; }
  void stay_on(int core) {  // on its own thread
    core_ = core;
    stay_on_core(core);
  }
  FaultThread& thread() { return thread_; }
  const FaultThread& thread() const { return thread_; }

 private:
  static constexpr std::uint64_t kLookAgainNs = 100'000'000;
  struct Seen {
    std::uint32_t thread_id = 0;
    std::uint64_t looked_ns = 0;
  };

  void on_faults(std::span<const Fault> faults) override {
    all_.sink_.on_faults(faults);
    for (const Fault& fault : faults) {
      Seen& seen = seen_[fault.thread_id % seen_.size()];
      if (seen.thread_id == fault.thread_id && fault.time_ns < seen.looked_ns + kLookAgainNs) continue;
      seen = Seen{.thread_id = fault.thread_id, .looked_ns = fault.time_ns};
      fresh_ = true;
      fresh_thread_ = fault.thread_id;
    }
  }
  bool turn() override {
    if (all_.sink_.turn()) return true;
    if (std::exchange(fresh_, false))
      all_.start_on(core_of_thread(fresh_thread_));  // nobody waits for us now
    return false;
  }

  FaultThreads& all_;
  int core_;
  std::array<Seen, 32> seen_{};
  bool fresh_ = false;
  std::uint32_t fresh_thread_ = 0;
  FaultThread thread_;  // last: it uses the others
};

FaultThreads::FaultThreads(FaultSink& sink) : sink_(sink) {
  members_.push_back(std::make_unique<Member>(*this, -1));
}

FaultThreads::~FaultThreads() {
  std::vector<std::unique_ptr<Member>> members;
  {
    const std::scoped_lock lock(mutex_);
    members.swap(members_);
    regions_.clear();
  }
}

// On a fault thread, with nothing to do. It never waits for the lock: who has it may wait for this thread.
void FaultThreads::start_on(int core) {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (core < 0 || !lock || members_.empty() || members_.size() >= kThreadsMax) return;
  if (std::ranges::any_of(members_, [&](const auto& member) { return member->core() == core; })) return;
  // The first, which floats, settles where the first fault came from: floating, it would at times read the
  // fault on another core, before the thread on the right one has been switched to.
  if (members_.front()->core() < 0) return members_.front()->stay_on(core);
  try {
    auto member = std::make_unique<Member>(*this, core);
    for (const auto& [region, memory] : regions_) member->thread().add(region, *memory);
    members_.push_back(std::move(member));
  } catch (const SetupError&) {  // no thread or descriptor to be had: the others go on
  }
}

void FaultThreads::add(std::uint32_t region, const RegionMemory& memory) {
  const std::scoped_lock lock(mutex_);
  for (const auto& member : members_) member->thread().add(region, memory);
  regions_.emplace_back(region, &memory);
}

void FaultThreads::remove(std::uint32_t region) {
  const std::scoped_lock lock(mutex_);
  for (const auto& member : members_) member->thread().remove(region);
  std::erase_if(regions_, [&](const auto& entry) { return entry.first == region; });
}

FaultThread::Counters FaultThreads::counters() const {
  const std::scoped_lock lock(mutex_);
  FaultThread::Counters sum;
  for (const auto& member : members_) {
    const FaultThread::Counters one = member->thread().counters();
    sum.read_count += one.read_count;
    sum.message_count += one.message_count;
    sum.duplicate_count += one.duplicate_count;
  }
  return sum;
}

std::size_t FaultThreads::thread_count() const {
  const std::scoped_lock lock(mutex_);
  return members_.size();
}

}  // namespace pagewire::fault
