// The doctor's trial: one of two processes that join over memif, share a page and leave.
#include "pagewire/pagewire.h"
#include "tools/commands.h"
#include "tools/self_check.h"

namespace pagewire::tools {

int run_trial_node(const TrialOptions& options) {
  Config config;
  if (!options.config_file.empty()) config = Config::from_file(options.config_file);
  const Config two = Config::local(options.id, 2, options.folder);
  config.cluster = "doctor";
  config.node = two.node;
  config.nodes = two.nodes;
  config.folder = two.folder;
  config.file_prefix.clear();
  config.join_timeout_ms = 10'000;
  config.impairment = Impairment{};
  Node node(config);
  check_sharing(node);
  return kRight;
}

}  // namespace pagewire::tools
