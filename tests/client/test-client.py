#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmctl against a service that only pretends: what it says, what it asks, how it ends."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
CTL = os.environ.get("MICROVMCTL") or os.path.join(os.environ.get("MICROVMD_BUILD", "build"), "microvmctl")
COMPLETION = os.path.join(os.path.dirname(CTL), "docs", "microvmctl.bash")
# A net under a client that hangs, not a measure.
LIMIT = 60
CONFIG = """<busconfig><type>session</type><listen>unix:dir={}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>"""


def reason_to_skip():
    if not os.access(CTL, os.X_OK):
        return f"{CTL} is not there"
    if not shutil.which("dbus-daemon"):
        return "there is no dbus-daemon"
    try:
        import dbus  # noqa: F401
        from gi.repository import GLib  # noqa: F401
    except ImportError as error:
        return str(error)
    return None


class Host:
    """A bus with a pretended microvmd."""

    def __init__(self, folder):
        self.folder = folder
        self.log = os.path.join(folder, "calls")
        config = os.path.join(folder, "bus.conf")
        with open(config, "w") as file:
            file.write(CONFIG.format(folder))
        self.bus = subprocess.Popen(["dbus-daemon", "--nofork", "--print-address=1", f"--config-file={config}"],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = self.bus.stdout.readline().strip()
        self.env = {**os.environ, "MICROVM_BUS": self.address, "DBUS_SESSION_BUS_ADDRESS": self.address, "TERM": "xterm",
                    "PAGER": "cat", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        self.env.pop("SYSTEMD_PAGER", None)
        self.env.pop("NO_COLOR", None)
        self.fake = None

    def start(self, *options):
        open(self.log, "w").close()
        self.fake = subprocess.Popen([sys.executable, os.path.join(HERE, "fake-microvmd.py"), "--log", self.log, *options],
                                     env=self.env, stdout=subprocess.PIPE, text=True)
        assert self.fake.stdout.readline() == "ready\n", "the pretended service does not start"

    def stop(self):
        if self.fake:
            self.fake.kill()
            self.fake.wait()
            self.fake.stdout.close()
        self.fake = None

    def close(self):
        self.stop()
        self.bus.terminate()
        self.bus.wait()
        self.bus.stdout.close()

    def calls(self, member=None):
        with open(self.log) as file:
            calls = [json.loads(line) for line in file]
        return [call for call in calls if member in (None, call[1])]


@contextlib.contextmanager
def host(*options):
    with tempfile.TemporaryDirectory() as folder:
        it = Host(folder)
        try:
            it.start(*options)
            yield it
        finally:
            it.close()


def ctl(it, *words, stdin="", **env):
    return subprocess.run([CTL, *words], env={**it.env, **env}, input=stdin, capture_output=True, text=True, timeout=LIMIT)


def expect(it, code, *words, out=(), err=(), **more):
    result = ctl(it, *words, **more)
    told = f"{words}: exit {result.returncode}\n{result.stdout}{result.stderr}"
    assert result.returncode == code, told
    for text in (out,) if isinstance(out, str) else out:
        assert text in result.stdout, f"no {text!r} in the output of {told}"
    for text in (err,) if isinstance(err, str) else err:
        assert text in result.stderr, f"no {text!r} in the errors of {told}"
    assert "Sanitizer" not in result.stderr and "runtime error" not in result.stderr, told
    return result


class Terminal:
    """microvmctl on a terminal of its own."""

    def __init__(self, it, *words, width=80, **env):
        self.seen = b""
        parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.fd, self.child = parent, child
        self.before = termios.tcgetattr(child)
        self.process = subprocess.Popen([CTL, *words], env={**it.env, **env}, stdin=child, stdout=child, stderr=child,
                                        start_new_session=True)

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            with contextlib.suppress(OSError):
                self.seen += os.read(self.fd, 65536)

    def wait_for(self, text):
        deadline = time.monotonic() + LIMIT
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            self.read(0.1)

    def send(self, data):
        os.write(self.fd, data)

    def end(self):
        """Its exit status; what it wrote is in `seen`."""
        deadline = time.monotonic() + LIMIT
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"it does not end: {self.seen!r}")
            self.read(0.05)
        self.read(0.1)
        after = termios.tcgetattr(self.child)
        os.close(self.fd)
        os.close(self.child)
        assert after == self.before, "the terminal is not what it was"
        return self.process.returncode

    def is_raw(self):
        return not termios.tcgetattr(self.child)[3] & (termios.ICANON | termios.ECHO)


# --- the tests ---


def test_list(it):
    result = expect(it, 0, "list", out=["NAME", "web", "running", "4242", "9 microVMs, 3 running."])
    assert "\x1b" not in result.stdout, "colours in a file"
    assert it.calls() == [["", "ListMicroVMs"]], "list is one call"
    result = expect(it, 0, "--no-legend", "list")
    assert len(result.stdout.splitlines()) == 9 and "NAME" not in result.stdout
    rows = json.loads(expect(it, 0, "list", "--json=short").stdout)
    assert rows[0] == {"Name": "web", "State": "running", "Readiness": "none", "Hypervisor": "qemu", "Driver": "libvirt",
                       "MainPID": 4242}
    assert expect(it, 0, "--json=pretty").stdout.count("\n") > 20, "without a verb it lists"
    expect(it, 0, "list", "--json=off", "web", out="1 microVM, 1 running")


def test_terminal_table(it):
    terminal = Terminal(it, "list", width=30)
    terminal.wait_for(b"running.")
    assert terminal.end() == 0
    assert b"\x1b[0;32mrun" in terminal.seen, terminal.seen
    assert "…".encode() in terminal.seen, "a narrow terminal cuts columns"
    terminal = Terminal(it, "list", NO_COLOR="1")
    terminal.wait_for(b"running.")
    assert terminal.end() == 0 and b"\x1b" not in terminal.seen
    terminal = Terminal(it, "list", PAGER="sed s/^/paged:/")
    terminal.wait_for(b"paged:")
    assert terminal.end() == 0
    terminal = Terminal(it, "list", PAGER="/nonexistent/pager")
    terminal.wait_for(b"running.")
    assert terminal.end() == 0
    terminal = Terminal(it, "--no-pager", "list", PAGER="sed s/^/paged:/")
    terminal.wait_for(b"running.")
    assert terminal.end() == 0 and b"paged:" not in terminal.seen


def test_usage(it):
    expect(it, 2, "lst", err='did you mean "list"?')
    expect(it, 2, "frobnicate", err="There is no verb")
    expect(it, 2, "--jsno", "list", err="did you mean --json?")
    expect(it, 2, "list", "--json=yaml", err="off, short or pretty")
    expect(it, 2, "list", "-x", err="no option -x")
    expect(it, 2, "--json", "-xq", "list", err="no option -x")
    expect(it, 2, "--all=x", "list", err="--all takes no value")
    expect(it, 2, "stop", "web", "--timeout", err="lacks its value")
    expect(it, 2, "kill", "web", "-s", err="-s lacks its value")
    expect(it, 2, "version", "web", err="version takes no names")
    expect(it, 2, "help", "start", err="help takes no names")
    expect(it, 2, "--bus=user", "-H", "there", "list", err="--bus and --host")
    expect(it, 2, "stop", "web", "--timeout=soon", err="30s or 2min")
    expect(it, 2, "kill", "web", "-s", "NOSUCH", err="signal")
    expect(it, 2, "start", err="name of a microVM is missing")
    expect(it, 2, "start", "--all", "web", err="--all")
    expect(it, 2, "list", "--force", err="list takes no --force")
    expect(it, 2, "console", err="one microVM")
    expect(it, 2, "logs", "web", "db", err="one microVM")
    expect(it, 2, "validate", err="missing")
    expect(it, 2, "--bus=nonsense", "list", err="is no bus")
    assert it.calls() == [], "a bad command line asks for nothing"


def read_source(*path):
    with open(os.path.join(SOURCE, *path)) as file:
        return file.read()


def options_of_verbs():
    """What microvmctl takes: the names of all options, and of each verb those that only some verbs take."""
    source = read_source("client", "options.c")
    every = re.findall(r'^    {"([a-z-]+)", \w+_argument', source, re.M)
    bits = {}
    for bit, option in re.findall(r'^    {(?:OPT_\w+|\'.\'), (OPTION_\w+), "(--[a-z-]+)"}', source, re.M):
        bits.setdefault(bit, set()).add(option)
    rows = re.findall(r'^    {"([a-z-]+)", verb_\w+,\s+([^}]*)}', read_source("client", "main.c"), re.M)
    verbs = {verb: set().union(*(bits.get(bit, set()) for bit in re.findall(r"OPTION_\w+", flags))) for verb, flags in rows}
    assert len(every) > 40 and len(verbs) > 35 and "--canary" in verbs["apply"], (every, verbs)
    return [f"--{name}" for name in every], verbs


def test_help(it):
    every, verbs = options_of_verbs()
    manual = read_source("docs", "man", "microvmctl.1").replace("\\-", "-")
    for words in (["--help"], ["-h"], ["help"], ["start", "--help"]):
        expect(it, 0, *words, out=["reset-failed", "--host-shutdown", "Exit codes"])
    summary = expect(it, 0, "--help").stdout
    assert [line for line in summary.splitlines() if len(line) > 80] == []
    for text, where in ((summary, "--help"), (manual, "microvmctl.1")):
        missing = [word for word in [*every, *verbs] if not re.search(rf"(?<![\w-]){word}(?![\w-])", text)]
        assert missing == [], f"{missing} not in {where}"
    expect(it, 0, "--version", out="microvmctl ")
    expect(it, 0, "version", out=["microvmctl ", "microvmd 9.8.7"])
    assert json.loads(expect(it, 0, "version", "--json").stdout)["Daemon"] == "9.8.7"


def test_status(it):
    expect(it, 0, "status", out=["microvmd", "9.8.7", "Host role: host", "libvirt: online (qemu:///system)\n", "direct: away: no bus (is it there?)\n", "3 running"])
    expect(it, 0, "status", "web", out=["● web - running since Tue 2023-11-14 22:13:20 UTC", "ago", "its guest runs",
                                        "Outdated", "tcg: no /dev/kvm here", "4242", "2 vCPUs, 512 MiB", "Restarts: 3",
                                        "line two"])
    assert [call[1] for call in it.calls()] == ["GetAll", "Plan", "OpenLog"], "what is outdated is asked for, nothing else"
    expect(it, 3, "status", "stuck", out=["failed", "guest-panic"])
    expect(it, 3, "status", "web", "bad", out=["web", "bad", "Next restart", "; in "])
    expect(it, 3, "status", "t@1.x-y", out="t@1.x-y - inactive")
    result = expect(it, 0, "status", "locked", out="locked - running")
    assert result.stderr == "", "a log that one may not see is left out"
    properties = json.loads(expect(it, 0, "status", "--json", "web", "evil").stdout)
    assert properties[0]["MemoryBytes"] == 512 << 20 and properties[0]["StateTimestamp"] == 1700000000000000
    assert properties[1]["State"] == "paused"
    assert json.loads(expect(it, 0, "status", "--json").stdout)["Counts"]["running"] == 3


def test_unknown_name(it):
    expect(it, 4, "status", "wbe", err='No microVM is called "wbe"; did you mean "web"?')
    for verb in ("start", "stop", "restart", "kill", "pause", "resume", "reset-failed", "show", "console", "logs"):
        expect(it, 4, verb, "wbe", err='did you mean "web"?')
    expect(it, 4, "start", "web", "nothing-like-it", err="microvmctl list")
    assert it.calls("Start") == [], "with an unknown name nothing is done"
    result = expect(it, 4, "status", "\x1b[2J")
    assert "\x1b" not in result.stderr


def test_is_active(it):
    assert expect(it, 0, "is-active", "web").stdout == "running\n"
    assert expect(it, 0, "is-active", "evil").stdout == "paused\n"
    assert expect(it, 3, "is-active", "web", "stuck").stdout == "running\nfailed\n"
    assert expect(it, 4, "is-active", "web", "nope", "stuck").stdout == "running\nunknown\nfailed\n"
    assert expect(it, 3, "-q", "is-active", "slow").stdout == ""
    assert json.loads(expect(it, 0, "is-active", "web", "--json").stdout) == [{"Name": "web", "State": "running"}]


def test_readiness(it):
    card = expect(it, 0, "status", "db").stdout
    assert "Readiness: waiting for the guest's port 80: connection refused\n" in card, card
    assert 'Status: "\\x1b[2Jstarting"\n' in card, card
    assert "Readiness:" not in expect(it, 0, "status", "web").stdout
    expect(it, 0, "start", "web", "--wait=ready")
    assert it.calls("Start") == [["web", "Start", {"wait": "ready"}]]
    expect(it, 0, "restart", "web", "--wait", "running", "--force")
    assert it.calls("Restart") == [["web", "Restart", {"wait": "running", "force": True}]]
    expect(it, 2, "start", "web", "--wait=up", err="running or ready")
    expect(it, 2, "stop", "web", "--wait=ready", err="--wait")


def test_jobs(it):
    result = expect(it, 0, "start", "slow", "web", "web")
    assert result.stdout == result.stderr == ""
    assert it.calls("Start") == [["slow", "Start", {}], ["web", "Start", {}]]
    expect(it, 0, "stop", "web", "--force", "--timeout=1min 30s")
    assert it.calls("Stop") == [["web", "Stop", {"force": True, "timeout": 90000000}]]
    expect(it, 0, "restart", "--", "web")
    expect(it, 0, "--no-block", "start", "stuck")
    result = expect(it, 0, "start", "web", "--json")
    assert json.loads(result.stdout)[0]["Result"] == "done"
    result = expect(it, 1, "stop", "bad", "web", err=["The stop of bad failed", "the \\x1b[2Jguest", "microvmctl why bad"])
    assert "\x1b" not in result.stderr


def test_stop_several(it):
    """By one call, so that they stop in order; one that can't be stopped does not keep the others on."""
    expect(it, 0, "stop", "web", "db", "--timeout=3")
    assert it.calls("StopMicroVMs") == [["", "StopMicroVMs", ["web", "db"], {"timeout": 3000000}]]
    expect(it, 77, "stop", "locked", "db", err=["org.microvm1.manage", "sudo"])
    assert [call[0] for call in it.calls("Stop")] == ["web", "db"], it.calls()
    result = expect(it, 1, "--json", "stop", "slow", "bad", err="The stop of bad failed: the \\x1b[2Jguest")
    assert [(job["Name"], job["Result"]) for job in json.loads(result.stdout)] == [("slow", "done"), ("bad", "failed")]
    expect(it, 0, "--no-block", "stop", "stuck", "web")


def test_required(it):
    it.stop()
    it.start("--required", "db")
    result = expect(it, 1, "stop", "db", err=["Nothing is stopped: web requires db and is not to be stopped.",
                                              "microvmctl stop --with-dependents db; without: --ignore-dependents"])
    assert "[y/N]" not in result.stderr
    expect(it, 1, "stop", "db", "slow", err="--with-dependents NAME")
    expect(it, 0, "stop", "db", "--ignore-dependents")
    assert it.calls("Stop")[-1] == ["db", "Stop", {"dependents": "ignore"}]
    expect(it, 0, "stop", "db", "slow", "--with-dependents")
    assert [call[0] for call in it.calls("Stop")][-3:] == ["db", "slow", "web"], it.calls("Stop")
    terminal = Terminal(it, "stop", "db")
    terminal.wait_for(b"[y/N]")
    terminal.send(b"n\n")
    assert terminal.end() == 1 and b"--with-dependents" in terminal.seen
    terminal = Terminal(it, "stop", "db")
    terminal.wait_for(b"Stop them as well, before it? [y/N]")
    terminal.send(b"y\n")
    assert terminal.end() == 0
    assert it.calls("Stop")[-1] == ["db", "Stop", {"dependents": "stop"}]
    expect(it, 2, "start", "db", "--with-dependents", err="start takes no --with-dependents")


def test_drain(it):
    result = expect(it, 0, "drain", "--timeout=2min", out=["db did not shut down in time and was ended by force.\n",
                                                          "This host is drained. Nothing starts on it until: microvmctl undrain"])
    assert "web did not" not in result.stdout
    assert it.calls("Drain") == [["", "Drain", {"timeout": 120000000}]]
    assert expect(it, 0, "undrain").stdout == ""
    assert it.calls("Start") == [["web", "Start", {}]], it.calls()
    expect(it, 0, "undrain", "--no-start")
    assert it.calls("Undrain")[-1] == ["", "Undrain", {"start": False}]
    expect(it, 2, "drain", "web", err="drain takes no names")
    for verb in ("list", "status"):
        assert "drained" not in expect(it, 0, verb).stdout.lower()
    it.stop()
    it.start("--drained")
    for verb in ("list", "status"):
        expect(it, 0, verb, out="nothing starts until: microvmctl undrain")
    assert "undrain" not in expect(it, 0, "list", "--no-legend").stdout


def test_leaks(it):
    assert expect(it, 0, "leaks").stdout == "Nothing is left over.\n"
    assert json.loads(expect(it, 0, "leaks", "--json").stdout) == []
    it.stop()
    it.start("--drained")
    result = expect(it, 1, "leaks", out=["KIND", "file", "web", "rm -r /run/microvmd/vm/web/kernel", "\\x1b"])
    assert "\x1b[2J" not in result.stdout
    assert json.loads(expect(it, 1, "leaks", "--json").stdout)[0]["Kind"] == "file"


def test_job_errors(it):
    expect(it, 1, "start", "bad", err=["5 times", "reset-failed bad"])
    expect(it, 1, "start", "guest", err="nothing starts here.\n/etc/microvmd/host.json says true\nand then: microvmctl reload\n")
    expect(it, 77, "stop", "locked", err=["org.microvm1.manage", 'group "microvm"', "sudo"])
    expect(it, 77, "logs", "locked", err="org.microvm1.console")
    expect(it, 77, "show", "--definition", "locked", err="org.microvm1.inspect")
    expect(it, 1, "kill", "slow", err="not running")


def test_progress(it):
    terminal = Terminal(it, "start", "slow")
    terminal.wait_for("Starting slow…".encode())
    assert terminal.end() == 0
    assert terminal.seen.endswith(b"\r\x1b[K"), f"the line is left behind: {terminal.seen!r}"


def test_daemon_dies_while_waiting(it):
    process = subprocess.Popen([CTL, "start", "stuck", "slow"], env=it.env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + LIMIT
    while len(it.calls("Start")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    it.stop()
    errors = process.communicate(timeout=LIMIT)[1]
    assert process.returncode == 69 and "go on" in errors, (process.returncode, errors)


def test_short_verbs(it):
    expect(it, 0, "kill", "web")
    expect(it, 0, "kill", "-s", "SIGKILL", "web")
    expect(it, 0, "-s9", "kill", "db")
    assert it.calls("Kill") == [["web", "Kill", 15], ["web", "Kill", 9], ["db", "Kill", 9]]
    expect(it, 0, "pause", "web", "db")
    expect(it, 0, "resume", "web")
    assert expect(it, 0, "is-active", "web", "db").stdout == "running\npaused\n"
    expect(it, 0, "reset-failed", "--all")
    assert len(it.calls("ResetFailed")) == 9
    assert expect(it, 0, "pause", "web").stdout == ""
    assert json.loads(expect(it, 0, "pause", "web", "db", "--json").stdout) == [
        {"Name": "web", "Result": "done"}, {"Name": "db", "Result": "done"}]
    expect(it, 0, "resume", "web")
    result = expect(it, 1, "kill", "slow", "web", "--json", err="not running")
    assert [row["Result"] for row in json.loads(result.stdout)] == ["failed", "done"]


def test_show(it):
    expect(it, 0, "show", "web", out=["Name=web\n", "Autostart=yes\n", "MemoryBytes=536870912\n"])
    assert expect(it, 0, "show", "web", "-p", "State,MainPID").stdout == "State=running\nMainPID=4242\n"
    assert expect(it, 0, "show", "web", "--value", "-pState").stdout == "running\n"
    expect(it, 2, "show", "web", "-p", "Sate", err='did you mean "State"?')
    assert json.loads(expect(it, 0, "show", "web", "--definition").stdout) == {"kernel": "/vmlinuz", "mem": 512}
    assert json.loads(expect(it, 0, "show", "web", "-pVCPUs", "--json").stdout) == [{"VCPUs": 2}]
    assert expect(it, 0, "show", "--all", "--value", "-pName").stdout.split() == [
        "web", "db", "slow", "stuck", "bad", "guest", "locked", "evil", "t@1.x-y"]
    assert expect(it, 0, "show", "--definition", "web").stdout == '{\n  "kernel": "/vmlinuz",\n  "mem": 512\n}\n'


def test_cat(it):
    assert expect(it, 0, "cat", "web").stdout == (
        '# /etc/microvmd/vms/web.json\n{ "kernel": "/vmlinuz" }\n\n# /etc/microvmd/vms/web.json.d/10.json\n{ "mem": 512 }\n')
    expect(it, 0, "cat", "web", "db", out=["# /etc/microvmd/vms/web.json\n", "\n\n# /etc/microvmd/vms/db.json\n"])
    assert json.loads(expect(it, 0, "cat", "web", "--json").stdout) == [
        {"Name": "web", "definition": {"kernel": "/vmlinuz"}, "origins": {"/kernel": "/etc/microvmd/vms/web.json:3"}}]
    result = expect(it, 77, "cat", "locked", "web", err="org.microvm1.inspect")
    assert "web.json" in result.stdout
    terminal = Terminal(it, "cat", "evil")
    assert terminal.end() == 0 and b"\x1b[2J" not in terminal.seen and b"evil.json" in terminal.seen, terminal.seen


def test_escapes(it):
    for words in (["status", "evil"], ["show", "evil"]):
        result = expect(it, 0, *words)
        assert "\x1b" not in result.stdout.replace("\x1b[31m", "").replace("\x1b[0m", "")
        assert "\nfake" not in result.stdout and "\u202e" not in result.stdout and "\u009b" not in result.stdout
    result = expect(it, 0, "--json=short", "status", "evil")
    assert "\u009b" not in result.stdout and "\x1b" not in result.stdout
    assert json.loads(result.stdout)[0]["StateReason"] == "\x1b[2J\nfake: line \u202e \u009b0m"
    terminal = Terminal(it, "logs", "evil")
    terminal.wait_for(b"end")
    assert terminal.end() == 0
    assert b"\x1b[31mred\x1b[0m \\x1b]0;title\\x07 \\x9b2J tab" in terminal.seen, terminal.seen


def test_set_memory(it):
    for text, size in (("64", 64 << 20), ("64M", 64 << 20), ("2GiB", 2 << 30), ("1TB", 1 << 40)):
        assert expect(it, 0, "set-memory", "web", text).stdout == ""
        assert it.calls("SetMemory")[-1] == ["web", "SetMemory", size]
    calls = len(it.calls("SetMemory"))
    for words in (("web",), ("web", "many"), ("web", "-1"), ("web", "1K"), ("web", "1Mi"), ("web", "20000000T"), ("web", "1", "2")):
        expect(it, 2, "set-memory", *(["--", *words] if "-1" in words else words), err="set-memory takes a microVM and a size")
    assert len(it.calls("SetMemory")) == calls
    expect(it, 77, "set-memory", "locked", "64", err="org.microvm1.manage")


def test_why(it):
    result = expect(it, 0, "why", "web", "bad", out=["web - running since", "Reason: its guest runs", "line one\nline two",
                                                     "3 so far, by its policy \"on-failure\"", "Next restart: ", "; in "])
    assert "\x1b" not in result.stdout and "Advice" not in result.stdout and "What to do" not in result.stdout
    assert ["web", "Explain"] in it.calls() and ["web", "GetAll"] not in it.calls()
    result = expect(it, 0, "why", "-n", "0", "evil", out=[
        "Asked: start, by uid 4294967294 (a\\x1b[2Jb, pid 7)", "Waits for: db, which is backoff: because \\x1b[2J",
        "Last run: ended with exit-code, 2023-", "              it \\x1b[2J fell\n", "Ran: 1min", "Process: exited with status 3",
        "the hypervisor says SHUTDOWN \\x1b[2J", "microvmctl stop evil  \\x1b[2J it is evil"])
    assert "\x1b" not in result.stdout, result.stdout
    # Who may not read its console is told so, and all the rest.
    expect(it, 0, "why", "bad", out="Driver: away: libvirt sleeps\n")
    assert "Driver:" not in expect(it, 0, "why", "locked").stdout, "its reason says so"
    expect(it, 0, "why", "locked", out=["locked - running", "Console: not shown: it needs the polkit action org.microvm1.console"])
    facts = json.loads(expect(it, 0, "why", "--json=short", "locked", "web", "evil").stdout)
    assert "Console" not in facts[0] and "org.microvm1.console" in facts[0]["ConsoleLeftOut"]
    assert facts[1]["Console"] == "line one\nline two\n"
    assert facts[2]["WaitsFor"] == [{"Name": "db", "State": "backoff", "Reason": "because \x1b[2J"}], facts[2]
    assert facts[2]["Events"][0]["Timestamp"] == 1700000000000000 and facts[2]["LastEnd"]["ExitStatus"] == 3
    expect(it, 4, "why", "wob", err='did you mean "web"')
    expect(it, 2, "why")


def test_crashes(it):
    expect(it, 0, "crashes", "web", out="There are no crash reports.")
    expect(it, 0, "--no-legend", "crashes", "evil", out=["evil  1  2026-", "it was \\x1b[2J killed", "evil  2  2023-"])
    rows = json.loads(expect(it, 0, "crashes", "--json=short", "evil").stdout)
    assert rows[0]["Crash"] == 1795657288721670 and rows[1]["Result"] == "oom", rows
    result = expect(it, 0, "crashes", "evil", "1", out=[
        "evil - signal on", "Ran: 3s", "Process: killed by SIGSEGV, with a core dump", "Unit result: core-dump",
        "Memory: 21.3M at the most", "/usr/bin/qemu -append 'a b' it's '' '\\x1b[2J'\n", "the hypervisor says STOP\\x1b[2J",
        "What the hypervisor said itself\nqemu: \\x1b[2J", "What the console said last\n\x1b[31mred"])
    assert "\x1b[2J" not in result.stdout and "\x1b]" not in result.stdout, result.stdout
    expect(it, 0, "crashes", "evil", "2")
    assert it.calls()[-1] == ["evil", "GetCrash", 1700000000000000]
    for mode in ("short", "pretty"):
        assert json.loads(expect(it, 0, "crashes", f"--json={mode}", "evil", "1").stdout)["timestamp"] == 1795657288721670
    expect(it, 1, "crashes", "evil", "3", err="evil has 2 crash reports.")
    expect(it, 2, "crashes", "evil", "last", err="1 for the newest")
    expect(it, 2, "crashes", "evil", "1", "2")
    expect(it, 77, "crashes", "locked", err=["org.microvm1.console", 'the group "microvm"'])
    expect(it, 77, "crashes", err="org.microvm1.console")


def test_history_without_a_journal(it):
    expect(it, 2, "history", err="the name of one microVM")
    result = ctl(it, "history", "no-such-microvm-has-ever-been")
    assert result.returncode in (1, 77) and "journal" in result.stderr, result


def test_qmp(it):
    line = '{"size": 18446744073709551615, "name": "\\u001b[2J\\u009b\\u007f"}\n'
    assert expect(it, 0, "qmp", "web", "query-status").stdout == line, "no digit is lost"
    assert it.calls("Qmp")[-1] == ["web", "Qmp", {"execute": "query-status"}, {}]
    expect(it, 0, "qmp", "web", ' {"execute": "x", "arguments": {"a": "\u00e4"}}', "--timeout=2min")
    assert it.calls("Qmp")[-1] == ["web", "Qmp", {"execute": "x", "arguments": {"a": "\u00e4"}}, {"timeout": 120000000}]
    assert expect(it, 0, "qmp", "web", stdin="one\n  \r\n{\"execute\": \"two\"}").stdout == line * 2
    assert [call[2]["execute"] for call in it.calls("Qmp")[-2:]] == ["one", "two"]
    expect(it, 1, "qmp", "db", stdin="one\ntwo\n", err="db: GenericError: no \\x1b[2J such thing")
    assert it.calls("Qmp")[-1][2] == {"execute": "one"}, "the first that fails is the last"
    expect(it, 77, "qmp", "locked", "stop", err=["org.microvm1.inspect", "sudo"])
    for words in ((), ("web", "a", "b")):
        expect(it, 2, "qmp", *words, err="microvmctl qmp NAME query-status")
    terminal = Terminal(it, "qmp", "web", "query-status")
    assert terminal.end() == 0 and b'"name": "\\u001b[2J\\u009b\\u007f"\r\n}' in terminal.seen, terminal.seen
    terminal = Terminal(it, "qmp", "web")
    assert terminal.end() == 2 and b"reads commands from standard input" in terminal.seen


def test_logs(it):
    assert expect(it, 0, "logs", "web").stdout == "line one\nline two\n"
    assert expect(it, 0, "logs", "-n", "7", "-b", "-2", "web").stdout == "boot -2\n"
    assert it.calls("OpenLog")[-1] == ["web", "OpenLog", {"boot": -2, "lines": 7}]
    result = subprocess.run([CTL, "logs", "evil"], env=it.env, capture_output=True, timeout=LIMIT)
    assert b"\x1b]0;title\x07" in result.stdout, "into a file it goes as it is"
    terminal = Terminal(it, "logs", "-f", "web")
    terminal.wait_for(b"later")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == -signal.SIGINT
    assert it.calls("OpenLog")[-1] == ["web", "OpenLog", {"lines": 10, "follow": True}]
    terminal = Terminal(it, "logs", "-f", "web")
    terminal.wait_for(b"later")
    it.stop()
    assert terminal.end() == 69 and b"goes on" in terminal.seen


def test_reload(it):
    expect(it, 0, "reload", out=["changed     web", "invalid     new  (why: microvmctl why new)"])
    assert json.loads(expect(it, 0, "reload", "--json").stdout)[0] == {"Name": "web", "Change": "changed"}
    expect(it, 2, "reload", "web")


def test_plan(it):
    result = expect(it, 1, "plan", out=["~ web    changed: needs a restart\n", "      mem                  256 → 512  (restart)\n",
                                        "      labels[tier]         nothing → \"web\"  (live)\n",
                                        "      volumes[d.img].size  8 → 9  (next start)\n", "~ db     changed: takes effect while it runs\n",
                                        "+ slow   new: would start\n", "- guest  undeclared: ", "x bad    invalid: ", "! evil   outdated: ",
                                        "\n1 to start, 1 to change while it runs, 1 to restart (--restart), "
                                        "1 to restart for other files (--restart --outdated), 1 to stop (--prune), "
                                        "1 with a definition that can't be used, 3 unchanged.\n"])
    assert "\x1b" not in result.stdout, "colours, or the guest's, in a file"
    expect(it, 10, "plan", "web", "db")
    expect(it, 0, "plan", "stuck", out="Nothing to do: 1 microVM is as its files say.")
    assert expect(it, 10, "plan", "web", "-q").stdout == ""
    expect(it, 4, "plan", "nobody", err="No microVM is called")
    expect(it, 77, "plan", "locked", err="org.microvm1.inspect")
    expect(it, 10, "plan", "web", "-l", "tier=web", "--label=x")
    assert it.calls("Plan")[-1] == ["", "Plan", ["web"], {"labels": ["tier=web", "x"]}]
    expect(it, 2, "list", "--canary", err="takes no --canary")
    plan = json.loads(expect(it, 10, "plan", "--json", "web").stdout)
    assert plan[0]["Action"] == "restart" and plan[0]["Changes"][1] == {"Key": "labels[tier]", "Old": None, "New": "web", "Takes": "live"}
    terminal = Terminal(it, "plan", "web")
    terminal.wait_for(b"to restart")
    assert terminal.end() == 10 and b"\x1b[0;32m512" in terminal.seen, terminal.seen


def test_plan_of_each_kind(it):
    for plans, code, words in (("", 0, "Nothing to do: there is no microVM.\n"), ("none", 10, None),
                               ("retry,retry", 10, "2 to start again.\n"),
                               ("live,live", 10, "2 to change while they run.\n"), ("failed", 1, "1 at its start limit (microvmctl reset-failed).\n"),
                               ("failed,failed,start", 1, "1 to start, 2 at their start limit (microvmctl reset-failed).\n"),
                               ("invalid,invalid", 1, "2 with definitions that can't be used.\n"),
                               ("undeclared,restart,outdated", 10, "1 to restart (--restart), 1 to restart for other files "
                                "(--restart --outdated), 1 to stop (--prune).\n")):
        with host("--plans", plans) as other:
            if plans == "none":
                # What only changes at the next start is nothing to do, but no secret.
                expect(other, 0, "plan", out=["  a  changed: why\n      k  1 → 2  (next start)\n\n1 to change at its next start.\n"])
                expect(other, 0, "plan", "--no-legend")
                continue
            result = expect(other, code, "plan", out=words)
            assert "\x1b" not in result.stdout
    with host("--plans", "") as other:
        expect(other, 0, "plan", "-l", "tier", out="Nothing to do: there is no microVM with this label.\n")
        expect(other, 0, "plan", "-l", "tier", "-l", "x", out="with these labels.\n")
    with host("--plans", "backoff,backoff") as other:
        expect(other, 0, "plan", out="  a  failed: why\n  b  failed: why\n\n2 to start again by themselves.\n")
    with host("--plans", "of-a-later-version") as other:
        expect(other, 0, "plan", out="Nothing to do: 1 microVM is as its files say.\n")
    with host("--plans", "failed,retry") as other:
        expect(other, 1, "plan", out=["x a  failed: why", "+ b  failed: why"])


def test_status_says_what_is_outdated(it):
    expect(it, 0, "status", "web", out=["Outdated: another definition, kernel than it was started with", "mem                  256 → 512  (restart)"])
    result = expect(it, 0, "status", "db")
    assert "Outdated" not in result.stdout


def test_status_says_what_is_loosened(it):
    expect(it, 0, "status", "db", out="Sandbox: loosened: network, systemCalls")
    result = expect(it, 0, "status", "web")
    assert "Sandbox" not in result.stdout


def test_apply(it):
    result = expect(it, 0, "apply", "db", out="db: changed while it runs")
    assert "other" not in result.stdout + result.stderr, "of another apply"
    assert it.calls("Apply")[-1] == ["", "Apply", ["db"], None, {}]
    expect(it, 0, "apply", "web", out=["Nothing was to be done.", "1 microVM needs a restart: microvmctl apply --restart web\n"])
    result = expect(it, 1, "apply", "bad", "--restart", "--canary=90s", "--max-parallel=3", "--outdated", "-l", "tier=web",
                    out=["bad: rolled back to what it ran with before", "web: not restarted: another restart failed before"],
                    err=["microvmctl: x: the definition can't be used: x.json:1:1: error", "gone: its files are not all removed: /d.img",
                         "bad: restart failed: it did", "Not all was applied."])
    assert "\x1b" not in result.stderr
    assert it.calls("Apply")[-1][4] == {"restart": True, "canary": True, "canaryTime": 90000000, "maxParallel": 3, "outdated": True,
                                        "labels": ["tier=web"]}
    told = json.loads(expect(it, 0, "apply", "db", "--json=short").stdout)
    assert told["Result"] == "done" and told["Steps"] == [{"Name": "db", "Action": "live", "How": "done", "Text": ""}], told
    expect(it, 0, "apply", "stuck", "--no-block")
    expect(it, 2, "apply", "web", "--restart", "--max-parallel=0", err="at least 1")
    for words in (["--canary"], ["--outdated"], ["--max-parallel=2"], ["--purge"], ["--prune=some"],
                  ["--restart", "--canary=soon"]):
        expect(it, 2, "apply", *words, err="microvmctl")
    expect(it, 1, "apply", "stuck", "--prune", err=["2 of 3 microVMs would go", "microvmctl plan"])
    expect(it, 0, "apply", "web", "--prune=all")
    assert it.calls("Apply")[-1][4] == {"prune": "all"}


def test_apply_tells_what_is_left(it):
    with host("--plans", "restart,restart,outdated,undeclared,undeclared") as other:
        result = expect(other, 0, "apply", "-l", "tier=web", "-l", "x")
        assert result.stdout.endswith("2 microVMs need a restart: microvmctl apply --restart -l tier=web -l x\n"
                                      "1 microVM runs with other files than the host has now: microvmctl apply --restart --outdated -l tier=web -l x\n"
                                      "2 microVMs run without a definition: microvmctl apply --prune -l tier=web -l x\n"), result.stdout
        assert "\x1b" not in result.stdout


def test_apply_is_canceled(it):
    terminal = Terminal(it, "apply", "stuck")
    terminal.wait_for("restart of stuck…".encode())
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 1
    told = terminal.seen.decode().replace("\r", "")
    for words in ("Canceled: what has begun is finished", "stuck: restarted\n", "web: not restarted: the apply was canceled\n",
                  "Not all was applied: canceled: 1 of 2 steps was not begun\n"):
        assert words in told, told
    assert [call[2] for call in it.calls("CancelApply")] == [101]
    with host("--plans", "") as other: # who does not even want to wait for what has begun
        terminal = Terminal(other, "apply", "stuck")
        terminal.wait_for("restart of stuck…".encode())
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.wait_for(b"^C once more")
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.end() == 1 and b"what has begun goes on" in terminal.seen, terminal.seen
        assert len(other.calls("CancelApply")) == 1


def test_apply_ends_with_the_daemon(it):
    process = subprocess.Popen([CTL, "apply", "stuck"], env=it.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + LIMIT
    while not it.calls("Apply") and time.monotonic() < deadline:
        time.sleep(0.02)
    it.fake.kill()
    _, told = process.communicate(timeout=LIMIT)
    assert process.returncode == 69 and "microvmctl plan" in told, told
    with host() as other:
        terminal = Terminal(other, "apply", "stuck")
        terminal.wait_for("restart of stuck…".encode())
        other.bus.kill()
        assert terminal.end() == 69 and b"the apply goes on there" in terminal.seen, terminal.seen


def test_purge_asks(it):
    files = ["/var/lib/microvmd/vm/guest/data.img", "/var/lib/microvmd/vm/guest/odd\x1b[2J"]
    result = expect(it, 1, "apply", "guest", "--prune", "--purge", err=["vm/guest/data.img", "--yes"])
    assert not it.calls("Apply") and "\x1b" not in result.stderr
    expect(it, 0, "apply", "guest", "--prune", "--purge", "--yes", err="vm/guest/data.img")
    assert it.calls("Apply")[-1] == ["", "Apply", ["guest"], files, {"prune": "yes"}]
    for answer, code in ((b"n\n", 1), (b"y\n", 0)):
        before = len(it.calls("Apply"))
        terminal = Terminal(it, "apply", "guest", "--prune", "--purge")
        terminal.wait_for(b"[y/N]")
        terminal.send(answer)
        assert terminal.end() == code, terminal.seen
        assert len(it.calls("Apply")) == before + (code == 0)


def test_forget_volume(it):
    expect(it, 0, "forget-volume", "db", "data.img", out="counts as new")
    expect(it, 1, "forget-volume", "db", "other.img", err="these are: data.img")
    expect(it, 2, "forget-volume", "db", err="NAME IMAGE")
    expect(it, 77, "forget-volume", "locked", "data.img", err="org.microvm1.manage")


def test_validate(it):
    """By microvmd --check, and without a daemon."""
    def path(name, data):
        with open(os.path.join(it.folder, name), "wb") as file:
            file.write(data)
        return os.path.join(it.folder, name)

    it.stop()
    good, bad = path("good", b'{"kernel": "/k"}'), path("bad", b'{ "kernel": "/k",\n\t"kernal": 1 }')
    unsure = path("unsure", b'{"kernel": "/k", "firecracker": {"driveIoEngine": "Sync"}}')
    expect(it, 0, "validate", good, out="good: good")
    expect(it, 0, "validate", "-q", good)
    assert expect(it, 0, "validate", "-q", good).stdout == ""
    result = expect(it, 1, "validate", good, bad, out=[f'{bad}:2:2: error: there is no key "kernal"; did you mean "kernel"?'])
    assert result.stdout.splitlines()[-2:] == ['    2 |  "kernal": 1 }', "      |  ^"], result.stdout
    expect(it, 0, "validate", unsure, out=["1:34: warning: this is for the hypervisor", "unsure: good"])
    expect(it, 1, "validate", "-", stdin='{"kernal": 1}', out=["-:1:2: error: there is no key", '    1 | {"kernal": 1}\n      |  ^'])
    expect(it, 0, "validate", "-", stdin='{"kernel": "/k"}', out="standard input: good")
    expect(it, 0, "validate", path("empty", b""), out="empty: warning: it is empty")
    expect(it, 1, "validate", path("latin", b'{\n "a\xff"}'), out=[":2:4: error: the file is not UTF-8", '"a\\xff"}'])
    expect(it, 1, "validate", path("large", b" " * (1 << 20) + b"x"), out="too large")
    expect(it, 1, "validate", path("nul", b"{\0}"), out="1:2: error:")
    # a line of a megabyte is shown in part, the caret below its place
    result = expect(it, 1, "validate", path("long", b'{"kernel": "/k", "description": "' + "\u00e4".encode() * 9999 + b'", "x": 1}'))
    line, caret = result.stdout.splitlines()[1:]
    assert len(line) < 120 and line[caret.index("^"):].startswith('"x": 1'), result.stdout
    # of a drop-in, too
    os.mkdir(path("layered.json", b'{"kernel": "/k"}') + ".d")
    drop_in = path("layered.json.d/10.json", b'{"vcpu": "two"}')
    expect(it, 1, "validate", os.path.join(it.folder, "layered.json"),
           out=[f"{drop_in}:1:10: error:", '    1 | {"vcpu": "two"}\n      |          ^'])
    # what could be taken for the end of the name is none
    odd = path("a: error: b (at", b"[]")
    expect(it, 1, "validate", odd, out=f'{odd}: error: "a: error: b (at" can\'t be the name of a microVM')
    os.mkdir(os.path.join(it.folder, "folder"))
    expect(it, 1, "validate", os.path.join(it.folder, "folder"), "/nonexistent", out=["this is a directory", "/nonexistent: error:", "No such file"])
    os.mkfifo(os.path.join(it.folder, "fifo"))
    expect(it, 1, "validate", os.path.join(it.folder, "fifo"), out="not a regular file")
    problems = json.loads(expect(it, 1, "validate", bad, unsure, "--json").stdout)
    assert [problem["Severity"] for problem in problems] == ["error", "warning"]
    assert problems[0]["Pointer"] == "/kernal" and problems[0]["File"] == bad, problems
    assert (problems[0]["Line"], problems[0]["Column"]) == (2, 2) and problems[0]["Text"].startswith("there is no key")
    assert json.loads(expect(it, 0, "validate", good, "--json").stdout) == []
    expect(it, 2, "validate", "-H", "elsewhere", good, err="of this host")
    # what they are to each other, told at the file that it is in, in the order of the files
    one, two = path("one.json", b'{"kernel": "/k", "vsock": {"cid": 5}}'), path("two.json", b'{"kernel": "/k", "vsock": {"cid": 5}}')
    result = expect(it, 1, "validate", two, good, one)
    assert result.stdout == (f"{two}:1:35: error: vsock CID 5 is that of the microVM one already, in {one}; only one of them can have it "
                             '(at /vsock/cid)\n    1 | {"kernel": "/k", "vsock": {"cid": 5}}\n      |                                   ^\n'
                             f"{good}: good\n{one}: good\n"), result.stdout
    expect(it, 0, "validate", two, good, out=["two.json: good", "good: good"])


def test_validate_finds_microvmd(it):
    """That of the same installation, else of PATH."""
    installed = os.path.join(it.folder, "bin")
    os.mkdir(installed)
    alone = shutil.copy(CTL, installed)
    good = os.path.join(it.folder, "good")
    with open(good, "w") as file:
        file.write("{}")

    def say(folder, words, status):
        os.makedirs(os.path.join(it.folder, folder), exist_ok=True)
        with open(os.path.join(it.folder, folder, "microvmd"), "w") as script:
            script.write(f"#!/bin/sh\n{words}\nexit {status}\n")
        os.chmod(script.name, 0o755)

    def run():
        return subprocess.run([alone, "validate", good], env={**it.env, "PATH": it.folder + "/path:/usr/bin:/bin"},
                              capture_output=True, text=True, timeout=LIMIT)

    say("path", 'echo "$3:1:1: error: by PATH"', 1)
    result = run()
    assert result.returncode == 1 and f"{good}:1:1: error: by PATH" in result.stdout, result
    say("sbin", 'echo "$3:1:1: warning: by the prefix"', 0)
    result = run()
    assert result.returncode == 0 and "by the prefix" in result.stdout, result
    say("sbin", "echo This host must not run microvmd.", 78)
    result = run()
    assert result.returncode == 1 and "must not run" in result.stderr and "good" not in result.stdout.split("\n"), result


def attach(it, name="web"):
    terminal = Terminal(it, "console", name)
    terminal.wait_for(b"Detach with Ctrl-]")
    terminal.wait_for(b"hello from the guest")
    deadline = time.monotonic() + LIMIT
    while not terminal.is_raw() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert terminal.is_raw()
    return terminal


def test_console_detach(it):
    terminal = attach(it)
    terminal.send(b"abc\x03")
    terminal.wait_for(b"c\x03>")
    terminal.send(b"x\x1dnot sent")
    assert terminal.end() == 0
    assert b"Detached" in terminal.seen and b"not sent" not in terminal.seen


def test_console_guest_reads_nothing(it):
    terminal = attach(it, "stuck")
    for _ in range(200):
        if select.select([], [terminal.fd], [], 0.2)[1]:
            terminal.send(b"y" * 2000)
        terminal.read(0)
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.end() == -signal.SIGTERM


def test_console_signals(it):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        terminal = attach(it)
        terminal.process.send_signal(number)
        assert terminal.end() == -number


def test_console_ends(it):
    terminal = Terminal(it, "console", "db")
    terminal.wait_for(b"was closed")
    assert terminal.end() == 0
    terminal = attach(it)
    terminal.send(b"DIE\r")
    assert terminal.end() == 69
    assert b"web goes on" in terminal.seen


def test_console_without_terminal(it):
    result = expect(it, 0, "console", "db")
    assert result.stdout == "hello from the guest\n" and "Attached" not in result.stderr
    assert expect(it, 0, "console", "web", stdin="\x04").stdout == "hello from the guest\n"


def test_console_read_only(it):
    terminal = Terminal(it, "console", "--read-only", "--lines=3", "web")
    terminal.wait_for(b"console of web, to read only. Detach with Ctrl-]")
    terminal.wait_for(b"hello from the guest")
    terminal.send(b"typed in vain")
    terminal.wait_for(b"was closed")
    assert terminal.end() == 0 and b"vain" not in terminal.seen
    assert it.calls("OpenConsole")[-1][2] == {"lines": 3, "read-only": True}
    expect(it, 2, "console", "--read-only", "--force", "web", err="exclude each other")


def test_console_of_another_writer(it):
    terminal = Terminal(it, "console", "slow")
    terminal.wait_for(b"to read only: somebody else writes; --force takes it over. Detach with Ctrl-]")
    terminal.send(b"\x1d")
    assert terminal.end() == 0
    assert it.calls("OpenConsole")[-1][2] == {"lines": 10}
    terminal = Terminal(it, "console", "--force", "slow")
    terminal.wait_for(b"console of slow. Detach with Ctrl-]")
    terminal.send(b"\x1d")
    assert terminal.end() == 0
    assert it.calls("OpenConsole")[-1][2] == {"lines": 10, "take-over": True}
    # What is piped in must not be lost in silence.
    expect(it, 1, "console", "slow", stdin="reboot\n", err="Somebody else writes to the console of slow")
    assert expect(it, 0, "console", "--read-only", "slow", stdin="").stdout == "hello from the guest\n"


def test_no_daemon(it):
    it.stop()
    for words in (["list"], ["status"], ["status", "web"], ["start", "web"], ["is-active", "web"], ["show", "web"], ["reload"],
                  ["console", "web"], ["logs", "web"], ["kill", "web"]):
        expect(it, 69, *words, err="microvmd is not running")
    expect(it, 0, "version", out="does not answer")
    expect(it, 0, "stop", "--all", "--host-shutdown", err="not running")
    expect(it, 69, "--bus=unix:path=/nonexistent", "list", err="Can't reach the bus \"unix:path=/nonexistent\": No such")
    del it.env["DBUS_SESSION_BUS_ADDRESS"]
    it.env.pop("XDG_RUNTIME_DIR", None)
    expect(it, 69, "--bus=user", "list", err="$XDG_RUNTIME_DIR")


def unit(folder, **service):
    active = service.pop("active")
    path = os.path.join(folder, "systemd.json")
    with open(path, "w") as file:
        json.dump({"org.freedesktop.systemd1.Unit": {"LoadState": "loaded", "ActiveState": active},
                   "org.freedesktop.systemd1.Service": {"ExecMainCode": 1, "StatusText": "", **service}}, file)
    return path


def test_why_no_daemon(it):
    def restart(**service):
        it.stop()
        it.start("--no-microvmd", "--systemd", unit(it.folder, **service))

    restart(active="failed", Result="exit-code", ExecMainStatus=78,
            StatusText="/etc/microvmd/host.json: /guest/enable is true\x1b[2J")
    result = expect(it, 69, "list", err=["exit status 78", "/guest/enable is true", "microvmd --check"])
    assert "\x1b" not in result.stderr
    restart(active="failed", Result="exit-code", ExecMainStatus=78, StatusText=f"{'Its words are long. ' * 12}Write there:"
            '     "guest": { "enable": false }')
    result = expect(it, 69, "list", err='\n      "guest": { "enable": false }\n')
    assert all(len(line) <= 80 for line in result.stderr.splitlines()), result.stderr
    restart(active="failed", Result="core-dump", ExecMainCode=3, ExecMainStatus=11)
    expect(it, 69, "list", err=["core-dump", "signal 11", "journalctl -u microvmd"])
    restart(active="inactive", Result="success", ExecMainStatus=0)
    expect(it, 69, "list", err="systemctl start microvmd")


def test_host_shutdown(it):
    expect(it, 2, "stop", "web", "--host-shutdown")
    it.stop()
    for given, asked in ((60, 50), (12, 5)):
        it.start("--systemd", unit(it.folder, active="active", TimeoutStopUSec=given * 1000000))
        process = subprocess.Popen([CTL, "stop", "--all", "--host-shutdown"], env=it.env, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + LIMIT
        while len(it.calls("Stop")) < 9 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(it.calls("Stop")) == 9, "every microVM, whatever its state"
        assert all(call[2] == {"host-shutdown": True, "timeout": asked * 1000000} for call in it.calls("Stop"))
        assert process.poll() is None, "it waits for all"
        process.kill()
        process.communicate()
        it.stop()


def test_host_shutdown_tells(it):
    it.stop()
    it.start("--systemd", unit(it.folder, active="active", TimeoutStopUSec=2**64 - 1), "--only", "web,db")
    result = expect(it, 0, "stop", "--all", "--host-shutdown")
    assert result.stdout == "db did not shut down in time and was ended by force.\n", result.stdout
    assert it.calls("Stop")[0][2]["timeout"] == 90000000


def test_list_filters(it):
    assert expect(it, 0, "list", "--failed", "--no-legend").stdout.split()[0] == "stuck"
    assert it.calls("GetManagedObjects") == []
    assert len(expect(it, 0, "list", "--outdated", "--no-legend", out="web").stdout.splitlines()) == 1
    assert len(expect(it, 0, "list", "-l", "tier=front", "--no-legend", out="web").stdout.splitlines()) == 1
    assert expect(it, 0, "list", "-ltier=back", "--no-legend").stdout == ""
    assert expect(it, 0, "list", "-ltier=back").stdout.strip() == "None of 9 microVMs."
    assert json.loads(expect(it, 0, "list", "--failed", "--outdated", "--json").stdout) == []
    assert len(it.calls("GetManagedObjects")) == 5, "one call each, however many there are"
    expect(it, 0, "list", "-l", "tier", out="web")
    expect(it, 2, "list", "-l", "=front", err="NAME=VALUE")


def write(it, name, text, mode=0o644):
    path = os.path.join(it.folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def defined(it):
    name, _, content, options = it.calls("Define")[-1]
    return name, content, options


def test_create(it):
    text = '// mine\n{ "kernel": "/k" }\n'
    expect(it, 0, "create", "new", "--from", write(it, "new.json", text), out="microvmctl start new")
    assert defined(it) == ("new", text, {"expected": "", "no-autostart": True}), "byte for byte"
    expect(it, 0, "-q", "create", "new", "--from=-", stdin=text)
    expect(it, 0, "create", "new", "--kernel=/k", "--initrd=/i", "--mem=1G", "--vcpu=2", "--volume=a.img:2G", "--volume=/b",
           "--interface=user", "--interface=tap:t0", "--set=restart.policy=always", "--set=restart.startLimit=3",
           "--set", 'kernelParams=["a", "b"]', "--set=balloon=true", "--set=description=all of it", "--set=machineId=0123", "--set=vsock.cid=12345678901234567891")
    assert json.loads(defined(it)[1]) == {
        "kernel": "/k", "initrd": "/i", "mem": "1G", "vcpu": 2, "volumes": [{"image": "a.img", "size": "2G"}, "/b"],
        "interfaces": ["user", "tap:t0"], "restart": {"policy": "always", "startLimit": 3}, "kernelParams": ["a", "b"],
        "balloon": True, "description": "all of it", "machineId": "0123",
        "vsock": {"cid": 12345678901234567891}}
    expect(it, 1, "create", "web", "--kernel=/k", err=["web already (enabled)", "microvmctl edit web"])
    expect(it, 1, "create", "hidden", "--kernel=/k", err="masked")
    result = expect(it, 1, "create", "new", "--from", write(it, "bad.json", '{\n"kernal": 1}'),
                    err='bad.json:2:3: error: unknown key; did you mean "kernel"? (at /kernal)')
    assert "Created" not in result.stdout
    expect(it, 1, "create", "new", "--set=kernal=/k", err="new:2:3: error")
    expect(it, 1, "create", "new", "--from=/nonexistent", err="No such file")
    expect(it, 2, "create", err="one microVM")
    expect(it, 2, "create", "new", err="What is it to be")
    expect(it, 2, "create", "new", "--from=x", "--mem=1G", err="--from has all")
    expect(it, 2, "create", "new", "--set=x", err="KEY=VALUE")
    expect(it, 2, "create", "new", "--set=restart=no", "--set=restart.delay=1", err='"restart" is set as a whole')
    expect(it, 2, "create", "new", "--set=volumes=no", "--volume=x", err='"volumes" is set as a whole')
    expect(it, 0, "create", "new", "--transient", "--kernel=/k", out="microvmctl start new\n")
    assert it.calls("CreateTransient")[-1][3] == {}
    expect(it, 1, "create", "new", "--transient", "--set=kernal=/k", err="no key")


def editor(it, script):
    """A program that edits, and the environment that names it."""
    path = write(it, "bin/editor", f"#!/bin/sh\n{script}\n", 0o755)
    os.makedirs(f"{it.folder}/tmp", exist_ok=True)
    return {"VISUAL": path, "EDITOR": "false", "TMPDIR": f"{it.folder}/tmp"}


def left(it):
    return [os.path.join(it.folder, "tmp", name) for name in os.listdir(f"{it.folder}/tmp")]


def with_definitions(it):
    it.stop()
    etc, vendor = f"{it.folder}/etc", f"{it.folder}/lib"
    write(it, "etc/web.json", '{\n  "mem": 512\n}\n')
    write(it, "etc/locked.json", "{}\n")
    write(it, "lib/db.json", '{\n  "vcpu": 1\n}\n')
    it.start("--definitions", f"{etc},{vendor}")
    return etc, vendor


def test_edit(it):
    etc, vendor = with_definitions(it)
    old = '{\n  "mem": 512\n}\n'
    env = editor(it, 'sed -i s/512/640/ "$1"')
    expect(it, 0, "edit", "web", **env, out=[f"--- {etc}/web.json", '-  "mem": 512', '+  "mem": 640', "Changed"])
    assert defined(it) == ("web", old.replace("512", "640"), {"expected": old}) and left(it) == []
    with open(f"{etc}/web.json") as file:
        assert file.read() == old, "only microvmd writes"
    env = editor(it, '[ "$1" = --wait ] && sed -i s/512/641/ "$2"')
    expect(it, 0, "edit", "web", **{**env, "VISUAL": "", "EDITOR": env["VISUAL"] + " --wait"}, out="641")
    expect(it, 0, "edit", "web", **editor(it, ":"), out="Nothing changed.")
    assert len(it.calls("Define")) == 2 and left(it) == []


def test_edit_makes_drop_ins(it):
    etc, vendor = with_definitions(it)
    env = editor(it, """grep -q "Merged over .*lib/db.json" "$1" && echo '{ "vcpu": 4 }' >$1""")
    expect(it, 0, "edit", "db", **env, out=[f"--- {etc}/db.json.d/override.json", "+{"])
    assert defined(it) == ("db", '{ "vcpu": 4 }\n', {"drop-in": "override.json", "expected": ""})
    expect(it, 0, "edit", "db", "--full", **editor(it, 'sed -i s/1/2/ "$1"'))
    assert defined(it) == ("db", '{\n  "vcpu": 2\n}\n', {"expected": ""}), "a copy of the whole file"
    there = '{ "vcpu": 8 }\n'
    write(it, "etc/db.json.d/override.json", there)
    expect(it, 0, "edit", "db", **editor(it, 'sed -i s/8/9/ "$1"'))
    assert defined(it) == ("db", there.replace("8", "9"), {"drop-in": "override.json", "expected": there})
    expect(it, 0, "edit", "db", **editor(it, 'echo >"$1"'))
    assert it.calls("Undefine")[-1] == ["db", "Undefine", {"drop-in": "override.json", "expected": there}], "an emptied one is none"
    other = f"{etc}/db.json.d/override.json"
    expect(it, 1, "edit", "db", **editor(it, f'echo "{{}}" >{other}; echo >"$1"'), err="changed by somebody else")
    os.rename(f"{etc}/web.json", f"{it.folder}/elsewhere")
    os.symlink(f"{it.folder}/elsewhere", f"{etc}/web.json")
    expect(it, 0, "edit", "web", **editor(it, """echo '{ "vcpu": 4 }' >$1"""))
    assert defined(it)[2]["drop-in"] == "override.json", "a link is somebody else's"


def test_edit_loses_nothing(it):
    etc, vendor = with_definitions(it)
    result = expect(it, 1, "edit", "web", **editor(it, """echo '{ "kernal": 1 }' >$1"""),
                    err=["json:2:3: error: unknown key", f"{etc}/web.json is as it was", f"Your text is in {it.folder}/tmp/microvmctl-web."])
    with open(left(it)[0]) as file:
        assert file.read() == '{ "kernal": 1 }\n', result
    os.unlink(left(it)[0])
    expect(it, 77, "edit", "locked", **editor(it, """echo '{ "mem": 1 }' >$1"""), err=["define", "as it was"])
    assert len(left(it)) == 1
    os.unlink(left(it)[0])
    expect(it, 1, "edit", "web", **editor(it, 'echo x >"$1"; exit 3'), err=["failed; nothing is changed", "tmp/microvmctl-web."])
    assert len(left(it)) == 1
    expect(it, 4, "edit", "wbe", **editor(it, ":"), err='did you mean "web"')
    expect(it, 2, "edit", "web", "db", err="one microVM")
    os.unlink(left(it)[0])
    expect(it, 1, "edit", "web", **editor(it, r"""printf '{ "mem": 1 }\n\0{' >$1"""), err=["holds a NUL byte", "as it was"])
    with open(left(it)[0]) as file:
        assert file.read() == '{ "mem": 1 }\n\0{' and not any('"mem": 1 ' in call[2] for call in it.calls("Define")[2:])
    # At a terminal it can be mended.
    env = editor(it, f"""[ -e {it.folder}/second ] && echo '{{ "mem": 7 }}' >"$1" || echo '{{ "kernal": 1 }}' >"$1"; >{it.folder}/second""")
    terminal = Terminal(it, "edit", "web", **env)
    terminal.wait_for(b"Edit it again? [y/N]")
    terminal.send(b"y\n")
    terminal.wait_for(b"Changed")
    assert terminal.end() == 0
    assert defined(it)[1] == '{ "mem": 7 }\n'


def test_edit_after_somebody_else(it):
    etc, vendor = with_definitions(it)
    theirs, mine = '{ "mem": 600 }\n', '{ "mem": 700 }\n'
    env = editor(it, f"""[ -e {it.folder}/second ] || echo '{{ "mem": 600 }}' >{etc}/web.json
echo '{{ "mem": 700 }}' >$1; >{it.folder}/second""")
    result = expect(it, 1, "edit", "web", **env, err=["changed by somebody else", "Your text"])
    assert "as it was" not in result.stderr and '-{ "mem": 600 }\n+{ "mem": 700 }' in result.stdout, result
    os.unlink(left(it)[0])
    os.unlink(f"{it.folder}/second")
    write(it, "etc/web.json", "{}\n")
    terminal = Terminal(it, "edit", "web", **env)
    terminal.wait_for(b"Edit it again? [y/N]")
    terminal.send(b"y\n")
    terminal.wait_for(b"Changed")
    assert terminal.end() == 0 and left(it) == []
    assert defined(it) == ("web", mine, {"expected": theirs}), "his is not overwritten before it was seen"


def test_edit_over_there(it):
    write(it, "bin/ssh", f"#!/bin/sh\nfor word; do echo \"<$word>\"; done >{it.folder}/words\n", 0o755)
    expect(it, 0, "-H", "there", "edit", "--full", "web", PATH=f"{it.folder}/bin:{os.environ['PATH']}")
    with open(f"{it.folder}/words") as file:
        assert file.read() == "<-t>\n<-->\n<there>\n<microvmctl edit --full -- 'web'>\n"


def test_remove(it):
    result = expect(it, 0, "remove", "web", "slow", out=["Removed web:\n  /etc/microvmd/vms/web.json\n", "Removed slow:"])
    assert [call[0] for call in it.calls("Stop")] == ["web"], "stopped first, and only what runs"
    assert [call[2] for call in it.calls("Undefine")][-2:] == [{"purge": False, "dry-run": False}] * 2, result
    expect(it, 2, "remove", "db", "--purge", err="--yes")
    result = expect(it, 0, "remove", "db", "--purge", "--yes", "--force", out="/state/data\\x1b.img",
                    err="/usr/lib/microvmd/vms/db.json counts now")
    assert it.calls("Stop")[-1][2] == {"force": True}
    assert json.loads(expect(it, 0, "remove", "t@1.x-y", "--json").stdout) == ["/etc/microvmd/vms/t@1.x-y.json"]
    expect(it, 77, "remove", "locked", "--yes", err="org.microvm1.define")
    expect(it, 1, "remove", "evil", "guest", "--yes", err="mask it instead")
    assert [call[0] for call in it.calls("Stop")] == ["web", "db"], "what can't be removed is not stopped first"
    expect(it, 4, "remove", "nobody", err="No microVM")
    expect(it, 2, "remove", err="missing")
    terminal = Terminal(it, "remove", "stuck", "--purge")
    terminal.wait_for(b"[y/N]")
    assert b"/etc/microvmd/vms/stuck.json" in terminal.seen and b"data\\x1b.img" in terminal.seen
    terminal.send(b"n\n")
    assert terminal.end() == 1 and b"Nothing was removed" in terminal.seen
    terminal = Terminal(it, "remove", "stuck")
    terminal.wait_for(b"(Volumes stay.) [y/N]")
    terminal.send(b"y\n")
    assert terminal.end() == 0 and b"Removed stuck" in terminal.seen


def test_remove_undeclared(it):
    it.stop()
    it.start("--undeclared", "web")
    expect(it, 1, "remove", "web", "--yes", "--purge", err="microvmctl apply --prune --purge web")
    assert it.calls("Stop") == []
    expect(it, 0, "remove", "web", "--yes", out="Removed web; it had no definition any more.\n")
    assert len(it.calls("Stop")) == 1 and it.calls("Undefine") == []


def test_enable(it):
    expect(it, 0, "enable", "web", "slow")
    assert it.calls("Define") == [[name, "Define", '{ "autostart": true }\n', {"drop-in": "50-autostart.json", "expected": "", "prune": True}]
                                  for name in ("web", "slow")]
    assert it.calls("Start") == []
    expect(it, 0, "disable", "--now", "web")
    assert defined(it)[1] == '{ "autostart": false }\n' and [call[0] for call in it.calls("Stop")] == ["web"]
    expect(it, 0, "enable", "--now", "web")
    assert [call[0] for call in it.calls("Start")] == ["web"]
    expect(it, 77, "enable", "locked", err=["org.microvm1.inspect", "sudo"])
    expect(it, 4, "enable", "nobody", err="No microVM is called")


def test_enable_keeps_what_is_not_its_own(it):
    with_definitions(it)
    for ours in ('{ "autostart": true }\n', '{ "autostart": false }\n'):
        write(it, "etc/web.json.d/50-autostart.json", ours)
        expect(it, 0, "enable", "web")
        assert defined(it)[2]["expected"] == ours
    for verb in ("enable", "disable"):
        write(it, "etc/web.json.d/50-autostart.json", '// mine\n{ "autostart": true, "mem": 700 }\n')
        expect(it, 1, verb, "web", "--now", err=["etc/web.json.d/50-autostart.json was not written by enable", "Edit"])
    write(it, "lib/db.json.d/50-autostart.json", '{ "autostart": true, "mem": 700 }\n')
    expect(it, 0, "disable", "db")
    assert defined(it)[2]["expected"] == "", "a package's file is hidden by ours, not changed"
    assert len(it.calls("Define")) == 3 and it.calls("Start") == it.calls("Stop") == []


def test_mask(it):
    expect(it, 0, "mask", "web", "nobody")
    expect(it, 0, "unmask", "web")
    assert [call[:2] for call in it.calls()] == [["web", "Mask"], ["nobody", "Mask"], ["web", "Unmask"]]
    expect(it, 77, "mask", "locked", err="org.microvm1.define")
    expect(it, 2, "mask", err="missing")


def test_is_enabled(it):
    assert expect(it, 0, "is-enabled", "web").stdout == "enabled\n"
    assert expect(it, 1, "is-enabled", "web", "slow", "bad", "hidden").stdout == "enabled\ndisabled\ninvalid\nmasked\n"
    assert expect(it, 4, "is-enabled", "web", "nobody").stdout == "enabled\nnot-found\n"
    assert expect(it, 1, "-q", "is-enabled", "slow").stdout == ""
    assert json.loads(expect(it, 0, "is-enabled", "web", "--json").stdout) == [{"Name": "web", "State": "enabled"}]


def complete(it, *words):
    """What bash offers for the last word. It divides words at "=" and "@"."""
    parts = [part for word in words for part in (re.split("([=@])", word) if word else [""]) if part or not word]
    script = ". \"$1\"; COMP_LINE=$2; COMP_POINT=${#2}; shift 2; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))\n" \
        "COMP_WORDBREAKS='@='; _microvmctl; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "--norc", "-c", script, "bash", COMPLETION, " ".join(words), *parts], capture_output=True, text=True,
                          env={**it.env, "PATH": f"{os.path.dirname(os.path.abspath(CTL))}:{os.environ['PATH']}"}, timeout=LIMIT)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.split()


def test_completion(it):
    every, verbs = options_of_verbs()
    common = {"--bus", "--host", "--json", "--no-pager", "--no-legend", "--no-block", "--quiet", "--no-ask-password", "--help", "--version"}
    assert sorted(complete(it, "microvmctl", "")) == sorted(verbs)
    for verb, options in verbs.items():
        assert set(complete(it, "microvmctl", verb, "--")) == common | options, verb
    assert complete(it, "microvmctl", "start", "we") == ["web"]
    assert complete(it, "microvmctl", "wait", "--for", "re") == ["ready"]
    assert complete(it, "microvmctl", "wait", "--for=re") == ["ready"]
    assert "restart.policy=" in complete(it, "microvmctl", "create", "new", "--set", "restart.p")
    assert complete(it, "microvmctl", "status", "t@1") == ["1.x-y"], "what is behind the @"
    assert complete(it, "microvmctl", "console", "t@") == ["1.x-y"]
    assert complete(it, "microvmctl", "console", "web", "") == [], "it takes one name"
    assert complete(it, "microvmctl", "create", "") == [], "a new one has a new name"


def test_remote(it):
    ssh = os.path.join(it.folder, "ssh")
    with open(ssh, "w") as file:
        file.write(f"#!/bin/sh\nfor word; do echo \"<$word>\"; done >{it.folder}/words\n")
    os.chmod(ssh, 0o755)
    path = f"{it.folder}:{os.environ['PATH']}"
    expect(it, 0, "-H", "me@there", "logs", "-f", "-n", "3", "we'b", PATH=path)
    with open(f"{it.folder}/words") as file:
        assert file.read() == "<-t>\n<-->\n<me@there>\n<microvmctl --follow --lines=3 logs -- 'we'\\''b'>\n"
    expect(it, 0, "console", "web", "--host=there", "-q", PATH=path)
    expect(it, 2, "console", "web", "--host=-oProxyCommand=x", PATH=path, err="is no host")
    expect(it, 69, "-H", "there", "list", PATH=path, err="there")


def main():
    why = reason_to_skip()
    # The distribution's modules belong to the distribution's Python, which need not be the first one on the path.
    if why and "No module" in why and os.path.exists("/usr/bin/python3") and sys.executable != "/usr/bin/python3":
        os.execv("/usr/bin/python3", ["/usr/bin/python3", os.path.abspath(__file__), *sys.argv[1:]])
    if why:
        print(f"1..0 # SKIP {why}")
        return 0
    tests = [(name[5:].replace("_", " "), run) for name, run in globals().items() if name.startswith("test_")]
    failed = 0
    print(f"1..{len(tests)}")
    for number, (name, run) in enumerate(tests, 1):
        if len(sys.argv) > 1 and sys.argv[1] not in name:
            print(f"ok {number} - {name} # SKIP not asked for")
            continue
        try:
            with host() as it:
                run(it)
            print(f"ok {number} - {name}", flush=True)
        except Exception:
            failed += 1
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()), end="")
            print(f"not ok {number} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
