#!/usr/bin/env python3
"""Who includes what: the order of the layers, and what each may take from outside.

protocol <- fault <- dataplane <- pagewire <- tools, bench; test may include all. Bazel's visibility says the same of
targets; this says it of includes, and of headers that no target guards.
"""

import re
import unittest

import tree

# The folders whose headers each folder may include.
MAY_INCLUDE = {
    "protocol": {"protocol"},
    "fault": {"protocol", "fault"},
    "dataplane": {"protocol", "fault", "dataplane"},
    "pagewire": {"protocol", "fault", "dataplane", "pagewire"},
    "tools": {"protocol", "fault", "dataplane", "pagewire", "tools"},
    "bench": {"protocol", "fault", "dataplane", "pagewire", "bench"},
    "test": {"protocol", "fault", "dataplane", "pagewire", "tools", "bench", "test"},
    "examples": {"pagewire", "examples"},
}

DPDK = re.compile(r"(dpdk/)?(rte_|bus_|ethdev_|cryptodev_|eventdev_)\w+\.h")
DPDK_FOLDERS = {"dataplane", "test", "bench"}  # bench sets our ways beside the raw wire
USERFAULTFD = "linux/userfaultfd.h"
USERFAULTFD_FOLDERS = {"fault", "test", "bench"}  # bench: a raw userfaultfd beside ours

STANDARD = set(
    """
    algorithm any array atomic barrier bit bitset cassert cctype cerrno cfenv cfloat charconv chrono cinttypes climits
    clocale cmath compare complex concepts condition_variable coroutine csetjmp csignal cstdarg cstddef cstdint cstdio
    cstdlib cstring ctime cuchar cwchar cwctype deque exception execution filesystem format forward_list fstream
    functional future initializer_list iomanip ios iosfwd iostream istream iterator latch limits list locale map memory
    memory_resource mutex new numbers numeric optional ostream queue random ranges ratio regex scoped_allocator
    semaphore set shared_mutex source_location span sstream stack stdexcept stop_token streambuf string string_view
    syncstream system_error thread tuple type_traits typeindex typeinfo unordered_map unordered_set utility valarray
    variant vector version
    """.split()
)

# What of the standard library brings I/O, clocks, threads, locks or allocation.
NOT_PURE = set(
    """
    any atomic barrier chrono condition_variable coroutine ctime deque execution filesystem forward_list fstream
    functional future iomanip ios iostream istream latch list locale map memory memory_resource mutex ostream queue
    random regex semaphore set shared_mutex sstream stack stop_token streambuf string syncstream thread unordered_map
    unordered_set valarray vector
    """.split()
)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)


def includes(path):
    """(quote or angle, name) of each include."""
    return INCLUDE.findall(path.read_text())


def problem_of(folder, kind, name):
    """What is wrong with a file in `folder` that includes `name`, or None."""
    other = name.split("/")[0]
    if other in MAY_INCLUDE or kind == '"':
        if other not in MAY_INCLUDE:
            return "is not written as folder/file.h"
        return None if other in MAY_INCLUDE[folder] else f"{folder}/ may not include {other}/"
    if DPDK.fullmatch(name) and folder not in DPDK_FOLDERS:
        return "only dataplane/ includes DPDK"
    if name == USERFAULTFD and folder not in USERFAULTFD_FOLDERS:
        return "only fault/ includes linux/userfaultfd.h"
    if folder == "protocol" and name not in STANDARD:
        return "protocol/ includes the C++ standard library alone"
    if folder == "protocol" and name in NOT_PURE:
        return "protocol/ has no I/O, clock, thread, lock or allocation"
    return None


def public_headers(root):
    """pagewire/pagewire.h, what //pagewire:public_headers lists, and whatever these include of the house."""
    build = root / "pagewire/BUILD"
    listed = re.search(r'name = "public_headers".*?\]', build.read_text(), re.DOTALL) if build.exists() else None
    waiting = [f"pagewire/{name}" for name in re.findall(r'"(\w+\.h)"', listed.group(0))] if listed else []
    waiting.append("pagewire/pagewire.h")
    seen = set()
    while waiting:
        name = waiting.pop()
        if name in seen or not (root / name).exists():
            continue
        seen.add(name)
        waiting += [other for _, other in includes(root / name) if other.split("/")[0] in MAY_INCLUDE]
    return sorted(seen)


def problems(root):
    """A line for each include that should not be."""
    found = []
    for path in tree.sources(root):
        for kind, name in includes(root / path):
            problem = problem_of(path.parts[0], kind, name)
            if problem:
                found.append(f"{path}: {name}: {problem}")
    for path in public_headers(root):
        if not path.startswith("pagewire/"):
            found.append(f"{path}: a public header of pagewire/ includes it")
            continue
        for _, name in includes(root / path):
            if name not in STANDARD and not name.startswith("pagewire/"):
                found.append(f"{path}: {name}: a public header includes the standard library and pagewire/ alone")
    return found


class LayersTest(unittest.TestCase):
    def test_the_tree_keeps_its_layers(self):
        root = tree.root()
        self.assertGreater(len(tree.sources(root)), 0)
        found = problems(root)
        if found:
            self.fail("\n" + "\n".join(found))

    def assert_found(self, path, line, words):
        with tree.planted({path: f"#pragma once\n{line}\n"}) as root:
            found = problems(root)
            self.assertTrue(any(words in problem for problem in found), f"{path}: {line}: {found}")

    def test_what_is_planted_is_found(self):
        self.assert_found("protocol/a.h", "#include <sys/mman.h>", "standard library alone")
        self.assert_found("protocol/a.h", "#include <vector>", "no I/O, clock")
        self.assert_found("protocol/a.h", "#  include <stdint.h>", "standard library alone")
        self.assert_found("protocol/a.cc", '#include "fault/fault_thread.h"', "protocol/ may not include fault/")
        self.assert_found("protocol/a.cc", "#include <fault/fault_thread.h>", "protocol/ may not include fault/")
        self.assert_found("fault/a.cc", '#include "dataplane/port.h"', "fault/ may not include dataplane/")
        self.assert_found("fault/a.cc", '#include "../dataplane/port.h"', "folder/file.h")
        self.assert_found("dataplane/a.cc", '#include "pagewire/node.h"', "dataplane/ may not include pagewire/")
        self.assert_found("dataplane/a.cc", "#include <linux/userfaultfd.h>", "only fault/")
        self.assert_found("pagewire/a.cc", "#include <rte_eal.h>", "only dataplane/")
        self.assert_found("pagewire/a.cc", '#include "tools/demo.h"', "pagewire/ may not include tools/")
        self.assert_found("tools/a.cc", "#include <rte_ethdev.h>", "only dataplane/")
        self.assert_found("examples/a/a.cc", '#include "dataplane/port.h"', "examples/ may not include dataplane/")
        self.assert_found("pagewire/pagewire.h", "#include <sys/mman.h>", "public header")
        self.assert_found("pagewire/pagewire.h", "#include <oneapi/tbb/task.h>", "public header")

    def test_a_public_header_is_followed(self):
        inner = {"pagewire/pagewire.h": '#include "pagewire/inner.h"\n', "pagewire/inner.h": "#include <poll.h>\n"}
        with tree.planted(inner) as root:
            self.assertEqual(len(problems(root)), 1)
        lower = {"pagewire/pagewire.h": '#include "dataplane/port.h"\n', "dataplane/port.h": "#include <span>\n"}
        with tree.planted(lower) as root:
            self.assertTrue(any("a public header of pagewire/ includes it" in line for line in problems(root)))

    def test_what_is_allowed_is_not_found(self):
        allowed = {
            "protocol/a.h": "#include <cstdint>\n#include <span>\n",
            "fault/a.cc": '#include <linux/userfaultfd.h>\n#include "protocol/a.h"\n',
            "dataplane/a.cc": "#include <rte_eal.h>\n#include <oneapi/tbb/task.h>\n",
            "pagewire/pagewire.h": '#include <string>\n#include "pagewire/b.h"\n',
            "pagewire/b.h": "#include <span>\n",
            "pagewire/node.cc": '#include <poll.h>\n#include "dataplane/a.h"\n',
            "test/e2e/a.cc": '#include <rte_eal.h>\n#include "tools/a.h"\n',
        }
        with tree.planted(allowed) as root:
            self.assertEqual(problems(root), [])


if __name__ == "__main__":
    unittest.main()
