#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The driver "direct" beside QEMU without anybody. Real QEMU under TCG, the launcher "fork", a private bus.

usage: MICROVMD_BUILD=build/release tests/bench/bench-direct.py [ROUNDS [HERD [PART...]]]

1. stop: Stop() of a guest that obeys, beside QMP's system_powerdown to the same QEMU without microvmd (wanted: at most 20 ms more)
2. kill: from the call of Kill(SIGKILL) until D-Bus tells another State (wanted: under 10 ms)
3. herd: HERD tiny guests started together, beside a shell that starts the same QEMU processes side by side (wanted: at most 1.15)
4. idle: what the daemon does and holds while the herd runs and nothing happens (wanted: no wake-up in 30 s; 6 MiB and
   8 KiB a microVM)
"""

import json
import os
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bench import make_tiny, with_sockets  # noqa: E402
from client import Client, options  # noqa: E402
from harness import BUILD, SOURCE, Host, wait_for  # noqa: E402

PATIENCE = 300  # seconds that anything may take
IDLE = 30


# --- one guest

def said(host, words):
    wait_for(words, lambda: words in host.ctl("logs", "one").stdout, PATIENCE)


def power_down(argv, directory):
    """Milliseconds from system_powerdown until the process has ended."""
    log = os.path.join(directory, "console.log")
    argv, sockets = with_sockets(argv, directory)
    process = subprocess.Popen(argv, pass_fds=[s.fileno() for s in sockets], stdin=subprocess.DEVNULL)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(os.path.join(directory, "control.sock"))
        wait_for("the guest", lambda: os.path.exists(log) and b"microvm-guest: ready" in open(log, "rb").read(), PATIENCE)
        time.sleep(0.2)
        end = os.pidfd_open(process.pid)  # (Popen.wait() with a timeout sleeps between looks, up to 50 ms)
        before = time.monotonic()
        peer.sendall(b'{"execute": "qmp_capabilities"}{"execute": "system_powerdown"}')
        assert select.select([end], [], [], PATIENCE)[0], "the guest does not obey"
        took = (time.monotonic() - before) * 1000
        os.close(end)
        process.wait()
    for each in sockets:
        each.close()
    os.unlink(log)
    return took


def bench_stop(host, client, guest, rounds):
    host.kernel = guest + "/vmlinuz"
    host.define("one", initrd=guest + "/initrd", mem=128, accel="tcg", driver="direct")
    host.reload()
    ours, alone, argv = [], [], None
    for _ in range(rounds):
        assert host.ctl("start", "one").returncode == 0
        said(host, "microvm-guest: ready")
        if not argv:
            with open(f"/proc/{host.vm('one', 'MainPID')}/cmdline") as file:
                argv = [{host.path("run/vm/one/kernel"): host.kernel, host.path("run/vm/one/initrd"): guest + "/initrd"}.get(word, word)
                        for word in file.read().split("\0")[:-1]]
        time.sleep(0.2)
        ours.append(client.time(lambda vm: vm.Stop(options()), lambda state: state == "inactive"))
        with tempfile.TemporaryDirectory(prefix="microvmd-bench.") as directory:
            alone.append(power_down(argv, directory))
    mine, its = statistics.median(ours), statistics.median(alone)
    print(f"stop         {rounds} rounds: Stop() until inactive {mine:.1f} ms, system_powerdown until the end of a QEMU alone "
          f"{its:.1f} ms (medians): {mine - its:.1f} ms more")


def bench_kill(host, rounds):
    deaths, told = [], []
    host.define("one", mem=16, accel="tcg", driver="direct", restart={"policy": "no"})
    host.reload()
    for _ in range(rounds):
        assert host.ctl("start", "one").returncode == 0
        time.sleep(0.5)  # what is done after a start is over
        took = json.loads(subprocess.run([os.path.join(BUILD, "tests/bench-kill"), host.address, "/org/microvm1/vm/one"],
                                         check=True, stdout=subprocess.PIPE).stdout)
        deaths.append(took["death"] / 1000)
        told.append(took["told"] / 1000)
        host.ctl("reset-failed", "one")
    after = [state - death for state, death in zip(told, deaths)]
    print(f"kill         {rounds} rounds: from Kill(SIGKILL) until another State is told {statistics.median(told):.1f} ms (median), "
          f"{max(told):.1f} ms (most); QEMU has died after {statistics.median(deaths):.1f} ms, the State is told "
          f"{statistics.median(after):.1f} ms later")


# --- many

def all_said(paths):
    def look():
        while paths and os.path.exists(paths[-1]) and b"tiny" in open(paths[-1], "rb").read():
            paths.pop()
        return not paths
    paths = list(paths)
    wait_for("the herd", look, PATIENCE)


def end_all(shell):
    """And its children: what they still do while they die is not for the next round to pay."""
    with open(f"/proc/{shell.pid}/task/{shell.pid}/children") as children:
        ends = [os.pidfd_open(int(pid)) for pid in children.read().split()]
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    for end in ends:
        select.select([end], [], [])
        os.close(end)


def herd_alone(host, argv, size):
    """Seconds, and all that a shell starts has ended."""
    with tempfile.TemporaryDirectory(prefix="microvmd-bench.") as directory:
        words = [re.sub(r"id=(\w+),fd=\d+", rf"id=\1,path={directory}/$i.\1", word) for word in argv]
        words = [re.sub(r"logfile=.*", f"logfile={directory}/$i.log", word) for word in words]
        quoted = " ".join("\"" + word.replace("\"", "\\\"") + "\"" for word in words)
        script = f"i=0; while [ $i -lt {size} ]; do {quoted} & i=$((i+1)); done; wait"
        before = time.monotonic()
        shell = subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL, start_new_session=True)
        all_said([f"{directory}/{i}.log" for i in range(size)])
        took = time.monotonic() - before
        end_all(shell)
    return took


def herd_of_ours(host, names):
    logs = [host.path(f"state/vm/{name}/console.log") for name in names]
    for log in filter(os.path.exists, logs):
        os.unlink(log)
    before = time.monotonic()
    assert host.ctl("start", "--no-block", *names).returncode == 0
    all_said(logs)
    took = time.monotonic() - before
    wait_for("all to run", lambda: host.ctl("--json=short", "list").stdout.count('"running"') >= len(names), PATIENCE)
    return took


def define_herd(host, names):
    for name in names:
        host.define(name, mem=16, accel="tcg", driver="direct", balloon=False)
    host.reload()


def bench_herd(host, names, rounds):
    herd_of_ours(host, names)
    with open(f"/proc/{host.vm(names[0], 'MainPID')}/cmdline") as file:
        argv = [word.replace(host.path(f"run/vm/{names[0]}/kernel"), host.kernel) for word in file.read().split("\0")[:-1]]
    host.ctl("stop", "--force", "--all")
    ours, alone = [], []
    for _ in range(rounds):
        alone.append(herd_alone(host, argv, len(names)))
        ours.append(herd_of_ours(host, names))
        host.ctl("stop", "--force", "--all")
    mine, its = statistics.median(ours), statistics.median(alone)
    print(f"herd         {rounds} rounds of {len(names)}: {mine:.2f} s, a shell {its:.2f} s (medians), ratio {mine / its:.2f}")


def switches(pid):
    """How often its threads were woken, so far."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status") as file:
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.M)[1])
    return total


def bench_idle(host, names):
    pid = host.daemon.pid
    herd_of_ours(host, names)
    time.sleep(15)
    before = switches(pid)
    time.sleep(IDLE)
    woken = switches(pid) - before
    with open(f"/proc/{pid}/smaps_rollup") as file:
        private = sum(int(kib) for kib in re.findall(r"^Private_Dirty:\s+(\d+) kB", file.read(), re.M))
    allowed = 6 * 1024 + 8 * len(names)
    print(f"idle         {len(names)} running: {woken} wake-ups in {IDLE} s; {private} KiB of private memory (at most {allowed})")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    guest = os.path.abspath(os.environ.get("MICROVMD_GUEST") or os.path.join(SOURCE, "build/guest"))
    host = Host(driver="direct")
    host.config({"host": {"maxConcurrentStarts": 1000}})
    host.start()
    names = [f"vm{i}" for i in range(size)]
    parts = sys.argv[3:] or ["stop", "kill", "herd", "idle"]
    try:
        if "stop" in parts:
            bench_stop(host, Client(host.address), guest, rounds)
        host.kernel = make_tiny(host)
        if "kill" in parts:
            bench_kill(host, rounds)
        define_herd(host, names)
        if "herd" in parts:
            bench_herd(host, names, rounds)
        if "idle" in parts:
            bench_idle(host, names)
    finally:
        host.ctl("stop", "--all", "--force")
        host.close()


if __name__ == "__main__":
    main()
