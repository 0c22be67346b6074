# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmd on a private bus with libvirt's test driver and two definitions, and definitions that it is to write."""

import json

from harness import MANAGER, NAME, ROOT, Host


def make_host():
    host = Host()
    host.define("a")
    host.define("b-c")
    host.start()
    return host


def define(host, name, content, prefix=(), **options):
    """The problems; options are strings or booleans."""
    words = ["Define", "ssa{sv}", name, content, str(len(options))]
    for key, value in options.items():
        is_bool = isinstance(value, bool)
        words += [key.replace("_", "-"), "b" if is_bool else "s", str(value).lower() if is_bool else value]
    run = host.busctl("call", NAME, ROOT, MANAGER, *words, check=False, prefix=prefix)
    return json.loads(run.stdout)["data"][0] if run.returncode == 0 else run.stderr


def state_of(host, name):
    return host.call(ROOT, MANAGER, "GetDefinitionState", "s", name)[0]


def good(host, **more):
    return json.dumps({"kernel": host.kernel, "autostart": False, **more})


def read(path):
    with open(path) as file:
        return file.read()
