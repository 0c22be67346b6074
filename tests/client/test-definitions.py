#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Verbs of microvmctl that write definitions, against a service that only pretends."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ctl import Terminal, expect, main  # noqa: E402


def defined(it):
    name, _, content, options = it.calls("Define")[-1]
    return name, content, options


def test_create(it):
    text = '// mine\n{ "kernel": "/k" }\n'
    expect(it, 0, "create", "new", "--from", it.write("new.json", text), out="microvmctl start new")
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
    result = expect(it, 1, "create", "new", "--from", it.write("bad.json", '{\n"kernal": 1}'),
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
    path = it.write("bin/editor", f"#!/bin/sh\n{script}\n", 0o755)
    os.makedirs(it.path("tmp"), exist_ok=True)
    return {"VISUAL": path, "EDITOR": "false", "TMPDIR": it.path("tmp")}


def left(it):
    return [it.path(f"tmp/{name}") for name in os.listdir(it.path("tmp"))]


def with_definitions(it):
    it.stop()
    etc, vendor = it.path("etc"), it.path("lib")
    it.write("etc/web.json", '{\n  "mem": 512\n}\n')
    it.write("etc/locked.json", "{}\n")
    it.write("lib/db.json", '{\n  "vcpu": 1\n}\n')
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
    it.write("etc/db.json.d/override.json", there)
    expect(it, 0, "edit", "db", **editor(it, 'sed -i s/8/9/ "$1"'))
    assert defined(it) == ("db", there.replace("8", "9"), {"drop-in": "override.json", "expected": there})
    expect(it, 0, "edit", "db", **editor(it, 'echo >"$1"'))
    assert it.calls("Undefine")[-1] == ["db", "Undefine", {"drop-in": "override.json", "expected": there}], "an emptied one is none"
    other = f"{etc}/db.json.d/override.json"
    expect(it, 1, "edit", "db", **editor(it, f'echo "{{}}" >{other}; echo >"$1"'), err="changed by somebody else")
    os.rename(f"{etc}/web.json", it.path("elsewhere"))
    os.symlink(it.path("elsewhere"), f"{etc}/web.json")
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
    os.unlink(it.path("second"))
    it.write("etc/web.json", "{}\n")
    terminal = Terminal(it, "edit", "web", **env)
    terminal.wait_for(b"Edit it again? [y/N]")
    terminal.send(b"y\n")
    terminal.wait_for(b"Changed")
    assert terminal.end() == 0 and left(it) == []
    assert defined(it) == ("web", mine, {"expected": theirs}), "his is not overwritten before it was seen"


def test_edit_over_there(it):
    it.write("bin/ssh", f"#!/bin/sh\nfor word; do echo \"<$word>\"; done >{it.folder}/words\n", 0o755)
    expect(it, 0, "-H", "there", "edit", "--full", "web", PATH=f"{it.folder}/bin:{os.environ['PATH']}")
    with open(it.path("words")) as file:
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
        it.write("etc/web.json.d/50-autostart.json", ours)
        expect(it, 0, "enable", "web")
        assert defined(it)[2]["expected"] == ours
    for verb in ("enable", "disable"):
        it.write("etc/web.json.d/50-autostart.json", '// mine\n{ "autostart": true, "mem": 700 }\n')
        expect(it, 1, verb, "web", "--now", err=["etc/web.json.d/50-autostart.json was not written by enable", "Edit"])
    it.write("lib/db.json.d/50-autostart.json", '{ "autostart": true, "mem": 700 }\n')
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


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
