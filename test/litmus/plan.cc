// See plan.h.
#include "test/litmus/plan.h"

#include "test/litmus/random.h"

namespace pagewire::litmus {

namespace {

// Threads that go at the same pace through the same instances meet in them; those that differ show each other
// pages that move at any point. Both are wanted.
constexpr std::array<std::uint32_t, 4> kPauseMasks = {0, 1, 7, 31};
constexpr std::array<std::uint32_t, 4> kGapMasks = {0, 0, 1, 15};
// Long enough for pages to come and go between two operations of one instance.
constexpr std::array<std::uint32_t, 4> kMeetGapMasks = {0, 15, 1023, 4095};
constexpr std::array<std::size_t, 4> kLeads = {1, 1, 4, 1024};  // one thread begins up to so many ahead
// A page that came is held for some microseconds, enough for many instances: threads that did not meet now
// and then would go through a batch one after the other.
constexpr std::array<std::size_t, 4> kMeetEvery = {16, 32, 64, 1024};
constexpr std::uint64_t kOneInReversed = 8;
constexpr std::uint64_t kOneInStriding = 4;

ThreadPlan plan_thread(Random& random, std::size_t start, std::size_t step, std::size_t lead) {
  ThreadPlan plan;
  for (Touch& touch : plan.touches) touch = static_cast<Touch>(random.below(3));
  plan.start = start + random.below(lead);
  plan.step = random.below(kOneInReversed) == 0 ? ~step + 1 : step;
  plan.pause_mask = kPauseMasks[random.below(kPauseMasks.size())];
  plan.gap_mask = kGapMasks[random.below(kGapMasks.size())];
  plan.meet_gap_mask = kMeetGapMasks[random.below(kMeetGapMasks.size())];
  plan.seed = random.next();
  return plan;
}

}  // namespace

BatchPlan plan_batch(std::uint64_t seed, const Case& one, std::uint64_t batch, std::size_t instance_count) {
  const std::uint64_t number =
      (one.shape * kOrders.size() + static_cast<std::uint64_t>(one.order)) * kLayouts.size() +
      static_cast<std::uint64_t>(one.layout);
  Random random(Random(Random(seed).next() + number).next() + batch);
  BatchPlan plan;
  const std::uint64_t nodes = one.code().thread_count;
  for (std::uint8_t& resetter : plan.resetters) resetter = static_cast<std::uint8_t>(random.below(nodes));
  plan.meet_every = kMeetEvery[random.below(kMeetEvery.size())];
  plan.reader = static_cast<std::uint8_t>(random.below(nodes));
  const std::size_t start = random.below(instance_count);
  const std::size_t step = random.below(kOneInStriding) == 0 ? random.below(instance_count) | 1 : 1;
  const std::size_t lead = kLeads[random.below(kLeads.size())];
  for (std::size_t t = 0; t < nodes; ++t) plan.threads[t] = plan_thread(random, start, step, lead);
  return plan;
}

}  // namespace pagewire::litmus
