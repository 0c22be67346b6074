#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A host goes down with microVMs running, and libvirt-guests enabled; and comes up again.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

host_make || tap_bail "no throwaway host"
microvmd_install
VOLUME=$HOST_ROOT/var/lib/microvmd/vm/writer/data.img
define writer slowstop=4 '"volumes": [ { "image": "data.img", "size": 32 } ]'
define always count '"restart": { "policy": "always", "delay": "100ms" }'
define deaf ignore-button '"stop": { "timeout": 6 }, "restart": { "policy": "always", "delay": "100ms" }'
define off count
define direct count '"driver": "direct", "restart": { "policy": "always", "delay": "100ms" }'
define front count '"driver": "direct", "requires": ["direct"], "after": ["direct"]'
systemctl --quiet --root="$HOST_ROOT" enable libvirt-guests.service microvmd.service
host_boot || tap_bail "the throwaway host does not boot"

test_boot()
{
    local name
    for name in microvmd.service microvmd-shutdown.service libvirt-guests.service virt-guest-shutdown.target; do
        host systemctl is-active "$name"
    done
    for name in writer always deaf off direct front; do
        wait_for 180 guest_said "$name" 'microvm-guest: ready'
    done
    # What was stopped by hand in this boot has nothing to do with the next.
    ctl stop --force off
    is off State inactive
}
tap "enabled: microVMs start with the host" test_boot

test_order()
{
    local unit after
    after=" $(host systemctl show -P After microvmd-shutdown.service) "
    for unit in microvmd.service libvirt-guests.service libvirtd.service libvirtd.socket virtlogd.socket \
        systemd-machined.service dbus.service virt-guest-shutdown.target machine.slice; do
        case $after in
        *" $unit "*) ;;
        *) echo "not after $unit" && exit 1 ;;
        esac
    done
    not host systemctl stop microvmd-shutdown.service
    is always State running
}
tap "the shutdown unit goes first, and can't be stopped by hand" test_order

journal() { journalctl --directory="$HOST_ROOT/var/log/journal" --quiet --no-pager "$@"; }

# Here, and not in the test's subshell: it is our child.
host_poweroff 240
tap "the host powers off in time" test $? = 0
host_is_off || tap_bail "the host is still up"

test_finished()
{
    debugfs -R 'cat /slowstop' "$VOLUME"
    [ "$(debugfs -R 'cat /slowstop' "$VOLUME" 2>/dev/null | tail -n 1)" = "stopped cleanly" ]
    [ "$(debugfs -R 'cat /slowstop' "$VOLUME" 2>/dev/null | grep -c 'stopping 4 of 4')" = 1 ]
    # Unmounted by the guest, so there is nothing to be recovered.
    not grep needs_recovery <(dumpe2fs -h "$VOLUME" 2>/dev/null)
}
tap "the shutdown waits for a guest that finishes its writing" test_finished

test_none_started()
{
    local begun
    begun=$(journal -o short-unix UNIT=microvmd-shutdown.service | sed -n 's/^\([0-9.]*\) .*Stopping .*/\1/p' | tail -n 1)
    [ -n "$begun" ]
    # Nothing was started once the shutdown had begun, whatever its restart policy.
    [ -z "$(journal --since="@$begun" MICROVM_STATE=starting + MICROVM_STATE=preparing + MICROVM_STATE=backoff)" ]
    journal --since="@$begun" -o cat MICROVM_NAME=writer
    # A guest whose hypervisor is a unit of ours was asked, too, before systemd came to that unit.
    journal --since="@$begun" -o cat MICROVM_NAME=direct | grep 'stopped: the guest shut itself down'
    # Who comes after it at a start was gone by then.
    [ "$(journal --since="@$begun" -o cat MICROVM_NAME=front + MICROVM_NAME=direct |
        sed -n 's/^\([a-z]*: [a-z]* → [a-z]*\):.*/\1/p' | tr '\n' ',')" = \
        'front: running → stopping,front: stopping → inactive,direct: running → stopping,direct: stopping → inactive,' ]
    journal --since="@$begun" -o cat MICROVM_NAME=front | grep 'stopped: the guest shut itself down'
    # Who asked for it was nobody but the host.
    journal --since="@$begun" -o cat MICROVM_NAME=writer MICROVM_ASKED_BY=shutdown |
        grep 'stop because the host is shutting down, by microvmd-shutdown.service'
    journal --since="@$begun" -o cat MICROVM_NAME=direct MICROVM_STATE=stopping | grep 'the host is shutting down; the guest is asked'
    [ -z "$(journal --since="@$begun" MICROVM_ASKED_BY=caller)" ]
    # It was we who stopped them, not libvirt-guests.
    [ -z "$(journal -o cat -u libvirt-guests.service --since="@$begun" | grep -iE 'starting shutdown on guest|suspending')" ]
    # Who was cut off is said by name, and nobody else.
    [ "$(journal -o cat --since="@$begun" SYSLOG_IDENTIFIER=microvmctl | grep 'was ended by force')" = \
        'deaf did not shut down in time and was ended by force.' ]
    # The unit ended well, in its own time.
    [ -z "$(journal -o cat UNIT=microvmd-shutdown.service --since="@$begun" | grep -iE 'failed|timed out')" ]
}
tap "nothing is started or restarted meanwhile" test_none_started

host_boot || tap_bail "the throwaway host does not boot again"

test_again()
{
    local name
    for name in writer always deaf off direct front; do
        wait_for 180 is "$name" State running
    done
    wait_for 60 guest_said writer 'microvm-guest: ready'
    is writer NRestarts 0
}
tap "autostart acts again at the next boot" test_again

test_logs()
{
    # This boot of the guest, and the one before.
    ctl logs writer | grep 'microvm-guest: ready'
    ctl logs --boot=-1 writer | grep 'stopping 4 of 4'
}
tap "the log of the guest's run before is kept" test_logs

tap_end
