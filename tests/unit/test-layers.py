#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Folders are layers: includes point down only. Prints TAP."""

import os
import re
import sys

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LEVELS = {"base": 0, "spec": 1, "host": 1, "driver": 2, "resource": 2, "launch": 2, "plan": 3, "supervise": 4, "bus": 6}
TOP = {"definition-files": 5, "layers": 5, "definition": 5, "definitions": 5, "definitions-across": 5, "across": 5, "across-claims": 5, "across-rivals": 5, "across-order": 5,
       "across-memory": 5, "manager": 5, "manager-definitions": 5, "manager-drivers": 5, "manager-admit": 5, "manager-explain": 5, "manager-watch": 5, "manager-notify": 5,
       "manager-define": 5, "manager-plan": 5, "manager-apply": 5, "manager-apply-steps": 5, "manager-apply-canary": 5, "manager-prune": 5, "manager-define-check": 5,
       "manager-stop": 5, "manager-drain": 5, "manager-memory": 5, "manager-leaks": 5, "main": 7, "autostart": 7, "options": 7, "check": 7, "check-files": 7}
SOFT, HARD = 500, 800


def sources(folder):
    for directory, _, names in os.walk(os.path.join(SOURCE, folder)):
        for name in sorted(names):
            if name.endswith((".c", ".h")):
                path = os.path.join(directory, name)
                with open(path) as file:
                    yield os.path.relpath(path, os.path.join(SOURCE, folder)), file.read()


def level(path):
    folder = path.split("/")[0]
    return LEVELS[folder] if "/" in path else TOP[os.path.splitext(path)[0]]


def includes(text):
    return re.findall(r'^#include "([^"]+)"', text, re.M)


def upward():
    for path, text in sources("daemon"):
        for target in includes(text):
            if target.startswith("microvm/"):
                continue
            if level(target) > level(path):
                yield f"{path} (level {level(path)}) includes {target} (level {level(target)})"
            # Two folders of one level know nothing of each other, but for the table engine that host.json shares, and
            # the launchers that drivers use.
            elif level(target) == level(path) and target.split("/")[0] != path.split("/")[0] and "/" in path and \
                    (path.split("/")[0], target.split("/")[0]) not in (("host", "spec"), ("driver", "launch")):
                yield f"{path} includes {target}, of another folder of its level"


def client_reaches_in():
    for path, text in sources("client"):
        for target in includes(text):
            if not target.startswith("microvm/") and not os.path.exists(os.path.join(SOURCE, "client", target)):
                yield f"client/{path} includes {target}"


def contract_leans_on_code():
    for path, text in sources("include"):
        for target in includes(text):
            if not target.startswith("microvm/"):
                yield f"include/{path} includes {target}"


def too_long():
    for folder in ("daemon", "client"):
        for path, text in sources(folder):
            if path.endswith(".c") and text.count("\n") > HARD:
                yield f"{folder}/{path} has {text.count(chr(10))} lines"


def unlicensed():
    for folder in ("daemon", "client", "include", "tests"):
        for path, text in sources(folder):
            if "SPDX-License-Identifier: LGPL-2.1-or-later" not in text.split("\n", 1)[0]:
                yield f"{folder}/{path}"


def main():
    tests = [("includes of the daemon point down", upward), ("the client includes nothing of the daemon", client_reaches_in),
             ("the contract leans on nothing", contract_leans_on_code), ("no file is beyond the hard limit", too_long),
             ("every source names its licence", unlicensed)]
    failed = 0
    print(f"1..{len(tests)}")
    for number, (name, find) in enumerate(tests, 1):
        found = list(find())
        print(f"{'not ok' if found else 'ok'} {number} - {name}")
        for line in found:
            print("# " + line)
        failed += bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
