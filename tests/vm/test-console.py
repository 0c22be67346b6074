#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Consoles and logs of real guests in real QEMU under TCG, by both drivers. Prints TAP."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import CTL, only, wait_for  # noqa: E402
from terminal import Terminal  # noqa: E402
from vm import BOOT, DATA, HIDE, boot, console, guest, main, said  # noqa: E402


class Console(Terminal):
    def __init__(self, host, *options):
        super().__init__([CTL, "--bus", host.address, "console", *options, "web"])
        self.wait_for(b"Detach with")

    def prompt(self):
        """Until the guest's shell listens; what is typed while it starts is lost."""
        deadline = time.monotonic() + BOOT
        while b"/ # " not in self.seen and time.monotonic() < deadline:
            self.send(b"\r")
            with contextlib.suppress(AssertionError):
                self.wait_for(b"/ # ", 2)
        self.wait_for(b"/ # ", 0)


def test_console(host):
    """Two look, one of them writes, and both miss nothing: the last lines of before, and what follows."""
    boot(host)
    looks, first = Console(host, "--read-only", "-n", "6"), Console(host)
    looks.wait_for(b"microvm-guest: ready")
    assert b"Linux version" not in looks.seen
    wait_for("raw mode", first.is_raw)
    first.prompt()
    first.send(b"echo so-$((6*7))\r")
    first.wait_for(b"so-42")
    looks.wait_for(b"so-42")
    looks.send(b"echo never-$((6*7))\r")
    second = Console(host)
    second.wait_for(b"so-42")  # among the last lines
    second.send(b"echo never-$((6*7))\r")
    third = Console(host, "--force")
    first.wait_for(b"somebody else writes to this console now")
    third.prompt()
    first.send(b"echo never-$((6*7))\r")
    third.send(b"echo mine-$((6*7))\r")
    for terminal in (looks, first, second, third):
        terminal.wait_for(b"mine-42")
    third.send(b"\x1d")
    assert third.end() == 0
    fourth = Console(host)  # nobody writes now: who comes does
    fourth.prompt()
    fourth.send(b"echo and-$((6*7))\r")
    first.wait_for(b"and-42")
    assert "never-42" not in console(host)
    looks.send(b"\x1d")
    assert looks.end() == 0
    second.process.send_signal(signal.SIGTERM)
    assert second.end() == -signal.SIGTERM
    host.stop(signal.SIGKILL)
    assert first.end() == 69 and fourth.end() == 69
    host.start(HIDE)
    wait_for("the adoption", lambda: host.vm("web", "DriverOnline"))
    fifth = Console(host)
    host.ctl("stop", "--force", "web")
    assert fifth.end() == 0
    run = host.ctl("console", "web")
    assert run.returncode == 1 and "nothing to attach to" in run.stderr, run.stderr


def test_console_log_is_bounded(host):
    boot(host)
    log = host.path("state/vm/web/console.log")
    with open(log, "ab") as file:  # the hypervisor appends, too; a guest takes a minute for as much
        file.write(b"0123456789 earlier\n" * (2 << 20 >> 4))
    shell = Console(host)
    shell.prompt()
    wait_for("the cut", lambda: os.path.exists(log + ".0") and os.path.getsize(log) < (1 << 20))
    shell.send(b"echo end-of-$((1+1))\r")
    shell.wait_for(b"end-of-2")
    wait_for("what comes after the cut", lambda: "end-of-2" in console(host))
    shell.send(b"\x1d")
    shell.end()


@only("libvirt")  # no driver has a hand in it
def test_logs_of_earlier_boots(host):
    boot(host, "write=first", **DATA)
    said(host, "written first")
    host.ctl("stop", "web")
    boot(host, "write=second", **DATA)
    said(host, "written second")
    assert "written first" in host.ctl("logs", "-b", "-1", "web").stdout
    assert len(host.ctl("logs", "-n", "3", "web").stdout.splitlines()) == 3
    assert host.ctl("logs", "-b", "-4", "web").returncode == 1


@only("libvirt")  # no driver has a hand in it
def test_logs_follow(host):
    boot(host, "count")
    follow = subprocess.Popen([CTL, "--bus", host.address, "logs", "-f", "-n", "1", "web"], stdout=subprocess.PIPE, text=True)
    numbers = []
    while len(numbers) < 3:
        line = follow.stdout.readline()
        if line.startswith("count "):
            numbers.append(int(line.split()[1]))
    follow.terminate()
    follow.wait()
    assert numbers == list(range(numbers[0], numbers[0] + 3)), numbers


@only("libvirt")  # no driver has a hand in it
def test_status_and_json(host):
    boot(host)
    card = host.ctl("status", "web")
    assert card.returncode == 0 and "running since" in card.stdout and "microvm-guest: ready" in card.stdout, card.stdout
    assert json.loads(host.ctl("--json=short", "list").stdout)[0]["State"] == "running"
    assert json.loads(host.ctl("--json=pretty", "status", "web").stdout)[0]["MainPID"] > 1
    host.ctl("stop", "--force", "web")
    assert host.ctl("status", "web").returncode == 3 and host.ctl("is-active", "web").stdout == "inactive\n"
    assert host.ctl("status", "nobody").returncode == 4


def fetch(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read()
    except OSError:
        return None


def test_no_serial_console(host):
    """Then there is nothing to log and nothing to attach to; the guest boots all the same."""
    port = host.reserve_port().getsockname()[1]
    guest(host, test="http,write=unheard", qemu={"serialConsole": False}, interfaces=["user"],
          forwardPorts=[{"host": {"port": port}, "guest": {"port": 80}}], **DATA)
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    wait_for("its page", lambda: fetch(f"http://127.0.0.1:{port}/written") == b"unheard\n", BOOT)
    assert console(host) == "" and host.ctl("console", "web").returncode == 1
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "LastStop") == "clean"


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
