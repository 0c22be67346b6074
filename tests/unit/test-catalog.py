#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The message catalog explains every MESSAGE_ID= of include/microvm, and journalctl takes it. Prints TAP."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import SOURCE, run_tests, tests_of  # noqa: E402

CATALOG = os.path.join(SOURCE, "units", "microvmd.catalog")


def read(*path):
    with open(os.path.join(SOURCE, *path)) as file:
        return file.read()


def ids():
    """Name → number, of all that the headers have."""
    text = read("include", "microvm", "messages.h") + read("include", "microvm", "names.h")
    return dict(re.findall(r'#define (MICROVM_MESSAGE_\w+) +"([0-9a-f]{32})"', text))


def test_ids_are_different():
    assert len(ids()) > 5 and len(set(ids().values())) == len(ids()), ids()


def test_each_is_explained():
    explained = re.findall(r"^-- ([0-9a-f]{32})$", read("units", "microvmd.catalog"), re.M)
    assert sorted(explained) == sorted(ids().values()), explained


def test_fields_are_ours():
    known = set(re.findall(r'"(MICROVM_[A-Z_]+)"', read("include", "microvm", "names.h")))
    used = set(re.findall(r"@(\w+)@", read("units", "microvmd.catalog")))
    assert used and used <= known, used - known


def test_journalctl_takes_it():
    if not shutil.which("journalctl"):
        return
    with tempfile.TemporaryDirectory() as root:
        os.makedirs(os.path.join(root, "usr/lib/systemd/catalog"))
        os.makedirs(os.path.join(root, "var/lib/systemd/catalog"))
        shutil.copy(CATALOG, os.path.join(root, "usr/lib/systemd/catalog"))
        for words in (["--update-catalog"], ["--dump-catalog", *ids().values()]):
            run = subprocess.run(["journalctl", "--root", root, *words], capture_output=True, text=True, timeout=60)
            assert run.returncode == 0, run.stderr
        assert run.stdout.count("Defined-By: microvmd") == len(ids()), run.stdout


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__])))
