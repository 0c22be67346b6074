#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmctl reload, plan and apply, against a service that only pretends."""

import contextlib
import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ctl import LIMIT, Host, Terminal, expect, main  # noqa: E402
from harness import CTL, wait_for  # noqa: E402


def test_reload(it):
    expect(it, 0, "reload", out=["changed     web", "invalid     new  (why: microvmctl why new)"])
    assert json.loads(expect(it, 0, "reload", "--json").stdout)[0] == {"Name": "web", "Change": "changed"}
    expect(it, 2, "reload", "web")


def test_plan(it):
    result = expect(it, 1, "plan", out=["~ web    changed: needs a restart\n", "      mem                  256 → 512  (restart)\n",
                                        "      labels[tier]         nothing → \"web\"  (live)\n",
                                        "      volumes[d.img].size  8 → 9  (next start)\n", "~ db     changed: takes effect while it runs\n",
                                        "+ slow   new: would start\n", "- guest  undeclared: ", "x bad    invalid: ", "! evil   outdated: ",
                                        "\n1 to start, 1 to change while it runs, 1 to restart (--restart), "
                                        "1 to restart for other files (--restart --outdated), 1 to stop (--prune), "
                                        "1 with a definition that can't be used, 3 unchanged.\n"])
    assert "\x1b" not in result.stdout, "colours, or the guest's, in a file"
    expect(it, 10, "plan", "web", "db")
    expect(it, 0, "plan", "stuck", out="Nothing to do: 1 microVM is as its files say.")
    assert expect(it, 10, "plan", "web", "-q").stdout == ""
    expect(it, 4, "plan", "nobody", err="No microVM is called")
    expect(it, 77, "plan", "locked", err="org.microvm1.inspect")
    expect(it, 10, "plan", "web", "-l", "tier=web", "--label=x")
    assert it.calls("Plan")[-1] == ["", "Plan", ["web"], {"labels": ["tier=web", "x"]}]
    expect(it, 2, "list", "--canary", err="takes no --canary")
    plan = json.loads(expect(it, 10, "plan", "--json", "web").stdout)
    assert plan[0]["Action"] == "restart" and plan[0]["Changes"][1] == {"Key": "labels[tier]", "Old": None, "New": "web", "Takes": "live"}
    terminal = Terminal(it, "plan", "web")
    terminal.wait_for(b"to restart")
    assert terminal.end() == 10 and b"\x1b[0;32m512" in terminal.seen, terminal.seen


def test_plan_of_each_kind(it):
    for plans, code, words in (("", 0, "Nothing to do: there is no microVM.\n"), ("none", 10, None),
                               ("retry,retry", 10, "2 to start again.\n"),
                               ("live,live", 10, "2 to change while they run.\n"), ("failed", 1, "1 at its start limit (microvmctl reset-failed).\n"),
                               ("failed,failed,start", 1, "1 to start, 2 at their start limit (microvmctl reset-failed).\n"),
                               ("invalid,invalid", 1, "2 with definitions that can't be used.\n"),
                               ("undeclared,restart,outdated", 10, "1 to restart (--restart), 1 to restart for other files "
                                "(--restart --outdated), 1 to stop (--prune).\n")):
        with contextlib.closing(Host("--plans", plans)) as other:
            if plans == "none":
                # What only changes at the next start is nothing to do, but no secret.
                expect(other, 0, "plan", out=["  a  changed: why\n      k  1 → 2  (next start)\n\n1 to change at its next start.\n"])
                expect(other, 0, "plan", "--no-legend")
                continue
            result = expect(other, code, "plan", out=words)
            assert "\x1b" not in result.stdout
    with contextlib.closing(Host("--plans", "")) as other:
        expect(other, 0, "plan", "-l", "tier", out="Nothing to do: there is no microVM with this label.\n")
        expect(other, 0, "plan", "-l", "tier", "-l", "x", out="with these labels.\n")
    with contextlib.closing(Host("--plans", "backoff,backoff")) as other:
        expect(other, 0, "plan", out="  a  failed: why\n  b  failed: why\n\n2 to start again by themselves.\n")
    with contextlib.closing(Host("--plans", "of-a-later-version")) as other:
        expect(other, 0, "plan", out="Nothing to do: 1 microVM is as its files say.\n")
    with contextlib.closing(Host("--plans", "failed,retry")) as other:
        expect(other, 1, "plan", out=["x a  failed: why", "+ b  failed: why"])


def test_what_takes_more_rights_later(it):
    """To be in the group would help with the first call, and not with the second."""
    with contextlib.closing(Host("--locked")) as other:
        for verb in ("plan",), ("apply", "--prune", "--purge", "--yes"):
            result = expect(other, 77, *verb, err=["Reload needs", "Run it as root (sudo).\n"])
            assert "group" not in result.stderr, result.stderr
        expect(other, 77, "apply", err=["Reload needs", 'the group "microvm"'])


def test_apply(it):
    result = expect(it, 0, "apply", "db", out="db: changed while it runs")
    assert "other" not in result.stdout + result.stderr, "of another apply"
    assert it.calls("Apply")[-1] == ["", "Apply", ["db"], None, {}]
    expect(it, 0, "apply", "web", out=["Nothing was to be done.", "1 microVM needs a restart: microvmctl apply --restart web\n"])
    result = expect(it, 1, "apply", "bad", "--restart", "--canary=90s", "--max-parallel=3", "--outdated", "-l", "tier=web",
                    out=["bad: rolled back to what it ran with before", "web: not restarted: another restart failed before"],
                    err=["microvmctl: x: the definition can't be used: x.json:1:1: error", "gone: its files are not all removed: /d.img",
                         "bad: restart failed: it did", "Not all was applied."])
    assert "\x1b" not in result.stderr
    assert it.calls("Apply")[-1][4] == {"restart": True, "canary": True, "canaryTime": 90000000, "maxParallel": 3, "outdated": True,
                                        "labels": ["tier=web"]}
    told = json.loads(expect(it, 0, "apply", "db", "--json=short").stdout)
    assert told["Result"] == "done" and told["Steps"] == [{"Name": "db", "Action": "live", "How": "done", "Text": ""}], told
    expect(it, 0, "apply", "stuck", "--no-block")
    expect(it, 2, "apply", "web", "--restart", "--max-parallel=0", err="at least 1")
    for words in (["--canary"], ["--outdated"], ["--max-parallel=2"], ["--purge"], ["--prune=some"],
                  ["--restart", "--canary=soon"]):
        expect(it, 2, "apply", *words, err="microvmctl")
    expect(it, 1, "apply", "stuck", "--prune", err=["2 of 3 microVMs would go", "microvmctl plan"])
    expect(it, 0, "apply", "web", "--prune=all")
    assert it.calls("Apply")[-1][4] == {"prune": "all"}


def test_apply_tells_what_is_left(it):
    with contextlib.closing(Host("--plans", "restart,restart,outdated,undeclared,undeclared")) as other:
        result = expect(other, 0, "apply", "-l", "tier=web", "-l", "x")
        assert result.stdout.endswith("2 microVMs need a restart: microvmctl apply --restart -l tier=web -l x\n"
                                      "1 microVM runs with other files than the host has now: microvmctl apply --restart --outdated -l tier=web -l x\n"
                                      "2 microVMs run without a definition: microvmctl apply --prune -l tier=web -l x\n"), result.stdout
        assert "\x1b" not in result.stdout


def test_apply_is_canceled(it):
    terminal = Terminal(it, "apply", "stuck")
    terminal.wait_for("restart of stuck…".encode())
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 1
    told = terminal.seen.decode().replace("\r", "")
    for words in ("Canceled: what has begun is finished", "stuck: restarted\n", "web: not restarted: the apply was canceled\n",
                  "Not all was applied: canceled: 1 of 2 steps was not begun\n"):
        assert words in told, told
    assert [call[2] for call in it.calls("CancelApply")] == [101]
    with contextlib.closing(Host("--plans", "")) as other: # who does not even want to wait for what has begun
        terminal = Terminal(other, "apply", "stuck")
        terminal.wait_for("restart of stuck…".encode())
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.wait_for(b"^C once more")
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == 1 and b"what has begun goes on" in terminal.seen, terminal.seen
        assert len(other.calls("CancelApply")) == 1


def test_apply_ends_with_the_daemon(it):
    process = subprocess.Popen([CTL, "apply", "stuck"], env=it.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for("the call", lambda: it.calls("Apply"))
    it.fake.kill()
    _, told = process.communicate(timeout=LIMIT)
    assert process.returncode == 69 and "microvmctl plan" in told, told
    with contextlib.closing(Host()) as other:
        terminal = Terminal(other, "apply", "stuck")
        terminal.wait_for("restart of stuck…".encode())
        other.bus.kill()
        assert terminal.end() == 69 and b"the apply goes on there" in terminal.seen, terminal.seen


def test_purge_asks(it):
    files = ["/var/lib/microvmd/vm/guest/data.img", "/var/lib/microvmd/vm/guest/odd\x1b[2J"]
    result = expect(it, 1, "apply", "guest", "--prune", "--purge", err=["vm/guest/data.img", "--yes"])
    assert not it.calls("Apply") and "\x1b" not in result.stderr
    expect(it, 0, "apply", "guest", "--prune", "--purge", "--yes", err="vm/guest/data.img")
    assert it.calls("Apply")[-1] == ["", "Apply", ["guest"], files, {"prune": "yes"}]
    for answer, code in ((b"n\n", 1), (b"y\n", 0)):
        before = len(it.calls("Apply"))
        terminal = Terminal(it, "apply", "guest", "--prune", "--purge")
        terminal.wait_for(b"[y/N]")
        terminal.send(answer)
        assert terminal.end() == code, terminal.seen
        assert len(it.calls("Apply")) == before + (code == 0)


def test_forget_volume(it):
    expect(it, 0, "forget-volume", "db", "data.img", out="counts as new")
    expect(it, 1, "forget-volume", "db", "other.img", err="these are: data.img")
    expect(it, 2, "forget-volume", "db", err="NAME IMAGE")
    expect(it, 77, "forget-volume", "locked", "data.img", err="org.microvm1.manage")


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
