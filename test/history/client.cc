#include "test/history/client.h"

#include <fmt/format.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "pagewire/pagewire.h"
#include "test/history/history_file.h"

namespace pagewire::history {

namespace {

constexpr std::size_t kPageBytes = 4096;
using Word = std::atomic<Value>;

struct ClientOptions {
  std::uint32_t threads = 1;
  std::uint64_t operations = 1000;  // of each client
  std::uint32_t words = 12;
  std::uint32_t pages = 4;
  std::uint32_t pause_us = 40;
  std::uint64_t seed = 1;
  std::string out;
};

// The clock is read after all before it is done, to the last store that still waits in a buffer, and before
// anything after it begins.
std::int64_t now_ns() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
#if defined(__x86_64__)
  __builtin_ia32_lfence();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

class Client {
 public:
  Client(const Region& region, const ClientOptions& options, std::uint32_t name, std::uint32_t clients)
      : region_(region),
        options_(options),
        name_(name),
        clients_(clients),
        random_(options.seed * 1'000'003 + name),
        last_seen_(options.words, kInitialValue) {
    operations_.reserve(options.operations);
  }

  void run() {
    while (operations_.size() < options_.operations) {
      operations_.push_back(one_operation());
      pause();
    }
  }
  std::vector<Operation>& operations() { return operations_; }

 private:
  // Neighbours share a page, and each page has words that are next to each other: false sharing, on purpose.
  Word& word(std::uint32_t index) const {
    const std::size_t page = index % options_.pages;
    return region_.as<Word>()[page * (kPageBytes / sizeof(Word)) + index / options_.pages];
  }
  Value next_value() { return clients_ * ++written_ + name_; }  // written_ from 1: never 0, never another's

  Operation one_operation() {
    Operation operation{.kind = Kind::kRead, .word = static_cast<std::uint32_t>(random_() % options_.words)};
    const std::uint64_t dice = random_() % 100;
    if (dice >= 50) operation.kind = Kind::kExchange;
    if (dice >= 70) operation.kind = Kind::kWrite;
    if (dice >= 85) operation.kind = Kind::kCompareExchange;
    if (operation.writes()) operation.written = next_value();
    Word& at = word(operation.word);
    operation.invoked_ns = now_ns();
    switch (operation.kind) {
      case Kind::kWrite:
        at.store(operation.written, std::memory_order_relaxed);  // a plain mov; the fence is in now_ns
        break;
      case Kind::kExchange:
        operation.read = at.exchange(operation.written);
        break;
      case Kind::kCompareExchange:
        operation.read = last_seen_[operation.word];
        if (!at.compare_exchange_strong(operation.read, operation.written)) {
          operation.kind = Kind::kCompareExchangeFailed;
          operation.written = 0;
        }
        break;
      default:
        operation.read = at.load();
    }
    operation.responded_ns = now_ns();
    last_seen_[operation.word] = operation.writes() ? operation.written : operation.read;
    return operation;
  }

  // Half the time none, so that there are bursts on pages that are here; else long enough to lose them.
  void pause() {
    if (options_.pause_us == 0 || random_() % 2 == 0) return;
    const auto until = now_ns() + static_cast<std::int64_t>(random_() % (options_.pause_us * 1000));
    do {
      std::this_thread::yield();
    } while (now_ns() < until);
  }

  const Region region_;
  const ClientOptions& options_;
  const std::uint32_t name_;
  const std::uint32_t clients_;
  std::mt19937_64 random_;
  std::uint64_t written_ = 0;
  std::vector<Value> last_seen_;
  std::vector<Operation> operations_;
};

void record(const Config& config, const ClientOptions& options) {
  const auto nodes = static_cast<std::uint32_t>(config.nodes.size());
  const std::uint32_t clients = nodes * options.threads;
  if (options.pages == 0 || options.words > options.pages * (kPageBytes / sizeof(Word))) {
    throw Error("laying out words", fmt::format("{} words on {} pages", options.words, options.pages),
                fmt::format("A page takes {}", kPageBytes / sizeof(Word)));
  }
  Node node(config);
  const Region region = node.open_region({.name = "history", .bytes = options.pages * kPageBytes});
  std::vector<Client> mine;
  for (std::uint32_t thread = 0; thread < options.threads; ++thread) {
    mine.emplace_back(region, options, node.id() * options.threads + thread, clients);
  }
  node.barrier();
  std::vector<std::thread> threads;
  for (Client& client : mine) threads.emplace_back([&client] { client.run(); });
  for (std::thread& thread : threads) thread.join();
  node.barrier();
  const Stats stats = region.stats();
  const Stats of_node = node.stats();
  for (std::uint32_t thread = 0; thread < options.threads; ++thread) {
    ClientRecord record;
    record.facts = {
        {"client", node.id() * options.threads + thread},
        {"clients", clients},
        {"nodes", nodes},
        {"seed", options.seed},
        {"words", options.words},
        {"pages", options.pages},
        {"lost_per_mille", static_cast<std::uint64_t>(std::lround(config.impairment.drop * 1000))}};
    if (thread == 0) {
      record.facts["page_transfers"] = stats.read_miss.count + stats.write_miss.count;
      record.facts["upgrades"] = stats.upgrade.count;
      record.facts["sent_frames"] = of_node.sent_frame_count;
    }
    record.operations = std::move(mine[thread].operations());
    write_record(options.out, record);
  }
  node.barrier();
}

int parse_and_record(int argc, char** argv) {
  CLI::App app("one node of a history's recording");
  std::string scenario;
  std::uint32_t node = 0;
  std::uint32_t nodes = 1;
  std::string folder;
  ClientOptions options;
  Config overrides;
  app.add_option("scenario", scenario);
  app.add_option("--node", node);
  app.add_option("--nodes", nodes);
  app.add_option("--folder", folder);
  app.add_option("--threads", options.threads);
  app.add_option("--operations", options.operations);
  app.add_option("--words", options.words);
  app.add_option("--pages", options.pages);
  app.add_option("--pause-us", options.pause_us);
  app.add_option("--seed", options.seed);
  app.add_option("--out", options.out);
  app.add_option("--loops", overrides.loops);
  app.add_flag_callback("--inline", [&] { overrides.delivery = Delivery::kInline; });
  overrides.loop_kind = LoopKind::kShared;
  app.add_flag_callback("--self", [&] { overrides.loop_kind = LoopKind::kSelf; });
  app.add_option("--drop", overrides.impairment.drop);
  app.add_option("--duplicate", overrides.impairment.duplicate);
  app.add_option("--reorder", overrides.impairment.reorder);
  app.add_option("--retry-us", overrides.retry_us);
  CLI11_PARSE(app, argc, argv);

  Config config = Config::local(node, nodes, folder);
  config.loops = overrides.loops;
  config.delivery = overrides.delivery;
  config.loop_kind = overrides.loop_kind;
  config.impairment = overrides.impairment;
  config.impairment.seed = options.seed;
  config.retry_us = overrides.retry_us;
  if (options.out.empty()) options.out = folder;
  record(config, options);
  std::printf("finished=1\n");
  return 0;
}

}  // namespace

int run_client(int argc, char** argv) {
  try {
    return parse_and_record(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
}

}  // namespace pagewire::history
