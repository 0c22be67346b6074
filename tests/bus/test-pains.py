#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What users of such systems have reported, year after year, each as a test (fake-qemu.py; each has others of its own elsewhere).
Prints TAP."""

import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import direct  # noqa: E402
from harness import run_tests, tests_of, wait_for  # noqa: E402


def test_guests_killed_instead_of_shut_down(host):
    """A guest gets the time that its definition gives it, also when the daemon is killed meanwhile."""
    pid = direct.start(host, "mute", stop={"timeout": "1h"})
    assert host.ctl("--no-block", "stop", "web").returncode == 0
    wait_for("the request", lambda: direct.state(host) == "stopping")
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    time.sleep(2)
    assert direct.state(host) == "stopping" and not direct.is_gone(pid)
    host.ctl("qmp", "web", json.dumps({"execute": "fake-end", "arguments": {"reason": "guest-shutdown"}}))
    wait_for("its own end", lambda: direct.state(host) == "inactive")
    assert host.vm("web", "LastStop") == "clean", host.vm("web", "StateReason")


def test_a_guest_that_is_up_but_slow_is_killed_and_restarted(host):
    pid = direct.start(host, readiness={"type": "notify", "timeout": "100ms"}, restart={"policy": "always", "delay": 0})
    wait_for("its time to be over", lambda: host.vm("web", "Readiness") == "timed-out")
    time.sleep(1)
    assert direct.state(host) == "running" and host.vm("web", "MainPID") == pid and host.vm("web", "NRestarts") == 0


def test_six_start_together_and_four_time_out(host):
    """Their time begins when they do, not while they are held back."""
    names = [f"vm{number}" for number in range(6)]
    host.config({"host": {"maxConcurrentStarts": 1}})
    for name in names:
        host.define(name, accel="tcg", kernelParams=["fake=slow"], readiness={"type": "notify", "timeout": "8s", "onTimeout": "fail"},
                    restart={"policy": "no"})
    host.reload()
    begun, ready = time.monotonic(), 0
    assert host.ctl("--no-block", "start", *names).returncode == 0
    while ready < len(names):
        rows = json.loads(host.ctl("--json=short", "list").stdout)
        states = [row["State"] for row in rows]
        assert "failed" not in states and states.count("starting") <= 1, rows
        ready = [row["Readiness"] for row in rows].count("ready")
    assert time.monotonic() - begun > 8, "all of them are up sooner than the time of one is over: that shows nothing"


def test_a_restart_counter_of_47947(host):
    direct.define(host, "exit", restart={"policy": "always", "delay": 0, "startLimit": 5, "startLimitInterval": "10min"})
    assert host.ctl("start", "web").returncode == 1
    wait_for("it to be given up", lambda: host.vm("web", "Result") == "start-limit")
    assert direct.state(host) == "failed" and host.vm("web", "NRestarts") == 5, host.vm("web", "NRestarts")
    assert "reset-failed" in host.ctl("start", "web").stderr
    assert host.ctl("reset-failed", "web").returncode == 0 and host.vm("web", "NRestarts") == 0


def test_active_while_the_guest_sits_in_an_emergency_shell(host):
    direct.start(host, readiness={"type": "notify"})
    says = {"text": "X_SYSTEMD_UNIT_ACTIVE=emergency.target\nREADY=1\n"}
    assert host.ctl("qmp", "web", json.dumps({"execute": "fake-guest-says", "arguments": says})).returncode == 0
    wait_for("the word of it", lambda: host.vm("web", "StateReason") == "the guest is in an emergency shell")
    assert host.vm("web", "Readiness") == "waiting"
    assert "emergency shell" in host.ctl("status", "web").stdout + host.ctl("why", "web").stdout


def test_orphans_after_a_crash(host):
    for name in ("one", "two", "three"):
        host.define(name, accel="tcg", restart={"policy": "no"})
    host.reload()
    assert host.ctl("start", "one", "two", "three").returncode == 0
    pids = [host.vm(name, "MainPID") for name in ("one", "two", "three")]
    host.stop(signal.SIGKILL)
    os.kill(pids[0], signal.SIGKILL)
    os.unlink(host.path("vms/two.json"))
    direct.start_daemon(host)
    wait_for("the end to be known", lambda: host.vm("one", "State") == "failed")
    assert [host.vm(name, "MainPID") for name in ("two", "three")] == pids[1:] and host.vm("two", "Undeclared")
    assert host.ctl("leaks").stdout == "Nothing is left over.\n"
    assert host.ctl("stop", "--all").returncode == 0
    wait_for("their ends", lambda: all(map(direct.is_gone, pids)))
    assert host.ctl("leaks").returncode == 0


def test_started_again_after_a_stop_by_hand(host):
    """Not by autostart, not by the policy, not by a new daemon."""
    host.define("web", accel="tcg", autostart=True, restart={"policy": "always", "delay": 0})
    host.reload()
    assert host.ctl("start", "web").returncode == 0
    assert host.ctl("stop", "web").returncode == 0
    for number in (signal.SIGTERM, signal.SIGKILL):
        host.stop(number)
        direct.start_daemon(host)
        assert host.ctl("reload").returncode == 0
        time.sleep(0.5)
        assert direct.state(host) == "inactive"
        direct.leaves_nothing(host)


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), direct.make_host))
