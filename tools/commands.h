// The subcommands of `pagewire`. Each gives the process's exit code and throws Error. Called once, by main.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pagewire/config.h"

namespace pagewire::tools {

inline constexpr int kRight = 0;
inline constexpr int kFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kWrongCount = 3;  // of a demo node, to the demo

struct DemoOptions {
  std::uint32_t node_count = 3;
  std::uint32_t loops = 1;
  Impairment impairment;
  bool corrupt = false;
  std::vector<std::string> files;  // empty: the default text
};
int run_demo(const DemoOptions& options);

// One of the demo's processes.
struct DemoNodeOptions {
  DemoOptions demo;
  std::uint32_t id = 0;
  std::string folder;
};
int run_demo_node(const DemoNodeOptions& options);

struct NodeOptions {
  std::string config_file;
  std::int64_t id = -1;            // -1: as the file says
  double seconds = -1;             // -1: until a signal
  double every_seconds = 10;       // between two lines of statistics
  std::string run;                 // "demo": count words and end
  std::vector<std::string> files;  // of the demo; node 0 reads them
};
int run_node(const NodeOptions& options);

struct DoctorOptions {
  std::string config_file;  // empty: as the demo would
  bool json = false;
};
int run_doctor(const DoctorOptions& options);

// One of the two processes with which the doctor tries whether a node can start.
struct TrialOptions {
  std::uint32_t id = 0;
  std::string folder;
  std::string config_file;
};
int run_trial_node(const TrialOptions& options);

}  // namespace pagewire::tools
