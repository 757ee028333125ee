#include "tools/word_count.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <utility>

#include "tools/text_files.h"
#include "tools/word_table.h"

namespace pagewire::tools {

namespace {

// After so many words of its share a node adds what it has gathered to the shared table. Adding each word at
// once would only measure how often the page of "the" can change hands.
constexpr std::uint64_t kWordsPerFlush = 8192;
constexpr std::size_t kDifferencesShown = 5;
constexpr std::size_t kTopWords = 10;
constexpr std::size_t kPageBytes = 4096;

// What node 0 tells all; the first page of the board. The reports follow, a page each.
struct Plan {
  std::uint64_t text_bytes;
  std::uint64_t slot_count;
};

struct alignas(kPageBytes) ReportPage {
  NodeReport report;
};

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                    std::chrono::nanoseconds(1));
}

std::uint32_t percent_of(std::size_t done, std::size_t all) {
  return done >= all ? 100 : static_cast<std::uint32_t>(100 * done / all);
}

// Adds what was gathered, in the order of the table's pages, so that each page is fetched once a flush.
void flush(WordTable& table, WordCounts& gathered) {
  std::vector<std::pair<std::uint64_t, const WordCounts::value_type*>> ordered;
  ordered.reserve(gathered.size());
  for (const auto& entry : gathered) ordered.emplace_back(hash_of(entry.first), &entry);
  std::ranges::sort(ordered);
  for (const auto& [hash, entry] : ordered) {
    if (!table.add(entry->first, hash, entry->second)) {
      throw Error("the shared word table", "full",
                  "This is a defect: it has room for twice the words of the text");
    }
  }
  gathered.clear();
}

// Counts the share of one node; gives its number of words.
std::uint64_t count_share(const Node& node, std::string_view text, WordTable& table,
                          const Progress& progress) {
  const auto [begin, end] = share_of(text.size(), node.id(), node.size());
  WordReader words(text, begin, end);
  WordCounts gathered;
  std::uint64_t word_count = 0;
  std::string key;
  for (std::string_view word = words.next(); !word.empty(); word = words.next()) {
    key = word;
    ++gathered[key];
    if (++word_count % kWordsPerFlush == 0) {
      flush(table, gathered);
      progress(Step::kCounting, percent_of(words.position() - begin, end - begin));
    }
  }
  flush(table, gathered);
  progress(Step::kCounting, 100);
  return word_count;
}

void fill(const Region& region, const std::string& text, const Progress& progress) {
  constexpr std::size_t kPart = 64 * kPageBytes;
  for (std::size_t done = 0; done < text.size(); done += kPart) {
    std::memcpy(region.data() + done, text.data() + done, std::min(kPart, text.size() - done));
    progress(Step::kFilling, percent_of(done, text.size()));
  }
}

std::uint64_t count_of(const std::vector<NamedCount>& counts, std::string_view name) {
  const auto found = std::ranges::find(counts, name, &NamedCount::name);
  return found == counts.end() ? 0 : found->count;
}

NodeReport report_of(const Stats& stats, std::uint64_t word_count) {
  return {.read_miss = stats.read_miss,
          .write_miss = stats.write_miss,
          .upgrade = stats.upgrade,
          .local_count = stats.local.count,
          .message_count = stats.sent_message_count,
          .repeated_count = count_of(stats.events, "repeated"),
          .frame_count = stats.sent_frame_count,
          .multicast_count = stats.sent_multicast_count,
          .frame_bytes = stats.sent_bytes,
          .word_count = word_count};
}

// Compares the whole table with the count that was made without it.
void check(const WordTable& table, const WordCounts& expected, CountResult& result) {
  const auto differs = [&](std::string text) {
    result.right = false;
    if (result.differences.size() < kDifferencesShown) result.differences.push_back(std::move(text));
  };
  result.right = true;
  WordCounts seen;
  const bool whole = table.for_each([&](std::string_view word, std::uint64_t count) {
    if (!seen.emplace(word, count).second) differs(fmt::format("\"{}\" is there twice", word));
  });
  if (!whole) differs("a slot was claimed and never written");
  for (const auto& [word, count] : expected) {
    const auto found = seen.find(word);
    const std::uint64_t got = found == seen.end() ? 0 : found->second;
    if (got != count) differs(fmt::format("\"{}\": {} counted, {} expected", word, got, count));
  }
  for (const auto& [word, count] : seen) {
    if (!expected.contains(word)) differs(fmt::format("\"{}\": {} counted, 0 expected", word, count));
    result.word_count += count;
    result.top_words.emplace_back(word, count);
  }
  result.different_word_count = seen.size();
  std::ranges::sort(result.top_words, [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  result.top_words.resize(std::min(result.top_words.size(), kTopWords));
}

}  // namespace

const char* name_of(Step step) {
  constexpr const char* kNames[] = {"starting", "joining",  "filling the text",
                                    "counting", "checking", "done"};
  return kNames[static_cast<std::uint32_t>(step)];
}

Expected prepare(const std::vector<std::string>& files) {
  Expected expected{.text = read_text(files), .counts = {}};
  WordReader words(expected.text, 0, expected.text.size());
  for (std::string_view word = words.next(); !word.empty(); word = words.next())
    ++expected.counts[std::string(word)];
  return expected;
}

CountResult count_words(Node& node, const Expected* expected, bool corrupt, const Progress& progress) {
  const bool leads = node.id() == 0;
  const Region board = node.open_region(
      {.name = "demo.board", .bytes = kPageBytes * (1 + node.size()), .placement = Placement::kOneNode});
  Plan& plan = board.as<Plan>()[0];
  const std::span<ReportPage> reports(reinterpret_cast<ReportPage*>(board.data() + kPageBytes), node.size());
  if (leads) {
    plan = {.text_bytes = expected->text.size(),
            .slot_count = WordTable::capacity_for(expected->counts.size())};
  }
  node.barrier();

  const Region text_region = node.open_region({.name = "demo.text", .bytes = plan.text_bytes});
  const Region table_region =
      node.open_region({.name = "demo.table", .bytes = plan.slot_count * sizeof(WordSlot)});
  const std::string_view text(reinterpret_cast<const char*>(text_region.data()), text_region.bytes());
  WordTable table(table_region.as<WordSlot>());
  if (leads) fill(text_region, expected->text, progress);
  node.barrier();

  const std::uint64_t start_ns = now_ns();
  progress(Step::kCounting, 0);
  const std::uint64_t word_count = count_share(node, text, table, progress);
  if (corrupt && node.id() + 1 == node.size()) table.add("corrupt", hash_of("corrupt"), 1);
  node.barrier();
  const std::uint64_t elapsed_ns = now_ns() - start_ns;
  reports[node.id()].report = report_of(node.stats(), word_count);
  node.barrier();

  CountResult result;
  result.right = true;
  result.elapsed_ns = elapsed_ns;
  if (leads) {
    progress(Step::kChecking, 0);
    check(table, expected->counts, result);
    result.text_bytes = plan.text_bytes;
    for (const ReportPage& page : reports) result.reports.push_back(page.report);
  }
  node.barrier();  // nobody leaves while node 0 still needs its pages
  progress(Step::kDone, 100);
  return result;
}

}  // namespace pagewire::tools
