#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stops of real guests in real QEMU under TCG, by both drivers. Prints TAP."""

import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import SOURCE, only, wait_for  # noqa: E402
from vm import DATA, EMBED, GUEST, boot, console, guest, is_alive, main, read_volume, said, state  # noqa: E402


def test_boots_writes_and_stops_gracefully(host):
    boot(host, "write=hello-from-the-guest", **DATA)
    said(host, "written hello-from-the-guest")
    assert host.vm("web", "Accel") == "tcg"
    assert host.ctl("stop", "web").returncode == 0
    assert state(host) == "inactive" and host.vm("web", "LastStop") == "clean", host.vm("web", "StateReason")
    assert "hello-from-the-guest" in read_volume(host, "web", "/written")


def test_drain_and_undrain(host):
    guest(host, after=["db"], requires=["db"])
    guest(host, name="db")
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    for name in ("web", "db"):
        said(host, "microvm-guest: ready", name)
    assert "web requires db" in host.ctl("stop", "db").stderr
    run = host.ctl("drain")
    assert run.returncode == 0 and "by force" not in run.stdout, run
    for name in ("web", "db"):
        assert state(host, name) == "inactive" and host.vm(name, "LastStop") == "clean", host.vm(name, "StateReason")
    log = host.read_log()
    assert log.index("web: stopping → inactive") < log.index("db: running → stopping"), log
    assert host.ctl("start", "db").returncode == 1
    assert host.ctl("undrain").returncode == 0
    assert state(host) == state(host, "db") == "running"
    run = host.ctl("leaks")
    assert run.returncode == 0, run.stdout


@only("libvirt")  # no driver has a hand in it
def test_slow_stop_is_waited_for(host):
    boot(host, "slowstop=3", **DATA)
    assert host.ctl("stop", "web").returncode == 0
    assert host.vm("web", "LastStop") == "clean"
    assert "stopped cleanly" in read_volume(host, "web", "/slowstop")


def test_deaf_guest_is_ended_by_force(host):
    boot(host, "ignore-button", stop={"timeout": 2})
    before = time.monotonic()
    host.ctl("stop", "web")
    assert 1.9 < time.monotonic() - before < 60
    assert host.vm("web", "Result") == "timeout" and host.vm("web", "LastStop") == "forced"
    host.ctl("start", "web")
    pid = host.vm("web", "MainPID")
    assert host.ctl("stop", "--force", "web").returncode == 0
    assert host.vm("web", "Result") == "success"
    wait_for("its end", lambda: not is_alive(pid))


def test_a_stop_climbs_until_something_helps(host):
    """The machine "microvm" gets a keyboard by itself; a guest that does not heed the button may heed that, or nothing."""
    keys = {"action": "ctrl-alt-del", "timeout": "2min"}
    boot(host, "ignore-button", stop={"steps": [{"action": "acpi", "timeout": 2}, keys], "timeout": 300})
    assert host.ctl("stop", "web").returncode == 0
    reason = host.vm("web", "StateReason")
    assert host.vm("web", "LastStop") == "clean" and host.vm("web", "Result") == "success", reason
    assert "(ctrl-alt-del ended it after " in reason and "; the power button had not for " in reason, reason
    assert "microvm-guest: ctrl-alt-del" in console(host)
    unheard = [{"action": action, "timeout": 1} for action in ("agent", "acpi", "ctrl-alt-del")]  # it has no agent
    boot(host, "ignore-button,ignore-keys", stop={"steps": [*unheard, {"action": "term", "timeout": "2min"}]})
    pid = host.vm("web", "MainPID")
    assert host.ctl("stop", "web").returncode == 0
    reason = host.vm("web", "StateReason")
    assert host.vm("web", "LastStop") == "forced" and host.vm("web", "Result") == "timeout", reason
    assert "(SIGTERM ended it after " in reason, reason
    wait_for("its end", lambda: not is_alive(pid))
    assert re.search("; the guest's agent had not for [1-9].*, nor the power button for [1-9].*, nor ctrl-alt-del for [1-9]", reason), reason
    # One that hangs hears nothing but SIGKILL.
    host.ctl("start", "web")
    pid = host.vm("web", "MainPID")
    os.kill(pid, signal.SIGSTOP)
    assert host.ctl("stop", "--force", "web").returncode == 0
    assert host.vm("web", "LastStop") == "forced" and "(SIGKILL ended it after " in host.vm("web", "StateReason"), host.vm("web", "StateReason")
    wait_for("its end", lambda: not is_alive(pid))


def test_stop_by_the_agent(host):
    """The real one of QEMU, which obeys; and one that is not allowed to, so that the next step follows at once."""
    directory = os.path.join(EMBED, "agent")
    if not os.path.exists(directory):
        subprocess.run(["cp", "-r", GUEST, directory], check=True)
        subprocess.run([os.path.join(SOURCE, "tests/guest/make-agent.sh"), directory], check=True)
    stop = {"steps": ["agent", "ctrl-alt-del"], "timeout": "10min"}
    for behaviour, ended, words in (("agent", "the guest's agent", "shutdown -h -P +0"), ("agent=refuses", "ctrl-alt-del", "ctrl-alt-del")):
        boot(host, f"ignore-button,{behaviour}", initrd=directory + "/initrd-agent", stop=stop)
        said(host, "microvm-guest: agent")
        assert host.ctl("stop", "web").returncode == 0
        reason = host.vm("web", "StateReason")
        assert host.vm("web", "LastStop") == "clean" and f"({ended} ended it after " in reason, reason
        assert reason.endswith("; the guest's agent refused)") == (behaviour != "agent"), reason
        assert f"microvm-guest: {words}" in console(host)
    assert "guest-shutdown has been disabled" in host.read_log()


def test_stop_during_boot_is_heard_later(host):
    guest(host, stop={"timeout": 600})
    host.ctl("start", "web")
    assert host.ctl("stop", "web").returncode == 0  # pressed before the guest listens, and again
    assert host.vm("web", "LastStop") == "clean", host.vm("web", "StateReason")


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
