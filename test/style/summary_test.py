#!/usr/bin/env python3
"""Counts of made-up Bazel runs, event by event as Bazel 4.2 writes them."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import summary

GTEST = """<?xml version="1.0"?><testsuites tests="4" failures="1" disabled="1"><testsuite name="Rows">
<testcase name="one" status="run" result="completed"/>
<testcase name="two" status="run" result="completed"><failure message="no"/></testcase>
<testcase name="three" status="run" result="skipped"><skipped message="no root"/></testcase>
<testcase name="DISABLED_four" status="notrun" result="suppressed"/></testsuite></testsuites>"""
PLAIN = '<testsuites><testsuite name="t" tests="1"><testcase name="t" status="run"/></testsuite></testsuites>'
GOOD = '<testsuites><testsuite><testcase name="a"/><testcase name="b"/></testsuite></testsuites>'


class SummaryTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        self.addCleanup(self.folder.cleanup)
        self.files = 0

    def result(self, label, status, xml, attempt=1, shard=1):
        """A testResult event; the test.xml is there unless `xml` is None."""
        outputs = []
        if xml is not None:
            self.files += 1
            path = pathlib.Path(self.folder.name) / f"{self.files} of them.xml"
            path.write_text(xml)
            outputs = [{"name": "test.log", "uri": "file:///nowhere"}, {"name": "test.xml", "uri": path.as_uri()}]
        name = {"label": label, "run": 1, "shard": shard, "attempt": attempt}
        return json.dumps(
            {"id": {"testResult": name}, "testResult": {"status": status, "testActionOutput": outputs}}
        )

    def built(self, label, success):
        """A targetCompleted event."""
        return json.dumps(
            {"id": {"targetCompleted": {"label": label}}, "completed": {"success": True} if success else {}}
        )

    def assert_count(self, events, passed, failed, skipped):
        self.assertEqual(summary.count(events)[:3], (passed, failed, skipped))

    def test_the_proof_has_a_table(self):
        proof = """<testsuites><testsuite><testcase name="a" time="1.25"><properties>
<property name="proof" value="simulator|seeds|3,000"/></properties></testcase>
<testcase name="b" time="2"><failure/><properties><property name="proof" value="checker|3 x 3|12 states"/>
<property name="states" value="12"/></properties></testcase></testsuite></testsuites>"""
        lines = summary.table(summary.count([self.result("//a:t", "FAILED", proof)])[4])
        self.assertEqual([line.split()[0] for line in lines if line][1:], ["part", "checker", "simulator"])
        self.assertIn("VIOLATED", lines[2])
        self.assertIn("1.2  holds", lines[3])
        self.assertEqual(summary.table([]), [])

    def test_cases_count_and_not_targets(self):
        self.assert_count([self.result("//a:t", "FAILED", GTEST), self.result("//b:t", "PASSED", GOOD)], 3, 1, 1)

    def test_a_plain_target_counts_one(self):
        self.assert_count([self.result("//a:t", "PASSED", PLAIN)], 1, 0, 0)
        self.assert_count([self.result("//a:t", "PASSED", None)], 1, 0, 0)

    def test_a_target_that_crashed_or_hung_counts_one_failure(self):
        self.assert_count([self.result("//a:t", "TIMEOUT", None)], 0, 1, 0)
        self.assert_count([self.result("//a:t", "FAILED", "<testsuites")], 0, 1, 0)
        self.assert_count([self.result("//a:t", "FAILED", GOOD)], 2, 1, 0)

    def test_what_was_not_built_counts_one_failure(self):
        self.assert_count([self.built("//a:t", False), self.built("//b:t", True)], 0, 1, 0)
        pattern = {"id": {"pattern": {"pattern": ["//no:no"]}}, "aborted": {"reason": "LOADING_FAILURE"}}
        self.assert_count([json.dumps(pattern)], 0, 1, 0)

    def test_the_last_attempt_and_every_shard_count(self):
        flaky = [self.result("//a:t", "FAILED", GTEST, 1), self.result("//a:t", "PASSED", GOOD, 2)]
        self.assert_count(flaky, 2, 0, 0)
        shards = [self.result("//a:t", "PASSED", GOOD, shard=1), self.result("//a:t", "PASSED", GOOD, shard=2)]
        self.assert_count(shards, 4, 0, 0)

    def run_on(self, events, bazel_code=0):
        """(exit code, last line) of the program."""
        path = pathlib.Path(self.folder.name) / "events"
        path.write_text("\n".join(events) + "\n")
        program = [sys.executable, summary.__file__, str(path), str(bazel_code)]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.rstrip("\n").split("\n")[-1]

    def test_the_last_line_and_the_exit_code(self):
        self.assertEqual(self.run_on([self.result("//a:t", "PASSED", GOOD)]), (0, "2 passed, 0 failed"))
        self.assertEqual(self.run_on([self.result("//a:t", "FAILED", GTEST)]), (1, "1 passed, 1 failed, 1 skipped"))
        self.assertEqual(self.run_on([self.built("//a:t", False)]), (1, "0 passed, 1 failed"))
        self.assertEqual(self.run_on([]), (1, "0 passed, 0 failed"))
        self.assertEqual(self.run_on([], 37), (1, "0 passed, 1 failed"))
        self.assertEqual(self.run_on([self.result("//a:t", "PASSED", GOOD)], 1), (1, "2 passed, 1 failed"))


if __name__ == "__main__":
    unittest.main()
