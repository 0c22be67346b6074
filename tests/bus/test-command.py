#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hypervisor that microvmd does not know: the driver "direct" with a command of the definition's own. Prints TAP."""

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from direct import stop_all  # noqa: E402
from harness import CTL, Host, run_tests, tests_of, wait_for  # noqa: E402

# A monitor of the simplest kind. The shell stays, so that it hears SIGTERM.
MONITOR = r"""
trap 'echo asked; exit 0' TERM
echo "I am $MICROVM_NAME with $MICROVM_VCPU and $MICROVM_MEM, $MICROVM_ACCEL, as $(id -u)"
[ -z "$MICROVM_KERNEL" ] || echo "kernel $(cat "$MICROVM_KERNEL")"
[ -z "$MICROVM_VOLUME_0" ] || echo written >"$MICROVM_VOLUME_0"
while :; do sleep 0.05; done
"""


def make_host():
    host = Host("test:///default", "direct")
    host.start()
    return host


def define(host, script=MONITOR, ready=None, stop=None, **keys):
    host.write("monitor", script)
    command = {"start": ["/bin/sh", host.path("monitor")]}
    command.update({name: ["/bin/sh", "-c", text] for name, text in (("ready", ready), ("stop", stop)) if text})
    host.define("web", hypervisor="command", accel="tcg", command=command, **{"restart": {"policy": "no"}, **keys})
    host.reload()


def state(host):
    return host.vm("web", "State")


def start(host, *args, **keys):
    define(host, *args, **keys)
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    return host.vm("web", "MainPID")


def read(path):
    with open(path) as file:
        return file.read()


def said(host, words):
    wait_for(words, lambda: words in host.ctl("logs", "web").stdout)


def test_runs_and_is_told(host):
    pid = start(host, vcpu=3, mem=77, volumes=[{"image": "a.img", "size": 1, "autoCreate": True}])
    user = os.stat(f"/proc/{pid}").st_uid
    said(host, f"I am web with 3 and 77, tcg, as {user}")
    said(host, "kernel a kernel")
    assert (user == 0) == (os.geteuid() != 0), user
    wait_for("its image", lambda: open(host.path("state/vm/web/a.img"), "rb").read(8) == b"written\n")
    assert os.stat(host.path("state/vm/web/a.img")).st_uid == user
    assert "qemu" not in host.ctl("status", "web").stdout


def test_console_is_to_be_read(host):
    start(host)
    said(host, "I am")
    run = host.ctl("console", "web")
    assert run.returncode == 1 and "takes no input" in run.stderr and "--read-only" in run.stderr, run
    with subprocess.Popen([CTL, "--bus", host.address, "console", "--read-only", "-n", "10", "web"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True) as reader:
        assert "I am web" in reader.stdout.readline()
        assert host.ctl("stop", "--force", "web").returncode == 0
        assert "asked" in reader.stdout.read()


def test_is_asked_by_a_signal(host):
    start(host)
    said(host, "I am")
    assert host.ctl("stop", "web").returncode == 0
    assert state(host) == "inactive" and host.vm("web", "LastStop") == "clean", host.vm("web", "StateReason")
    assert host.vm("web", "Result") == "success"
    said(host, "asked")


def test_is_asked_by_its_own_program(host):
    start(host, stop='echo "$MICROVM_NAME" >"/proc/$MICROVM_PID/cwd/../dev/null"; kill -TERM "$MICROVM_PID"')
    said(host, "I am")
    assert host.ctl("stop", "web").returncode == 0
    assert state(host) == "inactive" and host.vm("web", "LastStop") == "clean", host.vm("web", "StateReason")


def test_runs_when_it_says_so(host):
    gate = host.path("gate")
    define(host, ready=f'until [ -e {gate} ]; do sleep 0.05; done')
    assert host.ctl("--no-block", "start", "web").returncode == 0
    wait_for("the start", lambda: host.vm("web", "State") == "starting")
    said(host, "I am")
    assert state(host) == "starting"
    host.write("gate", "")
    wait_for("it to run", lambda: state(host) == "running")


def test_a_guest_that_does_not_come_up(host):
    define(host, ready="echo no such guest; exit 3")
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "command.ready" in run.stderr and "status 3" in run.stderr, run.stderr
    assert state(host) == "failed"
    assert "no such guest" in read(host.path("state/vm/web/hypervisor.log"))


def test_ends(host):
    gate = host.path("gate")
    start(host, f"until [ -e {gate} ]; do sleep 0.05; done; exit 0")
    host.write("gate", "")
    wait_for("its end", lambda: state(host) == "inactive")
    assert host.vm("web", "Result") == "success", host.vm("web", "StateReason")
    os.unlink(gate)
    start(host, f"until [ -e {gate} ]; do sleep 0.05; done; echo the last word; exit 5")
    host.write("gate", "")
    wait_for("its end", lambda: state(host) == "failed")
    assert "status 5" in host.vm("web", "StateReason") and "the last word" in host.vm("web", "StateReason")


def test_is_not_there(host):
    host.define("web", hypervisor="command", command={"start": ["/nonexistent/monitor"]}, restart={"policy": "no"})
    host.reload()
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "/nonexistent/monitor can't be executed: No such file" in run.stderr, run.stderr


def test_outlives_the_daemon(host):
    pid = start(host, stop='kill -TERM "$MICROVM_PID"')
    said(host, "I am")
    host.stop(signal.SIGKILL)
    host.start()
    wait_for("it to be found", lambda: state(host) == "running")
    assert host.vm("web", "MainPID") == pid
    for verb, words in (("pause",), "a command"), (("qmp", "query-status"), "a command, which speaks no QMP"):
        run = host.ctl(verb[0], "web", *verb[1:])
        assert run.returncode == 1 and words in run.stderr, run.stderr
    assert host.ctl("stop", "web").returncode == 0
    assert state(host) == "inactive", host.vm("web", "StateReason")


def helps(host):
    """Whether a program of its definition runs beside it."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if "until [ -e" in read(f"/proc/{pid}/cmdline") and host.dir in read(f"/proc/{pid}/cmdline"):
                return True
        except OSError:
            pass
    return False


def die_while_it_starts(host, ready):
    """The daemon, while `ready` runs, which says "asked"; the next one has found the hypervisor, and has asked again."""
    asked = lambda: read(host.path("state/vm/web/hypervisor.log")).count("asked")  # noqa: E731
    define(host, ready="echo asked; " + ready)
    assert host.ctl("--no-block", "start", "web").returncode == 0
    said(host, "I am")
    wait_for("the program to run", lambda: asked() == 1)
    assert state(host) == "starting"
    host.stop(signal.SIGKILL)
    host.start()
    wait_for("it to be found", lambda: host.vm("web", "MainPID") != 0)
    wait_for("the program to run again", lambda: state(host) == "running" or asked() == 2)
    time.sleep(0.3)
    assert state(host) == "starting", state(host)
    return asked


def test_the_next_daemon_waits_for_it_to_run(host):
    gate = host.path("gate")
    asked = die_while_it_starts(host, f"until [ -e {gate} ]; do sleep 0.05; done")
    pid = host.vm("web", "MainPID")
    host.write("gate", "")
    wait_for("it to run", lambda: state(host) == "running")
    # What has come up once is not asked for it any more.
    os.unlink(gate)
    host.stop(signal.SIGKILL)
    host.start()
    wait_for("it to be found", lambda: host.vm("web", "MainPID") == pid)
    time.sleep(0.3)
    assert state(host) == "running" and asked() == 2, (state(host), asked())


def test_the_daemon_dies_at_each_step(host):
    """Wherever that is, nothing runs before the program has said so."""
    gate = host.path("gate")
    define(host, ready=f"until [ -e {gate} ]; do sleep 0.05; done")
    states, died, fault = [], True, 0
    while died:
        fault += 1
        host.stop(signal.SIGKILL)
        os.environ["MICROVMD_FAULT"] = str(fault)
        try:
            host.start()
        finally:
            del os.environ["MICROVMD_FAULT"]
        host.ctl("--no-block", "start", "web")
        wait_for("its death", lambda: host.daemon.poll() is not None or helps(host))
        died = host.daemon.poll() is not None
        host.stop(signal.SIGKILL)
        host.start()
        wait_for("what becomes of it", lambda: state(host) in ("failed", "running") or helps(host))
        states.append(state(host))
        assert states[-1] != "running", (fault, states)
        host.write("gate", "")
        wait_for("an end", lambda: state(host) in ("failed", "running"))
        assert (state(host) == "running") == (states[-1] == "starting"), (fault, states, state(host))
        host.ctl("stop", "--force", "web")
        os.unlink(gate)
    assert fault > 12 and "failed" in states and states[-1] == "starting", states


def test_the_next_daemon_hears_that_it_does_not_come_up(host):
    gate = host.path("gate")
    die_while_it_starts(host, f"until [ -e {gate} ]; do sleep 0.05; done; exit 3")
    host.write("gate", "")
    wait_for("it to be given up", lambda: state(host) == "failed")
    reason = host.vm("web", "StateReason")
    assert "command.ready" in reason and "status 3" in reason, reason


def test_a_stop_of_what_the_next_daemon_waits_for(host):
    die_while_it_starts(host, "sleep 50")
    pid = host.vm("web", "MainPID")
    assert host.ctl("stop", "web").returncode == 0
    assert state(host) == "inactive", host.vm("web", "StateReason")
    wait_for("its end", lambda: not os.path.exists(f"/proc/{pid}/exe"))


def test_gives_no_file_of_others_away(host):
    """Its images become its user's: what a link leads to is somebody else's."""
    os.makedirs(host.path("state/vm/web/sub"))
    os.makedirs(host.path("precious"))
    path = host.path("precious/disk")
    host.write("precious/disk", "a" * 4096)
    before = os.stat(path)
    os.symlink(path, host.path("state/vm/web/a.img"))
    os.symlink(host.path("precious"), host.path("state/vm/web/sub/deep"))
    os.link(path, host.path("state/vm/web/b.img"))
    for image, why in (("a.img", "link"), ("sub/deep/disk", "link"), ("b.img", "another name")):
        define(host, volumes=[{"image": image, "readOnly": image == "b.img"}])
        run = host.ctl("start", "web")
        assert run.returncode == 1 and image in run.stderr and why in run.stderr, (image, run.stderr)
        after = os.stat(path)
        assert (before.st_uid, before.st_gid, before.st_mode) == (after.st_uid, after.st_gid, after.st_mode), image
    assert host.vm("web", "Result") == "resources"


def test_reads_a_read_only_image(host):
    """It may open it by its name, and has no way to write to it."""
    script = r"""
trap 'exit 0' TERM
echo "read $(cat "$MICROVM_VOLUME_0")"
(: >>"$MICROVM_VOLUME_0") 2>/dev/null && echo "written to it" || echo "not written to it"
chmod 666 "$MICROVM_VOLUME_0" 2>/dev/null && echo "opened it up" || echo "not opened up"
while :; do sleep 0.05; done
"""
    os.makedirs(host.path("state/vm/web"))
    host.write("state/vm/web/a.img", "an image")
    define(host, script, volumes=[{"image": "a.img", "readOnly": True}])
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    said(host, "read an image")
    if os.geteuid() == 0:
        said(host, "not written to it")
        said(host, "not opened up")


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host, stop_all))
