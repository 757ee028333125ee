// The coherence protocol of write-invalidate regions: pure functions from a page's entry and an event to the
// next entry and a list of effects. No I/O, clock, thread, lock or allocation. The same functions run in the
// packet loop, in the simulator and in the exhaustive checker. docs/protocol.md has the table and the rules
// (R1-R11) they keep; the idea of ownership found by asking, and of hints, is Li and Hudak's (Memory
// coherence in shared virtual memory systems, 1989).
#pragma once

#include <cstdint>

#include "protocol/effects.h"
#include "protocol/message.h"
#include "protocol/page.h"
#include "protocol/round.h"
#include "protocol/types.h"

namespace pagewire::protocol {

// What holds for all pages of a node in one membership. The times may differ from call to call, as a region
// has them.
struct View {
  NodeId self{};
  NodeSet members{};  // this node among them
  std::uint32_t number = 1;
  std::uint64_t retry_ns = 2'000'000;  // the first repeat of anything unanswered; doubles each time
  std::uint64_t retry_ns_max = 100'000'000;
  std::uint64_t grace_ns = 0;  // how long a new owner waits for promises that are on their way already,
                               // before it asks for them by name
  std::uint64_t hold_ns = 0;  // how long at the most what was granted stays, so that the waiting threads have
                              // their turn; 0: it may be taken again in the same transition

  NodeSet others() const { return members.without(self); }
};

// A page in the hands of its loop: its name, its entry, and the pool that its rounds come from.
struct PageRef {
  PageId id{};
  PageEntry& entry;
  Rounds& rounds;
};

enum class Outcome : std::uint8_t {
  kDone,
  kBusy,  // no round to be had: nothing has changed, ask again later
};

// A thread of this node needs the page, or wants it ahead of need. Wakes it if it may go on already.
Outcome on_fault(const View& view, PageRef page, Access access, Time now, Effects& effects);
// A checked message about the page has arrived. With bytes: they are at hand until the effects are carried
// out.
void on_message(const View& view, PageRef page, const Message& message, Time now, Effects& effects);
// The round's deadline has come.
void on_timeout(const View& view, PageRef page, Time now, Effects& effects);
// The threads that waited for this page have run: the hold ends now, and who waits for its end is served.
// Does no harm at any time, and nothing where nothing is held.
void on_turn_taken(const View& view, PageRef page, Time now, Effects& effects);

// The service wants to keep the page, if it is here with that access, until `until`: true if so.
// on_turn_taken() ends it sooner.
bool on_hold(PageRef page, Access access, Time until);

// True if the page is held and messages wait for the end of that: worth finding out whether the threads have
// had their turn.
bool wants_turn(PageRef page, Time now);

// True if on_message would install the bytes that come with this message: whoever gathers fragments may drop
// others early.
bool wants_bytes(const View& view, PageRef page, const Message& message);

}  // namespace pagewire::protocol
