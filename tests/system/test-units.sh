#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The driver direct under systemd: each hypervisor a transient service.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

host_make || tap_bail "no throwaway host"
microvmd_install
never_give_up dbus
QUICK='"autostart": false, "driver": "direct", "restart": { "policy": "on-failure", "delay": "100ms", "maxDelay": "100ms", "startLimit": 0 }'
define web count "$QUICK"
define off count '"autostart": false, "driver": "direct", "restart": { "policy": "no" }'
define broken count '"autostart": false, "driver": "direct", "restart": { "policy": "no" }, "qemu": { "extraArgs": [ "-nonsense" ] }'
define frail count '"autostart": false, "driver": "direct", "restart": { "policy": "no" }, "volumes": [{ "image": "a.img", "size": 1 }],
    "credentialFiles": { "key": "/etc/hostname" }'
define poweroff poweroff '"autostart": false, "driver": "direct"'
program /opt/monitor <<'END'
#!/bin/sh
trap 'echo asked; exit 0' TERM
echo "$MICROVM_NAME runs $(head -c 5 "$MICROVM_KERNEL" | wc -c)"
echo written >"$MICROVM_VOLUME_0"
[ -e /etc/shadow ] || echo "alone"
while :; do sleep 0.1; done
END
define own '' '"autostart": false, "driver": "direct", "hypervisor": "command", "command": { "start": ["/opt/monitor"] },
    "volumes": [{ "image": "a.img", "size": 1 }], "console": { "log": "journal" }'
# A program by a way that is a link, as /bin is: it finds the others.
define shell '' '"autostart": false, "driver": "direct", "hypervisor": "command",
    "command": { "start": ["/bin/sh", "-c", "date +dated; sleep 1000; :"] }'
# Neither it nor the one beside it ends on SIGTERM.
program /opt/stubborn <<'END'
#!/bin/sh
trap '' TERM
sleep 4242 &
echo "both run"
while :; do sleep 0.1; done
END
define_stubborn()
{
    define stubborn '' '"autostart": false, "driver": "direct", "hypervisor": "command", "command": { "start": ["/opt/stubborn"] },
        "stop": { "timeout": '"$1"' }'
}
define_stubborn 1
# One who may look, and no more.
mkdir -p "$HOST_ROOT/etc/polkit-1/rules.d"
cat >"$HOST_ROOT/etc/polkit-1/rules.d/40-carol.rules" <<'END'
polkit.addRule(function(action, subject) {
    if (action.id == "org.microvm1.inspect" && subject.user == "carol")
        return polkit.Result.YES;
});
END
chmod 644 "$HOST_ROOT/etc/polkit-1/rules.d/40-carol.rules"
host_boot || tap_bail "the throwaway host does not boot"
host useradd --no-create-home carol
host useradd --no-create-home alice
daemon_start || tap_bail "microvmd does not start"

UNIT=microvmd-vm@web.service
unit() { host systemctl show -P "$1" "${2:-$UNIT}"; }
no_units() { ! host systemctl list-units --all --plain --no-legend 'microvmd-vm@*' | grep .; }
# Kept away until daemon_start.
daemon_down() { host systemctl stop microvmd.service; }

test_start()
{
    local pid
    ctl start web
    pid=$(prop web MainPID)
    is web Unit "$UNIT"
    [ "$(unit ActiveState)/$(unit SubState)" = active/running ]
    [ "$(unit MainPID)" = "$pid" ]
    [ "$(unit Description)" = "microVM web" ]
    host systemctl status "$UNIT" --no-pager | grep qemu-system
    host systemd-cgls --no-pager -u microvmd.slice | grep "$UNIT"
    host systemd-cgtop -b -n 1 --depth=3 | grep "microvmd.slice/$UNIT"
    # It is no part of microvmd's own group, and has no rights.
    host grep -q "/microvmd.slice/$UNIT\$" "/proc/$pid/cgroup"
    host grep -q 'CapEff:.0000000000000000' "/proc/$pid/status"
    host grep -q 'NoNewPrivs:.1' "/proc/$pid/status"
    [ "$(host stat -c %u "/proc/$pid")" -ge 1900000000 ]
    ctl status web | grep "Unit: $UNIT"
    host_journal -u "$UNIT" | grep 'the guest is running'
    wait_for 180 guest_said web 'count 1'
}
tap "a microVM is a unit of its own name" test_start

test_qmp()
{
    local socket=/run/microvmd/vm/web/qmp.sock command
    asks() { host_user "$1" microvmctl --no-ask-password qmp web "$2"; }
    asks carol query-status | grep '"status": "running"'
    for command in stop human-monitor-command qom-get query-sev-launch-measure x-query-jit; do
        exits 77 asks carol "$command"
    done
    exits 77 asks alice query-status
    is web State running
    # Who may only ask by D-Bus does not come in beside it.
    [ "$(host stat -c '%a %U' $socket)" = '600 root' ]
    fails_with 'permission denied' host_user carol python3 -c "import socket; socket.socket(socket.AF_UNIX).connect('$socket')"
}
tap "QEMU's own protocol: to read for readers, the rest for who may define what reaches out" test_qmp

test_outlives()
{
    local run
    run=$(run_of web)
    daemon_restart
    is web State running
    [ "$(run_of web)" = "$run" ]
    is web Unit "$UNIT"
    daemon_kill
    is web State running
    [ "$(run_of web)" = "$run" ]
    host systemctl daemon-reexec
    [ "$(run_of web)" = "$run" ]
    # One that starts hypervisors as its children takes over units, too, and the other way round.
    host mkdir -p /run/systemd/system/microvmd.service.d
    host sh -c 'printf "[Service]\nExecStart=\nExecStart=/usr/sbin/microvmd --launcher fork\n" >/run/systemd/system/microvmd.service.d/fork.conf'
    host systemctl daemon-reload
    daemon_restart
    [ "$(run_of web)" = "$run" ]
    is web Unit "$UNIT"
    ctl start off
    is off Unit ""
    host rm /run/systemd/system/microvmd.service.d/fork.conf
    host systemctl daemon-reload
    run=$(run_of off)
    daemon_restart
    is off State running
    [ "$(run_of off)" = "$run" ]
    ctl stop --force off
    is web State running
}
tap "it outlives microvmd, and is found again" test_outlives

test_killed()
{
    local pid
    pid=$(prop web MainPID)
    host kill -KILL "$pid"
    wait_for 60 is web NRestarts 1
    wait_for 60 is web State running
    host_journal -u "$UNIT" | grep 'killed by SIGKILL'
    [ "$(unit MainPID)" = "$(prop web MainPID)" ]
    # As its own user, QEMU ends by itself: a failure, too.
    host systemctl kill --kill-whom=main -s TERM "$UNIT"
    wait_for 60 is web NRestarts 2
    wait_for 60 is web State running
}
tap "a hypervisor that is killed is a failure" test_killed

test_stopped()
{
    host systemctl stop "$UNIT"
    wait_for 60 is web State inactive
    prop web StateReason | grep 'stopped through systemd'
    is web LastStop forced
    is web Unit ""
    holds 2 is web State inactive
    wait_for 60 no_units
    # While nobody watches, as well.
    ctl start web
    daemon_down
    host systemctl stop "$UNIT"
    daemon_start
    wait_for 60 is web State inactive
    prop web StateReason | grep 'stopped through systemd'
    # There is no hand-over to what systemd itself starts again.
    ctl start web
    host systemctl restart "$UNIT" || :
    wait_for 60 is web State inactive
    prop web StateReason | grep 'stopped through systemd'
    wait_for 60 no_units
    is web NRestarts 2
}
tap "systemctl stop is a stop by hand" test_stopped

test_dies_unwatched()
{
    local pid
    ctl start off web
    daemon_down
    host kill -KILL "$(unit MainPID microvmd-vm@off.service)" "$(unit MainPID)"
    is_over() { [ "$(unit MainPID "$1")" = 0 ]; }
    wait_for 60 is_over "$UNIT"
    wait_for 60 is_over microvmd-vm@off.service
    daemon_start
    wait_for 60 is off State failed
    is off Result signal
    prop off StateReason | grep 'killed by SIGKILL, while microvmd was not watching'
    wait_for 60 is web State running
    is web NRestarts 3
    ctl stop --force web
    ctl reset-failed off
    wait_for 60 no_units
    # Powered off: its console says so.
    ctl start poweroff
    daemon_down
    wait_for 180 is_over microvmd-vm@poweroff.service
    daemon_start
    wait_for 60 is poweroff State inactive
    prop poweroff StateReason | grep 'powered itself off'
    wait_for 60 no_units
}
tap "how one ended while nobody watched is known" test_dies_unwatched

# drop_in NAME WORDS: what an administrator says of the unit of a microVM; none: nothing any more
drop_in()
{
    local directory=/run/systemd/system/microvmd-vm@$1.service.d
    if [ $# = 1 ]; then
        host rm -r "$directory"
    else
        host mkdir -p "$directory"
        printf '[Service]\n%b\n' "$2" | host tee "$directory/test.conf"
    fi
    host systemctl daemon-reload
}

test_bounded()
{
    if host grep -w memory /sys/fs/cgroup/cgroup.controllers; then
        drop_in off 'MemoryMax=48M\nMemorySwapMax=0'
        ctl --no-block start off
        wait_for 60 is off State failed
        drop_in off
        is off Result oom
        prop off StateReason | grep 'ran out of memory'
        ctl reset-failed off
        wait_for 60 no_units
    fi
    # One that is deaf to systemctl stop is killed, and still was stopped.
    drop_in off 'KillSignal=SIGWINCH\nTimeoutStopSec=1'
    ctl start off
    host systemctl stop microvmd-vm@off.service
    wait_for 60 is off State inactive
    drop_in off
    prop off StateReason | grep 'stopped through systemd'
    wait_for 60 no_units
}
tap "one that has no memory left, one that does not stop" test_bounded

test_leaves_nothing()
{
    ctl start web
    wait_for 180 guest_said web 'count 1'
    ctl stop web
    is web LastStop clean
    wait_for 60 no_units
    ctl start web
    ctl stop --force web
    wait_for 60 no_units
    fails_with 'nonsense' ctl start broken
    is broken State failed
    wait_for 60 no_units
    host_journal -u microvmd-vm@broken.service | grep nonsense
}
tap "after a stop, and a start that fails, no unit is left" test_leaves_nothing

# waited_in_vain NAME: how many seconds SIGTERM had
waited_in_vain() { prop "$1" StateReason | sed -n 's/.*SIGTERM had not for \([0-9]*\).*/\1/p'; }

# One that microvmd does not know, in the same sandbox.
test_command()
{
    ctl start own
    is own Unit microvmd-vm@own.service
    for words in 'own runs 5' alone; do wait_for 60 guest_said own "$words"; done
    in_the_journal() { host journalctl -b -q --no-pager -o cat -t microvm-own -u microvmd-vm@own.service | grep -x alone; }
    wait_for 60 in_the_journal
    written() { host cat /var/lib/microvmd/vm/own/a.img | head -c 7 | grep -x written; }
    wait_for 60 written
    ctl stop own
    is own LastStop clean
    wait_for 60 guest_said own asked
    not host systemctl is-active -q microvmd-vm@own.service
    ctl start shell
    wait_for 60 guest_said shell dated
    ctl stop --force shell
}
tap "a hypervisor that microvmd does not know is a unit, too" test_command

test_whole_unit()
{
    ctl start stubborn
    wait_for 60 guest_said stubborn 'both run'
    host pgrep -f 'sleep 4242'
    ctl stop stubborn
    is stubborn LastStop forced
    is stubborn Result timeout
    prop stubborn StateReason | grep 'SIGKILL ended it after '
    [ "$(waited_in_vain stubborn)" -ge 1 ]
    wait_for 60 not host pgrep -f 'sleep 4242'
    wait_for 60 no_units
}
tap "SIGKILL is for the whole unit" test_whole_unit

# What microvmd does takes the new one at once; the unit keeps its own, since systemd changes no such thing of one that runs.
test_stop_timeout_is_live()
{
    ctl start stubborn
    wait_for 60 guest_said stubborn 'both run'
    define_stubborn 3
    ctl reload
    is stubborn OutdatedReasons 'as 1 "definition'
    ctl apply
    is stubborn Outdated false
    [ "$(unit TimeoutStopUSec microvmd-vm@stubborn.service)" = 1s ]
    fails_with 'TimeoutStopUSec' host busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
        org.freedesktop.systemd1.Manager SetUnitProperties 'sba(sv)' microvmd-vm@stubborn.service true 1 TimeoutStopUSec t 3000000
    ctl stop stubborn
    [ "$(waited_in_vain stubborn)" -ge 3 ]
    wait_for 60 no_units
    ctl start stubborn
    [ "$(unit TimeoutStopUSec microvmd-vm@stubborn.service)" = 3s ]
    ctl stop --force stubborn
    wait_for 60 no_units
}
tap "a new stop.timeout counts at once for microvmd, and from the next start for the unit" test_stop_timeout_is_live

# runs_anew PID: it is running, as another process
runs_anew() { is web State running && differs web MainPID "$1"; }

test_taken()
{
    local pid
    # Somebody else's: never touched.
    host systemd-run -q --unit=microvmd-vm@off.service --slice=microvmd.slice sleep 1000
    fails_with "not microvmd's" ctl start off
    is off State failed
    [ "$(unit ActiveState microvmd-vm@off.service)" = active ]
    host systemctl stop microvmd-vm@off.service
    # Ours, of a run that is over: it makes room.
    host systemd-run -q --unit="$UNIT" --slice=microvmd.slice -p RemainAfterExit=yes \
        --setenv=MICROVM_GENERATION=0123456789abcdef0123456789abcdef false || :
    wait_for 60 host systemctl is-failed -q "$UNIT"
    ctl start web
    pid=$(prop web MainPID)
    host kill -KILL "$pid"
    wait_for 60 runs_anew "$pid"
    ctl stop --force web
    # Ours, but nothing is on record: a daemon that starts takes it away.
    host systemd-run -q --unit=microvmd-vm@stale.service --setenv=MICROVM_GENERATION=0123456789abcdef0123456789abcdef false || :
    host systemd-run -q --unit=microvmd-vm@foreign.service false || :
    wait_for 60 host systemctl is-failed -q microvmd-vm@stale.service
    wait_for 60 host systemctl is-failed -q microvmd-vm@foreign.service
    daemon_restart
    not host systemctl is-failed -q microvmd-vm@stale.service
    host systemctl is-failed -q microvmd-vm@foreign.service
    host systemctl reset-failed microvmd-vm@foreign.service
}
tap "a unit that has the name is made room of, or left alone" test_taken

test_cannot_set_up()
{
    # What an administrator says of it in a drop-in holds; here it is impossible.
    drop_in off 'WorkingDirectory=/nonexistent'
    fails_with 'could not set up microvmd-vm@off.service .*200.*journalctl -u' ctl start off
    wait_for 60 no_units
    drop_in off
    ctl start off
    ctl stop --force off
}
tap "a unit that systemd can't set up" test_cannot_set_up

test_died_in_between()
{
    local n
    # Killed at some instant of a start, ten times: no process, no unit is left, or it runs and is known.
    for n in 0 5 10 15 20 25 30 40 60 80; do
        ctl --no-block start web
        sleep "0.0$(printf %02d "$n")"
        daemon_kill
        wait_for 60 ctl stop --force web
        wait_for 60 no_units
        not host pgrep -f 'guest=web'
    done
}
tap "the daemon is killed at any instant of a start" test_died_in_between

test_died_at_each_step()
{
    local n died=1 settled
    # It comes again when it is told to.
    host mkdir -p /run/systemd/system/microvmd.service.d
    printf '[Service]\nRestart=no\n' | host tee /run/systemd/system/microvmd.service.d/stay.conf
    host systemctl daemon-reload
    is_dead_or_done() { ! host systemctl is-active -q microvmd.service || is frail State running; }
    no_files() { [ -z "$(host find /run/microvmd/vm/frail -mindepth 1 -not -name record.json)" ]; }
    is_settled() { case $(prop frail State) in inactive | failed | running) ;; *) false ;; esac; }
    for ((n = 1; died; n++)); do
        host systemctl set-environment MICROVMD_FAULT="$n"
        host systemctl restart microvmd.service || :
        ctl --no-block start frail || :
        wait_for 60 is_dead_or_done
        died=
        host systemctl is-active -q microvmd.service || died=1
        host systemctl unset-environment MICROVMD_FAULT
        daemon_restart
        wait_for 60 is_settled
        settled=$(prop frail State)
        echo "$n ${died:+died, and then }$settled: $(prop frail StateReason)"
        [ -n "$(prop frail StateReason)" ]
        # Nor is a hypervisor blamed that there was not yet.
        [ "$settled" != failed ] || grep '^its start was cut off, and nothing of it is left' <<<"$(prop frail StateReason)"
        if [ "$settled" = running ]; then
            [ "$(host pgrep -f guest=frail)" = "$(prop frail MainPID)" ]
            ctl stop --force frail
        fi
        # Its state is told before all of it is gone.
        wait_for 60 not host pgrep -f guest=frail
        wait_for 60 no_units
        wait_for 60 no_files
        wait_for 60 ctl leaks
    done
    host rm /run/systemd/system/microvmd.service.d/stay.conf
    host systemctl daemon-reload
    [ "$n" -gt 14 ] && [ "$settled" = running ]
}
tap "the daemon is killed at each step of a start" test_died_at_each_step

test_systemd_executed_anew()
{
    local pid
    ctl reset-failed web # or it waits long, after all that it went through
    for _ in 1 2 3 4 5; do
        host systemctl --no-block daemon-reexec
        ctl start web
        is web State running
        pid=$(prop web MainPID)
        host systemctl --no-block daemon-reexec
        host kill -KILL "$pid"
        wait_for 60 runs_anew "$pid"
        ctl stop --force web
        wait_for 60 no_units
    done
}
tap "systemd is executed anew while one starts, and ends" test_systemd_executed_anew

test_no_bus()
{
    local n
    # microvmd ends with the bus, and comes again: what it was about to start is there and known, or not there.
    for n in 0 10 20 30 50; do
        ctl --no-block start web
        sleep "0.0$n"
        host kill -KILL "$(host systemctl show -P MainPID dbus.service)"
        host systemctl start dbus.service
        wait_for 60 ctl stop --force web
        wait_for 60 no_units
        not host pgrep -f 'guest=web'
    done
}
tap "the bus goes while one starts" test_no_bus

test_leaks()
{
    ctl leaks | grep -Fx 'Nothing is left over.'
    # A unit that is called as ours are, with the mark of a run that nothing is on record of.
    host systemd-run --quiet --unit=microvmd-vm@ghost --setenv=MICROVM_GENERATION=00112233445566778899aabbccddeeff sleep 1000
    not ctl leaks
    grep 'unit .*microvmd-vm@ghost.service .*ghost .*systemctl stop microvmd-vm@ghost.service' <(ctl leaks)
    # It is not for microvmd to end what runs.
    daemon_restart
    host systemctl is-active microvmd-vm@ghost.service
    host systemctl stop microvmd-vm@ghost.service
    ctl leaks
}
tap "a unit that is left over is shown" test_leaks

tap_end
