#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# microvmd@NAME.service: microVMs as units of systemd, for systemctl and for units of somebody else.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

host_make || tap_bail "no throwaway host"
microvmd_install
DIRECT='"driver": "direct", "restart": { "policy": "on-failure", "delay": "100ms" }'
define db count "$DIRECT"
define web count "\"autostart\": false, $DIRECT"
define slow count '"autostart": false, "driver": "direct", "restart": { "policy": "on-failure", "delay": "1h", "maxDelay": "1h" }'
define frail count '"autostart": false, "driver": "direct", "restart": { "policy": "no" }'
define broken count '"autostart": false, "driver": "direct", "restart": { "policy": "no" }, "qemu": { "extraArgs": [ "-nonsense" ] }'
define off poweroff '"autostart": false, "driver": "direct"'
# One that takes its time, however fast the machine is.
printf '#!/bin/sh\nwhile :; do sleep 0.1; done\n' | program /opt/monitor
define late '' '"driver": "direct", "hypervisor": "command", "command": { "start": ["/opt/monitor"], "ready": ["/bin/sleep", "4"] }'

define tangled '' '"driver": "direct", "hypervisor": "command", "command": { "start": ["/opt/monitor"] }'

# Units of somebody else: those that are ordered after a microVM, one that its failure starts.
UNITS=$HOST_ROOT/etc/systemd/system
# unit NAME ORDER COMMAND [SERVICE]: one that the host starts; the last are further lines of [Service]
unit()
{
    cat >"$UNITS/$1.service" <<END
[Unit]
$2
[Service]
Type=oneshot
ExecStart=/bin/sh -c '$3'
${4-RemainAfterExit=yes}
[Install]
WantedBy=multi-user.target
END
}
unit client $'Wants=microvmd@db.service\nAfter=microvmd@db.service' \
    'microvmctl is-active db >/var/client-start; systemctl is-active microvmd@db >>/var/client-start' \
    $'RemainAfterExit=yes\nExecStop=/bin/sh -c "microvmctl is-active db >/var/client-stop"'
# This one wants nothing, and finds the start that microvmd has asked for.
unit follower 'After=microvmd.service microvmd@late.service' 'microvmctl is-active late >/var/follower-start'
# Nor does this one, and it could run long before microvmd is there.
unit early After=microvmd@late.service 'systemctl is-active microvmd@late microvmd >/var/early-start; :'
# What microvmd needs can't wait for one of its microVMs. (It does not remain: at the shutdown there would be the same
# cycle, and that systemd breaks as it likes.)
unit cycle $'After=microvmd@tangled.service\nBefore=microvmd.service' 'systemctl is-active microvmd >/var/cycle-start; :' ''
mkdir -p "$UNITS/microvmd@frail.service.d"
printf '[Unit]\nOnFailure=cry.service\n' >"$UNITS/microvmd@frail.service.d/cry.conf"
printf '[Service]\nType=oneshot\nExecStart=/bin/touch /run/cried\n' >"$UNITS/cry.service"
systemctl --quiet --root="$HOST_ROOT" enable microvmd.service client.service follower.service early.service cycle.service
host_boot || tap_bail "the throwaway host does not boot"

handle() { host systemctl show -P "${2:-ActiveState}" "microvmd@$1.service"; }
# handle_is NAME STATE: active, reloading, inactive, failed...
handle_is() { [ "$(handle "$1")" = "$2" ]; }
# The microVM and its handle are both as they are called.
both() { is "$1" State "$2" && handle_is "$1" "$3"; }
no_job() { [ -z "$(host systemctl list-jobs --no-legend)" ]; }

test_order()
{
    local unit
    for unit in client.service microvmd@db.service microvmd.target; do host systemctl is-active $unit; done
    grep running "$HOST_ROOT/var/client-start"
    grep '^active' "$HOST_ROOT/var/client-start"
    for unit in follower.service microvmd@late.service; do host systemctl is-active $unit; done
    grep running "$HOST_ROOT/var/follower-start"
    host systemctl is-active early.service
    [ "$(cat "$HOST_ROOT/var/early-start")" = $'active\nactive' ]
    [ "$(grep -c '^active' "$HOST_ROOT/var/cycle-start")" = 0 ]
    host_journal -t microvmd | grep 'is ordered after microvmd@tangled.service will not wait for it'
    [ -z "$(host systemctl --failed --no-legend --plain)" ]
    wait_for 60 both tangled running active
    is db State running
    handle db StatusText | grep '^running: '
    handle_is web inactive
}
tap "at boot a unit of somebody else waits for a microVM" test_order

test_bus()
{
    ctl start web
    wait_for 60 both web running active
    ctl restart --force web
    wait_for 60 both web running active
    ctl stop --force web
    wait_for 60 both web inactive inactive
    [ "$(handle web Result)" = success ]
    ctl start web
    ctl stop --force web
    wait_for 60 no_job
    wait_for 60 both web inactive inactive
}
tap "what is started over D-Bus is active, what is stopped is not" test_bus

test_systemctl()
{
    local pid
    host systemctl start microvmd@web
    both web running active
    pid=$(prop web MainPID)
    host systemctl start microvmd@web
    is web MainPID "$pid"
    host systemctl restart microvmd@web
    both web running active
    differs web MainPID "$pid"
    wait_for 180 guest_said web 'count 1'
    host systemctl stop microvmd@web
    both web inactive inactive
    is web LastStop clean
    host systemctl status microvmd@web --no-pager | grep microVM || :
    fails_with 'failed|code' host systemctl start microvmd@nosuch
    host_journal -u microvmd@nosuch | grep 'No microVM is called nosuch'
    # One that can't run fails, and says why.
    not host systemctl start microvmd@broken
    both broken failed failed
    handle broken StatusText | grep nonsense
    # And also where it was not systemctl that has started it.
    host systemctl reset-failed microvmd@broken
    not ctl start broken
    wait_for 60 both broken failed failed
    # A failure that is forgotten, or was one of a microVM that is gone, is none of the host's.
    ctl reset-failed broken
    wait_for 60 both broken inactive inactive
    define brief count '"autostart": false, "driver": "direct", "restart": { "policy": "no" }, "qemu": { "extraArgs": [ "-nonsense" ] }'
    ctl reload
    not ctl start brief
    wait_for 60 handle_is brief failed
    ctl remove brief
    wait_for 60 handle_is brief inactive
    not ctl start broken
    wait_for 60 both broken failed failed
}
tap "systemctl start, restart and stop" test_systemctl

test_policy()
{
    ctl start slow frail off
    wait_for 60 both slow running active
    wait_for 60 both frail running active
    host kill -KILL "$(prop slow MainPID)" "$(prop frail MainPID)"
    wait_for 60 both slow backoff reloading
    wait_for 60 both frail failed failed
    wait_for 60 host test -e /run/cried
    host systemctl stop microvmd@slow
    both slow inactive inactive
    host systemctl start microvmd@frail
    both frail running active
    ctl stop --force frail
    # A guest that powers itself off.
    wait_for 180 both off inactive inactive
    [ "$(handle off Result)" = success ]
}
tap "within the restart policy it stays active, what gives up fails" test_policy

test_daemon()
{
    local run pid
    ctl start web
    wait_for 60 both web running active
    run=$(run_of web)
    pid=$(handle web MainPID)
    says() { handle web StatusText | grep "$1"; }
    daemon_restart
    both web running active
    daemon_kill
    wait_for 60 both web running active
    host systemctl stop microvmd.service
    wait_for 60 says away
    handle_is web active
    daemon_start
    wait_for 60 says '^running: '
    [ "$(run_of web)" = "$run" ]
    [ "$(handle web MainPID)" = "$pid" ]
    # What is enabled is seen after systemd was executed anew, too.
    host systemctl daemon-reexec
    wait_for 60 host systemctl enable microvmd@web
    wait_for 60 is web Autostart true
    host systemctl disable microvmd@web
    wait_for 60 is web Autostart false
    # The process of a handle is nothing that the microVM depends on.
    host kill -KILL "$pid"
    other_pid() { [ "$(handle web MainPID)" != "$pid" ] && handle_is web active; }
    wait_for 60 other_pid
    [ "$(run_of web)" = "$run" ]
    # Still known after systemd was executed anew.
    ctl stop --force web
    wait_for 60 both web inactive inactive
    ctl start web
    wait_for 60 both web running active
}
tap "it outlives microvmd, and its own process" test_daemon

# A job at boot is no link: nothing that systemd does later starts again what was stopped by hand.
test_once()
{
    ctl stop --force late
    wait_for 60 both late inactive inactive
    host systemctl daemon-reload
    daemon_restart
    host systemctl start microvmd-autostart.service microvmd.target multi-user.target
    wait_for 60 no_job
    both late inactive inactive
    host systemctl stop microvmd-autostart.service
    host systemctl start microvmd-autostart.service
    wait_for 60 no_job
    holds 1 both late inactive inactive
    is late Autostart true
}
tap "what starts with the host is started once" test_once

# To systemd a microVM that was started by hand is nothing that a target asks for.
test_isolate()
{
    local run
    ctl start late
    wait_for 60 both late running active
    run=$(run_of late)
    host systemctl isolate multi-user.target
    wait_for 60 no_job
    wait_for 60 host systemctl is-active -q microvmd.service
    wait_for 60 both late running active
    [ "$(run_of late)" = "$run" ]
}
tap "systemctl isolate stops no microVM" test_isolate

# Over connections that are there already, while systemd stands still: a stop by microvmd, and one by a person, who then starts it.
program /opt/contrary <<'END'
#!/usr/bin/python3
import dbus, os, signal, time
signal.alarm(180)  # a net under a test that fails
bus = dbus.SystemBus()
microvm = bus.get_object("org.microvm1", "/org/microvm1/vm/late", introspect=False)
systemd = bus.get_object("org.freedesktop.systemd1", "/org/freedesktop/systemd1", introspect=False)
def meet(mine, theirs):
    open("/var/" + mine, "w").close()
    while not os.path.exists("/var/" + theirs):
        time.sleep(0.05)
meet("connected", "go")
microvm.Stop(dbus.Dictionary({"force": True}, signature="sv"), dbus_interface="org.microvm1.MicroVM")
for _ in range(10):  # what follows from the stop is done before it answers some other question
    microvm.Get("org.microvm1.MicroVM", "State", dbus_interface="org.freedesktop.DBus.Properties")
for method in ("StopUnit", "StartUnit"):
    systemd.get_dbus_method(method, "org.freedesktop.systemd1.Manager")("microvmd@late.service", "replace", ignore_reply=True)
bus.get_unix_user("org.freedesktop.DBus")  # the bus has them when it answers
meet("asked", "over")  # systemd asks the bus who it was
END

# What microvmd has asked for is canceled by that before it has begun: the later wish holds.
test_replaced()
{
    local contrary
    ctl stop --force late
    wait_for 60 both late inactive inactive
    ctl start --no-block late
    wait_for 60 attached late
    host /opt/contrary &
    contrary=$!
    wait_for 60 test -e "$HOST_ROOT/var/connected"
    kill -STOP "$HOST_LEADER"
    touch "$HOST_ROOT/var/go"
    wait_for 60 test -e "$HOST_ROOT/var/asked" || :
    kill -CONT "$HOST_LEADER"
    test -e "$HOST_ROOT/var/asked"
    wait_for 60 no_job
    wait_for 60 both late running active
    touch "$HOST_ROOT/var/over"
    wait "$contrary"
}
attached() { handle_is "$1" activating && handle "$1" StatusText | grep .; }
tap "a start that comes in place of a stop" test_replaced

test_contrary()
{
    local i
    for i in $(seq 6); do
        ctl start --no-block web &
        host systemctl stop --no-block microvmd@web &
        ctl stop --force --no-block web &
        host systemctl start --no-block microvmd@web &
        wait
        [ $((i % 2)) = 0 ] && ctl stop --force --no-block web
    done
    agree() { both web running active || both web inactive inactive; }
    wait_for 60 no_job
    wait_for 180 holds 2 agree
    ctl stop --force web
    wait_for 60 both web inactive inactive
    holds 1 both web inactive inactive
}
tap "contrary requests at once end in agreement" test_contrary

test_enable()
{
    sources() { host busctl --system --json=short get-property org.microvm1 "/org/microvm1/vm/$1" \
        org.microvm1.MicroVM AutostartSources | grep -F "$2" >/dev/null; }
    sources db '"data":["definition"]'
    sources web '"data":[]'
    exits 1 ctl is-enabled web
    host systemctl enable --now microvmd@web
    both web running active
    [ "$(host systemctl is-enabled microvmd@web)" = enabled ]
    wait_for 60 sources web '"data":["systemd"]'
    is web Autostart true
    ctl is-enabled web
    ctl status web | grep 'Autostart: yes (systemctl enable)'
    ctl status db | grep 'Autostart: yes (definition)'
    ctl disable web 2>&1 | grep 'systemctl disable microvmd@web'
    host systemctl disable --now microvmd@web
    both web inactive inactive
    wait_for 60 sources web '"data":[]'
    is web Autostart false
}
tap "systemctl enable is an autostart" test_enable

test_rival()
{
    host mkdir -p /var/lib/microvms/web
    printf '[Service]\nExecStart=/bin/sleep infinity\n' >"$UNITS/microvm@.service"
    host systemctl daemon-reload
    host systemctl start microvm@web
    not ctl start web
    is web State failed
    is web RivalUnit microvm@web.service
    { ctl status web || :; } | grep 'Rival: microvm@web.service of MicroVM.nix'
    prop web StateReason | grep 'systemctl stop microvm@web.service'
    host systemctl is-active microvm@web.service
    not host systemctl start microvmd@web
    host systemctl stop microvm@web
    ctl start web
    is web RivalUnit ""
    ctl stop --force web
    host rm -r /var/lib/microvms
}
tap "what MicroVM.nix runs under the same name is left alone" test_rival

# Here, and not in the test's subshell: it is our child.
host_poweroff 240
tap "the host powers off in time" test $? = 0

journal() { journalctl --directory="$HOST_ROOT/var/log/journal" --quiet --no-pager "$@"; }

test_shutdown()
{
    grep running "$HOST_ROOT/var/client-stop"
    journal -o short-precise MICROVM_NAME=db | tail -n 20
    journal -o cat MICROVM_NAME=db | grep 'stopped: the guest shut itself down'
    not grep . <(journal -o cat UNIT=microvmd@db.service | grep -iE 'failed|timed out')
}
tap "who is ordered after a microVM is stopped before it" test_shutdown

rm "$HOST_ROOT"/var/*-start
host_boot || tap_bail "the throwaway host does not boot again"
tap "and waits for it again after a reboot, whatever was stopped by hand before" test_order
host_poweroff 240 || tap_bail "the host is still up"

rm "$HOST_ROOT"/var/*-start
systemctl --quiet --root="$HOST_ROOT" disable microvmd.service follower.service client.service
host_boot || tap_bail "the throwaway host does not boot without microvmd"
test_disabled()
{
    not host systemctl is-active microvmd.service microvmd-autostart.service microvmd.target microvmd@late.service
    host systemctl is-active early.service
    [ "$(cat "$HOST_ROOT/var/early-start")" = $'inactive\ninactive' ]
}
tap "where microvmd is disabled nothing is queued" test_disabled

tap_end
