#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stops in order, and hosts that are drained: the driver "direct" with fake-qemu.py. Prints TAP."""

import json
import os
import re
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import direct  # noqa: E402
from harness import MANAGER, VM, run_tests, tests_of, wait_for  # noqa: E402

NAMES = ("app", "db", "web")


def define_all(host, db="", web="", timeout=2):
    """Two, of which one requires the other, and one that requires that."""
    more = {"accel": "tcg", "mem": 16, "restart": {"policy": "always"}}
    host.define("db", kernelParams=["fake=" + db], **more)
    host.define("app", requires=["db"], after=["db"], **more)
    host.define("web", requires=["app"], after=["app"], kernelParams=["fake=" + web], stop={"timeout": timeout}, **more)
    host.reload()


def start_all(host, **how):
    define_all(host, **how)
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    return {name: host.vm(name, "MainPID") for name in NAMES}


def states(host):
    return [host.vm(name, "State") for name in NAMES]


def order_of_ends(host):
    return re.findall(r"^(?:<\d>)?(\w+): stopping → inactive", host.read_log(), re.M)


def test_stops_in_reverse(host):
    start_all(host, web="mute")  # its guest ignores the power button, and those below wait for its end by force
    run = host.ctl("stop", "--all")
    assert run.returncode == 0 and states(host) == ["inactive"] * 3, run.stderr
    assert order_of_ends(host) == ["web", "app", "db"], host.read_log()
    assert [host.vm(name, "LastStop") for name in ("db", "app", "web")] == ["clean", "clean", "forced"]


def test_required(host):
    start_all(host)
    path = "/org/microvm1/vm/db"
    error = host.error(path, VM, "Stop", "a{sv}", "0")
    assert "app requires db and is not to be stopped" in error, error
    assert "dependents" in host.error(path, VM, "Stop", "a{sv}", "1", "dependents", "s", "eat")
    run = host.ctl("stop", "db")
    assert run.returncode == 1 and "app requires db" in run.stderr, run.stderr
    assert states(host) == ["running"] * 3
    run = host.ctl("stop", "--with-dependents", "db")
    assert run.returncode == 0, run.stderr
    assert order_of_ends(host) == ["web", "app", "db"], host.read_log()
    start_all(host)
    assert host.ctl("stop", "--force", "db").returncode == 0, "off now is off now"
    assert states(host) == ["running", "inactive", "running"]
    assert host.ctl("start", "db").returncode == 0
    assert host.ctl("stop", "--ignore-dependents", "db").returncode == 0
    assert states(host) == ["running", "inactive", "running"]
    assert host.call("/org/microvm1", MANAGER, "StopMicroVMs", "asa{sv}", "1", "db", "0")[0][0][2] == "inactive"
    assert "No microVM" in host.error("/org/microvm1", MANAGER, "StopMicroVMs", "asa{sv}", "1", "nobody", "0")


def test_prune(host):
    """What has no definition any more stops in the same order, and not while somebody needs it."""
    for name in ("other", "another"):  # so that it looks like no mistake
        host.define(name)
    start_all(host, web="mute")
    for name in ("app", "db"):
        os.unlink(host.path(f"vms/{name}.json"))
    host.reload()
    run = host.ctl("apply", "--prune=all", "--yes")
    assert run.returncode == 1 and "web requires it, and goes on" in run.stderr, run
    assert states(host) == ["running"] * 3
    os.unlink(host.path("vms/web.json"))
    host.reload()
    pids = {name: host.vm(name, "MainPID") for name in NAMES}
    run = host.ctl("apply", "--prune=all", "--yes")
    assert run.returncode == 0, run
    assert order_of_ends(host) == ["web", "app", "db"], host.read_log()
    assert all(map(direct.is_gone, pids.values()))


def test_a_stop_that_waits_outlives_the_daemon(host):
    pids = start_all(host, web="mute", timeout="1h")
    assert host.ctl("--no-block", "stop", "--all").returncode == 0
    assert host.vm("db", "State") == "running" and host.vm("db", "StateReason") == "running; its stop waits for app to stop"
    host.stop(signal.SIGKILL)
    os.kill(pids["app"], signal.SIGKILL)  # while nobody watches: what was to be stopped is not started again
    direct.start_daemon(host)
    assert host.ctl("qmp", "web", json.dumps({"execute": "fake-end", "arguments": {"reason": "guest-shutdown"}})).returncode == 0
    wait_for("all to stop", lambda: states(host) == ["inactive"] * 3)
    for pid in pids.values():
        assert direct.is_gone(pid)


def test_a_stop_that_waits_is_not_undone_by_a_hang(host):
    """What its definition wants for a guest that hangs does not outweigh that somebody has stopped it."""
    host.define("db", accel="tcg", mem=16, watchdog={"type": "notify"}, restart={"policy": "always", "delay": 0})
    host.define("web", accel="tcg", mem=16, after=["db"], kernelParams=["fake=mute"])
    host.reload()
    assert host.ctl("start", "db", "web").returncode == 0
    assert host.ctl("--no-block", "stop", "db", "web").returncode == 0
    assert host.vm("db", "StateReason") == "running; its stop waits for web to stop"
    says = {"execute": "fake-guest-says", "arguments": {"text": "WATCHDOG=1\nWATCHDOG=trigger\n"}}
    assert host.ctl("qmp", "db", json.dumps(says)).returncode == 0
    wait_for("its end", lambda: host.vm("db", "State") not in ("running", "stopping"))
    assert host.vm("db", "State") == "inactive" and host.vm("db", "NRestarts") == 0, host.vm("db", "StateReason")
    assert host.vm("web", "State") == "stopping"
    assert host.ctl("stop", "--force", "web").returncode == 0
    assert host.vm("db", "State") == "inactive"


def test_a_stop_that_waits_gives_way_to_who_requires_it(host):
    for name, more in (("db", {}), ("web", {"after": ["db"], "kernelParams": ["fake=mute"], "stop": {"timeout": 2}}),
                       ("api", {"requires": ["db"], "after": ["db"]})):
        host.define(name, accel="tcg", mem=16, **more)
    host.reload()
    assert host.ctl("start", "db", "web").returncode == 0
    assert host.ctl("--no-block", "stop", "db", "web").returncode == 0
    assert host.ctl("start", "api").returncode == 0
    wait_for("the end of web", lambda: host.vm("web", "State") == "inactive")
    assert [host.vm(name, "State") for name in ("db", "api")] == ["running"] * 2, host.vm("db", "StateReason")


def drained(host):
    return host.get("/org/microvm1", MANAGER, "Draining")


def test_drain(host):
    start_all(host)
    host.define("off", accel="tcg", mem=16)
    host.reload()
    assert not drained(host)
    run = host.ctl("drain")
    assert run.returncode == 0 and "This host is drained" in run.stdout, run
    assert drained(host) and states(host) == ["inactive"] * 3
    assert order_of_ends(host) == ["web", "app", "db"], host.read_log()
    for name in ("off", "web"):
        run = host.ctl("start", name)
        assert run.returncode == 1 and "drained for maintenance" in run.stderr and "microvmctl undrain" in run.stderr, run
    assert "nothing starts until: microvmctl undrain" in host.ctl("list").stdout
    assert host.ctl("drain").returncode == 0, "twice is no harm"
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    assert drained(host)
    host.define("late", accel="tcg", mem=16, autostart=True)
    host.reload()
    run = host.ctl("apply", "--yes")
    assert run.returncode == 1 and "drained" in run.stdout + run.stderr, run
    run = host.ctl("undrain")
    assert run.returncode == 0, run.stderr
    assert not drained(host) and states(host) == ["running"] * 3
    assert host.vm("off", "State") == "inactive"


def test_a_drain_outlives_the_daemon(host):
    start_all(host, web="mute")
    assert host.ctl("--no-block", "drain").returncode == 0
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    assert drained(host)
    wait_for("all to stop", lambda: states(host) == ["inactive"] * 3)
    assert host.ctl("undrain", "--no-start").returncode == 0
    assert states(host) == ["inactive"] * 3
    run = host.ctl("start", "web")
    assert run.returncode == 0 and states(host) == ["running"] * 3, run.stderr


def test_a_drain_in_time(host):
    """Who does not stop in the time that all have is told."""
    start_all(host, db="mute")
    run = host.ctl("drain", "--timeout=10")
    assert run.returncode == 0 and "db did not shut down in time and was ended by force." in run.stdout, run
    assert "web did" not in run.stdout
    assert host.ctl("undrain").returncode == 0
    # A death of the daemon makes it no longer, either, for one whose turn comes after it.
    define_all(host, db="mute", web="mute")
    assert host.ctl("restart", *NAMES).returncode == 0
    assert host.ctl("--no-block", "drain", "--timeout=5").returncode == 0
    host.stop(signal.SIGKILL)
    direct.start_daemon(host)
    begun = time.monotonic()
    wait_for("all to stop", lambda: states(host) == ["inactive"] * 3)
    assert time.monotonic() - begun < 60, "db has 90 s of its own"


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), direct.make_host, direct.stop_all))
