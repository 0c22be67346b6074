# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program on a terminal of its own."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

# A net under a program that hangs, not a measure.
LIMIT = 90


class Terminal:
    def __init__(self, argv, env=None, width=80):
        self.seen = b""
        self.fd, self.child = pty.openpty()
        fcntl.ioctl(self.child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.before = termios.tcgetattr(self.child)
        self.process = subprocess.Popen(argv, env=env, stdin=self.child, stdout=self.child, stderr=self.child, start_new_session=True)

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                self.seen += os.read(self.fd, 65536)

    def wait_for(self, text, seconds=LIMIT):
        """Among all that was seen so far, and what comes."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen[-2000:]!r}"
            self.read(0.1)

    def send(self, data):
        os.write(self.fd, data)

    def end(self):
        """Its exit status; the terminal must be as it was."""
        deadline = time.monotonic() + LIMIT
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"it does not end: {self.seen[-2000:]!r}")
            self.read(0.05)
        self.read(0.1)
        after = termios.tcgetattr(self.child)
        os.close(self.fd)
        os.close(self.child)
        assert after == self.before, "the terminal is not what it was"
        return self.process.returncode

    def is_raw(self):
        return not termios.tcgetattr(self.child)[3] & (termios.ICANON | termios.ECHO)
