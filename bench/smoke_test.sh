#!/bin/bash
# Runs each bench with tiny parameters, looks at the JSON it writes, and at what fault_latency leaves behind when one of
# its processes is killed. Figures are checked for being there and in order, not for being good.
set -euo pipefail

bench=${TEST_SRCDIR:+$TEST_SRCDIR/$TEST_WORKSPACE/bench}
bench=${bench:-${1:?the folder of the binaries}}
work=$(mktemp -d "${TEST_TMPDIR:-/tmp}/bench-smoke-XXXXXX")
pair=0 # the process that runs two others, while there is one
cleanup() {
  if [[ $pair -ne 0 ]]; then
    kill "$pair" 2>/dev/null || true
    wait "$pair" 2>/dev/null || true
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

check_latency() {
  python3 - "$@" <<'PYTHON'
import json, sys
figures = {figure["case"]: figure for figure in json.load(open(sys.argv[1]))}
pages = int(sys.argv[2])
cases = ["read_miss", "write_miss", "upgrade"]
for name in cases + ["floor:local_fault", "floor:memif_64:before", "floor:memif_64:after"]:
    figure = figures[name]
    assert figure["delivery"] == "thread" and figure["loops"] == "shared" and figure["nodes"] == 2, figure
    assert figure["count"] == pages, figure
    assert 0 < figure["p50_ns"] <= figure["p90_ns"] <= figure["p99_ns"] <= figure["max_ns"], figure
    if name in cases:
        assert figure["floor"].startswith("local_fault+memif_"), figure
        assert abs(figure["ratio"] * figure["floor_p50_ns"] - figure["p50_ns"]) < 1, figure
        assert figure["node_p50_ns"] > 0, figure
    else:
        assert figure["floor"] is None and figure["floor_p50_ns"] is None and figure["ratio"] is None, figure
assert sum(name.startswith("floor:memif_4") for name in figures) == 2, list(figures)
PYTHON
}

children_of() { cat "/proc/$1/task/$1/children" 2>/dev/null || true; }

# Starts fault_latency with more pages than it will see, and sends a signal to one of its processes: 0 for the one that
# waits, 1 or 2 for a node. All three must end, not with 0, and their folder must be gone.
check_ends() {
  local victim=$1 signal=$2 code=0 nodes=() folder
  "$bench/fault_latency" --pages 1000000 >"$work/out" 2>"$work/err" &
  pair=$!
  while [[ ${#nodes[@]} -lt 2 ]]; do
    kill -0 "$pair" 2>/dev/null || fail "it ended before it had two nodes: $(cat "$work/err")"
    read -ra nodes < <(children_of "$pair") || true
  done
  folder=
  while [[ -z $folder ]]; do # from its fork to its exec a node has the words of the one that waits
    folder=$(tr '\0' '\n' <"/proc/${nodes[1]}/cmdline" | grep -A1 -x -e --pair-folder | tail -1) || true
  done
  [[ -d $folder ]] || fail "no folder $folder"
  [[ $(stat -c %a "$folder") == 700 ]] || fail "$folder is not private"
  if [[ $victim -eq 0 ]]; then kill "-$signal" "$pair"; else kill "-$signal" "${nodes[victim - 1]}"; fi
  wait "$pair" || code=$?
  pair=0
  [[ $code -ne 0 ]] || fail "exit code 0 although $signal went to process $victim"
  [[ ! -e $folder ]] || fail "$folder is still there after $signal to process $victim"
  local node
  for node in "${nodes[@]}"; do
    ! kill -0 "$node" 2>/dev/null || fail "node $node still runs after $signal to process $victim"
  done
}

"$bench/core" --benchmark_min_time=0.0005 --json "$work/core.json" >/dev/null 2>&1
check_google "$work/core.json" 15
"$bench/page_table" --benchmark_min_time=0.0005 --benchmark_filter=/16384/ --json="$work/page_table.json" >/dev/null 2>&1
check_google "$work/page_table.json" 20 bytes_per_page
"$bench/fault_latency" --pages 64 --json "$work/latency.json" >"$work/table"
check_latency "$work/latency.json" 64
grep -q '^upgrade  *64 ' "$work/table" || fail "no upgrades in the table: $(cat "$work/table")"

for wrong in "core --json" "page_table --no-such-flag" "fault_latency --pages 0" "fault_latency --no-such-flag"; do
  read -ra words <<<"$wrong"
  ! "$bench/${words[0]}" "${words[@]:1}" >/dev/null 2>&1 || fail "$wrong: exit code 0"
done

check_ends 0 TERM
check_ends 1 KILL
check_ends 2 KILL
echo "smoke_test: all of it as it should be"
