// The switches; empty in the shipped build. One thread.
#include "protocol/rules.h"

#ifdef PAGEWIRE_SWITCHABLE_RULES

#include <array>

namespace pagewire::protocol {
namespace {

std::uint64_t switched_off = 0;

constexpr std::array<const char*, kRules> kNames = {
    "R2 transactions grow",
    "R3 only the owner answers",
    "R3 reader into the copyset before the data",
    "R3 a collecting owner serves nobody",
    "R4 the whole copyset promises",
    "R4 a promise counts by its floor",
    "R5 floor kept after an invalidate",
    "R5 floor kept after a write request",
    "R5 a floor only grows",
    "R6 only the pending transaction",
    "R6 only at or above the own floor",
    "R7 zap before promise",
    "R8 stops own access",
    "R8 stops being owner",
    "R8 version rises",
    "R8 epoch rises",
    "R8 copyset travels",
    "R8 transfer is repeated",
    "R8 kept until acknowledged",
    "R8 never resumes",
    "R9 only above the own epoch",
    "R9 acknowledged again",
    "R10 granted list travels",
    "R10 granted is dropped",
    "R11 boot id",
    "R11 view number",
    "addressed to us",
    "two delays: heard once",
    "two delays: version reaches the reader's floor",
    "two delays: tag of the tenure",
    "one request a page",
    "reserve for others",
    "no wait: who hands over says who is next",
    "no wait: a hand-over is followed once",
    "no wait: who was turned away goes first",
    "no wait: a turn taken ends the hold",
};

constexpr std::uint64_t bit(Rule rule) { return std::uint64_t{1} << static_cast<unsigned>(rule); }

}  // namespace

bool keeps(Rule rule) { return (switched_off & bit(rule)) == 0; }
void switch_off(Rule rule) { switched_off |= bit(rule); }
void switch_all_on() { switched_off = 0; }
const char* rule_name(Rule rule) { return kNames[static_cast<std::size_t>(rule)]; }

}  // namespace pagewire::protocol

#endif
