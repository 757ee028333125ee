// What an exploration found, to read.
#include <cstdio>

#include "test/model/explore.h"

namespace pagewire::model {

std::string Report::summary() const {
  char text[400];
  std::snprintf(
      text, sizeof text,
      "%zu states, %zu edges, depth %zu, %zu node states, %zu messages, %.1f s, %.0f states/s (%.0f a CPU "
      "second), %.0f MB; "
      "%zu deadlocks, %zu stuck; %s",
      states, edges, depth, node_states, messages, seconds,
      seconds > 0 ? static_cast<double>(states) / seconds : 0.0,
      cpu_seconds > 0 ? static_cast<double>(states) / cpu_seconds : 0.0,
      static_cast<double>(memory_bytes) / 1e6, deadlocks, stuck,
      !violation.empty() ? violation.c_str() : (complete ? "complete, no violation" : "not complete"));
  return text;
}

std::string Report::figure() const {
  char text[200];
  std::snprintf(text, sizeof text, "%zu states, %zu edges, depth %zu, %.0f states per CPU second", states,
                edges, depth, cpu_seconds > 0 ? static_cast<double>(states) / cpu_seconds : 0.0);
  return text;
}

std::string Report::path_text() const {
  std::string text;
  for (std::size_t i = 0; i < path.size(); ++i) {
    text += std::to_string(i) + ". " + path[i].text + "\n";
    for (const std::string& node : path[i].nodes) text += "     " + node + "\n";
  }
  if (!violation.empty()) text += violation + "\n";
  return text;
}

std::string Report::mermaid() const {
  if (path.empty()) return {};
  std::string text = "sequenceDiagram\n";
  for (std::size_t i = 0; i < path[0].nodes.size(); ++i) text += "  participant n" + std::to_string(i) + "\n";
  const auto note = [&](std::uint8_t node, const std::string& what) {
    text += "  Note over n" + std::to_string(node) + ": " + what + "\n";
  };
  for (std::size_t i = 1; i < path.size(); ++i) {
    const PathStep& step = path[i];
    if (step.kind != Action::Kind::kDeliver) {
      const std::size_t colon = step.text.find(": ");
      note(step.node.value, colon == std::string::npos ? step.text : step.text.substr(colon + 2));
      continue;
    }
    const std::string what = describe(step.envelope);
    text += "  n" + std::to_string(step.envelope.message.from.value) + "->>n" +
            std::to_string(step.node.value) + ": " + what + "\n";
  }
  if (!violation.empty()) note(path.back().node.value, violation);
  return text;
}

}  // namespace pagewire::model
