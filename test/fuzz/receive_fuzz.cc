// The whole receive path: a node's life as the input tells it, frames good and bad, faults and time; checks
// around each turn; then it must come to rest. See node_script.h, scripted_node.h and coming_to_rest.h. One
// thread.
#include <cstddef>
#include <cstdint>

#include "test/fuzz/coming_to_rest.h"
#include "test/fuzz/node_script.h"
#include "test/fuzz/scripted_node.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static pagewire::test::ScriptedNode node;
  pagewire::test::NodeScript script{pagewire::test::Input({data, size})};
  pagewire::test::ComingToRest rest;
  bool goes_on = true;
  node.run(script.start(), [&] {
    goes_on = goes_on && script.turn(node);
    return goes_on || rest.turn(node);
  });
  return 0;
}
