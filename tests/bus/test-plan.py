#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plan, apply and why a microVM is outdated, on a private bus with libvirt's test driver. Prints TAP."""

import json
import os
import re
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import CTL, MANAGER, NAME, VM, Host, run_tests, tests_of, wait_for  # noqa: E402


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


# The UUID of the domain that libvirt's test driver comes with: what nobody can know before, it refuses at the start.
TAKEN = {"machineId": "6695eb01-f6a4-8304-79aa-97f2502e193f", "restart": {"policy": "no"}}


def plan(host, *names, **more):
    host.reload()
    items = host.call("/org/microvm1", MANAGER, "Plan", "asa{sv}", str(len(names)), *names, *options(**more))[0]
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
            self.id = host.call("/org/microvm1", MANAGER, method, *words, *options(**more))[0]
            if meanwhile:
                meanwhile(self.id)
            # A net under an apply that hangs: the monitor ends, and with it the reading.
            net = threading.Timer(60, monitor.kill)
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
    return host.error("/org/microvm1", MANAGER, "Apply", "asa{sv}", str(len(names)), *names, *options(**more))


def running(host, *names, **keys):
    for name in names:
        host.define(name, **keys)
    host.reload()
    assert host.ctl("start", *names).returncode == 0


# --- tests: each gets a host whose daemon runs, without definitions ---


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
    assert "No microVM is called" in host.error("/org/microvm1", MANAGER, "Plan", "asa{sv}", "1", "nobody", "0")
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


def test_restarts_only_when_asked(host):
    running(host, "a", "b", mem=256)
    before = {name: host.vm(name, "Generation") for name in "ab"}
    host.define("a", mem=512, description="both")
    applied = Applied(host)
    assert applied.done() == [("a", "live")] and host.vm("a", "Generation") == before["a"]
    assert plan(host)["a"][2] == [("mem", "256", "512", "restart")], "what is live is done"
    assert Applied(host, restart=True).done() == [("a", "restart")]
    assert host.vm("a", "Generation") != before["a"] and host.vm("a", "MemoryBytes") == 512 << 20
    assert host.vm("b", "Generation") == before["b"] and plan(host)["a"][0] == "none"


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


def test_one_after_the_other_and_no_further(host):
    running(host, "a", "b", "c", mem=256)
    for name in "abc":
        host.define(name, mem=512, **(TAKEN if name == "b" else {}))
    applied = Applied(host, restart=True)
    assert applied.how() == [("a", "restart", "begun"), ("a", "restart", "done"), ("b", "restart", "begun"),
                             ("b", "restart", "failed"), ("c", "restart", "skipped")], applied.steps
    assert applied.result == "failed" and "restart of b failed" in applied.reason, applied.reason
    assert host.vm("c", "MemoryBytes") == 256 << 20 and host.vm("b", "State") == "failed"


def test_nothing_is_stopped_that_could_not_start_again(host):
    volume = {"image": "d.img", "size": 8}
    running(host, "a", mem=256, volumes=[volume])
    before = host.vm("a", "Generation")
    for keys, words in (({"kernel": "/nonexistent"}, "kernel /nonexistent: No such file"), ({"initrd": "/tmp"}, "initrd /tmp: Is a directory"),
                        ({"credentialFiles": {"key": "/nonexistent"}}, "credential /nonexistent"),
                        ({"volumes": [volume, {"image": "/nonexistent/x.img"}]}, "volume /nonexistent/x.img does not exist")):
        host.define("a", **{"mem": 512, "volumes": [volume], **keys})
        for more in ({}, {"canary": True}):
            applied = Applied(host, restart=True, **more)
            assert applied.how() == [("a", "restart", "begun"), ("a", "restart", "failed")], applied.steps
            assert words in applied.reason and "was not stopped" in applied.reason, applied.reason
    os.rename(host.path("state/vm/a/d.img"), host.path("state/vm/a/elsewhere"))
    host.define("a", mem=512, volumes=[volume])
    applied = Applied(host, restart=True)
    assert "was there before and is gone" in applied.reason, applied.reason
    assert host.vm("a", "State") == "running" and host.vm("a", "Generation") == before
    os.rename(host.path("state/vm/a/elsewhere"), host.path("state/vm/a/d.img"))
    host.define("b")
    host.define("a", mem=512, volumes=[volume], requires=["b"])
    host.write("vms/b.json", '{"kernel": 1}')
    applied = Applied(host, restart=True)
    assert ("a", "restart", "failed") in applied.how() and any("requires b, which can't be started" in text for *_, text in applied.steps)
    assert host.vm("a", "State") == "running" and host.vm("a", "Generation") == before
    host.define("b")
    assert Applied(host, restart=True).done() == [("a", "restart")]
    wait_for("what comes with it", lambda: host.vm("b", "State") == "running")


def test_canary_first_then_the_others(host):
    running(host, "a", "b", mem=256)
    for name in "ab":
        host.define(name, mem=512)
    applied = Applied(host, restart=True, canary=True, canaryTime=300000, maxParallel=5)
    assert applied.result == "done" and applied.done() == [("a", "restart"), ("b", "restart")], applied.steps
    assert any("stays up" in text for *_, text in applied.steps), applied.steps


def test_canary_that_does_not_start_is_rolled_back(host):
    running(host, "a", "b", mem=256)
    for name in "ab":
        host.define(name, mem=512, **(TAKEN if name == "a" else {}))
    applied = Applied(host, restart=True, canary=True, canaryTime=300000)
    assert applied.result == "failed" and "runs again with the one that it had" in applied.reason, applied.reason
    assert ("a", "rollback") in applied.done() and [step[:3] for step in applied.steps][-1] == ("b", "restart", "skipped")
    assert host.vm("a", "State") == "running" and host.vm("a", "MemoryBytes") == 256 << 20
    assert host.vm("a", "OutdatedReasons") == ["definition"]
    assert plan(host)["a"][0] == "restart" and "rolled back" in plan(host)["a"][1]
    host.stop()
    host.start()
    # libvirt's test driver ends with the daemon: the restart policy starts it again, from what it was rolled back to.
    wait_for("the restart", lambda: host.vm("a", "State") == "running" and host.vm("a", "OutdatedReasons") == ["definition"])
    assert host.vm("a", "MemoryBytes") == 256 << 20 and "rolled back" in plan(host)["a"][1], "a new daemon knows"
    host.define("a", mem=512)
    assert "rolled back" not in plan(host)["a"][1], "a mended definition is a new chance"
    assert Applied(host, "a", restart=True, canary=True, canaryTime=1000).result == "done"
    assert host.vm("a", "MemoryBytes") == 512 << 20


def test_nothing_is_touched_after_a_canary_that_failed(host):
    running(host, "a", "gone", "z", mem=256, stop={"timeout": 90})
    os.unlink(host.path("vms/gone.json"))
    host.define("a", mem=512, stop={"timeout": 5}, **TAKEN)
    host.define("new", autostart=True)
    host.define("z", mem=256, stop={"timeout": 5})
    applied = Applied(host, restart=True, canary=True, canaryTime=1000, prune="all")
    assert "nothing else was changed" in applied.reason, applied.reason
    assert [step for step in applied.how() if step[0] != "a"] == [("z", "live", "skipped"), ("gone", "stop", "skipped"),
                                                                 ("new", "start", "skipped")], applied.steps
    assert host.vm("new", "State") == "inactive" and host.vm("gone", "State") == "running"
    # It is as it was in everything, also in what would take effect at once; an apply without a restart leaves it so.
    for _ in range(2):
        with open(host.path("run/vm/a/record.json")) as file:
            assert json.loads(json.load(file)["definition"])["stop"]["timeout"] == "1min 30s"
        applied = Applied(host)
        assert "a" not in [name for name, _ in applied.done()], applied.steps
    assert host.vm("new", "State") == "running" and host.vm("z", "Outdated") is False


def test_broken_definitions_are_told_and_the_rest_applied(host):
    host.define("a", autostart=True)
    host.write("vms/bad.json", '{"kernel": 1}')
    applied = Applied(host)
    assert applied.result == "failed" and "bad: the definition can't be used" in applied.reason, applied.reason
    assert applied.how() == [("bad", "check", "failed"), ("a", "start", "begun"), ("a", "start", "done")], applied.steps
    assert Applied(host, "a").result == "done"


def test_cancel_finishes_what_has_begun(host):
    running(host, "a", "b", "c", mem=256)
    for name in "abc":
        host.define(name, mem=512)

    def cancel(number):
        wait_for("the canary", lambda: host.vm("a", "MemoryBytes") == 512 << 20 and host.vm("a", "State") == "running")
        assert "does not go on" in host.error("/org/microvm1", MANAGER, "CancelApply", "t", str(number + 1))
        host.call("/org/microvm1", MANAGER, "CancelApply", "t", str(number))

    applied = Applied(host, restart=True, canary=True, canaryTime=2000000, meanwhile=cancel)
    assert applied.result == "canceled" and "2 of 3 steps were not begun" in applied.reason, applied.reason
    assert applied.done() == [("a", "restart")] and applied.how()[-2:] == [("b", "restart", "skipped"), ("c", "restart", "skipped")]
    assert host.vm("b", "MemoryBytes") == 256 << 20
    assert "does not go on" in host.error("/org/microvm1", MANAGER, "CancelApply", "t", str(applied.id))
    assert Applied(host, restart=True).done() == [("b", "restart"), ("c", "restart")]


def test_canary_that_is_stopped_by_hand_stays_off(host):
    running(host, "a", mem=256)
    host.define("a", mem=512)
    host.reload()
    job = host.call("/org/microvm1", MANAGER, "Apply", "asa{sv}", "0", *options(restart=True, canary=True))[0]
    wait_for("the new one", lambda: host.vm("a", "State") == "running" and host.vm("a", "MemoryBytes") == 512 << 20)
    assert "another apply is going on, now with the restart of a" in refused(host)
    assert host.ctl("stop", "--force", "a").returncode == 0
    wait_for("the end of the apply", lambda: f"Apply {job} is failed" in host.read_log())
    assert host.vm("a", "State") == "inactive"
    assert Applied(host).result == "done"


def test_undeclared_are_pruned_only_when_asked(host):
    running(host, "a", "b", "c", "gone", volumes=[{"image": "d.img", "size": 8}])
    os.unlink(host.path("vms/gone.json"))
    item = plan(host)["gone"]
    assert item[0] == "undeclared", item
    assert Applied(host).steps == [] and host.vm("gone", "State") == "running"
    assert Applied(host, prune="yes").done() == [("gone", "stop")]
    wait_for("it is gone", lambda: "gone" not in host.ctl("list").stdout)
    assert os.path.exists(host.path("state/vm/gone/d.img")), "volumes stay"


def network(number):
    return {"interfaces": [{"type": "user", "mac": f"02:00:00:00:00:0{number}"}]}


def error_of(host, name):
    return host.vm(name, "DefinitionError")


def test_what_runs_keeps_what_it_has(host):
    running(host, "a", "b", "gone", **{})
    for name, number in (("b", 1), ("gone", 2)):
        host.define(name, **network(number))
    host.reload()
    assert host.ctl("restart", "b", "gone").returncode == 0
    os.unlink(host.path("vms/gone.json"))
    host.define("b", **network(3))
    host.define("a1", **network(1), autostart=True)
    host.define("a2", **network(2), autostart=True)
    host.define("a3", **network(3))
    host.reload()
    assert "that of the running microVM b, which was started with it (its definition, " in error_of(host, "a1"), error_of(host, "a1")
    assert "says something else by now" in error_of(host, "a1")
    assert "running microVM gone" in error_of(host, "a2") and "gone.json, is gone" in error_of(host, "a2"), error_of(host, "a2")
    assert "02:00:00:00:00:03 is that of the microVM b already" in error_of(host, "a3"), error_of(host, "a3")
    assert error_of(host, "b") == "" and host.vm("b", "OutdatedReasons") == ["definition"]
    # What is stopped lets go, without a reload.
    assert host.ctl("restart", "b").returncode == 0
    wait_for("a1 can be used", lambda: error_of(host, "a1") == "")
    assert "a1: Its definition can be used now" in host.read_log(), host.read_log()
    assert host.vm("a1", "State") == "inactive" and "running microVM gone" in error_of(host, "a2")
    assert host.ctl("stop", "gone").returncode == 0
    wait_for("a2 can be used", lambda: error_of(host, "a2") == "")
    assert "02:00:00:00:00:03 is that of the running microVM b already" in error_of(host, "a3"), error_of(host, "a3")


def test_a_new_daemon_knows_what_runs_with_what(host):
    running(host, "b", **network(1))
    host.define("b", **network(2))
    host.define("a", **network(1))
    host.reload()
    assert host.stop() == 0
    before = len(host.read_log())
    host.start()
    # What it has on record counts at once; that the test driver has lost b turns out later.
    assert "that of the running microVM b, which was started with it (its definition, " in host.read_log()[before:]
    wait_for("a can be used", lambda: error_of(host, "a") == "")


def test_what_is_to_restart_keeps_what_it_had(host):
    running(host, "b", **network(1), restart={"policy": "always", "delay": "1h", "maxDelay": "1h"})
    assert host.stop() == 0
    host.start()
    wait_for("b was lost", lambda: host.vm("b", "State") == "backoff")
    host.define("a", **network(1))
    host.reload()
    assert "of the microVM b already" in error_of(host, "a"), error_of(host, "a")
    assert host.stop() == 0
    host.start()
    assert "microVM b already" in error_of(host, "a") and error_of(host, "b") == "", error_of(host, "a")
    host.reload()
    assert "microVM b already" in error_of(host, "a") and host.vm("b", "State") == "backoff"


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
        assert "no file of a microVM that is to go" in host.error("/org/microvm1", MANAGER, "ApplyAndPurge", "asasa{sv}", "0", "1",
                                                                  bad, *options(prune="yes"))
    assert "only go with what is pruned" in host.error("/org/microvm1", MANAGER, "ApplyAndPurge", "asasa{sv}", "0", "1", files[0], "0")
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


def test_others_may_not(host):
    running(host, "a")
    everyone = ("setpriv", "--reuid", "65534", "--clear-groups")
    if os.getuid() != 0:
        return
    for path, interface, method, *words in (("/org/microvm1", MANAGER, "Plan", "asa{sv}", "0", "0"),
                                            ("/org/microvm1", MANAGER, "Apply", "asa{sv}", "0", "0"),
                                            ("/org/microvm1", MANAGER, "CancelApply", "t", "1"),
                                            ("/org/microvm1", MANAGER, "ApplyAndPurge", "asasa{sv}", "0", "0", "0"),
                                            ("/org/microvm1/vm/a", VM, "ListFiles"),
                                            ("/org/microvm1/vm/a", VM, "ForgetVolume", "s", "d.img")):
        error = host.error(path, interface, method, *words, prefix=everyone)
        assert "Not allowed" in error or "denied" in error.lower(), (method, error)


def make_host():
    host = Host()
    host.start()
    return host


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
