// What a demo node says of its progress to the process that started it, over a pipe; and the line that is
// made of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/word_count.h"

namespace pagewire::tools {

inline constexpr int kProgressFd = 3;

struct ProgressMessage {
  std::uint32_t node = 0;
  Step step = Step::kStarting;
  std::uint32_t percent = 0;
};

// A Progress that writes to the pipe; a reader who has gone, or a full pipe, does not matter.
Progress progress_to_pipe(std::uint32_t node);

// Draws it on stderr: one line that is written over on a terminal, else a line now and then. One thread.
class ProgressLine {
 public:
  explicit ProgressLine(std::uint32_t node_count);

  void update(const ProgressMessage& message);
  // Takes the line away, so that other text can be written; the next update draws it again.
  void clear();

 private:
  std::string text() const;

  std::vector<ProgressMessage> latest_;
  bool terminal_;
  bool drawn_ = false;
  Step said_step_ = Step::kStarting;
  std::uint32_t said_percent_ = 0;
};

}  // namespace pagewire::tools
