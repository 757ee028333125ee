#!/usr/bin/env python3
"""Runs fuzz targets one after the other and says what came of it: what `./run fuzz` calls once they are built.

fuzz.py FOLDER [SECONDS] [TARGET]        each target of FOLDER (or one) for SECONDS (60), from its kept corpus
fuzz.py FOLDER --replay TARGET FILE      one input again, with its stack trace
fuzz.py FOLDER --minimise TARGET NEW…    makes the kept corpus anew: the fewest inputs of it and NEW that reach as far

What is found, the log and the memory over time (SECOND,EXECUTIONS,MB a line) go into a scratch folder that is named.
Exit code: 0 without findings, 1 with some, 2 if it could not run.
"""

import hashlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
# Longest input; what one may take in MB, as a process (with DPDK's pools in receive_fuzz) and in a single allocation;
# and how many are kept.
LIMITS = {
    "cluster_file_fuzz": {"max_len": 4096, "rss_mb": 512, "malloc_mb": 16, "inputs": 80},
    "frame_fuzz": {"max_len": 5000, "rss_mb": 512, "malloc_mb": 1, "inputs": 80},
    "receive_fuzz": {"max_len": 1000, "rss_mb": 768, "malloc_mb": 16, "inputs": 140},
}
SECONDS_A_RUN = 10  # no input may take longer
# What ASan keeps of freed memory would look like growth for the first quarter of a gigabyte.
ASAN = "quarantine_size_mb=16:detect_leaks=1:handle_abort=1:allocator_may_return_null=0"
UBSAN = "print_stacktrace=1:halt_on_error=1"
STATUS = re.compile(r"#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)/.*?rss: (\d+)Mb")
FINDING = re.compile(r"(?:crash|leak|timeout|oom)-[0-9a-f]{40}")


def environment():
    return {**os.environ, "ASAN_OPTIONS": ASAN, "UBSAN_OPTIONS": UBSAN}


def corpus_of(target):
    return HERE / "corpus" / target


def command(folder, target, *arguments):
    limits = LIMITS[target]
    flags = [
        f"-max_len={limits['max_len']}",
        f"-rss_limit_mb={limits['rss_mb']}",
        f"-malloc_limit_mb={limits['malloc_mb']}",
        f"-timeout={SECONDS_A_RUN}",
    ]
    dictionary = HERE / f"{target}.dict"
    if dictionary.exists():
        flags.append(f"-dict={dictionary}")
    return [str(folder / target), *flags, *map(str, arguments)]


class Run:
    """One target's run, from its output as it comes."""

    def __init__(self, target):
        self.target = target
        self.began = time.monotonic()
        self.executions = self.features = self.corpus = self.peak_mb = 0
        self.memory = []  # (second, executions, MB)
        self.findings = []
        self.ended_well = False
        self.rate = 0.0

    def note(self, line):
        status = STATUS.search(line)
        if status:
            executions, _, features, corpus, megabytes = map(int, status.groups())
            self.executions, self.features, self.corpus = executions, features, corpus
            self.peak_mb = max(self.peak_mb, megabytes)
            self.memory.append((round(time.monotonic() - self.began, 1), executions, megabytes))
        if line.startswith("Done "):
            self.ended_well = True
        elif "stat::number_of_executed_units" in line:
            self.executions = int(line.split()[-1])
        elif "stat::average_exec_per_sec" in line:
            self.rate = int(line.split()[-1])
        elif "stat::peak_rss_mb" in line:
            self.peak_mb = max(self.peak_mb, int(line.split()[-1]))

    def memory_text(self):
        """The resident memory after a tenth of the time, at the end, and at the most."""
        if not self.memory:
            return "-"
        early = next((mb for second, _, mb in self.memory if second >= self.memory[-1][0] / 10), 0)
        return f"{early} → {self.memory[-1][2]}, peak {self.peak_mb}"


def fuzz(folder, target, seconds, scratch):
    run = Run(target)
    new_inputs = scratch / target
    new_inputs.mkdir()
    prefix = scratch / "findings" / target
    prefix.mkdir(parents=True)
    kept = corpus_of(target)
    words = command(folder, target, f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={prefix}/")
    words += [str(new_inputs)] + ([str(kept)] if kept.is_dir() else [])
    print(f"fuzz: {target}, {seconds} s", file=sys.stderr, flush=True)
    with open(scratch / f"{target}.log", "w", errors="replace") as log:
        process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", env=environment()
        )
        try:
            for line in process.stderr:
                log.write(line)
                run.note(line)
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
        finally:
            code = process.wait()
    run.findings = sorted(path for path in prefix.iterdir() if FINDING.fullmatch(path.name))
    with open(scratch / f"{target}.memory.csv", "w") as memory:
        memory.writelines(f"{second},{executions},{megabytes}\n" for second, executions, megabytes in run.memory)
    if code != 0 and not run.findings:
        raise RuntimeError(f"{target} ended with code {code} and kept no input; its log is {scratch}/{target}.log")
    return run


def table(runs):
    rows = [("target", "executions", "exec/s", "corpus", "features", "RSS MB (a tenth in → end)", "findings")]
    for run in runs:
        rows.append(
            (
                run.target,
                f"{run.executions:,}",
                f"{run.rate:,.0f}",
                str(run.corpus),
                f"{run.features:,}",
                run.memory_text(),
                str(len(run.findings)),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for i, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
        if i == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def fuzz_all(folder, seconds, targets):
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="pagewire-fuzz-"))
    print(f"fuzz: new inputs, findings and logs: {scratch}", file=sys.stderr)
    runs = [fuzz(folder, target, seconds, scratch) for target in targets]
    table(runs)
    found = 0
    for run in runs:
        for path in run.findings:
            found += 1
            print(f"found: ./run fuzz --replay {run.target} {path}")
    return 1 if found else 0


def replay(folder, target, path):
    return 1 if subprocess.run(command(folder, target, path), env=environment()).returncode != 0 else 0


def features_of(control_file):
    """{path: features} from what libFuzzer's merge notes: the paths, then a line `FT INDEX FEATURE…` for each."""
    lines = control_file.read_text().splitlines()
    paths = lines[2 : 2 + int(lines[0])]
    features = {}
    for line in lines:
        words = line.split()
        if words[:1] == ["FT"]:
            features[paths[int(words[1])]] = set(words[2:])
    return features


def cover(features, most):
    """At most so many paths that reach together what all do, the most telling first; of equals the shortest."""
    rest = dict(sorted(features.items(), key=lambda item: (os.path.getsize(item[0]), item[0])))
    reached, chosen = set(), []
    while rest and len(chosen) < most:
        best = max(rest, key=lambda path: len(rest[path] - reached))
        if not rest[best] - reached:
            break
        reached |= rest.pop(best)
        chosen.append(best)
    return chosen


def minimise(folder, target, new):
    kept = corpus_of(target)
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        merged, control_file = pathlib.Path(scratch, "merged"), pathlib.Path(scratch, "control")
        merged.mkdir()
        words = command(folder, target, "-merge=1", f"-merge_control_file={control_file}", merged, kept, *new)
        subprocess.run(words, env=environment(), check=True, stderr=subprocess.DEVNULL)
        chosen = [pathlib.Path(path).read_bytes() for path in cover(features_of(control_file), LIMITS[target]["inputs"])]
    if not chosen:
        raise RuntimeError(f"nothing of {kept} is left: is {target} built?")
    for path in kept.iterdir():
        path.unlink()
    for data in chosen:
        (kept / hashlib.sha1(data).hexdigest()).write_bytes(data)
    print(f"{len(chosen)} inputs, {sum(map(len, chosen)):,} bytes in {kept}")
    return 0


def known(target):
    if target not in LIMITS:
        raise RuntimeError(f"no target {target}; there are: {', '.join(sorted(LIMITS))}")
    return target


def main(arguments):
    folder, rest = pathlib.Path(arguments[0]), arguments[1:]
    if rest[:1] == ["--replay"] and len(rest) == 3:
        return replay(folder, known(rest[1]), rest[2])
    if rest[:1] == ["--minimise"] and len(rest) >= 2:
        return minimise(folder, known(rest[1]), rest[2:])
    seconds = 60
    if rest and rest[0].isdigit():
        seconds = int(rest.pop(0))
    targets = [known(rest.pop(0))] if rest else sorted(LIMITS)
    if rest or seconds == 0:
        raise RuntimeError(f"what is {' '.join(rest) or '0'}? [SECONDS] [TARGET] | --replay TARGET FILE | --minimise TARGET NEW…")
    return fuzz_all(folder, seconds, targets)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"fuzz: {error}", file=sys.stderr)
        sys.exit(2)
