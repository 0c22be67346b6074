#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Verbs of microvmctl that act on microVMs, against a service that only pretends."""

import contextlib
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ctl import LIMIT, Host, Terminal, expect, main  # noqa: E402
from harness import CTL, wait_for  # noqa: E402


def test_readiness(it):
    card = expect(it, 0, "status", "db").stdout
    assert "Readiness: waiting for the guest's port 80: connection refused\n" in card, card
    assert 'Status: "\\x1b[2Jstarting"\n' in card, card
    assert "Readiness:" not in expect(it, 0, "status", "web").stdout
    expect(it, 0, "start", "web", "--wait=ready")
    assert it.calls("Start") == [["web", "Start", {"wait": "ready"}]]
    expect(it, 0, "restart", "web", "--wait", "running", "--force")
    assert it.calls("Restart") == [["web", "Restart", {"wait": "running", "force": True}]]
    expect(it, 2, "start", "web", "--wait=up", err="running or ready")
    expect(it, 2, "stop", "web", "--wait=ready", err="--wait")


def test_jobs(it):
    result = expect(it, 0, "start", "slow", "web", "web")
    assert result.stdout == result.stderr == ""
    assert it.calls("Start") == [["slow", "Start", {}], ["web", "Start", {}]]
    expect(it, 0, "stop", "web", "--force", "--timeout=1min 30s")
    assert it.calls("Stop") == [["web", "Stop", {"force": True, "timeout": 90000000}]]
    expect(it, 0, "restart", "--", "web")
    expect(it, 0, "--no-block", "start", "stuck")
    result = expect(it, 0, "start", "web", "--json")
    assert json.loads(result.stdout)[0]["Result"] == "done"
    result = expect(it, 1, "stop", "bad", "web", err=["The stop of bad failed", "the \\x1b[2Jguest", "microvmctl why bad"])
    assert "\x1b" not in result.stderr


def test_stop_several(it):
    """By one call, so that they stop in order; one that can't be stopped does not keep the others on."""
    expect(it, 0, "stop", "web", "db", "--timeout=3")
    assert it.calls("StopMicroVMs") == [["", "StopMicroVMs", ["web", "db"], {"timeout": 3000000}]]
    expect(it, 77, "stop", "locked", "db", err=["org.microvm1.manage", "sudo"])
    assert [call[0] for call in it.calls("Stop")] == ["web", "db"], it.calls()
    result = expect(it, 1, "--json", "stop", "slow", "bad", err="The stop of bad failed: the \\x1b[2Jguest")
    assert [(job["Name"], job["Result"]) for job in json.loads(result.stdout)] == [("slow", "done"), ("bad", "failed")]
    expect(it, 0, "--no-block", "stop", "stuck", "web")


def test_required(it):
    it.stop()
    it.start("--required", "db")
    result = expect(it, 1, "stop", "db", err=["Nothing is stopped: web requires db and is not to be stopped.",
                                              "microvmctl stop --with-dependents db; without: --ignore-dependents"])
    assert "[y/N]" not in result.stderr
    expect(it, 1, "stop", "db", "slow", err="--with-dependents NAME")
    expect(it, 0, "stop", "db", "--ignore-dependents")
    assert it.calls("Stop")[-1] == ["db", "Stop", {"dependents": "ignore"}]
    expect(it, 0, "stop", "db", "slow", "--with-dependents")
    assert [call[0] for call in it.calls("Stop")][-3:] == ["db", "slow", "web"], it.calls("Stop")
    terminal = Terminal(it, "stop", "db")
    terminal.wait_for(b"[y/N]")
    terminal.send(b"n\n")
    assert terminal.end() == 1 and b"--with-dependents" in terminal.seen
    terminal = Terminal(it, "stop", "db")
    terminal.wait_for(b"Stop them as well, before it? [y/N]")
    terminal.send(b"y\n")
    assert terminal.end() == 0
    assert it.calls("Stop")[-1] == ["db", "Stop", {"dependents": "stop"}]
    expect(it, 2, "start", "db", "--with-dependents", err="start takes no --with-dependents")


def test_drain(it):
    result = expect(it, 0, "drain", "--timeout=2min", out=["db did not shut down in time and was ended by force.\n",
                                                          "This host is drained. Nothing starts on it until: microvmctl undrain"])
    assert "web did not" not in result.stdout
    assert it.calls("Drain") == [["", "Drain", {"timeout": 120000000}]]
    assert expect(it, 0, "undrain").stdout == ""
    assert it.calls("Start") == [["web", "Start", {}]], it.calls()
    expect(it, 0, "undrain", "--no-start")
    assert it.calls("Undrain")[-1] == ["", "Undrain", {"start": False}]
    expect(it, 2, "drain", "web", err="drain takes no names")
    for verb in ("list", "status"):
        assert "drained" not in expect(it, 0, verb).stdout.lower()
    it.stop()
    it.start("--drained")
    for verb in ("list", "status"):
        expect(it, 0, verb, out="nothing starts until: microvmctl undrain")
    assert "undrain" not in expect(it, 0, "list", "--no-legend").stdout


def test_job_errors(it):
    expect(it, 1, "start", "bad", err=["5 times", "reset-failed bad"])
    expect(it, 1, "start", "guest", err="nothing starts here.\n/etc/microvmd/host.json says true\nand then: microvmctl reload\n")
    expect(it, 77, "stop", "locked", err=["org.microvm1.manage", 'group "microvm"', "sudo"])
    expect(it, 77, "logs", "locked", err="org.microvm1.console")
    expect(it, 77, "show", "--definition", "locked", err="org.microvm1.inspect")
    expect(it, 1, "kill", "slow", err="not running")


def test_progress(it):
    it.stop()
    it.start("--slow", "5000")
    terminal = Terminal(it, "start", "slow")
    terminal.wait_for("Starting slow…".encode())
    assert terminal.end() == 0
    assert terminal.seen.endswith(b"\r\x1b[K"), f"the line is left behind: {terminal.seen!r}"


def test_progress_of_what_waits(it):
    """In one line, whatever it is."""
    for words, begin, end in ((("stuck",), "Starting stuck… ", "s: waits for dé"),
                              (("db", "stuck"), "Starting 2 of 2 microVMs… ", "s; stuck: waits for dé")):
        with contextlib.closing(Host("--stuck", "db")) as other:
            terminal = Terminal(other, "start", *words, width=60)
            terminal.wait_for(begin.encode())
            terminal.wait_for(end.encode())
            terminal.wait_for(begin.encode() + b"2s")
            terminal.process.terminate()
            terminal.end()
            for shown in terminal.seen.decode().split("\r\x1b[K"):
                assert len(shown) < 60 and "\n" not in shown and "\x1b[2J" not in shown, shown
            assert terminal.seen.count(b"\r") < 60, "it is shown again and again"


def test_daemon_dies_while_waiting(it):
    process = subprocess.Popen([CTL, "start", "stuck", "slow"], env=it.env, stderr=subprocess.PIPE, text=True)
    wait_for("both calls", lambda: len(it.calls("Start")) == 2)
    it.stop()
    errors = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 69 and "go on" in errors, (process.returncode, errors)


def test_short_verbs(it):
    expect(it, 0, "kill", "web")
    expect(it, 0, "kill", "-s", "SIGKILL", "web")
    expect(it, 0, "-s9", "kill", "db")
    assert it.calls("Kill") == [["web", "Kill", 15], ["web", "Kill", 9], ["db", "Kill", 9]]
    expect(it, 0, "pause", "web", "db")
    expect(it, 0, "resume", "web")
    assert expect(it, 0, "is-active", "web", "db").stdout == "running\npaused\n"
    expect(it, 0, "reset-failed", "--all")
    assert len(it.calls("ResetFailed")) == 9
    assert expect(it, 0, "pause", "web").stdout == ""
    assert json.loads(expect(it, 0, "pause", "web", "db", "--json").stdout) == [
        {"Name": "web", "Result": "done"}, {"Name": "db", "Result": "done"}]
    expect(it, 0, "resume", "web")
    result = expect(it, 1, "kill", "slow", "web", "--json", err="not running")
    assert [row["Result"] for row in json.loads(result.stdout)] == ["failed", "done"]


def test_set_memory(it):
    for text, size in (("64", 64 << 20), ("64M", 64 << 20), ("2GiB", 2 << 30), ("1TB", 1 << 40)):
        assert expect(it, 0, "set-memory", "web", text).stdout == ""
        assert it.calls("SetMemory")[-1] == ["web", "SetMemory", size]
    calls = len(it.calls("SetMemory"))
    for words in (("web",), ("web", "many"), ("web", "-1"), ("web", "1K"), ("web", "1Mi"), ("web", "20000000T"), ("web", "1", "2")):
        expect(it, 2, "set-memory", *(["--", *words] if "-1" in words else words), err="set-memory takes a microVM and a size")
    assert len(it.calls("SetMemory")) == calls
    expect(it, 77, "set-memory", "locked", "64", err="org.microvm1.manage")


def test_qmp(it):
    line = '{"size": 18446744073709551615, "name": "\\u001b[2J\\u009b\\u007f"}\n'
    assert expect(it, 0, "qmp", "web", "query-status").stdout == line, "no digit is lost"
    assert it.calls("Qmp")[-1] == ["web", "Qmp", {"execute": "query-status"}, {}]
    expect(it, 0, "qmp", "web", ' {"execute": "x", "arguments": {"a": "\u00e4"}}', "--timeout=2min")
    assert it.calls("Qmp")[-1] == ["web", "Qmp", {"execute": "x", "arguments": {"a": "\u00e4"}}, {"timeout": 120000000}]
    assert expect(it, 0, "qmp", "web", stdin="one\n  \r\n{\"execute\": \"two\"}").stdout == line * 2
    assert [call[2]["execute"] for call in it.calls("Qmp")[-2:]] == ["one", "two"]
    expect(it, 1, "qmp", "db", stdin="one\ntwo\n", err="db: GenericError: no \\x1b[2J such thing")
    assert it.calls("Qmp")[-1][2] == {"execute": "one"}, "the first that fails is the last"
    expect(it, 77, "qmp", "locked", "stop", err=["org.microvm1.inspect", "sudo"])
    for words in ((), ("web", "a", "b")):
        expect(it, 2, "qmp", *words, err="microvmctl qmp NAME query-status")
    terminal = Terminal(it, "qmp", "web", "query-status")
    assert terminal.end() == 0 and b'"name": "\\u001b[2J\\u009b\\u007f"\r\n}' in terminal.seen, terminal.seen
    terminal = Terminal(it, "qmp", "web")
    assert terminal.end() == 2 and b"reads commands from standard input" in terminal.seen


def test_host_shutdown(it):
    expect(it, 2, "stop", "web", "--host-shutdown")
    it.stop()
    for given, asked in ((60, 50), (12, 5)):
        it.start("--systemd", it.systemd(active="active", TimeoutStopUSec=given * 1000000))
        process = subprocess.Popen([CTL, "stop", "--all", "--host-shutdown"], env=it.env, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        wait_for("a call for every microVM, whatever its state", lambda: len(it.calls("Stop")) == 9)
        assert all(call[2] == {"host-shutdown": True, "timeout": asked * 1000000} for call in it.calls("Stop"))
        assert process.poll() is None, "it waits for all"
        process.kill()
        process.communicate()
        it.stop()


def test_host_shutdown_tells(it):
    it.stop()
    it.start("--systemd", it.systemd(active="active", TimeoutStopUSec=2**64 - 1), "--only", "web,db")
    result = expect(it, 0, "stop", "--all", "--host-shutdown")
    assert result.stdout == "db did not shut down in time and was ended by force.\n", result.stdout
    assert it.calls("Stop")[0][2]["timeout"] == 90000000


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
