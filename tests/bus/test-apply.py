#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Apply: restarts, canaries, and how it ends; on a private bus with libvirt's test driver. Prints TAP."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from applied import TAKEN, Applied, make_host, options, plan, refused, running  # noqa: E402
from harness import MANAGER, ROOT, run_tests, tests_of, wait_for  # noqa: E402


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
        host.define(name, mem=512, **({"readiness": {"type": "console", "pattern": "^up$"}} if name == "a" else {}))

    def cancel(number):
        wait_for("the canary", lambda: host.vm("a", "MemoryBytes") == 512 << 20 and host.vm("a", "State") == "running")
        assert "does not go on" in host.error(ROOT, MANAGER, "CancelApply", "t", str(number + 1))
        host.call(ROOT, MANAGER, "CancelApply", "t", str(number))
        host.write("state/vm/a/console.log", "up\n")

    applied = Applied(host, restart=True, canary=True, canaryTime=1000, meanwhile=cancel)
    assert applied.result == "canceled" and "2 of 3 steps were not begun" in applied.reason, applied.reason
    assert applied.done() == [("a", "restart")] and applied.how()[-2:] == [("b", "restart", "skipped"), ("c", "restart", "skipped")]
    assert host.vm("b", "MemoryBytes") == 256 << 20
    assert "does not go on" in host.error(ROOT, MANAGER, "CancelApply", "t", str(applied.id))
    assert Applied(host, restart=True).done() == [("b", "restart"), ("c", "restart")]


def test_canary_that_is_stopped_by_hand_stays_off(host):
    running(host, "a", mem=256)
    host.define("a", mem=512)
    host.reload()
    job = host.call(ROOT, MANAGER, "Apply", "asa{sv}", "0", *options(restart=True, canary=True))[0]
    wait_for("the new one", lambda: host.vm("a", "State") == "running" and host.vm("a", "MemoryBytes") == 512 << 20)
    assert "another apply is going on, now with the restart of a" in refused(host)
    assert host.ctl("stop", "--force", "a").returncode == 0
    wait_for("the end of the apply", lambda: f"Apply {job} is failed" in host.read_log())
    assert host.vm("a", "State") == "inactive"
    assert Applied(host).result == "done"


if __name__ == "__main__":
    sys.exit(run_tests(tests_of(sys.modules[__name__]), make_host))
