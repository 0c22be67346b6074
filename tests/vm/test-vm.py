#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real guests in real QEMU under TCG, by the QEMU driver inside the daemon (qemu:///embed). Prints TAP.

test-vm-direct.py runs the same tests by the driver "direct".

MICROVMD_BUILD names the build tree, MICROVMD_GUEST the directory with vmlinuz and initrd (tests/guest/make-guest.sh).
"""

import glob
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import CTL, SOURCE, VM, Host, run_tests, tests_of, wait_for  # noqa: E402

DRIVER = "libvirt"
BALLOON = {"initialBalloonMem": 32}
TAPS = True  # the driver has interfaces of type tap
QUEUES = "/sys/class/net/eth0/queues/rx-0 /sys/class/net/eth0/queues/rx-1 and /sys/class/net/eth1/queues/rx-0"
GUEST = os.environ.get("MICROVMD_GUEST")
EMBED = tempfile.mkdtemp(prefix="microvmd-embed.")  # one for all tests: QEMU is probed once, which takes seconds
os.chmod(EMBED, 0o711)  # for hypervisors of any user
# The suite must not lean on a libvirtd of the host: what it would talk to is hidden.
HIDE = ("unshare", "--mount", "sh", "-c", "[ ! -d /run/libvirt ] || mount -t tmpfs none /run/libvirt; exec \"$@\"", "sh")
BOOT = 180  # seconds that a boot may take on a slow, busy machine


def guest(host, name="web", test="", **keys):
    params = [f"microvm.test={test}"] if test else []
    host.kernel = GUEST + "/vmlinuz"
    host.define(name, mem=256, kernelParams=params, **{"initrd": GUEST + "/initrd", "accel": "tcg", **keys})
    host.reload()


def console(host, name="web"):
    return host.ctl("logs", name).stdout


def said(host, words, name="web", count=1):
    try:
        wait_for(f"{words!r} on the console", lambda: console(host, name).count(words) >= count, BOOT)
    except AssertionError as error:
        raise AssertionError(f"{error}, which ends with {console(host, name)[-1000:]!r}") from None


def state(host, name="web"):
    return host.vm(name, "State")


def boot(host, test="", **keys):
    guest(host, test=test, **keys)
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    said(host, "microvm-guest: ready")


def is_alive(pid):
    """Not a zombie, either: where no systemd is PID 1, they stay for a while."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def read_volume(host, name, path):
    return subprocess.run(["debugfs", "-R", f"cat {path}", host.path(f"state/vm/{name}/data.img")], capture_output=True,
                          text=True).stdout


DATA = {"volumes": [{"image": "data.img", "size": 16}]}


def test_boots_writes_and_stops_gracefully(host):
    boot(host, "write=hello-from-the-guest", **DATA)
    said(host, "written hello-from-the-guest")
    assert host.vm("web", "Accel") == "tcg"
    assert host.ctl("stop", "web").returncode == 0
    assert state(host) == "inactive" and host.vm("web", "LastStop") == "clean", host.vm("web", "StateReason")
    assert "hello-from-the-guest" in read_volume(host, "web", "/written")


def test_drain_and_undrain(host):
    guest(host, after=["db"], requires=["db"])
    guest(host, name="db")
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    for name in ("web", "db"):
        said(host, "microvm-guest: ready", name)
    assert "web requires db" in host.ctl("stop", "db").stderr
    run = host.ctl("drain")
    assert run.returncode == 0 and "by force" not in run.stdout, run
    for name in ("web", "db"):
        assert state(host, name) == "inactive" and host.vm(name, "LastStop") == "clean", host.vm(name, "StateReason")
    log = host.read_log()
    assert log.index("web: stopping → inactive") < log.index("db: running → stopping"), log
    assert host.ctl("start", "db").returncode == 1
    assert host.ctl("undrain").returncode == 0
    assert state(host) == state(host, "db") == "running"
    run = host.ctl("leaks")
    assert run.returncode == 0, run.stdout


def test_slow_stop_is_waited_for(host):
    boot(host, "slowstop=3", **DATA)
    assert host.ctl("stop", "web").returncode == 0
    assert host.vm("web", "LastStop") == "clean"
    assert "stopped cleanly" in read_volume(host, "web", "/slowstop")


def test_deaf_guest_is_ended_by_force(host):
    boot(host, "ignore-button", stop={"timeout": 2})
    before = time.monotonic()
    host.ctl("stop", "web")
    assert 1.9 < time.monotonic() - before < 15
    assert host.vm("web", "Result") == "timeout" and host.vm("web", "LastStop") == "forced"
    host.ctl("start", "web")
    pid = host.vm("web", "MainPID")
    assert host.ctl("stop", "--force", "web").returncode == 0
    assert not is_alive(pid) and host.vm("web", "Result") == "success"


def test_a_stop_climbs_until_something_helps(host):
    """The machine "microvm" gets a keyboard by itself; a guest that does not heed the button may heed that, or nothing."""
    keys = {"action": "ctrl-alt-del", "timeout": "2min"}
    boot(host, "ignore-button", stop={"steps": [{"action": "acpi", "timeout": 2}, keys], "timeout": 300})
    assert host.ctl("stop", "web").returncode == 0
    reason = host.vm("web", "StateReason")
    assert host.vm("web", "LastStop") == "clean" and host.vm("web", "Result") == "success", reason
    assert "(ctrl-alt-del ended it after " in reason and "; the power button had not for " in reason, reason
    assert "microvm-guest: ctrl-alt-del" in console(host)
    unheard = [{"action": action, "timeout": 1} for action in ("agent", "acpi", "ctrl-alt-del")]  # it has no agent
    boot(host, "ignore-button,ignore-keys", stop={"steps": [*unheard, {"action": "term", "timeout": "2min"}]})
    pid = host.vm("web", "MainPID")
    assert host.ctl("stop", "web").returncode == 0
    reason = host.vm("web", "StateReason")
    assert host.vm("web", "LastStop") == "forced" and host.vm("web", "Result") == "timeout", reason
    assert "(SIGTERM ended it after " in reason and not is_alive(pid), reason
    for words in ("; the guest's agent had not for 1", ", nor the power button for 1", ", nor ctrl-alt-del for 1"):
        assert words in reason, reason
    # One that hangs hears nothing but SIGKILL.
    host.ctl("start", "web")
    pid = host.vm("web", "MainPID")
    os.kill(pid, signal.SIGSTOP)
    assert host.ctl("stop", "--force", "web").returncode == 0
    assert host.vm("web", "LastStop") == "forced" and "(SIGKILL ended it after " in host.vm("web", "StateReason"), host.vm("web", "StateReason")
    assert not is_alive(pid)


def test_stop_by_the_agent(host):
    """The real one of QEMU, which obeys; and one that is not allowed to, so that the next step follows at once."""
    directory = os.path.join(EMBED, "agent")
    subprocess.run(["cp", "-r", GUEST, directory], check=True)
    subprocess.run([os.path.join(SOURCE, "tests/guest/make-agent.sh"), directory], check=True)
    stop = {"steps": ["agent", "ctrl-alt-del"], "timeout": "10min"}
    for behaviour, ended, words in (("agent", "the guest's agent", "shutdown -h -P +0"), ("agent=refuses", "ctrl-alt-del", "ctrl-alt-del")):
        boot(host, f"ignore-button,{behaviour}", initrd=directory + "/initrd-agent", stop=stop)
        said(host, "microvm-guest: agent")
        assert host.ctl("stop", "web").returncode == 0
        reason = host.vm("web", "StateReason")
        assert host.vm("web", "LastStop") == "clean" and f"({ended} ended it after " in reason, reason
        assert reason.endswith("; the guest's agent refused)") == (behaviour != "agent"), reason
        assert f"microvm-guest: {words}" in console(host)
    assert "guest-shutdown has been disabled" in host.read_log()


def test_stop_during_boot_is_heard_later(host):
    guest(host, stop={"timeout": 600})
    host.ctl("start", "web")
    assert host.ctl("stop", "web").returncode == 0  # pressed before the guest listens, and again
    assert host.vm("web", "LastStop") == "clean", host.vm("web", "StateReason")


def test_guest_says_that_it_is_ready_and_then_nothing(host):
    """By its port of virtio-serial, as the guest of a distribution may with one line of shell."""
    guest(host, test="notify,alive=15", readiness={"type": "notify"}, watchdog={"type": "notify", "timeout": 5}, restart={"policy": "no"})
    host.ctl("start", "web")
    assert host.vm("web", "Readiness") == "waiting"
    wait_for("its word", lambda: host.vm("web", "Readiness") == "ready", BOOT)
    assert host.vm("web", "ReadyTimestamp") > host.vm("web", "StartTimestamp")
    host.stop(signal.SIGKILL)
    host.start(HIDE)
    wait_for("more words, to the next daemon", lambda: "Alive for" in host.vm("web", "StatusText"), BOOT)
    assert host.vm("web", "Readiness") == "ready"
    wait_for("the end of a guest that is silent", lambda: state(host) == "failed", BOOT)
    assert host.vm("web", "Result") == "watchdog", host.vm("web", "StateReason")
    assert not os.path.exists(host.path("run/vm/web/notify.sock"))


def test_killed_hypervisor_is_restarted(host):
    boot(host)
    first = host.vm("web", "MainPID")
    assert host.ctl("kill", "-s", "KILL", "web").returncode == 0
    wait_for("the restart", lambda: state(host) == "running" and host.vm("web", "MainPID") not in (0, first), BOOT)
    assert host.vm("web", "NRestarts") == 1 and host.vm("web", "Result") == "signal"
    assert not is_alive(first)
    host.ctl("kill", "-s", "TERM", "web")
    wait_for("the second restart", lambda: host.vm("web", "NRestarts") == 2 and state(host) == "running", BOOT)


def test_guest_poweroff_stays_off(host):
    guest(host, test="poweroff")
    host.ctl("start", "web")
    wait_for("the power-off", lambda: state(host) == "inactive", BOOT)
    assert host.vm("web", "Result") == "success" and "powered itself off" in host.vm("web", "StateReason")


def test_guest_reboot_starts_again(host):
    guest(host, test="boots,reboot", **DATA)
    host.ctl("start", "web")
    wait_for("two boots", lambda: host.vm("web", "NRestarts") >= 1, BOOT)
    guest(host, test="boots", **DATA)
    said(host, "boots ", count=1)
    assert host.vm("web", "Result") == "success"


def test_guest_panic_is_told_apart(host):
    guest(host, test="panic", restart={"policy": "no"})
    host.ctl("start", "web")
    wait_for("the panic", lambda: state(host) == "failed", BOOT)
    assert host.vm("web", "Result") == "guest-panic", host.vm("web", "StateReason")
    assert "kernel panicked" in host.vm("web", "StateReason") and "sysrq" not in host.vm("web", "StateReason")
    assert "panicked: sysrq triggered crash" in host.read_log()


def test_pause_and_resume(host):
    boot(host, "count")
    said(host, "count 1")
    assert host.ctl("pause", "web").returncode == 0 and state(host) == "paused"
    size = len(console(host))
    time.sleep(2.5)
    assert len(console(host)) == size, "it counts on"
    assert host.ctl("resume", "web").returncode == 0 and state(host) == "running"
    wait_for("more counts", lambda: len(console(host)) > size)
    host.ctl("pause", "web")
    assert host.ctl("stop", "web").returncode == 0, "a paused guest is resumed to hear the stop"
    assert host.vm("web", "LastStop") == "clean"


def test_daemon_dies_and_guest_goes_on(host):
    boot(host, "count")
    pid, generation = host.vm("web", "MainPID"), host.vm("web", "Generation")
    for number in (signal.SIGTERM, signal.SIGKILL):
        host.stop(number)
        assert is_alive(pid)
        host.start(HIDE)
        wait_for("the adoption", lambda: state(host) == "running" and host.vm("web", "MainPID") == pid)
        assert host.vm("web", "Generation") == generation and host.vm("web", "NRestarts") == 0
    size = len(console(host))
    wait_for("more counts", lambda: len(console(host)) > size)
    assert host.ctl("stop", "web").returncode == 0


def test_killed_while_nobody_watched(host):
    boot(host)
    pid = host.vm("web", "MainPID")
    host.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_for("its death", lambda: not is_alive(pid))
    host.start(HIDE)
    wait_for("the restart", lambda: host.vm("web", "NRestarts") == 1 and state(host) == "running", BOOT)
    assert host.vm("web", "Result") == "lost"


def serve(host, **readiness):
    """Starts a guest that serves a page, and waits until it is ready, as told. Returns the host's port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    guest(host, test="write=served,http", interfaces=["user"], forwardPorts=[{"host": {"port": port}, "guest": {"port": 80}}],
          readiness={"port": 80, "timeout": BOOT, **readiness}, **DATA)
    run = host.ctl("start", "--wait=ready", "web")
    assert run.returncode == 0, run.stderr + console(host)
    assert host.vm("web", "Readiness") == "ready" and host.vm("web", "KernelTimestamp") < host.vm("web", "ReadyTimestamp")
    return port


def test_forwarded_port(host):
    """QEMU takes connections long before the guest does: ready is who answers."""
    port = serve(host, type="tcp")
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/written", timeout=20).read()
    assert page == b"served\n", page


def test_port_that_the_guest_refuses(host):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    guest(host, test="net", interfaces=["user"], forwardPorts=[{"host": {"port": port}, "guest": {"port": 80}}],
          readiness={"type": "tcp", "port": 80})
    host.ctl("start", "web")
    wait_for("a refusal", lambda: "the guest's port 80: connection refused; its kernel was up after" in host.vm("web", "ReadinessReason"), BOOT)
    assert host.vm("web", "Readiness") == "waiting"


def test_ready_by_its_console(host):
    guest(host, readiness={"type": "console", "pattern": "^microvm-guest: ready$", "timeout": BOOT})
    run = host.ctl("start", "--wait=ready", "web")
    assert run.returncode == 0, run.stderr + console(host)
    assert "microvm-guest: ready" in console(host)
    ready = host.vm("web", "ReadyTimestamp")
    host.stop(signal.SIGKILL)
    host.start(HIDE)
    wait_for("the adoption", lambda: host.vm("web", "DriverOnline") and state(host) == "running")
    assert host.vm("web", "Readiness") == "ready" and host.vm("web", "ReadyTimestamp") == ready


def test_lost_volume_is_never_made_anew(host):
    boot(host, "write=dear", **DATA)
    host.ctl("stop", "web")
    os.unlink(host.path("state/vm/web/data.img"))
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "was there before and is gone" in run.stderr, run.stderr
    assert state(host) == "failed" and host.vm("web", "Result") == "resources"
    assert not os.path.exists(host.path("state/vm/web/data.img"))


def test_missing_kernel_says_which(host):
    host.kernel = "/nowhere/vmlinuz"
    host.define("web")
    host.reload()
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "/nowhere/vmlinuz" in run.stderr


def test_foreign_image_keeps_its_owner(host):
    image = host.path("foreign.img")
    subprocess.run(["truncate", "-s", "8M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    os.chown(image, 12345, 12345)
    boot(host, "write=x", volumes=[image])
    assert os.stat(image).st_uid == 12345
    host.ctl("stop", "web")
    assert os.stat(image).st_uid == 12345


def test_logs_of_earlier_boots(host):
    boot(host, "write=first", **DATA)
    said(host, "written first")
    host.ctl("stop", "web")
    boot(host, "write=second", **DATA)
    said(host, "written second")
    assert "written first" in host.ctl("logs", "-b", "-1", "web").stdout
    assert len(host.ctl("logs", "-n", "3", "web").stdout.splitlines()) == 3
    assert host.ctl("logs", "-b", "-4", "web").returncode == 1


def test_logs_follow(host):
    boot(host, "count")
    follow = subprocess.Popen([CTL, "--bus", host.address, "logs", "-f", "-n", "1", "web"], stdout=subprocess.PIPE, text=True)
    numbers = []
    while len(numbers) < 3:
        line = follow.stdout.readline()
        if line.startswith("count "):
            numbers.append(int(line.split()[1]))
    follow.terminate()
    follow.wait()
    assert numbers == list(range(numbers[0], numbers[0] + 3)), numbers


class Terminal:
    """microvmctl console on a terminal of its own."""

    def __init__(self, host, *options):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen([CTL, "--bus", host.address, "console", *options, "web"], stdin=self.slave, stdout=self.slave,
                                        stderr=self.slave, start_new_session=True)
        self.text = ""
        self.until("Detach with")

    def until(self, words, seconds=90):
        """Waits for words among what is read from now on, or was read and not looked at yet."""
        deadline = time.monotonic() + seconds
        while words not in self.text and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                # A megabyte is not searched anew for each line of it.
                self.text = self.text[-65536:] + os.read(self.master, 65536).decode(errors="replace")
        assert words in self.text, f"no {words!r} in {self.text[-2000:]!r}"

    def type(self, text):
        os.write(self.master, text.encode())

    def prompt(self):
        """Until the guest's shell listens; what is typed while it starts is lost."""
        deadline = time.monotonic() + 60
        while "/ # " not in self.text and time.monotonic() < deadline:
            self.type("\r")
            try:
                self.until("/ # ", 2)
            except AssertionError:
                pass
        self.until("/ # ", 0)

    def ended(self):
        """The exit code; the terminal must be as it was."""
        code = self.process.wait(20)
        assert termios.tcgetattr(self.slave) == self.before, "the terminal was not put back"
        return code


def test_console(host):
    """Two look, one of them writes, and both miss nothing: the last lines of before, and what follows."""
    boot(host)
    looks, first = Terminal(host, "--read-only", "-n", "6"), Terminal(host)
    looks.until("microvm-guest: ready")
    assert "Linux version" not in looks.text
    wait_for("raw mode", lambda: termios.tcgetattr(first.slave) != first.before)
    first.prompt()
    first.type("echo so-$((6*7))\r")
    first.until("so-42")
    looks.until("so-42")
    looks.type("echo never-$((6*7))\r")
    second = Terminal(host)
    second.until("so-42")  # among the last lines
    second.type("echo never-$((6*7))\r")
    third = Terminal(host, "--force")
    first.until("somebody else writes to this console now")
    third.prompt()
    first.type("echo never-$((6*7))\r")
    third.type("echo mine-$((6*7))\r")
    for terminal in (looks, first, second, third):
        terminal.until("mine-42")
    third.type("\x1d")
    assert third.ended() == 0
    fourth = Terminal(host)  # nobody writes now: who comes does
    fourth.prompt()
    fourth.type("echo and-$((6*7))\r")
    first.until("and-42")
    assert "never-42" not in console(host)
    looks.type("\x1d")
    assert looks.ended() == 0
    second.process.send_signal(signal.SIGTERM)
    assert second.ended() == -signal.SIGTERM
    host.stop(signal.SIGKILL)
    assert first.ended() == 69 and fourth.ended() == 69
    host.start(HIDE)
    wait_for("the adoption", lambda: host.vm("web", "DriverOnline"))
    fifth = Terminal(host)
    host.ctl("stop", "--force", "web")
    assert fifth.ended() == 0
    run = host.ctl("console", "web")
    assert run.returncode == 1 and "nothing to attach to" in run.stderr, run.stderr


def test_console_log_is_bounded(host):
    boot(host)
    log = host.path("state/vm/web/console.log")
    with open(log, "ab") as file:  # the hypervisor appends, too; a guest takes a minute for as much
        file.write(b"0123456789 earlier\n" * (2 << 20 >> 4))
    shell = Terminal(host)
    shell.prompt()
    wait_for("the cut", lambda: os.path.exists(log + ".0") and os.path.getsize(log) < (1 << 20), 40)
    shell.type("echo end-of-$((1+1))\r")
    shell.until("end-of-2")
    wait_for("what comes after the cut", lambda: "end-of-2" in console(host), 20)
    shell.type("\x1d")
    shell.ended()


def test_status_and_json(host):
    boot(host)
    card = host.ctl("status", "web")
    assert card.returncode == 0 and "running since" in card.stdout and "microvm-guest: ready" in card.stdout, card.stdout
    assert json.loads(host.ctl("--json=short", "list").stdout)[0]["State"] == "running"
    assert json.loads(host.ctl("--json=pretty", "status", "web").stdout)[0]["MainPID"] > 1
    host.ctl("stop", "--force", "web")
    assert host.ctl("status", "web").returncode == 3 and host.ctl("is-active", "web").stdout == "inactive\n"
    assert host.ctl("status", "nobody").returncode == 4


def qcow2(path, mib):
    """An empty image of one cluster each for header, tables and the first reference counts (QEMU's docs/interop/qcow2)."""
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, mib << 20, 0, 1, 3 << 16, 1 << 16, 1, 0, 0)
    counts = struct.pack(">4H", 1, 1, 1, 1)
    with open(path, "wb") as file:
        for cluster in (header, struct.pack(">Q", 2 << 16), counts, b""):
            file.write(cluster.ljust(1 << 16, b"\0"))


# What the guest of the next test says of its devices; its second volume holds it.
LOOK = """
say() { echo "seen: $*"; }
say credential $(cat /sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/key/raw)
say serial $(cat /sys/block/vda/serial), read-only $(cat /sys/block/vdb/ro)
echo written-by-guest | dd of=/dev/vda conv=fsync 2>/dev/null
say $(nproc) processors, $(ls -d /sys/class/net/eth0/queues/rx-*) and $(ls -d /sys/class/net/eth1/queues/rx-*)
say balloon $(ls -d /sys/bus/virtio/drivers/virtio_balloon/virtio* | wc -l)
say cpu $(sed -n '/^model name/{s/.*: //p;q}' /proc/cpuinfo)
mount -t virtiofs virtio /mnt && say virtiofs $(cat /mnt/hello)
say everything
exit
"""


VIRTIOFSD = [path for path in ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd") if os.path.exists(path)]


def test_every_device_on_q35(host):
    """Everything that the throwaway machine has: neither IOMMU, huge pages, vhost nor control groups."""
    os.makedirs(host.path("state/vm/web"))
    os.mkdir(host.path("share"))
    host.write("share/hello", "shared")
    host.write("secret", "hush-hush")
    tap = f"mvt{os.getpid() % 1000000}"
    os.chown(host.path("secret"), 12345, 12345)
    os.chmod(host.path("secret"), 0o600)
    host.write("look.img", LOOK.ljust(1 << 20, "\n"))
    qcow2(host.path("state/vm/web/root.qcow2"), 16)
    shares = [{"tag": "nine", "source": host.path("share"), "readOnly": True}]
    if VIRTIOFSD and DRIVER == "libvirt":
        shares.append({"tag": "virtio", "source": host.path("share"), "proto": "virtiofs", "cache": "never"})
    boot(host, "run", qemu={"machine": "q35"}, vcpu=2, cpu="Nehalem", description="All <of> it", balloon=True, **BALLOON,
         hotplugMem=128, hotpluggedMem=0, credentialFiles={"key": host.path("secret")}, shares=shares,
         volumes=[{"image": "root.qcow2", "imageType": "qcow2", "serial": "root-1"},
                  {"image": host.path("look.img"), "readOnly": True, "direct": True}],
         interfaces=([{"type": "tap", "id": tap}] if TAPS else []) + ["user"])
    said(host, "seen: everything")
    text = console(host)
    for words in ("credential hush-hush", "serial root-1, read-only 1", "balloon 1", "cpu Intel Core i7 9xx (Nehalem",
                  "2 processors, " + QUEUES) + (("virtiofs shared",) if len(shares) > 1 else ()):
        assert f"seen: {words}" in text, f"no {words!r} in {text}"
    pid = host.vm("web", "MainPID")
    with open(f"/proc/{pid}/cmdline") as file:
        line = file.read()
    assert "hush" not in line and "credential.key" in line and "nine" in line, line
    assert not os.path.exists(host.path("run/vm/web/credential.key")), "the copy of the credential stays"
    assert os.path.exists(f"/sys/class/net/{tap}") == TAPS
    with open(host.path("run/vm/web/record.json")) as file:
        helper = json.load(file).get("helper", {}).get("path", "")
    assert os.path.basename(helper) == ("virtiofsd" if len(shares) > 1 else ""), helper
    stat = os.stat(host.path("secret"))
    assert (stat.st_uid, stat.st_mode & 0o777) == (12345, 0o600)
    with open(host.path("state/vm/web/root.qcow2"), "rb") as file:
        image = file.read()
    assert image[:4] == b"QFI\xfb" and b"written-by-guest" in image[1 << 18:]
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "LastStop") == "clean"
    assert not os.path.exists(f"/sys/class/net/{tap}"), "the tap stays"


# Says when its balloon has taken memory, and when it has given it back.
WATCH = """
free() { sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }
echo "seen: watching"
until [ $(free) -lt 81920 ]; do sleep 0.1; done
echo "seen: less"
until [ $(free) -gt 122880 ]; do sleep 0.1; done
echo "seen: more"
exit
"""


# The guest's kernel has no driver for it: Intel 6300ESB, "Watchdog Timer", stages of about a second, started and never fed.
FORGET = r"""
for device in /sys/bus/pci/devices/*; do
    [ "$(cat $device/device)" = 0x25ab ] || continue
    echo 1 >$device/enable
    read -r base _ <$device/resource
    for stage in 0 4; do
        devmem $((base + 12)) 16 0x80
        devmem $((base + 12)) 16 0x86
        devmem $((base + stage)) 32 1000
    done
    echo "seen: a watchdog" >/dev/console
    printf '\2' | dd of=$device/config bs=1 seek=104 conv=notrunc 2>/dev/null
done
sleep 1000
"""


def test_watchdog_device_that_is_not_fed(host):
    host.write("forget.img", FORGET.ljust(1 << 20, "\n"))
    os.makedirs(host.path("state/vm/web"))
    guest(host, test="run", qemu={"machine": "q35"}, watchdog={"type": "device"}, restart={"policy": "no"},
          volumes=[{"image": "data.img", "size": 16}, {"image": host.path("forget.img"), "readOnly": True}])
    host.ctl("start", "web")
    said(host, "seen: a watchdog")
    wait_for("its end", lambda: state(host) == "failed", BOOT)
    assert host.vm("web", "Result") == "watchdog", host.vm("web", "StateReason")


def test_panic_without_a_word(host):
    """There is no console that could tell it; QEMU's pvpanic does."""
    guest(host, test="panic", qemu={"machine": "q35", "serialConsole": False}, restart={"policy": "always"}, onPanic="fail")
    host.ctl("start", "web")
    wait_for("its end", lambda: state(host) == "failed", BOOT)
    assert host.vm("web", "Result") == "guest-panic", host.vm("web", "StateReason")


def test_memory_while_it_runs(host):
    host.write("watch.img", WATCH.ljust(1 << 20, "\n"))
    os.makedirs(host.path("state/vm/web"))
    boot(host, "run", balloon=True, volumes=[{"image": "data.img", "size": 16}, {"image": host.path("watch.img"), "readOnly": True}])
    said(host, "seen: watching")
    for mebibytes, words in ((128, "less"), (256, "more")):
        host.call("/org/microvm1/vm/web", VM, "SetMemory", "t", str(mebibytes << 20))
        said(host, "seen: " + words)
        wait_for("the balloon to tell", lambda: host.vm("web", "MemoryActualBytes") == mebibytes << 20)
    assert host.ctl("stop", "web").returncode == 0


NOBODY = 65534


def ask_qmp(path, *commands):
    """The replies to commands on a QMP socket."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(60)
        monitor.connect(path)
        lines = monitor.makefile("rw")
        assert "QMP" in json.loads(lines.readline())
        replies = []
        for command in ({"execute": "qmp_capabilities"}, *commands):
            print(json.dumps(command), file=lines, flush=True)
            replies.append(json.loads(lines.readline()))
        return replies[1:]


def test_user_and_socket_of_its_own(host):
    """What libvirt leaves to QEMU's own words, and another user than libvirt's."""
    own = host.path("own")
    os.mkdir(own)
    os.chown(own, NOBODY, NOBODY)
    host.write("secret", "hush-hush")
    os.chmod(host.path("secret"), 0o600)
    boot(host, "write=by-nobody", **DATA, user="nobody", socket=own + "/control,odd.sock", credentialFiles={"key": host.path("secret")},
         qemu={"machineOpts": {"mem-merge": "off"}})
    said(host, "written by-nobody")
    with open(f"/proc/{host.vm('web', 'MainPID')}/status") as file:
        users = [line.split()[1:] for line in file if line.startswith(("Uid:", "Gid:"))]
    assert users == [[str(NOBODY)] * 4] * 2, users
    status, merge = ask_qmp(own + "/control,odd.sock", {"execute": "query-status"},
                            {"execute": "qom-get", "arguments": {"path": "/machine", "property": "mem-merge"}})
    assert status["return"]["status"] == "running" and merge["return"] is False, (status, merge)
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "LastStop") == "clean"
    assert "by-nobody" in read_volume(host, "web", "/written")
    assert os.stat(host.path("state/vm/web/data.img")).st_uid == 0, "the image stays nobody's"
    guest(host, user="no-such-user")
    assert "there is none of that name on this host" in host.ctl("start", "web").stderr


def test_boot_from_disk(host):
    """A boot sector that lets the firmware print, which must go to the serial console: there is no screen."""
    words = b"the disk has booted"
    # ds = 0; si = the words; until a zero byte: int 10h, function 0eh (teletype); then halt for ever
    code = bytes.fromhex("31c0 8ed8 be207c ac 84c0 7409 b40e bb0700 cd10 ebf2 fbf4ebfd")
    sector = (code.ljust(32, b"\x90") + words + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"
    os.makedirs(host.path("state/vm/web"))
    with open(host.path("state/vm/web/disk.img"), "wb") as file:
        file.write(sector.ljust(1 << 20, b"\0"))
    host.write("vms/web.json", json.dumps({"boot": "disk", "accel": "tcg", "mem": 64, "volumes": ["disk.img"], "autostart": False}))
    host.reload()
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    said(host, words.decode())
    assert host.ctl("stop", "--force", "web").returncode == 0


def test_no_serial_console(host):
    """Then there is nothing to log and nothing to attach to; the guest boots all the same."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    guest(host, test="http,write=unheard", qemu={"serialConsole": False}, interfaces=["user"],
          forwardPorts=[{"host": {"port": port}, "guest": {"port": 80}}], **DATA)
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    wait_for("its page", lambda: fetch(f"http://127.0.0.1:{port}/written") == b"unheard\n", BOOT)
    assert console(host) == "" and host.ctl("console", "web").returncode == 1
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "LastStop") == "clean"


def fetch(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read()
    except OSError:
        return None


def make_host():
    host = Host(f"qemu:///embed?root={EMBED}" if DRIVER == "libvirt" else "test:///default", DRIVER)
    host.start(HIDE)
    return host


def end_guests(host):
    """What a failed test left running, by the records of this test's own driver."""
    for record in glob.glob(host.path("run/vm/*/hypervisor.json")):
        with open(record) as file:
            pid = json.load(file)["pid"]
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    directory = os.path.join(EMBED, "run", "qemu")
    for name in os.listdir(directory) if os.path.isdir(directory) else []:
        if name.endswith(".pid") and name != "driver.pid":  # that is of the process with the QEMU driver in it: ours
            with open(os.path.join(directory, name)) as file:
                pid = int(file.read())
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def with_clean_end(test):
    def run(host):
        try:
            test(host)
            host.ctl("stop", "--all", "--force")
        finally:
            if host.daemon and host.daemon.poll() is None:
                host.ctl("stop", "--all", "--force")
            end_guests(host)
    run.__name__ = test.__name__
    return run


def main(module):
    global GUEST
    if not GUEST:
        GUEST = os.path.join(EMBED, "guest")
        subprocess.run([os.path.join(SOURCE, "tests/guest/make-guest.sh"), GUEST], check=True, stdout=subprocess.DEVNULL)
    chosen = [test for test in tests_of(module) if len(sys.argv) < 2 or sys.argv[1] in test.__name__]
    code = run_tests([with_clean_end(test) for test in chosen], make_host)
    subprocess.run(["rm", "-rf", EMBED])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.modules["__main__"]))
