// No signal is served on the calling thread as long as it lives: for what a signal handler of the service,
// which may touch a page and so wait for a loop, must not interrupt. Any thread.
#pragma once

#include <pthread.h>

#include <csignal>

namespace pagewire::dataplane {

class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  const sigset_t& before() const { return before_; }

 private:
  sigset_t before_{};
};

}  // namespace pagewire::dataplane
