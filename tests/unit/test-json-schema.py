#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The JSON Schemas, judged by a validator that is not ours: all good files pass, the broken ones do not. Prints TAP."""

import glob
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import BUILD, SOURCE, run_tests, tests_of  # noqa: E402

try:
    from jsonschema import Draft202012Validator
except ImportError:
    print("1..0 # SKIP python3-jsonschema is not installed")
    sys.exit(0)

# What microvmd refuses and a schema can't see, or not without a second copy of the code that checks it.
BEYOND = {
    "duplicate-escaped": "a key that is there twice: a parser has dropped one of them",
    "duplicate-group": "as above",
    "duplicate-key": "as above",
    "duplicate-nested": "as above",
    "after-kill": "what the steps of a list are to each other",
    "forward-guest-udp": "what two keys are to each other",
    "forward-without-user": "as above",
    "twice": "elements of a list that are equal in one key",
    "two-names": "initrd and initrdPath are one key",
    "long-command-line": "the length of all kernel parameters together",
    "lone-low-surrogate": "a text that Unicode has not: JSON allows to write it",
    "lone-surrogate": "as above",
}

HOST_GOOD = [
    "{}",
    '{"host": {"enable": true, "maxConcurrentStarts": 8, "memoryReserve": "2G"}, "guest": {"enable": false}}',
    '{"microvm": {"host": {"enable": true}, "vms": {"web": {}}, "stateDir": "/var/lib/microvms"}}',
    '{"libvirt": {"uri": "qemu:///embed?root=/srv"}, "defaults": {"driver": "libvirt", "accel": "tcg"}}',
    '{"definitions": {"watch": true}}',
]
HOST_BROKEN = [
    "[]", "null", '"host"', '{"guest": true}', '{"guest": {"enable": "false"}}', '{"guest": {"enable": 0}}',
    '{"guest": {"enable": null}}', '{"guest": {"enabled": true}}', '{"Guest": {"enable": true}}', '{"guest.enable": true}',
    '{"microvm": true}', '{"microvm": {"guest": []}}', '{"microvm": {"guest": {"enable": "yes"}}}', '{"flavour": 1}',
    '{"host": {"maxConcurrentStarts": -1}}', '{"host": {"maxConcurrentStarts": 10001}}', '{"host": {"memoryReserve": "lots"}}',
    '{"defaults": {"driver": "vbox"}}', '{"defaults": {"accel": "fast"}}', '{"definitions": {"watch": 1}}',
]


def plain(text):
    """Without comments and trailing commas."""
    token = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[\]}])', re.S)
    return token.sub(lambda match: match[0] if match[0][0] == '"' else " ", text)


def schema(what):
    text = subprocess.run([os.path.join(BUILD, "microvmd"), "--dump-schema", what], capture_output=True, text=True, check=True)
    return json.loads(text.stdout)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def no_constant(word):
    raise ValueError(f"{word} is no JSON")


def load(data):
    """The value, or ValueError: it is no JSON, which is no affair of a schema."""
    return json.loads(plain(data.decode("utf-8")), parse_constant=no_constant)


def complaints(validator, value):
    return [f"{error.json_path}: {error.message}"[:200] for error in validator.iter_errors(value)]


def examples():
    """Every JSON file in the documentation, and the good definitions."""
    for path in sorted(glob.glob(os.path.join(SOURCE, "tests/data/good/*.json"))):
        yield path, read(path)
    for path in [os.path.join(SOURCE, "README.md"), *sorted(glob.glob(os.path.join(SOURCE, "docs/*.md")))]:
        text = read(path).decode()
        for body in re.findall(r"^```json\n(.*?)^```", text, re.S | re.M):
            yield path, body.encode()
        for body in re.findall(r"^cat >/etc/microvmd/vms/.*<<'END'\n(.*?)^END", text, re.S | re.M):
            yield path, body.encode()
    page = read(os.path.join(SOURCE, "docs/man/microvm-definition.5.in")).decode()
    for body in re.findall(r"^\.nf\n(\{.*?)^\.fi", page[page.index(".SH EXAMPLES"):], re.S | re.M):
        yield "microvm-definition.5.in", body.encode()


def test_schemas_are_schemas():
    for what in ("vm", "host"):
        Draft202012Validator.check_schema(schema(what))


def test_good_definitions_pass():
    validators, seen = {what: Draft202012Validator(schema(what)) for what in ("vm", "host")}, 0
    for where, data in examples():
        value = load(data)
        told = complaints(validators["host" if "host" in value else "vm"], value)
        assert not told, f"{where}: {told}"
        seen += 1
    assert seen >= 10, f"only {seen} examples"


def test_broken_definitions_do_not():
    validator, judged, beyond = Draft202012Validator(schema("vm")), 0, set()
    for path in sorted(glob.glob(os.path.join(SOURCE, "tests/data/broken/*.json"))):
        name = os.path.splitext(os.path.basename(path))[0]
        try:
            value = load(read(path))
        except ValueError:
            continue
        told = complaints(validator, value)
        if not told:
            beyond.add(name)
        judged += bool(told)
    assert beyond == set(BEYOND), f"pass: {sorted(beyond - set(BEYOND))}; do not: {sorted(set(BEYOND) - beyond)}"
    assert judged >= 15, f"only {judged} judged"


def test_host_configurations():
    validator = Draft202012Validator(schema("host"))
    for text in HOST_GOOD:
        assert not complaints(validator, load(text.encode())), f"{text}: {complaints(validator, load(text.encode()))}"
    for text in HOST_BROKEN:
        assert complaints(validator, load(text.encode())), f"{text} passes"


# What is in the text of a number, or known only when a definition is loaded.
SPECIFIER = re.compile(r"%[npihHm]")


def check_corpus(what, schema_of):
    """Schema and loader agree on every value of every row."""
    corpus = subprocess.run([os.path.join(BUILD, "tests", "schema-corpus"), what], capture_output=True, text=True, check=True)
    validator, judged, differ = Draft202012Validator(schema_of), 0, []
    for line in corpus.stdout.splitlines():
        taken, kind, said, text = json.loads(line)
        valid = validator.is_valid(json.loads(text))
        judged += 1
        arithmetic = kind == "quantity" and re.search(r"^\S.* is (not|out of range)", said)
        if taken == valid or (valid and (SPECIFIER.search(text) or arithmetic)):
            continue
        differ.append(f"{'taken' if taken else 'refused'} ({said}), but {'valid' if valid else 'not valid'}: {text[:150]}")
    assert not differ, f"{len(differ)} of {judged}: " + "\n# ".join(differ[:40])
    assert judged > 1000


def test_every_row_of_a_definition():
    check_corpus("vm", schema("vm"))


def test_every_row_of_a_drop_in():
    whole = schema("vm")
    check_corpus("drop-in", {"$schema": whole["$schema"], "$defs": whole["$defs"], "$ref": "#/$defs/drop-in"})


def test_every_row_of_the_host():
    check_corpus("host", schema("host"))


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__])))
