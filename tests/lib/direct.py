# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver "direct" with hypervisors that are none (tests/bus/fake-qemu.py): what its suites share."""

import glob
import os
import shutil

from harness import SOURCE, Host, wait_for

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


def define(host, fake="", name="web", **keys):
    host.define(name, accel="tcg", kernelParams=("fake=" + fake).split(), **{"restart": {"policy": "no"}, **keys})
    host.reload()


def state(host):
    return host.vm("web", "State")


def is_in(host, state, name="web"):
    wait_for(f"{name} to be {state}", lambda: host.vm(name, "State") == state)


def start(host, fake="", name="web", **keys):
    define(host, fake, name, **keys)
    run = host.ctl("start", name)
    assert run.returncode == 0, run.stderr
    return host.vm(name, "MainPID")


def fails(host, *words):
    run = host.ctl("start", "web")
    assert run.returncode == 1, run
    for word in words:
        assert word in run.stderr, run.stderr
    assert state(host) == "failed", state(host)
    leaves_nothing(host)


def left(host):
    """Files and processes of a run."""
    processes = [pid for pid in os.listdir("/proc") if pid.isdigit() and host.dir in read(f"/proc/{pid}/cmdline")
                 and QEMU in read(f"/proc/{pid}/cmdline")]
    return processes + [os.path.basename(path) for path in glob.glob(host.path("run/vm/web/*")) if not path.endswith("record.json")]


def leaves_nothing(host):
    """Its state is told before its files are removed."""
    wait_for("all of it to be gone", lambda: left(host) == [])


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def is_gone(pid):
    stat = read(f"/proc/{pid}/stat")
    return not stat or stat.rsplit(")", 1)[1].split()[0] == "Z"


def stop_all(host):
    """What still runs outlives the daemon, and would outlive the test."""
    host.ctl("stop", "--all", "--force")
