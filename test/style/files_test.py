#!/usr/bin/env python3
"""What a source file must be: not too long, opened by a comment, guarded, named by a target, without leftovers."""

import re
import unittest

import tree

LINES_MAX = 500

LEFTOVERS = [
    (re.compile(r"^[ \t]*#[ \t]*if[ \t]+0\b", re.MULTILINE), "#if 0"),
    # An example of use stands further in than a comment's text.
    (re.compile(r"^[ \t]*// ?\S.*;[ \t]*$\n^[ \t]*// ?\S.*[;{][ \t]*$", re.MULTILINE), "commented-out code"),
    (re.compile(r"\b(TODO|FIXME|XXX)\b(?!.*\bbecause\b)"), "a TODO without its reason (`because`)"),
]


def build_of(root, path):
    """The nearest BUILD file above a source file, or None."""
    for folder in (root / path).parents:
        if (folder / "BUILD").exists():
            return folder / "BUILD"
        if folder == root:
            return None
    return None


def is_named(root, path):
    """True if the package's BUILD names the file (or globs)."""
    build = build_of(root, path)
    if build is None:
        return False
    text = build.read_text()
    name = (root / path).relative_to(build.parent).as_posix()
    # A list comprehension builds the name from its stem.
    return "glob(" in text or f'"{name}"' in text or f'"{name.rsplit(".", 1)[0]}"' in text


def opens(path, text):
    """True if the file opens with a comment, or is the .cc of a header, which then says it."""
    return text.startswith("// ") or text.startswith(f'#include "{path.with_suffix(".h").as_posix()}"')


def problems(root):
    """A line for each file's fault."""
    found = []
    for path in tree.sources(root):
        text = (root / path).read_text()
        lines = text.split("\n")
        if len(lines) - 1 > LINES_MAX:
            found.append(f"{path}: {len(lines) - 1} lines, more than {LINES_MAX}: it wants to be two files")
        if not opens(path, text):
            found.append(f"{path}: does not open with what it is for")
        if path.suffix == ".h" and "#pragma once" not in lines:
            found.append(f"{path}: no #pragma once")
        if not is_named(root, path):
            found.append(f"{path}: no BUILD file names it")
        for pattern, what in LEFTOVERS:
            match = pattern.search(text)
            if match:
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path}:{line}: {what}")
    return found


class FilesTest(unittest.TestCase):
    def test_the_tree_is_in_order(self):
        root = tree.root()
        self.assertGreater(len(tree.sources(root)), 0)
        found = problems(root)
        if found:
            self.fail("\n" + "\n".join(found))

    def assert_found(self, files, words):
        with tree.planted(files) as root:
            found = problems(root)
            self.assertEqual(len(found), 1, found)
            self.assertIn(words, found[0])

    def test_what_is_planted_is_found(self):
        build = {"fault/BUILD": 'srcs = ["a.cc", "a.h"]'}
        opening = "// What it is for.\n"
        self.assert_found({**build, "fault/a.cc": opening + "int a;\n" * 500}, "501 lines")
        self.assert_found({**build, "fault/a.cc": "int a;\n"}, "does not open")
        self.assert_found({**build, "fault/a.h": opening + "int a;\n"}, "no #pragma once")
        self.assert_found({**build, "fault/b.cc": opening}, "no BUILD file names it")
        self.assert_found({"fault/b.cc": opening}, "no BUILD file names it")
        self.assert_found({**build, "fault/a.cc": opening + "#if 0\nint a;\n#endif\n"}, "fault/a.cc:2: #if 0")
        self.assert_found({**build, "fault/a.cc": opening + "// int a = 1;\n// a = 2;\n"}, "commented-out code")
        self.assert_found({**build, "fault/a.cc": opening + "int a;  // TODO later\n"}, "TODO")

    def test_an_example_and_a_pair_are_not_found(self):
        files = {
            "fault/BUILD": 'glob(["*"])',
            "fault/a.h": "// What it is for:\n//     Node node(config);\n//     node.barrier();\n#pragma once\n",
            "fault/a.cc": '#include "fault/a.h"\n',
        }
        with tree.planted(files) as root:
            self.assertEqual(problems(root), [])

    def test_what_is_in_order_is_not_found(self):
        text = "// What it is for.\n#pragma once\n\n// Says why;\n// not what.\nint a;\n" + "int b;\n" * 494
        with tree.planted({"fault/BUILD": 'hdrs = ["a.h"]', "fault/a.h": text}) as root:
            self.assertEqual(problems(root), [])


if __name__ == "__main__":
    unittest.main()
