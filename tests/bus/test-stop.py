#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver "direct" with hypervisors that behave and misbehave (fake-qemu.py): stops. Prints TAP."""

import json
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from direct import define, is_gone, leaves_nothing, make_host, read, start, start_daemon, state, stop_all  # noqa: E402
from harness import run_tests, tests_of, wait_for  # noqa: E402


def test_a_stop_climbs_until_something_helps(host):
    """A guest that refuses each rung in turn: what ended it is told, and how."""
    for refused, (fake, last_stop, result, words) in enumerate((
            ("", "clean", "success", "shut itself down (the power button ended it after"),
            ("keys", "clean", "success", "shut itself down (ctrl-alt-del ended it after"),
            ("term", "forced", "timeout", "in time (SIGTERM ended it after"),
            ("stone", "forced", "timeout", "in time (SIGKILL ended it after"))):
        # What is not refused has all the time of a busy machine.
        steps = [{"action": action, "timeout": "300ms" if number < refused else "1min"}
                 for number, action in enumerate(("acpi", "ctrl-alt-del", "term"))]
        pid = start(host, fake, stop={"steps": steps, "timeout": "5min"})
        assert "i8042" in read(f"/proc/{pid}/cmdline"), "a keyboard for ctrl-alt-del"
        assert host.ctl("stop", "web").returncode == 0
        reason = host.vm("web", "StateReason")
        assert (state(host), host.vm("web", "LastStop"), host.vm("web", "Result")) == ("inactive", last_stop, result), (fake, reason)
        assert words in reason, reason
        assert ("the power button had not for" in reason) == bool(fake), reason
        assert ("nor ctrl-alt-del for" in reason) == (fake in ("term", "stone")), reason
        assert ("nor SIGTERM for" in reason) == (fake == "stone"), reason
        wait_for("its end", lambda: is_gone(pid))
        leaves_nothing(host)


def stop_by_agent(host, how, steps, **stop):
    start(host, f"term agent={how}", stop={"steps": steps, "timeout": "5min", **stop})
    before = time.monotonic()
    assert host.ctl("stop", "web").returncode == 0
    leaves_nothing(host)
    return host.vm("web", "StateReason"), time.monotonic() - before


def test_stop_by_an_agent(host):
    """One that obeys; one that refuses is not waited for; who does not answer is, for as long as the step has."""
    reason, _ = stop_by_agent(host, "obeys", ["agent", "acpi"])
    assert host.vm("web", "LastStop") == "clean" and "shut itself down (the guest's agent ended it after" in reason, reason
    reason, took = stop_by_agent(host, "refuses", ["agent", "term"])
    assert "(SIGTERM ended it after" in reason and reason.endswith("; the guest's agent refused)"), reason
    assert took < 60 and host.vm("web", "LastStop") == "forced", (took, reason)
    assert "the guest's agent refuses to shut it down: Command guest-shutdown has been disabled" in host.read_log()
    for how in ("", "babbles"):
        reason, took = stop_by_agent(host, how, [{"action": "agent", "timeout": 1}, "term"])
        assert took > 1 and "(SIGTERM ended it after" in reason and re.search("; the guest's agent had not for [1-9]", reason), (took, reason)


def test_an_agent_that_comes_late_is_asked_again(host):
    reason, _ = stop_by_agent(host, "late", ["agent", "acpi"])
    assert "(the guest's agent ended it after" in reason, reason


def test_an_agent_is_asked_by_the_next_daemon(host):
    start(host, "term agent=late", stop={"steps": [{"action": "agent", "timeout": 600}], "timeout": 700})
    host.ctl("--no-block", "stop", "web")
    assert state(host) == "stopping"
    host.stop(signal.SIGKILL)
    start_daemon(host)
    wait_for("its end", lambda: state(host) == "inactive")
    reason = host.vm("web", "StateReason")
    assert host.vm("web", "LastStop") == "clean" and "(the guest's agent ended it after" in reason, reason


def test_a_step_that_is_newer_than_the_run(host):
    """It has no port for an agent yet."""
    start(host, "term")
    define(host, "term", stop={"steps": ["agent", "term"], "timeout": "5min"})
    assert host.ctl("stop", "web").returncode == 0
    assert "(SIGTERM ended it after" in host.vm("web", "StateReason"), host.vm("web", "StateReason")


def test_a_stop_goes_on_after_a_death_of_the_daemon(host):
    """On the rung that it was on; and on the next one if its time is over."""
    start(host, "stone", stop={"steps": [{"action": "acpi", "timeout": 1}, {"action": "ctrl-alt-del", "timeout": 600}], "timeout": 700})
    host.ctl("--no-block", "stop", "web")
    assert state(host) == "stopping"
    host.stop(signal.SIGKILL)
    time.sleep(1)
    start_daemon(host)
    wait_for("the next rung", lambda: "trying ctrl-alt-del; the power button has not helped" in host.vm("web", "StateReason"))
    host.stop(signal.SIGKILL)
    start_daemon(host)
    wait_for("its adoption", lambda: host.vm("web", "MainPID") != 0)
    assert state(host) == "stopping"
    assert host.ctl("stop", "--force", "web").returncode == 0
    reason = host.vm("web", "StateReason")
    assert "stopped by force (SIGKILL ended it after" in reason and "nor ctrl-alt-del for" in reason, reason
    assert host.vm("web", "LastStop") == "forced" and host.vm("web", "Result") == "success"


def test_less_time_is_shared_by_all_rungs(host):
    start(host, "keys", stop={"steps": [{"action": "acpi", "timeout": "10min"}, "ctrl-alt-del"], "timeout": "100min"})
    assert host.ctl("stop", "--timeout=30min", "web", "--no-block").returncode == 0
    with open(host.path("run/vm/web/record.json")) as file:
        ladder = [(rung["action"], int(rung["timeout"]) // 1000000) for rung in json.load(file)["stopLadder"]]
    assert ladder == [("acpi", 600), ("ctrl-alt-del", 1200), ("term", 5), ("kill", 30)], ladder
    assert host.ctl("stop", "--timeout=1s", "web").returncode == 0  # less than a step has
    assert "SIGTERM ended it after" in host.vm("web", "StateReason"), host.vm("web", "StateReason")
    assert "the power button had not for" in host.vm("web", "StateReason"), host.vm("web", "StateReason")


def test_deaf_to_sigterm(host):
    pid = start(host, "deaf")
    before = time.monotonic()
    assert host.ctl("stop", "--force", "web").returncode == 0
    assert 2.5 < time.monotonic() - before < 60 and state(host) == "inactive"
    wait_for("its end", lambda: is_gone(pid))


def test_deaf_to_the_button(host):
    start(host, "mute", stop={"timeout": 1})
    assert host.ctl("stop", "web").returncode == 0
    assert host.vm("web", "Result") == "timeout" and host.vm("web", "LastStop") == "forced"


def test_stop_while_it_starts(host):
    define(host, "dies")
    for _ in range(10):
        host.ctl("start", "--no-block", "web")
        host.ctl("stop", "--force", "web")
        assert state(host) in ("inactive", "failed"), state(host)
    define(host)
    for _ in range(10):
        host.ctl("start", "--no-block", "web")
        assert host.ctl("stop", "--force", "web").returncode == 0
        assert state(host) == "inactive", state(host)
        leaves_nothing(host)


def test_a_stop_by_qmp_stays(host):
    for command, words in (("system_powerdown", "QMP's system_powerdown"), ("quit", "QMP's quit")):
        start(host, restart={"policy": "always", "delay": 0})
        assert host.ctl("qmp", "web", command).returncode == 0
        wait_for("its end", lambda: state(host) == "inactive")
        assert f"stopped by somebody else ({words})" in host.vm("web", "StateReason"), host.vm("web", "StateReason")
        time.sleep(0.3)
        assert state(host) == "inactive" and host.vm("web", "NRestarts") == 0


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host, stop_all))
