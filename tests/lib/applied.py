# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plans and applies on a private bus with libvirt's test driver: what their suites share."""

import re
import threading

from harness import MANAGER, ROOT, Host

# The UUID of the domain that libvirt's test driver comes with: what nobody can know before, it refuses at the start.
TAKEN = {"machineId": "6695eb01-f6a4-8304-79aa-97f2502e193f", "restart": {"policy": "no"}}


def make_host():
    host = Host()
    host.start()
    return host


def options(**more):
    """As busctl wants them: a dictionary of variants."""
    types = {bool: "b", int: "t", str: "s"}
    words = [str(len(more))]
    for key, value in more.items():
        if isinstance(value, list):
            words += [key, "as", str(len(value)), *value]
        else:
            words += [key, types[type(value)], str(value).lower() if isinstance(value, bool) else str(value)]
    return words


def plan(host, *names, **more):
    host.reload()
    items = host.call(ROOT, MANAGER, "Plan", "asa{sv}", str(len(names)), *names, *options(**more))[0]
    return {name: (action, reason, [tuple(change) for change in changes]) for name, action, reason, changes in items}


class Applied:
    """An apply from its call to its end: signals as (name, action, how, text), and the result."""

    def __init__(self, host, *names, method="Apply", files=None, meanwhile=None, **more):
        monitor = host.monitor()
        words = ["as" + ("as" if files is not None else "") + "a{sv}", str(len(names)), *names]
        if files is not None:
            words += [str(len(files)), *files]
        host.reload()
        try:
            self.id = host.call(ROOT, MANAGER, method, *words, *options(**more))[0]
            if meanwhile:
                meanwhile(self.id)
            # A net under an apply that hangs: the monitor ends, and with it the reading.
            net = threading.Timer(120, monitor.kill)
            net.start()
            self.steps, self.result = [], None
            for line in monitor.stdout:
                match = re.search(r"Apply(Progress|Removed) \(uint64 (\d+), (.*)\)$", line.strip())
                if not match or int(match[2]) != self.id:
                    continue
                words = [word[1:-1] for word in re.findall(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", match[3])]
                if match[1] == "Removed":
                    self.result, self.reason = words
                    break
                self.steps.append(tuple(words))
            net.cancel()
        finally:
            monitor.kill()
            monitor.communicate()
        assert self.result, "the apply did not end"

    def done(self):
        return [(name, action) for name, action, how, _ in self.steps if how == "done"]

    def how(self):
        return [step[:3] for step in self.steps]


def refused(host, *names, **more):
    return host.error(ROOT, MANAGER, "Apply", "asa{sv}", str(len(names)), *names, *options(**more))


def running(host, *names, **keys):
    for name in names:
        host.define(name, **keys)
    host.reload()
    assert host.ctl("start", *names).returncode == 0


def network(number):
    return {"interfaces": [{"type": "user", "mac": f"02:00:00:00:00:0{number}"}]}
