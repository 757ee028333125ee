// A process that is one node of a cluster: it does what the bench asks, touches pages with a clock around
// each access, and says how long each took. All of it on the one thread of its service.
#pragma once

#include <cstdint>
#include <string>

#include "bench/cluster.h"
#include "bench/group.h"
#include "pagewire/config.h"

namespace pagewire::bench {

struct NodeMember {
  std::uint32_t node = 0;
  std::uint32_t node_count = 0;
  std::string folder;  // of the cluster
  Delivery delivery = Delivery::kThread;
  LoopKind loop_kind = LoopKind::kShared;
  Turns turns;
};

// Joins, says so, and then answers one message for each that it gets, {"do": WHAT, ...}, until "end":
//
//   open     region, pages                 node 1 owns them; all nodes at once
//   barrier                                node.barrier()
//   serve                                  answers {"serving"} first, then is in node.barrier() until all
//   have
//                                          come, and answers with the processor time that it took meanwhile
//   write    PAGES, was, is                checks that the pages hold `was` (if given), and makes it `is`
//   read     PAGES, was                    checks
//   touch    PAGES, warm_up, store, was, is, kind    the same, in random order, timed
//   rest     PAGES, rest_ms, was           sleeps before each load, timed
//   ping_pong region, side, turns, warm_up, start
//   hammer   region, side, ms, start
//   fill     region, first, count, salt    writes every word
//   scan     region, first, count, salt, ahead    reads every word, timed by 64 pages
//   zap      count                         how long taking a mapped page of our own takes, in this process
//   stats    region                        the phases of its faults
//
// PAGES are region, first, count, stride. Throws Error if a page is not what it should be.
void run_node(const NodeMember& member, const Channel& channel);

}  // namespace pagewire::bench
