# SPDX-License-Identifier: LGPL-2.1-or-later
"""The installed microvmd of the host that this runs in (the throwaway host), with the face of harness.Host."""

import json
import os
import signal
import subprocess
import time

from harness import wait_for

PLACES = {"vms": "/etc/microvmd/vms", "run": "/run/microvmd", "state": "/var/lib/microvmd"}


def systemctl(*args, check=True):
    return subprocess.run(["systemctl", *args], check=check, capture_output=True, text=True).stdout.strip()


class SystemHost:
    dir = "/run/microvmd/vm/"  # in the arguments of each of its hypervisors

    def __init__(self, kernel):
        self.kernel = kernel
        self.pid = 0

    def path(self, name):
        place, _, rest = name.partition("/")
        return os.path.join(PLACES[place], rest) if rest else PLACES[place]

    def define(self, name, **keys):
        with open(self.path(f"vms/{name}.json"), "w") as file:
            json.dump({"kernel": self.kernel, "autostart": False, **keys}, file)

    def ctl(self, *args):
        return subprocess.run(["microvmctl", "--no-pager", *args], capture_output=True, text=True, timeout=600)

    def reload(self):
        assert self.ctl("reload").returncode == 0

    def main_pid(self):
        return int(systemctl("show", "-P", "MainPID", "microvmd.service"))

    def is_online(self):
        """All drivers answer, so everybody's state is known."""
        run = subprocess.run(["busctl", "--json=short", "get-property", "org.microvm1", "/org/microvm1", "org.microvm1.Manager", "Drivers"],
                             capture_output=True, text=True)
        return run.returncode == 0 and all(row[1] for row in json.loads(run.stdout)["data"])

    def start(self, online=True):
        """Also after its death: systemd starts it again by itself."""
        systemctl("start", "microvmd.service")
        wait_for("microvmd", lambda: self.main_pid() not in (0, self.pid), 120)
        wait_for("its drivers", self.is_online, 120)

    def stop(self, number=signal.SIGTERM):
        self.pid = self.main_pid()
        if number == signal.SIGTERM:
            systemctl("stop", "microvmd.service")
        elif self.pid:
            os.kill(self.pid, number)
            wait_for("its death", lambda: self.main_pid() != self.pid)
        return 0

    def break_bus(self):
        self.pid = self.main_pid()
        os.kill(int(systemctl("show", "-P", "MainPID", "dbus.service")), signal.SIGKILL)
        time.sleep(0.5)
        systemctl("start", "dbus.service")

    def kill_libvirtd(self):
        """By its pid: the unit's control group may hold its guests."""
        pid = int(systemctl("show", "-P", "MainPID", "libvirtd.service"))
        if pid:
            os.kill(pid, signal.SIGKILL)  # systemd starts it again
            wait_for("its death", lambda: systemctl("show", "-P", "MainPID", "libvirtd.service") != str(pid))
        wait_for("its drivers", self.is_online, 120)

    def log(self, *args):
        return subprocess.run(["journalctl", "-b", "-q", "-o", "cat", "-u", "microvmd", *args], capture_output=True, text=True).stdout

    def read_log(self):
        return self.log("-n", "60")

    def mark_log(self):
        return time.time()

    def log_since(self, mark):
        subprocess.run(["journalctl", "--sync"], check=True)
        return self.log(f"--since=@{mark:.6f}")

    def close(self):
        self.ctl("stop", "--force", "--all")
        systemctl("stop", "microvmd.service")
