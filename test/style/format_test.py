#!/usr/bin/env python3
"""clang-format agrees with every source file. `./run format` makes it so."""

import os
import subprocess
import unittest

import tree

BATCH = 16  # files to a clang-format process, as many processes as cores


def problems(root):
    """What clang-format would change, a line each."""
    files = [path.as_posix() for path in tree.sources(root)]
    command = ["xargs", "-0", "-r", "-n", str(BATCH), "-P", str(os.cpu_count()), "clang-format", "--dry-run", "-Werror"]
    result = subprocess.run(command, input="\0".join(files), capture_output=True, text=True, cwd=root, check=False)
    found = [line for line in result.stderr.split("\n") if "[-Wclang-format-violations]" in line]
    if result.returncode != 0 and not found:
        raise RuntimeError(f"clang-format: {result.stderr}")
    return found


class FormatTest(unittest.TestCase):
    def test_the_tree_is_formatted(self):
        root = tree.root()
        self.assertGreater(len(tree.sources(root)), 0)
        found = problems(root)
        if found:
            first = {line.split(":")[0]: line for line in reversed(found)}
            self.fail(f"{len(found)} places; run ./run format. The first of each file:\n" + "\n".join(first.values()))

    def test_what_is_planted_is_found(self):
        config = (tree.root() / ".clang-format").read_text()
        with tree.planted({".clang-format": config, "fault/a.cc": "int  a ;\n", "fault/b.cc": "int b;\n"}) as root:
            found = problems(root)
            self.assertTrue(found)
            self.assertTrue(all("fault/a.cc" in line for line in found), found)

    def test_lines_have_110_columns(self):
        config = (tree.root() / ".clang-format").read_text()
        fits = "int " + "a" * 105 + ";\n"
        long = "int " + "a" * 60 + " = " + "b" * 43 + ";\n"
        with tree.planted({".clang-format": config, "fault/a.cc": fits}) as root:
            self.assertEqual(problems(root), [])
        with tree.planted({".clang-format": config, "fault/a.cc": long}) as root:
            self.assertTrue(problems(root))


if __name__ == "__main__":
    unittest.main()
