#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The throwaway host: a real systemd with journald, system bus, polkit, libvirtd, virtlogd and machined, booted by
# systemd-nspawn from an overlay of the running root file system. The outer machine is left as it was.
#
#   host.sh run CMD...   boots one, runs CMD in it, powers it off; without CMD a shell
#   . host.sh            for suites: see the functions below. The script is executed again in a mount namespace of
#                        its own, so that nothing stays mounted, however it ends.
#
# Needs root, systemd-container, dbus, polkitd, libvirt-daemon-system, qemu-system-x86.

if [ "${MICROVMD_HOST_NS:-}" != $$ ]; then
    [ "$(id -u)" = 0 ] || { echo "the throwaway host needs root" >&2; exit 1; }
    # exec keeps the pid, unshare too: that is how the second round knows itself.
    MICROVMD_HOST_NS=$$ exec unshare --mount --propagation private "$BASH" "$0" "$@"
fi

HOST_TOP=$(mktemp -d "${TMPDIR:-/tmp}/microvmd-host.XXXXXX")
HOST_ROOT=$HOST_TOP/root      # the throwaway host's /, also when it is off
HOST_NSPAWN=                  # pid of systemd-nspawn
HOST_LEADER=                  # pid of the inner PID 1, as seen here
HOST_CGROUP=                  # its control group, where there is no systemd to make one
HOST_MASKED="tmp.mount apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
    man-db.timer logrotate.timer systemd-timesyncd.service systemd-networkd.service systemd-networkd.socket
    systemd-resolved.service systemd-udevd.service systemd-udev-trigger.service networking.service
    e2scrub_reap.service postgresql.service ssh.service cron.service getty.target console-getty.service
    systemd-tpm2-setup.service systemd-tpm2-setup-early.service systemd-binfmt.service
    systemd-journal-catalog-update.service systemd-update-utmp.service systemd-firstboot.service
    ldconfig.service systemd-sysext.service unattended-upgrades.service apparmor.service
    microvmd.service microvmd-shutdown.service"

# wait_for SECONDS CMD...: until CMD succeeds
wait_for()
{
    # (Not in the trace of a test: it would be all that is seen of it.)
    { local -; set +x; } 2>/dev/null
    local deadline=$((SECONDS + $1)) tries=0
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || { echo "gave up waiting for: $*" >&2; return 1; }
        # Less often when it takes long: what is waited for has the same processors.
        tries=$((tries + 1))
        sleep 0.$((tries > 10 ? 4 : 1))
    done
}

# Makes the root directory; nothing runs yet. Files can be put into $HOST_ROOT.
host_make()
{
    mount -t tmpfs -o mode=755 microvmd-host "$HOST_TOP" || return
    mkdir "$HOST_TOP"/{upper,work,root}
    # nspawn keeps something here about each machine, and not always takes it away.
    mkdir -p /run/systemd/nspawn
    mount -t tmpfs -o mode=755 microvmd-nspawn /run/systemd/nspawn || return
    mount -t overlay -o "lowerdir=/,upperdir=$HOST_TOP/upper,workdir=$HOST_TOP/work" overlay "$HOST_ROOT" || return
    # An overlay of / does not show what is mounted below it; these matter, and the file system of this tree.
    local dir n=0
    for dir in /usr /var "$(df --output=target "$(dirname "${BASH_SOURCE[0]}")" | tail -n 1)"; do
        if [ "$dir" = / ] || ! mountpoint -q "$dir" || mountpoint -q "$HOST_ROOT$dir"; then continue; fi
        n=$((n + 1))
        mkdir "$HOST_TOP/upper$n" "$HOST_TOP/work$n"
        mount -t overlay -o "lowerdir=$dir,upperdir=$HOST_TOP/upper$n,workdir=$HOST_TOP/work$n" overlay \
            "$HOST_ROOT$dir" || return
    done
    local units=$HOST_ROOT/etc/systemd/system unit
    for unit in $HOST_MASKED; do
        case $unit in
        microvmd*) rm -f "$units/$unit" "$units"/*.wants/"$unit" "$units/dbus-org.microvm1.service" ;;
        *) ln -sfn /dev/null "$units/$unit" ;;
        esac
    done
    # Nothing of the outer machine's state: containers get their own identity, mounts, microVMs and guests.
    rm -rf "$HOST_ROOT"/etc/microvmd "$HOST_ROOT"/var/lib/microvmd "$HOST_ROOT"/etc/libvirt/qemu/*.xml \
        "$HOST_ROOT"/etc/libvirt/qemu/autostart "$HOST_ROOT"/var/lib/libvirt/qemu/domain-* \
        "$HOST_ROOT"/var/log/journal
    mkdir -p "$HOST_ROOT/var/log/journal"
    : >"$HOST_ROOT/etc/fstab"
    # /tmp is what it is outside, not emptied at boot: this tree may be in it.
    mkdir -p "$HOST_ROOT/etc/tmpfiles.d"
    ln -sfn /dev/null "$HOST_ROOT/etc/tmpfiles.d/tmp.conf"
    tr -d - </proc/sys/kernel/random/uuid >"$HOST_ROOT/etc/machine-id"
    rm -f "$HOST_ROOT/usr/sbin/policy-rc.d"
    for unit in libvirtd.service libvirtd.socket libvirtd-ro.socket virtlogd.socket; do
        systemctl --quiet --root="$HOST_ROOT" enable "$unit" || return
    done
    systemctl --quiet --root="$HOST_ROOT" disable libvirt-guests.service 2>/dev/null
    systemctl --quiet --root="$HOST_ROOT" set-default multi-user.target
    # A host has a name of its own and no cause to wait for names of others.
    echo throwaway >"$HOST_ROOT/etc/hostname"
    printf '127.0.0.1 localhost throwaway\n' >"$HOST_ROOT/etc/hosts"
}

host_is_up()
{
    HOST_LEADER=$(pgrep -P "$HOST_NSPAWN" 2>/dev/null | head -n 1)
    [ -n "$HOST_LEADER" ] && nsenter -t "$HOST_LEADER" -m -p -r test -S /run/systemd/private 2>/dev/null
}

# Two that run at the same time would otherwise have their services, which have the same names, in the same groups.
host_cgroup_make()
{
    local top
    top=$(findmnt --noheadings --types cgroup2 --output TARGET | head -n 1)
    HOST_CGROUP=$top$(sed -n 's/^0:://p' /proc/self/cgroup)
    HOST_CGROUP=${HOST_CGROUP%/}/microvmd-host-$$
    mkdir -p "$HOST_CGROUP"
}

# Switches it on and waits until its boot is complete.
host_boot()
{
    local unit=()
    # Where systemd is PID 1 nspawn gets a scope of its own from it; elsewhere it stays where it is.
    if [ ! -d /run/systemd/system ]; then
        unit=(--keep-unit)
        host_cgroup_make || return
    fi
    # With this script the host goes as well, even when it is killed.
    (
        [ -z "$HOST_CGROUP" ] || echo 0 >"$HOST_CGROUP/cgroup.procs" || exit
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_TMPFS_TMP=0 exec setpriv --pdeathsig KILL systemd-nspawn --quiet \
            --boot --register=no "${unit[@]}" --private-network --directory="$HOST_ROOT" --machine=throwaway-$$ \
            --hostname=throwaway --resolv-conf=off --timezone=off --link-journal=no --console=pipe
    ) </dev/null >>"$HOST_TOP/console.log" 2>&1 &
    HOST_NSPAWN=$!
    wait_for 120 host_is_up || { echo "the throwaway host does not come up:" >&2; cat "$HOST_TOP/console.log" >&2; return 1; }
    # "degraded" is up as well; a suite looks at what it needs.
    host timeout 300 systemctl is-system-running --wait >/dev/null
    host systemctl is-active --quiet dbus.service multi-user.target
}

# Runs a command in it, as root, with its own environment. (-r: in a chroot nspawn has no root to pivot from.)
host()
{
    { local -; set +x; } 2>/dev/null
    nsenter -t "$HOST_LEADER" -a -r -w -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LANG=C.UTF-8 TERM=dumb "$@"
}

# host_user NAME CMD...: as that user
host_user()
{
    local user=$1
    shift
    host runuser -u "$user" -- "$@"
}

host_is_off()
{
    [ -z "$HOST_NSPAWN" ] || [ ! -e "/proc/$HOST_NSPAWN/stat" ] ||
        [ "$(sed 's/.*) \(.\).*/\1/' "/proc/$HOST_NSPAWN/stat" 2>/dev/null)" = Z ]
}

# As the power button of a host: an orderly shutdown. The argument is how long it may take.
host_poweroff()
{
    host systemctl poweroff --no-wall >/dev/null 2>&1
    wait_for "${1:-60}" host_is_off || return 1
    wait "$HOST_NSPAWN" 2>/dev/null
    HOST_NSPAWN=
    HOST_LEADER=
}

# Off at once and gone; called on every exit path.
host_cleanup()
{
    trap - EXIT INT TERM HUP
    if [ -n "$HOST_NSPAWN" ]; then
        # nspawn takes SIGTERM as the wish for an orderly shutdown; its own end takes everything inside along.
        kill -TERM "$HOST_NSPAWN" 2>/dev/null
        wait_for 5 host_is_off 2>/dev/null || kill -KILL "$HOST_NSPAWN" 2>/dev/null
        wait "$HOST_NSPAWN" 2>/dev/null
    fi
    HOST_NSPAWN=
    [ -z "$HOST_CGROUP" ] || find "$HOST_CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null
    if mountpoint -q "$HOST_ROOT"; then
        umount -R "$HOST_ROOT" 2>/dev/null || umount -R -l "$HOST_ROOT"
    fi
    if mountpoint -q "$HOST_TOP"; then
        umount "$HOST_TOP" 2>/dev/null || umount -l "$HOST_TOP"
    fi
    rmdir "$HOST_TOP"
}
trap host_cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    case ${1:-} in
    run)
        shift
        [ $# -gt 0 ] || set -- bash
        host_make && host_boot || exit 1
        host "$@"
        ;;
    *)
        echo "usage: host.sh run [CMD...]" >&2
        exit 2
        ;;
    esac
fi
