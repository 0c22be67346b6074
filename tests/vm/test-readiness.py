#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""When a guest is ready: real guests in real QEMU under TCG, by both drivers. Prints TAP."""

import os
import signal
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import only, wait_for  # noqa: E402
from vm import BOOT, DATA, HIDE, console, guest, main, state  # noqa: E402


def test_guest_says_that_it_is_ready_and_then_nothing(host):
    """By its port of virtio-serial, as the guest of a distribution may with one line of shell."""
    guest(host, test="notify,alive=30", readiness={"type": "notify"}, watchdog={"type": "notify", "timeout": 8}, restart={"policy": "no"})
    host.ctl("start", "web")
    assert host.vm("web", "Readiness") == "waiting"
    wait_for("its word", lambda: host.vm("web", "Readiness") == "ready", BOOT)
    assert host.vm("web", "ReadyTimestamp") > host.vm("web", "StartTimestamp")
    host.stop(signal.SIGKILL)
    host.start(HIDE)
    wait_for("more words, to the next daemon", lambda: "Alive for" in host.vm("web", "StatusText"), BOOT)
    assert host.vm("web", "Readiness") == "ready"
    wait_for("the end of a guest that is silent", lambda: state(host) == "failed", BOOT)
    assert host.vm("web", "Result") == "watchdog", host.vm("web", "StateReason")
    assert not os.path.exists(host.path("run/vm/web/notify.sock"))


def serve(host, **readiness):
    """Starts a guest that serves a page, and waits until it is ready, as told. Returns the host's port."""
    port = host.reserve_port().getsockname()[1]
    guest(host, test="write=served,http", interfaces=["user"], forwardPorts=[{"host": {"port": port}, "guest": {"port": 80}}],
          readiness={"port": 80, "timeout": BOOT, **readiness}, **DATA)
    run = host.ctl("start", "--wait=ready", "web")
    assert run.returncode == 0, run.stderr + console(host)
    assert host.vm("web", "Readiness") == "ready" and host.vm("web", "KernelTimestamp") < host.vm("web", "ReadyTimestamp")
    return port


def test_forwarded_port(host):
    """QEMU takes connections long before the guest does: ready is who answers."""
    port = serve(host, type="tcp")
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/written", timeout=60).read()
    assert page == b"served\n", page


@only("direct")
def test_ready_by_http(host):
    assert serve(host, type="http", path="/written") > 0


def test_port_that_the_guest_refuses(host):
    port = host.reserve_port().getsockname()[1]
    guest(host, test="net", interfaces=["user"], forwardPorts=[{"host": {"port": port}, "guest": {"port": 80}}],
          readiness={"type": "tcp", "port": 80})
    host.ctl("start", "web")
    wait_for("a refusal", lambda: "the guest's port 80: connection refused; its kernel was up after" in host.vm("web", "ReadinessReason"), BOOT)
    assert host.vm("web", "Readiness") == "waiting"


def test_ready_by_its_console(host):
    guest(host, readiness={"type": "console", "pattern": "^microvm-guest: ready$", "timeout": BOOT})
    run = host.ctl("start", "--wait=ready", "web")
    assert run.returncode == 0, run.stderr + console(host)
    assert "microvm-guest: ready" in console(host)
    ready = host.vm("web", "ReadyTimestamp")
    host.stop(signal.SIGKILL)
    host.start(HIDE)
    wait_for("the adoption", lambda: host.vm("web", "DriverOnline") and state(host) == "running")
    assert host.vm("web", "Readiness") == "ready" and host.vm("web", "ReadyTimestamp") == ready


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
