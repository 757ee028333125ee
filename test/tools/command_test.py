#!/usr/bin/env python3
"""The pagewire command as a user meets it: verdicts, exit codes, one-line errors, and nothing left behind."""

import glob
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

PAGEWIRE = os.path.abspath(sys.argv.pop(1))
SECONDS_MAX = 120


def run(*arguments):
    return subprocess.run([PAGEWIRE, *arguments], capture_output=True, text=True, timeout=SECONDS_MAX, check=False)


def children_of(pid):
    """Process ids of the children, by their command line's first option."""
    found = {}
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            fields = pathlib.Path(folder, "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) != pid:
                continue
            words = pathlib.Path(folder, "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        for word in words:
            if word.startswith(b"--id="):
                found[int(word[5:])] = int(os.path.basename(folder))
    return found


def folders():
    return set(glob.glob("/tmp/pagewire-??????"))


class Command(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(dir="/tmp")
        self.text = os.path.join(self.scratch.name, "text")
        pathlib.Path(self.text).write_text("The cat's hat. THE end\n" * 2000, encoding="ascii")
        self.before = folders()

    def tearDown(self):
        self.scratch.cleanup()
        self.assertEqual(folders() - self.before, set(), "a folder was left behind")

    def expect_error(self, result, code, pattern):
        self.assertEqual(result.returncode, code, result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        self.assertRegex(last, pattern)

    def test_demo_right(self):
        for extra in ([], ["--nodes", "2"], ["--nodes", "4", "--loops", "2"]):
            result = run("demo", *extra, self.text)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            self.assertTrue(result.stdout.startswith("RIGHT: 10,000 words, 4 different ones"), result.stdout)
            self.assertIn("       4,000  the\n", result.stdout)
            self.assertRegex(result.stdout, r"(?m)^ +1  read miss +[1-9]")
            self.assertIn("counting", result.stderr)

    def test_demo_default_text(self):
        result = run("demo")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertTrue(result.stdout.startswith("RIGHT: "), result.stdout)

    def test_demo_with_impaired_ports(self):
        result = run("demo", "--drop", "0.05", "--duplicate", "0.05", "--reorder", "0.1", "--seed", "7", self.text)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("seed 7", result.stdout)
        self.assertIn("RIGHT: 10,000 words", result.stdout)

    def test_demo_wrong_count_is_found(self):
        result = run("demo", "--corrupt", self.text)
        self.expect_error(result, 1, r"^pagewire: demo: WRONG COUNT")
        self.assertTrue(result.stdout.startswith("WRONG: 10,001 words"), result.stdout)
        self.assertIn('"corrupt": 1 counted, 0 expected', result.stdout)

    def test_demo_bad_files(self):
        self.expect_error(run("demo", "/no/such/file"), 1, r"^pagewire: /no/such/file: No such file.*\. Name")
        self.expect_error(run("demo", self.scratch.name), 1, r"^pagewire: demo: node 0 ended with exit code 1\.")
        empty = os.path.join(self.scratch.name, "empty")
        pathlib.Path(empty).touch()
        result = run("demo", empty)
        self.assertEqual(result.returncode, 1)
        self.assertIn("pagewire: node 0: " + empty + ": empty. Name", result.stderr)

    def test_usage(self):
        for arguments in ([], ["dance"], ["demo", "--nodes", "1"], ["demo", "--nodes", "9"], ["node"], ["node", "--x"]):
            self.expect_error(run(*arguments), 2, r"^pagewire: command line: .*\. See pagewire --help$")
        self.assertEqual(run("--help").returncode, 0)
        self.assertIn("fortunes", run("demo", "--help").stdout)

    def start_slow_demo(self):
        """A demo that is not done for a while, once all its processes are there."""
        slow = os.path.join(self.scratch.name, "slow")
        letters = "abcdefghijklmnopqrstuvwxyz"
        with open(slow, "w", encoding="ascii") as file:
            for i in range(200_000):
                file.write("".join(letters[(i // 26**k) % 26] for k in range(5)) + "\n")
        demo = subprocess.Popen([PAGEWIRE, "demo", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(demo.communicate)
        self.addCleanup(demo.kill)
        for line in demo.stderr:
            if line.startswith("node 0 counting"):
                break
        children = children_of(demo.pid)
        self.assertEqual(sorted(children), [0, 1, 2])
        return demo, children

    def expect_gone(self, pids):
        """The demo has waited for its processes before it ended."""
        for pid in pids:
            self.assertFalse(os.path.exists(f"/proc/{pid}"), f"process {pid} is still there")

    def test_demo_names_the_node_that_died(self):
        demo, children = self.start_slow_demo()
        os.kill(children[1], signal.SIGKILL)
        errors = demo.communicate(timeout=SECONDS_MAX)[1]
        self.assertEqual(demo.returncode, 1)
        self.assertRegex(errors, r"(?m)^pagewire: demo: node 1 ended with signal 9 \(Killed\)\. ")
        self.expect_gone(children.values())

    def test_demo_interrupted(self):
        demo, children = self.start_slow_demo()
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=SECONDS_MAX)
        self.assertEqual(demo.returncode, -signal.SIGINT)
        self.expect_gone(children.values())

    def test_doctor(self):
        result = run("doctor")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertRegex(result.stdout, r"(?m)^OK +trial ")
        report = json.loads(run("doctor", "--json").stdout)
        self.assertTrue(report["a_node_could_start"])
        for check in report["checks"]:
            self.assertIn(check["health"], ("OK", "WARN"))
            self.assertEqual(check["health"] == "OK", check["remedy"] == "")
        names = [check["what"] for check in report["checks"]]
        self.assertIn("inline delivery", names)
        self.assertIn("real time", names)

    def test_doctor_finds_what_is_wrong(self):
        bad = os.path.join(self.scratch.name, "cluster.toml")
        for text, what in (
            ("[[nodes]]\nid = 1\n", "cluster file"),
            ("[[nodes]]\nid = 0\nport = 'af_packet:nosuch0'\n", "interface"),
            (f"folder = '{self.scratch.name}/sub'\n[[nodes]]\nid = 0\n[memory]\nmb = 1048576\n", "memory"),
            (f"folder = '{self.scratch.name}/sub'\n[[nodes]]\nid = 0\n[loops]\ncores = [1023]\n", "cores"),
        ):
            pathlib.Path(bad).write_text(text, encoding="ascii")
            result = run("doctor", "--config", bad)
            self.assertEqual(result.returncode, 1, result.stdout)
            self.assertRegex(result.stdout, rf"(?m)^FAIL +{what} .*\n +-> \S")
            self.assertIn("A node could NOT start here.", result.stdout)

    def test_node_by_a_cluster_file(self):
        folder = tempfile.mkdtemp(prefix="pw", dir="/tmp")
        self.addCleanup(lambda: subprocess.run(["rm", "-rf", folder], check=False))
        cluster = os.path.join(self.scratch.name, "cluster.toml")
        pathlib.Path(cluster).write_text(
            f"cluster = 'by-hand'\nfolder = '{folder}'\n[[nodes]]\nid = 0\n[[nodes]]\nid = 1\n", encoding="ascii"
        )
        for more in (["--seconds", "1", "--every", "0.5"], ["--run", "demo", self.text]):
            nodes = [
                subprocess.Popen(
                    [PAGEWIRE, "node", "--config", cluster, "--id", str(i), *more],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for i in range(2)
            ]
            for node in nodes:
                self.addCleanup(node.kill)
            said = [node.communicate(timeout=SECONDS_MAX) for node in nodes]
            for i, node in enumerate(nodes):
                self.assertEqual(node.returncode, 0, said[i])
                self.assertRegex(said[i][0], rf'^node {i}: joined cluster "by-hand", 2 nodes')
                if "demo" not in more:
                    self.assertIn("memory is shared", said[i][0])
                    self.assertRegex(said[i][0], r"(?m)^1 s: .* read misses")
            if "demo" in more:
                self.assertIn("RIGHT: 10,000 words", said[0][0])

    def test_node_that_nobody_joins(self):
        cluster = os.path.join(self.scratch.name, "cluster.toml")
        folder = tempfile.mkdtemp(prefix="pw", dir="/tmp")
        self.addCleanup(lambda: subprocess.run(["rm", "-rf", folder], check=False))
        pathlib.Path(cluster).write_text(
            f"folder = '{folder}'\n[[nodes]]\nid = 0\n[[nodes]]\nid = 1\n[timeouts]\njoin_ms = 300\n", encoding="ascii"
        )
        self.expect_error(run("node", "--config", cluster), 1, r"^pagewire: .*node 1\b.*\. ")
        self.expect_error(run("node", "--config", cluster, "--id", "2"), 1, r"^pagewire: .*node: 2 among 2 nodes\. ")


if __name__ == "__main__":
    unittest.main(verbosity=2)
