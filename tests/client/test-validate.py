#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmctl validate, which asks no service."""

import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ctl import LIMIT, expect, main  # noqa: E402
from harness import CTL  # noqa: E402


def test_validate(it):
    """By microvmd --check, and without a daemon."""
    def path(name, data):
        with open(it.path(name), "wb") as file:
            file.write(data)
        return it.path(name)

    it.stop()
    good, bad = path("good", b'{"kernel": "/k"}'), path("bad", b'{ "kernel": "/k",\n\t"kernal": 1 }')
    unsure = path("unsure", b'{"kernel": "/k", "firecracker": {"driveIoEngine": "Sync"}}')
    expect(it, 0, "validate", good, out="good: good")
    expect(it, 0, "validate", "-q", good)
    assert expect(it, 0, "validate", "-q", good).stdout == ""
    result = expect(it, 1, "validate", good, bad, out=[f'{bad}:2:2: error: there is no key "kernal"; did you mean "kernel"?'])
    assert result.stdout.splitlines()[-2:] == ['    2 |  "kernal": 1 }', "      |  ^"], result.stdout
    expect(it, 0, "validate", unsure, out=["1:34: warning: this is for the hypervisor", "unsure: good"])
    expect(it, 1, "validate", "-", stdin='{"kernal": 1}', out=["-:1:2: error: there is no key", '    1 | {"kernal": 1}\n      |  ^'])
    expect(it, 0, "validate", "-", stdin='{"kernel": "/k"}', out="standard input: good")
    expect(it, 0, "validate", path("empty", b""), out="empty: warning: it is empty")
    expect(it, 1, "validate", path("latin", b'{\n "a\xff"}'), out=[":2:4: error: the file is not UTF-8", '"a\\xff"}'])
    expect(it, 1, "validate", path("large", b" " * (1 << 20) + b"x"), out="too large")
    expect(it, 1, "validate", path("nul", b"{\0}"), out="1:2: error:")
    # a line of a megabyte is shown in part, the caret below its place
    result = expect(it, 1, "validate", path("long", b'{"kernel": "/k", "description": "' + "\u00e4".encode() * 9999 + b'", "x": 1}'))
    line, caret = result.stdout.splitlines()[1:]
    assert len(line) < 120 and line[caret.index("^"):].startswith('"x": 1'), result.stdout
    # of a drop-in, too
    os.mkdir(path("layered.json", b'{"kernel": "/k"}') + ".d")
    drop_in = path("layered.json.d/10.json", b'{"vcpu": "two"}')
    expect(it, 1, "validate", it.path("layered.json"),
           out=[f"{drop_in}:1:10: error:", '    1 | {"vcpu": "two"}\n      |          ^'])
    # what could be taken for the end of the name is none
    odd = path("a: error: b (at", b"[]")
    expect(it, 1, "validate", odd, out=f'{odd}: error: "a: error: b (at" can\'t be the name of a microVM')
    os.mkdir(it.path("folder"))
    expect(it, 1, "validate", it.path("folder"), "/nonexistent", out=["this is a directory", "/nonexistent: error:", "No such file"])
    os.mkfifo(it.path("fifo"))
    expect(it, 1, "validate", it.path("fifo"), out="not a regular file")
    problems = json.loads(expect(it, 1, "validate", bad, unsure, "--json").stdout)
    assert [problem["Severity"] for problem in problems] == ["error", "warning"]
    assert problems[0]["Pointer"] == "/kernal" and problems[0]["File"] == bad, problems
    assert (problems[0]["Line"], problems[0]["Column"]) == (2, 2) and problems[0]["Text"].startswith("there is no key")
    assert json.loads(expect(it, 0, "validate", good, "--json").stdout) == []
    expect(it, 2, "validate", "-H", "elsewhere", good, err="of this host")
    # what they are to each other, told at the file that it is in, in the order of the files
    one, two = path("one.json", b'{"kernel": "/k", "vsock": {"cid": 5}}'), path("two.json", b'{"kernel": "/k", "vsock": {"cid": 5}}')
    result = expect(it, 1, "validate", two, good, one)
    assert result.stdout == (f"{two}:1:35: error: vsock CID 5 is that of the microVM one already, in {one}; only one of them can have it "
                             '(at /vsock/cid)\n    1 | {"kernel": "/k", "vsock": {"cid": 5}}\n      |                                   ^\n'
                             f"{good}: good\n{one}: good\n"), result.stdout
    expect(it, 0, "validate", two, good, out=["two.json: good", "good: good"])


def test_validate_finds_microvmd(it):
    """That of the same installation, else of PATH."""
    installed = it.path("bin")
    os.mkdir(installed)
    alone = shutil.copy(CTL, installed)
    good = it.write("good", "{}")

    def say(folder, words, status):
        it.write(folder + "/microvmd", f"#!/bin/sh\n{words}\nexit {status}\n", 0o755)

    def run():
        return subprocess.run([alone, "validate", good], env={**it.env, "PATH": it.folder + "/path:/usr/bin:/bin"},
                              capture_output=True, text=True, timeout=LIMIT)

    say("path", 'echo "$3:1:1: error: by PATH"', 1)
    result = run()
    assert result.returncode == 1 and f"{good}:1:1: error: by PATH" in result.stdout, result
    say("sbin", 'echo "$3:1:1: warning: by the prefix"', 0)
    result = run()
    assert result.returncode == 0 and "by the prefix" in result.stdout, result
    say("sbin", "echo This host must not run microvmd.", 78)
    result = run()
    assert result.returncode == 1 and "must not run" in result.stderr and "good" not in result.stdout.split("\n"), result


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
