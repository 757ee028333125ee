// What DPDK has to say, kept instead of printed: the tail of its log, and whatever it writes to stdout or
// stderr while it starts. Any thread. Nothing here is ever destroyed, since DPDK's own threads live until the
// process ends.
#pragma once

#include <cstdio>
#include <string>

namespace pagewire::dataplane {

// The last lines that DPDK logged in this process, oldest first, at most `bytes_max` of them; no trailing
// newline.
std::string eal_log_tail(std::size_t bytes_max = 1024);

// A stream for rte_openlog_stream() that keeps the tail and prints nothing. Created once; nullptr if out of
// memory.
FILE* eal_log_stream();

// While it lives, what the constructing thread writes by stdio to stdout or stderr goes to the log tail; what
// other threads write passes through unchanged. Only one at a time. DPDK reports some start-up failures by
// fprintf(stderr).
class QuietStdio {
 public:
  QuietStdio();
  ~QuietStdio();
  QuietStdio(const QuietStdio&) = delete;
  QuietStdio& operator=(const QuietStdio&) = delete;
};

}  // namespace pagewire::dataplane
