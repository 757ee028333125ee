#!/bin/bash
# Runs each bench with tiny parameters, looks at the JSON it writes, and at what fault_latency leaves behind when one of
# its processes is killed. Figures are checked for being there and in order, not for being good.
set -euo pipefail

bench=${TEST_SRCDIR:+$TEST_SRCDIR/$TEST_WORKSPACE/bench}
bench=${bench:-${1:?the folder of the binaries}}
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/bench-smoke-XXXXXX")
parent=0 # the process that runs the others, while there is one
cleanup() {
  if [[ $parent -ne 0 ]]; then
    kill "$parent" 2>/dev/null || true
    wait "$parent" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "smoke_test: $*" >&2
  exit 1
}

# Google Benchmark's format: some figures, each with its times, and with the counters that are named.
check_google() {
  python3 - "$@" <<'PYTHON'
import json, sys
figures = json.load(open(sys.argv[1]))["benchmarks"]
wanted = int(sys.argv[2])
assert len(figures) >= wanted, f"{len(figures)} figures, at least {wanted} were expected"
for figure in figures:
    assert "error_message" not in figure, figure
    assert figure["real_time"] > 0 and figure["cpu_time"] > 0 and figure["time_unit"] == "ns", figure
    for counter in sys.argv[3:]:
        assert figure[counter] > 0, figure
PYTHON
}

# FILE PAGES CASES DELIVERIES LOOPS: each case in each setting, with all that belongs to it, and the floors.
check_latency() {
  python3 - "$@" <<'PYTHON'
import itertools, json, sys
figures = json.load(open(sys.argv[1]))
pages = int(sys.argv[2])
cases, deliveries, loops = (words.split(",") for words in sys.argv[3:])
faults = ["read_miss", "read_miss_downgrade", "write_miss", "upgrade_1", "upgrade_2"]

def check_times(figure):
    assert figure["count"] > 0, figure
    assert 0 < figure["p50_ns"] <= figure["p90_ns"] <= figure["p99_ns"] <= figure["max_ns"], figure

found = {}
for figure in figures:
    if figure["case"].startswith("floor:"):
        check_times(figure)
        assert figure["floor"] is None and figure["floor_p50_ns"] is None and figure["ratio"] is None, figure
        assert figure["delivery"] is None and figure["loops"] is None, figure
        found[figure["case"]] = figure
    else:
        key = figure["case"], figure["delivery"], figure["loops"], figure.get("rest_ms")
        assert key not in found, figure
        found[key] = figure

for case, delivery, loop in itertools.product(cases, deliveries, loops):
    for rest in [1, 100, 1000] if case == "first_after_rest" else [None]:
        figure = found.pop((case, delivery, loop, rest))
        # A machine on which nothing ever loses a word within the run has no waits to tell.
        if case != "false_sharing" or figure["count"] > 0:
            check_times(figure)
        assert figure["nodes"] == (3 if case in ("read_miss", "upgrade_2") else 2), figure
        scan = case.startswith("scan")
        if scan:
            assert figure["floor"] == "local_scan" and figure["gb_per_s"] > 0, figure
        elif delivery == "inline":
            assert figure["floor"] == "bare", figure
        else:
            local, ping = figure["floor"].split("+")
            assert local in ("local_thread", "local_pinned"), figure
            assert ping == ("ping_small" if case.startswith("upgrade") else "ping_page"), figure
        assert abs(figure["ratio"] * figure["floor_p50_ns"] - figure["p50_ns"]) < 1, figure
        if case in faults:
            assert figure["count"] % pages == 0, figure  # whole chunks
        assert ("shootdown_p50_ns" in figure) == (case in ("write_miss", "upgrade_1")), figure
        if case in ("ping_pong", "false_sharing"):
            assert figure["hand_overs_per_s"] >= 0 and figure["longest_wait_ns"] > 0, figure
        if case == "false_sharing":
            assert all(stores > 0 for stores in figure["stores_per_s"]), figure
        if rest:
            assert 0 < figure["idle_cpu_share"] < 2, figure
        assert figure["dropped_chunks"] >= 0 and figure["hold_us"] == 20, figure
        assert isinstance(figure["warnings"], list), figure
        phases = [phase for phase in figure["phases"] if phase["phase"] == "total" and phase["kind"] in case]
        if case in faults:
            # The node counted what was measured, warm-up and dropped chunks included.
            assert len(phases) == 1 and phases[0]["count"] >= figure["count"] * 0.9, figure
        assert figure["line_before_ns"] is None or figure["line_before_ns"] > 0, figure

floors = set()
for delivery in deliveries:
    floors |= {"bare", "local_inline"} if delivery == "inline" else {"local_thread", "local_pinned"}
assert {"floor:" + floor for floor in floors} <= found.keys(), found.keys()
assert all(isinstance(key, str) for key in found), f"not asked for: {found.keys()}"
PYTHON
}

children_of() { cat "/proc/$1/task/$1/children" 2>/dev/null || true; }

# Starts fault_latency with more pages than it will see, and sends a signal to one of its processes: 0 for the one that
# waits, 1 or 2 for one of the floors', 3 or 4 for a node. All must end, not with 0, and their folder must be gone.
check_ends() {
  local victim=$1 signal=$2 code=0 members=() folder member
  "$bench/fault_latency" --cases write_miss --pages 1000000 --case-seconds 1000 >"$work/out" 2>"$work/err" &
  parent=$!
  while [[ ${#members[@]} -lt 4 ]]; do
    kill -0 "$parent" 2>/dev/null || fail "it ended before it had two nodes: $(cat "$work/err")"
    read -ra members < <(children_of "$parent") || true
  done
  folder=
  while [[ -z $folder ]]; do # from its fork to its exec a member has the words of the one that waits
    folder=$(tr '\0' '\n' <"/proc/${members[3]}/cmdline" | grep -A1 -x -e --member-folder | tail -1) || true
  done
  [[ -d $folder ]] || fail "no folder $folder"
  [[ $(stat -c %a "$folder") == 700 ]] || fail "$folder is not private"
  if [[ $victim -eq 0 ]]; then kill "-$signal" "$parent"; else kill "-$signal" "${members[victim - 1]}"; fi
  wait "$parent" || code=$?
  parent=0
  [[ $code -ne 0 ]] || fail "exit code 0 although $signal went to process $victim"
  [[ ! -e $folder ]] || fail "$folder is still there after $signal to process $victim"
  for member in "${members[@]}"; do
    ! kill -0 "$member" 2>/dev/null || fail "process $member still runs after $signal to process $victim"
  done
}

"$bench/core" --benchmark_min_time=0.0005 --json "$work/core.json" >/dev/null 2>&1
check_google "$work/core.json" 15
"$bench/page_table" --benchmark_min_time=0.0005 --benchmark_filter=/16384/ --json="$work/page_table.json" >/dev/null 2>&1
check_google "$work/page_table.json" 20 bytes_per_page

cases=read_miss,read_miss_downgrade,write_miss,upgrade_1,upgrade_2,ping_pong,false_sharing,scan,scan_prefetch
"$bench/fault_latency" --cases "$cases" --pages 32 --scan-mb 1 --json "$work/all.json" --judge >"$work/table"
check_latency "$work/all.json" 32 "$cases" thread,inline shared,dedicated,self
grep -q '^upgrade_1  *thread  *self ' "$work/table" || fail "no upgrades in the table: $(cat "$work/table")"
grep -q "phases of node 0's faults" "$work/table" || fail "no phases in the table: $(cat "$work/table")"
grep -Eq '^[0-9]+ met, [0-9]+ not met$' "$work/table" || fail "no judgement: $(cat "$work/table")"
"$bench/fault_latency" --cases first_after_rest,write_miss --delivery thread --loops self --pages 16 --repeat 2 \
  --json "$work/rest.json" >/dev/null
check_latency "$work/rest.json" 16 first_after_rest,write_miss thread self

if command -v gnuplot >/dev/null; then
  "$bench/fault_latency" --cases upgrade_1 --loops self --pages 16 --plot "$work/plot.svg" >/dev/null
  grep -q '>upgrade_1<' "$work/plot.svg" || fail "no case in the plot"
  grep -q '>service<' "$work/plot.svg" || fail "no phases in the plot"
fi
PATH=/nowhere "$bench/fault_latency" --plot "$work/none.svg" >/dev/null 2>"$work/err" && fail "a plot without gnuplot"
grep -q 'apt-get install gnuplot-nox' "$work/err" || fail "no remedy for a missing gnuplot: $(cat "$work/err")"

for wrong in "core --json" "page_table --no-such-flag" "fault_latency --pages 0" "fault_latency --no-such-flag" \
  "fault_latency --cases read_miss,nonsense" "fault_latency --loops many"; do
  read -ra words <<<"$wrong"
  ! "$bench/${words[0]}" "${words[@]:1}" >/dev/null 2>&1 || fail "$wrong: exit code 0"
done

check_ends 0 TERM
check_ends 1 KILL
check_ends 4 KILL
echo "smoke_test: all of it as it should be"
