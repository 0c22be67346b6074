# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# TAP for the system suites, and microvmd on the throwaway host. Needs host.sh.

TAP_COUNT=0
TAP_FAILED=0

# tap NAME FUNCTION [ARG...]: one test. The function ends at its first failing command, and what it did is shown.
tap()
{
    local name=$1 log=$HOST_TOP/tap.log
    shift
    TAP_COUNT=$((TAP_COUNT + 1))
    # Not as a condition: that would switch errexit off.
    (
        set -e -o pipefail
        PS4='  $LINENO: '
        set -x
        "$@"
    ) >"$log" 2>&1 </dev/null
    local status=$?
    if [ "$status" = 0 ]; then
        echo "ok $TAP_COUNT - $name"
        return 0
    fi
    echo "not ok $TAP_COUNT - $name"
    TAP_FAILED=$((TAP_FAILED + 1))
    tail -n 60 "$log" | sed 's/^/# /'
    if [ -n "$HOST_LEADER" ]; then
        echo "# --- the journal of the last minute:"
        host journalctl --sync
        host journalctl -b --since=-60s --no-pager -o short-precise \
            -t microvmd -t microvmctl -t systemd -t libvirtd -t kernel 2>&1 | tail -n 80 | sed 's/^/# /'
        host microvmctl --no-pager list 2>&1 | sed 's/^/# /'
    fi
    return 0
}

tap_skip()
{
    TAP_COUNT=$((TAP_COUNT + 1))
    echo "ok $TAP_COUNT - $1 # SKIP $2"
}

tap_end()
{
    echo "1..$TAP_COUNT"
    [ "$TAP_FAILED" = 0 ]
    exit
}

tap_bail()
{
    echo "not ok $((TAP_COUNT + 1)) - $*"
    echo "1..$((TAP_COUNT + 1))"
    exit 1
}

# exits CODE CMD...: CMD must exit with exactly that code
exits()
{
    local want=$1 got=0
    shift
    "$@" || got=$?
    [ "$got" = "$want" ] || { echo "exit code $got instead of $want"; return 1; }
}

# holds SECONDS CMD...: CMD stays true that long
holds()
{
    { local -; set +x; } 2>/dev/null
    local end=$((SECONDS + $1))
    shift
    while [ "$SECONDS" -le "$end" ]; do
        "$@" || return 1
        sleep 0.2
    done
}

not() { ! "$@"; }

# fails_with PATTERN CMD...: CMD must fail and say so
fails_with()
{
    local pattern=$1 output
    shift
    if output=$("$@" 2>&1); then return 1; fi
    echo "$output" | grep -iE "$pattern"
}

# --- microvmd

BUILD=${MICROVMD_BUILD:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/release}
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
GUEST=${MICROVMD_GUEST:-$SOURCE/build/guest}
VMS=$HOST_ROOT/etc/microvmd/vms

# Puts the built tree and the guest into the host, which is off.
microvmd_install()
{
    [ -x "$BUILD/microvmd" ] || tap_bail "there is no $BUILD/microvmd"
    "$SOURCE/tests/guest/make-guest.sh" "$GUEST" || tap_bail "no guest"
    {
        cmake -DCMAKE_INSTALL_PREFIX=/usr "$BUILD" && DESTDIR=$HOST_ROOT cmake --install "$BUILD" --prefix /usr
    } >"$HOST_TOP/install.log" 2>&1 || { cat "$HOST_TOP/install.log"; tap_bail "cmake --install fails"; }
    never_give_up microvmd
    mkdir -p "$HOST_ROOT/boot/guest" "$VMS"
    cp "$GUEST/vmlinuz" "$GUEST/initrd" "$HOST_ROOT/boot/guest/"
    if nm -D "$BUILD/microvmd" | grep -q __asan_init; then
        # The leak sanitizer needs ptrace, which the sandbox has not; it works in the other suites.
        mkdir -p "$HOST_ROOT/etc/systemd/system/microvmd.service.d"
        printf '[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\n' \
            >"$HOST_ROOT/etc/systemd/system/microvmd.service.d/asan.conf"
    fi
}

# A guest that needs next to nothing, as /boot/tiny.
tiny_install()
{
    as --64 -o "$HOST_TOP/tiny.o" "$SOURCE/tests/guest/tiny.S" &&
        ld -m elf_x86_64 -Ttext=0x100000 -e entry -o "$HOST_ROOT/boot/tiny" "$HOST_TOP/tiny.o" || tap_bail "no guest"
}

# never_give_up NAME...: however often these services die, systemd starts them again
never_give_up()
{
    local name
    for name; do
        mkdir -p "$HOST_ROOT/etc/systemd/system/$name.service.d"
        printf '[Unit]\nStartLimitIntervalSec=0\n' >"$HOST_ROOT/etc/systemd/system/$name.service.d/often.conf"
    done
}

# program PATH: standard input is a program of the host, which may be off
program() { install -D -m 755 /dev/stdin "$HOST_ROOT$1"; }

# define NAME TEST [MORE]: a definition; TEST is what the guest does (tests/guest/init), MORE further members
define()
{
    cat >"$VMS/$1.json.new" <<END
{
  "kernel": "/boot/guest/vmlinuz",
  "initrd": "/boot/guest/initrd",
  "mem": 96,
  ${3:+$3,}
  "kernelParams": ["microvm.test=$2"],
}
END
    mv "$VMS/$1.json.new" "$VMS/$1.json"
}

ctl() { host microvmctl --no-pager "$@"; }

# prop NAME PROPERTY: its value, bare
prop()
{
    host busctl --system get-property org.microvm1 "/org/microvm1/vm/$1" org.microvm1.MicroVM "$2" 2>/dev/null |
        sed 's/^[a-z] //; s/^"//; s/"$//'
}

# is NAME PROPERTY VALUE
is() { [ "$(prop "$1" "$2")" = "$3" ]; }
# differs NAME PROPERTY VALUE: it has another value, and not none
differs()
{
    local value
    value=$(prop "$1" "$2")
    [ -n "$value" ] && [ "$value" != "$3" ]
}

# (no grep -q: with pipefail, what it leaves unread counts as an error)
guest_said() { ctl logs "$1" | grep "$2" >/dev/null; }

# Same hypervisor process, same run: nothing happened to it.
run_of() { echo "$(prop "$1" MainPID) $(prop "$1" Generation)"; }
# Its process as the host sees it.
alive() { host test -e "/proc/$1/exe"; }

# All drivers have answered, so it is known what runs. Before that the daemon says what is on record, has no process of it and
# refuses to stop it; and it is ready without a driver that takes more than some seconds.
drivers_answer()
{
    local drivers
    drivers=$(host busctl --system get-property org.microvm1 /org/microvm1 org.microvm1.Manager Drivers 2>/dev/null) &&
        [ "$drivers" = "${drivers/ false /}" ]
}
daemon_start() { host systemctl start microvmd.service && wait_for 120 drivers_answer; }
daemon_restart() { host systemctl restart microvmd.service && wait_for 120 drivers_answer; }

# It dies as in a crash; systemd starts it again.
daemon_pid() { host systemctl show -P MainPID microvmd.service; }
daemon_kill()
{
    local old
    old=$(daemon_pid)
    host kill -KILL "$old"
    daemon_is_new() { [ "$(daemon_pid)" != "$1" ] && host systemctl is-active -q microvmd.service; }
    wait_for 60 daemon_is_new "$old"
    wait_for 120 drivers_answer
}

libvirt_down()
{
    host systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
}
libvirt_up()
{
    host systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
}

# The journal with all that was said so far; a mark in it, and what came after that.
host_journal() { host journalctl --sync && host journalctl -b -q --no-pager -o cat "$@"; }
mark() { host_journal -n 0 --show-cursor | sed 's/^-- cursor: //'; }
since() { host_journal --after-cursor "$@"; }
