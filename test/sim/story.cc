#include "test/sim/story.h"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace pagewire::sim {

using protocol::Message;
using protocol::MessageType;

const char* type_name(MessageType type) {
  static constexpr std::array<const char*, protocol::kMessageTypes> kNames = {
      "nothing",      "copy request", "copy reply", "write request", "ownership transfer",
      "transfer ack", "invalidate",   "ack",        "not owner",     "held"};
  return kNames[static_cast<std::size_t>(type)];
}

std::string describe(const Message& message) {
  std::string text = type_name(message.type);
  if (message.direct) text += " direct";
  switch (message.type) {
    case MessageType::kCopyRequest:
    case MessageType::kCopyReply:
    case MessageType::kWriteRequest:
      text += fmt::format(" t{} v{} d{}", message.transaction.value, message.version.value,
                          message.data_version.value);
      break;
    case MessageType::kOwnershipTransfer:
      text += fmt::format(" t{} v{} d{} e{} copies {:#x}", message.transaction.value, message.version.value,
                          message.data_version.value, message.epoch.value, message.copyset.bits());
      break;
    case MessageType::kTransferAck:
      text += fmt::format(" e{}", message.epoch.value);
      break;
    case MessageType::kInvalidate:
    case MessageType::kAck:
      text += fmt::format(" v{}", message.version.value);
      break;
    case MessageType::kNotOwner:
      text +=
          fmt::format(" t{} hint {} e{}", message.transaction.value, message.hint.value, message.epoch.value);
      break;
    case MessageType::kHeld:
      text += fmt::format(" t{} v{} for {} ns", message.transaction.value, message.version.value,
                          message.wait_ns);
      break;
  }
  return message.has_bytes ? text + " with bytes" : text;
}

bool Story::wants(std::uint64_t step, std::optional<std::uint32_t> page) const {
  if (step < choice_.from_step || step > choice_.to_step) return false;
  return !choice_.page || !page || *page == *choice_.page;
}

void Story::tell(Line line) {
  if (!wants(line.step, line.page)) return;
  lines_.push_back(std::move(line));
  if (lines_.size() <= choice_.lines_max) return;
  lines_.pop_front();
  ++left_off_;
}

std::string Story::plain() const {
  std::string text;
  for (const Line& line : lines_) {
    std::string who;
    if (line.kind == Line::Kind::kWeather) {
      who = "weather";
    } else if (line.kind == Line::Kind::kNote || line.kind == Line::Kind::kViolation) {
      who = fmt::format("N{}", line.node);
    } else {
      const char* arrow = line.kind == Line::Kind::kMessage ? "->" : "-x";
      who = fmt::format("N{} {} N{}", line.from, arrow, line.node);
    }
    text += fmt::format("{:>8} {:>12.3f} us  {:<9} {:<5} {}\n", line.step,
                        static_cast<double>(line.time_ns) / 1e3, who,
                        line.page ? fmt::format("p{}", *line.page) : "", line.text);
  }
  return text;
}

std::string Story::mermaid(std::uint32_t nodes) const {
  std::string text = "sequenceDiagram\n";
  for (std::uint32_t i = 0; i < nodes; ++i) text += fmt::format("  participant N{}\n", i);
  for (const Line& line : lines_) {
    const std::string page = line.page && !choice_.page ? fmt::format("p{} ", *line.page) : "";
    switch (line.kind) {
      case Line::Kind::kNote:
        text += fmt::format("  Note over N{}: {}{}\n", line.node, page, line.text);
        break;
      case Line::Kind::kMessage:
        text += fmt::format("  N{}->>N{}: {}{}\n", line.from, line.node, page, line.text);
        break;
      case Line::Kind::kIgnored:
      case Line::Kind::kNotSent:
        text += fmt::format("  N{}--xN{}: {}{}\n", line.from, line.node, page, line.text);
        break;
      case Line::Kind::kWeather:
        text += fmt::format("  Note over N0,N{}: {}\n", nodes - 1, line.text);
        break;
      case Line::Kind::kViolation:
        text += fmt::format("  Note over N0,N{}: VIOLATION at step {}, N{}: {}{}\n", nodes - 1, line.step,
                            line.node, page, line.text);
        break;
    }
  }
  return text;
}

}  // namespace pagewire::sim
