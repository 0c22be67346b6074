#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Plan says, and what is new, failed or outdated to it: on a private bus with libvirt's test driver. Prints TAP."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from applied import TAKEN, Applied, make_host, plan, refused, running  # noqa: E402
from harness import MANAGER, NOBODY, ROOT, VM, run_tests, tests_of, wait_for  # noqa: E402


def test_nothing_to_do(host):
    assert plan(host) == {}
    running(host, "a")
    assert plan(host) == {"a": ("none", "", [])}
    applied = Applied(host)
    assert applied.result == "done" and applied.steps == []


def test_changes_key_by_key(host):
    running(host, "a", mem=256, labels={"tier": "web"}, volumes=[{"image": "d.img", "size": 8}])
    host.define("a", mem=512, labels={"tier": "db"}, stop={"timeout": 7},
                volumes=[{"image": "d.img", "size": 9, "readOnly": True}])
    action, reason, changes = plan(host)["a"]
    assert action == "restart" and reason == "needs a restart", reason
    assert sorted(changes) == [("labels[tier]", '"web"', '"db"', "live"), ("mem", "256", "512", "restart"),
                               ("stop.timeout", '"1min 30s"', '"7s"', "live"),
                               ("volumes[d.img].readOnly", "false", "true", "restart"),
                               ("volumes[d.img].size", "8", "9", "next-start")], changes
    assert host.vm("a", "OutdatedReasons") == ["definition"] and host.vm("a", "Outdated") is True


def test_names_and_labels(host):
    host.define("a", autostart=True, labels={"tier": "web"})
    host.define("b", autostart=True)
    assert set(plan(host)) == {"a", "b"}
    assert set(plan(host, "b")) == {"b"}
    assert set(plan(host, labels=["tier=web"])) == {"a"} and set(plan(host, labels=["tier"])) == {"a"}
    assert plan(host, labels=["tier=db"]) == {}
    assert 'must be of type "as"' in refused(host, labels="tier")
    assert "No microVM is called" in host.error(ROOT, MANAGER, "Plan", "asa{sv}", "1", "nobody", "0")
    assert Applied(host, "b").done() == [("b", "start")]
    assert host.vm("a", "State") == "inactive"


def test_new_ones_start_once(host):
    host.define("new", autostart=True)
    host.define("off", autostart=True)
    host.define("manual")
    host.reload()
    assert host.vm("new", "State") == "inactive", "a reload starts nothing"
    assert host.ctl("stop", "off").returncode == 0, "kept off before it ever ran"
    assert {name: item[0] for name, item in plan(host).items()} == {"new": "start", "off": "none", "manual": "none"}
    assert Applied(host).done() == [("new", "start")]
    assert host.vm("new", "State") == "running"
    host.ctl("stop", "--force", "new")
    assert plan(host)["new"][0] == "none", "stopped by hand"
    host.stop()
    host.start()
    assert plan(host)["new"][0] == "none" and plan(host)["off"][0] == "none", "also after a restart of the daemon"


def test_failed_ones_start_again(host):
    host.define("web", autostart=True, kernel="/nonexistent")
    applied = Applied(host)
    assert applied.result == "failed" and "/nonexistent" in applied.reason, applied.reason
    action, reason, _ = plan(host)["web"]
    assert action == "retry" and "/nonexistent" in reason and "would start again" in reason, (action, reason)
    assert Applied(host).result == "failed", "nothing was mended"
    host.define("web", autostart=True, mem=256)
    host.stop()
    host.start()  # a new daemon knows, too
    action, reason, _ = plan(host)["web"]
    assert action == "retry" and host.vm("web", "State") != "running", (action, reason)
    assert Applied(host).done() == [("web", "start")] and host.vm("web", "State") == "running"
    assert plan(host)["web"] == ("none", "", [])


def test_failed_ones_that_were_stopped_stay_off(host):
    host.define("web", autostart=True, kernel="/nonexistent")
    Applied(host)
    assert host.ctl("stop", "web").returncode == 0
    assert plan(host)["web"][0] == "none"
    host.define("web", autostart=True)
    assert plan(host)["web"][0] == "none" and Applied(host).steps == []


def test_start_limit_holds_until_something_is_new(host):
    host.define("web", autostart=True, **{**TAKEN, "restart": {"delay": 0, "startLimit": 1}})
    Applied(host)
    wait_for("the limit", lambda: host.vm("web", "Result") == "start-limit")
    action, reason, _ = plan(host)["web"]
    assert action == "failed" and "reset-failed" in reason, (action, reason)
    applied = Applied(host)
    assert applied.result == "failed" and "reset-failed" in applied.reason, applied.reason
    assert host.ctl("reset-failed", "web").returncode == 0
    assert plan(host)["web"][0] == "retry"
    Applied(host)
    wait_for("the limit", lambda: host.vm("web", "Result") == "start-limit")
    host.define("web", autostart=True)
    assert plan(host)["web"][0] == "retry" and Applied(host).done() == [("web", "start")]


def test_what_starts_again_by_itself_is_tried_at_once_when_mended(host):
    host.define("web", autostart=True, **{**TAKEN, "restart": {"delay": 3000}})
    Applied(host)
    assert host.vm("web", "State") == "backoff"
    action, reason, changes = plan(host)["web"]
    assert (action, changes) == ("none", []) and "starts again in" in reason, reason
    assert Applied(host).steps == []
    host.define("web", autostart=True)
    action, reason, _ = plan(host)["web"]
    assert action == "retry" and "at once" in reason, reason
    assert Applied(host).done() == [("web", "start")] and host.vm("web", "State") == "running"


def test_live_changes_need_no_restart(host):
    running(host, "a", stop={"timeout": 90})
    generation = host.vm("a", "Generation")
    host.define("a", stop={"timeout": 5}, description="new")
    action, _, changes = plan(host)["a"]
    assert action == "live" and {change[3] for change in changes} == {"live"}, changes
    applied = Applied(host)
    assert applied.done() == [("a", "live")] and applied.result == "done"
    assert host.vm("a", "Generation") == generation and host.vm("a", "Outdated") is False
    assert plan(host)["a"] == ("none", "", [])
    with open(host.path("run/vm/a/record.json")) as file:
        assert json.loads(json.load(file)["definition"])["stop"]["timeout"] == "5s", "a new daemon knows, too"


def test_next_start_changes_wait(host):
    running(host, "a", volumes=[{"image": "d.img", "size": 8}])
    host.define("a", volumes=[{"image": "d.img", "size": 9}])
    action, reason, changes = plan(host)["a"]
    assert action == "none" and "next start" in reason and changes[0][3] == "next-start", (action, reason, changes)
    assert Applied(host, restart=True).steps == []


def test_other_files(host):
    host.write("initrd", "an initrd")
    running(host, "a", "b", initrd=host.path("initrd"))
    assert host.vm("a", "OutdatedReasons") == []
    host.write("new", "another kernel")
    os.replace(host.path("new"), host.kernel)
    host.reload()
    wait_for("the look", lambda: host.vm("a", "OutdatedReasons") == ["kernel"])
    os.unlink(host.path("initrd"))
    item = plan(host)["a"]
    assert item[0] == "outdated" and "another kernel and initrd by now" in item[1] and item[2] == [], item
    host.write("initrd", "an initrd")
    before = host.vm("a", "Generation")
    assert Applied(host, restart=True).steps == [], "only with outdated"
    assert Applied(host, "a", restart=True, outdated=True).done() == [("a", "restart")]
    assert host.vm("a", "Generation") != before and host.vm("a", "OutdatedReasons") == []
    assert host.vm("b", "Outdated") is True


def test_memory_of_what_was_stopped(host):
    """A deploy that replaces the directory, with a reload at the wrong moment, makes nothing new."""
    host.define("keep")
    for name in ("stopped", "never", "ran"):
        host.define(name, autostart=True)
    host.reload()
    assert sorted(name for name, _ in Applied(host).done()) == ["never", "ran", "stopped"]
    assert host.ctl("stop", "stopped", "never").returncode == 0

    def away():
        os.rename(host.definitions, host.path("elsewhere"))
        host.reload()
        wait_for("they are gone", lambda: "stopped" not in host.ctl("list").stdout)

    def back():
        os.rename(host.path("elsewhere"), host.definitions)
        return sorted(Applied(host).done())

    away()
    assert host.error("/org/microvm1/vm/stopped", VM, "Stop", "a{sv}", "0")
    assert back() == [] and host.vm("stopped", "StateReason").startswith("stopped: the guest shut itself down")
    # nor does a new daemon, with the definitions there or not
    away()
    assert host.stop() == 0
    before = len(host.read_log())
    host.start()
    assert "stopped: Gone" not in host.read_log()[before:]
    assert "stopped" not in host.ctl("list").stdout
    # libvirt's test driver went with the daemon, and what ran in it: that failed, and is wanted again.
    assert back() == [("ran", "start")]
    assert host.ctl("start", "stopped").returncode == 0 and host.ctl("stop", "stopped").returncode == 0
    # What was undefined is given up: the next of its name is new.
    assert host.ctl("remove", "--yes", "never").returncode == 0
    wait_for("it is gone", lambda: "never" not in host.ctl("list").stdout)
    host.define("never", autostart=True)
    assert Applied(host).done() == [("never", "start")]


def test_others_may_not(host):
    running(host, "a")
    if os.getuid() != 0:
        return
    for path, interface, method, *words in ((ROOT, MANAGER, "Plan", "asa{sv}", "0", "0"),
                                            (ROOT, MANAGER, "Apply", "asa{sv}", "0", "0"),
                                            (ROOT, MANAGER, "CancelApply", "t", "1"),
                                            (ROOT, MANAGER, "ApplyAndPurge", "asasa{sv}", "0", "0", "0"),
                                            ("/org/microvm1/vm/a", VM, "ListFiles"),
                                            ("/org/microvm1/vm/a", VM, "ForgetVolume", "s", "d.img")):
        error = host.error(path, interface, method, *words, prefix=NOBODY)
        assert "Not allowed" in error or "denied" in error.lower(), (method, error)


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
