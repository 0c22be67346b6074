#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What guests say of themselves, by the port of virtio-serial of a QEMU that is none (fake-qemu.py). Prints TAP."""

import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import direct  # noqa: E402
from harness import run_tests, tests_of, wait_for  # noqa: E402

NOTIFY = {"readiness": {"type": "notify"}}


def says(host, *lines, times=1):
    text = "".join(line + "\n" for line in lines)
    run = host.ctl("qmp", "web", json.dumps({"execute": "fake-guest-says", "arguments": {"text": text, "times": times}}))
    assert run.returncode == 0, run.stderr


def becomes(host, readiness):
    wait_for(readiness, lambda: host.vm("web", "Readiness") == readiness)


def test_ready(host):
    direct.start(host, **NOTIFY)
    assert host.vm("web", "Readiness") == "waiting" and host.vm("web", "ReadyTimestamp") == 0
    says(host, "STATUS=Loading", "", "nonsense")
    wait_for("its status", lambda: host.vm("web", "StatusText") == "Loading")
    says(host, "READY=1", "")
    becomes(host, "ready")
    assert host.vm("web", "ReadyTimestamp") > 0
    says(host, "STOPPING=1")
    becomes(host, "lost")
    assert direct.state(host) == "running"
    assert host.ctl("stop", "web").returncode == 0
    assert host.vm("web", "Readiness") == "none"
    direct.leaves_nothing(host)


def test_offered_to_everyone(host):
    direct.start(host)
    assert host.vm("web", "Readiness") == "none"
    says(host, "READY=1")
    becomes(host, "ready")
    assert host.ctl("stop", "web").returncode == 0
    direct.start(host, readiness={"type": "none"})
    assert not os.path.exists(host.path("run/vm/web/notify.sock"))
    assert host.vm("web", "Readiness") == "none"


def test_a_daemon_that_comes_back(host):
    direct.start(host, **NOTIFY)
    says(host, "STATUS=Loading")
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    assert host.vm("web", "Readiness") == "waiting"
    says(host, "READY=1")
    becomes(host, "ready")
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    assert host.vm("web", "Readiness") == "ready"
    says(host, "STOPPING=1")
    becomes(host, "lost")


def test_emergency_shell(host):
    direct.start(host, **NOTIFY)
    says(host, "X_SYSTEMD_UNIT_ACTIVE=sysinit.target")
    says(host, "X_SYSTEMD_UNIT_ACTIVE=emergency.target", "READY=1")
    wait_for("the word of it", lambda: "in an emergency shell" in host.read_log())
    assert host.vm("web", "Readiness") == "waiting" and direct.state(host) == "running"
    assert host.vm("web", "StateReason") == "the guest is in an emergency shell"
    assert "emergency shell" in host.vm("web", "ReadinessReason"), host.vm("web", "ReadinessReason")
    # A daemon that takes the place of this one knows it, and what was heard before.
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    assert host.vm("web", "StateReason") == "the guest is in an emergency shell", host.vm("web", "StateReason")
    assert "emergency shell" in host.vm("web", "ReadinessReason"), host.vm("web", "ReadinessReason")
    assert host.ctl("pause", "web").returncode == 0 and host.ctl("resume", "web").returncode == 0
    assert host.vm("web", "StateReason") == "the guest is in an emergency shell"
    says(host, "X_SYSTEMD_UNIT_INACTIVE=emergency.target", "X_SYSTEMD_UNIT_ACTIVE=multi-user.target")
    becomes(host, "ready")
    assert host.vm("web", "StateReason") == "the guest is running"
    says(host, "X_SYSTEMD_UNIT_ACTIVE=rescue.target")
    becomes(host, "lost")


def test_emergency_shell_is_no_place_to_stay(host):
    direct.start(host, onEmergency="fail", restart={"policy": "always"})
    says(host, "X_SYSTEMD_UNIT_ACTIVE=emergency.target")
    wait_for("the end", lambda: direct.state(host) == "failed")
    assert "emergency shell" in host.vm("web", "StateReason"), host.vm("web", "StateReason")
    direct.leaves_nothing(host)


def test_watchdog_by_notify(host):
    direct.start(host, watchdog={"type": "notify", "timeout": 1})
    time.sleep(2)  # nothing is expected of who has said nothing
    assert direct.state(host) == "running"
    says(host, "WATCHDOG=1")
    wait_for("the end", lambda: direct.state(host) == "failed")
    assert host.vm("web", "Result") == "watchdog", host.vm("web", "Result")
    assert "has not said that it lives for 1s" in host.vm("web", "StateReason"), host.vm("web", "StateReason")
    direct.leaves_nothing(host)


def test_watchdog_over_a_restart_of_the_daemon(host):
    direct.start(host, watchdog={"type": "notify", "timeout": 4})
    says(host, "WATCHDOG=1")
    wait_for("the note", lambda: json.loads(direct.read(host.path("run/vm/web/record.json")))["keepsAlive"])
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    wait_for("the end", lambda: direct.state(host) == "failed")
    assert host.vm("web", "Result") == "watchdog"


def test_watchdog_after_a_pause(host):
    """A guest that stood still has its whole time again."""
    direct.start(host, watchdog={"type": "notify", "timeout": 3})
    says(host, "WATCHDOG=1")
    begun = time.monotonic()
    assert host.ctl("pause", "web").returncode == 0
    time.sleep(max(0.0, begun + 5.8 - time.monotonic()))  # just before its silence would be looked at again
    resumed = time.monotonic()
    assert host.ctl("resume", "web").returncode == 0
    wait_for("the end", lambda: direct.state(host) == "failed")
    assert time.monotonic() - resumed > 4.5, f"it had {time.monotonic() - resumed:.1f} s"


def test_watchdog_that_lets_it_be(host):
    direct.start(host, watchdog={"type": "notify", "timeout": 300, "action": "wait"})
    says(host, "WATCHDOG=1", "WATCHDOG=trigger")
    wait_for("the word of it", lambda: "its own watchdog says so" in host.vm("web", "StateReason"))
    assert direct.state(host) == "running"
    says(host, "WATCHDOG=1")
    wait_for("its recovery", lambda: host.vm("web", "StateReason") == "the guest is running")


def test_watchdog_restarts_by_policy(host):
    pid = direct.start(host, watchdog={"type": "notify"}, restart={"policy": "on-failure", "delay": 0})
    says(host, "WATCHDOG=1", "WATCHDOG=trigger")
    wait_for("the next run", lambda: direct.state(host) == "running" and host.vm("web", "MainPID") != pid)
    assert host.vm("web", "NRestarts") == 1 and host.vm("web", "Result") == "watchdog"


def happens(host, event, **data):
    host.ctl("qmp", "web", json.dumps({"execute": "fake-event", "arguments": {"event": event, "data": data}}))


def ends(host, reason):
    host.ctl("qmp", "web", json.dumps({"execute": "fake-end", "arguments": {"reason": reason}}))
    wait_for("its end", lambda: direct.state(host) in ("failed", "backoff"))


DEVICE = {"qemu": {"machine": "q35"}, "restart": {"policy": "on-failure", "delay": 600}}


def test_watchdog_device(host):
    direct.define(host, watchdog={"type": "device"})
    assert "q35" in host.vm("web", "DefinitionError"), host.vm("web", "DefinitionError")
    direct.start(host, watchdog={"type": "device"}, **DEVICE)
    happens(host, "WATCHDOG", action="reset")
    ends(host, "guest-reset")
    assert direct.state(host) == "backoff" and host.vm("web", "Result") == "watchdog", host.vm("web", "StateReason")
    direct.start(host, watchdog={"type": "device", "action": "fail"}, **DEVICE)
    happens(host, "WATCHDOG", action="reset")
    ends(host, "guest-reset")
    assert direct.state(host) == "failed" and "its watchdog expired" in host.vm("web", "StateReason"), host.vm("web", "StateReason")
    direct.start(host, watchdog={"type": "device", "action": "wait"}, **DEVICE)
    happens(host, "WATCHDOG", action="none")
    wait_for("the word of it", lambda: "its watchdog has expired; it goes on" in host.read_log())
    ends(host, "host-error")
    assert host.vm("web", "Result") == "signal"


def test_panic(host):
    direct.start(host, **DEVICE)
    happens(host, "GUEST_PANICKED", action="poweroff")
    ends(host, "guest-panic")
    assert direct.state(host) == "backoff" and host.vm("web", "Result") == "guest-panic"
    direct.start(host, onPanic="fail", **DEVICE)
    ends(host, "guest-panic")
    assert direct.state(host) == "failed" and "panicked" in host.vm("web", "StateReason"), host.vm("web", "StateReason")


def test_says_too_much(host):
    """One guest that floods the port is neither believed for it nor able to keep the daemon busy."""
    direct.start(host)
    says(host, "STATUS=" + "x" * 3000, "x" * 10000, times=700)
    assert direct.state(host) == "running"
    says(host, "READY=1")
    becomes(host, "ready")


def test_changes_its_mind_all_the_time(host):
    """It can't fill the journal, in which each change is."""
    direct.start(host, **NOTIFY)
    says(host, "X_SYSTEMD_UNIT_ACTIVE=emergency.target", times=1000)
    says(host, "X_SYSTEMD_UNIT_INACTIVE=emergency.target", "READY=1", "STOPPING=1", times=1000)
    says(host, "STATUS=That was all")
    wait_for("all to be heard", lambda: host.vm("web", "StatusText") == "That was all")
    log = host.read_log()
    assert log.count("In trouble: the guest is in an emergency shell") == 1 and len(log.splitlines()) < 150, log[-3000:]
    assert log.count("no more of it is heard in this minute") == 1
    assert direct.state(host) == "running"
    # The next minute is another one, here of another daemon.
    host.stop()
    direct.start_daemon(host)
    says(host, "X_SYSTEMD_UNIT_INACTIVE=emergency.target", "X_SYSTEMD_UNIT_ACTIVE=multi-user.target", "READY=1")
    becomes(host, "ready")


def test_refused_where_there_is_no_room(host):
    shares = [{"tag": f"t{i}", "source": "/srv", "proto": "9p"} for i in range(22)]
    direct.define(host, shares=shares, **NOTIFY)
    assert "the port for notify" in host.vm("web", "DefinitionError"), host.vm("web", "DefinitionError")
    direct.start(host, shares=shares)
    assert not os.path.exists(host.path("run/vm/web/notify.sock"))
    assert host.vm("web", "Readiness") == "none"


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), direct.make_host))
