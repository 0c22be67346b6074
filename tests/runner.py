#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs all test suites and sums them up.

usage: runner.py [-k TEXT] [-j N] BUILD...

A suite is a program that prints TAP: every test-* program in BUILD/tests, and every executable test-*.sh and
test-*.py below tests/. A build for fuzzing (preset "fuzz") has fuzz-* programs instead: only they are run on it, each by
tests/fuzz/fuzz.py. A suite gets MICROVMD_BUILD (the build tree), MICROVMD_GUEST (a directory with vmlinuz and
initrd) and MICROVMD_CACHE. All suites run on each build, the long ones first, N at the same time (two more than there
are cores: those that boot guests wait as much as they compute); -k runs only those whose name contains TEXT.
The last line is "N passed, N failed" with ", N skipped" when there are any; it exits 1 if any test failed.
"""

import argparse
import concurrent.futures
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(HERE)
# Seconds after which a suite hangs. It is a net, not a measure: the slowest machine must not fall into it.
LIMIT = {"system": 1800, "vm": 1800}
LIMIT_OTHER = 900
LIMIT["fuzz"] = LIMIT_OTHER + int(os.environ.get("MICROVMD_FUZZ_SECONDS", "60"))
FUZZERS = ["fuzz-loader", "fuzz-xml"]
# Seconds that the long ones take, about: begun first, none is left running alone at the end. One that is not here is short.
LONG = {
    "vm/test-life": 140, "vm/test-stop": 125, "bus/test-stop": 120, "system/test-host": 115, "bus/test-order": 110,
    "system/test-handle": 90, "system/test-upgrade": 90, "system/test-units": 85, "vm/test-embed-driver": 85,
    "system/test-deaths": 80, "vm/test-readiness": 75, "vm/test-apply": 65, "fuzz/fuzz-loader": 61,
    "fuzz/fuzz-xml": 61, "system/test-sandbox": 57, "vm/test-devices": 55, "vm/test-console": 52, "bus/test-bus": 50,
    "system/test-shutdown": 47, "system/test-events": 45, "bus/test-faults": 40, "bus/test-readiness": 40,
    "libvirt/test-libvirt-driver": 33, "system/test-first-microvm": 30, "chaos/test-chaos": 25, "bus/test-pains": 25,
    "bus/test-notify": 25, "bus/test-direct": 16, "bus/test-why": 15, "unit/test-json-schema": 15, "bus/test-remote": 12,
    "bus/test-qmp": 11, "bus/test-monitor": 10, "bus/test-leaks": 8,
}
# Of several builds only the first runs these: they are about guests, libvirt and systemd, and long. What of the code only they
# reach, the sanitizer sees in system/test-host and vm/test-embed-driver, which all builds run.
ONCE = {"vm/test-stop", "vm/test-life", "vm/test-readiness", "vm/test-console", "vm/test-devices", "vm/test-qmp", "vm/test-apply",
        "system/test-handle", "system/test-shutdown", "system/test-upgrade", "system/test-events", "system/test-units",
        "system/test-sandbox", "system/test-deaths"}
# Frames are found by their pointers, which is many times faster than by unwinding tables; but libvirt has no pointers,
# and leaks that it has towards a real libvirtd are known (lsan.supp) by its functions.
BY_TABLES = ("libvirt", "system")

WHY_LINES = 12  # of each failed test, in the summary

RESULT = re.compile(r"^(ok|not ok)\b *(\d+)? *-? *([^#]*?) *(?:# *(skip|todo)\S* *(.*))?$", re.I)
PLAN = re.compile(r"^1\.\.(\d+)(?: *# *skip\S* *(.*))?$", re.I)


def discover(build):
    """Returns (group, name, argv) of each."""
    fuzzers = [path for name in FUZZERS if os.access(path := os.path.join(build, "tests", "fuzz", name), os.X_OK)]
    if fuzzers:
        return [("fuzz", os.path.basename(path), [os.path.join(HERE, "fuzz", "fuzz.py"), path]) for path in fuzzers]
    group_of = {}
    scripts = []
    for folder, folders, files in os.walk(HERE):
        folders[:] = [name for name in folders if name not in ("guest", "bench", "fuzz", "lib")]
        group = os.path.relpath(folder, HERE).split(os.sep)[0]
        for name in files:
            path = os.path.join(folder, name)
            stem, extension = os.path.splitext(name)
            if extension == ".c":
                group_of[stem] = group
            elif name.startswith("test-") and extension in (".sh", ".py") and os.access(path, os.X_OK):
                scripts.append((group, stem, [path]))
    for folder, folders, files in os.walk(os.path.join(build, "tests")):
        folders[:] = [name for name in folders if name != "CMakeFiles"]
        for name in files:
            path = os.path.join(folder, name)
            if name.startswith("test-") and "." not in name and os.access(path, os.X_OK) and name in group_of:
                scripts.append((group_of[name], name, [path]))

    return sorted(scripts)


class Outcome:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []  # (test, reason)


def why_of(output, test):
    """The last lines that a failed test says of itself, before what it adds from elsewhere (after "# ---")."""
    lines = iter(output.splitlines())
    for line in lines:
        match = RESULT.match(line)
        if match and match[1].lower() == "not ok" and match[3] == test:
            said = itertools.takewhile(lambda line: line.startswith("#") and not line.startswith("# ---"), lines)
            return list(said)[-WHY_LINES:]
    return []


def judge(output, status, limit):
    outcome = Outcome()
    planned = None
    for line in output.splitlines():
        match = PLAN.match(line)
        if match:
            planned = (planned or 0) + int(match[1])
            if match[1] == "0":
                outcome.skipped.append(("all of it", match[2] or "no reason given"))
            continue
        match = RESULT.match(line)
        if not match:
            continue
        verdict, number, name, directive, reason = match.groups()
        # cmocka says "not ok 3 # SKIP name".
        if directive and not name:
            name, reason = reason, "the test says so"
        name = name or f"test {number}"
        if directive and directive.lower() == "skip":
            outcome.skipped.append((name, reason or "no reason given"))
        elif verdict.lower() == "ok":
            outcome.passed += 1
        else:
            outcome.failed.append(name)
    seen = outcome.passed + len(outcome.failed) + len(outcome.skipped)
    if status is None:
        outcome.failed.append(f"did not end within {limit} s")
    elif status == 77 and seen == 0:
        outcome.skipped.append(("all of it", (output.strip().splitlines() or ["no reason given"])[-1]))
    elif status < 0:
        outcome.failed.append(f"died of {signal.Signals(-status).name}")
    elif status != 0 and not outcome.failed:
        outcome.failed.append(f"exited with {status}")
    elif seen == 0:
        outcome.failed.append("ran no test")
    elif planned is not None and planned > 0 and seen < planned:
        outcome.failed.append(f"ran {seen} of {planned} tests")
    return outcome


running = set()  # the processes of suites


def end(process):
    """It gets the time to clean up, then its whole group goes."""
    for number, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            pass
    process.wait()


def on_signal(number, frame):
    for process in list(running):
        end(process)
    os._exit(128 + number)


def run(argv, environment, limit):
    """Returns the output, the errors and the exit status, None when it had to be ended. They are kept apart, so that
    nobody's complaint can get into the middle of a line that is judged."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(argv, cwd=SOURCE, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=errors, start_new_session=True)
        running.add(process)
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            end(process)
            status = None
        running.discard(process)
        output.seek(0)
        errors.seek(0)
        return output.read().decode(errors="replace"), errors.read().decode(errors="replace"), status


def environment_of(build, group):
    return dict(
        os.environ,
        CMOCKA_MESSAGE_OUTPUT="TAP",
        MICROVMD_BUILD=build,
        MICROVMD_GUEST=os.environ.get("MICROVMD_GUEST", os.path.join(SOURCE, "build", "guest")),
        ASAN_OPTIONS=f"fast_unwind_on_malloc={int(group not in BY_TABLES)}:" + os.environ.get("ASAN_OPTIONS", ""),
        LSAN_OPTIONS=f"suppressions={HERE}/lsan.supp:print_suppressions=0:" + os.environ.get("LSAN_OPTIONS", ""),
        UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:" + os.environ.get("UBSAN_OPTIONS", ""),
        # GLib locks with futexes of its own: what libraries do to their memory looks like races.
        TSAN_OPTIONS="halt_on_error=1:ignore_noninstrumented_modules=1:" + os.environ.get("TSAN_OPTIONS", ""),
    )


def run_suite(title, group, argv, environment):
    """Returns the outcome, what is to be printed of it, and what was printed."""
    limit = LIMIT.get(group, LIMIT_OTHER)
    start = time.monotonic()
    output, errors, status = run(argv, environment, limit)
    outcome = judge(output, status, limit)
    words = [f"{outcome.passed:4} passed"]
    if outcome.failed:
        words.append(f"{len(outcome.failed)} FAILED")
    if outcome.skipped:
        words.append(f"{len(outcome.skipped)} skipped")
    lines = [f"{title:52}" + ", ".join(words) + f"   {time.monotonic() - start:.1f} s"]
    if outcome.failed:
        shown = output.splitlines()[-400:] + ["--- standard error:"] + errors.splitlines()[-200:]
        lines += ["    | " + line for line in shown]
    return outcome, "\n".join(lines), output


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", metavar="TEXT", default="")
    parser.add_argument("-j", metavar="N", type=int, default=(os.cpu_count() or 1) + 2)
    parser.add_argument("build", nargs="+")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)

    suites = []
    for build in map(os.path.abspath, arguments.build):
        for group, name, argv in discover(build):
            title = f"{os.path.basename(build)} {group}/{name}"
            if f"{group}/{name}" in ONCE and any(suite[0].endswith(f" {group}/{name}") for suite in suites):
                argv = ["echo", "1..0 # SKIP the first build has run it; see ONCE in tests/runner.py"]
            if arguments.k in title:
                suites.append((title, group, argv, environment_of(build, group)))
    suites.sort(key=lambda suite: -LONG.get(suite[0].split()[1], 0))

    passed, failed, skipped = 0, [], []
    with concurrent.futures.ThreadPoolExecutor(arguments.j) as pool:
        futures = {pool.submit(run_suite, *suite): suite[0] for suite in suites}
        for future in concurrent.futures.as_completed(futures):
            outcome, text, output = future.result()
            title = futures[future]
            print(text, flush=True)
            passed += outcome.passed
            failed += [(title, test, why_of(output, test)) for test in outcome.failed]
            skipped += [(title, test, reason) for test, reason in outcome.skipped]

    if failed:
        print("\nFailed:")
        for title, test, why in failed:
            print(f"  {title}: {test}")
            print("".join(f"      {line}\n" for line in why), end="")
    if skipped:
        print("\nSkipped:")
        for title, test, reason in skipped:
            print(f"  {title}: {test}: {reason}")
    summary = f"{passed} passed, {len(failed)} failed"
    if skipped:
        summary += f", {len(skipped)} skipped"
    print(f"\n{summary}")
    # Nothing run is nothing shown.
    sys.exit(1 if failed or passed == 0 else 0)


if __name__ == "__main__":
    main()
