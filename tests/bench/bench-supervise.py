#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What supervision costs: the driver "direct", real QEMU under TCG, a tiny guest, the launcher "fork", a private bus.

usage: MICROVMD_BUILD=build/release tests/bench/bench-supervise.py [ROUNDS [HERD]]

1. again: from the kill of a hypervisor until the next one is told to run its guest, with restart.delay 0, beside a start
   (wanted: at most 1.2)
2. adoption: HERD microVMs run, the daemon is killed (kill -9); from the start of the next one to its READY=1 (wanted: under
   300 ms), when it has them all
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bench import make_tiny  # noqa: E402
from client import Client, options  # noqa: E402
from harness import Host, wait_for  # noqa: E402


def bench_again(host, client, rounds):
    host.define("one", mem=16, accel="tcg", restart={"policy": "always", "delay": 0, "startLimit": 0})
    host.reload()
    is_running = lambda state: state == "running"  # noqa: E731
    cold, again = [], []
    for _ in range(rounds):
        cold.append(client.time(lambda vm: vm.Start(options()), is_running))
        time.sleep(0.3)  # what is done after a start is over
        pidfd = os.pidfd_open(host.vm("one", "MainPID"))
        again.append(client.time(lambda vm: signal.pidfd_send_signal(pidfd, signal.SIGKILL), is_running))
        os.close(pidfd)
        assert host.ctl("stop", "--force", "one").returncode == 0
    a, c = statistics.median(again), statistics.median(cold)
    print(f"again        {rounds} rounds: running again {a:.1f} ms after its hypervisor is killed, a start {c:.1f} ms (medians), "
          f"ratio {a / c:.2f}")


def start_and_time(host):
    """Milliseconds from fork to READY=1; and the daemon is there."""
    path = host.path("notify")
    if os.path.exists(path):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(60)
        environment = dict(os.environ, NOTIFY_SOCKET=path)
        with open(host.path("log"), "a") as log:
            before = time.monotonic()
            host.daemon = subprocess.Popen(host.argv(), stderr=log, stdout=log, env=environment)
            while b"READY=1" not in notify.recv(4096):
                pass
            return (time.monotonic() - before) * 1000


def running(host):
    return host.ctl("--json=short", "list").stdout.count('"running"')


def bench_adoption(host, rounds, size):
    names = [f"vm{i}" for i in range(size)]
    for name in names:
        host.define(name, mem=16, accel="tcg", balloon=False)
    host.reload()
    host.ctl("start", *names)
    wait_for("all to run", lambda: running(host) >= size, 300)
    times, empty = [], []
    for _ in range(rounds):
        host.stop(signal.SIGKILL)
        times.append(start_and_time(host))
        assert running(host) == size, "not all were adopted when it said that it is ready"
    host.ctl("stop", "--force", "--all")
    for _ in range(rounds):
        host.stop(signal.SIGKILL)
        empty.append(start_and_time(host))
    print(f"adoption     {rounds} rounds of {size} microVMs: READY=1 after {statistics.median(times):.0f} ms (median), {max(times):.0f} ms "
          f"(most); with none that runs after {statistics.median(empty):.0f} ms")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    host = Host(driver="direct")
    host.config({"host": {"maxConcurrentStarts": 1000}})
    host.start()
    host.kernel = make_tiny(host)
    try:
        bench_again(host, Client(host.address), rounds)
        bench_adoption(host, max(5, rounds // 2), size)
    finally:
        host.ctl("stop", "--force", "--all")
        host.close()


if __name__ == "__main__":
    main()
