#!/bin/bash
# tidy.sh REPORT CONFIG FILE… -- FLAG…: what clang-tidy has to say of one target's files, in REPORT; empty if nothing.
# Never fails: the test beside the target reads the report.
set -uo pipefail
report=$1 config=$2
shift 2
sources=() headers=()
while [[ $1 != -- ]]; do
  if [[ $1 == *.h ]]; then headers+=("$1"); else sources+=("$1"); fi
  shift
done
shift
flags=("$@")
: >"$report"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What is said without a fault (how many warnings were not shown) is no finding.
note() { # FILE OUTPUT-FILE
  { cat "$2"; echo "style check failed on $1"; } | sed "s|$PWD/\(\./\)\?||g" >>"$report"
}
tidy() { clang-tidy --quiet --config-file="$config" "$@" -- "${flags[@]}" >"$scratch/said" 2>&1; }

# Most of the time goes into the headers of libraries: all sources of a target are looked at as one, if that compiles. If
# it does not, be it for a name that two of them give to things of their own, each is looked at by itself.
together() {
  ((${#sources[@]} > 1)) || return 1
  printf '#include "%s"\n' "${sources[@]}" >"$scratch/all.cc"
  tidy --header-filter='(^|/)[a-z_]+/[a-z_/]+\.(h|cc)$' --checks=-bugprone-suspicious-include "$scratch/all.cc" && return 0
  grep -q '\[clang-diagnostic-error' "$scratch/said" && return 1
  note "${sources[*]}" "$scratch/said"
}

# A header must compile alone. One that a source includes before anything else has done so already.
is_first_in_a_source() { # HEADER
  local source
  for source in "${sources[@]}"; do
    if [[ $(grep -m1 '^#include' "$source") == "#include \"$1\"" ]]; then return 0; fi
  done
  return 1
}

if ! together; then
  for source in "${sources[@]}"; do
    tidy "$source" || note "$source" "$scratch/said"
  done
fi
for header in "${headers[@]}"; do
  if is_first_in_a_source "$header"; then continue; fi
  g++ -w -fsyntax-only "${flags[@]}" "$header" >"$scratch/said" 2>&1 || note "$header" "$scratch/said"
done
exit 0
