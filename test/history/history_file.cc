#include "test/history/history_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

#include "pagewire/error.h"

namespace pagewire::history {

namespace {

constexpr std::string_view kKindLetters = "RWXCF";  // in the order of Kind

// One line after the other, to say where it went wrong.
class Lines {
 public:
  explicit Lines(std::string path) : path_(std::move(path)), file_(path_) {
    if (!file_) throw Error("reading " + path_, std::strerror(errno), "Name a folder that --keep has filled");
  }
  std::istringstream next() {
    ++number_;
    std::string line;
    if (!std::getline(file_, line)) refuse("the file ends");
    line_ = line;
    return std::istringstream(line);
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(fmt::format("{}:{}", path_, number_), what.empty() ? "'" + line_ + "'" : what,
                "Record the history again, or repair the line as test/history/history_file.h says");
  }

 private:
  std::string path_;
  std::ifstream file_;
  std::string line_;
  std::uint64_t number_ = 0;
};

Operation parse_operation(Lines& lines) {
  std::istringstream line = lines.next();
  char letter = 0;
  Operation operation;
  line >> letter >> operation.word >> operation.read >> operation.written >> operation.invoked_ns >>
      operation.responded_ns;
  const std::size_t kind = kKindLetters.find(letter);
  if (!line || kind == std::string_view::npos) lines.refuse("");
  operation.kind = static_cast<Kind>(kind);
  return operation;
}

ClientRecord read_record(const std::string& path) {
  Lines lines(path);
  ClientRecord record;
  for (;;) {
    std::istringstream line = lines.next();
    std::string key;
    std::uint64_t value = 0;
    if (!(line >> key >> value)) lines.refuse("");
    if (key == "operations") {
      record.operations.reserve(std::min<std::uint64_t>(value, 1 << 20));
      for (std::uint64_t i = 0; i < value; ++i) record.operations.push_back(parse_operation(lines));
      return record;
    }
    record.facts[key] = value;
  }
}

std::uint64_t value_or_0(const std::map<std::string, std::uint64_t>& facts, const std::string& key) {
  const auto found = facts.find(key);
  return found == facts.end() ? 0 : found->second;
}

}  // namespace

std::string file_of(const std::string& folder, std::uint64_t client) {
  return fmt::format("{}/client-{}.history", folder, client);
}

void write_record(const std::string& folder, const ClientRecord& record) {
  const std::string path = file_of(folder, value_or_0(record.facts, "client"));
  fmt::memory_buffer text;
  for (const auto& [key, value] : record.facts)
    fmt::format_to(std::back_inserter(text), "{} {}\n", key, value);
  fmt::format_to(std::back_inserter(text), "operations {}\n", record.operations.size());
  for (const Operation& operation : record.operations) {
    fmt::format_to(std::back_inserter(text), "{} {} {} {} {} {}\n",
                   kKindLetters[static_cast<std::size_t>(operation.kind)], operation.word, operation.read,
                   operation.written, operation.invoked_ns, operation.responded_ns);
  }
  std::ofstream file(path, std::ios::trunc);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  if (!file) throw Error("writing " + path, std::strerror(errno), "Make room, or name another folder");
}

std::uint64_t KeptHistory::fact(const std::string& key) const {
  return facts.empty() ? 0 : value_or_0(facts.front(), key);
}

std::uint64_t KeptHistory::total(const std::string& key) const {
  std::uint64_t sum = 0;
  for (const auto& of_client : facts) sum += value_or_0(of_client, key);
  return sum;
}

KeptHistory read_history(const std::string& folder) {
  KeptHistory kept;
  std::uint64_t clients = 1;
  for (std::uint64_t client = 0; client < clients; ++client) {
    const std::string path = file_of(folder, client);
    ClientRecord record = read_record(path);
    if (client == 0) clients = value_or_0(record.facts, "clients");
    if (value_or_0(record.facts, "clients") != clients || value_or_0(record.facts, "client") != client ||
        value_or_0(record.facts, "seed") !=
            (client == 0 ? value_or_0(record.facts, "seed") : kept.fact("seed"))) {
      throw Error(path, "it is not of the same run as client 0's", "Keep each run in a folder of its own");
    }
    kept.history.clients.push_back(std::move(record.operations));
    kept.facts.push_back(std::move(record.facts));
  }
  return kept;
}

}  // namespace pagewire::history
