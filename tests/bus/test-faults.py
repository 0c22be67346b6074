#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon killed at every step of a start and of a stop, with the driver "direct" (fake-qemu.py). Prints TAP."""

import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import direct  # noqa: E402
from harness import run_tests, tests_of, wait_for  # noqa: E402

SETTLED = ("inactive", "failed", "running")
POINTS = 60  # more than there are


def start_daemon(host, fault):
    """It, and all that it starts, carry a mark in their environment."""
    before = dict(os.environ)
    os.environ.update(PATH=host.path("bin") + ":/usr/bin:/bin:/usr/sbin:/sbin", MICROVMD_MARK=host.dir)
    if fault:
        os.environ["MICROVMD_FAULT"] = str(fault)
    try:
        host.start()
    finally:
        os.environ.clear()
        os.environ.update(before)


def marked(host):
    """Processes that it has left, the daemon aside; a zombie has no environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if host.daemon and int(pid) == host.daemon.pid:
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if f"MICROVMD_MARK={host.dir}".encode() in file.read().split(b"\0"):
                    with open(f"/proc/{pid}/cmdline") as words:
                        found.append(words.read().replace("\0", " "))
        except OSError:
            pass
    return found


def die_at(host, *verb):
    """Whether the daemon came to that point, and died."""
    def is_over():
        if host.daemon.poll() is not None:
            return True
        try:
            return host.vm("web", "State") in SETTLED
        except AssertionError:  # it died this moment
            return False
    host.ctl(*verb)
    wait_for("an end", is_over)
    try:
        code = host.daemon.wait(3)  # it may be about to
    except subprocess.TimeoutExpired:
        return False
    assert code == -signal.SIGKILL, code
    return True


def settle(host):
    """A daemon that comes after finds out what there is; then nothing is left that is not meant to run."""
    wait_for("a state", lambda: host.vm("web", "State") in SETTLED)
    state, reason = host.vm("web", "State"), host.vm("web", "StateReason")
    assert reason, state
    if state == "running":
        pid = host.vm("web", "MainPID")
        assert not direct.is_gone(pid), reason
        wait_for("one process only", lambda: len(marked(host)) == 1)
        assert host.ctl("stop", "--force", "web").returncode == 0
    wait_for("no process", lambda: marked(host) == [])
    wait_for("no file", lambda: direct.left(host) == [])
    run = host.ctl("leaks")
    assert run.returncode == 0, run.stdout
    return state


def each_point(host, prepare, *verb):
    """Returns in how many places it died, and what became of it there."""
    states = []
    for fault in range(1, POINTS):
        host.stop(signal.SIGKILL)
        prepare(fault)
        died = die_at(host, *verb)
        host.stop(signal.SIGKILL)
        start_daemon(host, 0)
        states.append(settle(host))
        if not died:
            break
    assert len(states) < POINTS - 1, states
    return states


def each_pair(host, prepare, second, *verb):
    """As each_point(), at every other one, with a second death before a daemon comes that lives on."""
    for fault in range(1, POINTS, 2):
        host.stop(signal.SIGKILL)
        prepare(fault)
        died = die_at(host, *verb)
        host.stop(signal.SIGKILL)
        second(fault)
        start_daemon(host, 0)
        assert settle(host) in SETTLED
        if not died:
            return
    raise AssertionError("there is no end of it")


def die_again(host, fault):
    """A daemon that adopts what the first has left dies in its turn."""
    try:
        start_daemon(host, 1 + fault * 5 % 13)
        wait_for("an end", lambda: host.daemon.poll() is not None or host.vm("web", "State") in SETTLED)
    except AssertionError:  # before it was to be reached
        assert host.daemon.wait(60) == -signal.SIGKILL
    host.stop(signal.SIGKILL)


def make_host():
    host = direct.make_host()
    host.stop()
    return host


def test_start(host):
    host.write("secret", "hush")
    host.define("web", accel="tcg", restart={"policy": "no"}, volumes=[{"image": "data.img", "size": 1}],
                credentialFiles={"key": host.path("secret")})
    states = each_point(host, lambda fault: start_daemon(host, fault), "start", "--no-block", "web")
    assert len(states) > 14 and states[-1] == "running", states


def test_stop(host):
    states = each_point(host, stop_prepared(host), "stop", "--no-block", "web")
    assert len(states) > 2 and states[-1] == "inactive", states


def start_prepared(host):
    host.write("secret", "hush")
    host.define("web", accel="tcg", restart={"policy": "no"}, credentialFiles={"key": host.path("secret")})
    return lambda fault: start_daemon(host, fault)


def stop_prepared(host):
    host.define("web", accel="tcg", restart={"policy": "no"})

    def prepare(fault):
        start_daemon(host, 0)
        assert host.ctl("start", "web").returncode == 0
        host.stop()
        start_daemon(host, fault)
        wait_for("it to be found", lambda: host.vm("web", "State") == "running")
    return prepare


def test_start_and_the_hypervisor(host):
    each_pair(host, start_prepared(host), lambda fault: host.kill_hypervisors(), "start", "--no-block", "web")


def test_start_and_the_next_daemon(host):
    each_pair(host, start_prepared(host), lambda fault: die_again(host, fault), "start", "--no-block", "web")


def test_stop_and_the_hypervisor(host):
    each_pair(host, stop_prepared(host), lambda fault: host.kill_hypervisors(), "stop", "--no-block", "web")


def test_stop_and_the_next_daemon(host):
    each_pair(host, stop_prepared(host), lambda fault: die_again(host, fault), "stop", "--no-block", "web")


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
