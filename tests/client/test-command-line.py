#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmctl and its words: what it takes, what it asks for nothing, whom it reaches; against a service that only pretends."""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ctl import LIMIT, Terminal, expect, main  # noqa: E402
from harness import CTL, SOURCE  # noqa: E402

COMPLETION = os.path.join(os.path.dirname(CTL), "docs", "microvmctl.bash")


def test_usage(it):
    expect(it, 2, "lst", err='did you mean "list"?')
    expect(it, 2, "frobnicate", err="There is no verb")
    expect(it, 2, "--jsno", "list", err="did you mean --json?")
    expect(it, 2, "list", "--json=yaml", err="off, short or pretty")
    expect(it, 2, "list", "-x", err="no option -x")
    expect(it, 2, "--json", "-xq", "list", err="no option -x")
    expect(it, 2, "--all=x", "list", err="--all takes no value")
    expect(it, 2, "stop", "web", "--timeout", err="lacks its value")
    expect(it, 2, "kill", "web", "-s", err="-s lacks its value")
    expect(it, 2, "version", "web", err="version takes no names")
    expect(it, 2, "help", "start", err="help takes no names")
    expect(it, 2, "--bus=user", "-H", "there", "list", err="--bus and --host")
    expect(it, 2, "stop", "web", "--timeout=soon", err="30s or 2min")
    expect(it, 2, "kill", "web", "-s", "NOSUCH", err="signal")
    expect(it, 2, "start", err="name of a microVM is missing")
    expect(it, 2, "start", "--all", "web", err="--all")
    expect(it, 2, "list", "--force", err="list takes no --force")
    expect(it, 2, "console", err="one microVM")
    expect(it, 2, "logs", "web", "db", err="one microVM")
    expect(it, 2, "validate", err="missing")
    expect(it, 2, "--bus=nonsense", "list", err="is no bus")
    assert it.calls() == [], "a bad command line asks for nothing"


def read_source(*path):
    with open(os.path.join(SOURCE, *path)) as file:
        return file.read()


def options_of_verbs():
    """What microvmctl takes: the names of all options, and of each verb those that only some verbs take."""
    source = read_source("client", "options.c")
    every = re.findall(r'^    {"([a-z-]+)", \w+_argument', source, re.M)
    bits = {}
    for bit, option in re.findall(r'^    {(?:OPT_\w+|\'.\'), (OPTION_\w+), "(--[a-z-]+)"}', source, re.M):
        bits.setdefault(bit, set()).add(option)
    rows = re.findall(r'^    {"([a-z-]+)", verb_\w+,\s+([^}]*)}', read_source("client", "main.c"), re.M)
    verbs = {verb: set().union(*(bits.get(bit, set()) for bit in re.findall(r"OPTION_\w+", flags))) for verb, flags in rows}
    assert len(every) > 40 and len(verbs) > 35 and "--canary" in verbs["apply"], (every, verbs)
    return [f"--{name}" for name in every], verbs


def test_help(it):
    every, verbs = options_of_verbs()
    manual = read_source("docs", "man", "microvmctl.1").replace("\\-", "-")
    for words in (["--help"], ["-h"], ["help"], ["start", "--help"]):
        expect(it, 0, *words, out=["reset-failed", "--host-shutdown", "Exit codes"])
    summary = expect(it, 0, "--help").stdout
    assert [line for line in summary.splitlines() if len(line) > 80] == []
    for text, where in ((summary, "--help"), (manual, "microvmctl.1")):
        missing = [word for word in [*every, *verbs] if not re.search(rf"(?<![\w-]){word}(?![\w-])", text)]
        assert missing == [], f"{missing} not in {where}"
    expect(it, 0, "--version", out="microvmctl ")
    expect(it, 0, "version", out=["microvmctl ", "microvmd 9.8.7"])
    assert json.loads(expect(it, 0, "version", "--json").stdout)["Daemon"] == "9.8.7"


def test_unknown_name(it):
    expect(it, 4, "status", "wbe", err='No microVM is called "wbe"; did you mean "web"?')
    for verb in ("start", "stop", "restart", "kill", "pause", "resume", "reset-failed", "show", "console", "logs"):
        expect(it, 4, verb, "wbe", err='did you mean "web"?')
    expect(it, 4, "start", "web", "nothing-like-it", err="microvmctl list")
    assert it.calls("Start") == [], "with an unknown name nothing is done"
    result = expect(it, 4, "status", "\x1b[2J")
    assert "\x1b" not in result.stderr


def test_escapes(it):
    for words in (["status", "evil"], ["show", "evil"]):
        result = expect(it, 0, *words)
        assert "\x1b" not in result.stdout.replace("\x1b[31m", "").replace("\x1b[0m", "")
        assert "\nfake" not in result.stdout and "\u202e" not in result.stdout and "\u009b" not in result.stdout
    result = expect(it, 0, "--json=short", "status", "evil")
    assert "\u009b" not in result.stdout and "\x1b" not in result.stdout
    assert json.loads(result.stdout)[0]["StateReason"] == "\x1b[2J\nfake: line \u202e \u009b0m"
    terminal = Terminal(it, "logs", "evil")
    terminal.wait_for(b"end")
    assert terminal.end() == 0
    assert b"\x1b[31mred\x1b[0m \\x1b]0;title\\x07 \\x9b2J tab" in terminal.seen, terminal.seen


def test_no_daemon(it):
    it.stop()
    for words in (["list"], ["status"], ["status", "web"], ["start", "web"], ["is-active", "web"], ["show", "web"], ["reload"],
                  ["console", "web"], ["logs", "web"], ["kill", "web"]):
        expect(it, 69, *words, err="microvmd is not running")
    expect(it, 0, "version", out="does not answer")
    expect(it, 0, "stop", "--all", "--host-shutdown", err="not running")
    expect(it, 69, "--bus=unix:path=/nonexistent", "list", err="Can't reach the bus \"unix:path=/nonexistent\": No such")
    del it.env["DBUS_SESSION_BUS_ADDRESS"]
    it.env.pop("XDG_RUNTIME_DIR", None)
    expect(it, 69, "--bus=user", "list", err="$XDG_RUNTIME_DIR")


def test_why_no_daemon(it):
    def restart(**service):
        it.stop()
        it.start("--no-microvmd", "--systemd", it.systemd(**service))

    restart(active="failed", Result="exit-code", ExecMainStatus=78,
            StatusText="/etc/microvmd/host.json: /guest/enable is true\x1b[2J")
    result = expect(it, 69, "list", err=["exit status 78", "/guest/enable is true", "microvmd --check"])
    assert "\x1b" not in result.stderr
    restart(active="failed", Result="exit-code", ExecMainStatus=78, StatusText=f"{'Its words are long. ' * 12}Write there:"
            '     "guest": { "enable": false }')
    result = expect(it, 69, "list", err='\n      "guest": { "enable": false }\n')
    assert all(len(line) <= 80 for line in result.stderr.splitlines()), result.stderr
    restart(active="failed", Result="core-dump", ExecMainCode=3, ExecMainStatus=11)
    expect(it, 69, "list", err=["core-dump", "signal 11", "journalctl -u microvmd"])
    restart(active="inactive", Result="success", ExecMainStatus=0)
    expect(it, 69, "list", err="systemctl start microvmd")


def complete(it, *words):
    """What bash offers for the last word. It divides words at "=" and "@"."""
    parts = [part for word in words for part in (re.split("([=@])", word) if word else [""]) if part or not word]
    script = ". \"$1\"; COMP_LINE=$2; COMP_POINT=${#2}; shift 2; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))\n" \
        "COMP_WORDBREAKS='@='; _microvmctl; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "--norc", "-c", script, "bash", COMPLETION, " ".join(words), *parts], capture_output=True, text=True,
                          env={**it.env, "PATH": f"{os.path.dirname(os.path.abspath(CTL))}:{os.environ['PATH']}"}, timeout=LIMIT)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.split()


def test_completion(it):
    every, verbs = options_of_verbs()
    common = {"--bus", "--host", "--json", "--no-pager", "--no-legend", "--no-block", "--quiet", "--no-ask-password", "--help", "--version"}
    assert sorted(complete(it, "microvmctl", "")) == sorted(verbs)
    for verb, options in verbs.items():
        assert set(complete(it, "microvmctl", verb, "--")) == common | options, verb
    assert complete(it, "microvmctl", "start", "we") == ["web"]
    assert complete(it, "microvmctl", "wait", "--for", "re") == ["ready"]
    assert complete(it, "microvmctl", "wait", "--for=re") == ["ready"]
    assert "restart.policy=" in complete(it, "microvmctl", "create", "new", "--set", "restart.p")
    assert complete(it, "microvmctl", "status", "t@1") == ["1.x-y"], "what is behind the @"
    assert complete(it, "microvmctl", "console", "t@") == ["1.x-y"]
    assert complete(it, "microvmctl", "console", "web", "") == [], "it takes one name"
    assert complete(it, "microvmctl", "create", "") == [], "a new one has a new name"


def test_remote(it):
    it.write("ssh", f"#!/bin/sh\nfor word; do echo \"<$word>\"; done >{it.folder}/words\n", 0o755)
    path = f"{it.folder}:{os.environ['PATH']}"
    expect(it, 0, "-H", "me@there", "logs", "-f", "-n", "3", "we'b", PATH=path)
    with open(it.path("words")) as file:
        assert file.read() == "<-t>\n<-->\n<me@there>\n<microvmctl --follow --lines=3 logs -- 'we'\\''b'>\n"
    expect(it, 0, "console", "web", "--host=there", "-q", PATH=path)
    expect(it, 2, "console", "web", "--host=-oProxyCommand=x", PATH=path, err="is no host")
    expect(it, 69, "-H", "there", "list", PATH=path, err="there")


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
