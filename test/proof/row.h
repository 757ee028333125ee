// A line of the table with which ./run test ends: what a test of the proof ran, and how far. From the test's
// thread, within a test case or its suite's end.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace pagewire::proof {

// `part`: checker, simulator, mutants, litmus, history, fuzzing or sanitizers. The verdict and the time are
// the test case's.
inline void row(const std::string& part, const std::string& what, const std::string& figure) {
  testing::Test::RecordProperty("proof", part + "|" + what + "|" + figure);
}

}  // namespace pagewire::proof
