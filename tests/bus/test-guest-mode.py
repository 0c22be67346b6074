#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host that is a guest, or says something that can't be read: on a private bus, with libvirt's test driver. Prints TAP."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bus import define, good, make_host  # noqa: E402
from harness import MANAGER, NAME, ROOT, VM, run_tests, tests_of  # noqa: E402

GUARD = [
    ("main file", {"host.json": '{"guest": {"enable": true}}'}),
    ("under microvm", {"host.json": '{"microvm": {"guest": {"enable": true}, "stateDir": "/x"}}'}),
    ("drop-in", {"host.json": "{}", "host.json.d/50-x.json": '{"guest": {"enable": true}}'}),
    ("drop-in can't take it back", {"host.json": '{"guest": {"enable": true}}',
                                    "host.json.d/50-x.json": '{"guest": {"enable": false}}'}),
    ("host mode off", {"host.json": '{"host": {"enable": false}}'}),
    ("host mode off under microvm", {"host.json": '{"microvm": {"host": {"enable": false}}}'}),
    ("unparsable", {"host.json": '{"guest": '}),
    ("unknown key", {"host.json": '{"geust": {"enable": true}}'}),
    ("wrong type", {"host.json": '{"guest": {"enable": "yes"}}'}),
    ("broken drop-in", {"host.json": "{}", "host.json.d/50-x.json": "nonsense"}),
]


def test_guard_refuses_before_the_name_is_taken(host):
    host.stop()
    os.mkdir(host.path("host.json.d"))
    watcher = subprocess.Popen(["gdbus", "monitor", "--address", host.address, "--dest", NAME], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for what, files in GUARD:
        for name, text in files.items():
            host.write(name, text)
        run = subprocess.run(host.argv(), capture_output=True, text=True, timeout=60)
        assert run.returncode == 78, f"{what}: exit code {run.returncode}: {run.stderr}"
        assert host.dir in run.stderr and "To mend it" in run.stderr, f"{what}: {run.stderr}"
        check = subprocess.run(host.argv("--check"), capture_output=True, text=True, timeout=60)
        assert check.returncode == 78 and "To mend it" in check.stdout, f"{what}: {check.stdout}"
        if os.path.exists(host.path("host.json.d/50-x.json")):
            os.unlink(host.path("host.json.d/50-x.json"))
    os.unlink(host.path("host.json"))
    os.mkdir(host.path("host.json"))
    assert subprocess.run(host.argv(), capture_output=True, timeout=60).returncode == 78, "a directory"
    os.rmdir(host.path("host.json"))
    os.symlink("/nowhere", host.path("host.json"))
    assert subprocess.run(host.argv(), capture_output=True, timeout=60).returncode == 78, "a dangling link"
    watcher.terminate()
    told = watcher.communicate()[0]
    assert told.count("is owned by") <= 1, "it took its name: " + told


def test_host_turns_guest(host):
    host.ctl("start", "a")
    host.config({"guest": {"enable": True}})
    run = subprocess.run(["gdbus", "call", "--address", host.address, "--dest", NAME, "--object-path", "/org/microvm1",
                          "--method", MANAGER + ".Reload", "{}"], capture_output=True, text=True)
    assert "org.microvm1.Error.GuestMode" in run.stderr and "/guest/enable" in run.stderr, run.stderr
    assert host.get(ROOT, MANAGER, "HostRole") == "conflict"
    assert host.vm("a", "State") == "running", "what runs is left alone"
    assert "guest mode" in host.error("/org/microvm1/vm/b_2dc", VM, "Start", "a{sv}", "0")
    assert host.vm("b_2dc", "State") == "inactive"
    run = host.ctl("reload")
    assert run.returncode == 1 and "\n    \"guest\": { \"enable\": false }\nand then: microvmctl reload\n" in run.stderr, run.stderr
    host.write("host.json", "{ not mended yet")
    run = host.ctl("reload")
    assert run.returncode == 1 and run.stderr.endswith("microvmd --check\nand then: microvmctl reload\n"), run.stderr
    assert "host.json:1:3:" in host.error("/org/microvm1/vm/b_2dc", VM, "Start", "a{sv}", "0"), "what is to be mended now"
    host.config({})
    host.reload()
    assert host.get(ROOT, MANAGER, "HostRole") == "host"
    assert host.ctl("start", "b-c").returncode == 0


def test_broken_configuration_is_not_taken(host):
    host.write("host.json", "{ this is no JSON")
    assert "can't be used" in host.error(ROOT, MANAGER, "Reload", "a{sv}", "0")
    assert host.get(ROOT, MANAGER, "HostRole") == "host"
    assert host.ctl("start", "a").returncode == 0, "the old configuration stays"


def test_guest_mode_does_not_lose_what_was_written(host):
    host.config({"guest": {"enable": True}})
    refusal = define(host, "new", good(host))
    assert "guest" in refusal and os.path.exists(host.path("vms/new.json")), refusal
    host.config({})
    host.reload()
    assert host.vm("new", "State") == "inactive"


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
