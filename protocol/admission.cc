#include "protocol/admission.h"

#include "protocol/rules.h"

namespace pagewire::protocol {

Drop admit(const Listener& here, const Header& header, std::uint64_t known_boot) {
  if (header.cluster != here.cluster) return Drop::kForeignCluster;
  if (header.view != here.view && keeps(Rule::kViewNumber)) return Drop::kWrongView;
  if (header.sender == here.self) return Drop::kOwnEcho;
  if (header.sender.value >= here.node_count) return Drop::kUnknownSender;
  if (!header.to.contains(here.self) && keeps(Rule::kAddressed)) return Drop::kNotForUs;
  const bool newer_life =
      header.type == kTypeBeat && header.boot_id > known_boot && (known_boot == 0 || !here.joined);
  if (header.boot_id != known_boot && !newer_life && keeps(Rule::kBootId)) return Drop::kOldBootId;
  return Drop::kNone;
}

}  // namespace pagewire::protocol
