// `pagewire demo`: starts the nodes as processes, shows how they get on, and passes on what node 0 has to
// say.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>

#include "pagewire/error.h"
#include "pagewire/pagewire.h"
#include "tools/children.h"
#include "tools/commands.h"
#include "tools/demo_progress.h"
#include "tools/pipe.h"
#include "tools/private_folder.h"
#include "tools/text_files.h"
#include "tools/word_count.h"

namespace pagewire::tools {

namespace {

class Demo {
 public:
  explicit Demo(const DemoOptions& options) : options_(options), progress_(options.node_count) {}

  int run() {
    for (std::uint32_t id = 0; id < options_.node_count; ++id) {
      children_.start(arguments_for(id), id == 0 ? out_.writer() : -1, err_.writer(),
                      progress_pipe_.writer());
    }
    for (Pipe* pipe : {&out_, &err_, &progress_pipe_}) pipe->close_writer();
    std::optional<ChildEnd> failed;
    bool wrong = false;
    while (children_.running_count() > 0 && !failed && stopped_by_ == 0) {
      wait_for_something();
      pass_on();
      const Children::News news = children_.take_news();
      stopped_by_ = news.signal;
      for (const ChildEnd& end : news.ends) {
        if (end.exit_code == kWrongCount) {
          wrong = true;
        } else if (end.exit_code != kRight && !failed) {
          failed = end;
        }
      }
    }
    children_.stop_all();
    pass_on();
    progress_.clear();
    fmt::print("{}", said_);
    std::fflush(stdout);
    if (failed) {
      throw Error("demo", fmt::format("node {} ended with {}", failed->index, text_of(*failed)),
                  "The other nodes were stopped. `pagewire doctor` checks this machine");
    }
    if (wrong) throw Error("demo", "WRONG COUNT in shared memory", "Please report it with the lines above");
    return kRight;
  }

  int stopped_by() const { return stopped_by_; }

 private:
  std::vector<std::string> arguments_for(std::uint32_t id) const {
    std::vector<std::string> arguments = {"pagewire",
                                          "demo-node",
                                          fmt::format("--id={}", id),
                                          fmt::format("--nodes={}", options_.node_count),
                                          fmt::format("--loops={}", options_.loops),
                                          fmt::format("--folder={}", folder_.path()),
                                          fmt::format("--drop={}", options_.impairment.drop),
                                          fmt::format("--duplicate={}", options_.impairment.duplicate),
                                          fmt::format("--reorder={}", options_.impairment.reorder),
                                          fmt::format("--seed={}", options_.impairment.seed)};
    if (options_.corrupt) arguments.emplace_back("--corrupt");
    arguments.emplace_back("--");
    if (id == 0) arguments.insert(arguments.end(), options_.files.begin(), options_.files.end());
    return arguments;
  }

  void wait_for_something() const {
    pollfd waiting[] = {{.fd = children_.signal_fd(), .events = POLLIN, .revents = 0},
                        {.fd = open_fd(out_, out_ended_), .events = POLLIN, .revents = 0},
                        {.fd = open_fd(err_, err_ended_), .events = POLLIN, .revents = 0},
                        {.fd = open_fd(progress_pipe_, progress_ended_), .events = POLLIN, .revents = 0}};
    ::poll(waiting, std::size(waiting), -1);
    out_ended_ = out_ended_ || is_end(waiting[1]);
    err_ended_ = err_ended_ || is_end(waiting[2]);
    progress_ended_ = progress_ended_ || is_end(waiting[3]);
  }
  static int open_fd(const Pipe& pipe, bool ended) { return ended ? -1 : pipe.reader(); }
  static bool is_end(const pollfd& polled) {
    return (polled.revents & POLLHUP) != 0 && (polled.revents & POLLIN) == 0;
  }

  void pass_on() {
    said_ += out_.take();
    if (const std::string complaint = err_.take(); !complaint.empty()) {
      progress_.clear();
      fmt::print(stderr, "{}", complaint);
    }
    unread_progress_ += progress_pipe_.take();
    ProgressMessage message;
    std::size_t used = 0;
    for (; unread_progress_.size() - used >= sizeof message; used += sizeof message) {
      std::memcpy(&message, unread_progress_.data() + used, sizeof message);
      progress_.update(message);
    }
    unread_progress_.erase(0, used);
  }

  const DemoOptions& options_;
  PrivateFolder folder_;
  Pipe out_;            // node 0's stdout
  Pipe err_;            // stderr of all
  Pipe progress_pipe_;  // ProgressMessages of all
  mutable bool out_ended_ = false;
  mutable bool err_ended_ = false;
  mutable bool progress_ended_ = false;
  std::string said_;
  std::string unread_progress_;
  ProgressLine progress_;
  Children children_;
  int stopped_by_ = 0;
};

}  // namespace

int run_demo(const DemoOptions& given) {
  DemoOptions options = given;
  if (options.files.empty()) options.files = default_text_files();
  for (const std::string& path : options.files) {
    if (::access(path.c_str(), R_OK) != 0)
      throw Error(path, std::strerror(errno), "Name readable text files");
  }
  if (options.impairment.drop > 0 || options.impairment.duplicate > 0 || options.impairment.reorder > 0) {
    fmt::print("The nodes' ports drop {}, double {} and reorder {} of the frames, seed {}.\n",
               options.impairment.drop, options.impairment.duplicate, options.impairment.reorder,
               options.impairment.seed);
    std::fflush(stdout);
  }
  int signal = 0;
  int exit_code = kRight;
  {
    Demo demo(options);
    exit_code = demo.run();
    signal = demo.stopped_by();
  }
  if (signal != 0) end_by_signal(signal);
  return exit_code;
}

int run_demo_node(const DemoNodeOptions& options) {
  Config config = Config::local(options.id, options.demo.node_count, options.folder);
  config.cluster = "demo";
  config.loops = options.demo.loops;
  config.impairment = options.demo.impairment;
  const Progress progress = progress_to_pipe(options.id);
  progress(Step::kStarting, 0);
  std::optional<Expected> expected;
  if (options.id == 0) expected = prepare(options.demo.files);
  progress(Step::kJoining, 0);
  Node node(config);
  const CountResult result =
      count_words(node, expected ? &*expected : nullptr, options.demo.corrupt, progress);
  if (options.id == 0) fmt::print("{}", text_of(result));
  std::fflush(stdout);
  return result.right ? kRight : kWrongCount;
}

}  // namespace pagewire::tools
