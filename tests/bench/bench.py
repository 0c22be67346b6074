#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What microvmd itself costs. Real QEMU under TCG, libvirt's QEMU driver inside the daemon, a private bus.

usage: MICROVMD_BUILD=build/release tests/bench/bench.py [ROUNDS]

1. start: what a start by the libvirt driver takes beside virDomainCreateXML (wanted: 95th percentile under 15 ms)
2. drivers: a start by the driver "direct" beside one by libvirt and beside QEMU started with the same arguments by a bare
   fork and exec, each until QEMU says that the guest runs
3. latency: a property read against org.freedesktop.DBus.GetId, interleaved, while 20 microVMs start at once
   (wanted: 99th percentile at most twice as long)
"""

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import BUILD, SOURCE, Host, wait_for  # noqa: E402

HERD = 20


def percentile(values, p):
    return sorted(values)[int((len(values) - 1) * p)]


def make_host(embed, guest):
    host = Host(f"qemu:///embed?root={embed}")
    host.config({"host": {"maxConcurrentStarts": 1000}})
    host.kernel = guest + "/vmlinuz"
    os.environ["MICROVMD_LOG_LEVEL"] = "debug"
    host.start()
    return host


def bench_start(host, guest, rounds):
    host.define("one", initrd=guest + "/initrd", mem=128, accel="tcg", volumes=[{"image": "data.img", "size": 16}],
                interfaces=["user"])
    host.reload()
    for _ in range(rounds + 1):  # the first one makes the volume
        assert host.ctl("start", "one").returncode == 0
        assert host.ctl("stop", "--force", "one").returncode == 0
    found = re.findall(r"Started in ([0-9.]+) ms: ([0-9.]+) ms to prepare it, ([0-9.]+) ms in", host.read_log())[1:]
    times = [tuple(map(float, numbers)) for numbers in found]
    beside = [whole - call for whole, prepared, call in times]
    driver = [whole - prepared - call for whole, prepared, call in times]
    print(f"start        {len(times)} rounds: {statistics.median(whole for whole, *_ in times):.0f} ms in all; beside "
          f"virDomainCreateXML the driver takes median {statistics.median(driver):.1f} ms, 95th percentile "
          f"{percentile(driver, 0.95):.1f} ms; with the preparation (copies of kernel and initrd) "
          f"{statistics.median(beside):.1f} ms, {percentile(beside, 0.95):.1f} ms")


def wait_running(path):
    """Asks QEMU, by a connection that it does not know of yet, as the driver does."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.sendall(b'{"execute": "qmp_capabilities"}\n{"execute": "query-status"}\n')
        with peer.makefile() as lines:
            for line in lines:
                if '"running"' in line:
                    return


def with_sockets(argv, directory):
    """The arguments with sockets of ours where the daemon's were, and a log of ours."""
    sockets = {}
    for name in re.findall(r"id=(\w+),fd=\d+", " ".join(argv)):
        path = os.path.join(directory, name + ".sock")
        if os.path.exists(path):
            os.unlink(path)
        sockets[name] = socket.socket(socket.AF_UNIX)
        sockets[name].bind(path)
        sockets[name].listen(1)
    argv = [re.sub(r"(id=(\w+),fd=)\d+", lambda m: m[1] + str(sockets[m[2]].fileno()), word) for word in argv]
    return [re.sub(r"logfile=.*", f"logfile={directory}/console.log", word) for word in argv], list(sockets.values())


def bare(host, argv):
    """Milliseconds."""
    argv, sockets = with_sockets(argv, host.path(""))
    before = time.monotonic()
    process = subprocess.Popen(argv, pass_fds=[s.fileno() for s in sockets], stdin=subprocess.DEVNULL)
    wait_running(host.path("control.sock"))
    took = time.monotonic() - before
    process.kill()
    process.wait()
    for each in sockets:
        each.close()
    return took * 1000


def bench_drivers(host, guest, rounds):
    host.define("one", initrd=guest + "/initrd", mem=128, accel="tcg")
    host.define("two", initrd=guest + "/initrd", mem=128, accel="tcg", driver="direct")
    host.reload()
    assert host.ctl("start", "two").returncode == 0
    with open(f"/proc/{host.vm('two', 'MainPID')}/cmdline") as file:
        argv = file.read().split("\0")[:-1]
    # What it read is gone by now.
    argv = [{host.path("run/vm/two/kernel"): host.kernel, host.path("run/vm/two/initrd"): guest + "/initrd"}.get(word, word)
            for word in argv]
    host.ctl("stop", "--force", "two")
    begin, alone = len(host.read_log()), []
    for _ in range(rounds):
        for name in ("one", "two"):
            assert host.ctl("start", name).returncode == 0
            assert host.ctl("stop", "--force", name).returncode == 0
        alone.append(bare(host, argv))
    times = {name: [float(ms) for ms in re.findall(rf"{name}: Started in ([0-9.]+) ms", host.read_log()[begin:])]
             for name in ("one", "two")}
    libvirt, direct, exec_ = (statistics.median(values) for values in (times["one"], times["two"], alone))
    print(f"drivers      {rounds} rounds: libvirt {libvirt:.0f} ms, direct {direct:.0f} ms, bare QEMU {exec_:.0f} ms (medians); "
          f"libvirt/direct {libvirt / direct:.1f}, direct/bare {direct / exec_:.2f}")


def make_tiny(host):
    """A guest that halts at once: what is measured is the starting, not twenty guests that fight for two processors."""
    source = os.path.join(SOURCE, "tests/guest/tiny.S")
    subprocess.run(["as", "--64", "-o", host.path("tiny.o"), source], check=True)
    subprocess.run(["ld", "-m", "elf_x86_64", "-Ttext=0x100000", "-e", "entry", "-o", host.path("tiny"), host.path("tiny.o")],
                   check=True)
    return host.path("tiny")


def bench_latency(host):
    names = [f"vm{i}" for i in range(HERD)]
    host.kernel = make_tiny(host)
    for name in names:
        host.define(name, mem=32, accel="tcg")
    host.reload()
    probe = subprocess.Popen([os.path.join(BUILD, "tests", "bench-latency"), host.address, "/org/microvm1/vm/vm0"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert host.ctl("start", "--no-block", *names).returncode == 0
    wait_for("the herd", lambda: host.ctl("--json=short", "list").stdout.count('"running"') >= HERD, 300)
    told = json.loads(probe.communicate("\n")[0])
    ratio = told["property"]["p99"] / told["id"]["p99"]
    print(f"latency      {told['n']} pairs while {HERD} microVMs start: property p50 {told['property']['p50']} µs, p99 "
          f"{told['property']['p99']} µs; GetId p50 {told['id']['p50']} µs, p99 {told['id']['p99']} µs; p99 ratio {ratio:.2f}")
    host.ctl("stop", "--all", "--force")


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory(prefix="microvmd-bench.") as embed:
        guest = os.path.abspath(os.environ.get("MICROVMD_GUEST") or os.path.join(embed, "guest"))
        if not os.path.exists(guest + "/vmlinuz"):
            subprocess.run([os.path.join(SOURCE, "tests/guest/make-guest.sh"), guest], check=True, stdout=subprocess.DEVNULL)
        host = make_host(embed, guest)
        try:
            bench_start(host, guest, rounds)
            bench_drivers(host, guest, rounds)
            bench_latency(host)
        finally:
            host.ctl("stop", "--all", "--force")
            host.close()


if __name__ == "__main__":
    main()
