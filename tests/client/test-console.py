#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmctl console, against a service that only pretends."""

import contextlib
import os
import select
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ctl import Terminal, expect, main  # noqa: E402
from harness import wait_for  # noqa: E402


def attach(it, name="web"):
    terminal = Terminal(it, "console", name)
    terminal.wait_for(b"Detach with Ctrl-]")
    terminal.wait_for(b"hello from the guest")
    wait_for("raw mode", terminal.is_raw)
    return terminal


def test_console_detach(it):
    terminal = attach(it)
    terminal.send(b"abc\x03")
    terminal.wait_for(b"c\x03>")
    terminal.send(b"x\x1dnot sent")
    assert terminal.end() == 0
    assert b"Detached" in terminal.seen and b"not sent" not in terminal.seen


def test_console_guest_reads_nothing(it):
    terminal = attach(it, "stuck")
    os.set_blocking(terminal.fd, False)
    # Until all that lies between is full, and nobody takes any more.
    while select.select([], [terminal.fd], [], 1)[1]:
        with contextlib.suppress(BlockingIOError):
            terminal.send(b"y" * 2000)
        terminal.read(0)
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == -signal.SIGTERM


def test_console_signals(it):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        terminal = attach(it)
        terminal.process.send_signal(number)
        assert terminal.end() == -number


def test_console_ends(it):
    terminal = Terminal(it, "console", "db")
    terminal.wait_for(b"was closed")
    assert terminal.end() == 0
    terminal = attach(it)
    terminal.send(b"DIE\r")
    assert terminal.end() == 69
    assert b"web goes on" in terminal.seen


def test_console_without_terminal(it):
    result = expect(it, 0, "console", "db")
    assert result.stdout == "hello from the guest\n" and "Attached" not in result.stderr
    assert expect(it, 0, "console", "web", stdin="\x04").stdout == "hello from the guest\n"


def test_console_read_only(it):
    terminal = Terminal(it, "console", "--read-only", "--lines=3", "web")
    terminal.wait_for(b"console of web, to read only. Detach with Ctrl-]")
    terminal.wait_for(b"hello from the guest")
    terminal.send(b"typed in vain")
    terminal.wait_for(b"was closed")
    assert terminal.end() == 0 and b"vain" not in terminal.seen
    assert it.calls("OpenConsole")[-1][2] == {"lines": 3, "read-only": True}
    expect(it, 2, "console", "--read-only", "--force", "web", err="exclude each other")


def test_console_of_another_writer(it):
    terminal = Terminal(it, "console", "slow")
    terminal.wait_for(b"to read only: somebody else writes; --force takes it over. Detach with Ctrl-]")
    terminal.send(b"\x1d")
    assert terminal.end() == 0
    assert it.calls("OpenConsole")[-1][2] == {"lines": 10}
    terminal = Terminal(it, "console", "--force", "slow")
    terminal.wait_for(b"console of slow. Detach with Ctrl-]")
    terminal.send(b"\x1d")
    assert terminal.end() == 0
    assert it.calls("OpenConsole")[-1][2] == {"lines": 10, "take-over": True}
    # What is piped in must not be lost in silence.
    expect(it, 1, "console", "slow", stdin="reboot\n", err="Somebody else writes to the console of slow")
    assert expect(it, 0, "console", "--read-only", "slow", stdin="").stdout == "hello from the guest\n"


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
