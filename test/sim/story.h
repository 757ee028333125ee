// A run told step by step, for people: as plain lines, or as a Mermaid sequence diagram. Only runs that are
// replayed for it are told. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "protocol/message.h"

namespace pagewire::sim {

// One line of the story.
struct Line {
  enum class Kind : std::uint8_t {
    kNote,     // something at `node`
    kMessage,  // `node` hears from `from`
    kIgnored,  // ... and drops the frame: `text` says why
    kNotSent,  // what `from` sends to `node` does not even start: `text` says why
    kWeather,  // concerns several nodes, or all
    kViolation,
  };
  Kind kind = Kind::kNote;
  std::uint64_t step = 0;
  std::uint64_t time_ns = 0;
  std::uint8_t node = 0;
  std::uint8_t from = 0;
  std::optional<std::uint32_t> page;
  std::string text;
};

// Keeps the lines that are asked for.
class Story {
 public:
  struct Choice {
    std::uint64_t from_step = 0;
    std::uint64_t to_step = ~std::uint64_t{0};
    std::optional<std::uint32_t> page;
    std::size_t lines_max = 5'000;  // the last ones
  };
  explicit Story(const Choice& choice) : choice_(choice) {}

  bool wants(std::uint64_t step, std::optional<std::uint32_t> page) const;
  void tell(Line line);

  std::string plain() const;
  // A ```mermaid``` sequenceDiagram without the fence.
  std::string mermaid(std::uint32_t nodes) const;
  std::size_t left_off() const { return left_off_; }

 private:
  Choice choice_;
  std::deque<Line> lines_;
  std::size_t left_off_ = 0;
};

// "write request t3 v2 d1", in the fields that the type has.
std::string describe(const protocol::Message& message);
const char* type_name(protocol::MessageType type);

}  // namespace pagewire::sim
