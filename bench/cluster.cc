// Steps that the processes of a bench take together; see cluster.h.
#include "bench/cluster.h"

#include <algorithm>

#include "bench/floor_member.h"

namespace pagewire::bench {

namespace {

constexpr const char* kProgram = "fault_latency";

bool has_task(const std::vector<Task>& tasks, std::size_t node) {
  return std::ranges::any_of(tasks, [&](const Task& task) { return task.node == node; });
}

}  // namespace

const char* name_of(Delivery delivery) { return delivery == Delivery::kInline ? "inline" : "thread"; }

const char* name_of(LoopKind loops) {
  switch (loops) {
    case LoopKind::kShared:
      return "shared";
    case LoopKind::kDedicated:
      return "dedicated";
    case LoopKind::kSelf:
      return "self";
  }
  return "?";
}

Cluster::Cluster(ProcessGroup& processes, const std::string& folder, const Setting& setting,
                 std::size_t node_count, const Turns& turns)
    : processes_(processes) {
  for (std::size_t node = 0; node < node_count; ++node) {
    nodes_.push_back(processes_.start(
        "node " + std::to_string(node),
        {kProgram, "--member", "node", "--member-index", std::to_string(node), "--member-count",
         std::to_string(node_count), "--member-subfolder", folder, "--delivery", name_of(setting.delivery),
         "--loops", name_of(setting.loops), "--hold-us", std::to_string(turns.hold_us), "--hand-on",
         turns.hand_on ? "true" : "false"}));
  }
  for (const std::size_t process : nodes_) processes_.receive(process);
}

void Cluster::end() {
  for (const std::size_t process : nodes_) processes_.send_last(process, {{"do", "end"}});
  for (const std::size_t process : nodes_) processes_.finish(process);
}

void Cluster::open(const std::string& region, std::size_t page_count) {
  if (!regions_.insert(region).second) return;
  for (const std::size_t process : nodes_)
    processes_.send(process, {{"do", "open"}, {"region", region}, {"pages", page_count}});
  for (const std::size_t process : nodes_) processes_.receive(process);
}

std::vector<Json> Cluster::phase(const std::vector<Task>& tasks, const std::set<std::size_t>& resting) {
  std::vector<Json> answers(nodes_.size());
  const auto serves = [&](std::size_t node) { return !has_task(tasks, node) && !resting.contains(node); };
  for (std::size_t node = 0; node < nodes_.size(); ++node) {
    if (!serves(node)) continue;
    processes_.send(nodes_[node], {{"do", "serve"}});
    processes_.receive(nodes_[node]);
  }
  for (const Task& task : tasks) processes_.send(nodes_[task.node], task.message);
  for (const Task& task : tasks) answers[task.node] = processes_.receive(nodes_[task.node]);
  for (std::size_t node = 0; node < nodes_.size(); ++node) {
    if (!serves(node)) processes_.send(nodes_[node], {{"do", "barrier"}});
  }
  for (std::size_t node = 0; node < nodes_.size(); ++node) {
    const Json answer = processes_.receive(nodes_[node]);
    if (serves(node)) answers[node] = answer;
  }
  return answers;
}

Json Cluster::ask(std::size_t node, const Json& message) {
  processes_.send(nodes_[node], message);
  return processes_.receive(nodes_[node]);
}

void Cluster::pause() {
  for (const std::size_t process : nodes_) processes_.pause(process);
}

void Cluster::resume() {
  for (const std::size_t process : nodes_) processes_.resume(process);
}

FloorPair::FloorPair(ProcessGroup& processes) : processes_(processes) {
  for (const std::size_t index : {0U, 1U}) {
    members_.push_back(processes_.start("floor process " + std::to_string(index),
                                        {kProgram, "--member", "floor", "--member-index",
                                         std::to_string(index), "--member-subfolder", "floors"}));
  }
  for (const std::size_t process : members_) processes_.receive(process);
}

void FloorPair::end() {
  for (const std::size_t process : members_) processes_.send_last(process, {{"do", "end"}});
  for (const std::size_t process : members_) processes_.finish(process);
}

FloorTimes FloorPair::measure(const std::vector<std::string>& floors, std::size_t count) {
  FloorTimes times;
  const auto measure_one = [&](const std::string& what) {
    const Json message = {{"do", what}, {"count", count + kFloorWarmUp}};
    const bool both = what == "bare" || what.starts_with("ping");
    if (both) processes_.send(members_[1], message);
    processes_.send(members_[0], message);
    times[what] = processes_.receive(members_[0]).at("ns").get<std::vector<std::uint64_t>>();
    if (both) processes_.receive(members_[1]);
  };
  measure_one("line");
  for (const std::string& floor : floors) measure_one(floor);
  return times;
}

}  // namespace pagewire::bench
