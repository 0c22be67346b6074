#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs one libFuzzer program for a while, from the corpus in the tree. Prints TAP.

usage: fuzz.py PROGRAM

For MICROVMD_FUZZ_SECONDS (60). What it finds is kept as BUILD/finding-…: a copy in tests/fuzz/corpus makes it a test.
"""

import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(os.path.dirname(HERE), "data")
# libFuzzer: one input that takes so long is a finding, too.
SLOW = 60


def main():
    program = os.path.abspath(sys.argv[1])
    seconds = int(os.environ.get("MICROVMD_FUZZ_SECONDS", "60"))
    folder, name = os.path.split(program)
    seeds = [os.path.join(HERE, "corpus"), os.path.join(DATA, "good"), os.path.join(DATA, "broken")]
    with tempfile.TemporaryDirectory(prefix="microvmd-fuzz.") as new:
        run = subprocess.run(
            [program, f"-dict={folder}/definition.dict", f"-artifact_prefix={folder}/finding-", f"-max_total_time={seconds}",
             f"-timeout={SLOW}", "-max_len=4096", "-print_final_stats=1", new, *seeds],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = run.stdout.decode(errors="replace")
    counted = re.search(r"^stat::number_of_executed_units: (\d+)$", output, re.M)
    runs = int(counted[1]) if counted else 0
    good = run.returncode == 0 and runs > 0
    print("1..1")
    print(f"{'ok' if good else 'not ok'} 1 - {name}: {runs} runs in {seconds} s without a finding")
    if not good:
        print("\n".join("# " + line for line in output.splitlines()[-60:]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
