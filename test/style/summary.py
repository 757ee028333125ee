#!/usr/bin/env python3
"""Counts the tests of one Bazel run, and prints `N passed, N failed[, N skipped]` alone on the last line.

summary.py EVENTS BAZEL_CODE: the file of --build_event_json_file, and how Bazel ended. The file names the targets of that run and their test.xml files, so
nothing that an earlier run left behind is counted. A target with GoogleTest cases counts one a case; another counts
one. A target that failed without a failed case (it crashed, timed out, or was not built) counts one failure;
so does Bazel if it failed and no test tells why. Exit code: 0 if nothing failed and something passed, else 1.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree


def cases(path):
    """(passed, failed, skipped) of one test.xml; (0, 0, 0) if it cannot be read."""
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return 0, 0, 0
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        if case.get("status") == "notrun":  # switched off by its name: it is neither
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("result") == "skipped":
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def proofs(path):
    """The lines (part, what, figure, seconds, verdict) that the cases of one test.xml recorded as `proof`."""
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except (OSError, xml.etree.ElementTree.ParseError):
        return []
    rows = []
    for case in root.iter("testcase"):
        for entry in case.iter("property"):
            if entry.get("name") == "proof" and entry.get("value", "").count("|") == 2:
                bad = case.find("failure") is not None or case.find("error") is not None
                rows.append((*entry.get("value").split("|"), float(case.get("time", 0)), "VIOLATED" if bad else "holds"))
    return rows


def table(rows):
    """The lines of the proof's table, one part after the other."""
    if not rows:
        return []
    order = ["checker", "simulator", "mutants", "litmus", "history", "fuzzing", "sanitizers"]
    rows = sorted(rows, key=lambda row: (order.index(row[0]) if row[0] in order else len(order), row[0]))
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    head = f"{'part':<{wide[0]}}  {'what was run':<{wide[1]}}  {'how far':<{wide[2]}}  seconds  verdict"
    lines = ["The proof's short run (./run prove runs it at length; docs/proof.md says what it means):", head]
    for part, what, figure, seconds, verdict in rows:
        lines.append(f"{part:<{wide[0]}}  {what:<{wide[1]}}  {figure:<{wide[2]}}  {seconds:7.1f}  {verdict}")
    return lines + [""]


def note_result(results, name, result):
    """Keeps the last attempt of each run and shard of a target."""
    uris = [out["uri"] for out in result.get("testActionOutput", []) if out.get("name") == "test.xml"]
    path = urllib.parse.unquote(urllib.parse.urlparse(uris[0]).path) if uris else ""
    attempt = int(name.get("attempt", 1))
    runs = results.setdefault(name["label"], {})
    key = (name.get("run", 1), name.get("shard", 1))
    if key not in runs or runs[key][0] < attempt:
        runs[key] = (attempt, result.get("status", "NO_STATUS"), path, result.get("cachedLocally", False))


def read_events(lines):
    """({label: {(run, shard): (attempt, status, test.xml, cached)}}, {what was not built or not run: why})."""
    results, undone = {}, {}
    for line in lines:
        event = json.loads(line)
        names = event.get("id", {})
        if "testResult" in names and "testResult" in event:
            note_result(results, names["testResult"], event["testResult"])
        elif "testSummary" in names and event.get("testSummary", {}).get("overallStatus") == "NO_STATUS":
            undone.setdefault(names["testSummary"]["label"], "not run")
        elif "targetCompleted" in names and not event.get("completed", {}).get("success", False):
            undone[names["targetCompleted"]["label"]] = "not built"
        elif "aborted" in event:
            for pattern in names.get("pattern", {}).get("pattern", []):
                undone[pattern] = "not built: " + event["aborted"].get("reason", "unknown")
    return results, {label: why for label, why in undone.items() if label not in results}


def count(lines):
    """(passed, failed, skipped, what failed outside a test case, the proof's lines) of a stream of build events."""
    results, undone = read_events(lines)
    passed, failed, skipped = 0, len(undone), 0
    notes = [f"{label}: {why}" for label, why in sorted(undone.items())]
    proved = []
    for label, runs in sorted(results.items()):
        for _, status, path, _ in runs.values():
            here = cases(path) if path else (0, 0, 0)
            if status in ("PASSED", "FLAKY"):
                here = here if sum(here) else (1, 0, 0)
            elif here[1] == 0:
                here = (here[0], 1, here[2])
                notes.append(f"{label}: {status}")
            proved += proofs(path) if path else []
            passed, failed, skipped = passed + here[0], failed + here[1], skipped + here[2]
    cached = sum(all(run[3] for run in runs.values()) for runs in results.values())
    if cached:
        notes.append(f"{cached} of {len(results)} targets had not changed since they passed")
    return passed, failed, skipped, notes, proved


def main():
    """Reads the events that the first argument names."""
    with open(sys.argv[1], encoding="utf-8") as events:
        passed, failed, skipped, notes, proved = count(line for line in events if line.strip())
    if sys.argv[2] != "0" and failed == 0:
        failed = 1
        notes.append(f"bazel: exit code {sys.argv[2]}")
    for note in table(proved) + notes:
        print(note)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
