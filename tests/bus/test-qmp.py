#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver "direct" with hypervisors that behave and misbehave (fake-qemu.py): what is said to them, and by them. Prints TAP."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from direct import define, fails, is_gone, leaves_nothing, make_host, read, start, start_daemon, state, stop_all  # noqa: E402
from harness import CTL, VM, QmpClient, run_tests, tests_of, wait_for  # noqa: E402


def test_refuses(host):
    start(host, "refuses")
    run = host.ctl("pause", "web")
    assert run.returncode == 1 and "it can't be paused now" in run.stderr, run.stderr
    assert state(host) == "running"


def test_closes_its_control_socket(host):
    """It goes on without; only an end by force is possible then."""
    pid = start(host, "closes", stop={"timeout": 1})
    assert state(host) == "running" and not is_gone(pid)
    assert host.ctl("stop", "web").returncode == 0
    assert host.vm("web", "LastStop") == "forced", host.vm("web", "StateReason")


def test_shared_with_many(host):
    start(host)
    path = host.path("run/vm/web/qmp.sock")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and os.stat(path).st_uid == os.geteuid()
    clients = [QmpClient(host) for _ in range(3)]
    for number, client in enumerate(clients):
        assert client.ask("query-status", id=f"client-{number}") == {"status": "running", "running": True}
    assert clients[0].ask("stop") == {}
    for client in clients:
        client.wait_for("STOP")
    wait_for("the pause", lambda: state(host) == "paused")
    assert host.ctl("resume", "web").returncode == 0 and state(host) == "running"
    for client in clients:
        client.wait_for("RESUME")
    clients[1].socket.sendall(b'{"execute": "query-status"}\n')
    clients[1].socket.close()
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "LastStop") == "clean"
    clients[2].wait_for("SHUTDOWN")
    assert clients[2].is_closed() and clients[0].lines.readline()
    leaves_nothing(host)


def accepts(host, path="run/vm/web/qmp.sock"):
    try:
        return QmpClient(host, path)
    except OSError:
        return None


def test_shared_again_after_a_restart(host):
    start(host)
    for number in (signal.SIGKILL, signal.SIGTERM):
        client = QmpClient(host)
        host.stop(number)
        assert client.is_closed()
        assert os.path.exists(host.path("run/vm/web/qmp.sock")) == (number == signal.SIGKILL)
        host.start()
        wait_for("the socket", lambda: state(host) == "running" and accepts(host))
        assert QmpClient(host).ask("query-status")["status"] == "running"


def test_socket_of_its_own(host):
    """Another path for the same; what microvmd has not made there is neither used nor removed."""
    path = host.path("control.sock")
    for wanted, at in ((path, path), ("own.sock", host.path("state/vm/web/own.sock"))):
        start(host, socket=wanted)
        assert stat.S_IMODE(os.stat(at).st_mode) == 0o600
        client, other = QmpClient(host, at), QmpClient(host)
        assert client.ask("stop") == {}
        other.wait_for("STOP")
        for number in (signal.SIGKILL, signal.SIGTERM):
            host.stop(number)
            assert os.path.exists(at) == (number == signal.SIGKILL), "who can't be reached has no socket"
            start_daemon(host)
            wait_for("the socket", lambda: accepts(host, at))
        assert QmpClient(host, at).ask("cont") == {}
        assert host.ctl("stop", "web").returncode == 0
        leaves_nothing(host)
        wait_for("the socket to be gone", lambda: not os.path.exists(at))  # noqa: B023
    host.write("control.sock", "precious")
    define(host, socket=path)
    fails(host, '"socket": there is a file already at ' + path)
    assert read(path) == "precious"
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as somebody:
        somebody.bind(path)
        somebody.listen()
        fails(host, '"socket": somebody listens at ' + path)
        assert os.path.exists(path)
    start(host, socket=path)  # it was left behind
    assert QmpClient(host, path).ask("query-status")["status"] == "running"
    os.kill(host.vm("web", "MainPID"), signal.SIGKILL)
    wait_for("its end", lambda: state(host) == "failed")
    leaves_nothing(host)
    wait_for("the socket to be gone", lambda: not os.path.exists(path))
    define(host, socket="nowhere/own.sock")
    fails(host, "nowhere/own.sock can't be made: No such file or directory")
    # Its end while nobody watched.
    pid = start(host, socket=path)
    host.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: is_gone(pid))
    start_daemon(host)
    wait_for("the verdict", lambda: state(host) == "failed")
    leaves_nothing(host)
    wait_for("the socket to be gone", lambda: not os.path.exists(path))


def test_who_asks_and_leaves_the_rest_unread(host):
    """The daemon and the others do not wait for one that does not read."""
    start(host)
    deaf, client = QmpClient(host), QmpClient(host)
    deaf.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while deaf.socket.send(b'{"execute": "query-status"}\n' * 1000):
            pass
    assert client.ask("query-status")["status"] == "running"
    assert host.ctl("pause", "web").returncode == 0 and state(host) == "paused"


def test_qmp(host):
    define(host)
    run = host.ctl("qmp", "web", "query-status")
    assert run.returncode == 1 and "web is inactive: there is nothing to ask" in run.stderr, run
    start(host)
    run = host.ctl("qmp", "web", "query-status")
    assert run.returncode == 0 and run.stdout == '{"status": "running", "running": true}\n', run
    assert host.ctl("--json=pretty", "qmp", "web", '{"execute": "stop"}').stdout == "{}\n"
    wait_for("the pause", lambda: state(host) == "paused")
    run = host.ctl("qmp", "web", stdin="cont\n\n { \"execute\": \"query-status\", \"id\": 7 }\nnonsense\nquit\n")
    assert run.returncode == 1 and run.stdout == '{}\n{"status": "running", "running": true}\n', run
    assert "web: CommandNotFound: The command nonsense has not been found" in run.stderr, run.stderr
    run = host.ctl("qmp", "web", "{'execute': 'stop'}")
    assert run.returncode == 1 and "no command for QEMU: JSON parse error" in run.stderr, run.stderr
    for words in ((), ("web", "stop", "now")):
        assert host.ctl("qmp", *words).returncode == 2
    assert host.ctl("qmp", "wbe", "query-status").returncode == 4
    assert "There is no option" in host.error("/org/microvm1/vm/web", VM, "Qmp", "sa{sv}", "{\"execute\": \"stop\"}", "1", "x", "b", "true")
    assert state(host) == "running"
    assert host.ctl("qmp", "web", "quit").returncode == 0
    wait_for("its end", lambda: state(host) == "inactive")
    leaves_nothing(host)


def test_qmp_that_is_not_answered(host):
    start(host)
    before = time.monotonic()
    run = host.ctl("qmp", "--timeout=1", "web", "hang")
    assert run.returncode == 1 and "QEMU did not answer in time" in run.stderr, run.stderr
    assert 0.9 < time.monotonic() - before < 60 and state(host) == "running"
    waiting = subprocess.Popen([CTL, "--bus", host.address, "qmp", "web", "hang"], stderr=subprocess.PIPE, text=True)
    client = QmpClient(host)
    client.socket.sendall(b'{"execute": "hang"}\n')
    wait_for("both to be asked", lambda: read(host.path("state/vm/web/hypervisor.log")).count("fake: hangs") == 3)
    assert host.ctl("stop", "--force", "web").returncode == 0
    text = waiting.communicate()[1]
    assert waiting.returncode == 1 and "the connection to its QEMU has ended" in text, text


def test_qmp_of_what_closed_it(host):
    start(host, "closes", stop={"timeout": 1})
    # At first it may only be about to close it.
    wait_for("what is said of it", lambda: "the connection to the QEMU of web has ended; it goes on without" in
             host.ctl("qmp", "web", "query-status").stderr)
    assert host.ctl("qmp", "web", "query-status").returncode == 1


def test_events_make_states(host):
    """What QEMU tells is what is shown, whoever caused it."""
    start(host)
    for event, data, expected in (("STOP", {}, "paused"), ("RESUME", {}, "running"),
                                  ("GUEST_PANICKED", {"action": "run"}, "running"),
                                  ("RESET", {"guest": True, "reason": "guest-reset"}, "running"),
                                  ("DEVICE_DELETED", {"path": "/x"}, "running"), ("BALLOON_CHANGE", {"actual": 1}, "running"),
                                  ("GUEST_PANICKED", {"action": "pause"}, "running"), ("STOP", {}, "paused")):
        host.ctl("qmp", "web", json.dumps({"execute": "fake-event", "arguments": {"event": event, "data": data}}))
        wait_for(event, lambda: state(host) == expected)
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "Result") == "success"
    for reason, words, result in (("guest-reset", "rebooted", "success"), ("host-qmp-system-reset", "rebooted", "success"),
                                  ("guest-panic", "panic", "guest-panic"), ("host-error", "", "signal"),
                                  ("host-qmp-quit", "stopped by somebody else (QMP's quit)", "success"), ("guest-shutdown", "powered itself off", "success")):
        start(host)
        host.ctl("qmp", "web", json.dumps({"execute": "fake-end", "arguments": {"reason": reason}}))
        wait_for("the end by " + reason, lambda: state(host) in ("inactive", "failed"))
        assert host.vm("web", "Result") == result and words in host.vm("web", "StateReason"), (reason, host.vm("web", "StateReason"))


def test_memory(host):
    path = "/org/microvm1/vm/web"
    mebibyte = 1 << 20
    start(host, mem=256, balloon=True, initialBalloonMem=64)
    def actual():
        return json.loads(host.ctl("qmp", "web", "query-balloon").stdout)["actual"]
    wait_for("the first size", lambda: actual() == 192 * mebibyte)
    assert host.ctl("set-memory", "web", "100").returncode == 0
    assert actual() == 100 * mebibyte and host.vm("web", "MemoryBytes") == 256 * mebibyte
    assert host.vm("web", "MemoryActualBytes") == 100 * mebibyte and "leaves it 100 MiB by now" in host.ctl("status", "web").stdout
    host.stop(signal.SIGKILL)
    start_daemon(host)
    assert host.vm("web", "MemoryActualBytes") == 100 * mebibyte, "it is on record"
    for wrong in (257 * mebibyte, 0):
        assert "can have from 1 to 256 MiB" in host.error(path, VM, "SetMemory", "t", str(wrong))
    assert actual() == 100 * mebibyte
    host.ctl("stop", "web")
    assert host.vm("web", "MemoryActualBytes") == 0
    assert "nothing to give memory to" in host.error(path, VM, "SetMemory", "t", str(mebibyte))
    start(host)
    assert "without a memory balloon" in host.error(path, VM, "SetMemory", "t", str(mebibyte))
    host.ctl("stop", "web")
    start(host, "refuses", mem=256, balloon=True, initialBalloonMem=64)
    wait_for("a word of it", lambda: "could not be told how much to take: No balloon device" in host.read_log())
    assert "No balloon device has been activated" in host.error(path, VM, "SetMemory", "t", str(mebibyte))


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host, stop_all))
