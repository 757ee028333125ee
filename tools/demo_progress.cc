#include "tools/demo_progress.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace pagewire::tools {

Progress progress_to_pipe(std::uint32_t node) {
  return [node](Step step, std::uint32_t percent) {
    const ProgressMessage message{.node = node, .step = step, .percent = percent};
    const ssize_t written =
        ::write(kProgressFd, &message, sizeof message);  // shorter than PIPE_BUF: whole or not at all
    static_cast<void>(written);
  };
}

ProgressLine::ProgressLine(std::uint32_t node_count)
    : latest_(node_count), terminal_(::isatty(STDERR_FILENO) == 1) {}

std::string ProgressLine::text() const {
  std::string text;
  for (std::size_t i = 0; i < latest_.size(); ++i) {
    text += fmt::format("{}node {} {}", i == 0 ? "" : " · ", i, name_of(latest_[i].step));
    if (latest_[i].step == Step::kFilling || latest_[i].step == Step::kCounting) {
      text += fmt::format(" {} %", latest_[i].percent);
    }
  }
  return text;
}

void ProgressLine::update(const ProgressMessage& message) {
  if (message.node >= latest_.size() || message.step > Step::kDone) return;
  latest_[message.node] = message;
  if (terminal_) {
    fmt::print(stderr, "\r\x1b[K{}", text());
    drawn_ = true;
    return;
  }
  // A new step of node 0, or another quarter of it.
  if (message.node != 0 || (message.step == said_step_ && message.percent < said_percent_ + 25)) return;
  said_step_ = message.step;
  said_percent_ = message.percent;
  fmt::print(stderr, "{}\n", text());
}

void ProgressLine::clear() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
}

}  // namespace pagewire::tools
