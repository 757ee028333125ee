// The picture; see latency_plot.h.
#include "bench/latency_plot.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <utility>
#include <vector>

#include "pagewire/error.h"

namespace pagewire::bench {

namespace {

constexpr int kNotFound = 127;  // the shell's

// Runs gnuplot on a script; gives its exit code. It may end before it has read all: that must not end us.
int run_gnuplot(const std::string& script) {
  std::fflush(nullptr);
  void (*const before)(int) = ::signal(SIGPIPE, SIG_IGN);
  FILE* const pipe = ::popen("exec gnuplot >/dev/null", "w");
  if (pipe != nullptr) std::fputs(script.c_str(), pipe);
  const int status = pipe == nullptr ? -1 : ::pclose(pipe);
  ::signal(SIGPIPE, before);
  return status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : kNotFound;
}

std::string tick_title_of(const Figure& figure) {
  return figure.rest_ms ? fmt::format("{} {} ms", figure.name, *figure.rest_ms) : figure.name;
}

// In gnuplot's single quotes only a single quote has a meaning.
std::string in_quotes(const std::string& text) {
  std::string out = "'";
  for (const char letter : text) out += letter == '\'' ? std::string("''") : std::string(1, letter);
  return out + "'";
}

double microseconds_of(std::uint64_t ns) { return static_cast<double>(ns) / 1'000; }

// What stands along the axis.
std::vector<std::string> titles_of(const Report& report) {
  std::vector<std::string> titles;
  for (const Figure& figure : report.figures) {
    if (figure.setting && std::ranges::find(titles, tick_title_of(figure)) == titles.end())
      titles.push_back(tick_title_of(figure));
  }
  return titles;
}

std::string ticks_of(const std::vector<std::string>& titles) {
  std::string text = "set xtics (";
  for (std::size_t i = 0; i < titles.size(); ++i)
    text += fmt::format("{}{} {}", i == 0 ? "" : ", ", in_quotes(titles[i]), i);
  return text + ")\n" +
         fmt::format("set xrange [-0.6:{:.1f}]\n",
                     std::max<double>(static_cast<double>(titles.size()), 1) - 0.4);
}

// Rows of x, p50, p99, floor for one setting; the settings of a case stand side by side.
std::string rows_of(const Report& report, const std::vector<std::string>& titles, const Setting& setting,
                    double shift) {
  std::string text;
  for (const Figure& figure : report.figures) {
    if (figure.setting != setting) continue;
    const auto at = std::ranges::find(titles, tick_title_of(figure)) - titles.begin();
    text += fmt::format("{:.3f} {:.3f} {:.3f} {:.3f}\n", static_cast<double>(at) + shift,
                        microseconds_of(figure.times.p50_ns), microseconds_of(figure.times.p99_ns),
                        microseconds_of(figure.floor_p50_ns));
  }
  return text;
}

std::string figures_script(const Report& report) {
  constexpr double kWidth = 0.13;
  const std::vector<std::string> titles = titles_of(report);
  std::set<Setting> settings;
  for (const Figure& figure : report.figures) {
    if (figure.setting) settings.insert(*figure.setting);
  }
  std::string script = "set logscale y\nset ylabel 'µs: p50, whisker to p99'\n" + ticks_of(titles);
  std::string plots;
  double shift = -kWidth * (static_cast<double>(settings.size()) - 1) / 2;
  int index = 0;
  for (const Setting& setting : settings) {
    script += fmt::format("$s{} << EOD\n{}EOD\n", index, rows_of(report, titles, setting, shift));
    plots += fmt::format(
        "$s{0} using 1:2 with boxes lc {1} title '{2}, {3}', "
        "$s{0} using 1:2:2:3 with yerrorbars pt 0 lc rgb 'black' notitle, ",
        index, index + 1, name_of(setting.delivery), name_of(setting.loops));
    shift += kWidth;
    ++index;
  }
  for (int i = 0; i < index; ++i) {
    plots += fmt::format("{}$s{} using 1:4 with points pt 7 ps 0.5 lc rgb 'red' {}", i == 0 ? "" : ", ", i,
                         i == 0 ? "title 'floor'" : "notitle");
  }
  return script + "plot " + plots + "\n";
}

// The medians of the phases of one bar's faults, in their order.
struct Bar {
  std::string title;
  std::vector<std::pair<std::string, double>> phases_us;
};

std::vector<Bar> bars_of(const Report& report) {
  std::vector<Bar> bars;
  for (const Figure& figure : report.figures) {
    Bar bar;
    for (const Json& phase : figure.phases) {
      if (phase.at("phase") != "total" && phase.at("kind") == figure.kind)
        bar.phases_us.emplace_back(phase.at("phase"), microseconds_of(phase.at("p50_ns")));
    }
    if (bar.phases_us.empty()) continue;
    bar.title = fmt::format("{} {} {}", tick_title_of(figure), name_of(figure.setting->delivery),
                            name_of(figure.setting->loops));
    bars.push_back(bar);
  }
  return bars;
}

// Boxes from the sum up to a phase down to the axis, the last phase first, so that each hides what it does
// not add.
std::string phases_script(const std::vector<Bar>& bars) {
  std::vector<std::string> names;
  std::vector<std::string> titles;
  for (const Bar& bar : bars) {
    titles.push_back(bar.title);
    for (const auto& [name, us] : bar.phases_us) {
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  std::string rows;
  for (std::size_t i = 0; i < bars.size(); ++i) {
    rows += std::to_string(i);
    double sum = 0;
    for (const std::string& name : names) {
      for (const auto& [phase, us] : bars[i].phases_us) sum += phase == name ? us : 0;
      rows += fmt::format(" {:.3f}", sum);
    }
    rows += "\n";
  }
  std::string script =
      "unset logscale y\nset yrange [0:*]\nset boxwidth 0.6\nset style fill solid 1\n"
      "set ylabel 'µs: medians of the phases'\n" +
      ticks_of(titles) + "$phases << EOD\n" + rows + "EOD\nplot ";
  for (std::size_t i = names.size(); i > 0; --i) {
    script += fmt::format("{}$phases using 1:{} with boxes lc {} title {}", i == names.size() ? "" : ", ",
                          i + 1, i, in_quotes(names[i - 1]));
  }
  return script + "\n";
}

std::string script_of(const Report& report, const std::string& file) {
  const std::vector<Bar> bars = bars_of(report);
  const std::size_t width = std::max({std::size_t{700}, 110 * titles_of(report).size(), 45 * bars.size()});
  std::string script = fmt::format(
      "set terminal svg size {},{} noenhanced background rgb 'white' font 'sans,12'\nset output {}\n"
      "set grid ytics\nset key outside top\nset lmargin 14\nset xtics rotate by 30 right\nset boxwidth 0.12\n"
      "set style fill solid 0.6\n",
      width, bars.empty() ? 560 : 1120, in_quotes(file));
  if (bars.empty()) return script + figures_script(report);
  return script + "set multiplot layout 2,1\n" + figures_script(report) + phases_script(bars) +
         "unset multiplot\n";
}

}  // namespace

void require_gnuplot() {
  if (run_gnuplot("exit\n") == 0) return;
  throw Error("--plot needs gnuplot", "it cannot be run", "Install it: apt-get install gnuplot-nox");
}

void plot(const Report& report, const std::string& file) {
  const int code = run_gnuplot(script_of(report, file));
  if (code != 0)
    throw Error("drawing " + file, fmt::format("gnuplot ended with {}", code),
                "Choose another --plot FILE, or see what it said");
}

}  // namespace pagewire::bench
