#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The sandbox of a hypervisor, as a real systemd makes it of the properties that microvmd gives it: what a program in the
# hypervisor's place can do in there, and that it can do it where a part of the sandbox is switched off.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

UNIT=$BUILD/tests/bench-unit
PROBE=/usr/local/bin/sandbox-probe
RUN_DIR=/run/microvmd/vm/web
LOG=/var/lib/microvmd/vm/web/console.log
VM_UID=1900000007

host_make || tap_bail "no throwaway host"
microvmd_install
DIRECT='"autostart": false, "driver": "direct", "restart": { "policy": "no" }'
define own count "$DIRECT"
define limited count "$DIRECT, \"vcpu\": 2, \"limits\": { \"cpuQuota\": \"150%\", \"cpuAffinity\": \"0\", \"memoryMax\": \"700M\", \"ioWeight\": 50, \"tasksMax\": 90 }"
define loose count "$DIRECT, \"sandbox\": { \"network\": false }"
define shared count "$DIRECT, \"shares\": [{ \"proto\": \"9p\", \"tag\": \"a\", \"source\": \"/srv/share\" }], \"qemu\": { \"machine\": \"q35\" }"
# Where programs are: what is not there is mounted where it is.
install -D "$BUILD/tests/sandbox-probe" "$HOST_ROOT$PROBE" || tap_bail "there is no $BUILD/tests/sandbox-probe"
host_boot || tap_bail "the throwaway host does not boot"

# What microvmd prepares for one, and what belongs to others.
host bash -c "
    mkdir -p $RUN_DIR /run/microvmd/vm/db /var/lib/microvmd/vm/{web,db} /srv/share /srv/closed /run/definitions
    chmod 755 /run/microvmd /run/microvmd/vm
    cat >$RUN_DIR/kernel; chown $VM_UID:$VM_UID $RUN_DIR/kernel; chmod 400 $RUN_DIR/kernel
    : >$LOG; chown $VM_UID:$VM_UID $LOG
    echo secret >/var/lib/microvmd/vm/db/disk.img
    echo secret >/run/microvmd/vm/db/kernel
    echo secret | tee /srv/foreign.img /dev/shm/foreign /tmp/foreign /srv/share/file /etc/foreign >/dev/null
    chmod 777 /srv/share" <"$GUEST/vmlinuz"
host bash -c "cat >$RUN_DIR/initrd; chown $VM_UID:$VM_UID $RUN_DIR/initrd" <"$GUEST/initrd"
host systemd-run --quiet --unit=listener --property=Type=exec python3 -c '
import socket, time
sockets = [socket.socket(socket.AF_INET), socket.socket(socket.AF_UNIX)]
sockets[0].bind(("127.0.0.1", 4711))
sockets[1].bind("\0microvmd-test")
for each in sockets:
    each.listen(9)
time.sleep(1e6)'
hears() { host bash -c "exec 3<>/dev/tcp/127.0.0.1/$1"; }
wait_for 60 hears 4711 || tap_bail "nobody listens"
SHM=$(host ipcmk -M 4096 -p 0666 | sed 's/.*: //')
[ -n "$SHM" ] || tap_bail "no shared memory"

# definition NAME MORE: further members
definition()
{
    host bash -c "cat >/run/definitions/$1.json" <<<"{ \"kernel\": \"/boot/k\", \"mem\": 96, \"driver\": \"direct\", ${2:-} }"
}
definition plain
definition user '"interfaces": ["user"], "forwardPorts": [{ "host": { "port": 4712 }, "guest": { "port": 80 } }]'
definition share '"shares": [{ "proto": "9p", "tag": "a", "source": "/srv/share" }]'
definition readonly '"shares": [{ "proto": "9p", "tag": "a", "source": "/srv/share", "readOnly": true }]'
definition gone '"shares": [{ "proto": "9p", "tag": "a", "source": "/srv/nothing" }]'
for part in filesystem devices network kernel systemCalls; do
    definition "no-$part" "\"sandbox\": { \"$part\": false }"
done

# probe DEFINITION DEED OBJECT...: what it says
probe()
{
    local definition=$1
    shift
    host "$UNIT" run "probe-$definition.service" "$VM_UID" "$RUN_DIR" "$LOG" "/run/definitions/$definition.json" "$PROBE" "$@" 2>&1 | cat
}
# can DEFINITION DEED OBJECT, and the contrary, whatever the reason
can() { probe "$@" | tee /dev/stderr | grep -x "$2 $3: yes"; }
cannot()
{
    local said
    said=$(probe "$@" | tee /dev/stderr)
    grep "^$2 $3: " <<<"$said" && not grep ': yes$' <<<"$said"
}

test_own()
{
    local said
    said=$(probe plain read $RUN_DIR/kernel append $LOG read /usr/bin/env read /dev/urandom device /dev/null read /proc/self/status)
    echo "$said"
    [ "$(grep -c ': yes$' <<<"$said")" = 6 ]
}
tap "it can read its kernel, its program and its libraries, and write its log" test_own

test_files()
{
    local path
    for path in /etc/shadow /etc/passwd /etc/foreign /var/lib/microvmd/vm/db/disk.img /run/microvmd/vm/db/kernel /srv/foreign.img \
        /tmp/foreign /dev/shm/foreign /proc/1/cmdline /proc/cpuinfo /sys/kernel/mm/transparent_hugepage/enabled /run/definitions/plain.json; do
        cannot plain read $path
    done
    for path in /srv /home /sys /dev/shm /root /var/lib/microvmd/vm/db /run/microvmd/vm/db; do
        cannot plain list $path
    done
}
tap "it can't read what is others', were it readable for everybody" test_files

test_writes()
{
    local path
    for path in / /usr /run $RUN_DIR /tmp /var/tmp /var/lib/microvmd/vm/web /dev /dev/shm /etc; do
        cannot plain create $path
    done
    cannot plain append $RUN_DIR/kernel
}
tap "it can't write anywhere but into its log" test_writes

test_reach()
{
    cannot plain connect /run/dbus/system_bus_socket
    cannot plain connect @microvmd-test
    cannot plain tcp 4711
    cannot plain netlink -
    can user tcp 4711
    cannot user connect /run/dbus/system_bus_socket
    cannot user connect @microvmd-test
    cannot user netlink -
}
tap "it reaches neither the system bus nor the network; with user networking IP, and nothing else" test_reach

test_kernel()
{
    local deed path
    for deed in namespace mount io_uring keyring root log; do
        cannot plain $deed -
    done
    for path in /proc/sys/kernel/ostype /proc/kallsyms /proc/kmsg /dev/kmsg /sys/fs/cgroup/cgroup.procs; do
        cannot plain read $path
    done
    cannot plain shm "$SHM"
    cannot plain device /dev/net/tun
    cannot plain device /dev/kvm
}
probe_kvm()
{
    host env MICROVMD_BENCH_ACCEL=kvm "$UNIT" run probe-kvm.service "$VM_UID" "$RUN_DIR" "$LOG" /run/definitions/plain.json "$PROBE" "$@" 2>&1 | cat
}
# The node that hypervisors get for it, as the package has it made.
NODE=/dev/microvmd/kvm
make_node() { host systemd-tmpfiles --create microvmd.conf && host test -c $NODE; }
test_kvm()
{
    [ "$(host stat -c %a:%g /dev/kvm)" != 666:0 ]
    probe_kvm device /dev/kvm | tee /dev/stderr | grep -x 'device /dev/kvm: yes'
    probe_kvm device /dev/net/tun | tee /dev/stderr | grep -x 'device /dev/net/tun: No such file or directory'
    probe_kvm device $NODE | tee /dev/stderr | grep -x "device $NODE: No such file or directory"
}
test_kvm_by_node()
{
    make_node
    [ "$(host stat -c %a:%U /dev/microvmd)" = 700:root ]
    test_kvm
}
# Without it there is the group of /dev/kvm, though that is none of the user name space of the unit.
test_kvm_by_group()
{
    host rm $NODE
    test_kvm
    make_node
}
test_code()
{
    can plain code - # TCG does that
    probe_kvm code - | tee /dev/stderr | grep -x 'code -: Operation not permitted'
}
tap "system calls and devices that it has no need of are out of reach" test_kernel
host bash -c 'rm -f /dev/kvm; mknod /dev/kvm c 10 232 && chown root:kvm /dev/kvm && chmod 660 /dev/kvm'
tap "under KVM it can open /dev/kvm, and no other device" test_kvm_by_node
tap "the same where only its group lets it" test_kvm_by_group
tap "under KVM it can't write the code that it runs" test_code

test_shares()
{
    can share read /srv/share/file
    can share create /srv/share
    cannot share read /srv/foreign.img
    can readonly read /srv/share/file
    cannot readonly create /srv/share
    can gone read $RUN_DIR/kernel
}
tap "a share by 9p is there, writable or not; one that is gone is QEMU's to tell" test_shares

# Each of the above can fail: with a part switched off it can be done.
test_loosened()
{
    can no-filesystem read /srv/foreign.img
    can no-filesystem read /tmp/foreign
    can no-filesystem append $LOG
    can no-filesystem create /srv/share
    cannot no-filesystem read /etc/shadow
    cannot no-filesystem tcp 4711
    can no-network tcp 4711
    can no-network connect @microvmd-test
    can no-network netlink -
    cannot no-network read /srv/foreign.img
    can no-devices device /dev/net/tun
    can no-kernel shm "$SHM"
    can no-systemCalls io_uring -
    can no-systemCalls namespace -
    cannot no-systemCalls root -
}
tap "each part of the sandbox can be switched off, and takes nothing else along" test_loosened

# test_score DEFINITION [ACCEL]: at most 1.0
test_score()
{
    local definition=$1
    host env MICROVMD_BENCH_ACCEL="${2:-tcg}" "$UNIT" run score.service "$VM_UID" "$RUN_DIR" "$LOG" "/run/definitions/$definition.json" /usr/bin/sleep 1000
    host systemd-analyze security --no-pager --threshold=10 score.service
    host systemctl stop score.service
}
tap "systemd-analyze security: at most 1.0" test_score plain
tap "the same with user networking" test_score user
tap "the same under KVM" test_score plain kvm
tap "the same with user networking under KVM" test_score user kvm

# qemu DEFINITION [ARG...]: boots the guest
qemu()
{
    local definition=$1
    shift
    host "$UNIT" run qemu.service "$VM_UID" "$RUN_DIR" "$LOG" "/run/definitions/$definition.json" \
        /usr/bin/qemu-system-x86_64 -no-user-config -nodefaults -display none -no-reboot \
        -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -machine microvm,accel=tcg,acpi=on -m 96M \
        -kernel $RUN_DIR/kernel -initrd $RUN_DIR/initrd -append 'console=ttyS0 reboot=t panic=-1 tsc_early_khz=2000000' \
        -chardev null,id=console,logappend=on,logfile=$LOG -serial chardev:console \
        -object rng-builtin,id=entropy -device virtio-rng-device,rng=entropy "$@"
}
test_boots()
{
    qemu plain
    wait_for 180 host grep -q 'microvm-guest: ready' $LOG
    host systemctl stop qemu.service
}
tap "QEMU boots a guest in there" test_boots

test_network()
{
    host truncate --size=0 $LOG
    qemu user -netdev user,id=net0,hostfwd=tcp:127.0.0.1:4712-:80 -device virtio-net-device,netdev=net0
    wait_for 60 hears 4712 || { host systemctl status --no-pager qemu.service; false; }
    wait_for 180 host grep -q 'microvm-guest: ready' $LOG
    host systemctl stop qemu.service
}
tap "QEMU's user networking works in there" test_network

# --- by microvmd itself

daemon_start || tap_bail "microvmd does not start"
security() { host systemd-analyze security --no-pager --threshold=10 "microvmd-vm@$1.service"; }

test_microvmd()
{
    ctl start own
    wait_for 180 guest_said own 'count 1'
    security own
    [ -z "$(ctl status own | sed -n '/Sandbox/p')" ]
    [ "$(host find "/proc/$(prop own MainPID)/root/" -maxdepth 1 -name usr -o -maxdepth 2 -path '*/srv/*' | wc -l)" = 1 ]
    ctl kill -s KILL own
    wait_for 60 is own State failed
    # Nothing in the one root directory tells of it.
    [ -z "$(host find /run/microvmd/root -mindepth 2 -not -path '*/etc/*')" ]
    ctl start shared
    wait_for 180 guest_said shared 'count 1'
    ctl stop --force shared
}
tap "microvmd's own units have the sandbox" test_microvmd

test_status()
{
    ctl start loose
    ctl status loose | grep 'Sandbox: loosened: network'
    host busctl --system get-property org.microvm1 /org/microvm1/vm/loose org.microvm1.MicroVM Loosened | grep -x 'as 1 "network"'
    ctl stop --force loose
}
tap "status says what is loosened" test_status

value() { host systemctl show -P "$1" microvmd-vm@limited.service; }
test_limits()
{
    ctl start limited
    [ "$(value CPUQuotaPerSecUSec)" = 1.500000s ]
    [ "$(value MemoryMax)" = $((700 * 1048576)) ]
    [ "$(value TasksMax)" = 90 ]
    [ "$(value IOWeight)" = 50 ]
    [ "$(value CPUAffinity)" = 0 ]
    host grep -x 'Cpus_allowed_list:.0' "/proc/$(prop limited MainPID)/status"
    ctl stop --force limited
}
tap "limits are those of its unit" test_limits

# The same launcher, and another program where it finds the hypervisor.
test_in_its_place()
{
    local said
    host bash -c 'mkdir -p /usr/local/probe /run/systemd/system/microvmd.service.d
        cp /usr/local/bin/sandbox-probe /usr/local/probe/qemu-system-x86_64
        printf "%s\n" "read /etc/shadow" "read /var/lib/microvmd/vm/db/disk.img" "read /srv/foreign.img" "tcp 4711" \
            "connect /run/dbus/system_bus_socket" "connect @microvmd-test" "root -" "read /run/microvmd/vm/own/kernel" >/usr/local/probe/deeds
        printf "[Service]\nEnvironment=PATH=/usr/local/probe:/usr/bin:/usr/sbin\n" >/run/systemd/system/microvmd.service.d/probe.conf
        systemctl daemon-reload; systemctl restart microvmd'
    exits 1 ctl start own
    said=$(host cat /var/lib/microvmd/vm/own/hypervisor.log)
    echo "$said"
    [ "$(wc -l <<<"$said")" = 8 ]
    [ "$(grep ': yes$' <<<"$said")" = "read /run/microvmd/vm/own/kernel: yes" ]
}
tap "a program in the hypervisor's place, through microvmd: it can't, either" test_in_its_place

tap_end
