#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# An upgrade from the previous release, and a downgrade to it, with guests running. The previous release is built from
# this repository's history, once; in a checkout without it (or without a compiler) there is nothing to upgrade from, and
# what is written by other versions is read by tests/unit/test-upgrade.c only.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

# To be moved on at each release.
PREVIOUS=40d6ba8b7ec55ec51fd0fbbd6c2b5b695f3a88dc
OLD=${MICROVMD_CACHE:-$SOURCE/build}/previous-${PREVIOUS:0:12}

# Builds it; two suites that run at the same time build it once.
build_previous()
{
    (
        flock 9
        [ ! -x "$OLD/build/microvmctl" ] || exit 0
        rm -rf "$OLD" && mkdir -p "$OLD/source" &&
            git -C "$SOURCE" archive "$PREVIOUS" | tar -x -C "$OLD/source" &&
            cmake -S "$OLD/source" -B "$OLD/build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DMICROVMD_TESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr \
                -DCMAKE_C_FLAGS="-g0 -Wno-error" &&
            cmake --build "$OLD/build"
    ) 9>"$OLD.lock" >"$OLD.log" 2>&1
}

if ! git -C "$SOURCE" cat-file -e "$PREVIOUS^{commit}" 2>/dev/null; then
    tap_skip "an upgrade from the previous release" "it is not in the history of this checkout"
    tap_end
fi
mkdir -p "$(dirname "$OLD")"
build_previous || { tail -n 30 "$OLD.log"; tap_bail "the previous release does not build"; }

# install_version BUILD: replaces what is installed, as a package does, while the host runs
install_version() { DESTDIR=$HOST_ROOT cmake --install "$1" --prefix /usr; }

host_make || tap_bail "no throwaway host"
microvmd_install
install_version "$OLD/build" >"$HOST_TOP/install.log" 2>&1 || tap_bail "the previous release can't be installed"
rm -f "$HOST_ROOT"/usr/lib/systemd/system/microvmd@.service "$HOST_ROOT"/usr/lib/systemd/system/microvmd.target
define own count '"autostart": false, "driver": "direct", "restart": { "policy": "on-failure", "delay": "100ms" }'
define virt count '"autostart": false, "restart": { "policy": "on-failure", "delay": "100ms" }'
define later count '"autostart": false, "driver": "direct"'
define waits count '"autostart": false, "driver": "direct", "restart": { "policy": "on-failure", "delay": "1h", "maxDelay": "1h" }'
host_boot || tap_bail "the throwaway host does not boot"
daemon_start || { host journalctl -b --no-pager -u microvmd.service; tap_bail "the previous release does not start"; }

# change_to BUILD: as the scripts of a package do
change_to()
{
    install_version "$1"
    host systemctl daemon-reload
    daemon_restart
}
same() { [ "$(run_of own)" = "$OWN" ] && [ "$(run_of virt)" = "$VIRT" ]; }
complaints() { since "$1" -u microvmd.service -p warning; }

ctl start own virt waits
OWN=$(run_of own)
VIRT=$(run_of virt)
host kill -KILL "$(prop waits MainPID)"
tap "the previous release runs guests" wait_for 60 is waits State backoff

test_upgrade()
{
    local from name
    from=$(mark)
    change_to "$BUILD"
    is own State running
    is virt State running
    same
    is own NRestarts 0
    is own Outdated false
    is own Unit microvmd-vm@own.service
    # What was to be done later still is.
    is waits State backoff
    [ "$(prop waits NextRestartTimestamp)" -gt 0 ]
    not grep . <(complaints "$from")
    # It has what is new.
    [ ! -e "$HOST_ROOT/usr/lib/systemd/system/microvmd@.service" ] ||
        for name in own virt; do wait_for 60 host systemctl is-active "microvmd@$name"; done
    # And the old run is under its care: a death is seen, a stop asks the guest.
    host kill -KILL "${OWN% *}"
    wait_for 60 is own NRestarts 1
    wait_for 60 is own State running
    ctl start later
}
tap "an upgrade changes nothing for what runs" test_upgrade
OWN=$(run_of own)

test_downgrade()
{
    local later
    later=$(run_of later)
    change_to "$OLD/build"
    is own State running
    is virt State running
    is later State running
    same
    [ "$(run_of later)" = "$later" ]
    is waits State backoff
    ctl stop --force later
    is later State inactive
    # By hand it is stopped, whichever version looks.
    change_to "$BUILD"
    is later State inactive
    is own State running
    same
    ctl stop --force own virt waits
    is own State inactive
    is virt State inactive
    wait_for 60 not host pgrep -f 'guest=|microvmd-vm@'
}
tap "a downgrade does no harm, and an upgrade after it" test_downgrade

tap_end
