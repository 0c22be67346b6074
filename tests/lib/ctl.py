# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmctl against a service that only pretends (tests/client/fake-microvmd.py): what its suites share."""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import terminal
from harness import CTL, SOURCE, run_tests, tests_of

# A net under a client that hangs, not a measure.
LIMIT = 60
FAKE = os.path.join(SOURCE, "tests/client/fake-microvmd.py")
CONFIG = """<busconfig><type>session</type><listen>unix:dir={}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>"""


class Host:
    """A bus with a pretended microvmd."""

    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="microvmd-test.")
        self.log = self.path("calls")
        self.write("bus.conf", CONFIG.format(self.folder))
        self.bus = subprocess.Popen(["dbus-daemon", "--nofork", "--print-address=1", "--config-file", self.path("bus.conf")],
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = self.bus.stdout.readline().strip()
        self.env = {**os.environ, "MICROVM_BUS": self.address, "DBUS_SESSION_BUS_ADDRESS": self.address, "TERM": "xterm",
                    "PAGER": "cat", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        self.env.pop("SYSTEMD_PAGER", None)
        self.env.pop("NO_COLOR", None)
        self.start(*options)

    def start(self, *options):
        open(self.log, "w").close()
        self.fake = subprocess.Popen([sys.executable, FAKE, "--log", self.log, *options], env=self.env, stdout=subprocess.PIPE, text=True)
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
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def systemd(self, active, **service):
        """A file of what systemd says of microvmd's units, for --systemd."""
        return self.write("systemd.json", json.dumps({
            "org.freedesktop.systemd1.Unit": {"LoadState": "loaded", "ActiveState": active},
            "org.freedesktop.systemd1.Service": {"ExecMainCode": 1, "StatusText": "", **service}}))

    def read_log(self):
        with open(self.log) as file:
            return file.read()

    def calls(self, member=None):
        calls = [json.loads(line) for line in self.read_log().splitlines()]
        return [call for call in calls if member in (None, call[1])]


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


class Terminal(terminal.Terminal):
    """microvmctl on a terminal of its own."""

    def __init__(self, it, *words, width=80, **env):
        super().__init__([CTL, *words], {**it.env, **env}, width)


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


def main(module):
    why = reason_to_skip()
    # The distribution's modules belong to the distribution's Python, which need not be the first one on the path.
    if why and "No module" in why and os.path.exists("/usr/bin/python3") and sys.executable != "/usr/bin/python3":
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    if why:
        print(f"1..0 # SKIP {why}")
        return 0
    return run_tests(tests_of(module), Host)
