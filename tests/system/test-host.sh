#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# microvmd as a service of a real systemd, with the system's bus, polkit and libvirtd.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

host_make || tap_bail "no throwaway host"
microvmd_install
JOURNAL='"console": { "log": "journal" }'
define web count "$JOURNAL"
define fragile count '"restart": { "policy": "no" }'
define byhand count '"autostart": false'
define panics panic '"autostart": false, "restart": { "policy": "no" }'
define direct count "\"autostart\": false, \"driver\": \"direct\", $JOURNAL"
define owned 'write=by-carol,count' '"autostart": false, "user": "carol", "volumes": [{ "image": "data.img", "size": 16 }]'
define poweroff poweroff '"autostart": false'
define says notify '"autostart": false, "readiness": { "type": "notify" }'
define tells notify '"autostart": false, "readiness": { "type": "notify" }, "driver": "direct"'
host_boot || tap_bail "the throwaway host does not boot"
host useradd --no-create-home alice
host useradd --no-create-home --groups microvm bob
host useradd --no-create-home carol

test_start()
{
    daemon_start
    host systemctl is-active microvmd.service
    host systemctl is-active microvmd-shutdown.service
    [ -n "$(host systemctl show -P StatusText microvmd.service)" ]
    host busctl --system status org.microvm1 >/dev/null
    ctl version
}
tap "systemctl start microvmd, ready and on the bus" test_start

# libvirt keeps what each QEMU reads in a directory that its own group may enter.
test_user()
{
    not ctl start owned
    prop owned StateReason | grep -F 'usermod -aG'
    host usermod --append --groups libvirt-qemu carol
    ctl start owned
    wait_for 180 guest_said owned 'written by-carol'
    [ "$(host ps -o user= -p "$(prop owned MainPID)")" = carol ]
    ctl stop owned
    is owned LastStop clean
    [ "$(host stat -c %U /var/lib/microvmd/vm/owned/data.img)" = root ]
}

# Only the event loop is scheduled before the guests, and its unit allows it.
test_schedule()
{
    local pid threads
    pid=$(host systemctl show -P MainPID microvmd.service)
    threads=$(host ps -T -o spid=,cls= -p "$pid")
    grep -x " *$pid  *RR" <<<"$threads"
    [ "$(grep -c RR <<<"$threads")" = 1 ]
}
tap "the event loop runs first, its threads do not" test_schedule

test_autostart()
{
    wait_for 180 is web State running
    wait_for 180 is fragile State running
    is byhand State inactive
    wait_for 180 guest_said web 'count 1'
    ctl is-active web
    exits 3 ctl is-active byhand
    exits 4 ctl status nosuch
}
tap "autostart starts what is declared, and only that" test_autostart
tap "the user that a definition names runs its hypervisor" test_user

test_virsh()
{
    host virsh -c qemu:///system list --name | grep -x web
    host virsh -c qemu:///system dumpxml web | grep -i "$(prop web Generation)"
    [ "$(host cat /run/libvirt/qemu/web.pid)" = "$(prop web MainPID)" ]
    host virsh -c qemu:///system list --transient --name | grep -x web
}
tap "virsh list shows the domain, transient and marked" test_virsh

test_journal()
{
    host_journal MICROVM_NAME=web | grep .
    host_journal MICROVM_NAME=web MICROVM_STATE=running | grep .
    [ -z "$(host_journal MICROVM_NAME=nosuch)" ]
}
tap "the journal has the fields MICROVM_NAME= and MICROVM_STATE=" test_journal

test_introspection()
{
    # From the bus, by a client that knows nothing of us.
    host busctl --system tree org.microvm1 | grep /org/microvm1/vm/web
    host busctl --system introspect org.microvm1 /org/microvm1/vm/web org.microvm1.MicroVM | grep Generation
    host busctl --system call org.microvm1 /org/microvm1 org.freedesktop.DBus.ObjectManager GetManagedObjects |
        grep web >/dev/null
}
tap "busctl tree, introspect and the object manager" test_introspection

test_kill()
{
    local pid generation restarts
    pid=$(prop web MainPID)
    generation=$(prop web Generation)
    restarts=$(prop web NRestarts)
    host kill -KILL "$pid"
    wait_for 180 differs web Generation "$generation"
    wait_for 180 is web State running
    [ "$(prop web NRestarts)" -eq $((restarts + 1)) ]
    differs web MainPID "$pid"
    alive "$(prop web MainPID)"
    # The other one did not notice.
    is fragile State running
}
tap "kill -9 of its QEMU leads to a restart" test_kill

test_destroy()
{
    local restarts
    restarts=$(prop web NRestarts)
    host virsh -c qemu:///system destroy web
    wait_for 180 is web State inactive
    prop web StateReason | grep -i libvirt
    holds 4 is web State inactive
    is web NRestarts "$restarts"
    is fragile State running
}
tap "virsh destroy is a manual stop, and the reason says who" test_destroy

test_stop_stays()
{
    # Stopped by hand, so autostart of the next daemon leaves it alone.
    daemon_restart
    holds 3 is web State inactive
    ctl start web
    is web State running
}
tap "a manual stop stays over a restart of the daemon" test_stop_stays

test_panic()
{
    ctl start panics
    wait_for 180 is panics Result guest-panic
    prop panics StateReason | grep -i panic
    not is panics State running
    is panics NRestarts 0
}
tap "a guest's kernel panic is guest-panic" test_panic

test_poweroff()
{
    ctl start poweroff
    wait_for 180 is poweroff State inactive
    is poweroff Result success
    is poweroff LastStop clean
}
tap "a guest's own power-off is a clean end" test_poweroff

test_graceful()
{
    ctl start byhand
    wait_for 180 guest_said byhand 'microvm-guest: ready'
    ctl stop byhand
    is byhand State inactive
    is byhand LastStop clean
    wait_for 60 guest_said byhand 'microvm-guest: power button' # libvirt's virtlogd writes it when it comes to it
}
tap "stop presses the guest's power button" test_graceful

test_restart_daemon()
{
    local web fragile
    web=$(run_of web)
    fragile=$(run_of fragile)
    daemon_restart
    is web State running
    [ "$(run_of web)" = "$web" ]
    [ "$(run_of fragile)" = "$fragile" ]
    alive "${web% *}"
    holds 2 is web State running
}
tap "systemctl restart microvmd loses no microVM" test_restart_daemon

test_kill_daemon()
{
    local web fragile
    web=$(run_of web)
    fragile=$(run_of fragile)
    daemon_kill
    is web State running
    [ "$(run_of web)" = "$web" ]
    [ "$(run_of fragile)" = "$fragile" ]
    holds 2 is fragile State running
}
tap "kill -9 of the daemon loses no microVM" test_kill_daemon

# in_journal NAME CURSOR: the numbers that the guest counted since then, each once and in order
in_journal()
{
    since "$2" -t "microvm-$1" "MICROVM_NAME=$1" | sed -n 's/^count //p' >"$HOST_TOP/counted"
    [ "$(wc -l <"$HOST_TOP/counted")" -ge 3 ] || return
    seq "$(head -n 1 "$HOST_TOP/counted")" "$(tail -n 1 "$HOST_TOP/counted")" | cmp - "$HOST_TOP/counted"
}

ready_in_journal() { host_journal -t "microvm-$1" | grep -x 'microvm-guest: ready'; }

# Whatever becomes of the daemon: what is said meanwhile comes later.
survives_in_journal()
{
    local cursor cursor_now
    wait_for 180 guest_said "$1" 'count 1'
    wait_for 60 ready_in_journal "$1" # it comes there a moment after it is in the log
    cursor=$(mark)
    wait_for 180 in_journal "$1" "$cursor"
    daemon_restart
    wait_for 180 in_journal "$1" "$cursor"
    host systemctl stop microvmd.service
    sleep 2
    daemon_start
    cursor_now=$(mark)
    wait_for 180 in_journal "$1" "$cursor_now"
    in_journal "$1" "$cursor"
}
tap "the console of web is in the journal, too, over restarts of the daemon" survives_in_journal web

# As a unit of its own, made by microvmd with the rights that its unit leaves it: test-units.sh has the rest.
test_direct()
{
    local pid uid
    ctl start direct
    wait_for 180 guest_said direct 'count 1'
    survives_in_journal direct
    pid=$(prop direct MainPID)
    uid=$(host stat -c %u "/proc/$pid")
    [ "$uid" -ge 1900000000 ]
    [ "$(host readlink "/var/lib/microvmd/uids/$uid")" = direct ]
    is direct Unit microvmd-vm@direct.service
    [ "$(host systemctl show -P MainPID microvmd-vm@direct.service)" = "$pid" ]
    host grep -q 'CapEff:.0000000000000000' "/proc/$pid/status"
    not host virsh -c qemu:///system domstate direct
    daemon_restart
    is direct State running
    is direct MainPID "$pid"
    daemon_kill
    is direct State running
    is direct MainPID "$pid"
    is direct NRestarts 0
    host kill -KILL "$pid"
    wait_for 180 is direct NRestarts 1
    # Before it runs again, its log is still that of the boot before.
    wait_for 180 is direct State running
    wait_for 180 guest_said direct 'count 1'
    ctl stop direct
    is direct LastStop clean
    not host pgrep -f 'guest=direct'
}
tap "the driver direct runs, keeps and stops its own" test_direct

test_notify()
{
    local name
    ctl start says tells
    for name in says tells; do
        wait_for 180 is "$name" Readiness ready
        daemon_kill
        is "$name" Readiness ready
    done
    ctl stop says tells
    not host test -e /run/microvmd/vm/says/notify.sock
    not host test -e /run/microvmd/vm/tells/notify.sock
}
tap "guests of both drivers say that they are ready" test_notify

test_lost()
{
    local web fragile
    web=$(run_of web)
    fragile=$(run_of fragile)
    host systemctl stop microvmd.service
    libvirt_down
    host kill -KILL "${web% *}" "${fragile% *}"
    wait_for 60 not alive "${web% *}"
    wait_for 60 not alive "${fragile% *}"
    libvirt_up
    daemon_start
    # One is restarted, as its policy says; the other is not. Both know how the run before ended.
    wait_for 180 is web State running
    differs web Generation "${web#* }"
    is web Result lost
    is fragile Result lost
    is fragile LastStop lost
    not is fragile State running
    ctl reset-failed fragile
    ctl start fragile
}
tap "QEMU killed while both daemons are down is found out" test_lost

test_libvirtd_restart()
{
    local web
    web=$(run_of web)
    host systemctl restart libvirtd.service
    wait_for 180 is web DriverOnline true
    is web State running
    [ "$(run_of web)" = "$web" ]
}
tap "a restart of libvirtd changes nothing" test_libvirtd_restart

test_libvirtd_dead()
{
    local web fragile restarts since=$SECONDS
    web=$(run_of web)
    fragile=$(run_of fragile)
    restarts=$(prop web NRestarts)
    libvirt_down
    wait_for 60 is web DriverOnline false
    is web State running
    alive "${web% *}"
    exits 1 ctl stop web 2>&1 | grep -i libvirt
    # Ten seconds are long enough for a connection that is only slow to be told from one that is gone.
    while [ $((SECONDS - since)) -lt 10 ]; do
        is web State running
        is web DriverOnline false
        sleep 0.5
    done
    libvirt_up
    wait_for 180 is web DriverOnline true
    [ "$(run_of web)" = "$web" ]
    [ "$(run_of fragile)" = "$fragile" ]
    is web State running
    is web NRestarts "$restarts"
    [ "$(host virsh -c qemu:///system list --name | grep -cx web)" = 1 ]
}
tap "libvirtd dead for ten seconds changes nothing" test_libvirtd_dead

test_unprivileged()
{
    host_user alice microvmctl --no-pager list | grep web
    host_user alice microvmctl --no-pager status web
    host_user alice microvmctl --json=short list | grep '"web"'
    exits 77 host_user alice microvmctl --no-ask-password stop web
    exits 77 host_user alice microvmctl --no-ask-password kill -s KILL web
    exits 77 host_user alice microvmctl --no-ask-password logs web
    exits 77 host_user alice microvmctl --no-ask-password reload
    exits 77 host_user alice microvmctl --no-ask-password qmp web query-status
    fails_with 'access|denied|allowed|authoriz' host_user alice busctl --system call org.microvm1 \
        /org/microvm1/vm/web org.microvm1.MicroVM OpenConsole 'a{sv}' 0
    fails_with 'access|denied|allowed|authoriz' host_user alice busctl --system call org.microvm1 \
        /org/microvm1/vm/web org.microvm1.MicroVM GetDefinition 'a{sv}' 0
    is web State running
}
tap "an unprivileged user reads states, and is denied the rest" test_unprivileged

test_denied_console()
{
    # With a terminal, as a person would.
    exits 77 host_user alice script -qec 'microvmctl --no-ask-password console web' /dev/null
}
tap "an unprivileged user is denied the console" test_denied_console

test_group()
{
    host_user bob microvmctl --no-ask-password stop --force fragile
    is fragile State inactive
    is fragile LastStop forced
    host_user bob microvmctl --no-ask-password start fragile
    is fragile State running
    bob_reads() { host_user bob microvmctl --no-ask-password --no-pager logs -n 3 web | grep count; }
    wait_for 180 bob_reads
    host_user bob busctl --system call org.microvm1 /org/microvm1/vm/web org.microvm1.MicroVM OpenConsole 'a{sv}' 0 |
        grep '^h '
}
tap "the group microvm may manage and use consoles" test_group

test_foreign()
{
    local pid
    cat >"$HOST_ROOT/boot/guest/foreign.xml" <<'END'
<domain type='qemu'>
  <name>foreign</name><memory unit='MiB'>96</memory><vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='microvm'>hvm</type>
    <kernel>/boot/guest/vmlinuz</kernel><initrd>/boot/guest/initrd</initrd><cmdline>console=ttyS0</cmdline>
  </os>
  <features><acpi/></features>
  <devices><controller type='usb' model='none'/><serial type='pty'/><memballoon model='none'/></devices>
</domain>
END
    host virsh -c qemu:///system create /boot/guest/foreign.xml
    pid=$(host cat /run/libvirt/qemu/foreign.pid)
    define foreign count '"autostart": false'
    ctl reload
    exits 1 ctl start foreign
    prop foreign StateReason | grep -iE 'domain|libvirt'
    ctl stop foreign || :
    ctl stop --force foreign || :
    daemon_restart
    not is foreign State running
    [ "$(host cat /run/libvirt/qemu/foreign.pid)" = "$pid" ]
    alive "$pid"
    rm "$VMS/foreign.json"
    ctl reload
    alive "$pid"
    host virsh -c qemu:///system destroy foreign
}
tap "a foreign domain of the same name is not touched" test_foreign

test_reload()
{
    local web
    web=$(run_of web)
    define later count
    define web count "$JOURNAL, \"vcpu\": 2"
    host systemctl reload microvmd.service
    # Declared later: not started by a reload.
    holds 2 is later State inactive
    [ "$(run_of web)" = "$web" ]
    is web Outdated true
    define web count "$JOURNAL"
    host systemctl reload microvmd.service
    is web Outdated false
    mv "$VMS/web.json" "$VMS/../web.json"
    host systemctl reload microvmd.service
    is web Undeclared true
    is web State running
    mv "$VMS/../web.json" "$VMS/web.json"
    host systemctl reload microvmd.service
    is web Undeclared false
    [ "$(run_of web)" = "$web" ]
    rm "$VMS/later.json"
    ctl reload
    exits 4 ctl status later
}
tap "systemctl reload takes up definitions, and touches nothing that runs" test_reload

# Thirty ways to be wrong, in $1.
broken_definitions()
{
    local dir=$1 i
    printf '{ "kernel": "/boot/guest/vml' >"$dir/bad01.json"
    head -c 1048576 /dev/zero | tr '\0' '[' >"$dir/bad02.json"
    echo '{ "kernel": 7 }' >"$dir/bad03.json"
    echo '{ "kernel": "/boot/guest/vmlinuz", "kernal": "x" }' >"$dir/bad04.json"
    printf '{ "kernel": "/boot\0/guest/vmlinuz" }\n' >"$dir/bad05.json"
    mkfifo "$dir/bad06.json"
    mkdir "$dir/bad07.json"
    ln -s /nowhere "$dir/bad08.json"
    printf '{ "kernel": ' >"$dir/bad09.json"
    chmod 000 "$dir/bad09.json"
    printf '{ "kernel": "/boot/\377\376" }\n' >"$dir/bad10.json"
    echo '[]' >"$dir/bad11.json"
    echo 'null' >"$dir/bad12.json"
    echo '"kernel"' >"$dir/bad13.json"
    echo '{ "kernel": "/a", "kernel": "/b" }' >"$dir/bad14.json"
    echo '{ "kernel": "/a", "vcpu": 01 }' >"$dir/bad15.json"
    echo '{ "kernel": "/a", "vcpu": -1 }' >"$dir/bad16.json"
    echo '{ "kernel": "/a", "vcpu": 1e99 }' >"$dir/bad17.json"
    echo '{ "kernel": "/a", "mem": "2 parsecs" }' >"$dir/bad18.json"
    echo '{ "kernel": "/a", "mem": {} }' >"$dir/bad19.json"
    echo '{ "kernel": "/a", "volumes": [ 7 ] }' >"$dir/bad20.json"
    echo '{ "kernel": "/a", "volumes": [ { "size": 5 } ] }' >"$dir/bad21.json"
    echo '{ "kernel": "/a", "driver": "magic" }' >"$dir/bad22.json"
    echo '{ "kernel": "/a", "restart": { "policy": "maybe" } }' >"$dir/bad23.json"
    echo '{ "kernel": "/a" } x' >"$dir/bad24.json"
    echo '{ "kernel": "/a\u0000b" }' >"$dir/bad25.json"
    echo '{ "kernel": "/a", "interfaces": [ { "type": "user", "mac": "zz" } ] }' >"$dir/bad26.json"
    echo '{ "kernel": "/a", "machineId": "not an id" }' >"$dir/bad27.json"
    echo '{ "kernel": "relative" }' >"$dir/bad28.json"
    echo '{ "mem": 96 }' >"$dir/bad29.json"
    echo '{ "kernel": "/a" }' >"$dir/bad..30.json"
    for i in "$dir"/bad*; do [ -e "$i" ] || [ -L "$i" ]; done
}

test_broken()
{
    local web cursor i
    web=$(run_of web)
    broken_definitions "$VMS"
    define good count '"autostart": false'
    cursor=$(mark)
    host timeout 180 microvmctl reload
    ctl start good
    is good State running
    for i in $(seq -w 1 29); do
        if [ "$(since "$cursor" -u microvmd.service | grep -c "bad$i\.json")" -lt 1 ]; then
            echo "bad$i.json is not named"
            exit 1
        fi
    done
    since "$cursor" -u microvmd.service | grep 'bad\.\.30'
    # What a file has wrong is told with its place.
    since "$cursor" -u microvmd.service | grep 'bad04\.json' | grep kernal
    [ "$(run_of web)" = "$web" ]
    # Told once: a reload that finds the same says nothing again.
    cursor=$(mark)
    ctl reload
    [ "$(since "$cursor" -u microvmd.service | grep -c 'bad04\.json')" -le 1 ]
    # A daemon that starts with them: as well.
    daemon_restart
    is good State running
    [ "$(run_of web)" = "$web" ]
    exits 1 host microvmd --check
    rm -rf "$VMS"/bad*
    ctl stop --force good
    rm "$VMS/good.json"
    ctl reload
    host microvmd --check
}
tap "30 broken definitions do not disturb the good one" test_broken

test_guest_mode()
{
    local web
    web=$(run_of web)
    echo '{ "microvm": { "guest": { "enable": true }, "stateDir": "ignored" } }' >"$HOST_ROOT/etc/microvmd/host.json"
    # Turned guest while it runs: the reload is refused, microVMs stay, nothing new starts.
    not host systemctl reload microvmd.service
    host busctl --system get-property org.microvm1 /org/microvm1 org.microvm1.Manager HostRole | grep conflict
    [ "$(run_of web)" = "$web" ]
    exits 1 ctl start byhand
    is byhand State inactive
    # And the next start is refused, for good.
    not host systemctl restart microvmd.service
    [ "$(host systemctl show -P ExecMainStatus microvmd.service)" = 78 ]
    service_failed() { [ "$(host systemctl show -P ActiveState microvmd.service)" = failed ]; }
    holds 3 service_failed
    [ "$(host systemctl show -P NRestarts microvmd.service)" = 0 ]
    not host busctl --system status org.microvm1
    alive "${web% *}"
    exits 78 host microvmd --check
    exits 69 ctl list 2>&1 | grep -i guest
    # (Not by its unit: of a process that has ended, the journal may have missed what unit it was of.)
    host_journal -t microvmd | grep /etc/microvmd/host.json
    host_journal -t microvmd | grep /microvm/guest/enable
    # Mended: all is as it was.
    rm "$HOST_ROOT/etc/microvmd/host.json"
    host systemctl reset-failed microvmd.service
    daemon_start
    [ "$(run_of web)" = "$web" ]
    is web State running
}
tap "a guest-mode host is refused with 78, and systemd does not retry" test_guest_mode

test_activation()
{
    host systemctl stop microvmd.service
    # Not enabled: D-Bus can't start it, and microvmctl says what is the matter.
    not host busctl --system call org.microvm1 /org/microvm1 org.freedesktop.DBus.Peer Ping
    exits 69 ctl list
    host systemctl enable microvmd.service
    exits 69 ctl list
    host busctl --system call org.microvm1 /org/microvm1 org.freedesktop.DBus.Peer Ping
    wait_for 60 host systemctl is-active microvmd.service # it has its name a moment before it is ready
    wait_for 180 drivers_answer
    is web State running
    host systemctl disable microvmd.service
}
tap "D-Bus activation works only while the service is enabled" test_activation

test_all_stop()
{
    ctl leaks
    ctl stop --all
    ctl leaks
    is web State inactive
    is fragile State inactive
    [ -z "$(host virsh -c qemu:///system list --name | tr -d '\n')" ]
    # As at a shutdown, which there is not: systemd knows better, also after it was executed anew.
    host systemctl daemon-reexec
    ctl start byhand
    ctl stop --all --host-shutdown
    wait_for 60 ctl start byhand
    ctl stop --force byhand
    host systemctl stop microvmd.service
    [ "$(host systemctl show -P ActiveState microvmd.service)" = inactive ]
}
tap "stop --all, and a clean stop of the service" test_all_stop

tap_end
