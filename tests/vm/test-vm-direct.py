#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same guests as in test-vm.py, by the driver "direct": no libvirt runs any of them. Prints TAP."""

import importlib.util
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import QmpClient, wait_for  # noqa: E402

spec = importlib.util.spec_from_file_location("test_vm", os.path.join(os.path.dirname(os.path.abspath(__file__)), "test-vm.py"))
test_vm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(test_vm)
test_vm.DRIVER = "direct"
test_vm.TAPS = False  # it refuses them
test_vm.QUEUES = "/sys/class/net/eth0/queues/rx-0"
# What no driver has a hand in is not tried twice.
# It refuses the keys of the last one.
for name in ("lost_volume_is_never_made_anew", "missing_kernel_says_which", "logs_of_earlier_boots", "logs_follow", "status_and_json",
             "slow_stop_is_waited_for", "user_and_socket_of_its_own"):
    delattr(test_vm, "test_" + name)


def test_shares_its_qemu(host):
    """Several at once speak QMP with one QEMU, each as if alone; what they do is seen, and the daemon may come and go."""
    test_vm.boot(host, "count")
    clients = [QmpClient(host) for _ in range(3)]
    for number, client in enumerate(clients):
        assert "major" in client.ask("query-version", id={"client": number})["qemu"]
    schema = clients[0].ask("query-qmp-schema")
    assert any(entry.get("name") == "query-status" for entry in schema)
    assert json.loads(host.ctl("qmp", "web", "query-qmp-schema").stdout) == schema, "the same by both ways"
    assert clients[1].ask("nonsense") == {"class": "CommandNotFound", "desc": "The command nonsense has not been found"}
    assert json.loads(host.ctl("qmp", "web", "query-status").stdout)["status"] == "running"
    assert clients[0].ask("stop") == {}
    wait_for("the pause", lambda: test_vm.state(host) == "paused")
    for client in clients:
        client.wait_for("STOP")
    host.stop(signal.SIGKILL)
    host.start(test_vm.HIDE)
    wait_for("the adoption", lambda: test_vm.state(host) == "paused")
    assert all(client.is_closed() for client in clients)
    clients = [QmpClient(host) for _ in range(2)]
    assert host.ctl("qmp", "web", "cont").stdout == "{}\n"
    for client in clients:
        client.wait_for("RESUME")
    assert test_vm.state(host) == "running"
    size = len(test_vm.console(host))
    wait_for("more counts", lambda: len(test_vm.console(host)) > size)
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "LastStop") == "clean"
    clients[1].wait_for("SHUTDOWN")
    assert clients[1].is_closed() and clients[0].lines.readline()


def test_reset_and_quit_by_qmp(host):
    test_vm.boot(host)
    pid = host.vm("web", "MainPID")
    assert host.ctl("qmp", "web", "system_reset").returncode == 0
    wait_for("the next run", lambda: host.vm("web", "NRestarts") == 1 and test_vm.state(host) == "running", test_vm.BOOT)
    assert host.vm("web", "MainPID") != pid and host.vm("web", "Result") == "success"
    QmpClient(host).ask("quit")
    wait_for("its end", lambda: test_vm.state(host) == "inactive")


def test_balloon_takes_memory_at_the_start(host):
    test_vm.boot(host, balloon=True, initialBalloonMem=64)
    wait_for("the balloon", lambda: json.loads(host.ctl("qmp", "web", "query-balloon").stdout)["actual"] == (256 - 64) << 20)


def test_ready_by_http(host):
    assert test_vm.serve(host, type="http", path="/written") > 0


for own in (test_ready_by_http, test_shares_its_qemu, test_reset_and_quit_by_qmp, test_balloon_takes_memory_at_the_start):
    setattr(test_vm, own.__name__, own)

if __name__ == "__main__":
    sys.exit(test_vm.main(test_vm))
