#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is left over of microVMs is found, and removed by the next daemon: the driver "direct" with fake-qemu.py. Prints TAP."""

import json
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import direct  # noqa: E402
from harness import run_tests, tests_of, wait_for  # noqa: E402


def make_host():
    host = direct.make_host()
    os.symlink(shutil.which("mkfs.ext4", path="/usr/sbin:/sbin"), host.path("bin/mkfs.ext4"))
    return host


def leaks(host):
    run = host.ctl("--json=short", "leaks")
    found = json.loads(run.stdout)
    assert run.returncode == (1 if found else 0), run
    return [(leak["Kind"], leak["What"], leak["MicroVM"], leak["Remedy"]) for leak in found]


def again(host):
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)


def make(host, name, text="x"):
    path = host.path(name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return path


def test_none(host):
    run = host.ctl("leaks")
    assert run.returncode == 0 and run.stdout == "Nothing is left over.\n", run
    direct.start(host)
    assert leaks(host) == [], "what runs has a right to what it has"
    again(host)
    assert leaks(host) == []
    assert host.ctl("stop", "web").returncode == 0
    assert leaks(host) == []


def test_files(host):
    direct.start(host, volumes=[{"image": "data.img", "size": 1}])
    assert host.ctl("stop", "web").returncode == 0
    paths = [make(host, "run/vm/web/credential-of-a-former-one"), make(host, "run/vm/nobody/initrd"), make(host, "state/vm/web/data.img.partial")]
    make(host, "run/vm/web/odd/deep")
    make(host, "run/daemon/define.abc/x")
    make(host, "state/vm/former/data.img")  # a volume that was kept is none
    found = leaks(host)
    assert sorted(found) == sorted([("file", path, "nobody" if "nobody" in path else "web", f"rm -r {path}")
                                    for path in [*paths, host.path("run/vm/web/odd")]]), found
    assert "rm -r " + paths[0] in host.ctl("leaks").stdout
    again(host)
    assert leaks(host) == [], host.read_log()
    assert not os.path.exists(host.path("run/daemon/define.abc"))
    assert os.path.exists(host.path("run/vm/web/record.json")) and os.path.exists(host.path("state/vm/web/data.img"))
    assert f"Removed the file {paths[0]}, which was left over" in host.read_log()


def test_helper(host):
    """A program that was run for a microVM does not end by itself, and its microvmd is killed."""
    direct.start(host, readiness={"type": "command", "command": ["/bin/sh", "-c", "sleep 1000; true"]})
    helpers = lambda: set(subprocess.run(["pgrep", "-f", "sleep 1000"], capture_output=True, text=True).stdout.split())  # noqa: E731
    mine = lambda: {pid for pid in helpers() if f"MICROVMD_RUN={host.path('run')}/" in direct.read(f"/proc/{pid}/environ")}  # noqa: E731
    first = wait_for("the program and what it starts", lambda: len(mine()) == 2 and mine())
    again(host)
    wait_for("another one", lambda: len(mine()) == 2 and not mine() & first)
    assert host.vm("web", "State") == "running"
    assert host.ctl("stop", "web").returncode == 0
    wait_for("their end", lambda: not mine())
    assert leaks(host) == []


def test_process(host):
    """All that is known of it was lost, and another one of that name started: it is shown, not killed."""
    pid = direct.start(host)
    again(host)
    host.stop(signal.SIGKILL)
    shutil.rmtree(host.path("run/vm/web"))
    direct.start_daemon(host)
    found = leaks(host)
    assert [(leak[0], leak[1].split()[0], leak[2], leak[3]) for leak in found] == [("process", str(pid), "web", f"kill {pid}")], found
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: leaks(host) == [])


def test_users(host):
    if os.geteuid() != 0:
        return
    pid = direct.start(host, volumes=[{"image": "data.img", "size": 1}])
    uid = os.stat(f"/proc/{pid}").st_uid
    link = host.path(f"state/uids/{uid}")
    assert host.ctl("stop", "web").returncode == 0
    assert host.ctl("remove", "--yes", "web").returncode == 0
    assert os.readlink(link) == "web", "its files are its own still"
    assert leaks(host) == []
    direct.start(host, volumes=[{"image": "data.img", "size": 1}])
    assert host.ctl("stop", "web").returncode == 0
    run = host.ctl("remove", "--yes", "--purge", "web")
    assert run.returncode == 0, run.stderr
    assert os.readlink(link) == "-", "given back with the last file"
    os.symlink("gone", host.path("state/uids/1900000007"))
    found = leaks(host)
    assert found == [("user", "1900000007", "gone", "ln -sfT - " + host.path("state/uids/1900000007"))], found
    again(host)
    assert leaks(host) == [] and os.readlink(host.path("state/uids/1900000007")) == "-"


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host, direct.stop_all))
