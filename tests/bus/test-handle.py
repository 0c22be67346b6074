#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmd-handle, the process of microvmd@NAME.service, and what microvmd says to it; without systemd. Prints TAP."""

import json
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import direct  # noqa: E402
from harness import BUILD, run_tests, tests_of, wait_for  # noqa: E402


def make_host():
    host = direct.make_host()
    host.define("web", accel="tcg", restart={"policy": "on-failure", "delay": "1h", "maxDelay": "1h"})
    host.define("frail", accel="tcg", restart={"policy": "no"})
    host.reload()
    return host


class Handle:
    """Its process, and what it tells systemd. `left`: with the descriptor that the process before it has left there."""

    def __init__(self, host, name, left=False):
        path = host.path(f"notify-{name}")
        if os.path.exists(path):
            os.unlink(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(60)
        self.process = subprocess.Popen(["sh", "-c", '[ -z "$LISTEN_FDS" ] || export LISTEN_PID=$$; exec "$@"', "sh",
                                         os.path.join(BUILD, "microvmd-handle"), "--runtime-dir", host.path("run"), name],
                                        env={**os.environ, "NOTIFY_SOCKET": path, "LISTEN_FDS": "1" if left else ""},
                                        stderr=subprocess.PIPE, text=True)

    def says(self, word):
        """Waits for a message that has it; what else was said meanwhile is returned."""
        said = []
        while True:
            said.append(self.socket.recv(4096).decode())
            if word in said[-1]:
                return said

    def leaves(self):
        """Waits for the descriptor that it has systemd keep."""
        while True:
            text, fds, _, _ = socket.recv_fds(self.socket, 4096, 2)
            for fd in fds:
                os.close(fd)
            if fds:
                assert text == b"FDSTORE=1\nFDNAME=attached" and len(fds) == 1, (text, fds)
                return

    def stop(self):
        self.process.send_signal(signal.SIGTERM)

    def ends(self, code):
        error = self.process.communicate(timeout=60)[1]
        assert self.process.returncode == code, (self.process.returncode, error)
        self.socket.close()
        return error


def state(host, name="web"):
    return host.vm(name, "State")


def kill_hypervisor(host, name):
    os.kill(host.vm(name, "MainPID"), signal.SIGKILL)


def test_starts_and_stops(host):
    handle = Handle(host, "web")
    handle.says("READY=1")
    assert state(host) == "running"
    assert "start, through systemd, as its unit microvmd@web.service" in host.ctl("why", "web").stdout
    handle.stop()
    handle.says("STATUS=stopping")
    assert handle.ends(0) == ""
    assert state(host) == "inactive"
    assert "stop, through systemd" in host.ctl("why", "web").stdout


def test_stops_in_order(host):
    """Who requires it is systemd's to stop; who comes after it stops first all the same."""
    host.define("db", accel="tcg")
    host.define("front", accel="tcg", requires=["db"], after=["db"], kernelParams=["fake=mute"], stop={"timeout": "1h"})
    host.reload()
    handle = Handle(host, "db")
    handle.says("READY=1")
    assert host.ctl("start", "front").returncode == 0
    assert host.ctl("--no-block", "stop", "front").returncode == 0
    handle.stop()
    wait_for("its turn to be waited for", lambda: "front" in host.vm("db", "StateReason"))
    assert state(host, "db") == "running" and state(host, "front") == "stopping"
    assert host.ctl("qmp", "front", json.dumps({"execute": "fake-end", "arguments": {"reason": "guest-shutdown"}})).returncode == 0
    handle.ends(0)
    assert state(host, "db") == "inactive" and state(host, "front") == "inactive"


def test_takes_what_runs(host):
    host.ctl("start", "web")
    pid = host.vm("web", "MainPID")
    handle = Handle(host, "web")
    handle.says("READY=1\nSTATUS=running: ")
    assert host.vm("web", "MainPID") == pid
    host.ctl("stop", "--force", "web")
    handle.ends(0)


def test_ready_when_its_guest_is(host):
    """So that what is ordered after the unit waits for that."""
    host.define("web", accel="tcg", readiness={"type": "notify"})
    host.reload()
    handle = Handle(host, "web")
    handle.says("STATUS=running")
    handle.socket.settimeout(0.5)
    try:
        said = handle.says("READY=1")
        raise AssertionError(f"ready before its guest: {said}")
    except TimeoutError:
        handle.socket.settimeout(60)
    says = {"text": "READY=1\n"}
    assert host.ctl("qmp", "web", json.dumps({"execute": "fake-guest-says", "arguments": says})).returncode == 0
    handle.says("READY=1")
    handle.stop()
    handle.ends(0)


def test_failure_within_the_policy(host):
    handle = Handle(host, "web")
    handle.says("READY=1")
    kill_hypervisor(host, "web")
    said = handle.says("STATUS=backoff")
    assert "RELOADING=1" in said[-1], said
    host.ctl("start", "web")
    handle.says("READY=1")
    host.ctl("restart", "--force", "web")
    handle.says("RELOADING=1")
    handle.says("READY=1")
    handle.stop()
    handle.ends(0)


def test_failure(host):
    handle = Handle(host, "frail")
    handle.says("READY=1")
    kill_hypervisor(host, "frail")
    assert "SIGKILL" in handle.ends(1)
    assert state(host, "frail") == "failed"
    # To start it again is a new wish.
    handle = Handle(host, "frail")
    handle.says("READY=1")
    host.ctl("stop", "--force", "frail")
    handle.ends(0)


def test_daemon_away(host):
    handle = Handle(host, "web")
    handle.says("READY=1")
    pid = host.vm("web", "MainPID")
    for number in (signal.SIGTERM, signal.SIGKILL):
        host.stop(number)
        handle.says("microvmd is away")
        direct.start_daemon(host)
        handle.says("STATUS=running")
        assert host.vm("web", "MainPID") == pid
    # What happened to the microVM meanwhile is no wish to start it.
    host.stop()
    handle.says("microvmd is away")
    os.kill(pid, signal.SIGKILL)
    direct.start_daemon(host)
    handle.says("RELOADING=1")
    assert state(host) == "backoff"
    host.ctl("stop", "web")
    handle.ends(0)
    assert state(host) == "inactive"


def test_stop_while_daemon_is_away(host):
    handle = Handle(host, "web")
    handle.says("READY=1")
    host.stop()
    handle.says("microvmd is away")
    handle.stop()
    direct.start_daemon(host)
    handle.ends(0)
    assert state(host) == "inactive"
    # Nobody is there for long: it says so, and the microVM is what it was.
    handle = Handle(host, "web")
    handle.says("READY=1")
    host.stop()
    handle.says("microvmd is away")
    handle.stop()
    assert "microvmd is not running" in handle.ends(69)
    direct.start_daemon(host)
    assert state(host) == "running"
    host.ctl("stop", "--force", "web")


def test_process_killed(host):
    handle = Handle(host, "web")
    handle.says("READY=1")
    handle.process.kill()
    handle.ends(-signal.SIGKILL)
    assert state(host) == "running"
    handle = Handle(host, "web")
    handle.says("READY=1")
    handle.stop()
    handle.ends(0)


def test_killed_with_what_it_mirrors(host):
    """systemd starts its process again, which is nobody's wish for a microVM that its policy leaves off."""
    for daemon_too in (False, True):
        handle = Handle(host, "frail")
        handle.leaves()
        handle.says("READY=1")
        handle.process.send_signal(signal.SIGSTOP)
        if daemon_too:
            pid = host.vm("frail", "MainPID")
            host.stop(signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
        else:
            kill_hypervisor(host, "frail")
            wait_for("its failure", lambda: state(host, "frail") == "failed")
        handle.process.kill()
        handle.ends(-signal.SIGKILL)
        handle = Handle(host, "frail", left=True)
        if daemon_too:
            direct.start_daemon(host)
        assert "SIGKILL" in handle.ends(1) or daemon_too
        assert state(host, "frail") == "failed"
    # What systemd ends, or what ends by itself, leaves nothing: a start after it is a wish.
    for number in (signal.SIGTERM, signal.SIGKILL):
        handle = Handle(host, "frail")
        handle.leaves()
        handle.says("READY=1")
        if number == signal.SIGTERM:
            handle.stop()
        else:
            kill_hypervisor(host, "frail")
        handle.says("FDSTOREREMOVE=1\nFDNAME=attached")
        handle.ends(0 if number == signal.SIGTERM else 1)


def test_unknown(host):
    assert "No microVM is called nobody" in Handle(host, "nobody").ends(4)
    host.write("vms/broken.json", "{ ")
    host.reload()
    assert "broken.json" in Handle(host, "broken").ends(1)


def test_gone(host):
    handle = Handle(host, "web")
    handle.says("READY=1")
    os.unlink(host.path("vms/web.json"))
    host.reload()
    host.ctl("stop", "--force", "web")
    handle.ends(0)
    wait_for("its end", lambda: "web" not in host.ctl("list").stdout)
    assert "No microVM is called web" in Handle(host, "web").ends(4)


def test_autostart_of_the_definition(host):
    assert host.vm("web", "AutostartSources") == [] and host.vm("web", "RivalUnit") == ""
    host.define("web", accel="tcg", autostart=True)
    host.reload()
    assert host.vm("web", "AutostartSources") == ["definition"] and host.vm("web", "Autostart") is True


def test_foreign_words(host):
    """Root's, but what is said there is looked at all the same."""
    folder = host.path("run/daemon/handles")
    assert os.stat(folder).st_mode & 0o777 == 0o700
    for number, word in enumerate((b"stop", b"attach ", b"attach ../../etc", b"x" * 4095, b"\0", b"ready web\0stop")):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.settimeout(60)
        server.bind(f"{folder}/.{number}")
        server.listen()
        os.rename(f"{folder}/.{number}", f"{folder}/{number}")
        client = server.accept()[0]
        client.settimeout(60)
        client.send(word)
        assert client.recv(4096)
        client.close()
        server.close()
    assert state(host) == "inactive"


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
