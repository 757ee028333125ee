// The bounded pool of rounds; only its loop calls it.
#include "protocol/round.h"

#include <algorithm>

namespace pagewire::protocol {

Rounds::Rounds(std::span<Round> rounds, std::span<Time> deadlines) : rounds_(rounds), deadlines_(deadlines) {
  const std::size_t count = std::min<std::size_t>({rounds.size(), deadlines.size(), kNoRound});
  rounds_ = rounds.first(count);
  deadlines_ = deadlines.first(count);
  local_max_ = count - (count + 3) / 4;
  for (std::size_t i = count; i-- > 0;) {
    rounds_[i] = Round{};
    rounds_[i].page.index = free_;
    deadlines_[i] = kNever;
    free_ = static_cast<std::uint16_t>(i);
  }
}

std::uint16_t Rounds::take(PageId page, bool local) {
  if (free_ == kNoRound || (local && !has_local_share())) return kNoRound;
  const std::uint16_t index = free_;
  Round& round = rounds_[index];
  free_ = static_cast<std::uint16_t>(round.page.index);
  round = Round{};
  round.page = page;
  round.local = local;
  deadlines_[index] = kNever;
  high_ = std::max<std::uint16_t>(high_, static_cast<std::uint16_t>(index + 1));
  ++used_count_;
  if (local) ++local_count_;
  return index;
}

void Rounds::give_back(std::uint16_t index) {
  set_local(index, false);
  Round& round = rounds_[index];
  round.stage = Stage::kFree;
  round.page = PageId{0, free_};
  deadlines_[index] = kNever;
  free_ = index;
  --used_count_;
  if (used_count_ == 0) next_deadline_ = next_wake_ = kNever;
}

void Rounds::set_local(std::uint16_t index, bool local) {
  Round& round = rounds_[index];
  if (round.local == local) return;
  round.local = local;
  if (local) {
    ++local_count_;
  } else {
    --local_count_;
  }
}

void Rounds::arm(std::uint16_t index, Time deadline) {
  deadlines_[index] = deadline;
  next_deadline_ = std::min(next_deadline_, deadline);
  if (rounds_[index].stage != Stage::kHolding) next_wake_ = std::min(next_wake_, deadline);
}

std::uint16_t Rounds::next_expired(Time now, std::uint16_t from) {
  for (std::uint16_t i = from; i < high_; ++i) {
    if (deadlines_[i] <= now) return i;
  }
  next_deadline_ = next_wake_ = kNever;
  for (std::uint16_t i = 0; i < high_; ++i) {
    next_deadline_ = std::min(next_deadline_, deadlines_[i]);
    if (rounds_[i].stage != Stage::kHolding) next_wake_ = std::min(next_wake_, deadlines_[i]);
  }
  return kNoRound;
}

}  // namespace pagewire::protocol
