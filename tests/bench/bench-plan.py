#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a plan and a list cost with 1,000 microVMs. libvirt's test driver, a private bus.

usage: MICROVMD_BUILD=build/release tests/bench/bench-plan.py [ROUNDS]

Half of them run. Three plans: nothing changed; every running one has another definition than it was started with (two
keys); the same, and all have another kernel. Wanted: a plan under 30 ms, ListMicroVMs under 5 ms. The client is sd-bus, by
bench-calls: from the call to the whole reply.
"""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import BUILD, Host, wait_for  # noqa: E402

COUNT = 1000


def measure(host, method, rounds):
    told = json.loads(subprocess.run([os.path.join(BUILD, "tests", "bench-calls"), host.address, method, str(rounds)],
                                     check=True, capture_output=True, text=True).stdout)
    return f"{told['n']:5} microVMs   median {told['p50'] / 1000:5.1f} ms   95th percentile {told['p95'] / 1000:5.1f} ms"


def define(host, **keys):
    for i in range(COUNT):
        host.define(f"vm{i:04}", mem=32, labels={"tier": f"t{i % 7}"}, **keys)
    host.reload()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    host = Host()
    try:
        host.config({"host": {"maxConcurrentStarts": 1000}})
        host.start()
        define(host)
        for first in range(0, COUNT, 200):  # a bus daemon lets a client wait for 128 replies
            run = host.ctl("start", *[f"vm{i:04}" for i in range(first, first + 200, 2)])
            assert run.returncode == 0, run.stderr[-2000:]
        wait_for("half of them", lambda: host.ctl("--json=short", "list").stdout.count('"running"') == COUNT // 2, 300)
        print(f"list         {measure(host, 'ListMicroVMs', rounds)}")
        print(f"plan         {measure(host, 'Plan', rounds)}   nothing changed")
        define(host, stop={"timeout": 7}, vcpu=2)
        print(f"plan         {measure(host, 'Plan', rounds)}   {COUNT // 2} changed in two keys")
        host.write("new", "another kernel")
        os.replace(host.path("new"), host.kernel)
        print(f"plan         {measure(host, 'Plan', rounds)}   and have another kernel")
    finally:
        host.close()


if __name__ == "__main__":
    main()
