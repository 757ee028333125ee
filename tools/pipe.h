// A pipe from child processes; the reading end does not block. One thread.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "pagewire/error.h"

namespace pagewire::tools {

class Pipe {
 public:
  Pipe() {
    if (::pipe2(ends_, O_CLOEXEC) != 0)
      throw Error("pipe", std::strerror(errno), "Allow more open files (ulimit -n)");
    ::fcntl(ends_[0], F_SETFL, O_NONBLOCK);
  }
  ~Pipe() {
    close_writer();
    ::close(ends_[0]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int reader() const { return ends_[0]; }
  int writer() const { return ends_[1]; }
  void close_writer() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }

  // What there is to read now; empty as well at the end.
  std::string take() const {
    std::string text;
    char part[4096];
    for (ssize_t got = 1; got > 0;) {
      got = ::read(ends_[0], part, sizeof part);
      if (got > 0) text.append(part, static_cast<std::size_t>(got));
    }
    return text;
  }

 private:
  int ends_[2] = {-1, -1};
};

}  // namespace pagewire::tools
