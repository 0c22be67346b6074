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
from harness import DAEMON, MANAGER, NAME, SOURCE, VM, Host, run_tests, tests_of, wait_for  # noqa: E402


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


def test_errors_have_names_and_sentences(host):
    path = "/org/microvm1/vm/a"
    assert "nothing to pause" in host.error(path, VM, "Pause", "a{sv}", "0")
    assert "nothing to kill" in host.error(path, VM, "Kill", "i", "9")
    assert 'no option "frobnicate"' in host.error(path, VM, "Start", "a{sv}", "1", "frobnicate", "b", "true")
    assert 'must be of type "b"' in host.error(path, VM, "Stop", "a{sv}", "1", "force", "s", "yes")
    assert "a has no console log yet" in host.error(path, VM, "OpenLog", "a{sv}", "0")
    assert "boot -2 of a" in host.error(path, VM, "OpenLog", "a{sv}", "1", "boot", "i", "--", "-2")
    for method in ("Start", "Restart"):
        assert "no readiness" in host.error(path, VM, method, "a{sv}", "1", "wait", "s", "ready")
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
    assert host.get("/org/microvm1", MANAGER, "Drivers") == [["libvirt", True, host.uri]]


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
    wait_for("b-c is gone", lambda: "/vm/b_2dc" not in host.busctl("tree", NAME, "--list").stdout)
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
                         ("ResetFailed", ())):
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


def make_host():
    host = Host()
    host.define("a")
    host.define("b-c")
    host.start()
    return host


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules["__main__"]), make_host))
