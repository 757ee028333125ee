// The error that setting Pagewire up throws. The data path never throws.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace pagewire {

// What failed, the value that was seen, and what to do about it; what() is all three as sentences.
class Error : public std::runtime_error {
 public:
  Error(std::string what_failed, std::string seen, std::string remedy)
      : std::runtime_error(what_failed + ": " + seen + ". " + remedy),
        what_failed_(std::move(what_failed)),
        seen_(std::move(seen)),
        remedy_(std::move(remedy)) {}

  const std::string& what_failed() const { return what_failed_; }
  const std::string& seen() const { return seen_; }
  const std::string& remedy() const { return remedy_; }

 private:
  std::string what_failed_;
  std::string seen_;
  std::string remedy_;
};

}  // namespace pagewire
