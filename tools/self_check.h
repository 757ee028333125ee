// A small proof that the nodes share memory: for `pagewire node` and the doctor's trial.
#pragma once

#include "pagewire/pagewire.h"

namespace pagewire::tools {

// All nodes call it together, one thread each. Throws Error if what came together is not what was added.
void check_sharing(Node& node);

}  // namespace pagewire::tools
