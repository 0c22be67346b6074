#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interface of microvmd, and that there is one microvmd: on a private bus, with libvirt's test driver. Prints TAP."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bus import make_host  # noqa: E402
from harness import MANAGER, NAME, ROOT, SOURCE, VM, Host, run_tests, tests_of, wait_for  # noqa: E402


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
    for path, interface in ((ROOT, MANAGER), ("/org/microvm1/vm/a", VM)):
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
    rows = host.call(ROOT, MANAGER, "ListMicroVMs", "a{sv}", "0")[0]
    assert [row[0] for row in rows] == ["a", "b-c"] and rows[0][2] == "inactive", rows
    assert host.call(ROOT, MANAGER, "GetMicroVM", "s", "b-c") == ["/org/microvm1/vm/b_2dc"]
    assert "No microVM is called" in host.error(ROOT, MANAGER, "GetMicroVM", "s", "nobody")


def heard(host, monitor):
    """All that was told up to the end of a job that has nothing to do."""
    job = host.call("/org/microvm1/vm/b_2dc", VM, "Stop", "a{sv}", "0")[0]
    net = threading.Timer(60, monitor.kill)
    net.start()
    lines = []
    for line in monitor.stdout:
        lines.append(line)
        if f"JobRemoved (uint64 {job}, " in line:
            break
    net.cancel()
    monitor.kill()
    monitor.communicate()
    return lines


def test_objects_come_and_go_with_their_interface(host):
    monitor = host.monitor()
    host.define("new")
    os.unlink(host.path("vms/a.json"))
    host.reload()
    wait_for("a to be gone", lambda: "/org/microvm1/vm/a" not in host.objects())
    lines = heard(host, monitor)
    for signal_name, path in (("InterfacesAdded", "/org/microvm1/vm/new"), ("InterfacesRemoved", "/org/microvm1/vm/a")):
        told = [line for line in lines if signal_name in line and f"'{path}'" in line]
        assert len(told) == 1 and VM in told[0], f"{signal_name}: {lines}"


def test_start_is_a_job_and_is_told(host):
    monitor = host.monitor()
    job = host.call("/org/microvm1/vm/a", VM, "Start", "a{sv}", "0")[0]
    wait_for("running", lambda: host.vm("a", "State") == "running")
    assert host.vm("a", "Job") == 0
    host.call("/org/microvm1/vm/a", VM, "Stop", "a{sv}", "1", "force", "b", "true")
    wait_for("inactive", lambda: host.vm("a", "State") == "inactive")
    lines = heard(host, monitor)
    removed = [line for line in lines if "JobRemoved" in line and "'a'" in line]
    assert len(removed) == 2, lines
    assert f"uint64 {job}, 'a', 'start', 'done'" in removed[0], removed
    changed = [index for index, line in enumerate(lines) if "PropertiesChanged" in line and "'running'" in line]
    assert changed and changed[0] < lines.index(removed[0]), "the job was told before the state"


def test_no_op_jobs_are_done(host):
    lines = heard(host, host.monitor())
    assert re.search(r"JobRemoved.*'stop', 'done'", lines[-1]), lines


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
    wait_for("the failed try", lambda: "can't be reached" in host.get(ROOT, MANAGER, "Drivers")[0][2])
    assert host.vm("a", "DriverOnline") is False
    run = subprocess.run(["gdbus", "call", "--address", host.address, "--dest", NAME, "--object-path",
                          "/org/microvm1/vm/a", "--method", VM + ".Start", "{}"], capture_output=True, text=True)
    assert "org.microvm1.Error.DriverUnavailable" in run.stderr, run.stderr
    assert host.vm("a", "State") == "inactive"


def test_only_one_daemon(host):
    run = subprocess.run(host.argv(), capture_output=True, text=True, timeout=60)
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
        run = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert run.returncode == 1 and host.path("run") in run.stderr, run.stderr
    finally:
        other.close()
    host.stop(signal.SIGKILL)
    host.start()


def test_the_end_of_the_bus_is_a_failure(host):
    host.bus.kill()
    assert host.daemon.wait(60) == 1, "systemd is to start it again"
    host.daemon = None


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


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
