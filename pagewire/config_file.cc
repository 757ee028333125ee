// Config::from_file and from_text: TOML in, Config out, each complaint with the file and the line. Any
// thread.
#include "pagewire/config_file.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cerrno>
#include <concepts>
#include <cstdio>
#include <map>
#include <sstream>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "pagewire/config.h"
#include "pagewire/config_rules.h"
#include "pagewire/error.h"

namespace pagewire {

namespace {

// Everything that a complaint needs: the file's name, and where each key stands in it.
struct Document {
  std::string name;
  std::map<std::string, toml::source_position, std::less<>> positions;

  [[noreturn]] void fail(const toml::source_region& where, const std::string& what, const std::string& seen,
                         const std::string& remedy) const {
    throw Error(fmt::format("{}:{}: {}", name, where.begin.line, what), seen, remedy);
  }
};

// One value of the file on its way into a Config.
struct Value {
  const Document& document;
  std::string path;
  const toml::node& node;

  [[noreturn]] void wrong_type(const std::string& wanted) const {
    std::ostringstream text;
    node.visit([&](const auto& value) {
      text << node.type() << ' ';
      if constexpr (toml::is_value<decltype(value)>) text << value;
    });
    document.fail(node.source(), path, text.str(), "Use " + wanted);
  }
};

void read(const Value& value, std::string& out) {
  const auto* text = value.node.as_string();
  if (text == nullptr) value.wrong_type("a string");
  out = text->get();
}

void read(const Value& value, bool& out) {
  const auto* yes = value.node.as_boolean();
  if (yes == nullptr) value.wrong_type("true or false");
  out = yes->get();
}

void read(const Value& value, double& out) {
  const auto number = value.node.value_exact<double>();
  const auto integer = value.node.value_exact<std::int64_t>();
  if (!number && !integer) value.wrong_type("a number");
  out = number ? *number : static_cast<double>(*integer);
}

template <std::integral T>
requires(!std::is_same_v<T, bool>) void read(const Value& value, T& out) {
  const auto* integer = value.node.as_integer();
  if (integer == nullptr) value.wrong_type("an integer");
  if (!std::in_range<T>(integer->get())) {
    value.document.fail(
        value.node.source(), value.path, fmt::format("{}", integer->get()),
        std::is_unsigned_v<T> && integer->get() < 0 ? "Use 0 or more" : "Use a smaller number");
  }
  out = static_cast<T>(integer->get());
}

template <typename Enum>
struct NamedValue {
  std::string_view name;
  Enum value;
};

template <typename Enum, std::size_t Count>
void read_named(const Value& value, Enum& out, const NamedValue<Enum> (&known)[Count]) {
  std::string text;
  read(value, text);
  const auto* const found = std::ranges::find(known, text, &NamedValue<Enum>::name);
  if (found != std::end(known)) {
    out = found->value;
    return;
  }
  std::string names;
  for (std::size_t i = 0; i < Count; ++i) {
    const char* const before = i == 0 ? "" : i + 1 == Count ? " or " : ", ";
    names += fmt::format("{}\"{}\"", before, known[i].name);
  }
  value.document.fail(value.node.source(), value.path, fmt::format("\"{}\"", text), "Use " + names);
}

// Whether to have something.
template <typename Enum>
requires std::is_enum_v<Enum>
void read(const Value& value, Enum& out) {
  read_named(value, out, {{"auto", Enum::kAuto}, {"required", Enum::kRequired}, {"off", Enum::kOff}});
}

void read(const Value& value, Delivery& out) {
  read_named(value, out, {{"thread", Delivery::kThread}, {"inline", Delivery::kInline}});
}

void read(const Value& value, LoopKind& out) {
  read_named(value, out,
             {{"shared", LoopKind::kShared}, {"dedicated", LoopKind::kDedicated}, {"self", LoopKind::kSelf}});
}

// "float", or a list of cores.
void read(const Value& value, std::vector<int>& out) {
  out.clear();
  if (const auto* text = value.node.as_string(); text != nullptr && text->get() == "float") return;
  const toml::array* list = value.node.as_array();
  if (list == nullptr || list->empty()) value.wrong_type("\"float\" or a list of cores, one a loop");
  for (const toml::node& core : *list) read(Value{value.document, value.path, core}, out.emplace_back());
}

template <typename Object>
struct Key {
  std::string_view name;
  void (*read_into)(const Value&, Object&);
};

constexpr Key<NodeDescription> kNodeKeys[] = {
    {"id", [](const Value& value, NodeDescription& node) { read(value, node.id); }},
    {"port", [](const Value& value, NodeDescription& node) { read(value, node.port); }},
};

constexpr Key<Config> kKeys[] = {
    {"cluster", [](const Value& value, Config& config) { read(value, config.cluster); }},
    {"node", [](const Value& value, Config& config) { read(value, config.node); }},
    {"folder", [](const Value& value, Config& config) { read(value, config.folder); }},
    {"file_prefix", [](const Value& value, Config& config) { read(value, config.file_prefix); }},
    {"delivery", [](const Value& value, Config& config) { read(value, config.delivery); }},
    {"real_time", [](const Value& value, Config& config) { read(value, config.real_time); }},
    {"scan_ahead", [](const Value& value, Config& config) { read(value, config.scan_ahead); }},
    {"hand_on", [](const Value& value, Config& config) { read(value, config.hand_on); }},
    {"loops.kind", [](const Value& value, Config& config) { read(value, config.loop_kind); }},
    {"loops.count", [](const Value& value, Config& config) { read(value, config.loops); }},
    {"loops.cores", [](const Value& value, Config& config) { read(value, config.loop_cores); }},
    {"memory.mb", [](const Value& value, Config& config) { read(value, config.memory_mb); }},
    {"memory.hugepages", [](const Value& value, Config& config) { read(value, config.hugepages); }},
    {"memory.kernel_faults", [](const Value& value, Config& config) { read(value, config.kernel_faults); }},
    {"memory.region_base", [](const Value& value, Config& config) { read(value, config.region_base); }},
    {"timeouts.join_ms", [](const Value& value, Config& config) { read(value, config.join_timeout_ms); }},
    {"timeouts.silence_ms",
     [](const Value& value, Config& config) { read(value, config.silence_timeout_ms); }},
    {"timeouts.leave_ms", [](const Value& value, Config& config) { read(value, config.leave_timeout_ms); }},
    {"timeouts.retry_us", [](const Value& value, Config& config) { read(value, config.retry_us); }},
    {"timeouts.retry_max_us", [](const Value& value, Config& config) { read(value, config.retry_max_us); }},
    {"timeouts.hold_us", [](const Value& value, Config& config) { read(value, config.hold_us); }},
    {"impairment.drop", [](const Value& value, Config& config) { read(value, config.impairment.drop); }},
    {"impairment.duplicate",
     [](const Value& value, Config& config) { read(value, config.impairment.duplicate); }},
    {"impairment.reorder",
     [](const Value& value, Config& config) { read(value, config.impairment.reorder); }},
    {"impairment.seed", [](const Value& value, Config& config) { read(value, config.impairment.seed); }},
};

constexpr std::string_view kSections[] = {"loops", "memory", "timeouts", "impairment"};

// The names that may stand in `section` ("" for the top), for a complaint about one that may not.
std::string names_in(std::string_view section) {
  std::vector<std::string> names;
  for (const auto& key : kKeys) {
    const std::size_t dot = key.name.find('.');
    if (dot == key.name.npos ? section.empty() : key.name.substr(0, dot) == section) {
      names.emplace_back(key.name.substr(dot == key.name.npos ? 0 : dot + 1));
    }
  }
  if (section.empty()) {
    names.insert(names.end(), {"[[nodes]]", "[loops]", "[memory]", "[timeouts]", "[impairment]"});
  }
  return fmt::format("Known here: {}", fmt::join(names, ", "));
}

void read_node(Document& document, const toml::table& table, const std::string& prefix,
               NodeDescription& node) {
  bool has_id = false;
  for (const auto& [name, value] : table) {
    const std::string path = fmt::format("{}.{}", prefix, name.str());
    const auto* const key = std::ranges::find(kNodeKeys, name.str(), &Key<NodeDescription>::name);
    if (key == std::end(kNodeKeys)) document.fail(name.source(), path, "unknown key", "Known here: id, port");
    document.positions[path] = value.source().begin;
    key->read_into(Value{document, path, value}, node);
    has_id = has_id || name == "id";
  }
  if (!has_id) document.fail(table.source(), prefix + ".id", "missing", "Give each node an id, 0 and up");
}

void read_nodes(Document& document, const toml::node& list, Config& config) {
  const toml::array* const array = list.as_array();
  if (array == nullptr) Value{document, "nodes", list}.wrong_type("[[nodes]], one such table a node");
  for (const toml::node& item : *array) {
    const std::string path = fmt::format("nodes[{}]", config.nodes.size());
    const toml::table* const table = item.as_table();
    if (table == nullptr) Value{document, path, item}.wrong_type("a table with id and port");
    document.positions[path] = item.source().begin;
    read_node(document, *table, path, config.nodes.emplace_back());
  }
}

// `section` is "" for the top of the file.
void read_table(Document& document, const toml::table& table, const std::string& section, Config& config) {
  for (const auto& [name, value] : table) {
    const std::string path =
        section.empty() ? std::string(name.str()) : fmt::format("{}.{}", section, name.str());
    document.positions[path] = value.source().begin;
    if (path == "nodes") {
      read_nodes(document, value, config);
      continue;
    }
    if (std::ranges::find(kSections, path) != std::end(kSections)) {
      const toml::table* const inner = value.as_table();
      if (path == "loops" && value.is_string()) {  // loops = "self"
        read(Value{document, path, value}, config.loop_kind);
        continue;
      }
      if (inner == nullptr) Value{document, path, value}.wrong_type(fmt::format("a [{}] table", path));
      read_table(document, *inner, path, config);
      continue;
    }
    const auto* const key = std::ranges::find(kKeys, path, &Key<Config>::name);
    if (key == std::end(kKeys)) document.fail(name.source(), path, "unknown key", names_in(section));
    key->read_into(Value{document, path, value}, config);
  }
}

// The line of the key, or of the nearest thing around it that stands in the file.
std::string place_of(const Document& document, std::string key) {
  for (;;) {
    if (const auto found = document.positions.find(key); found != document.positions.end()) {
      return fmt::format("{}:{}", document.name, found->second.line);
    }
    const std::size_t cut = key.find_last_of(".[");
    if (cut == std::string::npos) return document.name;
    key.resize(cut);
  }
}

}  // namespace

std::vector<std::string_view> config_file_keys() {
  std::vector<std::string_view> keys = {"nodes.id", "nodes.port"};
  for (const auto& key : kKeys) keys.push_back(key.name);
  std::ranges::sort(keys);
  return keys;
}

Config Config::from_text(std::string_view text, const std::string& name) {
  Document document{name, {}};
  toml::table table;
  try {
    table = toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    document.fail(error.source(), "not TOML", std::string(error.description()), "Mend this line");
  }
  Config config;
  read_table(document, table, "", config);
  if (const auto found = find_problem(config)) {
    throw Error(fmt::format("{}: {}", place_of(document, found->key), found->key), found->seen,
                found->remedy);
  }
  return config;
}

Config Config::from_file(const std::string& path) {
  std::string text;
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  int error = file == nullptr ? errno : 0;
  if (file != nullptr) {
    char part[4096];
    for (std::size_t got = sizeof part; got == sizeof part;) {
      got = std::fread(part, 1, sizeof part, file);
      text.append(part, got);
    }
    if (std::ferror(file) != 0) error = errno;
    std::fclose(file);
  }
  if (error != 0) {
    throw Error(path, std::generic_category().message(error),
                "Name a readable cluster file (docs/configuration.md)");
  }
  return from_text(text, path);
}

}  // namespace pagewire
