#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Two die at once: what goes on is adopted, what has ended is started again, and nothing is left. One table for both drivers.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

host_make || tap_bail "no throwaway host"
microvmd_install
tiny_install
never_give_up libvirtd
for driver in direct libvirt; do
    cat >"$VMS/$driver.json" <<END
{ "kernel": "/boot/tiny", "mem": 16, "accel": "tcg", "driver": "$driver", "autostart": false,
  "restart": { "delay": "100ms", "factor": 1, "startLimit": 0 },
  "readiness": { "type": "command", "command": ["/bin/sh", "-c", "sleep 1000; true"], "timeout": "500ms" } }
END
    sed 's/"restart".*/"restart": { "policy": "no" },/' "$VMS/$driver.json" >"$VMS/once$driver.json"
done
systemctl --quiet --root="$HOST_ROOT" enable microvmd.service
host_boot || tap_bail "the throwaway host does not boot"

main_pid() { host systemctl show -P MainPID "$1.service"; }
handle_is() { [ "$(host systemctl show -P ActiveState "microvmd@$1.service")" = "$2" ]; }
# Its readiness program; and what that has started.
helpers()
{
    # shellcheck disable=SC2016  # for the shell in there
    host sh -c 'for pid in $(pgrep -f "sleep 1000"); do ! grep -qz "^MICROVM_NAME=$0\$" /proc/$pid/environ || echo $pid; done' "$1" 2>/dev/null
}

# pid_of WHAT NAME
pid_of()
{
    case $1 in
    daemon) main_pid microvmd ;;
    libvirtd) main_pid libvirtd ;;
    hypervisor) prop "$2" MainPID ;;
    handle) main_pid "microvmd@$2" ;;
    helper) helpers "$2" ;;
    esac
}

# All there, and of this daemon.
at_rest() { is "$1" State running && is "$1" DriverOnline true && handle_is "$1" active && [ "$(helpers "$1" | wc -l)" = 2 ]; }
no_leaks() { [ "$(ctl leaks)" = 'Nothing is left over.' ]; }

# die NAME ONE OTHER
die()
{
    local name=$1 run pids restarts
    wait_for 60 at_rest "$name"
    run=$(run_of "$name")
    restarts=$(prop "$name" NRestarts)
    pids=$(pid_of "$2" "$name"; pid_of "$3" "$name")
    # shellcheck disable=SC2086  # these are several
    host kill -KILL $pids || : # the death of the first may already have ended the others
    case " $2 $3 " in
    *" hypervisor "*)
        wait_for 60 differs "$name" MainPID "${run% *}"
        wait_for 60 at_rest "$name"
        differs "$name" Generation "${run#* }"
        [ "$(prop "$name" NRestarts)" = $((restarts + 1)) ]
        not alive "${run% *}"
        ;;
    *)
        wait_for 60 at_rest "$name"
        holds 1 at_rest "$name"
        [ "$(run_of "$name")" = "$run" ]
        ;;
    esac
    wait_for 60 not host ps -o pid= -p "${pids//$'\n'/,}"
    wait_for 60 no_leaks
}

ctl start direct libvirt
for pair in 'daemon libvirtd' 'daemon hypervisor' 'libvirtd hypervisor' 'daemon handle' 'hypervisor handle' 'daemon helper' \
    'hypervisor helper'; do
    for driver in direct libvirt; do
        # shellcheck disable=SC2086  # these are two
        tap "$driver: ${pair/ / and } die at once" die "$driver" $pair
    done
done

# What its policy does not bring back, nobody does: not the handle, which systemd starts again, and not the next daemon.
die_for_good()
{
    local name=once$1 pid victim victims=
    shift
    ctl start "$name"
    wait_for 60 at_rest "$name"
    pid=$(prop "$name" MainPID)
    for victim; do victims="$victims $(pid_of "$victim" "$name")"; done
    # shellcheck disable=SC2086  # these are several
    host kill -KILL "$pid" $victims || :
    # One that was killed with it either comes again, to fail, or was told to stop before.
    failed() { is "$name" State failed && { handle_is "$name" failed || { [ "$1" = handle ] && handle_is "$name" inactive; }; }; }
    wait_for 60 failed "$1"
    holds 2 failed "$1"
    not alive "$pid"
    wait_for 60 no_leaks
    ctl reset-failed "$name"
}
for driver in direct libvirt; do
    tap "$driver: what is not to restart does not, hypervisor and handle" die_for_good "$driver" handle
    tap "$driver: what is not to restart does not, hypervisor and daemon" die_for_good "$driver" daemon
    tap "$driver: what is not to restart does not, hypervisor, handle and daemon" die_for_good "$driver" handle daemon
done

# Between the start of its unit and the hypervisor: held there by its control group.
die_at_launch()
{
    local slice=/sys/fs/cgroup/microvmd.slice/cgroup.freeze launched
    ctl start oncelibvirt # so that there is the group
    ctl stop --force direct
    host sh -c "echo 1 >$slice"
    ctl start --no-block direct
    launched() { [ "$(main_pid microvmd-vm@direct)" != 0 ]; }
    wait_for 60 launched
    host kill -KILL "$(main_pid microvmd-vm@direct)" "$(main_pid microvmd)"
    host sh -c "echo 0 >$slice"
    wait_for 60 at_rest direct
    wait_for 60 no_leaks
}
tap "direct: daemon and microvmd-exec die at once" die_at_launch

stop_all()
{
    ctl stop --force --all
    wait_for 60 no_leaks
    wait_for 60 not host pgrep -f 'sleep 1000'
    wait_for 60 not host pgrep qemu-system
}
tap "and all can be stopped" stop_all

tap_end
