# SPDX-License-Identifier: LGPL-2.1-or-later
"""The microVMs of fake-microvmd.py, which says how they behave, and what it shares with them: its options, its bus, its log."""

import argparse
import json
import os
import socket
import time

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

MICROVM = "org.microvm1.MicroVM"
PROPERTIES = "org.freedesktop.DBus.Properties"
ROOT = "/org/microvm1"
LONG = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J tab\tend\r\n"

arguments = argparse.ArgumentParser()
arguments.add_argument("--systemd")
arguments.add_argument("--log")
arguments.add_argument("--only")
arguments.add_argument("--slow", type=int, default=1000)
arguments.add_argument("--definitions")
arguments.add_argument("--undeclared", help="this one has no definition any more")
arguments.add_argument("--required", help="web requires this one")
arguments.add_argument("--stuck", help="this one never ends a job, either")
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
        if self.name in ("stuck", arguments.stuck):
            self.properties.update(State="waiting", StateReason="waits for d\xe9 \x1b[2J to run" + 80 * "\xe9")
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

        GLib.timeout_add(arguments.slow if self.name == "slow" else 1, over)
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
