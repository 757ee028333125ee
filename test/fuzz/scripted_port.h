// A port that gives a script its turn each time the loop asks for frames, and wakes the loop at once when it
// sleeps. Behind it is a real port. Frames are handed on with the rest of their buffers poisoned, so that
// under ASan a read past a frame's end is seen although the buffer goes on. The loop's thread.
#pragma once

#include <rte_mbuf.h>
#include <sanitizer/asan_interface.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "dataplane/port.h"
#include "test/fuzz/input.h"

namespace pagewire::test {

class ScriptedPort final : public dataplane::Port {
 public:
  // `before_receive` may hand in one frame of its own with put().
  ScriptedPort(std::unique_ptr<dataplane::Port> inner, std::function<void()> before_receive)
      : inner_(std::move(inner)),
        before_receive_(std::move(before_receive)),
        wake_(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) {
    require(wake_ >= 0, "eventfd gives a descriptor");
  }
  ~ScriptedPort() override { ::close(wake_); }
  ScriptedPort(const ScriptedPort&) = delete;
  ScriptedPort& operator=(const ScriptedPort&) = delete;

  void set_narrow(bool narrow) { narrow_ = narrow; }
  // Comes out of the next receive() without the inner port having seen it.
  void put(rte_mbuf* frame) { put_ = frame; }
  // True: from now on the loop sleeps as it does without frames, until its own doorbell rings.
  void let_sleep(bool may_sleep) {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t drained = ::read(wake_, &count, sizeof(count));
    count = 1;
    if (!may_sleep) require(::write(wake_, &count, sizeof(count)) == sizeof(count), "an eventfd takes a one");
  }
  // A new thread is about to use it.
  void expect_new_thread() { thread_is_new_ = true; }

  std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> out) override {
    if (std::exchange(thread_is_new_, false)) let_crashes_be_reported();
    before_receive_();
    std::uint16_t count = inner_->receive(queue, out);
    if (put_ != nullptr && count < out.size()) out[count++] = std::exchange(put_, nullptr);
    for (std::uint16_t i = 0; i < count; ++i) {
      for (rte_mbuf* part = out[i]; part != nullptr; part = part->next) poison_around(*part);
    }
    return count;
  }

  std::uint16_t queue_count() const override { return inner_->queue_count(); }
  bool keeps_queue() const override { return inner_->keeps_queue(); }
  bool has_multicast() const override { return inner_->has_multicast(); }
  std::uint32_t frame_bytes_max() const override { return narrow_ ? 1514 : inner_->frame_bytes_max(); }
  void send(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) override {
    require(rte_pktmbuf_data_len(frame) <= frame_bytes_max(),
            "a frame that is sent is as short as the port wants it");
    inner_->send(queue, to, frame);
  }
  void flush(std::uint16_t queue) override { inner_->flush(queue); }
  std::vector<int> wake_fds(std::uint16_t /*queue*/) const override { return {wake_}; }
  void arm(std::uint16_t queue) override { inner_->arm(queue); }
  void disarm(std::uint16_t queue) override { inner_->disarm(queue); }
  void drain(std::uint16_t queue) override { inner_->drain(queue); }
  rte_mempool* pool(std::uint16_t queue) const override { return inner_->pool(queue); }
  dataplane::PortCounters counters(std::uint16_t queue) const override { return inner_->counters(queue); }
  protocol::NodeSet connected() const override { return inner_->connected(); }
  void close() override { inner_->close(); }

  // Whoever takes a buffer from a pool calls it first.
  static void unpoison(const rte_mbuf& frame) { ASAN_UNPOISON_MEMORY_REGION(frame.buf_addr, frame.buf_len); }

 private:
  static void poison_around(const rte_mbuf& part) {
    const auto* const begin = static_cast<const char*>(part.buf_addr);
    const char* const data = begin + part.data_off;
    ASAN_POISON_MEMORY_REGION(begin, part.data_off);
    ASAN_POISON_MEMORY_REGION(data + part.data_len, part.buf_len - part.data_off - part.data_len);
  }
  // The loop's thread blocks all signals; blocked, these would end the process without a word.
  static void let_crashes_be_reported() {
    sigset_t crashes;
    sigemptyset(&crashes);
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigaddset(&crashes, signal);
    pthread_sigmask(SIG_UNBLOCK, &crashes, nullptr);
  }

  std::unique_ptr<dataplane::Port> inner_;
  std::function<void()> before_receive_;
  int wake_;  // readable until the loop may sleep
  bool narrow_ = false;
  bool thread_is_new_ = false;
  rte_mbuf* put_ = nullptr;
};

}  // namespace pagewire::test
