#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Faults, one after the other and two at once; after each all must come to rest, nothing lost, nothing left. Prints TAP.

usage: test-chaos.py [--seed N] [--faults N] [--microvms N] [--real | --system KERNEL] [--verbose]

Hypervisors are fake-qemu.py, the launcher is "fork". --real: QEMU under TCG with a tiny guest. --system: the same under the
installed microvmd of a throwaway host, every second by libvirt (see chaos-host.sh).
The same seed (1, unless another is given) gives the same faults in the same order; how long each thing takes is up to the machine.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "bench")]
import direct  # noqa: E402
from bench import make_tiny  # noqa: E402
from harness import hypervisors, run_tests, wait_for  # noqa: E402
from system_host import SystemHost  # noqa: E402


AT_REST = ("inactive", "failed", "running", "paused")
FAULT_POINTS = 40
REST_SECONDS = 180  # stops of who does not hear are forced by then
HANGS = ["/bin/sleep", "1000"]  # a helper program that does not end by itself
arguments = None


class Chaos:
    """What is done to the host, and what must be true of it afterwards."""

    def __init__(self, host, names, rng):
        self.host, self.names, self.rng = host, names, rng
        self.wanted = dict.fromkeys(names, False)  # None: it may be either
        self.again = 0  # faults that were struck before rest
        self.log_mark = None  # where the log of this strike begins
        self.declared = set(names)
        self.mebibytes = dict.fromkeys(names, 16)
        for name in names:
            self.define(name)
        host.reload()

    # --- what it is made of

    def define(self, name):
        number = self.names.index(name)
        keys = {"driver": "libvirt" if arguments.system and number % 2 else "direct"}
        if number % 3 == 1:
            keys["readiness"] = {"type": "command", "command": HANGS}
        elif number % 3 == 2 and not (arguments.real or arguments.system):
            # One process: a child of a shell looks like a second one until it executes what it was made for.
            start = ["/usr/bin/python3", "-c", "import signal; signal.pause()", self.host.path("monitor"), "-name", name]
            keys.update(hypervisor="command", command={"start": start, "ready": ["/bin/sleep", "0.3"], "stop": HANGS})
        self.host.define(name, mem=self.mebibytes[name], accel="tcg", volumes=[{"image": "data.img", "size": 1}],
                         restart={"policy": "on-failure", "delay": "50ms", "factor": 1, "startLimit": 0},
                         stop={"timeout": "2s"}, **keys)
        self.declared.add(name)

    def rows(self):
        run = self.host.ctl("--json=short", "list", "--all")
        assert run.returncode == 0, run.stderr
        return {row["Name"]: row for row in json.loads(run.stdout)}

    def hypervisors(self):
        """Name → the processes that run it."""
        alive = {name: [pid for pid in pids if not direct.is_gone(pid)] for name, pids in hypervisors(self.host.dir).items()}
        return {name: pids for name, pids in alive.items() if pids}

    def helpers(self):
        """Processes of programs that microvmd runs for a microVM, and of its own between fork and hypervisor."""
        hypervisors = {str(pid) for pids in self.hypervisors().values() for pid in pids}
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                comm, parent = direct.read(f"/proc/{pid}/stat").split("(", 1)[1].rsplit(") ", 1)
                parent = parent.split()[1]
                with open(f"/proc/{pid}/environ", "rb") as file:
                    marked = f"MICROVMD_RUN={self.host.path('run')}/".encode() in file.read()
            except (OSError, IndexError):
                continue  # it has ended
            launched = comm == "microvmd-exec" and (arguments.system or parent == str(self.host.daemon.pid))
            if (marked and not {pid, parent} & hypervisors) or launched:
                found.append(int(pid))
        return found

    def some_hypervisor(self):
        pids = [(name, pid) for name, pids in sorted(self.hypervisors().items()) for pid in pids]
        return self.rng.choice(pids) if pids else (None, None)

    def ask(self, *words):
        """Again while a daemon that has just begun does not know what there is: it refuses to stop that."""
        def refused_or_done():
            run = self.host.ctl(*words)
            return None if "has just begun" in run.stderr else run
        return wait_for("its driver", refused_or_done)

    # --- faults: each says in a word what it did

    def kill_daemon(self):
        self.host.stop(signal.SIGKILL)
        self.host.start(online=False)

    def kill_daemon_at_a_step(self):
        """Of something that it is doing; and the next one, too, while it takes over."""
        name, verb = self.rng.choice(self.names), self.rng.choice(("start", "stop", "restart"))
        self.wanted[name] = None
        for _ in range(2):
            self.host.stop(signal.SIGKILL)
            os.environ["MICROVMD_FAULT"] = str(self.rng.randrange(1, FAULT_POINTS))
            with contextlib.suppress(AssertionError):  # it died before it was there
                self.host.start(online=False)
            del os.environ["MICROVMD_FAULT"]
            self.host.ctl("--no-block", verb, name)
        self.kill_daemon()
        return f"{verb} {name}"

    def restart_daemon(self):
        assert self.host.stop() == 0
        self.host.start(online=False)

    def kill_hypervisor(self):
        name, pid = self.some_hypervisor()
        if pid:
            os.kill(pid, signal.SIGKILL)
            if name not in self.declared:
                self.wanted[name] = None
        return name

    def kill_helper(self):
        """Of something that is being started or stopped."""
        name, verb = self.rng.choice(self.names), self.rng.choice(("restart", "stop"))
        if self.host.ctl("--no-block", verb, name).returncode == 0:
            self.wanted[name] = verb == "restart"
        time.sleep(self.rng.random() / 2)
        deadline = time.monotonic() + 1
        while not (found := self.helpers()) and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return f"{verb} {name} ({len(found)})"

    def kill_handle(self):
        """systemd starts it again, which is nobody's wish: its microVM stays as it is."""
        words = {int(pid): direct.read(f"/proc/{pid}/cmdline").split("\0") for pid in filter(str.isdigit, os.listdir("/proc"))}
        handles = sorted((argv[1], pid) for pid, argv in words.items() if argv[0].endswith("/microvmd-handle"))
        if not handles:
            return ""
        name, pid = self.rng.choice(handles)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return name

    def freeze_hypervisor(self):
        """It goes on later, unless it was ended meanwhile."""
        name, pid = self.some_hypervisor()
        if pid:
            pidfd = os.pidfd_open(pid)
            os.kill(pid, signal.SIGSTOP)
            verb = self.rng.choice((None, "stop", "kill"))
            if verb:
                self.ask("--no-block", verb, name)
                self.wanted[name] = False if verb == "stop" else self.wanted[name]
            time.sleep(self.rng.random())
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            except ProcessLookupError:
                pass
            os.close(pidfd)
            # SIGTERM that somebody else sends is a failure, and one that microvmd sends for a stop is not.
            if verb == "kill" and name not in self.declared:
                self.wanted[name] = None
            return f"{name} {verb}"
        return name

    def start(self):
        name = self.rng.choice(self.names)
        run = self.host.ctl("start", name)
        if name in self.declared:
            assert run.returncode == 0 or self.again, run.stderr  # a fault may have hit its first try: there is another one
            self.wanted[name] = True
        else:  # it can't be started; where it runs, that is all that was asked for
            assert self.wanted[name] in (run.returncode == 0, None), run.stderr
        return name

    def stop(self):
        name = self.rng.choice(self.names)
        force = self.rng.random() < 0.3
        run = self.ask("stop", *(["--force"] if force else []), name)
        assert run.returncode in (0, 4), run.stderr
        self.wanted[name] = False
        return name

    def remove_definition(self):
        name = self.rng.choice(self.names)
        if name in self.declared:
            os.unlink(self.host.path(f"vms/{name}.json"))
            self.declared.remove(name)
            if self.again:  # one that is to start again can't
                self.wanted[name] = None
        else:
            self.define(name)
        self.host.reload()
        return name

    def change_definition(self):
        name = self.rng.choice(sorted(self.declared) or self.names)
        self.mebibytes[name] = self.rng.randint(16, 32)
        self.define(name)
        self.host.reload()
        return name

    def four_clients(self):
        """Who comes last is not known, so neither is what is wanted; what it comes to is, and must stay."""
        names = self.rng.sample(self.names, min(3, len(self.names)))
        plans = [[(self.rng.choice(("start", "stop", "restart", "kill", "pause", "resume")), self.rng.choice(names)) for _ in range(3)] for _ in range(4)]
        clients = [threading.Thread(target=lambda plan=plan: [self.host.ctl("--no-block", *words) for words in plan]) for plan in plans]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        for name in names:
            self.wanted[name] = None
        return " ".join(names)

    def drain(self):
        """Who was running then starts again."""
        before = self.rows()
        if any(row["State"] not in AT_REST for row in before.values()):
            return "not now"
        assert self.ask("drain", "--timeout=1").returncode == 0
        wait_for("nothing to run on a drained host", lambda: not self.hypervisors())
        if self.rng.random() < 0.5:
            self.kill_daemon()
        assert self.host.ctl("start", self.names[0]).returncode != 0, "a start on a drained host"  # or there is none of that name
        assert self.host.ctl("undrain").returncode == 0
        for name, row in before.items():
            if name not in self.declared:
                self.wanted[name] = None
        return ""

    def break_bus(self):
        """Without its bus the daemon ends, and is started again, as its unit says."""
        self.host.break_bus()
        self.host.start(online=False)

    def kill_libvirtd(self):
        self.host.kill_libvirtd()

    def fill_disk(self):
        """Who starts meanwhile may fail, and nothing can be put on record."""
        place = "run" if not arguments.system and self.rng.random() < 0.5 else "state"
        filler = self.host.path(place + "/filler")
        with open(filler, "wb", buffering=0) as file:  # what is in a buffer would be written at the end, and fail
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * (1 << 16))
        name = self.rng.choice(self.names)
        self.host.ctl(self.rng.choice(("start", "restart", "stop", "kill")), name)
        os.unlink(filler)
        for each in self.names:  # one that crashed could not be started again, either
            self.wanted[each] = None if each == name else self.wanted[each]
        return f"{place} {name}"

    FAULTS = {kill_daemon: 3, restart_daemon: 1, kill_hypervisor: 4, kill_helper: 3, freeze_hypervisor: 2, start: 5, stop: 3, remove_definition: 2,
              change_definition: 1, four_clients: 2, break_bus: 1, fill_disk: 1, drain: 1, kill_daemon_at_a_step: 2}

    def strike(self, faults):
        """One fault, or two in one."""
        struck = []
        self.log_mark = self.host.mark_log()
        for self.again in range(2 if self.rng.random() < 0.3 else 1):
            fault = self.rng.choices(list(faults), list(faults.values()))[0]
            struck.append(f"{fault.__name__} {fault(self) or ''}".strip())
        return " and ".join(struck)

    # --- what must be true

    def at_rest(self):
        rows = self.rows()
        return rows if all(row["State"] in AT_REST for row in rows.values()) else None

    def is_dying(self):
        """Whether somebody has not yet acted on the signal that it was sent: its state says nothing of that."""
        pids = re.findall(r"Sent signal \d+ to its hypervisor \(pid ([1-9]\d*)\)", self.host.log_since(self.log_mark))
        return not all(map(direct.is_gone, pids))

    def agree(self):
        """Rows and processes, when they are of one mind."""
        rows, processes = self.at_rest(), self.hypervisors()
        if rows is None or {name for name, row in rows.items() if row["State"] in ("running", "paused")} != set(processes):
            return None
        if not self.declared <= set(rows) <= self.declared | set(processes):
            return None  # what has no definition and does not run is about to go
        if any(rows[name]["MainPID"] not in (*pids, 0) or len(pids) > 1 for name, pids in processes.items()) or self.is_dying():
            return None
        return rows, processes

    def left(self, name):
        try:
            return set(os.listdir(self.host.path(f"run/vm/{name}"))) - {"record.json"}
        except FileNotFoundError:
            return set()

    def check(self):
        try:
            rows, processes = wait_for("rest", self.agree, REST_SECONDS)
            wait_for("nothing to be left over", lambda: self.host.ctl("leaks").returncode == 0)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.rows()}, {self.hypervisors()}, {self.host.ctl('leaks').stdout}") from None
        for name in self.names:
            runs = name in processes
            assert self.wanted[name] in (runs, None), f"{name} {'runs' if runs else 'does not run'}: {rows.get(name)}"
            self.wanted[name] = runs
            if not runs:  # its state is told before its files are removed
                wait_for(f"{name} to leave nothing", lambda name=name: not self.left(name))


def mount_small(path):
    """A disk that can be full: of this process and its children alone."""
    os.makedirs(path, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M,mode=0711", "microvmd-chaos", path], check=True)


def prepare(host):
    """Faults that are possible here."""
    faults = dict(Chaos.FAULTS)
    mount_small(host.path("state"))
    if arguments.system:
        faults[Chaos.kill_libvirtd] = faults[Chaos.kill_handle] = 2
        del faults[Chaos.kill_daemon_at_a_step]
        return faults
    mount_small(host.runtime)
    if arguments.real:
        host.kernel = make_tiny(host)
    else:
        os.environ["PATH"] = ":".join((host.path("bin"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"))
    host.config({"host": {"maxConcurrentStarts": 1000}})
    return faults


def play(chaos, faults):
    number, struck = 0, "nothing"
    try:
        for number in range(arguments.faults):
            struck = chaos.strike(faults)
            if arguments.verbose:
                print(f"# {number}: {struck}", flush=True)
            chaos.check()
        struck = "the end"
        chaos.ask("stop", "--force", "--all")
        chaos.wanted = dict.fromkeys(chaos.names, False)
        chaos.check()
    except AssertionError as error:
        raise AssertionError(f"seed {arguments.seed}, fault {number}, after {struck}: {error}") from None


def test_chaos(host):
    names = [f"vm{number}" for number in range(arguments.microvms)]
    print(f"# seed {arguments.seed}: {arguments.faults} faults, {len(names)} microVMs", flush=True)
    host.stop()
    faults = prepare(host)
    try:
        host.start()
        play(Chaos(host, names, random.Random(arguments.seed)), faults)
    finally:
        host.ctl("stop", "--force", "--all")
        host.stop()
        subprocess.run(["umount", "-l", host.path("state")], check=True)


def main():
    global arguments
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--microvms", type=int, default=6)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--system", metavar="KERNEL")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("1..0 # SKIP it needs root, to mount small file systems")
        return 0
    if "MICROVMD_CHAOS_APART" not in os.environ:
        os.environ["MICROVMD_CHAOS_APART"] = "yes"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    return run_tests([test_chaos], lambda: SystemHost(arguments.system) if arguments.system else direct.make_host())


if __name__ == "__main__":
    sys.exit(main())
