#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long systemd-run takes with the properties of another transient unit, until QEMU says, by QMP on descriptor 0, that the
guest runs. Prints milliseconds.

usage: bench-systemd-run.py UNIT-FILE DIRECTORY PROGRAM [ARG...]
"""

import os
import socket
import subprocess
import sys
import time

# What systemd-run and the measurement have their own of.
OWN = ("Description", "Environment", "ExecStart", "RemainAfterExit", "StandardInput", "StandardOutput", "StandardError", "Type",
       "Before", "KillMode", "Slice")


def properties(path):
    with open(path) as file:
        for line in file:
            name, equals, _ = line.rstrip("\n").partition("=")
            if equals and name not in OWN and name[0].isalpha():
                yield "--property=" + line.rstrip("\n")


def listen(path):
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    return listener


def main():
    unit_file, directory, *argv = sys.argv[1:]
    control, console = (listen(f"{directory}/bench-{name}.sock") for name in ("control", "console"))
    unit = f"bench-run-{os.getpid()}.service"
    words = ["systemd-run", "--quiet", "--collect", "--pipe", f"--unit={unit}", *properties(unit_file), "--", *argv]
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(control.getsockname())
    peer.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-status"}\n')
    before = time.monotonic()
    run = subprocess.Popen(words, stdin=control, stdout=console)
    control.close()
    for line in peer.makefile():
        if '"running"' in line:
            print(f"{(time.monotonic() - before) * 1000:.1f}")
            break
    else:
        sys.exit("it has not come to run")
    subprocess.run(["systemctl", "kill", "--signal=KILL", unit], check=True)
    run.wait()


if __name__ == "__main__":
    main()
