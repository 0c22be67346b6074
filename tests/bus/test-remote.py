#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmctl -H HOST, against a microvmd that is "over there", behind an ssh of the test's own. Prints TAP."""

import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import direct  # noqa: E402
from harness import BUILD, CTL, run_tests, tests_of, wait_for  # noqa: E402


# An ssh: sd-bus asks it for the bus of over there, without descriptors; other verbs are run there.
SSH = """#!{python}
import os, select, subprocess, sys
line = sys.argv[-1]
with open("{dir}/asked", "a") as file:
    print(line, file=file)
if line != "systemd-stdio-bridge":
    os.environ.update(PATH="{build}:" + os.environ["PATH"], MICROVM_BUS="{address}")
    os.execlp("sh", "sh", "-c", line)
bridge = subprocess.Popen(["systemd-stdio-bridge", "--bus-path={address}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
ways = {{0: bridge.stdin.fileno(), bridge.stdout.fileno(): 1}}
for fd in (0, 1):
    os.set_blocking(fd, True)
while True:
    for fd in select.select(list(ways), [], [])[0]:
        data = os.read(fd, 65536)
        if not data:
            bridge.kill()
            sys.exit()
        os.write(ways[fd], data)
"""


def make_host():
    host = direct.make_host()
    os.mkdir(host.path("ssh"))
    host.write("ssh/ssh", SSH.format(python=sys.executable, dir=host.dir, address=host.address, build=BUILD))
    os.chmod(host.path("ssh/ssh"), 0o755)
    host.define("web", accel="tcg", mem=64, balloon=True, restart={"policy": "no"})
    host.reload()
    return host


def command(*args):
    return [CTL, "--no-pager", "-H", "me@there", *args]


def environment(host):
    return {**os.environ, "PATH": f"{host.path('ssh')}:{os.environ['PATH']}"}


def there(host, code, *args):
    run = subprocess.run(command(*args), capture_output=True, text=True, timeout=120, env=environment(host))
    assert run.returncode == code, (args, run)
    assert "me@there" not in run.stderr, run.stderr  # nothing could not be reached
    return run.stdout


def same(host, code, *args):
    """Over there and here are the same words."""
    here = host.ctl("--no-pager", *args)
    assert here.returncode == code, (args, here)
    assert there(host, code, *args) == here.stdout, args
    return here.stdout


def test_asks(host):
    assert host.ctl("start", "web").returncode == 0
    same(host, 0, "list")
    same(host, 1, "is-failed", "web")
    same(host, 0, "leaks")
    facts, here = (json.loads(ctl("why", "--json", "-n", lines, "web"))[0]
                   for ctl, lines in ((lambda *args: there(host, 0, *args), "5"), (lambda *args: host.ctl(*args).stdout, "0")))
    assert "logs" in facts.pop("ConsoleLeftOut") and facts == here, facts
    begun = time.monotonic()
    shown = there(host, 0, "why", "web")
    assert "Asked: start, by uid 0 (microvmctl" in shown or os.geteuid() != 0, shown  # users have other names there
    assert "Console: not shown: from another host" in shown
    there(host, 0, "status", "web")
    assert time.monotonic() - begun < 20, "waits for what does not come"
    os.kill(host.vm("web", "MainPID"), signal.SIGKILL)
    wait_for("the failure", lambda: host.vm("web", "State") == "failed")
    wait_for("its report", lambda: json.loads(host.ctl("crashes", "--json", "web").stdout))
    same(host, 0, "is-failed", "web")
    same(host, 0, "crashes", "web")
    same(host, 0, "crashes", "--json", "web", "1")
    assert "killed by SIGKILL" in there(host, 0, "crashes", "web", "1")
    there(host, 4, "why", "nobody")


def test_changes(host):
    there(host, 0, "start", "web")
    there(host, 0, "set-memory", "web", "32M")
    there(host, 0, "drain")
    assert host.vm("web", "State") == "inactive"
    assert "asked for by" in there(host, 0, "why", "web")
    there(host, 1, "start", "web")
    there(host, 0, "undrain")
    assert host.vm("web", "State") == "running"


def test_waits(host):
    process = subprocess.Popen(command("wait", "web", "--for=running", "--timeout=60"), env=environment(host))
    there(host, 0, "start", "web")
    assert process.wait(60) == 0
    there(host, 1, "wait", "web", "--for=failed", "--timeout=1")
    monitor = subprocess.Popen(command("--json", "monitor", "web"), env=environment(host), stdout=subprocess.PIPE, text=True)
    assert json.loads(monitor.stdout.readline())["Event"]
    there(host, 0, "stop", "--force", "web")
    seen = []
    while not seen or seen[-1].get("State") != "inactive":
        seen.append(json.loads(monitor.stdout.readline()))
    monitor.terminate()
    monitor.communicate()


def test_history(host):
    """The journal is over there, too."""
    run = subprocess.run(command("--json", "history", "-n", "3", "web"), capture_output=True, text=True, timeout=60, env=environment(host))
    with open(host.path("asked")) as file:
        assert file.read().splitlines()[-1] == "microvmctl --no-pager --json=short --lines=3 history -- 'web'"
    assert run.returncode in (0, 1), run  # there may be no journal


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
