#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A microvmd without microVMs, for the tests of microvmctl.

usage: fake-microvmd.py [--systemd FILE] [--log FILE] [--only NAME,...] [--no-microvmd]

It owns org.microvm1 on the bus of $DBUS_SESSION_BUS_ADDRESS, prints "ready", and behaves by the names of its microVMs:
web and db obey, slow takes a second for each job, stuck never ends one, bad fails, locked allows nothing, evil says
control characters, busy is changed by somebody else at each Define. --systemd gives what org.freedesktop.systemd1 says about the units, as JSON {INTERFACE: {PROPERTY: value}};
every call is a line of JSON in --log.
"""

import argparse
import json
import os
import socket
import sys
import time

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

MANAGER = "org.microvm1.Manager"
MICROVM = "org.microvm1.MicroVM"
PROPERTIES = "org.freedesktop.DBus.Properties"
ROOT = "/org/microvm1"
LONG = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J tab\tend\r\n"

arguments = argparse.ArgumentParser()
arguments.add_argument("--systemd")
arguments.add_argument("--log")
arguments.add_argument("--only")
arguments.add_argument("--definitions")
arguments.add_argument("--undeclared", help="this one has no definition any more")
arguments.add_argument("--required", help="web requires this one")
arguments.add_argument("--drained", action="store_true")
arguments.add_argument("--locked", action="store_true", help="the definitions are not to be read anew")
arguments.add_argument("--plans", help="ACTION,ACTION...: of microVMs a, b, c...")
arguments.add_argument("--no-microvmd", action="store_true")
arguments = arguments.parse_args()

dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.SessionBus()
log_file = open(arguments.log, "a", buffering=1) if arguments.log else None
kept = []


def log(name, member, *values):
    if log_file:
        print(json.dumps([name, member, *values]), file=log_file)


def plain(value):
    if isinstance(value, dbus.Boolean):
        return bool(value)
    return {str(key): plain(item) for key, item in value.items()} if isinstance(value, dict) else value


class Error(dbus.DBusException):
    def __init__(self, name, text):
        if "." not in name:
            name = "org.microvm1.Error." + name
        super().__init__(text, name=name)


def denied(member, action):
    return Error("org.freedesktop.DBus.Error.AccessDenied",
                 f"Not allowed: {member} needs the polkit action org.microvm1.{action}.")


class MicroVM(dbus.service.Object):
    def __init__(self, manager, name, state="inactive", **more):
        self.manager, self.name = manager, name
        self.properties = {
            "Name": name, "State": state, "StateReason": "for a reason", "StateTimestamp": dbus.UInt64(1700000000000000),
            "Readiness": "none", "ReadinessReason": "", "StatusText": "", "Result": "success", "LastStop": "", "Job": dbus.UInt64(0), "Hypervisor": "qemu",
            "Driver": "libvirt", "DriverOnline": True, "Accel": "tcg", "AccelReason": "no /dev/kvm here", "Unit": "",
            "MainPID": dbus.UInt32(4242 if state == "running" else 0), "UUID": "00112233-4455-6677-8899-aabbccddeeff",
            "Generation": "", "VCPUs": dbus.UInt32(2), "MemoryBytes": dbus.UInt64(512 << 20), "Autostart": True,
            "AutostartSources": dbus.Array(["definition"], signature="s"), "RivalUnit": "",
            "StartTimestamp": dbus.UInt64(0), "ReadyTimestamp": dbus.UInt64(0), "NRestarts": dbus.UInt32(3),
            "NextRestartTimestamp": dbus.UInt64(0), "Outdated": False, "Undeclared": False,
            "DefinitionPath": f"{manager.directories[name in manager.vendor]}/{name}.json",
            "Labels": dbus.Dictionary({}, signature="ss"),
            "OutdatedReasons": dbus.Array([], signature="s"), "Loosened": dbus.Array([], signature="s"),
        }
        self.properties.update(more)
        self.path = ROOT + "/vm/" + "".join(c if c.isalnum() else f"_{ord(c):02x}" for c in name)
        super().__init__(bus, self.path)

    def check(self, member, action="manage"):
        if self.name == "locked":
            raise denied(member, action)

    def job(self, verb, state, options):
        log(self.name, verb, plain(options))
        self.check(verb)
        if self.name == "bad" and verb == "Start":
            raise Error("StartLimit", "it failed 5 times in 10min")
        if self.name == "guest" and verb == "Start":
            raise Error("GuestMode", "nothing starts here.\n/etc/microvmd/host.json says true\nand then: microvmctl reload")
        if verb == "Stop" and self.name == arguments.required and options.get("dependents", "refuse") == "refuse":
            raise Error("Required", f"web requires {self.name} and is not to be stopped")
        self.manager.jobs += 1
        number = self.manager.jobs
        if self.name == "stuck":
            return number

        def over():
            result, reason = "done", "it is over"
            if self.name == "bad":
                result, reason = "failed", "the \x1b[2Jguest ignores us"
            if verb == "Stop" and options.get("host-shutdown") and self.name == "db":
                self.properties["LastStop"] = "forced"
            self.properties["State"] = state
            if verb == "Stop" and self.name == arguments.undeclared:
                self.manager.vms.remove(self)
            self.manager.JobRemoved(number, self.name, verb.lower(), result, reason)
            return False

        GLib.timeout_add(1000 if self.name == "slow" else 1, over)
        return number

    @dbus.service.method(MICROVM, "a{sv}", "t")
    def Start(self, options):
        return self.job("Start", "running", options)

    @dbus.service.method(MICROVM, "a{sv}", "t")
    def Stop(self, options):
        return self.job("Stop", "inactive", options)

    @dbus.service.method(MICROVM, "a{sv}", "t")
    def Restart(self, options):
        return self.job("Restart", "running", options)

    @dbus.service.method(MICROVM, "i", "")
    def Kill(self, signal):
        log(self.name, "Kill", signal)
        self.check("Kill")
        if self.properties["State"] != "running":
            raise Error("NotRunning", f"{self.name} is not running")

    @dbus.service.method(MICROVM, "a{sv}", "")
    def Pause(self, options):
        log(self.name, "Pause")
        self.properties["State"] = "paused"

    @dbus.service.method(MICROVM, "a{sv}", "")
    def Resume(self, options):
        log(self.name, "Resume")
        self.properties["State"] = "running"

    @dbus.service.method(MICROVM, "", "")
    def ResetFailed(self):
        log(self.name, "ResetFailed")

    def on_keys(self, end, condition):
        try:
            keys = end.recv(4096)
        except ConnectionResetError:
            keys = b""
        if not keys or keys == b"\x04":
            end.close()
            return False
        if keys == b"DIE\r":
            end.shutdown(socket.SHUT_RDWR)
            time.sleep(0.5)  # the bus learns of a death later than whoever holds the other end of a socket
            os._exit(1)
        try:
            end.send(b"<" + keys + b">")
        except BrokenPipeError:  # it has just left
            end.close()
            return False
        return True

    @dbus.service.method(MICROVM, "a{sv}", "h")
    def OpenConsole(self, options):
        log(self.name, "OpenConsole", plain(options))
        self.check("OpenConsole", "console")
        ours, theirs = socket.socketpair()
        kept.append(ours)
        if options.get("read-only") or (self.name == "slow" and not options.get("take-over")):  # somebody else writes there
            ours.shutdown(socket.SHUT_RD)
        ours.send(b"hello from the guest\r\n")
        if self.name == "db":  # ends by itself
            ours.close()
        elif self.name == "slow" or options.get("read-only"):
            GLib.timeout_add(1000, lambda: ours.close())
        elif self.name != "stuck":  # who reads nothing
            GLib.io_add_watch(ours, GLib.IO_IN | GLib.IO_HUP, self.on_keys)
        fd = dbus.types.UnixFd(theirs)
        theirs.close()
        return fd

    @dbus.service.method(MICROVM, "a{sv}", "h")
    def OpenLog(self, options):
        log(self.name, "OpenLog", plain(options))
        self.check("OpenLog", "console")
        out, into = os.pipe()
        text = LONG.encode("latin-1") if self.name == "evil" else b"line one\nline two\n"
        if options.get("boot", 0) < 0:
            text = b"boot %d\n" % options["boot"]
        os.write(into, text)
        if options.get("follow"):
            kept.append(into)
            GLib.timeout_add(300, lambda: os.write(into, b"later\n") < 0)
        else:
            os.close(into)
        fd = dbus.types.UnixFd(out)
        os.close(out)
        return fd

    @dbus.service.method(MICROVM, "a{sv}", "a(tss)")
    def ListCrashes(self, options):
        self.check("ListCrashes", "console")
        crashes = [(1795657288721670, "signal", "it was \x1b[2J killed"), (1700000000000000, "oom", "no memory")]
        return dbus.Array(crashes if self.name == "evil" else [], signature="(tss)")

    @dbus.service.method(MICROVM, "t", "s")
    def GetCrash(self, number):
        log(self.name, "GetCrash", int(number))
        self.check("GetCrash", "console")
        return json.dumps({"name": self.name, "timestamp": int(number), "startTimestamp": int(number) - 3000000,
                           "result": "signal", "reason": "it was \x1b[2J killed", "asked": "start by its \"autostart\"",
                           "exit": {"code": "dumped", "status": 11}, "memoryPeak": 22337536, "driver": "direct",
                           "hypervisor": "qemu", "accel": "kvm", "unit": "microvmd-vm@evil.service", "unitResult": "core-dump",
                           "command": ["/usr/bin/qemu", "-append", "a b", "it's", "", "\x1b[2J"],
                           "events": [{"timestamp": int(number), "kind": "hypervisor", "text": "STOP\x1b[2J"}],
                           "output": "qemu: \x1b[2J\n", "console": LONG})

    @dbus.service.method(MICROVM, "s", "")
    def ForgetVolume(self, image):
        log(self.name, "ForgetVolume", str(image))
        self.check("ForgetVolume")
        if image != "data.img":
            raise Error("org.freedesktop.DBus.Error.Failed", f"no volume {image} is remembered; these are: data.img")

    @dbus.service.method(MICROVM, "t", "")
    def SetMemory(self, size):
        log(self.name, "SetMemory", int(size))
        self.check("SetMemory")

    @dbus.service.method(MICROVM, "sa{sv}", "s")
    def Qmp(self, command, options):
        log(self.name, "Qmp", json.loads(command), plain(options))
        self.check("Qmp", "inspect")
        if self.name == "db":
            raise Error("Hypervisor", "GenericError: no \x1b[2J such thing")
        return '{"size": 18446744073709551615, "name": "\x1b[2J\x9b\x7f"}'

    @dbus.service.method(MICROVM, "", "as")
    def ListFiles(self):
        self.check("ListFiles", "inspect")
        return dbus.Array([f"/var/lib/microvmd/vm/{self.name}/{file}" for file in ("data.img", "odd\x1b[2J")], signature="s")

    @dbus.service.method(MICROVM, "a{sv}", "s")
    def GetDefinition(self, options):
        self.check("GetDefinition", "inspect")
        if options.get("origins"):
            return json.dumps({"definition": {"kernel": "/vmlinuz"}, "origins": {"/kernel": "/etc/microvmd/vms/web.json:3"}})
        return json.dumps({"kernel": "/vmlinuz", "mem": 512})

    @dbus.service.method(MICROVM, "a{sv}", "a(ss)")
    def Cat(self, options):
        self.check("Cat", "inspect")
        text = "\x1b[2J" if self.name == "evil" else '{ "kernel": "/vmlinuz" }'
        files = [(f"/etc/microvmd/vms/{self.name}.json", text + "\n"),
                 (f"/etc/microvmd/vms/{self.name}.json.d/10.json", '{ "mem": 512 }')]
        for directory in self.manager.directories:
            path = f"{directory}/{self.name}.json.d/50-autostart.json"
            if os.path.exists(path):
                with open(path) as file:
                    files.append((path, file.read()))
                break
        return dbus.Array(files, signature="(ss)")

    @dbus.service.method(PROPERTIES, "s", "a{sv}")
    def GetAll(self, interface):
        log(self.name, "GetAll")
        return dbus.Dictionary(self.properties, signature="sv")


class Nobody(dbus.service.FallbackObject):
    """Objects that are not there."""

    def refuse(self):
        raise Error("org.freedesktop.DBus.Error.UnknownObject", "Unknown object.")

    @dbus.service.method(PROPERTIES, "s", "a{sv}")
    def GetAll(self, interface):
        self.refuse()

    @dbus.service.method(MICROVM, "a{sv}", "h")
    def OpenConsole(self, options):
        self.refuse()

    @dbus.service.method(MICROVM, "a{sv}", "h")
    def OpenLog(self, options):
        self.refuse()


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
