#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Logs in at the console of a microVM as a person would: login.py NAME"""

import os
import pty
import select
import sys
import termios
import time

name = sys.argv[1]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("microvmctl", ["microvmctl", "console", name])
before = termios.tcgetattr(terminal)
seen = b""


def expect(text, seconds=180, again=None):
    """Waits for `text`; sends `again` every second until it comes."""
    global seen
    deadline = time.monotonic() + seconds
    while text not in seen:
        if time.monotonic() > deadline:
            sys.exit(f"no {text!r} in {seen!r}")
        if select.select([terminal], [], [], 1)[0]:
            try:
                data = os.read(terminal, 4096)
            except OSError:
                sys.exit(f"microvmctl ended; it said {seen!r}")
            seen += data
        elif again:
            os.write(terminal, again)
    seen = seen[seen.index(text) + len(text):]


expect(f"{name} login:".encode(), again=b"\r")
os.write(terminal, b"root\r")
expect(b"# ")
os.write(terminal, b"echo I am $(uname -n)\r")
expect(f"\nI am {name}".encode())
os.write(terminal, b"exit\r")
expect(b"login:")
os.write(terminal, b"\x1d")
deadline = time.monotonic() + 60
while True:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    if time.monotonic() > deadline:
        sys.exit("microvmctl does not detach")
    if select.select([terminal], [], [], 0.1)[0]:
        try:
            os.read(terminal, 4096)
        except OSError:
            pass
if os.waitstatus_to_exitcode(status) != 0:
    sys.exit(f"microvmctl exited with {status}")
