# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real guests in real QEMU under TCG, by the QEMU driver inside the daemon (qemu:///embed) and by the driver "direct": what
their suites share. MICROVMD_GUEST names the directory with vmlinuz and initrd (tests/guest/make-guest.sh).
"""

import functools
import glob
import json
import os
import signal
import subprocess
import tempfile

from harness import SOURCE, Host, run_tests, tests_of, wait_for

EMBED = tempfile.mkdtemp(prefix="microvmd-embed.")  # one for all tests: QEMU is probed once, which takes seconds
os.chmod(EMBED, 0o711)  # for hypervisors of any user
GUEST = os.environ.get("MICROVMD_GUEST") or EMBED + "/guest"
# The suite must not lean on a libvirtd of the host: what it would talk to is hidden.
HIDE = ("unshare", "--mount", "sh", "-c", "[ ! -d /run/libvirt ] || mount -t tmpfs none /run/libvirt; exec \"$@\"", "sh")
BOOT = 180  # seconds that a boot may take on a slow, busy machine
DATA = {"volumes": [{"image": "data.img", "size": 16}]}


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


def make_host(driver):
    host = Host(f"qemu:///embed?root={EMBED}" if driver == "libvirt" else "test:///default", driver)
    host.start(HIDE)
    return host


def end(host):
    """What a failed test left running, by the records of this test's own driver."""
    host.ctl("stop", "--all", "--force")
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


def main(module, drivers=("libvirt", "direct")):
    if not os.environ.get("MICROVMD_GUEST"):
        subprocess.run([os.path.join(SOURCE, "tests/guest/make-guest.sh"), GUEST], check=True, stdout=subprocess.DEVNULL)
    code = run_tests(tests_of(module), {driver: functools.partial(make_host, driver) for driver in drivers}, end)
    subprocess.run(["rm", "-rf", EMBED])
    return code
