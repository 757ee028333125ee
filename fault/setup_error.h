// The error that the lower layers throw while they are being set up. The data path never throws.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace pagewire::fault {

// What failed, the value that was seen, and what the reader can do about it. Any thread.
class SetupError : public std::runtime_error {
 public:
  SetupError(std::string what_failed, std::string seen, std::string remedy)
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

}  // namespace pagewire::fault
