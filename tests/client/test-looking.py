#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Verbs of microvmctl that look, against a service that only pretends."""

import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ctl import LIMIT, Terminal, ctl, expect, main  # noqa: E402
from harness import CTL  # noqa: E402


def test_list(it):
    result = expect(it, 0, "list", out=["NAME", "web", "running", "4242", "9 microVMs, 3 running."])
    assert "\x1b" not in result.stdout, "colours in a file"
    assert it.calls() == [["", "ListMicroVMs"]], "list is one call"
    result = expect(it, 0, "--no-legend", "list")
    assert len(result.stdout.splitlines()) == 9 and "NAME" not in result.stdout
    rows = json.loads(expect(it, 0, "list", "--json=short").stdout)
    assert rows[0] == {"Name": "web", "State": "running", "Readiness": "none", "Hypervisor": "qemu", "Driver": "libvirt",
                       "MainPID": 4242}
    assert expect(it, 0, "--json=pretty").stdout.count("\n") > 20, "without a verb it lists"
    expect(it, 0, "list", "--json=off", "web", out="1 microVM, 1 running")


def test_terminal_table(it):
    terminal = Terminal(it, "list", width=30)
    terminal.wait_for(b"running.")
    assert terminal.end() == 0
    assert b"\x1b[0;32mrun" in terminal.seen, terminal.seen
    assert "…".encode() in terminal.seen, "a narrow terminal cuts columns"
    terminal = Terminal(it, "list", NO_COLOR="1")
    terminal.wait_for(b"running.")
    assert terminal.end() == 0 and b"\x1b" not in terminal.seen
    terminal = Terminal(it, "list", PAGER="sed s/^/paged:/")
    terminal.wait_for(b"paged:")
    assert terminal.end() == 0
    terminal = Terminal(it, "list", PAGER="/nonexistent/pager")
    terminal.wait_for(b"running.")
    assert terminal.end() == 0
    terminal = Terminal(it, "--no-pager", "list", PAGER="sed s/^/paged:/")
    terminal.wait_for(b"running.")
    assert terminal.end() == 0 and b"paged:" not in terminal.seen


def test_list_filters(it):
    assert expect(it, 0, "list", "--failed", "--no-legend").stdout.split()[0] == "stuck"
    assert it.calls("GetManagedObjects") == []
    assert len(expect(it, 0, "list", "--outdated", "--no-legend", out="web").stdout.splitlines()) == 1
    assert len(expect(it, 0, "list", "-l", "tier=front", "--no-legend", out="web").stdout.splitlines()) == 1
    assert expect(it, 0, "list", "-ltier=back", "--no-legend").stdout == ""
    assert expect(it, 0, "list", "-ltier=back").stdout.strip() == "None of 9 microVMs."
    assert json.loads(expect(it, 0, "list", "--failed", "--outdated", "--json").stdout) == []
    assert len(it.calls("GetManagedObjects")) == 5, "one call each, however many there are"
    expect(it, 0, "list", "-l", "tier", out="web")
    expect(it, 2, "list", "-l", "=front", err="NAME=VALUE")


def test_status(it):
    expect(it, 0, "status", out=["microvmd", "9.8.7", "Host role: host", "libvirt: online (qemu:///system)\n", "direct: away: no bus (is it there?)\n", "3 running"])
    expect(it, 0, "status", "web", out=["● web - running since Tue 2023-11-14 22:13:20 UTC", "ago", "its guest runs",
                                        "Outdated", "tcg: no /dev/kvm here", "4242", "2 vCPUs, 512 MiB", "Restarts: 3",
                                        "line two"])
    assert [call[1] for call in it.calls()] == ["GetAll", "Plan", "OpenLog"], "what is outdated is asked for, nothing else"
    expect(it, 3, "status", "stuck", out=["failed", "guest-panic"])
    expect(it, 3, "status", "web", "bad", out=["web", "bad", "Next restart", "; in "])
    expect(it, 3, "status", "t@1.x-y", out="t@1.x-y - inactive")
    result = expect(it, 0, "status", "locked", out="locked - running")
    assert result.stderr == "", "a log that one may not see is left out"
    properties = json.loads(expect(it, 0, "status", "--json", "web", "evil").stdout)
    assert properties[0]["MemoryBytes"] == 512 << 20 and properties[0]["StateTimestamp"] == 1700000000000000
    assert properties[1]["State"] == "paused"
    assert json.loads(expect(it, 0, "status", "--json").stdout)["Counts"]["running"] == 3


def test_status_says_what_is_outdated(it):
    expect(it, 0, "status", "web", out=["Outdated: another definition, kernel than it was started with", "mem                  256 → 512  (restart)"])
    result = expect(it, 0, "status", "db")
    assert "Outdated" not in result.stdout


def test_status_says_what_is_loosened(it):
    expect(it, 0, "status", "db", out="Sandbox: loosened: network, systemCalls")
    result = expect(it, 0, "status", "web")
    assert "Sandbox" not in result.stdout


def test_is_active(it):
    assert expect(it, 0, "is-active", "web").stdout == "running\n"
    assert expect(it, 0, "is-active", "evil").stdout == "paused\n"
    assert expect(it, 3, "is-active", "web", "stuck").stdout == "running\nfailed\n"
    assert expect(it, 4, "is-active", "web", "nope", "stuck").stdout == "running\nunknown\nfailed\n"
    assert expect(it, 3, "-q", "is-active", "slow").stdout == ""
    assert json.loads(expect(it, 0, "is-active", "web", "--json").stdout) == [{"Name": "web", "State": "running"}]


def test_show(it):
    expect(it, 0, "show", "web", out=["Name=web\n", "Autostart=yes\n", "MemoryBytes=536870912\n"])
    assert expect(it, 0, "show", "web", "-p", "State,MainPID").stdout == "State=running\nMainPID=4242\n"
    assert expect(it, 0, "show", "web", "--value", "-pState").stdout == "running\n"
    expect(it, 2, "show", "web", "-p", "Sate", err='did you mean "State"?')
    assert json.loads(expect(it, 0, "show", "web", "--definition").stdout) == {"kernel": "/vmlinuz", "mem": 512}
    assert json.loads(expect(it, 0, "show", "web", "-pVCPUs", "--json").stdout) == [{"VCPUs": 2}]
    assert expect(it, 0, "show", "--all", "--value", "-pName").stdout.split() == [
        "web", "db", "slow", "stuck", "bad", "guest", "locked", "evil", "t@1.x-y"]
    assert expect(it, 0, "show", "--definition", "web").stdout == '{\n  "kernel": "/vmlinuz",\n  "mem": 512\n}\n'


def test_cat(it):
    assert expect(it, 0, "cat", "web").stdout == (
        '# /etc/microvmd/vms/web.json\n{ "kernel": "/vmlinuz" }\n\n# /etc/microvmd/vms/web.json.d/10.json\n{ "mem": 512 }\n')
    expect(it, 0, "cat", "web", "db", out=["# /etc/microvmd/vms/web.json\n", "\n\n# /etc/microvmd/vms/db.json\n"])
    assert json.loads(expect(it, 0, "cat", "web", "--json").stdout) == [
        {"Name": "web", "definition": {"kernel": "/vmlinuz"}, "origins": {"/kernel": "/etc/microvmd/vms/web.json:3"}}]
    result = expect(it, 77, "cat", "locked", "web", err="org.microvm1.inspect")
    assert "web.json" in result.stdout
    terminal = Terminal(it, "cat", "evil")
    assert terminal.end() == 0 and b"\x1b[2J" not in terminal.seen and b"evil.json" in terminal.seen, terminal.seen


def test_why(it):
    result = expect(it, 0, "why", "web", "bad", out=["web - running since", "Reason: its guest runs", "line one\nline two",
                                                     "3 so far, by its policy \"on-failure\"", "Next restart: ", "; in "])
    assert "\x1b" not in result.stdout and "Advice" not in result.stdout and "What to do" not in result.stdout
    assert ["web", "Explain"] in it.calls() and ["web", "GetAll"] not in it.calls()
    result = expect(it, 0, "why", "-n", "0", "evil", out=[
        "Asked: start, by uid 4294967294 (a\\x1b[2Jb, pid 7)", "Waits for: db, which is backoff: because \\x1b[2J",
        "Last run: ended with exit-code, 2023-", "              it \\x1b[2J fell\n", "Ran: 1min", "Process: exited with status 3",
        "the hypervisor says SHUTDOWN \\x1b[2J", "microvmctl stop evil  \\x1b[2J it is evil"])
    assert "\x1b" not in result.stdout, result.stdout
    # Who may not read its console is told so, and all the rest.
    expect(it, 0, "why", "bad", out="Driver: away: libvirt sleeps\n")
    assert "Driver:" not in expect(it, 0, "why", "locked").stdout, "its reason says so"
    expect(it, 0, "why", "locked", out=["locked - running", "Console: not shown: it needs the polkit action org.microvm1.console"])
    facts = json.loads(expect(it, 0, "why", "--json=short", "locked", "web", "evil").stdout)
    assert "Console" not in facts[0] and "org.microvm1.console" in facts[0]["ConsoleLeftOut"]
    assert facts[1]["Console"] == "line one\nline two\n"
    assert facts[2]["WaitsFor"] == [{"Name": "db", "State": "backoff", "Reason": "because \x1b[2J"}], facts[2]
    assert facts[2]["Events"][0]["Timestamp"] == 1700000000000000 and facts[2]["LastEnd"]["ExitStatus"] == 3
    expect(it, 4, "why", "wob", err='did you mean "web"')
    expect(it, 2, "why")


def test_crashes(it):
    expect(it, 0, "crashes", "web", out="There are no crash reports.")
    expect(it, 0, "--no-legend", "crashes", "evil", out=["evil  1  2026-", "it was \\x1b[2J killed", "evil  2  2023-"])
    rows = json.loads(expect(it, 0, "crashes", "--json=short", "evil").stdout)
    assert rows[0]["Crash"] == 1795657288721670 and rows[1]["Result"] == "oom", rows
    result = expect(it, 0, "crashes", "evil", "1", out=[
        "evil - signal on", "Ran: 3s", "Process: killed by SIGSEGV, with a core dump", "Unit result: core-dump",
        "Memory: 21.3M at the most", "/usr/bin/qemu -append 'a b' it's '' '\\x1b[2J'\n", "the hypervisor says STOP\\x1b[2J",
        "What the hypervisor said itself\nqemu: \\x1b[2J", "What the console said last\n\x1b[31mred"])
    assert "\x1b[2J" not in result.stdout and "\x1b]" not in result.stdout, result.stdout
    expect(it, 0, "crashes", "evil", "2")
    assert it.calls()[-1] == ["evil", "GetCrash", 1700000000000000]
    for mode in ("short", "pretty"):
        assert json.loads(expect(it, 0, "crashes", f"--json={mode}", "evil", "1").stdout)["timestamp"] == 1795657288721670
    expect(it, 1, "crashes", "evil", "3", err="evil has 2 crash reports.")
    expect(it, 2, "crashes", "evil", "last", err="1 for the newest")
    expect(it, 2, "crashes", "evil", "1", "2")
    expect(it, 77, "crashes", "locked", err=["org.microvm1.console", 'the group "microvm"'])
    expect(it, 77, "crashes", err="org.microvm1.console")


def test_history_without_a_journal(it):
    expect(it, 2, "history", err="the name of one microVM")
    result = ctl(it, "history", "no-such-microvm-has-ever-been")
    assert result.returncode in (1, 77) and "journal" in result.stderr, result


def test_leaks(it):
    assert expect(it, 0, "leaks").stdout == "Nothing is left over.\n"
    assert json.loads(expect(it, 0, "leaks", "--json").stdout) == []
    it.stop()
    it.start("--drained")
    result = expect(it, 1, "leaks", out=["KIND", "file", "web", "rm -r /run/microvmd/vm/web/kernel", "\\x1b"])
    assert "\x1b[2J" not in result.stdout
    assert json.loads(expect(it, 1, "leaks", "--json").stdout)[0]["Kind"] == "file"


def test_logs(it):
    assert expect(it, 0, "logs", "web").stdout == "line one\nline two\n"
    assert expect(it, 0, "logs", "-n", "7", "-b", "-2", "web").stdout == "boot -2\n"
    assert it.calls("OpenLog")[-1] == ["web", "OpenLog", {"boot": -2, "lines": 7}]
    result = subprocess.run([CTL, "logs", "evil"], env=it.env, capture_output=True, timeout=LIMIT)
    assert b"\x1b]0;title\x07" in result.stdout, "into a file it goes as it is"
    terminal = Terminal(it, "logs", "-f", "web")
    terminal.wait_for(b"later")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == -signal.SIGINT
    assert it.calls("OpenLog")[-1] == ["web", "OpenLog", {"lines": 10, "follow": True}]
    terminal = Terminal(it, "logs", "-f", "web")
    terminal.wait_for(b"later")
    it.stop()
    assert terminal.end() == 69 and b"goes on" in terminal.seen


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
