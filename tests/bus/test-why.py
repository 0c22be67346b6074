#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why, and crash reports, with hypervisors that misbehave (fake-qemu.py). Prints TAP."""

import glob
import json
import os
import signal
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from direct import QEMU, define, is_in, make_host, start, start_daemon  # noqa: E402
from harness import CTL, MANAGER, VM, QmpClient, run_tests, tests_of, wait_for  # noqa: E402


def why(host, name="web"):
    run = host.ctl("why", "--json=short", name)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)[0]


def text(host, *words):
    run = host.ctl(*words)
    assert run.returncode == 0, run.stderr
    assert "\x1b" not in run.stdout, "colours in a file"
    return run.stdout


def commands(facts):
    return [advice["Command"] for advice in facts["Advice"]]


def crashes(host, name="web"):
    return json.loads(host.ctl("crashes", "--json=short", name).stdout)


def report(host, number=1, name="web"):
    return json.loads(host.ctl("crashes", "--json=short", name, str(number)).stdout)


def has_crashes(host, n):
    """(They are written a moment later.)"""
    wait_for(f"{n} reports", lambda: len(crashes(host)) == n)


# --- why ---


def test_never_started(host):
    define(host)
    facts = why(host)
    assert "Asked" not in facts and "LastEnd" not in facts and facts["Events"] == [], facts
    assert commands(facts) == ["microvmctl start web"], facts
    assert "nothing, since the host booted" in text(host, "why", "web")
    assert host.ctl("why").returncode == 2
    run = host.ctl("why", "wob")
    assert run.returncode == 4 and 'did you mean "web"' in run.stderr, run.stderr


def test_who_asked(host):
    start(host)
    asked = why(host)["Asked"]
    assert asked["Verb"] == "start" and asked["By"] == "caller" and asked["UID"] == os.geteuid(), asked
    assert asked["Process"] == "microvmctl" and asked["PID"] > 1, asked
    assert "start, by root (microvmctl, pid " in text(host, "why", "web") or os.geteuid() != 0
    # It is on record.
    host.stop(signal.SIGKILL)
    start_daemon(host)
    assert why(host)["Asked"] == asked
    host.call("/org/microvm1/vm/web", VM, "Stop", "a{sv}", "0")
    is_in(host, "inactive")
    asked = why(host)["Asked"]
    assert asked["Verb"] == "stop" and asked["Process"] == "busctl", asked


def test_asked_by_an_apply(host):
    define(host, autostart=True)
    assert host.ctl("apply").returncode == 0
    is_in(host, "running")
    asked = why(host)["Asked"]
    assert asked["By"] == "apply" and asked["Process"] == "microvmctl", asked
    assert "by the apply of " in text(host, "why", "web")


def test_asked_by_autostart_and_for_another(host):
    host.define("db", accel="tcg", kernelParams=["fake="])
    host.define("web", accel="tcg", kernelParams=["fake="], autostart=True, requires=["db"], after=["db"])
    host.stop()
    os.unlink(host.path("run/daemon/autostarted"))
    start_daemon(host)
    is_in(host, "running")
    assert why(host)["Asked"]["By"] == "autostart"
    asked = why(host, "db")["Asked"]
    assert asked["By"] == "dependency" and asked["For"] == "web", asked
    assert "start, for web, which needs it" in text(host, "why", "db")


def test_chain(host):
    define(host, "silent", name="db")  # which never comes up
    define(host, name="app", after=["db"], wants=["db"])
    define(host, after=["app"], wants=["app"])
    host.ctl("--no-block", "start", "web")
    is_in(host, "starting", "db")
    wait_for("the chain", lambda: len(why(host)["WaitsFor"]) == 2)
    facts = why(host)
    assert facts["State"] == "waiting" and "waits for app" in facts["StateReason"], facts
    assert [(link["Name"], link["State"]) for link in facts["WaitsFor"]] == [("app", "waiting"), ("db", "starting")], facts
    assert commands(facts) == ["microvmctl why db", "microvmctl stop web"], facts
    shown = text(host, "why", "web")
    assert "Waits for: app, which is waiting: waits for db to run" in shown and "db, which is starting: " in shown, shown


def test_held(host):
    """What holds a start is one word, for programs; and of a drain it is said how it ends."""
    define(host, "silent", name="db")  # which never comes up
    define(host, after=["db"], wants=["db"])
    host.ctl("--no-block", "start", "web")
    wait_for("db to be in the way", lambda: why(host).get("HeldBy") == "dependency")
    assert "HeldBy" not in why(host, "db")
    assert host.ctl("stop", "web").returncode == 0
    wait_for("the end of db", lambda: host.kill_hypervisors() or host.vm("db", "State") == "failed")
    assert host.ctl("drain").returncode == 0
    assert commands(why(host)) == ["microvmctl undrain", "microvmctl start web"]
    # Those that start with the host are held, too.
    define(host, name="new", autostart=True)
    host.stop()
    os.unlink(host.path("run/daemon/autostarted"))
    start_daemon(host)
    facts = why(host, "new")
    assert facts["State"] == "waiting" and facts["HeldBy"] == "drain", facts
    assert commands(facts) == ["microvmctl undrain", "microvmctl stop new"], facts
    assert host.ctl("undrain").returncode == 0
    is_in(host, "running", "new")
    assert "HeldBy" not in why(host, "new")


def test_stopped_by_the_shutdown_of_the_host(host):
    define(host, fake="mute", stop={"timeout": 60})
    host.ctl("start", "web")
    host.call("/org/microvm1", MANAGER, "StopMicroVMs", "asa{sv}", "0", "1", "host-shutdown", "b", "true")
    is_in(host, "stopping")
    assert host.vm("web", "StateReason").startswith("the host is shutting down; "), host.vm("web", "StateReason")
    facts = why(host)
    assert facts["Asked"]["Verb"] == "stop" and facts["Asked"]["By"] == "shutdown" and "UID" not in facts["Asked"], facts
    assert any(kind == "request" and "the host is shutting down" in words
               for kind, words in ((event["Kind"], event["Text"]) for event in facts["Events"])), facts
    assert "stop, because the host is shutting down (microvmd-shutdown.service)" in text(host, "why", "web")
    host.ctl("stop", "--force", "web")


def test_readiness_is_an_event(host):
    define(host, readiness={"type": "command", "command": ["/bin/sh", "-c", f"test -e {host.path('up')}"], "timeout": 1})
    monitor = subprocess.Popen([CTL, "--bus", host.address, "--json", "monitor", "web"], stdout=subprocess.PIPE, text=True)
    assert json.loads(monitor.stdout.readline())["Event"], "it listens"
    assert host.ctl("start", "web").returncode == 0
    events = lambda: [event["Text"] for event in why(host)["Events"] if event["Kind"] == "readiness"]  # noqa: E731
    wait_for("it to be late", lambda: host.vm("web", "Readiness") == "timed-out")
    assert len(events()) == 1 and events()[0].startswith("timed-out: not ready within 1s"), events()
    host.write("up", "")
    wait_for("it to be ready", lambda: host.vm("web", "Readiness") == "ready")
    assert len(events()) == 2 and events()[1].startswith("ready: its command succeeded, after "), events()
    assert "ready: its command succeeded" in text(host, "why", "web")
    seen = []
    while not seen or seen[-1].get("Readiness") != "ready":
        seen.append(json.loads(monitor.stdout.readline()))
    assert seen[-1]["ReadinessReason"].startswith("its command succeeded, after "), seen
    assert "timed-out" in [event.get("Readiness") for event in seen], seen
    monitor.terminate()
    monitor.communicate()
    # On record, too.
    host.stop(signal.SIGKILL)
    start_daemon(host)
    assert len(events()) == 2


def test_each_state(host):
    start(host)
    assert commands(why(host)) == []
    assert host.ctl("pause", "web").returncode == 0
    assert commands(why(host)) == ["microvmctl resume web"]
    assert host.ctl("stop", "web").returncode == 0
    end = why(host)["LastEnd"]
    assert end["Result"] == "success" and "Crash" not in end and end["Timestamp"] > end["StartTimestamp"], end
    assert crashes(host) == []
    start(host, fake="mute")
    assert host.ctl("--no-block", "stop", "web").returncode == 0
    is_in(host, "stopping")
    assert commands(why(host)) == ["microvmctl stop --force web"]
    assert host.ctl("stop", "--force", "web").returncode == 0
    host.write("vms/web.json", "{ broken")
    host.reload()
    assert commands(why(host)) == [f"microvmctl validate {host.path('vms/web.json')}", "microvmctl edit web"], why(host)


def test_backoff(host):
    pid = start(host, restart={"policy": "on-failure", "delay": "1h"})
    os.kill(pid, signal.SIGKILL)
    is_in(host, "backoff")
    facts = why(host)
    assert facts["RestartPolicy"] == "on-failure" and facts["NextRestartTimestamp"] > facts["StateTimestamp"], facts
    assert commands(facts) == ["microvmctl crashes web 1", "microvmctl start web", "microvmctl stop web"], facts
    assert "Next restart: " in text(host, "why", "web")


def test_start_limit(host):
    pid = start(host, restart={"policy": "on-failure", "delay": "1ms", "startLimit": 1})
    os.kill(pid, signal.SIGKILL)
    wait_for("the second run", lambda: host.vm("web", "NRestarts") == 1 and host.vm("web", "State") == "running")
    os.kill(host.vm("web", "MainPID"), signal.SIGKILL)
    is_in(host, "failed")
    facts = why(host)
    assert facts["LastEnd"]["Result"] == "signal" and "start limit" in facts["StateReason"], facts
    assert commands(facts) == ["microvmctl crashes web 1", "microvmctl reset-failed web", "microvmctl start web"], facts
    assert "1 so far, by its policy" in text(host, "why", "web")


def test_what_qemu_said(host):
    start(host)
    qmp = QmpClient(host)
    for _ in range(50):
        qmp.ask("fake-event", event="GUEST_PANICKED", data={"action": "run", "info": {"words": "of the guest"}})
    qmp.ask("fake-event", event="RTC_CHANGE", data={"offset": 1})
    qmp.ask("fake-event", event="WATCHDOG", data={"action": "\x1b[2J"})
    heard = lambda: [event["Text"] for event in why(host)["Events"] if event["Kind"] == "hypervisor"]  # noqa: E731
    wait_for("the events", lambda: heard() == ["GUEST_PANICKED (run)", "WATCHDOG"])
    assert "the hypervisor says GUEST_PANICKED (run)" in text(host, "why", "web")
    qmp.socket.sendall(json.dumps({"execute": "fake-end", "arguments": {"reason": "guest-shutdown"}}).encode() + b"\n")
    is_in(host, "inactive")
    assert heard()[-1] == "SHUTDOWN (guest-shutdown)", heard()


def test_console_is_for_its_readers(host):
    start(host)
    with open(host.path("state/vm/web/console.log"), "a") as file:
        file.write("".join(f"line {n}\n" for n in range(30)))
    assert why(host)["Console"] == "".join(f"line {n}\n" for n in range(20, 30))
    shown = text(host, "why", "-n", "3", "web")
    assert "line 27\nline 28\nline 29\n" in shown and "line 26" not in shown, shown
    assert "line" not in text(host, "why", "-n", "0", "web")
    assert not any("line 29" in json.dumps(value) for key, value in why(host).items() if key != "Console")


# --- crash reports ---


def test_report_of_a_crash(host):
    pid = start(host)
    with open(host.path("state/vm/web/console.log"), "ab") as file:
        file.write(b"booting\nall is \xff\x00well\n")
    os.kill(pid, signal.SIGSEGV)
    is_in(host, "failed")
    has_crashes(host, 1)
    end = why(host)["LastEnd"]
    row = crashes(host)[0]
    assert row == {"Name": "web", "Crash": end["Crash"], "Result": "signal", "Reason": end["Reason"]}, row
    crash = report(host)
    assert crash["name"] == "web" and crash["timestamp"] == end["Crash"] and crash["cause"] == "crashed", crash
    assert crash["exit"] == {"code": "killed", "status": int(signal.SIGSEGV)} and crash["pid"] == pid, crash
    assert crash["memoryPeak"] > 1 << 20 and crash["driver"] == "direct" and crash["accel"] == "tcg", crash
    assert any(QEMU in word for word in crash["command"]) and "guest=web,debug-threads=on" in crash["command"], crash
    assert crash["console"] == "booting\nall is ??well\n", crash
    assert [event["kind"] for event in crash["events"]][:2] == ["request", "state"], crash
    path, = glob.glob(host.path("state/vm/web/crash-*.json"))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and os.stat(path).st_uid == os.geteuid()
    shown = text(host, "crashes", "web", "1")
    for words in ("killed by SIGSEGV", "Memory: ", "What the console said last", "Command\n", "all is ??well"):
        assert words in shown, shown
    assert "microvmctl: web has 1 crash report." in host.ctl("crashes", "web", "2").stderr
    assert host.ctl("crashes", "web", "newest").returncode == 2
    error = host.error("/org/microvm1/vm/web", VM, "GetCrash", "t", "5")
    assert "no such crash report" in error, error


def test_report_of_a_start_that_failed(host):
    define(host, fake="exit")
    assert host.ctl("start", "web").returncode == 1
    has_crashes(host, 1)
    crash = report(host)
    assert crash["result"] == "resources" and "cause" not in crash and "startTimestamp" not in crash, crash
    assert crash["exit"] == {"code": "exited", "status": 1} and "no such device" in crash["output"], crash
    assert crash["command"][0].endswith(QEMU), crash
    assert "What the hypervisor said itself\nfake: -device nonsense" in text(host, "crashes", "web", "1")
    assert "Last start: ended with resources, " in text(host, "why", "web")


def test_words_that_are_no_text(host):
    define(host, fake="latin")
    assert host.ctl("start", "web").returncode == 1
    assert host.vm("web", "StateReason").startswith("the hypervisor exited with status 1: caf? ?[2J"), why(host)
    has_crashes(host, 1)
    assert report(host)["output"] == "caf? \x1b[2J\n", report(host)


def test_a_signal_that_was_asked_for(host):
    start(host)
    assert host.ctl("kill", "-s", "KILL", "web").returncode == 0
    is_in(host, "failed")
    has_crashes(host, 1)
    events = [event["text"] for event in report(host)["events"]]
    assert any(event.startswith("signal 9 for its hypervisor asked for by uid ") for event in events), events
    assert why(host)["Asked"]["Verb"] == "start", "that is no stop"


def test_report_of_a_panic(host):
    start(host)
    with open(host.path("state/vm/web/console.log"), "a") as file:
        file.write("Kernel panic - not syncing: Attempted to kill init!\n")
    QmpClient(host).socket.sendall(b'{"execute": "fake-end", "arguments": {"reason": "guest-reset"}}\n')
    is_in(host, "failed")
    has_crashes(host, 1)
    crash = report(host)
    assert crash["result"] == "guest-panic" and "Attempted to kill init" in crash["console"], crash
    assert crash["events"][-1]["text"] == "SHUTDOWN (guest-reset)", crash
    # Its words are in nothing that everyone may read.
    facts = host.busctl("call", "org.microvm1", "/org/microvm1", MANAGER, "Explain", "sa{sv}", "web", "0").stdout
    assert "guest-panic" in facts and "Attempted" not in facts, facts


def test_no_report_of_a_stop(host):
    start(host, fake="deaf")
    assert host.ctl("stop", "--force", "web").returncode == 0
    start(host, fake="mute", stop={"timeout": "100ms"})
    assert host.ctl("stop", "web").returncode == 0
    assert host.vm("web", "Result") == "timeout"
    start(host)
    QmpClient(host).socket.sendall(b'{"execute": "quit"}\n')
    is_in(host, "inactive")
    assert why(host)["Asked"] == {**why(host)["Asked"], "Verb": "stop", "By": "outside"}, why(host)
    assert "by somebody who went past microvmd" in text(host, "why", "web")
    assert crashes(host) == [] and "There are no crash reports." in text(host, "crashes", "web")


def test_reports_are_bounded(host):
    define(host, fake="exit")
    numbers = []
    for n in range(12):
        assert host.ctl("start", "web").returncode == 1
        numbers.append(why(host)["LastEnd"]["Crash"])
    newest = numbers[:-11:-1]
    wait_for("the newest ten", lambda: [crash["Crash"] for crash in crashes(host)] == newest)
    assert len(glob.glob(host.path("state/vm/web/crash-*"))) == 10
    define(host, name="db")
    assert [row["Name"] for row in json.loads(host.ctl("--json=short", "crashes").stdout)] == ["web"] * 10
    assert "10 reports" in text(host, "crashes")


def test_report_that_cant_be_written(host):
    pid = start(host)
    path = host.path("state/vm/web")
    os.rename(path, path + ".away")  # as on a disk that is full, but for everyone
    host.write("state/vm/web", "")
    os.kill(pid, signal.SIGKILL)
    is_in(host, "failed")
    wait_for("the warning", lambda: "can't be written" in host.read_log())
    assert host.read_log().count("The report of its crash can't be written") == 1, host.read_log()
    assert "It ended badly (signal)" in host.read_log()


def main():
    return run_tests(tests_of(sys.modules[__name__]), make_host)


if __name__ == "__main__":
    sys.exit(main())
