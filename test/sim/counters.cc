#include "test/sim/counters.h"

namespace pagewire::sim {
namespace {

template <typename Array>
void add_each(Array& to, const Array& from) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

}  // namespace

const char* counter_name(Counter counter) {
  static constexpr std::array<const char*, kCounters> kNames = {"loads",
                                                                "stores",
                                                                "read faults",
                                                                "write faults",
                                                                "busy faults",
                                                                "prefetches",
                                                                "stale faults",
                                                                "hand-overs",
                                                                "frames sent",
                                                                "frames flooded",
                                                                "frames taken",
                                                                "frames lost",
                                                                "frames cut",
                                                                "frames clogged",
                                                                "frames doubled",
                                                                "frames overtaking",
                                                                "frames late",
                                                                "frames garbled",
                                                                "frames without room",
                                                                "events postponed by a pause",
                                                                "frames of strangers",
                                                                "time-outs",
                                                                "repeated requests",
                                                                "turns",
                                                                "turns that others waited for",
                                                                "false turns",
                                                                "pages given up"};
  return kNames[static_cast<std::size_t>(counter)];
}

void Counters::add(const Counters& other) {
  add_each(of, other.of);
  add_each(calamities, other.calamities);
  add_each(drops, other.drops);
  add_each(messages, other.messages);
  add_each(protocol_events, other.protocol_events);
}

}  // namespace pagewire::sim
