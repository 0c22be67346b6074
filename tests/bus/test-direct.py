#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver "direct" with hypervisors that behave and misbehave (fake-qemu.py): starts, ends, adoption. Prints TAP."""

import glob
import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from direct import QEMU, define, fails, is_gone, leaves_nothing, make_host, read, start, start_daemon, state, stop_all  # noqa: E402
from harness import QmpClient, run_tests, tests_of, wait_for  # noqa: E402


def test_lives_and_stops(host):
    pid = start(host)
    assert host.vm("web", "Driver") == "direct" and not is_gone(pid)
    assert host.ctl("pause", "web").returncode == 0 and state(host) == "paused"
    assert host.ctl("resume", "web").returncode == 0 and state(host) == "running"
    assert host.ctl("stop", "web").returncode == 0
    assert host.vm("web", "LastStop") == "clean" and "shut itself down" in host.vm("web", "StateReason")
    wait_for("its end", lambda: is_gone(pid))
    leaves_nothing(host)


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


def test_a_fork_is_no_unit(host):
    start(host)
    assert host.vm("web", "Unit") == ""
    assert "invocationId" not in read(host.path("run/vm/web/hypervisor.json"))
    assert "Sandbox: none (launcher fork)" in host.ctl("status", "web").stdout, "whatever its definition says"
    host.ctl("stop", "--force", "web")
    assert "Sandbox" not in host.ctl("status", "web").stdout


def test_launchers(host):
    run = subprocess.run(host.argv("--launcher", "nonsense"), capture_output=True, text=True)
    assert run.returncode == 2 and "not one of auto, systemd, fork" in run.stderr, run
    if os.path.isdir("/run/systemd/system"):
        return
    run = subprocess.run(host.argv("--launcher", "systemd"), capture_output=True, text=True)
    assert run.returncode == 2 and "not booted with systemd; use auto or fork" in run.stderr, run


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
    assert host.vm("web", "Result") == "exit-code"
    leaves_nothing(host)


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
    deadline = time.monotonic() + 600  # the disk decides
    ended = lambda: any(read(path).endswith("flooded\n") for path in (log, log + ".0"))  # noqa: E731
    while not ended() and time.monotonic() < deadline:
        before = time.monotonic()
        assert state(host) == "running"
        slowest = max(slowest, time.monotonic() - before)
        peak = max(peak, used(host.path("state/vm/web")))
        time.sleep(0.02)
    assert ended(), "the flood does not end"
    assert peak < 600 << 20, f"{peak >> 20} MiB of the disk for a gigabyte of logs"
    print(f"# {peak >> 20} MiB at most, the slowest answer took {slowest:.2f} s")
    assert slowest < 30, f"it answered after {slowest:.1f} s"
    wait_for("the last cut", lambda: all(os.path.getsize(path) <= 2 << 20 for path in glob.glob(host.path("state/vm/web/*.log"))))
    # A part may hold what came while it was noticed, and while it was copied.
    parts = [os.path.getsize(path) >> 20 for path in glob.glob(host.path("state/vm/web/*.log.*"))]
    assert parts and max(parts) <= 6, parts
    logs = lambda: sorted(os.path.basename(path) for path in glob.glob(host.path("state/vm/web/*.log*")))  # noqa: E731
    wait_for("the last log to be moved on", lambda: logs() == [
        "console.log", "console.log.0", "console.log.1", "console.log.2", "hypervisor.log", "hypervisor.log.0"])
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


def test_image_that_is_gone(host):
    os.makedirs(host.path("state/vm/web"))
    host.write("look.img", "x" * 4096)
    start(host, volumes=[{"image": host.path("look.img")}])
    host.ctl("stop", "web")
    os.unlink(host.path("look.img"))
    fails(host, "look.img")


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
    assert state(host) == "failed"
    leaves_nothing(host)
    assert not os.path.exists(seen + host.path("state/vm/web/data.img")), "half an image stays"


def test_no_room_for_its_kernel(host):
    seen = restart(host, small(host.runtime, "64k"))
    host.write("large", "k" * 100000)
    host.kernel = host.path("large")
    define(host)
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "No space left on device" in run.stderr, run.stderr
    assert state(host) == "failed"
    wait_for("all of it to be gone", lambda: os.listdir(seen + host.runtime + "/vm/web") == ["record.json"])
    host.write("large", "k")  # and with room again
    host.reload()
    run = host.ctl("start", "web")
    assert run.returncode == 0 and state(host) == "running", run.stderr


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


def start_that_halts(host):
    define(host, "halts")
    assert host.ctl("start", "--no-block", "web").returncode == 0
    wait_for("a hypervisor", lambda: os.path.exists(host.path("run/vm/web/hypervisor.json")))
    pid = json.loads(read(host.path("run/vm/web/hypervisor.json")))["pid"]
    wait_for("it to halt", lambda: read(f"/proc/{pid}/stat").rsplit(")", 1)[-1].split()[:1] == ["T"])
    return pid


def test_stopped_by_force_before_it_has_answered(host):
    """Not only when it is given up, a minute later."""
    pid = start_that_halts(host)
    begin = time.monotonic()
    assert host.ctl("stop", "--force", "web").returncode == 0
    assert time.monotonic() - begin < 40
    assert is_gone(pid) and state(host) == "inactive" and host.vm("web", "Result") == "success", host.vm("web", "StateReason")
    assert host.vm("web", "StateReason").startswith("stopped by force"), host.vm("web", "StateReason")
    leaves_nothing(host)


def found_before_it_answers(host):
    """Its number, and a daemon that came after the one that has started it."""
    pid = start_that_halts(host)
    host.stop(signal.SIGKILL)
    start_daemon(host)
    wait_for("it to be found", lambda: host.vm("web", "MainPID") == pid)
    assert state(host) == "starting", state(host)
    assert "waiting for it to say that the guest runs" in host.vm("web", "StateReason")
    return pid


def test_adopted_before_it_has_answered(host):
    pid = found_before_it_answers(host)
    os.kill(pid, signal.SIGCONT)
    wait_for("it runs", lambda: state(host) == "running")
    host.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGSTOP)  # it does not answer, and has
    start_daemon(host)
    wait_for("it to be found", lambda: host.vm("web", "MainPID") == pid)
    assert state(host) == "running", state(host)
    os.kill(pid, signal.SIGCONT)
    assert host.ctl("stop", "web").returncode == 0


def test_ends_before_it_has_answered(host):
    os.kill(found_before_it_answers(host), signal.SIGKILL)
    wait_for("its end", lambda: state(host) == "failed")
    assert "started by an earlier microvmd" in host.vm("web", "StateReason"), host.vm("web", "StateReason")
    leaves_nothing(host)


def test_adopted_whatever_tells_others_ready(host):
    """"command.ready" is for a hypervisor that can't say that its guest runs: a warning in another's definition, and no more."""
    pid = start(host, command={"ready": ["/bin/false"]})
    host.stop(signal.SIGKILL)
    path = host.path("run/vm/web/hypervisor.json")
    record = json.loads(read(path))
    assert "ready" not in record, record
    host.write("run/vm/web/hypervisor.json", json.dumps({**record, "ready": ["/bin/false"]}))
    os.kill(pid, signal.SIGSTOP)  # it does not answer when it is found
    start_daemon(host)
    wait_for("it to be found", lambda: host.vm("web", "MainPID") == pid)
    assert state(host) == "running", state(host)
    run = host.ctl("kill", "-s", "CONT", "web")
    assert run.returncode == 0, run.stderr
    assert host.ctl("stop", "web").returncode == 0


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


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host, stop_all))
