#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""microvmd --check, and Validate: on a private bus, with libvirt's test driver. Prints TAP."""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bus import make_host  # noqa: E402
from harness import DAEMON, MANAGER, ROOT, run_tests, tests_of  # noqa: E402


def test_validate(host):
    problems = host.call(ROOT, MANAGER, "Validate", "s", '{"kernel": "/k",\n "vpcu": 2, "mem": []}')[0]
    assert problems[0][0] == "error" and problems[0][1] == "/vpcu" and problems[0][3:] == [2, 2], problems
    assert 'did you mean "vcpu"' in problems[0][2] and len(problems) == 2
    assert host.call(ROOT, MANAGER, "Validate", "s", '{"kernel": "/k"} // good')[0] == []


def test_check(host):
    host.stop()
    host.write("vms/bad.json", '{"kernel": "/k", "mem": -1, "vpcu": 2}')
    run = subprocess.run(host.argv("--check"), capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and run.stdout.count("bad.json:1:") == 2, run.stdout
    run = subprocess.run(host.argv("--check", host.path("vms/a.json")), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout
    assert subprocess.run([DAEMON, "--frobnicate"], capture_output=True).returncode == 2
    assert subprocess.run([DAEMON, "surplus"], capture_output=True).returncode == 2
    run = subprocess.run([DAEMON, "--bus", "sytem"], capture_output=True, text=True)
    assert run.returncode == 2 and "system, user, or a D-Bus address" in run.stderr, run.stderr
    for what in ("vm", "host"):
        schema = subprocess.run([DAEMON, "--dump-schema", what], capture_output=True, text=True)
        assert json.loads(schema.stdout)["$schema"].endswith("2020-12/schema")


def test_no_configuration_means_defaults(host):
    host.stop()
    os.unlink(host.path("host.json"))
    run = subprocess.run(host.argv("--check"), capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "good" in run.stdout, run.stdout


def test_each_problem_of_the_host_is_told_once(host):
    host.stop()
    host.write("host.json", '{ "libvrt": {}, "foo": 1 }')
    run = subprocess.run(host.argv("--check"), capture_output=True, text=True, timeout=60)
    assert run.returncode == 78 and run.stdout.count('"libvrt"') == 1 and run.stdout.count('"foo"') == 1, run.stdout


def test_check_layers(host):
    def check(*names):
        run = subprocess.run(host.argv("--check", *map(host.path, names)), capture_output=True, text=True)
        return run.returncode, run.stdout

    for name in ("vms/a.json.d", "vms/none.json.d", "elsewhere", "elsewhere/x.json.d", "defaults.json.d"):
        os.mkdir(host.path(name))
    host.write("defaults.json", '{ "kernel": "/k", "vcpu": 2 }')
    host.write("elsewhere/x.json", "{}")
    assert check("elsewhere/x.json", "defaults.json")[0] == 0, "the kernel is in defaults.json"
    host.write("elsewhere/x.json.d/10.json", '{ "vcpu": "two" }')
    for name in ("elsewhere/x.json", "elsewhere/x.json.d/10.json"):
        code, out = check(name)
        assert code == 1 and "x.json.d/10.json:1:11: error:" in out, out
    host.write("vms/a.json.d/10.json", '{ "kernelParams+": ["a b"] }')
    code, out = check("vms/a.json.d/10.json")
    assert code == 1 and "a.json.d/10.json:1:21: error: one kernel parameter" in out, out
    host.write("vms/none.json.d/10.json", '{ "vpcu": 1 }')
    code, out = check("vms/none.json.d/10.json")
    assert code == 1 and 'did you mean "vcpu"' in out, out
    host.write("vms/t@.json", '{ "kernel": "/%i/%x" }')
    code, out = check("vms/t@.json")
    assert code == 1 and "t@.json:1:13: error: %x stands for nothing" in out, out
    host.write("defaults.json.d/10.json", '{ "mem": -1 }')
    assert check("defaults.json.d/10.json")[0] == 1
    host.write("defaults.json.d/10.json", '{ "mem": 10 }')
    host.write("vms/t@.json", '{ "kernel": "/%i" }')
    assert check("defaults.json.d/10.json", "vms/t@.json") == (0, "2 files are good.\n")


def test_check_files_together(host):
    def check(*names, folder="."):
        run = subprocess.run(host.argv("--check", *names), capture_output=True, text=True, cwd=host.path(folder))
        return run.returncode, run.stdout

    def network(number, **more):
        return json.dumps({"kernel": "/k", "interfaces": [{"type": "user", "mac": f"02:00:00:00:00:0{number}"}], **more})

    os.mkdir(host.path("new"))
    host.write("new/a.json", network(1, requires=["nobody"]))
    host.write("new/b.json", network(1))
    host.write("new/c.json", network(2))
    assert check("new/a.json")[0] == 0, "of files somewhere nobody knows whom they lack, nor what is beside them"
    assert check("new/a.json", "new/c.json") == (0, "2 files are good.\n")
    code, out = check("b.json", "a.json", folder="new")
    assert code == 1 and out.startswith("b.json:1:57: error: MAC address 02:00:00:00:00:01 is that of the microVM a already, in a.json;"), out
    assert out.count("\n") == 1, out
    # In a definition directory the others there count, and go before; what is wrong with them is their own affair.
    host.write("vms/k.json", network(3))
    host.write("vms/l.json", network(3))
    host.write("vms/m.json", network(4))
    host.write("vms/broken.json", "{")
    host.write("vms/d.json", network(4, requires=["kk", "broken"], wants=["mm"]))
    for name, folder in (("d.json", "vms"), ("vms/d.json", "."), (host.path("vms/d.json"), "/")):
        code, out = check(name, folder=folder)
        assert code == 1 and f"{name}:1:57: error: MAC address 02:00:00:00:00:04 is that of the microVM m already, in " in out, out
        assert re.search(name + r':1:\d+: error: no microVM is called "kk"', out), out
        assert re.search(name + r':1:\d+: error: no microVM is called "mm"', out), out
        assert out.count("\n") == 3, out
    assert check("vms/m.json")[0] == 0
    code, out = check("vms/l.json")
    assert code == 1 and "of the microVM k already" in out, out
    assert "of the microVM l already" in check("vms/k.json")[1], "who is asked about is the newcomer"
    assert "of the microVM k already" in check("vms/k.json", "vms/l.json")[1]
    assert check()[1].count("error: MAC address") == 2
    # through a drop-in, and by a relative path of it, also where its directory is the working one
    os.mkdir(host.path("vms/n.json.d"))
    host.write("vms/n.json", network(5))
    host.write("vms/n.json.d/10.json", '{"vsock": {"cid": 7}}')
    host.write("vms/o.json", '{"kernel": "/k", "vsock": {"cid": 7}}')
    for name, folder in (("10.json", "vms/n.json.d"), ("n.json.d/10.json", "vms"), ("../n.json.d//10.json", "vms/n.json.d")):
        code, out = check(name, folder=folder)
        assert code == 1 and out.startswith(f"{name}:1:19: error: vsock CID 7 is that of the microVM o already"), out
    # defaults.json by any path
    host.write("defaults.json", '{"mem": 64}')
    os.mkdir(host.path("defaults.json.d"))
    host.write("defaults.json.d/10.json", '{"vcpu": 1}')
    for name, folder in (("defaults.json", "."), ("../defaults.json", "vms"), ("10.json", "defaults.json.d")):
        assert check(name, folder=folder) == (0, "1 file is good.\n"), check(name, folder=folder)
    # a template is no microVM, but its instances are
    host.write("vms/t@.json", network(8))
    assert check("vms/t@.json")[0] == 0
    for name in "12":
        os.symlink("t@.json", host.path(f"vms/t@{name}.json"))
    code, out = check("t@.json", folder="vms")
    assert code == 1 and "t@.json:1:57: error: MAC address 02:00:00:00:00:08 is that of the microVM t@1 already" in out, out


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
