#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Makes the test guest that has QEMU's guest agent in it, beside the one that make-guest.sh has made in OUTDIR:
#   OUTDIR/initrd-agent   that initrd, and the distribution's qemu-ga (downloaded and unpacked, never installed) with this
#                         system's own libraries
# The package is kept in CACHEDIR.
set -euo pipefail

out=${1:?usage: make-agent.sh OUTDIR [CACHEDIR]}
cache=${2:-${MICROVMD_CACHE:-/var/cache/microvmd-guest}}

die() { echo "make-agent.sh: $*" >&2; exit 1; }

[ -f "$out/initrd" ] || die "there is no $out/initrd: run make-guest.sh $out first"
mkdir -p "$cache"
# Two test suites may come here at once.
exec 9>"$cache/lock"
flock 9

unpacked=$cache/agent
if [ ! -e "$unpacked/complete" ]; then
    rm -rf "$unpacked" "$cache/download"
    mkdir -p "$unpacked" "$cache/download"
    # As in make-guest.sh.
    fetch() { (cd "$cache/download" && apt-get -qq -o APT::Sandbox::User=root download qemu-guest-agent); }
    fetch || { apt-get -qq update && fetch; } || die "qemu-guest-agent can't be downloaded"
    dpkg-deb -x "$cache"/download/qemu-guest-agent_*.deb "$unpacked"
    rm -rf "$cache/download"
    touch "$unpacked/complete"
fi

agent=$(find "$unpacked" -type f -name qemu-ga)
root=$(mktemp -d "$cache/agent-root.XXXXXX")
trap 'rm -rf "$root"' EXIT
mkdir "$root/bin"
cp "$agent" "$root/bin/qemu-ga"
libraries=$(ldd "$agent")
case $libraries in
*"not found"*) die "qemu-ga lacks libraries: $libraries" ;;
esac
# "libudev.so.1 => /lib/…/libudev.so.1 (0x…)" and "/lib64/ld-linux-x86-64.so.2 (0x…)"
while read -r library; do
    install -D -m 755 "$library" "$root$library"
done < <(sed -n 's/^\(.* => \)\{0,1\}[[:space:]]*\(\/[^ ]*\) (0x.*/\2/p' <<<"$libraries")
# The kernel unpacks one archive after the other.
{
    cat "$out/initrd"
    (cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -1 -n)
} >"$out/initrd-agent.new"
mv "$out/initrd-agent.new" "$out/initrd-agent"
