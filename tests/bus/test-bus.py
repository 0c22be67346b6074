#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmd on a private bus, with libvirt's test driver. Prints TAP. MICROVMD_BUILD names the build tree."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import CTL, DAEMON, MANAGER, NAME, SOURCE, VM, Host, run_tests, tests_of, wait_for  # noqa: E402


# --- tests: each gets a host with two definitions, running ---


def interface_of(root, name):
    """What counts of an interface: members with their signatures and argument names."""
    node = next(node for node in root.iter("interface") if node.get("name") == name)
    members = {}
    for member in node:
        if member.tag == "annotation":
            continue
        args = [(arg.get("name"), arg.get("type"), arg.get("direction") or "out") for arg in member if arg.tag == "arg"]
        emits = [a.get("value") for a in member if a.tag == "annotation" and "EmitsChanged" in a.get("name")]
        members[(member.tag, member.get("name"))] = (args, member.get("type"), member.get("access"), emits)
    return members


def test_installed_xml_is_what_is_there(host):
    for path, interface in (("/org/microvm1", MANAGER), ("/org/microvm1/vm/a", VM)):
        live = host.call(path, "org.freedesktop.DBus.Introspectable", "Introspect")[0]
        with open(os.path.join(SOURCE, "units", interface + ".xml")) as file:
            installed = re.sub(r"<!DOCTYPE.*?>", "", file.read(), flags=re.S)
        live = re.sub(r"<!DOCTYPE.*?>", "", live, flags=re.S)
        there, wanted = (interface_of(ElementTree.fromstring(text), interface) for text in (live, installed))
        assert there.keys() == wanted.keys(), there.keys() ^ wanted.keys()
        for member in wanted:
            assert there[member] == wanted[member], f"{member}: {there[member]} is not {wanted[member]}"


def test_object_manager(host):
    objects = host.call("/org/microvm1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]
    assert {"/org/microvm1/vm/a", "/org/microvm1/vm/b_2dc"} <= set(objects), objects.keys()
    assert objects["/org/microvm1/vm/a"][VM]["State"]["data"] == "inactive"
    run = subprocess.run(["gdbus", "call", "--address", host.address, "--dest", NAME, "--object-path", "/org/microvm1",
                          "--method", "org.freedesktop.DBus.ObjectManager.GetManagedObjects"], capture_output=True, text=True)
    assert run.returncode == 0 and "b-c" in run.stdout
    assert host.busctl("introspect", NAME, "/org/microvm1/vm/a").returncode == 0
    assert "/org/microvm1/vm/b_2dc" in host.busctl("tree", NAME, "--list").stdout


def test_list_and_get(host):
    rows = host.call("/org/microvm1", MANAGER, "ListMicroVMs", "a{sv}", "0")[0]
    assert [row[0] for row in rows] == ["a", "b-c"] and rows[0][2] == "inactive", rows
    assert host.call("/org/microvm1", MANAGER, "GetMicroVM", "s", "b-c") == ["/org/microvm1/vm/b_2dc"]
    assert "No microVM is called" in host.error("/org/microvm1", MANAGER, "GetMicroVM", "s", "nobody")


def test_start_is_a_job_and_is_told(host):
    monitor = host.monitor()
    job = host.call("/org/microvm1/vm/a", VM, "Start", "a{sv}", "0")[0]
    wait_for("running", lambda: host.vm("a", "State") == "running")
    assert host.vm("a", "Job") == 0
    host.call("/org/microvm1/vm/a", VM, "Stop", "a{sv}", "1", "force", "b", "true")
    wait_for("inactive", lambda: host.vm("a", "State") == "inactive")
    time.sleep(0.3)
    monitor.terminate()
    lines = monitor.communicate()[0].splitlines()
    removed = [line for line in lines if "JobRemoved" in line]
    assert len(removed) == 2, lines
    assert f"uint64 {job}, 'a', 'start', 'done'" in removed[0], removed
    changed = [index for index, line in enumerate(lines) if "PropertiesChanged" in line and "'running'" in line]
    assert changed and changed[0] < lines.index(removed[0]), "the job was told before the state"


def test_no_op_jobs_are_done(host):
    monitor = host.monitor()
    host.call("/org/microvm1/vm/a", VM, "Stop", "a{sv}", "0")
    time.sleep(0.3)
    monitor.terminate()
    assert re.search(r"JobRemoved.*'stop', 'done'", monitor.communicate()[0])


def test_more_at_once_than_the_bus_lets_wait(host):
    """dbus-daemon lets a caller wait for 128 replies; a host's shutdown must stop all the same."""
    names = [f"vm{i}" for i in range(200)]
    for name in names:
        host.define(name)
    host.reload()
    run = host.ctl("start", *names)
    assert run.returncode == 0, run.stderr[-1000:]
    assert host.ctl("list", "--no-legend").stdout.count("running") == 200
    run = host.ctl("stop", "--all", "--force")
    assert run.returncode == 0, run.stderr[-1000:]


def test_errors_have_names_and_sentences(host):
    path = "/org/microvm1/vm/a"
    assert "nothing to pause" in host.error(path, VM, "Pause", "a{sv}", "0")
    assert "nothing to kill" in host.error(path, VM, "Kill", "i", "9")
    assert 'no option "frobnicate"' in host.error(path, VM, "Start", "a{sv}", "1", "frobnicate", "b", "true")
    assert 'must be of type "b"' in host.error(path, VM, "Stop", "a{sv}", "1", "force", "s", "yes")
    assert "a has no console log yet" in host.error(path, VM, "OpenLog", "a{sv}", "0")
    assert "boot -2 of a" in host.error(path, VM, "OpenLog", "a{sv}", "1", "boot", "i", "--", "-2")
    host.define("a", readiness={"type": "none"})
    host.reload()
    for method in ("Start", "Restart"):
        assert 'has no "readiness"' in host.error(path, VM, method, "a{sv}", "1", "wait", "s", "ready")
        assert '"running" or "ready"' in host.error(path, VM, method, "a{sv}", "1", "wait", "s", "godot")
    assert 'no option "wait"' in host.error(path, VM, "Stop", "a{sv}", "1", "wait", "s", "running")
    assert 'no option "host-shutdown"' in host.error(path, VM, "Restart", "a{sv}", "1", "host-shutdown", "b", "true")
    run = subprocess.run(["gdbus", "call", "--address", host.address, "--dest", NAME, "--object-path", path, "--method",
                          VM + ".Pause", "{}"], capture_output=True, text=True)
    assert "org.microvm1.Error.NotRunning" in run.stderr, run.stderr
    run = host.busctl("set-property", NAME, path, VM, "State", "s", "running", check=False)
    assert run.returncode != 0


def test_unreachable_libvirt_says_what_helps(host):
    host.stop()
    host.config({"libvirt": {"uri": "test:///nowhere.xml"}})
    host.start(online=False)
    wait_for("the failed try", lambda: "can't be reached" in host.get("/org/microvm1", MANAGER, "Drivers")[0][2])
    assert host.vm("a", "DriverOnline") is False
    run = subprocess.run(["gdbus", "call", "--address", host.address, "--dest", NAME, "--object-path",
                          "/org/microvm1/vm/a", "--method", VM + ".Start", "{}"], capture_output=True, text=True)
    assert "org.microvm1.Error.DriverUnavailable" in run.stderr, run.stderr
    assert host.vm("a", "State") == "inactive"


def test_validate(host):
    problems = host.call("/org/microvm1", MANAGER, "Validate", "s", '{"kernel": "/k",\n "vpcu": 2, "mem": []}')[0]
    assert problems[0][0] == "error" and problems[0][1] == "/vpcu" and problems[0][3:] == [2, 2], problems
    assert 'did you mean "vcpu"' in problems[0][2] and len(problems) == 2
    assert host.call("/org/microvm1", MANAGER, "Validate", "s", '{"kernel": "/k"} // good')[0] == []


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
    wait_for("a is gone", lambda: "/vm/a\n" not in host.busctl("tree", NAME, "--list").stdout + "\n")
    assert host.reload() == []
    os.kill(host.daemon.pid, signal.SIGHUP)


def test_objects_come_and_go_with_their_interface(host):
    monitor = host.monitor()
    host.define("new")
    os.unlink(host.path("vms/a.json"))
    host.reload()
    time.sleep(0.3)
    monitor.terminate()
    lines = monitor.communicate()[0].splitlines()
    for signal_name, path in (("InterfacesAdded", "/org/microvm1/vm/new"), ("InterfacesRemoved", "/org/microvm1/vm/a")):
        told = [line for line in lines if signal_name in line and f"'{path}'" in line]
        assert len(told) == 1 and VM in told[0], f"{signal_name}: {lines}"


def test_another_libvirt_waits_for_a_restart(host):
    host.config({"libvirt": {"uri": "test:///elsewhere.xml"}})
    host.reload()
    assert host.get("/org/microvm1", MANAGER, "Drivers") == [["libvirt", True, host.uri], ["direct", True, ""]]


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
    problem = host.call("/org/microvm1", MANAGER, "Validate", "s", '{"kernel": "/k"}')[0][0]
    assert host.path("defaults.json") + ":" in problem[2] and problem[3:] == [0, 0], problem
    host.write("defaults.json", '{"hotplugMem": "x"}')
    problem = host.call("/org/microvm1", MANAGER, "Validate", "s", '{"kernel": "/k"}')[0][0]
    assert problem[:2] == ["error", "/hotplugMem"], problem
    assert problem[2].startswith(host.path("defaults.json") + ':1:16: "x" is not a size'), problem
    assert "(at" not in problem[2], "the pointer is told once"
    host.write("defaults.json", "")
    host.reload()
    assert host.vm("b_2dc", "VCPUs") == 3 and host.vm("b_2dc", "Outdated") is True, "it runs with what it was started with"
    os.unlink(host.path("vms/b-c.json"))
    host.reload()
    assert "no definition of b-c any more" in host.error("/org/microvm1/vm/b_2dc", VM, "Cat", "a{sv}", "0")


def test_hangup_reloads(host):
    host.define("new")
    os.kill(host.daemon.pid, signal.SIGHUP)
    wait_for("the reload", lambda: "/vm/new" in host.busctl("tree", NAME, "--list").stdout)


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
    def is_gone():  # busctl fails where what it has just found goes while it looks at it
        run = host.busctl("tree", NAME, "--list", check=False)
        return run.returncode == 0 and "/vm/b_2dc" not in run.stdout

    wait_for("b-c is gone", is_gone)
    with open(host.path("vms/slow.json"), "w") as file:  # half a file is not read while it is written
        file.write('{ "kernel": ')
        file.flush()
        time.sleep(1)
        assert "/vm/slow" not in host.busctl("tree", NAME, "--list").stdout
        file.write('"/k" }')
    wait_for("slow", lambda: "/vm/slow" in host.busctl("tree", NAME, "--list").stdout)
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
    wait_for("late", lambda: "/vm/late" in host.busctl("tree", NAME, "--list").stdout)


def test_check_layers(host):
    def check(*names):
        run = subprocess.run(host.argv("--check", *map(host.path, names)), capture_output=True, text=True)
        return run.returncode, run.stdout

    for name in ("vms/a.json.d", "vms/none.json.d", "elsewhere", "elsewhere/x.json.d", "defaults.json.d"):
        os.mkdir(host.path(name))
    host.write("defaults.json", '{ "kernel": "/k", "vcpu": 2 }')
    host.write("elsewhere/x.json", "{}")
    assert check("elsewhere/x.json", "defaults.json")[0] == 0, "the kernel is in defaults.json"
    host.write("elsewhere/x.json.d/10.json", '{ "vcpu": "two" }')
    for name in ("elsewhere/x.json", "elsewhere/x.json.d/10.json"):
        code, out = check(name)
        assert code == 1 and "x.json.d/10.json:1:11: error:" in out, out
    host.write("vms/a.json.d/10.json", '{ "kernelParams+": ["a b"] }')
    code, out = check("vms/a.json.d/10.json")
    assert code == 1 and "a.json.d/10.json:1:21: error: one kernel parameter" in out, out
    host.write("vms/none.json.d/10.json", '{ "vpcu": 1 }')
    code, out = check("vms/none.json.d/10.json")
    assert code == 1 and 'did you mean "vcpu"' in out, out
    host.write("vms/t@.json", '{ "kernel": "/%i/%x" }')
    code, out = check("vms/t@.json")
    assert code == 1 and "t@.json:1:13: error: %x stands for nothing" in out, out
    host.write("defaults.json.d/10.json", '{ "mem": -1 }')
    assert check("defaults.json.d/10.json")[0] == 1
    host.write("defaults.json.d/10.json", '{ "mem": 10 }')
    host.write("vms/t@.json", '{ "kernel": "/%i" }')
    assert check("defaults.json.d/10.json", "vms/t@.json") == (0, "2 files are good.\n")


def test_check_files_together(host):
    def check(*names, folder="."):
        run = subprocess.run(host.argv("--check", *names), capture_output=True, text=True, cwd=host.path(folder))
        return run.returncode, run.stdout

    def network(number, **more):
        return json.dumps({"kernel": "/k", "interfaces": [{"type": "user", "mac": f"02:00:00:00:00:0{number}"}], **more})

    os.mkdir(host.path("new"))
    host.write("new/a.json", network(1, requires=["nobody"]))
    host.write("new/b.json", network(1))
    host.write("new/c.json", network(2))
    assert check("new/a.json")[0] == 0, "of files somewhere nobody knows whom they lack, nor what is beside them"
    assert check("new/a.json", "new/c.json") == (0, "2 files are good.\n")
    code, out = check("b.json", "a.json", folder="new")
    assert code == 1 and out.startswith("b.json:1:57: error: MAC address 02:00:00:00:00:01 is that of the microVM a already, in a.json;"), out
    assert out.count("\n") == 1, out
    # In a definition directory the others there count, and go before; what is wrong with them is their own affair.
    host.write("vms/k.json", network(3))
    host.write("vms/l.json", network(3))
    host.write("vms/m.json", network(4))
    host.write("vms/broken.json", "{")
    host.write("vms/d.json", network(4, requires=["kk", "broken"], wants=["mm"]))
    for name, folder in (("d.json", "vms"), ("vms/d.json", "."), (host.path("vms/d.json"), "/")):
        code, out = check(name, folder=folder)
        assert code == 1 and f"{name}:1:57: error: MAC address 02:00:00:00:00:04 is that of the microVM m already, in " in out, out
        assert re.search(name + r':1:\d+: error: no microVM is called "kk"', out), out
        assert re.search(name + r':1:\d+: error: no microVM is called "mm"', out), out
        assert out.count("\n") == 3, out
    assert check("vms/m.json")[0] == 0
    code, out = check("vms/l.json")
    assert code == 1 and "of the microVM k already" in out, out
    assert "of the microVM l already" in check("vms/k.json")[1], "who is asked about is the newcomer"
    assert "of the microVM k already" in check("vms/k.json", "vms/l.json")[1]
    assert check()[1].count("error: MAC address") == 2
    # through a drop-in, and by a relative path of it, also where its directory is the working one
    os.mkdir(host.path("vms/n.json.d"))
    host.write("vms/n.json", network(5))
    host.write("vms/n.json.d/10.json", '{"vsock": {"cid": 7}}')
    host.write("vms/o.json", '{"kernel": "/k", "vsock": {"cid": 7}}')
    for name, folder in (("10.json", "vms/n.json.d"), ("n.json.d/10.json", "vms"), ("../n.json.d//10.json", "vms/n.json.d")):
        code, out = check(name, folder=folder)
        assert code == 1 and out.startswith(f"{name}:1:19: error: vsock CID 7 is that of the microVM o already"), out
    # defaults.json by any path
    host.write("defaults.json", '{"mem": 64}')
    os.mkdir(host.path("defaults.json.d"))
    host.write("defaults.json.d/10.json", '{"vcpu": 1}')
    for name, folder in (("defaults.json", "."), ("../defaults.json", "vms"), ("10.json", "defaults.json.d")):
        assert check(name, folder=folder) == (0, "1 file is good.\n"), check(name, folder=folder)
    # a template is no microVM, but its instances are
    host.write("vms/t@.json", network(8))
    assert check("vms/t@.json")[0] == 0
    for name in "12":
        os.symlink("t@.json", host.path(f"vms/t@{name}.json"))
    code, out = check("t@.json", folder="vms")
    assert code == 1 and "t@.json:1:57: error: MAC address 02:00:00:00:00:08 is that of the microVM t@1 already" in out, out


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
    wait_for("b-c is gone", lambda: host.busctl("call", NAME, "/org/microvm1", MANAGER, "GetMicroVM", "s", "b-c",
                                                check=False).returncode != 0)


def test_host_turns_guest(host):
    host.ctl("start", "a")
    host.config({"guest": {"enable": True}})
    run = subprocess.run(["gdbus", "call", "--address", host.address, "--dest", NAME, "--object-path", "/org/microvm1",
                          "--method", MANAGER + ".Reload", "{}"], capture_output=True, text=True)
    assert "org.microvm1.Error.GuestMode" in run.stderr and "/guest/enable" in run.stderr, run.stderr
    assert host.get("/org/microvm1", MANAGER, "HostRole") == "conflict"
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
    assert host.get("/org/microvm1", MANAGER, "HostRole") == "host"
    assert host.ctl("start", "b-c").returncode == 0


def test_broken_configuration_is_not_taken(host):
    host.write("host.json", "{ this is no JSON")
    assert "can't be used" in host.error("/org/microvm1", MANAGER, "Reload", "a{sv}", "0")
    assert host.get("/org/microvm1", MANAGER, "HostRole") == "host"
    assert host.ctl("start", "a").returncode == 0, "the old configuration stays"


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
        run = subprocess.run(host.argv(), capture_output=True, text=True, timeout=20)
        assert run.returncode == 78, f"{what}: exit code {run.returncode}: {run.stderr}"
        assert host.dir in run.stderr and "To mend it" in run.stderr, f"{what}: {run.stderr}"
        check = subprocess.run(host.argv("--check"), capture_output=True, text=True, timeout=20)
        assert check.returncode == 78 and "To mend it" in check.stdout, f"{what}: {check.stdout}"
        if os.path.exists(host.path("host.json.d/50-x.json")):
            os.unlink(host.path("host.json.d/50-x.json"))
    os.unlink(host.path("host.json"))
    os.mkdir(host.path("host.json"))
    assert subprocess.run(host.argv(), capture_output=True, timeout=20).returncode == 78, "a directory"
    os.rmdir(host.path("host.json"))
    os.symlink("/nowhere", host.path("host.json"))
    assert subprocess.run(host.argv(), capture_output=True, timeout=20).returncode == 78, "a dangling link"
    watcher.terminate()
    told = watcher.communicate()[0]
    assert told.count("is owned by") <= 1, "it took its name: " + told


def test_no_configuration_means_defaults(host):
    host.stop()
    os.unlink(host.path("host.json"))
    run = subprocess.run(host.argv("--check"), capture_output=True, text=True, timeout=20)
    assert run.returncode == 0 and "good" in run.stdout, run.stdout


def test_check(host):
    host.stop()
    host.write("vms/bad.json", '{"kernel": "/k", "mem": -1, "vpcu": 2}')
    run = subprocess.run(host.argv("--check"), capture_output=True, text=True, timeout=20)
    assert run.returncode == 1 and run.stdout.count("bad.json:1:") == 2, run.stdout
    run = subprocess.run(host.argv("--check", host.path("vms/a.json")), capture_output=True, text=True, timeout=20)
    assert run.returncode == 0, run.stdout
    assert subprocess.run([DAEMON, "--frobnicate"], capture_output=True).returncode == 2
    assert subprocess.run([DAEMON, "surplus"], capture_output=True).returncode == 2
    run = subprocess.run([DAEMON, "--bus", "sytem"], capture_output=True, text=True)
    assert run.returncode == 2 and "system, user, or a D-Bus address" in run.stderr, run.stderr
    for what in ("vm", "host"):
        schema = subprocess.run([DAEMON, "--dump-schema", what], capture_output=True, text=True)
        assert json.loads(schema.stdout)["$schema"].endswith("2020-12/schema")


def test_only_one_daemon(host):
    run = subprocess.run(host.argv(), capture_output=True, text=True, timeout=20)
    assert run.returncode == 1 and "Another microvmd" in run.stderr, run.stderr


def test_the_name_of_one_that_is_dead(host):
    """The bus has not seen its death yet."""
    host.stop()
    keep = f"""import dbus, time
bus = dbus.bus.BusConnection("{host.address}")
bus.request_name("{NAME}")
print("mine", flush=True)
time.sleep(0.7)"""
    with subprocess.Popen(["/usr/bin/python3", "-c", keep], stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout.readline() == "mine\n"
        host.start(online=False)
    assert wait_for("its answer", lambda: host.ctl("list")).returncode == 0


def test_only_one_daemon_a_runtime_directory(host):
    other = Host(uri=host.uri)
    try:
        argv = host.argv()
        argv[argv.index("--bus") + 1] = other.address
        run = subprocess.run(argv, capture_output=True, text=True, timeout=20)
        assert run.returncode == 1 and host.path("run") in run.stderr, run.stderr
    finally:
        other.close()
    host.stop(signal.SIGKILL)
    host.start()


def test_the_end_of_the_bus_is_a_failure(host):
    host.bus.kill()
    assert host.daemon.wait(20) == 1, "systemd is to start it again"
    host.daemon = None


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def test_others_may_look_but_not_touch(host):
    path = "/org/microvm1/vm/a"
    assert host.busctl("get-property", NAME, path, VM, "State", prefix=NOBODY).returncode == 0
    for method, args in (("Start", ("a{sv}", "0")), ("Stop", ("a{sv}", "0")), ("Kill", ("i", "9")),
                         ("OpenConsole", ("a{sv}", "0")), ("OpenLog", ("a{sv}", "0")), ("GetDefinition", ("a{sv}", "0")), ("Cat", ("a{sv}", "0")),
                         ("ResetFailed", ()), ("SetMemory", ("t", "1048576"))):
        refusal = host.error(path, VM, method, *args, prefix=NOBODY)
        assert "Access denied" in refusal, f"{method}: {refusal}"
    assert "Access denied" in host.error("/org/microvm1", MANAGER, "Reload", "a{sv}", "0", prefix=NOBODY)
    for verb in ("start", "stop", "kill", "console", "logs"):
        run = host.ctl(verb, "a", prefix=NOBODY)
        assert run.returncode == 77 and "only root may" in run.stderr, f"{verb}: {run}"
    assert host.ctl("list", prefix=NOBODY).returncode == 0
    assert host.vm("a", "State") == "inactive"


def test_outlives_nothing_but_its_records(host):
    host.ctl("start", "a")
    host.ctl("stop", "--force", "a")
    assert host.stop() == 0, "a clean stop"
    host.start()
    assert host.vm("a", "State") == "inactive" and "by force" in host.vm("a", "StateReason")


def test_autostart_once_a_boot(host):
    host.stop()
    shutil.rmtree(host.runtime)
    os.mkdir(host.runtime)
    host.define("a", autostart=True)
    host.start()
    wait_for("autostart", lambda: host.vm("a", "State") == "running")
    host.ctl("stop", "--force", "a")
    host.define("b-c", autostart=True)
    host.stop(signal.SIGKILL)
    host.start()
    time.sleep(0.5)
    assert host.vm("a", "State") == "inactive", "stopped by hand"
    assert host.vm("b_2dc", "State") == "inactive", "it appeared later"


def test_order(host):
    host.define("db")
    host.define("web", requires=["db"], after=["db"])
    host.define("clash", machineId=host.vm("a", "UUID"))
    host.write("vms/lost.json", json.dumps({"kernel": host.kernel, "requires": ["nobody"]}))
    assert ("clash", "invalid") in map(tuple, host.reload())
    assert "is that of the microVM a already" in host.vm("clash", "StateReason") and "vms/a.json" in host.vm("clash", "StateReason")
    assert 'no microVM is called "nobody"' in host.vm("lost", "StateReason")
    assert host.ctl("start", "web").returncode == 0
    assert host.vm("db", "State") == "running" and host.vm("db", "StartTimestamp") < host.vm("web", "StartTimestamp")
    host.write("vms/db.json", "{")
    host.ctl("stop", "--force", "web", "db")
    host.reload()
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "it requires db" in run.stderr, run
    os.unlink(host.path("vms/a.json"))
    host.reload()
    assert host.vm("clash", "State") == "inactive", "mended by the other one's end"


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


# --- definitions that are written by microvmd ---

ROOT = "/org/microvm1"


def define(host, name, content, prefix=(), **options):
    """The problems; options are strings or booleans."""
    words = ["Define", "ssa{sv}", name, content, str(len(options))]
    for key, value in options.items():
        is_bool = isinstance(value, bool)
        words += [key.replace("_", "-"), "b" if is_bool else "s", str(value).lower() if is_bool else value]
    run = host.busctl("call", NAME, ROOT, MANAGER, *words, check=False, prefix=prefix)
    return json.loads(run.stdout)["data"][0] if run.returncode == 0 else run.stderr


def refusal_of(host, name, content, options="{}"):
    """What somebody is told, in full: busctl has its own words for a denial."""
    run = subprocess.run([*NOBODY, "gdbus", "call", "--address", host.address, "--dest", NAME, "--object-path", ROOT,
                          "--method", MANAGER + ".Define", name, content, options], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0, f"it was accepted: {content}: {run.stdout}"
    return run.stderr


def read(path):
    with open(path) as file:
        return file.read()


def state_of(host, name):
    return host.call(ROOT, MANAGER, "GetDefinitionState", "s", name)[0]


def good(host, **more):
    return json.dumps({"kernel": host.kernel, "autostart": False, **more})


def test_define(host):
    path = host.path("vms/new.json")
    text = "// mine\n" + good(host, labels={"tier": "web"})
    assert define(host, "new", text, expected="") == []
    assert read(path) == text and os.stat(path).st_mode & 0o777 == 0o644
    assert host.vm("new", "State") == "inactive" and host.vm("new", "Labels") == {"tier": "web"}
    assert "is there already" in define(host, "new", good(host), expected="")
    assert read(path) == text, "nothing was lost"
    assert define(host, "new", good(host, mem=300), expected=text) == []
    assert host.vm("new", "MemoryBytes") == 300 << 20
    assert "changed by somebody else" in define(host, "new", good(host), expected=text)
    assert json.loads(read(path))["mem"] == 300
    os.chmod(path, 0o600)
    assert define(host, "new", good(host, mem=301)) == [] and os.stat(path).st_mode & 0o777 == 0o600, "its mode stays"
    assert sorted(os.listdir(host.definitions)) == ["a.json", "b-c.json", "new.json"], "nothing is left behind"
    assert [name for name in os.listdir(host.path("run/daemon")) if name.startswith("define")] == []
    for name in ("../x", ".x", "a/b", "x" * 65):
        assert "can't be the name" in define(host, name, good(host)), name
    assert "only in case" in define(host, "NEW", good(host))[0][2], "two names that differ only in case"
    assert "no option" in define(host, "x", good(host), frobnicate="y")


def test_define_makes_the_directory(host):
    host.stop()
    shutil.rmtree(host.definitions)
    host.start()
    assert define(host, "new", good(host)) == []
    assert os.stat(host.definitions).st_mode & 0o777 == 0o755 and host.vm("new", "State") == "inactive"


def test_define_refuses_what_is_broken(host):
    before = read(host.path("vms/a.json"))
    for text, place in (('{"kernel": "/k",\n "vpcu": 2}', ["/vpcu", 2, 2]), ("{", ["", 1, 2]), ("", ["", 0, 0]),
                        ("{}", ["", 1, 1])):
        problems = define(host, "a", text)
        assert problems[0][0] == "error" and [problems[0][1], *problems[0][3:]] == place, f"{text[:20]}: {problems}"
        assert "define." not in problems[0][2], "no word of where it was looked at"
    assert read(host.path("vms/a.json")) == before and state_of(host, "a") == "disabled"
    os.rename(host.path("vms/a.json"), host.path("elsewhere.json"))
    os.symlink(host.path("elsewhere.json"), host.path("vms/a.json"))
    assert "link" in define(host, "a", good(host)) and read(host.path("elsewhere.json")) == before


def test_define_tells_what_is_broken_below(host):
    host.write("defaults.json", '{"vpcu": 1}')
    problems = define(host, "new", good(host))
    assert problems and problems[0][0] == "error" and "defaults.json" in problems[0][2], problems
    assert not os.path.exists(host.path("vms/new.json"))


def test_two_writers_lose_nothing(host):
    """Each adds its own key to what it has read; who is too late reads again."""
    assert define(host, "new", good(host, labels={}), expected="") == []
    program = """
import json, subprocess, sys
path, address, mine = sys.argv[1:]
for _ in range(200):
    with open(path) as file:
        text = file.read()
    new = json.loads(text)
    new["labels"][mine] = "x"
    run = subprocess.run(["busctl", "--address=" + address, "call", "org.microvm1", "/org/microvm1", "org.microvm1.Manager",
                          "Define", "ssa{sv}", "new", json.dumps(new), "1", "expected", "s", text], capture_output=True)
    if run.returncode == 0:
        sys.exit(0)
sys.exit("never")
"""
    writers = [subprocess.Popen([sys.executable, "-c", program, host.path("vms/new.json"), host.address, f"w{i}"])
               for i in range(6)]
    assert [writer.wait(120) for writer in writers] == [0] * 6
    assert set(host.vm("new", "Labels")) == {f"w{i}" for i in range(6)}


def test_define_drop_in(host):
    assert "No microVM is called" in define(host, "nobody", "{}", drop_in="50-x.json")
    for name in ("x", "../x.json", ".x.json", "a/x.json"):
        assert "can't be a drop-in" in define(host, "a", "{}", drop_in=name), name
    path = host.path("vms/a.json.d/override.json")
    assert define(host, "a", '{"mem": 700}', drop_in="override.json", expected="") == []
    assert read(path) == '{"mem": 700}' and host.vm("a", "MemoryBytes") == 700 << 20
    for text, place in (('{"mem": 700,\n "vpcu": 1}', ["/vpcu", 2, 2]), ('{"vcpu": 1000}', ["/vcpu", 1, 10]), ('[]', ["", 1, 1]),
                        ('{"kernel": null}', None)):
        problems = define(host, "a", text, drop_in="override.json")
        assert problems[0][0] == "error" and place in (None, [problems[0][1], *problems[0][3:]]), f"{text}: {problems}"
    host.write("vms/b-c.json", '{"kernel": "/k", "vpcu": 1}')
    problems = define(host, "b-c", '{"mem": 700}', drop_in="override.json")
    assert problems[0][3:] == [0, 0] and host.path("vms/b-c.json:1:") in problems[0][2], "a mistake of another file says where"
    assert read(path) == '{"mem": 700}' and host.vm("a", "MemoryBytes") == 700 << 20
    assert host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "1", "drop-in", "s", "override.json") == [[]]
    assert host.vm("a", "MemoryBytes") == 512 << 20
    assert not os.path.exists(os.path.dirname(path)), "the empty directory goes, too"
    assert define(host, "a", '{"autostart": true}', drop_in="50-autostart.json", prune=True) == []
    assert state_of(host, "a") == "enabled" and os.listdir(host.path("vms/a.json.d")) == ["50-autostart.json"]
    assert define(host, "a", '{"autostart": false}', drop_in="50-autostart.json", prune=True) == []
    assert state_of(host, "a") == "disabled"
    assert not os.path.exists(host.path("vms/a.json.d")), "what changes nothing is not kept"


def test_drop_in_that_is_empty(host):
    os.mkdir(host.path("vms/a.json.d"))
    host.write("vms/a.json.d/override.json", "")
    assert define(host, "a", '{"mem": 700}', drop_in="override.json", expected="") == []
    assert host.vm("a", "MemoryBytes") == 700 << 20
    host.write("vms/hidden.json", "")
    assert "unmask it first" in define(host, "hidden", good(host), expected="")


def test_define_templates(host):
    """A template is checked as an instance of it would be, whether there is one or not."""
    template = json.dumps({"kernel": host.kernel, "autostart": False, "labels": {"i": "%i"}})
    assert define(host, "web@", template, expected="") == []
    assert read(host.path("vms/web@.json")) == template and state_of(host, "web@") == "template"
    assert "is there already" in define(host, "web@", template, expected="")
    for text, place in (('{"kernel": "/k",\n "vpcu": 2}', ["/vpcu", 2, 2]), ("{", ["", 1, 2]), ("{}", ["", 1, 1]),
                        ('{"kernel": "/k", "description": "%z"}', ["/description", 1, 33])):
        problems = define(host, "web@", text)
        assert problems[0][0] == "error" and [problems[0][1], *problems[0][3:]] == place, f"{text}: {problems}"
        assert "define." not in problems[0][2], problems
    os.symlink("web@.json", host.path("vms/web@1.json"))
    host.reload()
    assert host.vm("web_401", "Labels") == {"i": "1"}
    assert define(host, "web@", template.replace("%i", "no%i")) == [] and host.vm("web_401", "Labels") == {"i": "no1"}
    problems = define(host, "web@", '{"kernel": "/k",\n "vpcu": 2}')
    assert problems[0][1:2] + problems[0][3:] == ["/vpcu", 2, 2], problems
    assert define(host, "web@", '{"mem": 700}', drop_in="50-mem.json") == [] and host.vm("web_401", "MemoryBytes") == 700 << 20
    assert define(host, "web@", '{"mem": -1}', drop_in="50-mem.json")[0][0] == "error"
    assert "No microVM is called" in define(host, "db@", "{}", drop_in="50-x.json")
    for name in ("@", "a@b@", ".@", "x" * 64 + "@"):
        assert "can't be the name" in define(host, name, template), name
    assert "template" in host.error(ROOT, MANAGER, "CreateTransient", "ssa{sv}", "t@", template, "0")
    authority = polkit(host, "org.microvm1.define")
    assert "define-unsafe" in refusal_of(host, "new@", json.dumps({"kernel": host.kernel})), "before there is any instance"
    assert "define-unsafe" in refusal_of(host, "web@", json.dumps({"kernel": host.kernel, "initrd": "/etc/shadow"}))
    asked(authority)
    for words, told in ((("create", "db@", "--kernel", host.kernel), "ln -s db@.json"), (("create", "db@", "--kernel", "/k"), "edit db@")):
        run = host.ctl(*words)
        assert told in run.stdout + run.stderr, run
    assert read(host.path("vms/db@.json"))
    host.write("editor", "#!/bin/sh\nsed -i 's/kernel/kernel/; s/{/{ \"mem\": 300,/' \"$1\"\n")
    os.chmod(host.path("editor"), 0o755)
    run = subprocess.run([CTL, "edit", "db@"], capture_output=True, text=True, timeout=60,
                         env={**os.environ, "MICROVM_BUS": host.address, "TMPDIR": host.dir, "VISUAL": host.path("editor")})
    assert run.returncode == 0 and json.loads(read(host.path("vms/db@.json")))["mem"] == 300, run


def test_no_autostart(host):
    assert define(host, "new", json.dumps({"kernel": host.kernel}), no_autostart=True) == []
    assert state_of(host, "new") == "disabled"
    assert define(host, "two", "// {\n{ // x\n \"kernel\": \"/k\", \"autostart\": true }", no_autostart=True) == []
    assert state_of(host, "two") == "enabled", "what it says itself counts"


def test_transient(host):
    create = ("CreateTransient", "ssa{sv}")
    assert host.call(ROOT, MANAGER, *create, "tmp", json.dumps({"kernel": host.kernel}), "0") == ["/org/microvm1/vm/tmp"]
    assert os.listdir(host.transient) == ["tmp.json"] and not os.path.exists(host.path("vms/tmp.json"))
    assert state_of(host, "tmp") == "transient" and host.vm("tmp", "Autostart") is False
    assert "already" in host.error(ROOT, MANAGER, *create, "tmp", good(host), "0")
    assert "already" in host.error(ROOT, MANAGER, *create, "a", good(host), "0")
    refusal = host.error(ROOT, MANAGER, *create, "bad", '{"kernel": "/k",\n "vpcu": 2}', "0")
    assert "2:2" in refusal and "vcpu" in refusal, refusal
    host.call("/org/microvm1/vm/tmp", VM, "Start", "a{sv}", "0")
    wait_for("running", lambda: host.vm("tmp", "State") == "running")
    assert "stop it first" in host.error(ROOT, MANAGER, "Undefine", "sa{sv}", "tmp", "0")
    host.call("/org/microvm1/vm/tmp", VM, "Stop", "a{sv}", "1", "force", "b", "true")
    wait_for("inactive", lambda: host.vm("tmp", "State") == "inactive")
    assert host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "tmp", "0") == [[os.path.join(host.transient, "tmp.json")]]
    assert "No microVM" in host.error(ROOT, MANAGER, "GetDefinitionState", "s", "tmp")


def test_what_is_undeclared_can_be_defined_again(host):
    host.call("/org/microvm1/vm/a", VM, "Start", "a{sv}", "0")
    wait_for("running", lambda: host.vm("a", "State") == "running")
    os.unlink(host.path("vms/a.json"))
    host.reload()
    assert state_of(host, "a") == "undeclared"
    run = host.ctl("create", "a", "--kernel", host.kernel)
    assert run.returncode == 0 and state_of(host, "a") == "disabled", run
    os.unlink(host.path("vms/a.json"))
    host.reload()
    host.call(ROOT, MANAGER, "CreateTransient", "ssa{sv}", "a", good(host), "0")
    assert state_of(host, "a") == "transient" and host.vm("a", "State") == "running"


def test_guest_mode_does_not_lose_what_was_written(host):
    host.config({"guest": {"enable": True}})
    refusal = define(host, "new", good(host))
    assert "guest" in refusal and os.path.exists(host.path("vms/new.json")), refusal
    host.config({})
    host.reload()
    assert host.vm("new", "State") == "inactive"


def test_undefine(host):
    state = host.path("state/vm/a")
    os.makedirs(os.path.join(state, "disks"))
    volume = os.path.join(state, "disks", "data.img")
    host.write(volume, "data")
    os.mkdir(host.path("vms/a.json.d"))
    host.write("vms/a.json.d/50-x.json", "{}")
    files = [host.path("vms/a.json"), host.path("vms/a.json.d/50-x.json")]
    dry = host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "2", "purge", "b", "true", "dry-run", "b", "true")[0]
    assert dry == [*files, volume] and all(map(os.path.exists, dry)), dry
    assert host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "0") == [files]
    assert not os.path.exists(host.path("vms/a.json.d")) and read(volume) == "data", "volumes stay"
    assert "No microVM is called" in host.error(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "0")
    host.define("a")
    host.reload()
    assert volume in host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "1", "purge", "b", "true")[0]
    assert not os.path.exists(state)


def test_mask(host):
    path = host.path("vms/low.json")
    os.mkdir(host.transient)
    host.write("run-vms/low.json", good(host))
    host.reload()
    host.call(ROOT, MANAGER, "Mask", "s", "low")
    assert os.readlink(path) == "/dev/null" and state_of(host, "low") == "masked"
    wait_for("it is gone", lambda: "/vm/low\n" not in host.busctl("tree", NAME, "--list").stdout + "\n")
    host.call(ROOT, MANAGER, "Mask", "s", "low")
    assert "unmask it first" in define(host, "low", good(host)), "a mask is not overwritten"
    assert "already" in host.error(ROOT, MANAGER, "CreateTransient", "ssa{sv}", "low", good(host), "0")
    host.call(ROOT, MANAGER, "Unmask", "s", "low")
    assert not os.path.lexists(path) and state_of(host, "low") == "transient"
    host.call(ROOT, MANAGER, "Unmask", "s", "low")
    assert "is a definition itself" in host.error(ROOT, MANAGER, "Mask", "s", "a")
    assert "no mask" in host.error(ROOT, MANAGER, "Unmask", "s", "a")
    assert state_of(host, "a") == "disabled"


def test_only_who_may_defines(host):
    refusal = define(host, "new", good(host), prefix=NOBODY)
    assert "Access denied" in refusal and not os.path.exists(host.path("vms/new.json")), refusal
    for words in (("CreateTransient", "ssa{sv}", "new", good(host), "0"), ("Undefine", "sa{sv}", "a", "0"), ("Mask", "s", "x"),
                  ("Unmask", "s", "x")):
        assert "Access denied" in host.error(ROOT, MANAGER, *words, prefix=NOBODY), words
    assert host.busctl("call", NAME, ROOT, MANAGER, "GetDefinitionState", "s", "a", prefix=NOBODY).returncode == 0


POLKIT = """
import sys, dbus, dbus.service, dbus.mainloop.glib
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(sys.argv[1])
name = dbus.service.BusName("org.freedesktop.PolicyKit1", bus)
class Authority(dbus.service.Object):
    @dbus.service.method("org.freedesktop.PolicyKit1.Authority", "(sa{sv})sa{ss}us", "(bba{ss})")
    def CheckAuthorization(self, subject, action, details, flags, cancel):
        print(action, details.get("microvm", "-"), details["verb"], flush=True)
        return (action in sys.argv[2:], False, {})
authority = Authority(bus, "/org/freedesktop/PolicyKit1/Authority")
print("ready", flush=True)
GLib.MainLoop().run()
"""


def polkit(host, *allowed):
    """A polkit that allows these actions, and tells what it is asked for. The modules are the distribution's."""
    process = subprocess.Popen(["/usr/bin/python3", "-c", POLKIT, host.address, *allowed], text=True, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    return process


def asked(process):
    process.terminate()
    return process.communicate()[0].splitlines()


def test_reaching_further_takes_another_right(host):
    inside = host.path("state/kernels/vmlinuz")
    safe = json.dumps({"kernel": inside, "volumes": ["x.img"]})
    authority = polkit(host, "org.microvm1.define")
    assert define(host, "new", safe, prefix=NOBODY) == []
    assert define(host, "a", good(host, mem=77), prefix=NOBODY) == [], "its kernel was outside before"
    for key, keys in (("kernel", {"kernel": host.kernel}), ("initrd", {"initrd": "/etc/shadow"}),
                      ("initrd", {"initrd": host.path("state/../host.json")}),
                      ("volumes", {"volumes": ["/dev/sda"]}),
                      ("volumes", {"volumes": [{"image": "y", "size": 1, "mkfsExtraArgs": ["-d", "/etc"]}]})):
        refusal = refusal_of(host, "new", json.dumps({"kernel": inside, **keys}))
        assert "AccessDenied" in refusal and "define-unsafe" in refusal and f'"{key}"' in refusal, f"{key}: {refusal}"
    assert read(host.path("vms/new.json")) == safe
    refusal = refusal_of(host, "new", '{"volumes+": ["/dev/sda"]}', "{'drop-in': <'x.json'>}")
    assert "define-unsafe" in refusal, f"a patch reaches as far: {refusal}"
    questions = asked(authority)
    assert questions[0] == "org.microvm1.define new Define" and "org.microvm1.define-unsafe new Define" in questions
    assert questions.count("org.microvm1.define-unsafe new Define") == 6, questions
    authority = polkit(host, "org.microvm1.define", "org.microvm1.define-unsafe")
    assert define(host, "new", good(host), prefix=NOBODY) == []
    assert asked(authority) == ["org.microvm1.define new Define", "org.microvm1.define-unsafe new Define"]
    authority = polkit(host, "org.microvm1.define-unsafe")
    assert "action org.microvm1.define." in refusal_of(host, "x", safe), "the one does not stand for the other"
    asked(authority)
    host.config({"images": {"directories": [host.dir]}})
    host.reload()
    authority = polkit(host, "org.microvm1.define")
    assert define(host, "x", good(host), prefix=NOBODY) == [], "a declared directory"
    os.symlink("/etc", host.path("link"))
    assert "define-unsafe" in refusal_of(host, "x", good(host, initrd=host.path("link/passwd"))), "a link leads out"
    asked(authority)


OPEN_LOGS = """
import sys, dbus
bus = dbus.bus.BusConnection(sys.argv[1])
vm = dbus.Interface(bus.get_object("org.microvm1", "/org/microvm1/vm/a", introspect=False), "org.microvm1.MicroVM")
logs, end = [], "no end"
try:
    while len(logs) < 300:
        logs.append(vm.OpenLog(dbus.Dictionary({"follow": True}, signature="sv")).take())
except dbus.DBusException as error:
    end = error.get_dbus_name()
print(len(logs), end, flush=True)
sys.stdin.readline()
"""


def test_consoles_and_logs_of_one_user(host):
    """Nobody takes what microvmd has of descriptors and memory for others, also not by many connections."""
    path = "/org/microvm1/vm/a"
    os.makedirs(host.path("state/vm/a"), exist_ok=True)
    host.write("state/vm/a/console.log", "a line\n")
    authority = polkit(host, "org.microvm1.console")
    with subprocess.Popen([*NOBODY, "/usr/bin/python3", "-c", OPEN_LOGS, host.address], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        told = reader.stdout.readline()
        assert told == "256 org.freedesktop.DBus.Error.LimitsExceeded\n", told
        for method in ("OpenLog", "OpenConsole"):
            refusal = host.error(path, VM, method, "a{sv}", "0", prefix=NOBODY)
            assert "The user 65534 has 256 consoles and console logs open" in refusal, refusal
        assert host.busctl("call", NAME, path, VM, "OpenLog", "a{sv}", "0").returncode == 0, "another user"
    wait_for("the end of a log", lambda: host.busctl("call", NAME, path, VM, "OpenLog", "a{sv}", "0", prefix=NOBODY,
                                                     check=False).returncode == 0)
    asked(authority)


def test_mighty_commands_for_qemu_take_another_right(host):
    """libvirt's QEMU is not asked in the end, but that is told only to who might."""
    path, read_only, mighty = "/org/microvm1/vm/a", '{"execute": "query-status"}', '{"execute": "stop"}'
    host.ctl("start", "a")
    def refusal(command):
        return host.error(path, VM, "Qmp", "sa{sv}", command, "0", prefix=NOBODY)
    assert "Access denied" in refusal(read_only), "there is no polkit"
    authority = polkit(host, "org.microvm1.inspect")
    assert "virsh qemu-monitor-command a" in refusal(read_only)
    assert "Access denied" in refusal(mighty)
    # The first of two names counts, and is what would be sent.
    assert "Access denied" in refusal('{"execute": "stop", "execute": "query-status"}')
    assert "no command for QEMU" in refusal('{"execute": "query-status"} {"execute": "stop"}')
    assert asked(authority) == ["org.microvm1.inspect a Qmp"] * 2 + ["org.microvm1.define-unsafe a Qmp"] + \
        ["org.microvm1.inspect a Qmp", "org.microvm1.define-unsafe a Qmp", "org.microvm1.inspect a Qmp"]
    authority = polkit(host, "org.microvm1.define-unsafe")
    assert "Access denied" in refusal(mighty), "the one does not stand for the other"
    asked(authority)
    authority = polkit(host, "org.microvm1.inspect", "org.microvm1.define-unsafe")
    assert "virsh qemu-monitor-command a" in refusal(mighty)
    asked(authority)
    run = host.ctl("qmp", "a", "query-status")
    assert run.returncode == 1 and "a is run by libvirt" in run.stderr, run.stderr


def test_verbs_that_define(host):
    """The whole way, from the command line to the files and back."""
    environment = {**os.environ, "MICROVM_BUS": host.address, "TMPDIR": host.dir}

    def ctl(code, *words, **more):
        run = subprocess.run([CTL, *words], capture_output=True, text=True, timeout=60, env={**environment, **more})
        assert run.returncode == code, f"{words}: {run}"
        return run.stdout + run.stderr

    ctl(0, "create", "web", "--kernel", host.kernel, "--mem=300", "--volume=data.img:64", "--interface=user", "--set=labels.tier=x")
    assert host.vm("web", "MemoryBytes") == 300 << 20 and ctl(1, "is-enabled", "web") == "disabled\n"
    assert "web" in ctl(0, "list", "-l", "tier=x", "--no-legend")
    ctl(0, "enable", "web")
    assert ctl(0, "is-enabled", "web") == "enabled\n"
    ctl(0, "disable", "web")
    assert not os.path.exists(host.path("vms/web.json.d")), "enable and disable leave nothing behind"
    os.mkdir(host.path("vms/web.json.d"))
    host.write("vms/web.json.d/50-autostart.json", '{ "autostart": false, "mem": 300 } // mine\n')
    assert "not written by enable" in ctl(1, "enable", "web")
    assert "mine" in read(host.path("vms/web.json.d/50-autostart.json"))
    shutil.rmtree(host.path("vms/web.json.d"))
    ctl(0, "enable", "--now", "web")
    assert host.vm("web", "State") == "running"
    editor = host.path("editor")
    host.write("editor", "#!/bin/sh\nsed -i \"s/300/$SIZE/\" \"$1\"\n")
    os.chmod(editor, 0o755)
    assert "+  \"mem\": 400" in ctl(0, "edit", "web", EDITOR=editor, VISUAL="", SIZE="400")
    assert "web" in ctl(0, "list", "--outdated", "--no-legend")
    host.write("editor", "#!/bin/sh\nsed -i s/400/-1/ \"$1\"\n")
    assert "json:3:" in ctl(1, "edit", "web", EDITOR=editor, VISUAL="")
    assert json.loads(read(host.path("vms/web.json")))["mem"] == 400
    ctl(0, "create", "low", "--transient", "--kernel", host.kernel)
    host.write("editor", "#!/bin/sh\necho '{ \"mem\": 77 }' >\"$1\"\n")
    ctl(0, "edit", "low", EDITOR=editor, VISUAL="")
    override = host.path("run-vms/low.json.d/override.json")
    assert read(override) == '{ "mem": 77 }\n' and host.vm("low", "MemoryBytes") == 77 << 20
    host.write("editor", f"#!/bin/sh\necho '{{}}' >{override}; echo >\"$1\"\n")
    assert "by somebody else" in ctl(1, "edit", "low", EDITOR=editor, VISUAL="")
    assert read(override) == "{}\n", "an emptied drop-in takes no other's with it"
    host.write("editor", "#!/bin/sh\necho >\"$1\"\n")
    ctl(0, "edit", "low", EDITOR=editor, VISUAL="")
    assert not os.path.exists(os.path.dirname(override))
    for verb in ("enable", "disable"):
        assert "low is transient" in ctl(1, verb, "low") and ctl(1, "is-enabled", "low") == "transient\n"
    assert not os.path.exists(host.path("vms/low.json.d")), "nothing of it outlives a reboot"
    ctl(0, "mask", "low")
    assert "microvmctl unmask low" in ctl(1, "edit", "low", EDITOR=editor, VISUAL="")
    assert ctl(1, "is-enabled", "low") == "masked\n"
    ctl(0, "unmask", "low")
    ctl(0, "create", "hidden", "--transient", "--kernel", host.kernel)
    ctl(0, "start", "hidden")
    ctl(0, "mask", "hidden")
    assert "run-vms/hidden.json" in ctl(0, "remove", "hidden", "--force", "--yes"), "it is known by its files when it has stopped"
    assert "hidden" not in "".join(os.listdir(host.transient) + os.listdir(host.definitions))
    assert "vms/web.json" in ctl(0, "remove", "web", "low", "--force", "--yes", "--purge")
    assert os.listdir(host.transient) == [] and sorted(os.listdir(host.definitions)) == ["a.json", "b-c.json"]
    assert not os.path.exists(host.path("state/vm/web")), "purged"
    assert ctl(4, "is-enabled", "web") == "not-found\n"


def test_verbs_on_what_is_undeclared(host):
    host.define("c")
    host.reload()
    assert host.ctl("start", "c").returncode == 0
    os.unlink(host.path("vms/c.json"))
    host.reload()
    assert state_of(host, "c") == "undeclared"
    for verb in ("enable", "disable"):
        run = host.ctl(verb, "c")
        assert run.returncode == 1 and "There is no definition of c any more" in run.stderr, run
    run = host.ctl("remove", "c", "--yes", "--purge", "--force")
    assert run.returncode == 1 and "--prune --purge c" in run.stderr and host.vm("c", "State") == "running", run
    run = host.ctl("remove", "c", "--yes", "--force")
    assert run.returncode == 0 and "Removed c" in run.stdout, run
    assert "No microVM" in host.error(ROOT, MANAGER, "GetDefinitionState", "s", "c")


def make_host():
    host = Host()
    host.define("a")
    host.define("b-c")
    host.start()
    return host


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules["__main__"]), make_host))
