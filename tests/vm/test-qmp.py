#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""QMP of real QEMU under TCG, shared with others. Prints TAP."""

import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import QmpClient, only, wait_for  # noqa: E402
from vm import BOOT, HIDE, boot, console, main, state  # noqa: E402


@only("direct")
def test_shares_its_qemu(host):
    """Several at once speak QMP with one QEMU, each as if alone; what they do is seen, and the daemon may come and go."""
    boot(host, "count")
    clients = [QmpClient(host) for _ in range(3)]
    for number, client in enumerate(clients):
        assert "major" in client.ask("query-version", id={"client": number})["qemu"]
    schema = clients[0].ask("query-qmp-schema")
    assert any(entry.get("name") == "query-status" for entry in schema)
    assert json.loads(host.ctl("qmp", "web", "query-qmp-schema").stdout) == schema, "the same by both ways"
    assert clients[1].ask("nonsense") == {"class": "CommandNotFound", "desc": "The command nonsense has not been found"}
    assert json.loads(host.ctl("qmp", "web", "query-status").stdout)["status"] == "running"
    assert clients[0].ask("stop") == {}
    wait_for("the pause", lambda: state(host) == "paused")
    for client in clients:
        client.wait_for("STOP")
    host.stop(signal.SIGKILL)
    host.start(HIDE)
    wait_for("the adoption", lambda: state(host) == "paused")
    assert all(client.is_closed() for client in clients)
    clients = [QmpClient(host) for _ in range(2)]
    assert host.ctl("qmp", "web", "cont").stdout == "{}\n"
    for client in clients:
        client.wait_for("RESUME")
    assert state(host) == "running"
    size = len(console(host))
    wait_for("more counts", lambda: len(console(host)) > size)
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "LastStop") == "clean"
    clients[1].wait_for("SHUTDOWN")
    assert clients[1].is_closed() and clients[0].lines.readline()


@only("direct")
def test_reset_and_quit_by_qmp(host):
    boot(host)
    pid = host.vm("web", "MainPID")
    assert host.ctl("qmp", "web", "system_reset").returncode == 0
    wait_for("the next run", lambda: host.vm("web", "NRestarts") == 1 and state(host) == "running", BOOT)
    assert host.vm("web", "MainPID") != pid and host.vm("web", "Result") == "success"
    QmpClient(host).ask("quit")
    wait_for("its end", lambda: state(host) == "inactive")


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
