#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver "direct" with hypervisors that behave and misbehave (fake-qemu.py). Prints TAP."""

import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import CTL, MANAGER, SOURCE, VM, Host, QmpClient, run_tests, tests_of, wait_for  # noqa: E402

QEMU = "qemu-system-x86_64"


def make_host():
    host = Host("test:///default", "direct")
    os.mkdir(host.path("bin"))
    shutil.copy(os.path.join(SOURCE, "tests/bus/fake-qemu.py"), host.path("bin/" + QEMU))
    os.chmod(host.path("bin/" + QEMU), 0o755)
    start_daemon(host)
    return host


def start_daemon(host):
    before = os.environ["PATH"]
    os.environ["PATH"] = host.path("bin") + ":/usr/bin:/bin"
    try:
        host.start()
    finally:
        os.environ["PATH"] = before


def define(host, fake="", **keys):
    host.define("web", accel="tcg", kernelParams=("fake=" + fake).split(), **{"restart": {"policy": "no"}, **keys})
    host.reload()


def state(host):
    return host.vm("web", "State")


def start(host, fake="", **keys):
    define(host, fake, **keys)
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    return host.vm("web", "MainPID")


def fails(host, *words):
    run = host.ctl("start", "web")
    assert run.returncode == 1, run
    for word in words:
        assert word in run.stderr, run.stderr
    assert state(host) == "failed", state(host)
    assert left(host) == [], left(host)


def left(host):
    """Files and processes of a run."""
    processes = [pid for pid in os.listdir("/proc") if pid.isdigit() and host.dir in read(f"/proc/{pid}/cmdline")
                 and QEMU in read(f"/proc/{pid}/cmdline")]
    return processes + [os.path.basename(path) for path in glob.glob(host.path("run/vm/web/*")) if not path.endswith("record.json")]


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def is_gone(pid):
    stat = read(f"/proc/{pid}/stat")
    return not stat or stat.rsplit(")", 1)[1].split()[0] == "Z"


def test_lives_and_stops(host):
    pid = start(host)
    assert host.vm("web", "Driver") == "direct" and not is_gone(pid)
    assert host.ctl("pause", "web").returncode == 0 and state(host) == "paused"
    assert host.ctl("resume", "web").returncode == 0 and state(host) == "running"
    assert host.ctl("stop", "web").returncode == 0
    assert host.vm("web", "LastStop") == "clean" and "shut itself down" in host.vm("web", "StateReason")
    wait_for("its end", lambda: is_gone(pid))
    assert left(host) == [], left(host)


def test_each_has_a_user(host):
    if os.geteuid() != 0:
        return
    pid = start(host)
    uid = os.stat(f"/proc/{pid}").st_uid
    assert 1900000000 <= uid < 1900065536, uid
    assert os.readlink(host.path(f"state/uids/{uid}")) == "web"
    status = read(f"/proc/{pid}/status")
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status, status
    assert os.stat(host.path("state/vm/web/console.log")).st_uid == uid
    assert os.stat(host.path("vmlinuz")).st_uid == 0


def test_a_sandbox_that_is_loosened(host):
    start(host)
    assert host.vm("web", "Loosened") == []
    define(host, sandbox={"network": False, "systemCalls": False})
    assert host.vm("web", "Loosened") == [], "what it runs with"
    assert host.ctl("restart", "web").returncode == 0
    assert host.vm("web", "Loosened") == ["network", "systemCalls"]
    define(host, driver="libvirt", sandbox={"network": False})
    error = host.vm("web", "DefinitionError")
    assert "loosening the sandbox" in error and '"driver": "direct", which can' in error, error
    assert host.vm("web", "Loosened") == ["network", "systemCalls"]


def test_not_installed(host):
    define(host)
    os.unlink(host.path("bin/" + QEMU))
    if not any(os.path.exists(f"{folder}/{QEMU}") for folder in ("/usr/bin", "/bin")):
        fails(host, f"{QEMU} is not installed")
    host.write("bin/" + QEMU, "#!/nonexistent/interpreter\n")
    os.chmod(host.path("bin/" + QEMU), 0o755)
    fails(host, f"bin/{QEMU} can't be executed: No such file or directory")


def test_exits_at_once(host):
    define(host, "exit")
    fails(host, "exited with status 1: fake: -device nonsense: no such device")


def test_dies_in_the_middle_of_its_greeting(host):
    define(host, "dies")
    fails(host, "killed by SIGSEGV")


def test_is_no_qemu(host):
    define(host, "garbage")
    fails(host, "what it says is not QEMU's protocol")


def test_ends_with_an_error(host):
    start(host, "code")
    wait_for("its end", lambda: state(host) == "failed")
    assert "exited with status 3: fake: the disk has gone" in host.vm("web", "StateReason")
    assert host.vm("web", "Result") == "exit-code" and left(host) == [], left(host)


def used(directory):
    """Bytes on the disk; what is rotated meanwhile may be gone."""
    total = 0
    for entry in os.scandir(directory):
        try:
            total += entry.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def test_fills_its_logs(host):
    start(host, "floods")
    log, peak, slowest = host.path("state/vm/web/console.log"), 0, 0
    deadline = time.monotonic() + 240  # the disk decides
    ended = lambda: any(read(path).endswith("flooded\n") for path in (log, log + ".0"))  # noqa: E731
    while not ended() and time.monotonic() < deadline:
        before = time.monotonic()
        assert state(host) == "running"
        slowest = max(slowest, time.monotonic() - before)
        peak = max(peak, used(host.path("state/vm/web")))
        time.sleep(0.02)
    assert ended(), "the flood does not end"
    assert peak < 300 << 20, f"{peak >> 20} MiB of the disk for a gigabyte of logs"
    print(f"# {peak >> 20} MiB at most, the slowest answer took {slowest:.2f} s")
    assert slowest < 5, f"it answered after {slowest:.1f} s"
    wait_for("the last cut", lambda: used(host.path("state/vm/web")) < 17 << 20)
    assert sorted(os.path.basename(path) for path in glob.glob(host.path("state/vm/web/*.log*"))) == [
        "console.log", "console.log.0", "console.log.1", "console.log.2", "hypervisor.log", "hypervisor.log.0"]
    assert host.ctl("stop", "web").returncode == 0


def test_killed(host):
    pid = start(host)
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: state(host) == "failed")
    assert "killed by SIGKILL" in host.vm("web", "StateReason")


def test_terminated_by_somebody(host):
    pid = start(host)
    os.kill(pid, signal.SIGTERM)
    wait_for("its end", lambda: state(host) == "failed")
    assert "ended by a signal from the host" in host.vm("web", "StateReason")


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
        assert left(host) == [], left(host)


def stop_by_agent(host, how, steps, **stop):
    start(host, f"term agent={how}", stop={"steps": steps, "timeout": "5min", **stop})
    before = time.monotonic()
    assert host.ctl("stop", "web").returncode == 0
    assert left(host) == [], left(host)
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
        assert took > 1 and "(SIGTERM ended it after" in reason and "; the guest's agent had not for 1." in reason, (took, reason)


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
    assert host.vm("web", "LastStop") == "clean" and "(the guest's agent ended it after" in host.vm("web", "StateReason")


def test_a_step_that_is_newer_than_the_run(host):
    """It has no port for an agent yet."""
    start(host, "term")
    define(host, "term", stop={"steps": ["agent", "term"], "timeout": "5min"})
    assert host.ctl("stop", "web").returncode == 0
    assert "(SIGTERM ended it after" in host.vm("web", "StateReason"), host.vm("web", "StateReason")


def test_vsock(host):
    """QEMU gets it as a descriptor, or is not started."""
    define(host, vsock={"cid": 4242})
    if not os.path.exists("/dev/vhost-vsock"):
        fails(host, '"vsock": /dev/vhost-vsock can\'t be opened: No such file or directory; load the module vhost_vsock')
        return
    assert host.ctl("start", "web").returncode == 0
    pid = host.vm("web", "MainPID")
    number = read(f"/proc/{pid}/cmdline").split("guest-cid=4242,vhostfd=")[1].split("\0")[0]
    assert os.readlink(f"/proc/{pid}/fd/{number}") == "/dev/vhost-vsock"


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


def test_a_new_definition_while_no_daemon_runs_is_a_new_chance(host):
    limits = {"policy": "always", "delay": 0, "startLimit": 1}
    define(host, "exit", restart=limits)
    host.ctl("start", "web")
    wait_for("it to be given up", lambda: host.vm("web", "Result") == "start-limit")
    host.stop(signal.SIGKILL)
    start_daemon(host)
    assert state(host) == "failed", "the same definition is none"
    host.stop(signal.SIGKILL)
    host.define("web", accel="tcg", restart=limits)
    start_daemon(host)
    run = host.ctl("start", "web")
    assert run.returncode == 0 and state(host) == "running", run.stderr


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
    assert 2.5 < time.monotonic() - before < 20 and state(host) == "inactive"
    wait_for("its end", lambda: is_gone(pid))


def test_deaf_to_the_button(host):
    start(host, "mute", stop={"timeout": 1})
    assert host.ctl("stop", "web").returncode == 0
    assert host.vm("web", "Result") == "timeout" and host.vm("web", "LastStop") == "forced"


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
    assert clients[2].is_closed() and clients[0].lines.readline() and left(host) == [], left(host)


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


def accepts(host, path="run/vm/web/qmp.sock"):
    try:
        return QmpClient(host, path)
    except OSError:
        return None


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
        assert not os.path.exists(at) and left(host) == [], left(host)
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
    assert not os.path.exists(path) and left(host) == [], left(host)
    define(host, socket="nowhere/own.sock")
    fails(host, "nowhere/own.sock can't be made: No such file or directory")
    # Its end while nobody watched.
    pid = start(host, socket=path)
    host.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: is_gone(pid))
    start_daemon(host)
    wait_for("the verdict", lambda: state(host) == "failed")
    assert not os.path.exists(path) and left(host) == [], left(host)


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
    assert left(host) == [], left(host)


def test_qmp_that_is_not_answered(host):
    start(host)
    before = time.monotonic()
    run = host.ctl("qmp", "--timeout=1", "web", "hang")
    assert run.returncode == 1 and "QEMU did not answer in time" in run.stderr, run.stderr
    assert 0.9 < time.monotonic() - before < 20 and state(host) == "running"
    waiting = subprocess.Popen([CTL, "--bus", host.address, "qmp", "web", "hang"], stderr=subprocess.PIPE, text=True)
    client = QmpClient(host)
    client.socket.sendall(b'{"execute": "hang"}\n')
    time.sleep(0.2)
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


def test_a_stop_by_qmp_stays(host):
    for command, words in (("system_powerdown", "QMP's system_powerdown"), ("quit", "QMP's quit")):
        start(host, restart={"policy": "always", "delay": 0})
        assert host.ctl("qmp", "web", command).returncode == 0
        wait_for("its end", lambda: state(host) == "inactive")
        assert f"stopped by somebody else ({words})" in host.vm("web", "StateReason"), host.vm("web", "StateReason")
        time.sleep(0.3)
        assert state(host) == "inactive" and host.vm("web", "NRestarts") == 0


def test_stale_sockets(host):
    define(host)
    os.makedirs(host.path("run/vm/web"), exist_ok=True)
    for name in ("control.sock", "console.sock", "qmp.sock"):
        host.write("run/vm/web/" + name, "stale")
    host.write("run/vm/web/hypervisor.json", json.dumps({"pid": os.getpid(), "startTicks": 1, "generation": "0" * 32, "accel": "tcg"}))
    assert host.ctl("start", "web").returncode == 0


def test_adopted(host):
    pid = start(host)
    host.ctl("pause", "web")
    host.stop(signal.SIGKILL)
    host.start()
    wait_for("the adoption", lambda: state(host) == "paused" and host.vm("web", "MainPID") == pid)
    assert host.ctl("resume", "web").returncode == 0
    host.stop(signal.SIGTERM)
    assert not is_gone(pid)
    host.start()
    wait_for("the adoption", lambda: state(host) == "running")
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: state(host) == "failed")
    assert "started by an earlier microvmd" in host.vm("web", "StateReason")


def test_adopted_as_it_is(host):
    """One that was paused is not said to run meanwhile; one that somebody has let go on since is."""
    start(host)
    assert host.ctl("pause", "web").returncode == 0
    host.stop(signal.SIGKILL)
    mark = host.mark_log()
    start_daemon(host)
    assert QmpClient(host).ask("query-status")["status"] == "paused"  # so the daemon has been told, too
    assert state(host) == "paused" and "→" not in host.log_since(mark), host.log_since(mark)
    host.stop(signal.SIGKILL)
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(host.path("run/vm/web/control.sock"))
        control.sendall(b'{"execute": "cont", "id": 1}\n')
        assert json.loads(control.makefile().readline())["id"] == 1
    start_daemon(host)
    wait_for("it runs", lambda: state(host) == "running")


def test_another_process_has_its_number(host):
    pid = start(host)
    host.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: is_gone(pid))
    other = subprocess.Popen(["sleep", "1000"])
    path = host.path("run/vm/web/hypervisor.json")
    record = json.loads(read(path))
    with open(path, "w") as file:
        json.dump({**record, "pid": other.pid}, file)
    host.start()
    wait_for("the verdict", lambda: state(host) == "failed" and host.vm("web", "Result") == "lost")
    host.ctl("stop", "--force", "web")
    assert other.poll() is None
    other.kill()
    other.wait()


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
        assert state(host) == "inactive" and left(host) == [], (state(host), left(host))


def test_image_that_is_gone(host):
    os.makedirs(host.path("state/vm/web"))
    host.write("look.img", "x" * 4096)
    start(host, volumes=[{"image": host.path("look.img")}])
    host.ctl("stop", "web")
    os.unlink(host.path("look.img"))
    fails(host, "look.img")


def test_launchers(host):
    run = subprocess.run(host.argv("--launcher", "nonsense"), capture_output=True, text=True)
    assert run.returncode == 2 and "not one of auto, systemd, fork" in run.stderr, run
    if os.path.isdir("/run/systemd/system"):
        return
    run = subprocess.run(host.argv("--launcher", "systemd"), capture_output=True, text=True)
    assert run.returncode == 2 and "not booted with systemd; use auto or fork" in run.stderr, run


def test_a_fork_is_no_unit(host):
    start(host)
    assert host.vm("web", "Unit") == ""
    assert "invocationId" not in read(host.path("run/vm/web/hypervisor.json"))


def small(path, size):
    """A prefix for the daemon: what it sees at `path` is a file system of that size."""
    return ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o mode=711,size={size} none "$0" && exec "$@"', path)


def restart(host, prefix):
    host.stop()
    before = os.environ["PATH"]
    os.environ["PATH"] = host.path("bin") + ":" + before + ":/usr/sbin:/sbin"
    try:
        host.start(prefix)
    finally:
        os.environ["PATH"] = before
    return f"/proc/{host.daemon.pid}/root"


def test_no_room_for_its_volume(host):
    os.makedirs(host.path("state"))
    seen = restart(host, small(host.path("state"), "64k"))
    define(host, volumes=[{"image": "data.img", "size": 64}])
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "data.img" in run.stderr and "No space left" in run.stderr, run.stderr
    assert state(host) == "failed" and left(host) == [], left(host)
    assert not os.path.exists(seen + host.path("state/vm/web/data.img")), "half an image stays"


def test_no_room_for_its_kernel(host):
    seen = restart(host, small(host.runtime, "64k"))
    host.write("large", "k" * 100000)
    host.kernel = host.path("large")
    define(host)
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "No space left on device" in run.stderr, run.stderr
    assert state(host) == "failed"
    assert [name for name in os.listdir(seen + host.runtime + "/vm/web") if name != "record.json"] == []
    host.write("large", "k")  # and with room again
    host.reload()
    run = host.ctl("start", "web")
    assert run.returncode == 0 and state(host) == "running", run.stderr


def with_clean_end(test):
    def run(host):
        try:
            test(host)
        finally:
            if host.daemon and host.daemon.poll() is None:
                host.ctl("stop", "--all", "--force")
            for pid in [pid for pid in left(host) if pid.isdigit()]:
                os.kill(int(pid), signal.SIGKILL)
    run.__name__ = test.__name__
    return run


if __name__ == "__main__":
    chosen = [test for test in tests_of(sys.modules[__name__]) if len(sys.argv) < 2 or sys.argv[1] in test.__name__]
    sys.exit(run_tests([with_clean_end(test) for test in chosen], make_host))
