#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one microVM has, no other one can have: on a private bus with libvirt's test driver. Prints TAP."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from applied import make_host, network, running  # noqa: E402
from harness import run_tests, tests_of, wait_for  # noqa: E402


def error_of(host, name):
    return host.vm(name, "DefinitionError")


def test_what_runs_keeps_what_it_has(host):
    running(host, "a", "b", "gone", **{})
    for name, number in (("b", 1), ("gone", 2)):
        host.define(name, **network(number))
    host.reload()
    assert host.ctl("restart", "b", "gone").returncode == 0
    os.unlink(host.path("vms/gone.json"))
    host.define("b", **network(3))
    host.define("a1", **network(1), autostart=True)
    host.define("a2", **network(2), autostart=True)
    host.define("a3", **network(3))
    host.reload()
    assert "that of the running microVM b, which was started with it (its definition, " in error_of(host, "a1"), error_of(host, "a1")
    assert "says something else by now" in error_of(host, "a1")
    assert "running microVM gone" in error_of(host, "a2") and "gone.json, is gone" in error_of(host, "a2"), error_of(host, "a2")
    assert "02:00:00:00:00:03 is that of the microVM b already" in error_of(host, "a3"), error_of(host, "a3")
    assert error_of(host, "b") == "" and host.vm("b", "OutdatedReasons") == ["definition"]
    # What is stopped lets go, without a reload.
    assert host.ctl("restart", "b").returncode == 0
    wait_for("a1 can be used", lambda: error_of(host, "a1") == "")
    assert "a1: Its definition can be used now" in host.read_log(), host.read_log()
    assert host.vm("a1", "State") == "inactive" and "running microVM gone" in error_of(host, "a2")
    assert host.ctl("stop", "gone").returncode == 0
    wait_for("a2 can be used", lambda: error_of(host, "a2") == "")
    assert "02:00:00:00:00:03 is that of the running microVM b already" in error_of(host, "a3"), error_of(host, "a3")


def test_a_new_daemon_knows_what_runs_with_what(host):
    running(host, "b", **network(1))
    host.define("b", **network(2))
    host.define("a", **network(1))
    host.reload()
    assert host.stop() == 0
    before = len(host.read_log())
    host.start()
    # What it has on record counts at once; that the test driver has lost b turns out later.
    assert "that of the running microVM b, which was started with it (its definition, " in host.read_log()[before:]
    wait_for("a can be used", lambda: error_of(host, "a") == "")


def test_what_is_to_restart_keeps_what_it_had(host):
    running(host, "b", **network(1), restart={"policy": "always", "delay": "1h", "maxDelay": "1h"})
    assert host.stop() == 0
    host.start()
    wait_for("b was lost", lambda: host.vm("b", "State") == "backoff")
    host.define("a", **network(1))
    host.reload()
    assert "of the microVM b already" in error_of(host, "a"), error_of(host, "a")
    assert host.stop() == 0
    host.start()
    assert "microVM b already" in error_of(host, "a") and error_of(host, "b") == "", error_of(host, "a")
    host.reload()
    assert "microVM b already" in error_of(host, "a") and host.vm("b", "State") == "backoff"


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
