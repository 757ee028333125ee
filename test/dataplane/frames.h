// Frames for the tests of ports: everything behind the Ethernet header is one byte, again and again.
#pragma once

#include <rte_mbuf.h>

#include <cstdint>
#include <cstring>

#include "dataplane/port.h"

namespace pagewire::test {

inline rte_mbuf* make_frame(const dataplane::Port& port, std::uint16_t queue, std::uint32_t bytes,
                            std::uint8_t fill) {
  rte_mbuf* const frame = rte_pktmbuf_alloc(port.pool(queue));
  if (frame == nullptr) return nullptr;
  char* const data = rte_pktmbuf_append(frame, static_cast<std::uint16_t>(bytes));
  std::memset(data, fill, bytes);
  return frame;
}

// The byte, if all of the payload has it; else -1.
inline int fill_of(const rte_mbuf* frame) {
  const auto* const data = rte_pktmbuf_mtod(frame, const std::uint8_t*);
  for (std::uint32_t i = dataplane::kEthernetBytes; i < frame->data_len; ++i) {
    if (data[i] != data[dataplane::kEthernetBytes]) return -1;
  }
  return data[dataplane::kEthernetBytes];
}

}  // namespace pagewire::test
