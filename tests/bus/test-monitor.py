#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Monitor, wait and is-failed, with hypervisors that misbehave (fake-qemu.py). Prints TAP."""

import json
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from direct import define, make_host, start, start_daemon  # noqa: E402
from harness import CTL, VM, run_tests, tests_of  # noqa: E402


class Monitor:
    def __init__(self, host, *words):
        self.process = subprocess.Popen([CTL, "--bus", host.address, *words], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def until(self, wanted):
        """The lines up to one for which `wanted` is true."""
        lines = []
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if wanted(lines[-1]):
                return lines
        raise AssertionError(f"it ended after {lines}: {self.process.stderr.read()}")

    def events(self, **wanted):
        match = lambda line: wanted.items() <= json.loads(line).items()  # noqa: E731
        return [json.loads(line) for line in self.until(match)]

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def test_monitor(host):
    define(host)
    monitor = Monitor(host, "monitor")
    try:
        lines = monitor.until(lambda line: line.endswith("listening"))
        assert lines[0].split(maxsplit=2)[2] == "web       inactive: not started since the host booted", lines
        pid = start(host)
        lines = monitor.until(lambda line: "is done" in line)
        assert any("→ running: the guest is running" in line for line in lines), lines
        os.kill(pid, signal.SIGKILL)
        monitor.until(lambda line: "running → failed: the hypervisor died" in line)
    finally:
        monitor.close()


def test_monitor_as_json(host):
    define(host)
    define(host, name="db")
    monitor = Monitor(host, "monitor", "--json", "web")
    try:
        events = monitor.events(Event="listening")
        assert [(event["Event"], event.get("Name")) for event in events] == [("present", "web"), ("listening", None)], events
        assert events[0]["State"] == "inactive", events
        start(host, name="db")
        start(host)
        events = monitor.events(Event="job")
        assert all(event["Name"] == "web" for event in events), "db is not asked for"
        states = [(event["OldState"], event["State"]) for event in events if event["Event"] == "changed"]
        assert states[-1][1] == "running" and all(a[1] == b[0] for a, b in zip(states, states[1:])), events
        assert events[-1] == {**events[-1], "Verb": "start", "Result": "done"}, events
        # What happens while there is no daemon is told when there is one again.
        host.stop(signal.SIGKILL)
        monitor.events(Event="away")
        host.kill_hypervisors()
        start_daemon(host)
        events = monitor.events(Event="changed", State="failed")
        os.unlink(host.path("vms/web.json"))
        assert host.ctl("reset-failed", "web").returncode == 0
        host.reload()
        events = monitor.events(Event="removed")
        assert events[-1]["Name"] == "web", events
        define(host)
        assert monitor.events(Event="added")[-1]["State"] == "inactive"
    finally:
        monitor.close()


def test_monitor_without_readers(host):
    define(host)
    assert host.ctl("monitor", "wob").returncode == 4
    monitor = Monitor(host, "monitor")
    monitor.until(lambda line: line.endswith("listening"))
    monitor.process.stdout.close()
    start(host)
    assert monitor.process.wait(60) == 0
    monitor.process.stderr.close()


def test_wait(host):
    define(host)
    run = host.ctl("wait", "web", "--timeout=100ms")
    assert run.returncode == 1 and "web is not running in time: it is inactive: not started" in run.stderr, run.stderr
    waiting = Monitor(host, "wait", "web", "--timeout=60")
    pid = start(host)
    assert waiting.process.wait(60) == 0
    waiting.close()
    for goal, words in (("running", None), ("ready", "declares no readiness"), ("stopped", "not stopped in time")):
        run = host.ctl("wait", "web", "--for=" + goal, "--timeout=100ms")
        assert run.returncode == (1 if words else 0) and (not words or words in run.stderr), run
    run = host.ctl("wait", "web", "--for=happiness")
    assert run.returncode == 2 and "running, ready, stopped or failed" in run.stderr, run.stderr
    assert host.ctl("wait", "wob").returncode == 4 and host.ctl("wait").returncode == 2
    waiting = Monitor(host, "wait", "web", "--for=failed")
    os.kill(pid, signal.SIGKILL)
    assert waiting.process.wait(60) == 0
    waiting.close()
    run = host.ctl("wait", "web")
    assert run.returncode == 1 and "web does not become running: the hypervisor died" in run.stderr, run.stderr
    assert host.ctl("wait", "web", "--for=stopped").returncode == 0
    assert json.loads(host.ctl("--json=short", "wait", "web", "--for=failed").stdout)[0]["Reached"] is True


def test_wait_outlives_the_daemon(host):
    pid = start(host)
    answers = subprocess.Popen(["dbus-monitor", "--address", host.address, "type='method_return',sender='org.microvm1'"],
                               stdout=subprocess.PIPE, text=True)
    answers.stdout.readline()
    waiting = Monitor(host, "wait", "web", "--for=failed")
    # It listens, and is told all that there is.
    assert any(f'string "{VM}"' in line for line in answers.stdout)
    answers.kill()
    answers.communicate()
    host.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    start_daemon(host)
    assert waiting.process.wait(60) == 0, waiting.process.stderr.read()
    waiting.close()


def test_is_failed(host):
    define(host)
    define(host, "exit", name="db")
    run = host.ctl("is-failed", "web")
    assert run.returncode == 1 and run.stdout == "inactive\n", run
    host.ctl("start", "db")
    assert host.ctl("is-failed", "web", "db").returncode == 0
    assert host.ctl("-q", "is-failed", "db").stdout == ""
    assert host.ctl("is-failed", "wob").returncode == 4 and host.ctl("is-failed").returncode == 2


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
