#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Apply with real guests: restarts, a canary that panics and is rolled back, an upgrade, pruning. Prints TAP."""

import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import vm  # noqa: E402
from harness import CTL, wait_for  # noqa: E402


def apply(host, code, *words):
    run = subprocess.run([CTL, "--bus", host.address, "apply", *words], capture_output=True, text=True, timeout=600)
    assert run.returncode == code, f"apply {words}: {run.returncode}\n{run.stdout}{run.stderr}\n{host.ctl('logs', 'web').stdout[-2000:]}"
    return run


def up(host, *names, **keys):
    """Guests that are past their boot: a stop finds an ear."""
    for name in names:
        vm.guest(host, name=name, **keys)
    assert host.ctl("start", *names).returncode == 0
    for name in names:
        vm.said(host, "microvm-guest: ready", name=name)


def test_canary_that_panics_is_rolled_back(host):
    up(host, "other", "web")
    pid = host.vm("web", "MainPID")
    for name in ("other", "web"):
        vm.guest(host, name=name, test="panic=1")
    run = host.ctl("plan")
    assert run.returncode == 10 and "kernelParams" in run.stdout and "2 to restart" in run.stdout, run.stdout
    # A panic takes a boot and a second; emulated, on a busy host, that is long.
    run = apply(host, 1, "--restart", "--canary=3min")
    assert "other: rolled back" in run.stdout and "panicked" in run.stderr and "runs again with the one" in run.stderr, run
    assert "web: not restarted: the canary failed" in run.stdout, run.stdout
    assert host.vm("web", "MainPID") == pid, "nothing else was restarted"
    wait_for("the old one", lambda: vm.state(host, "other") == "running" and vm.console(host, "other").count("microvm-guest: ready"),
             vm.BOOT)
    assert host.vm("other", "OutdatedReasons") == ["definition"]
    # Another daemon finds all that again, and a crash starts the old one again.
    host.stop()
    host.start(vm.HIDE)
    wait_for("the adoption", lambda: host.vm("other", "OutdatedReasons") == ["definition"])
    first = host.vm("other", "MainPID")
    assert host.ctl("kill", "-s", "KILL", "other").returncode == 0
    wait_for("the restart", lambda: vm.state(host, "other") == "running" and host.vm("other", "MainPID") not in (0, first), vm.BOOT)
    assert "rolled back" in host.ctl("plan").stdout
    # Mended, all are restarted.
    for name in ("other", "web"):
        vm.guest(host, name=name, test="count")
    vm.said(host, "microvm-guest: ready", name="other")
    apply(host, 0, "--restart", "--canary=1s", "--max-parallel=2")
    assert host.vm("web", "MainPID") != pid and host.ctl("plan").returncode == 0


def test_nothing_is_stopped_for_a_kernel_that_is_not_there(host):
    up(host, "web")
    pid = host.vm("web", "MainPID")
    host.define("web", kernel="/nonexistent", initrd=vm.GUEST + "/initrd", mem=256, accel="tcg")
    run = apply(host, 1, "--restart", "--canary")
    assert "/nonexistent" in run.stderr and "was not stopped" in run.stderr, run.stderr
    assert vm.state(host) == "running" and host.vm("web", "MainPID") == pid


def test_other_files_survive_the_daemon(host):
    shutil.copy(vm.GUEST + "/vmlinuz", host.path("kernel"))
    vm.guest(host)
    host.define("web", kernel=host.path("kernel"), initrd=vm.GUEST + "/initrd", mem=256, accel="tcg")
    host.reload()
    assert host.ctl("start", "web").returncode == 0
    pid = host.vm("web", "MainPID")
    assert host.ctl("plan").returncode == 0
    shutil.copy(vm.GUEST + "/vmlinuz", host.path("new"))
    os.replace(host.path("new"), host.path("kernel"))
    host.stop()
    host.start(vm.HIDE)
    wait_for("the reason", lambda: host.vm("web", "OutdatedReasons") == ["kernel"])
    with open(host.path("run/vm/web/record.json")) as file:
        hypervisor = json.load(file)["hypervisor"]
    assert hypervisor["path"] == os.readlink(f"/proc/{pid}/exe"), hypervisor
    assert int(hypervisor["inode"]) == os.stat(f"/proc/{pid}/exe").st_ino
    vm.said(host, "microvm-guest: ready")
    apply(host, 0, "--restart")
    assert host.vm("web", "MainPID") == pid
    apply(host, 0, "--restart", "--outdated")
    assert host.vm("web", "MainPID") != pid and host.vm("web", "OutdatedReasons") == []


def test_prune_stops_gracefully_and_purge_cleans_up(host):
    host.define("a")
    host.define("b")
    host.define("c")
    up(host, "web", **vm.DATA)
    os.unlink(host.path("vms/web.json"))
    apply(host, 0)
    assert vm.state(host) == "running"
    run = apply(host, 0, "--prune", "--purge", "--yes")
    assert "web: stopped" in run.stdout and "data.img" in run.stderr, run
    assert "the guest shut itself down" in host.read_log()
    assert "web: its files are removed" in run.stdout and not os.path.exists(host.path("state/vm/web")), run.stdout
    wait_for("it is gone", lambda: "web" not in host.ctl("list").stdout)


if __name__ == "__main__":
    sys.exit(vm.main(sys.modules[__name__], ["libvirt"]))
