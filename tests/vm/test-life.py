#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ends that nobody asked for, pauses and adoption of real guests in real QEMU under TCG, by both drivers. Prints TAP."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import wait_for  # noqa: E402
from vm import BOOT, DATA, HIDE, boot, console, guest, is_alive, main, said, state  # noqa: E402


def test_killed_hypervisor_is_restarted(host):
    boot(host)
    first = host.vm("web", "MainPID")
    assert host.ctl("kill", "-s", "KILL", "web").returncode == 0
    wait_for("the restart", lambda: state(host) == "running" and host.vm("web", "MainPID") not in (0, first), BOOT)
    assert host.vm("web", "NRestarts") == 1 and host.vm("web", "Result") == "signal"
    wait_for("the end of the first", lambda: not is_alive(first))
    host.ctl("kill", "-s", "TERM", "web")
    wait_for("the second restart", lambda: host.vm("web", "NRestarts") == 2 and state(host) == "running", BOOT)


def test_guest_poweroff_stays_off(host):
    guest(host, test="poweroff")
    host.ctl("start", "web")
    wait_for("the power-off", lambda: state(host) == "inactive", BOOT)
    assert host.vm("web", "Result") == "success" and "powered itself off" in host.vm("web", "StateReason")


def test_guest_reboot_starts_again(host):
    guest(host, test="boots,reboot", **DATA)
    host.ctl("start", "web")
    wait_for("two boots", lambda: host.vm("web", "NRestarts") >= 1, BOOT)
    guest(host, test="boots", **DATA)
    said(host, "boots ", count=1)
    assert host.vm("web", "Result") == "success"


def test_guest_panic_is_told_apart(host):
    guest(host, test="panic", restart={"policy": "no"})
    host.ctl("start", "web")
    wait_for("the panic", lambda: state(host) == "failed", BOOT)
    assert host.vm("web", "Result") == "guest-panic", host.vm("web", "StateReason")
    assert "kernel panicked" in host.vm("web", "StateReason") and "sysrq" not in host.vm("web", "StateReason")
    assert "panicked: sysrq triggered crash" in host.read_log()


def test_panic_without_a_word(host):
    """There is no console that could tell it; QEMU's pvpanic does."""
    guest(host, test="panic", qemu={"machine": "q35", "serialConsole": False}, restart={"policy": "always"}, onPanic="fail")
    host.ctl("start", "web")
    wait_for("its end", lambda: state(host) == "failed", BOOT)
    assert host.vm("web", "Result") == "guest-panic", host.vm("web", "StateReason")


# The guest's kernel has no driver for it: Intel 6300ESB, "Watchdog Timer", stages of about a second, started and never fed.
FORGET = r"""
for device in /sys/bus/pci/devices/*; do
    [ "$(cat $device/device)" = 0x25ab ] || continue
    echo 1 >$device/enable
    read -r base _ <$device/resource
    for stage in 0 4; do
        devmem $((base + 12)) 16 0x80
        devmem $((base + 12)) 16 0x86
        devmem $((base + stage)) 32 1000
    done
    echo "seen: a watchdog" >/dev/console
    printf '\2' | dd of=$device/config bs=1 seek=104 conv=notrunc 2>/dev/null
done
sleep 1000
"""


def test_watchdog_device_that_is_not_fed(host):
    host.write("forget.img", FORGET.ljust(1 << 20, "\n"))
    os.makedirs(host.path("state/vm/web"))
    guest(host, test="run", qemu={"machine": "q35"}, watchdog={"type": "device"}, restart={"policy": "no"},
          volumes=[{"image": "data.img", "size": 16}, {"image": host.path("forget.img"), "readOnly": True}])
    host.ctl("start", "web")
    said(host, "seen: a watchdog")
    wait_for("its end", lambda: state(host) == "failed", BOOT)
    assert host.vm("web", "Result") == "watchdog", host.vm("web", "StateReason")


def test_pause_and_resume(host):
    boot(host, "count")
    said(host, "count 1")
    assert host.ctl("pause", "web").returncode == 0 and state(host) == "paused"
    size = len(console(host))
    time.sleep(2.5)
    assert len(console(host)) == size, "it counts on"
    assert host.ctl("resume", "web").returncode == 0 and state(host) == "running"
    wait_for("more counts", lambda: len(console(host)) > size, BOOT)
    host.ctl("pause", "web")
    assert host.ctl("stop", "web").returncode == 0, "a paused guest is resumed to hear the stop"
    assert host.vm("web", "LastStop") == "clean"


def test_daemon_dies_and_guest_goes_on(host):
    boot(host, "count")
    pid, generation = host.vm("web", "MainPID"), host.vm("web", "Generation")
    for number in (signal.SIGTERM, signal.SIGKILL):
        host.stop(number)
        assert is_alive(pid)
        host.start(HIDE)
        wait_for("the adoption", lambda: state(host) == "running" and host.vm("web", "MainPID") == pid)
        assert host.vm("web", "Generation") == generation and host.vm("web", "NRestarts") == 0
    size = len(console(host))
    wait_for("more counts", lambda: len(console(host)) > size, BOOT)
    assert host.ctl("stop", "web").returncode == 0


def test_killed_while_nobody_watched(host):
    boot(host)
    pid = host.vm("web", "MainPID")
    host.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for("its death", lambda: not is_alive(pid))
    host.start(HIDE)
    wait_for("the restart", lambda: host.vm("web", "NRestarts") == 1 and state(host) == "running", BOOT)
    assert host.vm("web", "Result") == "lost"


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
