#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""When a guest is ready, by both drivers: libvirt's own test driver, and "direct" with fake-qemu.py. Prints TAP."""

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import direct  # noqa: E402
from harness import CTL, VM, Host, only, run_tests, tests_of, wait_for  # noqa: E402


def make_libvirt_host():
    host = Host()
    host.start()
    return host


def define(host, name="web", restart=None, **keys):
    host.define(name, accel="tcg", **{"restart": restart or {"policy": "no"}, **keys})
    host.reload()


def readiness(host, name="web"):
    return host.vm(name, "Readiness")


def reason(host, name="web"):
    return host.vm(name, "ReadinessReason")


def start(host, name="web"):
    run = host.ctl("start", name)
    assert run.returncode == 0, run.stderr
    assert host.vm(name, "State") == "running"


@contextlib.contextmanager
def starting(host, verb="start", name="web"):
    """A start that waits for ready, beside the rest."""
    process = subprocess.Popen([CTL, "--bus", host.address, verb, "--wait=ready", name], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def says(host, text, name="web"):
    with open(host.path(f"state/vm/{name}/console.log"), "a") as log:
        log.write(text)


def forwarded(port, **readiness):
    return {"interfaces": ["user"], "forwardPorts": [{"host": {"port": port}, "guest": {"port": 80}}],
            "readiness": {"port": 80, **readiness}}


CONSOLE = {"type": "console", "pattern": "^guest: ready$"}


def test_console(host):
    define(host, readiness=CONSOLE)
    with starting(host) as process:
        wait_for("it runs", lambda: host.vm("web", "State") == "running")
        assert readiness(host) == "waiting" and host.vm("web", "KernelTimestamp") == 0
        assert "its kernel has not said anything yet" in reason(host), reason(host)
        says(host, "[    0.000000] Linux version 6.1\n")
        wait_for("its kernel", lambda: host.vm("web", "KernelTimestamp") > 0)
        assert process.poll() is None, "it is not ready"
        card = host.ctl("status", "web").stdout
        assert "Readiness: waiting for a line on its console" in card and "its kernel was up after" in card, card
        assert "waiting" in host.ctl("list").stdout
        says(host, "guest: re")
        says(host, "ady\n")
        assert process.wait(60) == 0, process.stderr.read()
    assert readiness(host) == "ready" and host.vm("web", "ReadyTimestamp") >= host.vm("web", "KernelTimestamp") > 0
    assert "a line on its console matched, after" in reason(host)
    assert "Readiness: ready since" in host.ctl("status", "web").stdout
    assert host.ctl("start", "--wait=ready", "web").returncode == 0, "it is"
    assert host.ctl("stop", "--force", "web").returncode == 0
    assert readiness(host) == "none" and reason(host) == "" and host.vm("web", "ReadyTimestamp") == 0


def test_tcp(host):
    server = host.reserve_port()
    define(host, **forwarded(server.getsockname()[1], type="tcp"))
    start(host)
    wait_for("a try", lambda: "the guest's port 80: the host's port is closed" in reason(host))
    server.listen()

    def answer():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = server.accept()
                peer.recv(1)
                peer.close()
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    wait_for("ready", lambda: readiness(host) == "ready")
    server.shutdown(socket.SHUT_RDWR)
    assert "the guest answered, after" in reason(host), reason(host)


def test_a_port_that_there_is_a_route_to(host):
    """Nothing is forwarded to it: the guest is asked at its own address."""
    server = host.reserve_port()
    port = server.getsockname()[1]
    define(host, readiness={"type": "tcp", "port": port, "address": "127.0.0.1"})
    start(host)
    wait_for("a try", lambda: f"the guest's port {port}: connection refused" in reason(host))
    server.listen()
    server.settimeout(60)
    peer, _ = server.accept()
    peer.sendall(b"220 ready\n")
    wait_for("ready", lambda: readiness(host) == "ready")
    peer.close()


def test_http(host):
    class Handler(http.server.BaseHTTPRequestHandler):
        status = 503

        def do_GET(self):
            self.send_response(Handler.status if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        define(host, **forwarded(server.server_address[1], type="http", path="/health"))
        start(host)
        wait_for("a try", lambda: "GET /health at the guest's port 80: it answers with status 503" in reason(host))
        Handler.status = 301
        wait_for("ready", lambda: readiness(host) == "ready")
    finally:
        server.shutdown()
        server.server_close()


def test_command(host):
    flag, out = host.path("flag"), host.path("state/vm/web/readiness.log")
    script = host.path("probe")
    host.write("probe", f"#!/bin/sh\nid -u\necho $MICROVM_NAME $MICROVM_PID\n[ -e {flag} ]\n")
    os.chmod(script, 0o755)
    define(host, readiness={"type": "command", "command": [script]})
    start(host)
    wait_for("a try", lambda: f"{script} failed: it exited with status 1" in reason(host))
    host.write("flag", "")
    wait_for("ready", lambda: readiness(host) == "ready")
    assert "its command succeeded, after" in reason(host), reason(host)
    with open(out) as file:
        uid, name, pid = file.read().split()
    assert name == "web" and int(pid) == host.vm("web", "MainPID")
    assert os.geteuid() != 0 or 1900000000 <= int(uid) < 1900065536, uid


def test_command_ends_with_the_run(host):
    pid_file = host.path("public/pid")
    os.mkdir(host.path("public"))
    os.chmod(host.path("public"), 0o777)
    host.write("probe", f"#!/bin/sh\necho $$ >{pid_file}.new && mv {pid_file}.new {pid_file}\nexec sleep 1000\n")
    os.chmod(host.path("probe"), 0o755)
    define(host, readiness={"type": "command", "command": [host.path("probe")]})
    start(host)
    wait_for("the try", lambda: os.path.exists(pid_file))
    with open(pid_file) as file:
        pid = int(file.read())
    host.ctl("stop", "--force", "web")
    wait_for("its end", lambda: direct.is_gone(pid))


def test_late_is_kept(host):
    define(host, readiness={**CONSOLE, "timeout": "1s"})
    run = host.ctl("start", "--wait=ready", "web")
    assert run.returncode == 1 and "took too long: not ready within 1s" in run.stderr, run.stderr
    assert host.vm("web", "State") == "running" and readiness(host) == "timed-out"
    assert "Readiness: timed-out: not ready within 1s" in host.ctl("status", "web").stdout
    run = host.ctl("start", "--wait=ready", "web")
    assert run.returncode == 1 and "took too long" in run.stderr, "there is nothing to wait for any more"
    says(host, "guest: ready\n")
    wait_for("ready", lambda: readiness(host) == "ready")


def test_late_is_restarted_up_to_the_limit(host):
    define(host, restart={"delay": 0, "startLimit": 1}, stop={"timeout": 1},
           readiness={**CONSOLE, "timeout": 0, "onTimeout": "restart"})
    host.ctl("start", "web")
    wait_for("the limit", lambda: host.vm("web", "State") == "failed")
    assert host.vm("web", "Result") == "start-limit" and host.vm("web", "NRestarts") == 1
    assert "not ready within" in host.vm("web", "StateReason"), host.vm("web", "StateReason")


def test_late_fails(host):
    define(host, restart={"policy": "always"}, stop={"timeout": 1}, readiness={**CONSOLE, "timeout": "1s", "onTimeout": "fail"})
    run = host.ctl("start", "--wait=ready", "web")
    assert run.returncode == 1 and "took too long" in run.stderr, run.stderr
    wait_for("its end", lambda: host.vm("web", "State") == "failed")
    assert host.vm("web", "Result") == "timeout", host.vm("web", "Result")
    assert "given up" in host.vm("web", "StateReason")


def test_wait_ends_with_the_run(host):
    define(host, readiness=CONSOLE)
    with starting(host) as process:
        wait_for("it runs", lambda: host.vm("web", "State") == "running")
        assert host.vm("web", "Job") > 0
        host.ctl("stop", "--force", "web")
        assert process.wait(60) == 1
        assert "a later stop took its place" in process.stderr.read()
    start(host)
    before = host.vm("web", "Generation")
    with starting(host, "restart") as process:
        wait_for("it runs anew", lambda: host.vm("web", "Generation") not in ("", before) and host.vm("web", "State") == "running"
                 and readiness(host) == "waiting" and host.vm("web", "Job") > 0)
        says(host, "guest: ready\n")
        wait_for("ready", lambda: readiness(host) == "ready")


def test_what_there_is_to_wait_for(host):
    define(host, readiness={"type": "none"})
    run = host.ctl("start", "--wait=ready", "web")
    assert run.returncode == 1 and 'has no "readiness"' in run.stderr, run.stderr
    assert host.vm("web", "State") == "inactive"
    assert host.ctl("start", "--wait=running", "web").returncode == 0
    assert host.ctl("start", "--wait=gone", "web").returncode == 2
    error = host.error("/org/microvm1/vm/web", VM, "Start", "a{sv}", "1", "wait", "s", "gone")
    assert '"running" or "ready"' in error, error
    define(host, readiness=CONSOLE)
    run = host.ctl("start", "--wait=ready", "web")
    assert run.returncode == 1 and 'web runs with has no "readiness"' in run.stderr, "what runs has none"


def test_after_one_that_is_ready(host):
    define(host, "db", readiness={**CONSOLE, "timeout": "1s"})
    define(host, after=["db:ready"], requires=["db"])
    with subprocess.Popen([CTL, "--bus", host.address, "start", "web"]) as process:
        wait_for("db is late", lambda: readiness(host, "db") == "timed-out")
        assert host.vm("web", "State") == "waiting", "it is not ready, late or not"
        assert "waits for db to be ready: not ready within 1s" in host.vm("web", "StateReason"), host.vm("web", "StateReason")
        says(host, "guest: ready\n", "db")
        assert process.wait(60) == 0
    assert host.vm("web", "State") == "running"


@only("direct")
def test_what_is_refused(host):
    for readiness_keys, words in (
            ({"type": "tcp", "port": 80}, "nothing leads from the host to the guest's port 80"),
            ({"type": "http"}, 'type "http" needs "port"'),
            ({"type": "console", "pattern": "(a"}, "this is no regular expression"),
            ({"type": "console", "pattern": "(a)\\1"}, "back-references"),
            ({"type": "console"}, 'needs "pattern"'),
            ({"type": "command", "command": ["true"]}, "an absolute path"),
    ):
        define(host, readiness=readiness_keys)
        assert words in host.vm("web", "DefinitionError"), host.vm("web", "DefinitionError")


@only("direct")  # to a canary, a driver is like another
def test_canary_that_is_never_ready(host):
    define(host, readiness=CONSOLE)
    start(host)
    says(host, "guest: ready\n")
    define(host, vcpu=2, readiness={**CONSOLE, "timeout": "1s"})
    run = host.ctl("apply", "--restart", "--canary=1ms", "--yes")
    assert run.returncode == 1, run
    assert "it did not become ready" in run.stdout + run.stderr, run
    assert host.vm("web", "VCPUs") == 1 and host.vm("web", "State") == "running", "it is rolled back"


@only("direct")  # likewise
def test_canary_that_is_restarted_for_it(host):
    define(host, readiness=CONSOLE)
    start(host)
    define(host, vcpu=2, stop={"timeout": 1}, readiness={**CONSOLE, "timeout": 0, "onTimeout": "restart"})
    run = host.ctl("apply", "--restart", "--canary=60s", "--yes")
    assert run.returncode == 1 and "it runs again with the one that it had" in run.stdout + run.stderr, run
    assert host.vm("web", "VCPUs") == 1


@only("direct")  # libvirt's test driver forgets its domains with the daemon
def test_readiness_survives_the_daemon(host):
    define(host, readiness={**CONSOLE, "timeout": "3s"})
    start(host)
    says(host, "Linux\n")
    wait_for("its kernel", lambda: host.vm("web", "KernelTimestamp") > 0)
    kernel = host.vm("web", "KernelTimestamp")
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    assert host.vm("web", "KernelTimestamp") == kernel
    wait_for("it is late", lambda: readiness(host) == "timed-out")
    host.stop(signal.SIGKILL)
    says(host, "guest: ready\n")
    direct.start_daemon(host)
    wait_for("ready", lambda: readiness(host) == "ready")
    since = host.vm("web", "ReadyTimestamp")
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    assert readiness(host) == "ready" and host.vm("web", "ReadyTimestamp") == since
    assert "a line on its console matched" in reason(host)


@only("direct")  # libvirt's test driver forgets its domains with the daemon
def test_paused_time_does_not_count(host):
    define(host, readiness={**CONSOLE, "timeout": "6s"})
    start(host)
    host.ctl("pause", "web")
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    time.sleep(6.5)
    assert host.vm("web", "State") == "paused" and readiness(host) == "waiting"
    host.ctl("resume", "web")
    wait_for("it is late", lambda: readiness(host) == "timed-out")


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), {"direct": direct.make_host, "libvirt": make_libvirt_host}, direct.stop_all))
