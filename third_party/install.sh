#!/bin/bash
# Puts Pagewire in place for programs outside this tree: install.sh PREFIX LIBRARY HEADER…
# ./run install calls it with what Bazel built; a test does the same.
set -euo pipefail

if [[ $# -lt 3 ]]; then
  echo "install.sh: PREFIX LIBRARY HEADER…" >&2
  exit 2
fi
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
library=$2
shift 2

install -d "$prefix/include/pagewire" "$prefix/lib/pkgconfig"
install -m 0644 "$@" "$prefix/include/pagewire/"
# A library that a running program has mapped is replaced and not overwritten.
install -m 0755 "$library" "$prefix/lib/.libpagewire.so.new"
mv -f "$prefix/lib/.libpagewire.so.new" "$prefix/lib/libpagewire.so"
# No Requires.private: the library names what it needs itself, and DPDK's flags are not to reach a service's compiler.
cat >"$prefix/lib/pkgconfig/pagewire.pc" <<TEXT
prefix=$prefix
includedir=\${prefix}/include
libdir=\${prefix}/lib

Name: pagewire
Description: Page-based distributed shared memory over DPDK; compile with C++20 or later
Version: 0.1.0
Libs: -L\${libdir} -lpagewire
Cflags: -I\${includedir}
TEXT
