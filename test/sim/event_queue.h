// What is to happen, by virtual time; what falls on the same moment happens in the order it was put in. A
// four-way heap that keeps its storage from run to run. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pagewire::sim {

struct Event {
  enum class Kind : std::uint8_t {
    kThread,   // a thread of the node goes on; what: its number
    kFault,    // a fault comes out of the node's ring; what: page and access
    kDeliver,  // a frame reaches the node; what: its number
    kTurn,     // the data plane has seen that the threads had their turn; what: the page
    kTimer,    // the node's loop looks at its deadlines; what: which timer this is
    kWeather,  // something befalls the network or a node; what: which
  };
  std::uint64_t time = 0;
  std::uint64_t order = 0;
  std::uint32_t what = 0;
  Kind kind = Kind::kThread;
  std::uint8_t node = 0;

  bool before(const Event& other) const {
    return time != other.time ? time < other.time : order < other.order;
  }
};

class EventQueue {
 public:
  void clear() {
    heap_.clear();
    next_order_ = 0;
  }
  bool empty() const { return heap_.empty(); }
  void push(std::uint64_t time, Event::Kind kind, std::uint8_t node, std::uint32_t what) {
    heap_.push_back({});
    rise(heap_.size() - 1,
         Event{.time = time, .order = next_order_++, .what = what, .kind = kind, .node = node});
  }
  Event pop() {
    const Event first = heap_.front();
    const Event last = heap_.back();
    heap_.pop_back();
    if (!heap_.empty()) sink(last);
    return first;
  }
  // Forgets those that `drop(event)` names.
  template <typename Drop>
  void erase_if(Drop&& drop) {
    std::erase_if(heap_, drop);
    // Sorted is a heap, too.
    std::sort(heap_.begin(), heap_.end(), [](const Event& a, const Event& b) { return a.before(b); });
  }

 private:
  void rise(std::size_t at, const Event& event) {
    while (at > 0) {
      const std::size_t parent = (at - 1) / 4;
      if (!event.before(heap_[parent])) break;
      heap_[at] = heap_[parent];
      at = parent;
    }
    heap_[at] = event;
  }
  void sink(const Event& event) {
    std::size_t at = 0;
    while (true) {
      const std::size_t first = at * 4 + 1;
      if (first >= heap_.size()) break;
      const std::size_t end = std::min(first + 4, heap_.size());
      std::size_t least = first;
      for (std::size_t child = first + 1; child < end; ++child) {
        if (heap_[child].before(heap_[least])) least = child;
      }
      if (!heap_[least].before(event)) break;
      heap_[at] = heap_[least];
      at = least;
    }
    heap_[at] = event;
  }

  std::vector<Event> heap_;
  std::uint64_t next_order_ = 0;
};

}  // namespace pagewire::sim
