// The second half of receive_fuzz: peers that answer properly again. However the frames before were forged,
// every page comes to rest; then the whole pool of rounds can be filled once more, by others' requests and by
// our own faults, so none was lost; then all is given back. Within a turn of ScriptedNode.
#pragma once

#include <cstddef>
#include <cstdint>

#include "test/fuzz/scripted_node.h"

namespace pagewire::test {

class ComingToRest {
 public:
  // False at the end.
  bool turn(ScriptedNode& node);

 private:
  enum class Stage : std::uint8_t {
    kIntroduce,
    kAnswer,
    kOwnAll,
    kHandAllOver,
    kGiveBack,
    kFaultOnAll,
    kAnswerFaults
  };

  bool answer(ScriptedNode& node, std::uint32_t page);
  bool at_rest(ScriptedNode& node);
  // Each true once it is done.
  bool introduce(ScriptedNode& node);
  bool own_all(ScriptedNode& node);
  bool ask_for_all(ScriptedNode& node);
  bool fault_on_all(ScriptedNode& node);
  void next(Stage stage);

  static constexpr std::size_t kTurnsMax = 400;
  Stage stage_ = Stage::kIntroduce;
  std::size_t turns_ = 0;        // in this stage
  std::size_t quiet_turns_ = 0;  // in a row without anything under way
  std::uint32_t page_ = 0;       // whose turn it is
};

}  // namespace pagewire::test
