#include "dataplane/eal_log.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>

namespace pagewire::dataplane {
namespace {

// A ring of bytes. Constant-initialised and trivially destroyed: usable before main() and after exit handlers
// ran.
struct LogTail {
  std::mutex mutex;
  std::array<char, 16384> bytes{};
  std::size_t written_bytes = 0;

  void append(const char* text, std::size_t size) {
    const std::lock_guard lock(mutex);
    for (std::size_t i = 0; i < size; ++i) bytes[written_bytes++ % bytes.size()] = text[i];
  }
};
constinit LogTail log_tail;

// Which of the real streams a stand-in passes other threads' output on to.
struct StandIn {
  FILE* stand_in = nullptr;
  FILE* real = nullptr;
};
constinit StandIn stand_in_stdout;
constinit StandIn stand_in_stderr;
constinit std::atomic<pid_t> quiet_thread{0};

ssize_t write_tail(void*, const char* text, std::size_t size) {
  log_tail.append(text, size);
  return static_cast<ssize_t>(size);
}

ssize_t write_stand_in(void* cookie, const char* text, std::size_t size) {
  if (gettid() == quiet_thread.load(std::memory_order_relaxed)) {
    log_tail.append(text, size);
    return static_cast<ssize_t>(size);
  }
  return static_cast<ssize_t>(fwrite(text, 1, size, static_cast<StandIn*>(cookie)->real));
}

void replace(FILE*& stream, StandIn& by) {
  if (by.stand_in == nullptr) {
    by.stand_in =
        fopencookie(&by, "w", {.read = nullptr, .write = write_stand_in, .seek = nullptr, .close = nullptr});
    if (by.stand_in == nullptr) return;
    setvbuf(by.stand_in, nullptr, _IONBF, 0);
  }
  by.real = stream;
  stream = by.stand_in;
}

// The stand-in stays: another thread may still be inside it.
void put_back(FILE*& stream, const StandIn& by) {
  if (by.stand_in != nullptr && stream == by.stand_in) stream = by.real;
}

}  // namespace

std::string eal_log_tail(std::size_t bytes_max) {
  const std::lock_guard lock(log_tail.mutex);
  const std::size_t kept = std::min({log_tail.written_bytes, log_tail.bytes.size(), bytes_max});
  std::string text;
  for (std::size_t i = log_tail.written_bytes - kept; i < log_tail.written_bytes; ++i) {
    text.push_back(log_tail.bytes[i % log_tail.bytes.size()]);
  }
  if (kept < log_tail.written_bytes) text.erase(0, text.find('\n') + 1);  // begin with a whole line
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

FILE* eal_log_stream() {
  static FILE* const stream =
      fopencookie(nullptr, "w", {.read = nullptr, .write = write_tail, .seek = nullptr, .close = nullptr});
  return stream;
}

QuietStdio::QuietStdio() {
  quiet_thread.store(gettid(), std::memory_order_relaxed);
  replace(stdout, stand_in_stdout);
  replace(stderr, stand_in_stderr);
}

QuietStdio::~QuietStdio() {
  put_back(stdout, stand_in_stdout);
  put_back(stderr, stand_in_stderr);
  quiet_thread.store(0, std::memory_order_relaxed);
}

}  // namespace pagewire::dataplane
