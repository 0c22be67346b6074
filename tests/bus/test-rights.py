#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what, by polkit and without: on a private bus, with libvirt's test driver. Prints TAP."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bus import define, good, make_host, read  # noqa: E402
from harness import MANAGER, NAME, NOBODY, ROOT, VM, run_tests, tests_of, wait_for  # noqa: E402


def test_others_may_look_but_not_touch(host):
    path = "/org/microvm1/vm/a"
    assert host.busctl("get-property", NAME, path, VM, "State", prefix=NOBODY).returncode == 0
    for method, args in (("Start", ("a{sv}", "0")), ("Stop", ("a{sv}", "0")), ("Kill", ("i", "9")),
                         ("OpenConsole", ("a{sv}", "0")), ("OpenLog", ("a{sv}", "0")), ("GetDefinition", ("a{sv}", "0")), ("Cat", ("a{sv}", "0")),
                         ("ResetFailed", ()), ("SetMemory", ("t", "1048576"))):
        refusal = host.error(path, VM, method, *args, prefix=NOBODY)
        assert "Access denied" in refusal, f"{method}: {refusal}"
    assert "Access denied" in host.error(ROOT, MANAGER, "Reload", "a{sv}", "0", prefix=NOBODY)
    for verb in ("start", "stop", "kill", "console", "logs"):
        run = host.ctl(verb, "a", prefix=NOBODY)
        assert run.returncode == 77 and "only root may" in run.stderr, f"{verb}: {run}"
    assert host.ctl("list", prefix=NOBODY).returncode == 0
    assert host.vm("a", "State") == "inactive"


def test_only_who_may_defines(host):
    refusal = define(host, "new", good(host), prefix=NOBODY)
    assert "Access denied" in refusal and not os.path.exists(host.path("vms/new.json")), refusal
    for words in (("CreateTransient", "ssa{sv}", "new", good(host), "0"), ("Undefine", "sa{sv}", "a", "0"), ("Mask", "s", "x"),
                  ("Unmask", "s", "x")):
        assert "Access denied" in host.error(ROOT, MANAGER, *words, prefix=NOBODY), words
    assert host.busctl("call", NAME, ROOT, MANAGER, "GetDefinitionState", "s", "a", prefix=NOBODY).returncode == 0


def refusal_of(host, name, content, options="{}"):
    """What somebody is told, in full: busctl has its own words for a denial."""
    run = subprocess.run([*NOBODY, "gdbus", "call", "--address", host.address, "--dest", NAME, "--object-path", ROOT,
                          "--method", MANAGER + ".Define", name, content, options], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0, f"it was accepted: {content}: {run.stdout}"
    return run.stderr


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


def test_templates_reach_as_far_as_their_instances(host):
    """Before there is any instance, too."""
    authority = polkit(host, "org.microvm1.define")
    assert "define-unsafe" in refusal_of(host, "new@", json.dumps({"kernel": host.kernel}))
    assert define(host, "web@", good(host)) == []
    assert "define-unsafe" in refusal_of(host, "web@", json.dumps({"kernel": host.kernel, "initrd": "/etc/shadow"}))
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


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
