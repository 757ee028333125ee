#!/usr/bin/env python3
"""The proof at length: what `./run prove` calls once its programs are built.

prove.py --programs FOLDER [--fuzzers FOLDER] --minutes M [--json FILE] [--only PART,…] [--bazel PROGRAM]

M minutes are shared out: the checker explores the named bounds, the smallest first, as far as its share goes; the
simulator runs new seeds; the fuzzers, the litmus tests and the recorded histories run their shares. Rules left out
(mutants) and the sanitizers take the time that they take. Ends with one table. Exit code: 0 if nothing was violated,
1 if something was, 2 if something could not run.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "fuzz"), str(HERE.parent / "style")]

import fuzz  # noqa: E402
import summary  # noqa: E402

# Shares of the minutes.
SHARES = {"checker": 0.3, "simulator": 0.15, "litmus": 0.2, "history": 0.1, "fuzzing": 0.25}
PARTS = ["checker", "simulator", "mutants", "litmus", "history", "fuzzing", "sanitizers"]
# What is run under which sanitizer; what cannot run under one has a tag that says so.
SANITIZED = ["//test/protocol/...", "//test/fault/...", "//test/dataplane/..."]
SANITIZERS = {
    "asan": SANITIZED + ["//test/sim:sim_test", "//test/fuzz/...", "//test/pagewire/..."],
    "ubsan": SANITIZED + ["//test/sim:sim_test", "//test/fuzz/..."],
    "tsan": SANITIZED + ["//test/sanitizers/..."],
}
HOLDS, VIOLATED, BROKEN = "holds", "VIOLATED", "did not run"


class Proof:
    """What has been run so far; each part adds its lines."""

    def __init__(self, arguments):
        self.programs = pathlib.Path(arguments.programs)
        self.fuzzers = pathlib.Path(arguments.fuzzers) if arguments.fuzzers else None
        self.bazel = arguments.bazel
        self.minutes = arguments.minutes
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="pagewire-prove-"))
        self.rows = []

    def share(self, part):
        """Seconds of a part."""
        return self.minutes * 60 * SHARES[part]

    def say(self, part, what, figure, seconds, verdict):
        self.rows.append((part, what, figure, seconds, verdict))
        print(f"prove: {part}: {what}: {figure}: {verdict} ({seconds:.0f} s)", file=sys.stderr, flush=True)

    def run(self, name, *arguments):
        """Exit code, the --json file's content or {}, output, seconds. The output is kept in the scratch folder."""
        figures = self.scratch / f"{name}-{len(self.rows)}.json"
        log = self.scratch / f"{name}-{len(self.rows)}.log"
        words = [str(self.programs / f"test/{name}/{name}"), *map(str, arguments)]
        if name != "history":
            words += ["--json", str(figures)]
        began = time.monotonic()
        with open(log, "w") as output:
            code = subprocess.run(words, stdout=output, stderr=subprocess.STDOUT).returncode
        found = json.loads(figures.read_text()) if figures.exists() else {}
        if code != 0:
            print(f"prove: {' '.join(words)}: exit code {code}; its output is {log}", file=sys.stderr)
        return code, found, log.read_text(errors="replace"), time.monotonic() - began

    # --- the parts ----------------------------------------------------------------------------------------------

    def checker(self):
        names = subprocess.run(
            [str(self.programs / "test/model/model"), "--list"], capture_output=True, text=True, check=True
        ).stdout.split("\n")
        end = time.monotonic() + self.share("checker")
        for name in [line.split()[0] for line in names if line]:
            left = end - time.monotonic()
            if left < 1:
                return
            code, found, _, seconds = self.run("model", "--preset", name, "--quiet", "--minutes", left / 60)
            figure = f"{found.get('states', 0):,} states, depth {found.get('depth', 0)}"
            if found:
                figure += f", {found['states'] / max(found['cpu_seconds'], 1e-9):,.0f} a CPU second"
            complete = found.get("complete", False)
            holds = HOLDS if complete else "holds so far, not complete"
            self.say("checker", found.get("name", name), figure, seconds, {0: holds, 1: VIOLATED}.get(code, BROKEN))

    def simulator(self):
        first = int(time.time()) * 1000
        minutes = self.share("simulator") / 60
        code, found, _, seconds = self.run(
            "sim", "--seeds", f"{first}..{first + 10**9}", "--steps", 1000, "--minutes", minutes
        )
        figure = f"{found.get('seeds', 0):,} seeds, {found.get('steps', 0):,} steps"
        if found:
            figure += f", {found['steps'] / max(found['seconds'], 1e-9):,.0f} a second"
        verdict = {0: HOLDS, 1: VIOLATED}.get(code, BROKEN)
        self.say("simulator", f"seeds from {first}, 1,000 steps and more each", figure, seconds, verdict)

    def mutants(self):
        for name, what in (("model", "the checker"), ("sim", "the simulator")):
            began = time.monotonic()
            log = self.scratch / f"mutants-{name}.log"
            with open(log, "w") as output:
                code = subprocess.run(
                    [str(self.programs / f"test/{name}/mutants_test")], stdout=output, stderr=subprocess.STDOUT
                ).returncode
            figure = f"table in {log}"
            self.say("mutants", f"{what}, each rule left out", figure, time.monotonic() - began, HOLDS if code == 0 else VIOLATED)

    def litmus(self):
        cases = 54
        code, found, _, seconds = self.run(
            "litmus", "--quiet", "--seconds", f"{self.share('litmus') / cases:.2f}", "--iterations", 10**9
        )
        runs = found.get("cases", [])
        total = sum(run["iterations"] for run in runs)
        least = min((run["iterations"] for run in runs), default=0)
        weak = sum(run["weak_count"] for run in runs)
        figure = f"{total:,} iterations, at least {least:,} a case; weak seen {weak:,} times"
        verdict = {0: HOLDS, 1: VIOLATED}.get(code, BROKEN)
        self.say("litmus", f"{len(runs)} cases: 9 shapes, 3 orders, 2 layouts", figure, seconds, verdict)

    def history(self):
        end = time.monotonic() + self.share("history")
        operations = 20000
        seed = int(time.time())
        while True:
            for loss in ("0", "0.1"):
                code, _, text, seconds = self.run("history", "--operations", operations, "--seed", seed, "--loss", loss)
                moved = re.search(r"page transfers\s+(\d+)", text)
                figure = f"{operations:,} operations, {int(moved.group(1)) if moved else 0:,} page transfers, seed {seed}"
                verdict = {0: HOLDS, 1: VIOLATED, 2: "undecided"}.get(code, BROKEN)
                self.say("history", f"3 processes, {float(loss):.0%} of frames lost", figure, seconds, verdict)
            # So many that the share is used up, about 8,000 a second under loss and twice that without.
            left = end - time.monotonic()
            if left < 5:
                return
            operations = int(min(1_000_000, max(5_000, left * 5_000)))
            seed += 1

    def fuzzing(self):
        if self.fuzzers is None:
            self.say("fuzzing", "every target", "clang is not installed", 0, BROKEN)
            return
        for target in sorted(fuzz.LIMITS):
            seconds = int(self.share("fuzzing") / len(fuzz.LIMITS)) + 1
            run = fuzz.fuzz(self.fuzzers, target, seconds, self.scratch)
            figure = f"{run.executions:,} executions, {run.rate:,.0f} a second, RSS MB {run.memory_text()}"
            if run.findings:
                figure += f"; {run.findings[0]}"
            self.say("fuzzing", target, figure, seconds, VIOLATED if run.findings else HOLDS)

    def sanitizers(self):
        for name, targets in SANITIZERS.items():
            began = time.monotonic()
            events = self.scratch / f"{name}.events"
            log = self.scratch / f"{name}.log"
            with open(log, "w") as output:
                words = [self.bazel, "test", f"--config={name}", "--keep_going", f"--build_event_json_file={events}"]
                code = subprocess.run(
                    words + ["--", *targets], stdout=output, stderr=subprocess.STDOUT, cwd=HERE.parent.parent
                ).returncode
            with open(events) as lines:
                passed, failed, _, notes, _ = summary.count(line for line in lines if line.strip())
            figure = f"{passed} passed, {failed} failed" + (f"; see {log}" if failed or code else "")
            self.say("sanitizers", f"{name}: " + " ".join(target.split("/")[3].split(":")[0] for target in targets), figure, time.monotonic() - began, HOLDS if code == 0 and passed else VIOLATED)
            for note in notes:
                print(f"prove: {name}: {note}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(prog="./run prove", description="The proof at length; docs/proof.md says what it means.")
    parser.add_argument("--minutes", type=float, default=30, help="of the parts that can run for any time (30)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas: " + ", ".join(PARTS))
    parser.add_argument("--json", help="the table, to FILE")
    parser.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--fuzzers", default="", help=argparse.SUPPRESS)
    parser.add_argument("--bazel", default="bazel", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = [part for part in arguments.only.split(",") if part not in PARTS]
    if unknown or arguments.minutes <= 0:
        parser.error(f"no part {unknown[0]}" if unknown else f"--minutes {arguments.minutes}: above 0")
    proof = Proof(arguments)
    began = time.monotonic()
    for part in arguments.only.split(","):
        try:
            getattr(proof, part)()
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            proof.say(part, "stopped", str(error), 0, BROKEN)
    lines = summary.table(proof.rows)
    print("\n".join(lines[1:]) if lines else "nothing ran")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes; logs and figures: {proof.scratch}")
    if arguments.json:
        keys = ("part", "what", "figure", "seconds", "verdict")
        pathlib.Path(arguments.json).write_text(json.dumps([dict(zip(keys, row)) for row in proof.rows], indent=2))
    verdicts = [row[4] for row in proof.rows]
    if VIOLATED in verdicts:
        return 1
    return 2 if not verdicts or BROKEN in verdicts or "undecided" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
