#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Does what docs/first-microvm.md says: its sh blocks as they are, the console block by a terminal.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

if [ "$BUILD" != "$SOURCE/build/release" ]; then
    tap_skip "docs/first-microvm.md" "./run install is about the release build"
    tap_end
fi
host_make || tap_bail "no throwaway host"
blocks=$HOST_TOP/blocks
mkdir "$blocks"
# 01.sh, 02.sh, … 05.console, with the heading that they are below in 01.title.
awk -v dir="$blocks" '
    /^## / { title = substr($0, 4) }
    /^```$/ && file { close(file); file = ""; next }
    /^```(sh|console)$/ {
        file = sprintf("%s/%02d.%s", dir, ++n, substr($0, 4))
        print title > sprintf("%s/%02d.title", dir, n)
        next
    }
    file { print > file }
' "$SOURCE/docs/first-microvm.md"

# The host has no network: what its packages and downloads would be is what this machine has.
mkdir -p "$HOST_ROOT/var/cache/microvmd-guest"
[ "${MICROVMD_CACHE:-/var/cache/microvmd-guest}" = /var/cache/microvmd-guest ] ||
    cp -a "$MICROVMD_CACHE/." "$HOST_ROOT/var/cache/microvmd-guest/"
host_boot || tap_bail "the throwaway host does not boot"
host mkdir /root/blocks
cp "$blocks"/* "$HOST_ROOT/root/blocks/"

block() { host sh -e -u -c 'cd "$1" && . "$2"' sh "$SOURCE" "/root/blocks/$1"; }

mapfile -t names < <(cd "$blocks" && printf '%s\n' *.sh *.console | sort)
for name in "${names[@]}"; do
    title="$(cat "$blocks/${name%.*}.title") (block ${name%.*})"
    case $name in
    *.sh) tap "$title" block "$name" ;;
    *.console) tap "$title" host python3 "$SOURCE/tests/system/login.py" first ;;
    esac
done

test_gone()
{
    not host test -e /usr/sbin/microvmd
    not host test -e /etc/microvmd
    not host test -e /var/lib/microvmd
    not host test -e /usr/lib/systemd/system/microvmd.service
    not host test -e /usr/share/doc/microvmd
    [ -z "$(host virsh -c qemu:///system list --name | tr -d '\n')" ]
    not host pgrep -x microvmd
}
tap "nothing is left" test_gone
tap_end
