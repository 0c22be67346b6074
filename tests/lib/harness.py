# SPDX-License-Identifier: LGPL-2.1-or-later
"""A microvmd of its own for a test: directories, bus, daemon; and the TAP that the runner reads."""

import contextlib
import json
import os
import signal
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("MICROVMD_BUILD", os.path.join(SOURCE, "build", "dev"))
DAEMON = os.path.join(BUILD, "microvmd")
CTL = os.path.join(BUILD, "microvmctl")
NAME, MANAGER, VM = "org.microvm1", "org.microvm1.Manager", "org.microvm1.MicroVM"
ROOT = "/org/microvm1"  # of its objects
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")  # a prefix

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/>
<allow eavesdrop="true"/></policy></busconfig>"""


def wait_for(what, condition, seconds=60):
    """Asks soon again at first, then less often: who asks starts a process each time, and what is waited for has the
    same processors."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(pause)
        pause = min(pause * 1.2, 0.25)
    raise AssertionError(f"waited {seconds} s for {what}")


def hypervisors(directory):
    """Name → the processes that run it, of those that have something in this directory; without those that have ended."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                words = file.read().split("\0")
        except (OSError, UnicodeDecodeError):
            continue
        if "-name" in words and any(directory in word for word in words):
            name = words[words.index("-name") + 1].removeprefix("guest=").split(",")[0]
            found.setdefault(name, []).append(int(pid))
    return found


class Host:
    """One daemon with directories and a bus of its own."""

    def __init__(self, uri="test:///default", driver="libvirt"):
        self.dir = tempfile.mkdtemp(prefix="microvmd-test.")
        # As on a real host, what does not outlive a reboot is on a tmpfs.
        self.runtime = tempfile.mkdtemp(prefix="microvmd-test.", dir="/dev/shm")
        os.chmod(self.runtime, 0o711)
        os.symlink(self.runtime, os.path.join(self.dir, "run"))
        self.uri = uri.format(dir=self.dir)
        self.driver = driver
        os.chmod(self.dir, 0o755)
        self.definitions = self.path("vms")
        os.mkdir(self.definitions)
        self.transient = self.path("run-vms")  # the second directory, as /run/microvmd/vms
        self.kernel = self.path("vmlinuz")
        self.write("vmlinuz", "a kernel")
        self.address = "unix:path=" + self.path("bus")
        self.write("bus.conf", BUS_CONFIG.format(path=self.path("bus")))
        self.start_bus()
        self.daemon = None
        self.ports = []
        self.config({})

    def start_bus(self):
        self.bus = subprocess.Popen(["dbus-daemon", "--nofork", "--print-address=1", "--config-file",
                                     self.path("bus.conf")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.bus.stdout.readline(), "the bus does not start"  # it listens now

    def break_bus(self):
        """The daemon ends with it. A new one is at the same address."""
        self.bus.kill()
        self.bus.wait()
        self.bus.stdout.close()
        code = self.daemon.wait(60)
        assert code == 1, code
        os.unlink(self.path("bus"))
        self.start_bus()

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)

    def config(self, more):
        self.write("host.json", json.dumps({"libvirt": {"uri": self.uri}, "defaults": {"driver": self.driver}, **more}))

    def define(self, name, **keys):
        self.write(f"vms/{name}.json", json.dumps({"kernel": self.kernel, "autostart": False, **keys}))

    def argv(self, *more):
        return [DAEMON, "--config", self.path("host.json"), "--definitions", self.definitions,
                "--definitions", self.transient, "--state-dir", self.path("state"), "--runtime-dir", self.path("run"), "--bus", self.address,
                "--launcher", "fork", *more]

    def start(self, prefix=(), online=True):
        with open(self.path("log"), "a") as log:
            self.daemon = subprocess.Popen([*prefix, *self.argv()], stderr=log, stdout=log)
        wait_for("the daemon", lambda: self.name_owner() == self.daemon.pid or self.daemon.poll() is not None)
        assert self.daemon.poll() is None, self.read_log()
        if online:
            wait_for("the driver", lambda: dict(row[:2] for row in self.get("/org/microvm1", MANAGER, "Drivers"))[self.driver], 120)

    def name_owner(self):
        """The process. One that was killed has the name for as long as a child that it had just forked has not executed anything."""
        run = self.busctl("call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixProcessID",
                          "s", NAME, check=False)
        return json.loads(run.stdout)["data"][0] if run.returncode == 0 else None

    def stop(self, number=signal.SIGTERM):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.send_signal(number)
            self.daemon.wait(60)
        code = self.daemon.returncode if self.daemon else 0
        self.daemon = None
        return code

    def close(self):
        self.stop()
        self.kill_hypervisors()  # no daemon's end is theirs
        self.bus.terminate()
        self.bus.wait()
        self.bus.stdout.close()
        for reserved in self.ports:
            reserved.close()
        shutil.rmtree(self.dir)
        shutil.rmtree(self.runtime, ignore_errors=True)

    def kill_hypervisors(self):
        """Whatever was started of them, at whatever step; and waits for their end."""
        def are_gone():
            pids = [pid for pids in hypervisors(self.dir).values() for pid in pids]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids
        wait_for("the end of its hypervisors", are_gone)

    def read_log(self):
        if not os.path.exists(self.path("log")):
            return ""
        with open(self.path("log")) as file:
            return file.read()

    def mark_log(self):
        return len(self.read_log())

    def log_since(self, mark):
        return self.read_log()[mark:]

    def busctl(self, *args, check=True, prefix=()):
        run = subprocess.run([*prefix, "busctl", "--address=" + self.address, "--json=short", *args],
                             capture_output=True, text=True, timeout=60)
        if check and run.returncode != 0:
            raise AssertionError(f"busctl {' '.join(args)}: {run.stderr}")
        return run

    def call(self, path, interface, method, *args):
        out = self.busctl("call", NAME, path, interface, method, *args).stdout
        return json.loads(out)["data"] if out.strip() else None

    def error(self, path, interface, method, *args, prefix=()):
        run = self.busctl("call", NAME, path, interface, method, *args, check=False, prefix=prefix)
        assert run.returncode != 0, f"{method} was accepted"
        return run.stderr

    def get(self, path, interface, name):
        return json.loads(self.busctl("get-property", NAME, path, interface, name).stdout)["data"]

    def vm(self, name, prop):
        return self.get(f"/org/microvm1/vm/{name}", VM, prop)

    def objects(self):
        """Their paths, by one call: busctl's tree fails where what it has just found goes while it looks at it."""
        return self.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0].keys()

    def ctl(self, *args, prefix=(), stdin=""):
        return subprocess.run([*prefix, CTL, "--bus", self.address, *args], input=stdin, capture_output=True, text=True, timeout=600)

    def reload(self):
        return self.call("/org/microvm1", MANAGER, "Reload", "a{sv}", "0")[0]

    def monitor(self):
        process = subprocess.Popen(["gdbus", "monitor", "--address", self.address, "--dest", NAME], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert "Monitoring" in process.stdout.readline()
        process.stdout.readline()
        return process

    def reserve_port(self):
        """A socket with a port of its own, which nobody else gets until the test is over: it is bound, and does not listen. Who
        sets SO_REUSEADDR, as QEMU does, can use it all the same (ip(7))."""
        reserved = socket.socket()
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        self.ports.append(reserved)
        return reserved


class QmpClient:
    """Of the socket at which microvmd shares the QEMU of "web": QMP as anybody would speak it."""

    def __init__(self, host, path="run/vm/web/qmp.sock"):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(host.path(path))
        self.lines = self.socket.makefile()
        self.events = []
        assert "QMP" in self.read()
        assert self.ask("qmp_capabilities") == {}

    def read(self):
        line = self.lines.readline()
        assert line, "it was closed"
        return json.loads(line)

    def ask(self, command, id=1, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "id": id, "arguments": arguments}).encode() + b"\n")
        while "event" in (reply := self.read()):
            self.events.append(reply["event"])
        assert reply["id"] == id, reply
        return reply.get("return", reply.get("error"))

    def wait_for(self, event):
        while event not in self.events:
            self.events.append(self.read().get("event"))

    def is_closed(self):
        return not self.lines.readline()


def only(driver):
    """Of a suite that is run by several drivers: this test is about one of them."""
    def mark(test):
        test.drivers = (driver,)
        return test
    return mark


class Skip(Exception):
    """It can't be tested here, and why."""


def run_tests(tests, make_host=None, end=None):
    """Runs each function; prints TAP. With make_host each has a host of its own, whose daemon must end well after it; if that is
    a dictionary of drivers, each is run by each of them. `end` gets the host after the test, however that went."""
    makers = make_host if isinstance(make_host, dict) else {"": make_host}
    runs = [(test, driver) for test in tests for driver in getattr(test, "drivers", makers)]
    failed = 0
    print(f"1..{len(runs)}")
    for number, (test, driver) in enumerate(runs, 1):
        host, name = None, test.__name__[5:].replace("_", " ") + (f", {driver}" if driver else "")
        try:
            if make_host:
                host = makers[driver]()
                try:
                    test(host)
                finally:
                    if end:
                        end(host)
                code = host.stop()
                assert not code, f"the daemon ended with {code}: {host.read_log()[-3000:]}"
            else:
                test()
            print(f"ok {number} - {name}")
        except Skip as why:
            print(f"ok {number} - {name} # SKIP {why}")
        except Exception:
            failed += 1
            print(f"not ok {number} - {name}")
            print("# " + traceback.format_exc().rstrip().replace("\n", "\n# "))
            if host:
                print("# --- the daemon's log:\n# " + host.read_log()[-2000:].replace("\n", "\n# "))
        finally:
            if host:
                host.close()
        sys.stdout.flush()
    return 1 if failed else 0


def tests_of(module):
    """All of them, or those whose name has the word that the suite was given."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    return [value for name, value in vars(module).items() if name.startswith("test_") and word in name and callable(value)]
