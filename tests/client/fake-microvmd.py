#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A microvmd without microVMs, for the tests of microvmctl.

usage: fake-microvmd.py [--systemd FILE] [--log FILE] [--only NAME,...] [--slow MILLISECONDS] [--no-microvmd]

It owns org.microvm1 on the bus of $DBUS_SESSION_BUS_ADDRESS, prints "ready", and behaves by the names of its microVMs:
web and db obey, slow takes a second for each job, stuck never ends one, bad fails, locked allows nothing, evil says
control characters, busy is changed by somebody else at each Define. --systemd gives what org.freedesktop.systemd1 says
about the units, as JSON {INTERFACE: {PROPERTY: value}}; every call is a line of JSON in --log.
"""

import json
import os
import time

import dbus
import dbus.service
from fake_microvm import MICROVM, PROPERTIES, ROOT, Error, MicroVM, Nobody, arguments, bus, denied, kept, log, plain
from gi.repository import GLib

MANAGER = "org.microvm1.Manager"


class Manager(dbus.service.Object):
    def __init__(self):
        self.jobs = 100
        self.plans = None if arguments.plans is None else [action for action in arguments.plans.split(",") if action]
        self.directories = (arguments.definitions or "/etc/microvmd/vms,/usr/lib/microvmd/vms").split(",")
        self.vendor = ("db",)
        super().__init__(bus, ROOT)
        self.vms = [
            MicroVM(self, "web", "running", StateReason="its guest runs", Outdated=True,
                    Labels=dbus.Dictionary({"tier": "front"}, signature="ss"),
                    OutdatedReasons=dbus.Array(["definition", "kernel"], signature="s")),
            MicroVM(self, "db", "running", Loosened=dbus.Array(["network", "systemCalls"], signature="s"), Readiness="waiting",
                    ReadinessReason="waiting for the guest's port 80: connection refused", StatusText="\x1b[2Jstarting"),
            MicroVM(self, "slow"),
            MicroVM(self, "stuck", "failed", Result="guest-panic"),
            MicroVM(self, "bad", "backoff", NextRestartTimestamp=dbus.UInt64((int(time.time()) + 3600) * 1000000)),
            MicroVM(self, "guest"),
            MicroVM(self, "locked", "running"),
            MicroVM(self, "evil", "paused", StateReason="\x1b[2J\nfake: line \u202e \u009b0m"),
            MicroVM(self, "t@1.x-y"),
        ]
        if arguments.only:
            self.vms = [vm for vm in self.vms if vm.name in arguments.only.split(",")]

    @dbus.service.method(MANAGER, "a{sv}", "a(sossssu)")
    def ListMicroVMs(self, options):
        log("", "ListMicroVMs")
        keys = ("State", "Readiness", "Hypervisor", "Driver", "MainPID")
        return dbus.Array([(vm.name, dbus.ObjectPath(vm.path), *(vm.properties[key] for key in keys)) for vm in self.vms],
                          signature="(sossssu)")

    def answer(self, verb, state, options, vms):
        """What those calls return that make jobs of the manager's choice: one could not be accepted."""
        jobs = []
        for vm in vms:
            before, number, error = vm.properties["State"], 0, ""
            try:
                number = vm.job(verb, state, options)
            except Error as refusal:
                if refusal.get_dbus_name().endswith(".Required"):
                    raise
                error = str(refusal.get_dbus_message())
            jobs.append((vm.name, dbus.ObjectPath(vm.path), before, dbus.UInt64(number), error))
        return dbus.Array(jobs, signature="(sosts)")

    @dbus.service.method(MANAGER, "asa{sv}", "a(sosts)")
    def StopMicroVMs(self, names, options):
        log("", "StopMicroVMs", [str(name) for name in names], plain(options))
        if "locked" in names and not options.get("host-shutdown"):
            raise denied("StopMicroVMs", "manage")
        vms = [vm for vm in self.vms if not names or vm.name in names]
        if options.get("dependents") == "stop":
            vms = vms + [vm for vm in self.vms if vm.name == "web" and vm not in vms]
        return self.answer("Stop", "inactive", options, vms)

    @dbus.service.method(MANAGER, "a{sv}", "a(ssss)")
    def ListLeaks(self, options):
        leaks = [("file", "/run/microvmd/vm/web/\x1b[2J", "web", "rm -r /run/microvmd/vm/web/kernel")] if arguments.drained else []
        return dbus.Array(leaks, signature="(ssss)")

    @dbus.service.method(MANAGER, "a{sv}", "a(sosts)")
    def Drain(self, options):
        log("", "Drain", plain(options))
        return self.answer("Stop", "inactive", {"host-shutdown": True}, [vm for vm in self.vms if vm.name in ("web", "db")])

    @dbus.service.method(MANAGER, "a{sv}", "a(sosts)")
    def Undrain(self, options):
        log("", "Undrain", plain(options))
        return self.answer("Start", "running", {}, [vm for vm in self.vms if vm.name == "web" and options["start"]])

    @dbus.service.method(MANAGER, "a{sv}", "a(ss)")
    def Reload(self, options):
        if arguments.locked:
            raise denied("Reload", "manage")
        return dbus.Array([("web", "changed"), ("new", "invalid")], signature="(ss)")

    @dbus.service.method(MANAGER, "sa{sv}", "a{sv}")
    def Explain(self, name, options):
        vm = self.find(name)
        log(name, "Explain")
        facts = {key: vm.properties[key] for key in ("Name", "State", "StateReason", "StateTimestamp", "Readiness")}
        facts["WaitsFor"] = dbus.Array([], signature="(sss)")
        facts["Events"] = dbus.Array([], signature="(tss)")
        facts["Advice"] = dbus.Array([], signature="(ss)")
        if name == "evil":
            facts["Asked"] = dbus.Dictionary({"Verb": "start", "By": "caller", "UID": dbus.UInt32(4294967294), "PID": dbus.UInt32(7),
                                              "Process": "a\x1b[2Jb", "Timestamp": dbus.UInt64(1700000000000000)}, signature="sv")
            facts["WaitsFor"].append(("db", "backoff", "because \x1b[2J"))
            facts["Events"].append((dbus.UInt64(1700000000000000), "hypervisor", "SHUTDOWN \x1b[2J"))
            facts["Advice"].append(("microvmctl stop evil", "\x1b[2J it is evil"))
            facts["LastEnd"] = dbus.Dictionary({"Timestamp": dbus.UInt64(1700000060000000), "Result": "exit-code",
                                                "StartTimestamp": dbus.UInt64(1700000000000000), "Reason": "it \x1b[2J fell",
                                                "ExitCode": "exited", "ExitStatus": dbus.Int32(3)}, signature="sv")
        if name == "locked":
            facts["DriverReason"] = vm.properties["StateReason"]
        if name == "bad":
            facts["DriverReason"] = "libvirt sleeps"
            facts.update({"RestartPolicy": "on-failure", "NRestarts": dbus.UInt64(3),
                          "NextRestartTimestamp": vm.properties["NextRestartTimestamp"]})
        return dbus.Dictionary(facts, signature="sv")

    @dbus.service.method(MANAGER, "s", "a(sssuu)")
    def Validate(self, text):
        problems = []
        if "kernal" in text:
            problems.append(("error", "/kernal", 'unknown key; did you mean "kernel"?', 2, 3))
        if "old" in text:
            problems.append(("warning", "/old", "this key is old", 1, 1))
        return dbus.Array([(s, p, t, dbus.UInt32(a), dbus.UInt32(b)) for s, p, t, a, b in problems],
                          signature="(sssuu)")

    def find(self, name):
        for vm in self.vms:
            if vm.name == name:
                return vm
        raise Error("NoSuchMicroVM", f'No microVM is called "{name}".')

    def check(self, name, member):
        if name == "locked":
            raise denied(member, "define")

    def compare(self, name, options):
        """With --definitions: is the file what the caller expects?"""
        if not arguments.definitions or "expected" not in options:
            return
        drop_in = f".d/{options['drop-in']}" if "drop-in" in options else ""
        path = f"{self.directories[0]}/{name}.json{drop_in}"
        now = open(path).read() if os.path.exists(path) else ""
        if now != options["expected"]:
            raise Error("ResourceBusy", f"{path} has been changed by somebody else meanwhile; look at it anew")

    @dbus.service.method(MANAGER, "ssa{sv}", "a(sssuu)")
    def Define(self, name, content, options):
        log(name, "Define", content, plain(options))
        self.check(name, "Define")
        if name == "busy":
            raise Error("ResourceBusy", "busy.json has been changed by somebody else meanwhile; look at it anew")
        self.compare(name, options)
        return self.Validate(content)

    @dbus.service.method(MANAGER, "ssa{sv}", "o")
    def CreateTransient(self, name, content, options):
        log(name, "CreateTransient", content, plain(options))
        if "kernal" in content:
            raise Error("InvalidDefinition", "the definition can't be used: 1:2: there is no key")
        return dbus.ObjectPath(ROOT + "/vm/" + name)

    @dbus.service.method(MANAGER, "sa{sv}", "as")
    def Undefine(self, name, options):
        log(name, "Undefine", plain(options))
        self.check(name, "Undefine")
        vm = self.find(name)
        if name == arguments.undeclared or name == "guest":
            raise Error("org.freedesktop.DBus.Error.NotSupported", "Its definition is not in /etc/microvmd/vms; mask it instead")
        if vm.properties["State"] not in ("inactive", "failed") and not options.get("dry-run") and "drop-in" not in options:
            raise Error("ResourceBusy", f"{name} is {vm.properties['State']}; stop it first")
        if "drop-in" in options:
            self.compare(name, options)
            return dbus.Array([], signature="s")
        if not options.get("dry-run") and name not in self.vendor:
            self.vms.remove(vm)
        return dbus.Array([f"/etc/microvmd/vms/{name}.json"] + ["/state/data\x1b.img"] * bool(options.get("purge")), signature="s")

    @dbus.service.method(MANAGER, "s", "")
    def Mask(self, name):
        log(name, "Mask")
        self.check(name, "Mask")

    @dbus.service.method(MANAGER, "s", "")
    def Unmask(self, name):
        log(name, "Unmask")

    @dbus.service.method(MANAGER, "s", "s")
    def GetDefinitionState(self, name):
        if name == "hidden":
            return "masked"
        if name == arguments.undeclared:
            self.find(name)
            return "undeclared"
        return {"slow": "disabled", "bad": "invalid"}.get(self.find(name).name, "enabled")

    @dbus.service.method("org.freedesktop.DBus.ObjectManager", "", "a{oa{sa{sv}}}")
    def GetManagedObjects(self):
        log("", "GetManagedObjects")
        return dbus.Dictionary({dbus.ObjectPath(vm.path): dbus.Dictionary(
            {MICROVM: dbus.Dictionary(vm.properties, signature="sv")}, signature="sa{sv}") for vm in self.vms},
            signature="oa{sa{sv}}")

    PLANS = {
        "web": ("restart", "needs a restart", [
            ("mem", "256", "512", "restart"), ("labels[tier]", "", '"web"', "live"), ("volumes[d.img].size", "8", "9", "next-start")]),
        "db": ("live", "takes effect while it runs", [("stop.timeout", '"5s"', '"7s"', "live")]),
        "slow": ("start", "would start", []),
        "bad": ("invalid", "bad.json:1:1: error", []),
        "guest": ("undeclared", "its definition is gone", []),
        "evil": ("outdated", "\x1b[2Janother kernel", []),
    }

    @dbus.service.method(MANAGER, "asa{sv}", "a(sssa(ssss))")
    def Plan(self, names, options):
        log("", "Plan", [str(name) for name in names], {str(key): [str(i) for i in value] for key, value in options.items()})
        if "locked" in names:
            raise denied("Plan", "inspect")
        for name in names:
            if name not in [vm.name for vm in self.vms] and self.plans is None:
                raise Error("NoSuchMicroVM", f'No microVM is called "{name}".')
        plans = [(vm.name, self.PLANS.get(vm.name, ("none", "", []))) for vm in self.vms if not names or vm.name in names]
        if self.plans is not None:
            plans = self.made_up(names)
        return dbus.Array([(name, action, reason, dbus.Array(changes, signature="(ssss)"))
                           for name, (action, reason, changes) in plans], signature="(sssa(ssss))")

    def made_up(self, names):
        made = [(chr(ord("a") + i), ("none" if action == "backoff" else action, "why",
                                     [("k", "1", "2", "next-start")] if action == "none" else []))
                for i, action in enumerate(self.plans)]
        return [item for item in made if not names or item[0] in names]

    def apply(self, names, files, options):
        log("", "Apply", [str(name) for name in names], files,
            {str(key): [str(i) for i in value] if key == "labels" else plain(value) for key, value in options.items()})
        if options.get("prune") == "yes" and "stuck" in names:
            raise Error("PruneRefused", "nothing is pruned: 2 of 3 microVMs would go")
        self.jobs += 1
        number = self.jobs

        def later():
            if "db" in names:
                self.ApplyProgress(number - 1, "other", "start", "failed", "of another apply")
                self.ApplyProgress(number, "db", "live", "done", "")
            if "bad" in names:
                self.ApplyProgress(number, "x", "check", "failed", "the definition can't be used: x.json:1:1: error")
                self.ApplyProgress(number, "gone", "purge", "failed", "/d.img can't be removed")
                self.ApplyProgress(number, "bad", "restart", "begun", "")
                self.ApplyProgress(number, "bad", "rollback", "done", "")
                self.ApplyProgress(number, "bad", "restart", "failed", "it did \x1b[2J not stay up")
                self.ApplyProgress(number, "web", "restart", "skipped", "another restart failed before")
            self.ApplyRemoved(number, "failed" if "bad" in names else "done", "why" if "bad" in names else "")
            return False

        if "stuck" in names:
            GLib.timeout_add(10, lambda: self.ApplyProgress(number, "stuck", "restart", "begun", ""))
        else:
            GLib.timeout_add(10, later)
        return number

    @dbus.service.method(MANAGER, "t", "")
    def CancelApply(self, number):
        log("", "CancelApply", int(number))

        def later():
            self.ApplyProgress(number, "stuck", "restart", "done", "")
            self.ApplyProgress(number, "web", "restart", "skipped", "the apply was canceled")
            self.ApplyRemoved(number, "canceled", "canceled: 1 of 2 steps was not begun")
            return False

        if self.plans is None:
            GLib.timeout_add(300, later)

    @dbus.service.method(MANAGER, "asa{sv}", "t")
    def Apply(self, names, options):
        return self.apply(names, None, options)

    @dbus.service.method(MANAGER, "asasa{sv}", "t")
    def ApplyAndPurge(self, names, files, options):
        return self.apply(names, [str(file) for file in files], options)

    @dbus.service.signal(MANAGER, "tssss")
    def ApplyProgress(self, number, name, action, how, text):
        pass

    @dbus.service.signal(MANAGER, "tss")
    def ApplyRemoved(self, number, result, reason):
        pass

    @dbus.service.signal(MANAGER, "tssss")
    def JobRemoved(self, number, name, verb, result, reason):
        pass

    @dbus.service.method(PROPERTIES, "s", "a{sv}")
    def GetAll(self, interface):
        return dbus.Dictionary({
            "Version": "9.8.7", "HostRole": "host", "Draining": arguments.drained,
            "DefinitionDirectories": dbus.Array(self.directories, signature="s"),
            "Drivers": dbus.Array([("libvirt", True, "qemu:///system"), ("direct", False, "no bus (is it there?)")], signature="(sbs)"),
            "Counts": dbus.Dictionary({"total": dbus.UInt32(len(self.vms)), "running": dbus.UInt32(3)}, signature="su"),
        }, signature="sv")

    @dbus.service.method(PROPERTIES, "ss", "v")
    def Get(self, interface, name):
        return {"Version": "9.8.7", "Draining": arguments.drained}[name]

    @dbus.service.method("test.Control", "", "")
    def Die(self):
        os._exit(1)


class Unit(dbus.service.Object):
    def __init__(self, path, answers):
        self.answers = answers
        super().__init__(bus, "/org/freedesktop/systemd1/unit/" + path)

    def value(self, key, item):
        if key == "ExecMainStatus" or key == "ExecMainCode":
            return dbus.Int32(item)
        return dbus.UInt64(item) if key.endswith("USec") else item

    @dbus.service.method(PROPERTIES, "s", "a{sv}")
    def GetAll(self, interface):
        answers = self.answers.get(interface, {})
        return dbus.Dictionary({key: self.value(key, item) for key, item in answers.items()}, signature="sv")

    @dbus.service.method(PROPERTIES, "ss", "v")
    def Get(self, interface, key):
        return self.value(key, self.answers[interface][key])


if arguments.systemd:
    with open(arguments.systemd) as file:
        answers = json.load(file)
    kept.append(dbus.service.BusName("org.freedesktop.systemd1", bus))
    kept.append(Unit("microvmd_2eservice", answers))
    kept.append(Unit("microvmd_2dshutdown_2eservice", answers))
if not arguments.no_microvmd:
    manager = Manager()
    kept.append(Nobody(bus, ROOT + "/vm"))
    kept.append(dbus.service.BusName("org.microvm1", bus))
print("ready", flush=True)
GLib.MainLoop().run()
