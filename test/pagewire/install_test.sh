#!/bin/bash
# What ./run install puts in place is enough for somebody else's program: plain g++, pkg-config, two nodes.
set -euo pipefail

readonly installer=$1 library=$2 source=$3
shift 3

scratch=$(mktemp -d "${TEST_TMPDIR:-/tmp}/install.XXXXXX")
folder=$(mktemp -d /tmp/pagewire-XXXXXX)  # short, for the sockets
pids=()
clean_up() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$scratch" "$folder"
}
trap clean_up EXIT
fail() {
  echo "install_test: $*" >&2
  exit 1
}

"$installer" "$scratch/prefix" "$library" "$@"

# Outside the tree: only what was installed and the program's own source.
mkdir "$scratch/service"
cp -L "$source" "$scratch/service/service.cc"
cd "$scratch/service"
export PKG_CONFIG_PATH=$scratch/prefix/lib/pkgconfig
pkg-config --exists pagewire || fail "pkg-config does not know pagewire"
# shellcheck disable=SC2046
g++ -std=c++20 -Wall -Wextra -Wconversion -Werror service.cc -o service $(pkg-config --cflags --libs pagewire) -pthread

# Each header compiles alone.
for header in "$scratch"/prefix/include/pagewire/*.h; do
  # shellcheck disable=SC2046
  echo "#include \"pagewire/${header##*/}\"" | g++ -std=c++20 -Wall -Wextra -Wconversion -Werror -fsyntax-only -x c++ \
    $(pkg-config --cflags pagewire) - || fail "${header##*/} does not compile alone"
done
# Nothing of what is inside shows; the linker itself keeps what libstdc++ has as well.
if grep -rnE 'rte_|tbb::|userfaultfd|toml::|toml\+\+' "$scratch/prefix/include"; then fail "a header shows what is inside"; fi
inside=$(nm -DC --defined-only "$scratch/prefix/lib/libpagewire.so" |
  grep -E ' [TVWBD] ' | grep -vE ' W std::| (typeinfo |typeinfo name |vtable )?(for )?pagewire::(Config|Node|Region|Hold|Error)\b' || true)
if [[ -n $inside ]]; then fail "the library shows more than the headers:"$'\n'"$inside"; fi

export LD_LIBRARY_PATH=$scratch/prefix/lib
for id in 0 1; do
  ./service 2 "$id" "$folder" >"out.$id" 2>&1 &
  pids+=($!)
done
code=0
for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
cat out.0 out.1
pids=()
[[ $code -eq 0 ]] || fail "the service ended with $code"
for id in 0 1; do grep -q "^node $id: 4000 of 4000$" "out.$id" || fail "node $id did not count to 4000"; done
