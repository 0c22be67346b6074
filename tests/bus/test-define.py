#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Definitions that microvmd writes: on a private bus, with libvirt's test driver. Prints TAP."""

import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bus import define, good, make_host, read, state_of  # noqa: E402
from harness import CTL, MANAGER, ROOT, VM, run_tests, tests_of, wait_for  # noqa: E402


def test_define(host):
    path = host.path("vms/new.json")
    text = "// mine\n" + good(host, labels={"tier": "web"})
    assert define(host, "new", text, expected="") == []
    assert read(path) == text and os.stat(path).st_mode & 0o777 == 0o644
    assert host.vm("new", "State") == "inactive" and host.vm("new", "Labels") == {"tier": "web"}
    assert "is there already" in define(host, "new", good(host), expected="")
    assert read(path) == text, "nothing was lost"
    assert define(host, "new", good(host, mem=300), expected=text) == []
    assert host.vm("new", "MemoryBytes") == 300 << 20
    assert "changed by somebody else" in define(host, "new", good(host), expected=text)
    assert json.loads(read(path))["mem"] == 300
    os.chmod(path, 0o600)
    assert define(host, "new", good(host, mem=301)) == [] and os.stat(path).st_mode & 0o777 == 0o600, "its mode stays"
    assert sorted(os.listdir(host.definitions)) == ["a.json", "b-c.json", "new.json"], "nothing is left behind"
    assert [name for name in os.listdir(host.path("run/daemon")) if name.startswith("define")] == []
    for name in ("../x", ".x", "a/b", "x" * 65):
        assert "can't be the name" in define(host, name, good(host)), name
    assert "only in case" in define(host, "NEW", good(host))[0][2], "two names that differ only in case"
    assert "no option" in define(host, "x", good(host), frobnicate="y")


def test_define_makes_the_directory(host):
    host.stop()
    shutil.rmtree(host.definitions)
    host.start()
    assert define(host, "new", good(host)) == []
    assert os.stat(host.definitions).st_mode & 0o777 == 0o755 and host.vm("new", "State") == "inactive"


def test_define_refuses_what_is_broken(host):
    before = read(host.path("vms/a.json"))
    for text, place in (('{"kernel": "/k",\n "vpcu": 2}', ["/vpcu", 2, 2]), ("{", ["", 1, 2]), ("", ["", 0, 0]),
                        ("{}", ["", 1, 1])):
        problems = define(host, "a", text)
        assert problems[0][0] == "error" and [problems[0][1], *problems[0][3:]] == place, f"{text[:20]}: {problems}"
        assert "define." not in problems[0][2], "no word of where it was looked at"
    assert read(host.path("vms/a.json")) == before and state_of(host, "a") == "disabled"
    os.rename(host.path("vms/a.json"), host.path("elsewhere.json"))
    os.symlink(host.path("elsewhere.json"), host.path("vms/a.json"))
    assert "link" in define(host, "a", good(host)) and read(host.path("elsewhere.json")) == before


def test_define_tells_what_is_broken_below(host):
    host.write("defaults.json", '{"vpcu": 1}')
    problems = define(host, "new", good(host))
    assert problems and problems[0][0] == "error" and "defaults.json" in problems[0][2], problems
    assert not os.path.exists(host.path("vms/new.json"))


def test_two_writers_lose_nothing(host):
    """Each adds its own key to what it has read; who is too late reads again."""
    assert define(host, "new", good(host, labels={}), expected="") == []
    program = """
import json, subprocess, sys
path, address, mine = sys.argv[1:]
for _ in range(200):
    with open(path) as file:
        text = file.read()
    new = json.loads(text)
    new["labels"][mine] = "x"
    run = subprocess.run(["busctl", "--address=" + address, "call", "org.microvm1", "/org/microvm1", "org.microvm1.Manager",
                          "Define", "ssa{sv}", "new", json.dumps(new), "1", "expected", "s", text], capture_output=True)
    if run.returncode == 0:
        sys.exit(0)
sys.exit("never")
"""
    writers = [subprocess.Popen([sys.executable, "-c", program, host.path("vms/new.json"), host.address, f"w{i}"])
               for i in range(6)]
    assert [writer.wait(120) for writer in writers] == [0] * 6
    assert set(host.vm("new", "Labels")) == {f"w{i}" for i in range(6)}


def test_define_drop_in(host):
    assert "No microVM is called" in define(host, "nobody", "{}", drop_in="50-x.json")
    for name in ("x", "../x.json", ".x.json", "a/x.json"):
        assert "can't be a drop-in" in define(host, "a", "{}", drop_in=name), name
    path = host.path("vms/a.json.d/override.json")
    assert define(host, "a", '{"mem": 700}', drop_in="override.json", expected="") == []
    assert read(path) == '{"mem": 700}' and host.vm("a", "MemoryBytes") == 700 << 20
    for text, place in (('{"mem": 700,\n "vpcu": 1}', ["/vpcu", 2, 2]), ('{"vcpu": 1000}', ["/vcpu", 1, 10]), ('[]', ["", 1, 1]),
                        ('{"kernel": null}', None)):
        problems = define(host, "a", text, drop_in="override.json")
        assert problems[0][0] == "error" and place in (None, [problems[0][1], *problems[0][3:]]), f"{text}: {problems}"
    host.write("vms/b-c.json", '{"kernel": "/k", "vpcu": 1}')
    problems = define(host, "b-c", '{"mem": 700}', drop_in="override.json")
    assert problems[0][3:] == [0, 0] and host.path("vms/b-c.json:1:") in problems[0][2], "a mistake of another file says where"
    assert read(path) == '{"mem": 700}' and host.vm("a", "MemoryBytes") == 700 << 20
    assert host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "1", "drop-in", "s", "override.json") == [[]]
    assert host.vm("a", "MemoryBytes") == 512 << 20
    assert not os.path.exists(os.path.dirname(path)), "the empty directory goes, too"
    assert define(host, "a", '{"autostart": true}', drop_in="50-autostart.json", prune=True) == []
    assert state_of(host, "a") == "enabled" and os.listdir(host.path("vms/a.json.d")) == ["50-autostart.json"]
    assert define(host, "a", '{"autostart": false}', drop_in="50-autostart.json", prune=True) == []
    assert state_of(host, "a") == "disabled"
    assert not os.path.exists(host.path("vms/a.json.d")), "what changes nothing is not kept"


def test_drop_in_that_is_empty(host):
    os.mkdir(host.path("vms/a.json.d"))
    host.write("vms/a.json.d/override.json", "")
    assert define(host, "a", '{"mem": 700}', drop_in="override.json", expected="") == []
    assert host.vm("a", "MemoryBytes") == 700 << 20
    host.write("vms/hidden.json", "")
    assert "unmask it first" in define(host, "hidden", good(host), expected="")


def test_define_templates(host):
    """A template is checked as an instance of it would be, whether there is one or not."""
    template = json.dumps({"kernel": host.kernel, "autostart": False, "labels": {"i": "%i"}})
    assert define(host, "web@", template, expected="") == []
    assert read(host.path("vms/web@.json")) == template and state_of(host, "web@") == "template"
    assert "is there already" in define(host, "web@", template, expected="")
    for text, place in (('{"kernel": "/k",\n "vpcu": 2}', ["/vpcu", 2, 2]), ("{", ["", 1, 2]), ("{}", ["", 1, 1]),
                        ('{"kernel": "/k", "description": "%z"}', ["/description", 1, 33])):
        problems = define(host, "web@", text)
        assert problems[0][0] == "error" and [problems[0][1], *problems[0][3:]] == place, f"{text}: {problems}"
        assert "define." not in problems[0][2], problems
    os.symlink("web@.json", host.path("vms/web@1.json"))
    host.reload()
    assert host.vm("web_401", "Labels") == {"i": "1"}
    assert define(host, "web@", template.replace("%i", "no%i")) == [] and host.vm("web_401", "Labels") == {"i": "no1"}
    problems = define(host, "web@", '{"kernel": "/k",\n "vpcu": 2}')
    assert problems[0][1:2] + problems[0][3:] == ["/vpcu", 2, 2], problems
    assert define(host, "web@", '{"mem": 700}', drop_in="50-mem.json") == [] and host.vm("web_401", "MemoryBytes") == 700 << 20
    assert define(host, "web@", '{"mem": -1}', drop_in="50-mem.json")[0][0] == "error"
    assert "No microVM is called" in define(host, "db@", "{}", drop_in="50-x.json")
    for name in ("@", "a@b@", ".@", "x" * 64 + "@"):
        assert "can't be the name" in define(host, name, template), name
    assert "template" in host.error(ROOT, MANAGER, "CreateTransient", "ssa{sv}", "t@", template, "0")
    for words, told in ((("create", "db@", "--kernel", host.kernel), "ln -s db@.json"), (("create", "db@", "--kernel", "/k"), "edit db@")):
        run = host.ctl(*words)
        assert told in run.stdout + run.stderr, run
    assert read(host.path("vms/db@.json"))
    host.write("editor", "#!/bin/sh\nsed -i 's/kernel/kernel/; s/{/{ \"mem\": 300,/' \"$1\"\n")
    os.chmod(host.path("editor"), 0o755)
    run = subprocess.run([CTL, "edit", "db@"], capture_output=True, text=True, timeout=60,
                         env={**os.environ, "MICROVM_BUS": host.address, "TMPDIR": host.dir, "VISUAL": host.path("editor")})
    assert run.returncode == 0 and json.loads(read(host.path("vms/db@.json")))["mem"] == 300, run


def test_no_autostart(host):
    assert define(host, "new", json.dumps({"kernel": host.kernel}), no_autostart=True) == []
    assert state_of(host, "new") == "disabled"
    assert define(host, "two", "// {\n{ // x\n \"kernel\": \"/k\", \"autostart\": true }", no_autostart=True) == []
    assert state_of(host, "two") == "enabled", "what it says itself counts"


def test_transient(host):
    create = ("CreateTransient", "ssa{sv}")
    assert host.call(ROOT, MANAGER, *create, "tmp", json.dumps({"kernel": host.kernel}), "0") == ["/org/microvm1/vm/tmp"]
    assert os.listdir(host.transient) == ["tmp.json"] and not os.path.exists(host.path("vms/tmp.json"))
    assert state_of(host, "tmp") == "transient" and host.vm("tmp", "Autostart") is False
    assert "already" in host.error(ROOT, MANAGER, *create, "tmp", good(host), "0")
    assert "already" in host.error(ROOT, MANAGER, *create, "a", good(host), "0")
    refusal = host.error(ROOT, MANAGER, *create, "bad", '{"kernel": "/k",\n "vpcu": 2}', "0")
    assert "2:2" in refusal and "vcpu" in refusal, refusal
    host.call("/org/microvm1/vm/tmp", VM, "Start", "a{sv}", "0")
    wait_for("running", lambda: host.vm("tmp", "State") == "running")
    assert "stop it first" in host.error(ROOT, MANAGER, "Undefine", "sa{sv}", "tmp", "0")
    host.call("/org/microvm1/vm/tmp", VM, "Stop", "a{sv}", "1", "force", "b", "true")
    wait_for("inactive", lambda: host.vm("tmp", "State") == "inactive")
    assert host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "tmp", "0") == [[os.path.join(host.transient, "tmp.json")]]
    assert "No microVM" in host.error(ROOT, MANAGER, "GetDefinitionState", "s", "tmp")


def test_what_is_undeclared_can_be_defined_again(host):
    host.call("/org/microvm1/vm/a", VM, "Start", "a{sv}", "0")
    wait_for("running", lambda: host.vm("a", "State") == "running")
    os.unlink(host.path("vms/a.json"))
    host.reload()
    assert state_of(host, "a") == "undeclared"
    run = host.ctl("create", "a", "--kernel", host.kernel)
    assert run.returncode == 0 and state_of(host, "a") == "disabled", run
    os.unlink(host.path("vms/a.json"))
    host.reload()
    host.call(ROOT, MANAGER, "CreateTransient", "ssa{sv}", "a", good(host), "0")
    assert state_of(host, "a") == "transient" and host.vm("a", "State") == "running"


def test_undefine(host):
    state = host.path("state/vm/a")
    os.makedirs(os.path.join(state, "disks"))
    volume = os.path.join(state, "disks", "data.img")
    host.write(volume, "data")
    os.mkdir(host.path("vms/a.json.d"))
    host.write("vms/a.json.d/50-x.json", "{}")
    files = [host.path("vms/a.json"), host.path("vms/a.json.d/50-x.json")]
    dry = host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "2", "purge", "b", "true", "dry-run", "b", "true")[0]
    assert dry == [*files, volume] and all(map(os.path.exists, dry)), dry
    assert host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "0") == [files]
    assert not os.path.exists(host.path("vms/a.json.d")) and read(volume) == "data", "volumes stay"
    assert "No microVM is called" in host.error(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "0")
    host.define("a")
    host.reload()
    assert volume in host.call(ROOT, MANAGER, "Undefine", "sa{sv}", "a", "1", "purge", "b", "true")[0]
    assert not os.path.exists(state)


def test_mask(host):
    path = host.path("vms/low.json")
    os.mkdir(host.transient)
    host.write("run-vms/low.json", good(host))
    host.reload()
    host.call(ROOT, MANAGER, "Mask", "s", "low")
    assert os.readlink(path) == "/dev/null" and state_of(host, "low") == "masked"
    wait_for("it is gone", lambda: "/org/microvm1/vm/low" not in host.objects())
    host.call(ROOT, MANAGER, "Mask", "s", "low")
    assert "unmask it first" in define(host, "low", good(host)), "a mask is not overwritten"
    assert "already" in host.error(ROOT, MANAGER, "CreateTransient", "ssa{sv}", "low", good(host), "0")
    host.call(ROOT, MANAGER, "Unmask", "s", "low")
    assert not os.path.lexists(path) and state_of(host, "low") == "transient"
    host.call(ROOT, MANAGER, "Unmask", "s", "low")
    assert "is a definition itself" in host.error(ROOT, MANAGER, "Mask", "s", "a")
    assert "no mask" in host.error(ROOT, MANAGER, "Unmask", "s", "a")
    assert state_of(host, "a") == "disabled"


def test_verbs_that_define(host):
    """The whole way, from the command line to the files and back."""
    environment = {**os.environ, "MICROVM_BUS": host.address, "TMPDIR": host.dir}

    def ctl(code, *words, **more):
        run = subprocess.run([CTL, *words], capture_output=True, text=True, timeout=60, env={**environment, **more})
        assert run.returncode == code, f"{words}: {run}"
        return run.stdout + run.stderr

    ctl(0, "create", "web", "--kernel", host.kernel, "--mem=300", "--volume=data.img:64", "--interface=user", "--set=labels.tier=x")
    assert host.vm("web", "MemoryBytes") == 300 << 20 and ctl(1, "is-enabled", "web") == "disabled\n"
    assert "web" in ctl(0, "list", "-l", "tier=x", "--no-legend")
    ctl(0, "enable", "web")
    assert ctl(0, "is-enabled", "web") == "enabled\n"
    ctl(0, "disable", "web")
    assert not os.path.exists(host.path("vms/web.json.d")), "enable and disable leave nothing behind"
    os.mkdir(host.path("vms/web.json.d"))
    host.write("vms/web.json.d/50-autostart.json", '{ "autostart": false, "mem": 300 } // mine\n')
    assert "not written by enable" in ctl(1, "enable", "web")
    assert "mine" in read(host.path("vms/web.json.d/50-autostart.json"))
    shutil.rmtree(host.path("vms/web.json.d"))
    ctl(0, "enable", "--now", "web")
    assert host.vm("web", "State") == "running"
    editor = host.path("editor")
    host.write("editor", "#!/bin/sh\nsed -i \"s/300/$SIZE/\" \"$1\"\n")
    os.chmod(editor, 0o755)
    assert "+  \"mem\": 400" in ctl(0, "edit", "web", EDITOR=editor, VISUAL="", SIZE="400")
    assert "web" in ctl(0, "list", "--outdated", "--no-legend")
    host.write("editor", "#!/bin/sh\nsed -i s/400/-1/ \"$1\"\n")
    assert "json:3:" in ctl(1, "edit", "web", EDITOR=editor, VISUAL="")
    assert json.loads(read(host.path("vms/web.json")))["mem"] == 400
    ctl(0, "create", "low", "--transient", "--kernel", host.kernel)
    host.write("editor", "#!/bin/sh\necho '{ \"mem\": 77 }' >\"$1\"\n")
    ctl(0, "edit", "low", EDITOR=editor, VISUAL="")
    override = host.path("run-vms/low.json.d/override.json")
    assert read(override) == '{ "mem": 77 }\n' and host.vm("low", "MemoryBytes") == 77 << 20
    host.write("editor", f"#!/bin/sh\necho '{{}}' >{override}; echo >\"$1\"\n")
    assert "by somebody else" in ctl(1, "edit", "low", EDITOR=editor, VISUAL="")
    assert read(override) == "{}\n", "an emptied drop-in takes no other's with it"
    host.write("editor", "#!/bin/sh\necho >\"$1\"\n")
    ctl(0, "edit", "low", EDITOR=editor, VISUAL="")
    assert not os.path.exists(os.path.dirname(override))
    for verb in ("enable", "disable"):
        assert "low is transient" in ctl(1, verb, "low") and ctl(1, "is-enabled", "low") == "transient\n"
    assert not os.path.exists(host.path("vms/low.json.d")), "nothing of it outlives a reboot"
    ctl(0, "mask", "low")
    assert "microvmctl unmask low" in ctl(1, "edit", "low", EDITOR=editor, VISUAL="")
    assert ctl(1, "is-enabled", "low") == "masked\n"
    ctl(0, "unmask", "low")
    ctl(0, "create", "hidden", "--transient", "--kernel", host.kernel)
    ctl(0, "start", "hidden")
    ctl(0, "mask", "hidden")
    assert "run-vms/hidden.json" in ctl(0, "remove", "hidden", "--force", "--yes"), "it is known by its files when it has stopped"
    assert "hidden" not in "".join(os.listdir(host.transient) + os.listdir(host.definitions))
    assert "vms/web.json" in ctl(0, "remove", "web", "low", "--force", "--yes", "--purge")
    assert os.listdir(host.transient) == [] and sorted(os.listdir(host.definitions)) == ["a.json", "b-c.json"]
    assert not os.path.exists(host.path("state/vm/web")), "purged"
    assert ctl(4, "is-enabled", "web") == "not-found\n"


def test_verbs_on_what_is_undeclared(host):
    host.define("c")
    host.reload()
    assert host.ctl("start", "c").returncode == 0
    os.unlink(host.path("vms/c.json"))
    host.reload()
    assert state_of(host, "c") == "undeclared"
    for verb in ("enable", "disable"):
        run = host.ctl(verb, "c")
        assert run.returncode == 1 and "There is no definition of c any more" in run.stderr, run
    run = host.ctl("remove", "c", "--yes", "--purge", "--force")
    assert run.returncode == 1 and "--prune --purge c" in run.stderr and host.vm("c", "State") == "running", run
    run = host.ctl("remove", "c", "--yes", "--force")
    assert run.returncode == 0 and "Removed c" in run.stdout, run
    assert "No microVM" in host.error(ROOT, MANAGER, "GetDefinitionState", "s", "c")


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
