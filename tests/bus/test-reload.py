#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Definitions that others write, read anew: on a private bus, with libvirt's test driver. Prints TAP."""

import json
import os
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bus import make_host  # noqa: E402
from harness import MANAGER, NAME, ROOT, VM, run_tests, tests_of, wait_for  # noqa: E402


def test_reload(host):
    host.define("new")
    os.unlink(host.path("vms/a.json"))
    host.define("b-c", mem=1024)
    host.write("vms/broken.json", "{")
    changes = sorted(map(tuple, host.reload()))
    assert changes == [("a", "removed"), ("b-c", "changed"), ("broken", "invalid"), ("new", "added")], changes
    assert host.vm("broken", "State") == "failed" and host.vm("broken", "Result") == "config"
    assert "broken.json:1:" in host.vm("broken", "StateReason")
    assert "can't be used" in host.error("/org/microvm1/vm/broken", VM, "Start", "a{sv}", "0")
    assert "Last start: failed with config" in host.ctl("status", "broken").stdout
    wait_for("a is gone", lambda: "/org/microvm1/vm/a" not in host.objects())
    assert host.reload() == []
    os.kill(host.daemon.pid, signal.SIGHUP)


def test_hangup_reloads(host):
    host.define("new")
    os.kill(host.daemon.pid, signal.SIGHUP)
    wait_for("the reload", lambda: "/org/microvm1/vm/new" in host.objects())


def test_watch(host):
    def vcpus(vm, number):
        wait_for(f"{number} processors", lambda: host.vm(vm, "VCPUs") == number)

    def put(name, text):
        host.write(name + ".tmp", text)
        os.rename(host.path(name + ".tmp"), host.path(name))

    host.config({"definitions": {"watch": True}})
    host.reload()
    host.define("a", vcpu=2)
    vcpus("a", 2)
    os.mkdir(host.path("vms/a.json.d"))
    put("vms/a.json.d/x.json", '{ "vcpu": 3 }')
    vcpus("a", 3)
    put("vms/a.json.d/x.json", '{ "vcpu": 4 }')
    vcpus("a", 4)
    os.unlink(host.path("vms/a.json.d/x.json"))
    vcpus("a", 2)
    put("defaults.json", '{ "vcpu": 5 }')
    vcpus("b_2dc", 5)
    os.unlink(host.path("vms/b-c.json"))
    wait_for("b-c is gone", lambda: "/org/microvm1/vm/b_2dc" not in host.objects())
    with open(host.path("vms/slow.json"), "w") as file:  # half a file is not read while it is written
        file.write('{ "kernel": ')
        file.flush()
        time.sleep(1)
        assert "/org/microvm1/vm/slow" not in host.objects()
        file.write('"/k" }')
    wait_for("slow", lambda: "/org/microvm1/vm/slow" in host.objects())
    assert host.vm("slow", "State") == "inactive"
    host.config({})
    host.reload()
    host.define("a", vcpu=6)
    time.sleep(1)
    assert host.vm("a", "VCPUs") == 2, "nobody watches any more"
    host.stop()
    host.config({"definitions": {"watch": True}})
    shutil.rmtree(host.path("vms"))
    host.start()
    os.mkdir(host.path("vms"))
    host.define("late")
    wait_for("late", lambda: "/org/microvm1/vm/late" in host.objects())


def test_layers(host):
    for name in ("vms/a.json.d", "vms/t@.json.d", "vms/t@2.json.d", "defaults.json.d"):
        os.mkdir(host.path(name))
    host.write("defaults.json", '{ "vcpu": 3 }')
    host.write("defaults.json.d/10.json", '{ "mem": 300 }')
    host.write("vms/a.json.d/10.json", '\n{ "mem": 400 }')
    host.write("vms/t@.json", '{ "kernel": "/%i" }')
    os.symlink("t@.json", host.path("vms/t@1.json"))
    host.write("vms/t@2.json.d/x.json", '{ "vcpu": 5 }')
    changes = sorted(map(tuple, host.reload()))
    assert changes == [("a", "changed"), ("b-c", "changed"), ("t@1", "added"), ("t@2", "added")], changes
    assert [host.vm(vm, "VCPUs") for vm in ("a", "b_2dc", "t_401", "t_402")] == [3, 3, 3, 5]
    assert [host.vm(vm, "MemoryBytes") >> 20 for vm in ("a", "b_2dc")] == [400, 300]
    files = host.call("/org/microvm1/vm/a", VM, "Cat", "a{sv}", "0")[0]
    assert [os.path.relpath(path, host.dir) for path, _ in files] == [
        "defaults.json", "defaults.json.d/10.json", "vms/a.json", "vms/a.json.d/10.json"], files
    assert files[3][1] == '\n{ "mem": 400 }'
    text = host.call("/org/microvm1/vm/t_401", VM, "GetDefinition", "a{sv}", "1", "origins", "b", "true")[0]
    merged = json.loads(text)
    assert merged["definition"] == {"vcpu": 3, "mem": 300, "kernel": "/1"}, merged
    assert merged["origins"]["/vcpu"] == host.path("defaults.json") + ":1", merged
    run = host.ctl("cat", "a", "--json")
    assert json.loads(run.stdout)[0]["origins"]["/mem"] == host.path("vms/a.json.d/10.json") + ":2", run
    host.ctl("start", "b-c")
    host.write("defaults.json", "{")
    assert sorted(map(tuple, host.reload())) == [(name, "invalid") for name in ("a", "b-c", "t@1", "t@2")]
    assert host.vm("b_2dc", "State") == "running" and "defaults.json:1:" in host.vm("a", "StateReason")
    assert host.read_log().count("defaults.json:1:2: error") + host.read_log().count("defaults.json:2:1: error") == 1
    assert "defaults.json" in host.error("/org/microvm1/vm/a", VM, "GetDefinition", "a{sv}", "1", "origins", "b", "true")
    problem = host.call(ROOT, MANAGER, "Validate", "s", '{"kernel": "/k"}')[0][0]
    assert host.path("defaults.json") + ":" in problem[2] and problem[3:] == [0, 0], problem
    host.write("defaults.json", '{"hotplugMem": "x"}')
    problem = host.call(ROOT, MANAGER, "Validate", "s", '{"kernel": "/k"}')[0][0]
    assert problem[:2] == ["error", "/hotplugMem"], problem
    assert problem[2].startswith(host.path("defaults.json") + ':1:16: "x" is not a size'), problem
    assert "(at" not in problem[2], "the pointer is told once"
    host.write("defaults.json", "")
    host.reload()
    assert host.vm("b_2dc", "VCPUs") == 3 and host.vm("b_2dc", "Outdated") is True, "it runs with what it was started with"
    os.unlink(host.path("vms/b-c.json"))
    host.reload()
    assert "no definition of b-c any more" in host.error("/org/microvm1/vm/b_2dc", VM, "Cat", "a{sv}", "0")


def test_reload_while_running(host):
    host.ctl("start", "a", "b-c")
    host.define("a", mem=1024)
    os.unlink(host.path("vms/b-c.json"))
    assert sorted(map(tuple, host.reload())) == [("a", "changed"), ("b-c", "undeclared")]
    assert host.vm("a", "State") == "running" and host.vm("a", "Outdated") is True
    assert host.vm("b_2dc", "State") == "running" and host.vm("b_2dc", "Undeclared") is True
    host.write("vms/a.json", "{ broken")
    host.reload()
    assert host.vm("a", "State") == "running", "a broken definition touches nothing that runs"
    assert "a.json:1:3" in host.vm("a", "DefinitionError") and "Invalid: " in host.ctl("status", "a").stdout
    assert host.vm("b_2dc", "DefinitionError") == ""
    assert host.ctl("stop", "--force", "b-c").returncode == 0
    wait_for("b-c is gone", lambda: host.busctl("call", NAME, ROOT, MANAGER, "GetMicroVM", "s", "b-c",
                                                check=False).returncode != 0)


def test_another_libvirt_waits_for_a_restart(host):
    host.config({"libvirt": {"uri": "test:///elsewhere.xml"}})
    host.reload()
    assert host.get(ROOT, MANAGER, "Drivers") == [["libvirt", True, host.uri], ["direct", True, ""]]


def test_thirty_broken_files_and_a_good_one(host):
    broken = {
        "trunc1": "{", "trunc2": '{"kernel"', "trunc3": '{"kernel": "/k', "deep": "[" * (1 << 20), "array": "[]", "word": "hello",
        "string": '"x"', "number": "1", "null": "null", "type1": '{"kernel": 1}', "type2": '{"kernel": "/k", "mem": {}}',
        "type3": '{"kernel": "/k", "volumes": 1}', "type4": '{"kernel": "/k", "autostart": "yes"}', "unknown": '{"kernel": "/k", "x": 1}',
        "nested": '{"kernel": "/k", "restart": {"polciy": "no"}}', "nul": '{"kernel": "/k\0"}', "nulescape": '{"kernel": "/k\\u0000"}',
        "twice": '{"kernel": "/k", "kernel": "/k"}', "zero": '{"kernel": "/k", "vcpu": 01}', "range": '{"kernel": "/k", "vcpu": 0}',
        "huge": '{"kernel": "/k", "mem": 99999999999999999999}', "relative": '{"kernel": "k"}', "missing": "{}",
        "newline": '{"kernel": "/k\n"}', "trailing": '{"kernel": "/k"} x', "comment": "/* {", "mac": '{"kernel": "/k", "interfaces": [{"type": "user", "mac": "1"}]}',
        "dotdot": '{"kernel": "/k", "volumes": ["../x"]}', "forward": '{"kernel": "/k", "forwardPorts": [{"host": {"port": 1}, "guest": {"port": 1}}]}',
        "long": " " * ((1 << 20) + 1),
    }
    for name, text in broken.items():
        host.write(f"vms/{name}.json", text)
    with open(host.path("vms/latin1.json"), "wb") as file:
        file.write(b'{"kernel": "/\xe4"}')
    os.mkfifo(host.path("vms/fifo.json"))
    os.mkdir(host.path("vms/directory.json"))
    os.symlink("/nowhere", host.path("vms/dangling.json"))
    os.symlink("/proc/1/mem", host.path("vms/unreadable.json"))
    bad = [*broken, "latin1", "fifo", "directory", "dangling", "unreadable"]
    host.reload()
    log = host.read_log()
    for name in bad:
        lines = [line for line in log.splitlines() if f"/{name}.json" in line and "error:" in line]
        assert len(lines) == 1, f"{name}: {lines}"
        assert host.vm(name, "Result") == "config", name
    assert host.ctl("start", "a").returncode == 0, "the good one runs"
    before = len(host.read_log().splitlines())
    for _ in range(20):
        host.reload()
    grown = [line for line in host.read_log().splitlines()[before:] if "error:" in line]
    assert not grown, f"told again: {grown[:3]}"


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
