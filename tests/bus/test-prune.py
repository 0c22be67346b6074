#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes: pruned microVMs, purged files, forgotten volumes; on a private bus with libvirt's test driver. Prints TAP."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from applied import Applied, make_host, network, options, plan, refused, running  # noqa: E402
from harness import MANAGER, ROOT, VM, run_tests, tests_of, wait_for  # noqa: E402


def test_undeclared_are_pruned_only_when_asked(host):
    running(host, "a", "b", "c", "gone", volumes=[{"image": "d.img", "size": 8}])
    os.unlink(host.path("vms/gone.json"))
    item = plan(host)["gone"]
    assert item[0] == "undeclared", item
    assert Applied(host).steps == [] and host.vm("gone", "State") == "running"
    assert Applied(host, prune="yes").done() == [("gone", "stop")]
    wait_for("it is gone", lambda: "gone" not in host.ctl("list").stdout)
    assert os.path.exists(host.path("state/vm/gone/d.img")), "volumes stay"


def test_prune_makes_room(host):
    running(host, "a", "c", "gone", **{})
    host.define("gone", **network(1))
    host.reload()
    assert host.ctl("restart", "gone").returncode == 0
    os.rename(host.path("vms/gone.json"), host.path("gone.json"))
    host.define("heir", **network(1), autostart=True)
    host.define("manual", **network(2))
    assert plan(host)["heir"][0] == "invalid"
    refused = Applied(host)
    assert refused.result == "failed" and refused.done() == [], refused.steps
    run = host.ctl("create", "another", "--from", host.path("gone.json"))
    assert run.returncode == 1 and "that of the running microVM gone, which was started with it" in run.stderr, run
    applied = Applied(host, prune="yes")
    assert applied.result == "done" and applied.done() == [("gone", "stop"), ("heir", "start")], applied.steps
    assert host.vm("heir", "State") == "running"


def test_what_was_pruned_is_new_again(host):
    host.define("a"), host.define("b"), host.define("c")
    host.define("web", autostart=True)
    assert Applied(host).done() == [("web", "start")]
    os.rename(host.path("vms/web.json"), host.path("web.json"))
    assert Applied(host, prune="yes").done() == [("web", "stop")]
    wait_for("it is gone", lambda: "web" not in host.ctl("list").stdout)
    os.rename(host.path("web.json"), host.path("vms/web.json"))
    assert Applied(host).done() == [("web", "start")]


def test_prune_fears_mistakes(host):
    running(host, "a", "b", "c")
    for name in "ab":
        os.unlink(host.path(f"vms/{name}.json"))
    host.reload()
    refusal = refused(host, prune="yes")
    assert "2 of 3 microVMs would go" in refusal, refusal
    assert '"yes" or "all"' in refused(host, prune="maybe")
    os.unlink(host.path("vms/c.json"))
    host.reload()
    for prune in ("yes", "all"):
        assert "there is no definition at all" in refused(host, prune=prune)
    os.rename(host.definitions, host.path("elsewhere"))
    host.reload()
    assert "there is no definition at all" in refused(host, prune="all")
    # What another directory has does not make it less of a mistake.
    os.makedirs(host.transient, exist_ok=True)
    with open(os.path.join(host.transient, "low.json"), "w") as file:
        json.dump({"kernel": host.kernel, "autostart": False}, file)
    host.reload()
    for prune in ("yes", "all"):
        assert "missing or empty" in refused(host, prune=prune)
    assert [host.vm(name, "State") for name in "abc"] == ["running"] * 3
    os.unlink(os.path.join(host.transient, "low.json"))
    os.rename(host.path("elsewhere"), host.definitions)
    host.define("c")
    host.reload()
    assert sorted(Applied(host, prune="all").done()) == [("a", "stop"), ("b", "stop")]
    assert host.vm("c", "State") == "running"


def test_volume_in_use_is_not_given_up(host):
    running(host, "a", volumes=[{"image": "d.img", "size": 8}])
    assert "stop it first" in host.error("/org/microvm1/vm/a", VM, "ForgetVolume", "s", "d.img")


def test_purge_takes_the_named_files(host):
    running(host, "a", "b", "c", "gone", volumes=[{"image": "d.img", "size": 8}])
    for name in ("gone",):
        os.unlink(host.path(f"vms/{name}.json"))
    host.reload()
    files = host.call("/org/microvm1/vm/gone", VM, "ListFiles")[0]
    assert host.path("state/vm/gone/d.img") in files and host.path("state/vm/gone/state.json") in files, files
    for bad in (host.path("state/vm/a/d.img"), host.path("state/vm/gone/../a/d.img"), "/etc/passwd", host.path("state/vm/gone/")):
        assert "no file of a microVM that is to go" in host.error(ROOT, MANAGER, "ApplyAndPurge", "asasa{sv}", "0", "1",
                                                                  bad, *options(prune="yes"))
    assert "only go with what is pruned" in host.error(ROOT, MANAGER, "ApplyAndPurge", "asasa{sv}", "0", "1", files[0], "0")
    assert host.vm("gone", "State") == "running"
    host.write("state/vm/gone/late", "not named")
    assert Applied(host, method="ApplyAndPurge", files=files, prune="yes").result == "done"
    assert os.listdir(host.path("state/vm/gone")) == ["late"], "only what was named, and that when the apply is over"
    assert os.path.exists(host.path("state/vm/a/d.img"))


def test_purge_that_fails_is_told(host):
    running(host, "a", "b", "c", "gone", volumes=[{"image": "d.img", "size": 8}])
    os.unlink(host.path("vms/gone.json"))
    host.reload()
    image = host.path("state/vm/gone/d.img")
    files = host.call("/org/microvm1/vm/gone", VM, "ListFiles")[0]
    os.unlink(image)
    os.makedirs(image + "/in")  # in its place is now what nobody has named
    applied = Applied(host, method="ApplyAndPurge", files=files, prune="yes")
    assert applied.result == "failed" and "gone was stopped" in applied.reason and image in applied.reason, applied.reason
    assert applied.how() == [("gone", "stop", "begun"), ("gone", "stop", "done"), ("gone", "purge", "begun"),
                             ("gone", "purge", "failed")], applied.steps
    assert not os.path.exists(host.path("state/vm/gone/state.json")), "the others went"


def test_forget_volume(host):
    running(host, "a", volumes=[{"image": "d.img", "size": 8}])
    host.ctl("stop", "--force", "a")
    os.unlink(host.path("state/vm/a/d.img"))
    run = host.ctl("start", "a")
    assert run.returncode == 1 and "forget-volume" in run.stderr, run.stderr
    path = "/org/microvm1/vm/a"
    assert "d.img" in host.error(path, VM, "ForgetVolume", "s", "other.img")
    host.call(path, VM, "ForgetVolume", "s", "d.img")
    assert host.ctl("start", "a").returncode == 0 and os.path.exists(host.path("state/vm/a/d.img"))


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
