#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is told of microVMs on a real host: the journal with its catalog, history, why, crash reports.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

host_make || tap_bail "no throwaway host"
microvmd_install
define web count '"autostart": true, "driver": "direct", "restart": { "policy": "on-failure", "delay": "1h" }'
define lib count '"autostart": true, "restart": { "policy": "no" }'
define tell count '"autostart": true, "driver": "direct", "readiness": { "type": "console", "pattern": "^microvm-guest: ready", "timeout": "100ms" }'
define bad panic '"autostart": true, "driver": "direct", "restart": { "policy": "no" }'
host_boot || tap_bail "the throwaway host does not boot"
host useradd -m alice
host journalctl --update-catalog
daemon_start || tap_bail "microvmd does not start"

# entry NAME MESSAGE FIELD: that field of the last such entry; MESSAGE is a name of messages.h
entry()
{
    local id
    id=$(sed -n "s/^#define MICROVM_MESSAGE_$2 *\"\(.*\)\".*/\1/p" "$SOURCE/include/microvm/messages.h")
    host_journal -n 1 -o json "MICROVM_NAME=$1" "MESSAGE_ID=$id" |
        python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1], ""))' "$3"
}
# why NAME EXPRESSION: of what is told of it, as "w"
why() { ctl --json=short why "$1" | python3 -c 'import json, sys; w = json.load(sys.stdin)[0]; print(eval(sys.argv[1]))' "$2"; }
# report NAME EXPRESSION: of its newest crash report, as "r"
report() { ctl --json=short crashes "$1" 1 | python3 -c 'import json, sys; r = json.load(sys.stdin); print(eval(sys.argv[1]))' "$2"; }

test_journal()
{
    wait_for 180 guest_said web 'count 1'
    [ "$(entry web STATE MICROVM_OLD_STATE)/$(entry web STATE MICROVM_STATE)" = starting/running ]
    [ "$(entry web STATE MICROVM_REASON)" = "the guest is running" ]
    [ "$(entry web REQUEST MICROVM_ASKED_BY)" = autostart ]
    host_journal -o short -x MICROVM_NAME=web | grep 'Why it is as it is: microvmctl why web'
    host_journal -o short -x MICROVM_NAME=web | grep 'Subject: start of microVM web was asked for'
    [ "$(why web 'w["Asked"]["By"]')" = autostart ]
}
tap "states and wishes are in the journal, and explained there" test_journal

test_crash()
{
    host kill -SEGV "$(prop web MainPID)"
    wait_for 60 is web State backoff
    wait_for 60 ctl crashes web 1 # it is written a moment later
    [ "$(entry web BACKOFF MICROVM_STATE)" = backoff ]
    [ "$(entry web CRASH MICROVM_RESULT)" = signal ]
    [ "$(entry web CRASH MICROVM_UNIT_RESULT)" = signal ]
    entry web CRASH MICROVM_COMMAND | grep qemu-system
    entry web CRASH MICROVM_CONSOLE_TAIL | grep 'count 1'
    entry web CRASH MICROVM_EVENTS | grep 'starting → running'
    [ "$(report web 'r["exit"]["status"], r["unitResult"], r["unit"]')" = "(11, 'signal', 'microvmd-vm@web.service')" ]
    [ "$(report web 'r["memoryPeak"] > 30 << 20')" = True ]
    [ "$(report web 'r["timestamp"]')" = "$(entry web CRASH MICROVM_CRASH)" ]
    ctl why web | grep 'Unit result: signal'
    ctl why web | grep 'Next restart: '
    ctl why web | grep 'count 1'
}
tap "a crash under systemd" test_crash

test_panic()
{
    wait_for 180 is bad State failed
    [ "$(entry bad FAILED MICROVM_STATE)" = failed ]
    [ -n "$(entry bad PANIC MESSAGE)" ]
    wait_for 60 ctl crashes bad 1
    [ "$(report bad 'r["result"], "Kernel panic" in r["console"]')" = "('guest-panic', True)" ]
    report bad '[e["text"] for e in r["events"] if e["kind"] == "hypervisor"]' | grep 'guest-'
}
tap "a panic" test_panic

test_readiness()
{
    wait_for 180 is tell Readiness ready
    [ "$(entry tell GUEST_LATE MICROVM_READINESS)" = timed-out ]
    [ "$(entry tell GUEST_READY MICROVM_READINESS)" = ready ]
    entry tell GUEST_READY MICROVM_REASON | grep 'a line on its console matched, after '
    host_journal -o short -x MICROVM_NAME=tell | grep 'Subject: The guest of microVM tell is ready'
    ctl history tell >"$HOST_TOP/history"
    grep 'The guest is not ready within 100ms' "$HOST_TOP/history"
    grep 'Ready: a line on its console matched' "$HOST_TOP/history"
    ctl why tell | grep 'ready: a line on its console matched'
}
tap "that a guest is late, and ready" test_readiness

test_history()
{
    host journalctl --sync
    ctl history web >"$HOST_TOP/history"
    grep -E 'running +the guest is running' "$HOST_TOP/history"
    grep -E 'backoff +the hypervisor died .*it starts again in 1h' "$HOST_TOP/history"
    grep 'start by its "autostart"' "$HOST_TOP/history"
    [ "$(ctl --no-legend history -n 2 web | wc -l)" = 2 ]
    # Who may not read the journal is told so.
    exits 77 host_user nobody microvmctl history web
    ctl --json=short history bad | python3 -c '
import json, sys
entries = json.load(sys.stdin)
assert [e["State"] for e in entries if e["Kind"] == "state"] == ["waiting", "preparing", "starting", "running", "failed"], entries
assert {e["Kind"] for e in entries} == {"state", "request", "crash", "panic"}, entries'
    fails_with 'nothing about wob' ctl history wob
    # Who only says that he is microvmd is not believed.
    host_user alice logger --journald <<END
MESSAGE=web: a lie
MESSAGE_ID=$(sed -n 's/^#define MICROVM_MESSAGE_STATE *"\(.*\)".*/\1/p' "$SOURCE/include/microvm/messages.h")
MICROVM_NAME=web
MICROVM_STATE=failed
MICROVM_REASON=a lie
END
    host_journal MICROVM_NAME=web | grep 'a lie'
    not grep 'a lie' <(ctl history web)
}
tap "the history of a microVM" test_history

test_not_for_everyone()
{
    host_user alice microvmctl --no-pager why web | grep 'not shown: it needs the polkit action org.microvm1.console'
    not grep 'count 1' <(host_user alice microvmctl --no-pager why web)
    exits 77 host_user alice microvmctl --no-pager crashes web
    exits 77 host_user alice microvmctl --no-pager crashes web 1
    not host_user alice sh -c 'cat /var/lib/microvmd/vm/web/crash-*'
    not host_user alice cat "/var/lib/microvmd/vm/web/crash-$(report web 'r["timestamp"]').json"
    host usermod -aG microvm alice
    host_user alice microvmctl --no-pager why web | grep 'count 1'
    host_user alice microvmctl --no-pager crashes web 1 | grep 'count 1'
    host_user alice microvmctl --no-pager start web
    [ "$(why web 'w["Asked"]["UID"] == int("'"$(host id -u alice)"'")')" = True ]
    ctl why web | grep 'Asked: start, by alice (microvmctl, pid'
    [ "$(entry web REQUEST MICROVM_CALLER_UID)" = "$(host id -u alice)" ]
}
tap "a guest's words are for those who may read its console" test_not_for_everyone

test_libvirt()
{
    wait_for 60 is lib State running
    host virsh -q destroy lib
    wait_for 60 is lib State inactive
    [ "$(why lib 'w["Asked"]["Verb"], w["Asked"]["By"]')" = "('stop', 'outside')" ]
    ctl start lib
    host kill -KILL "$(prop lib MainPID)"
    wait_for 60 is lib State failed
    wait_for 60 ctl crashes lib 1
    [ "$(report lib 'r["driver"], r["cause"], "guest=lib,debug-threads=on" in r["command"]')" = "('libvirt', 'crashed', True)" ]
    host test -s "$(report lib 'r["see"]')"
}
tap "the same with libvirt" test_libvirt

tap_end
