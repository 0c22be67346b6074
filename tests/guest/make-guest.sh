#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Makes the small Linux guest of the demo and the tests:
#   OUTDIR/vmlinuz   the distribution's cloud kernel (downloaded and unpacked, never installed)
#   OUTDIR/initrd    busybox-static, the modules that a microVM needs, and tests/guest/init
# The kernel package is kept in CACHEDIR; a second run needs no network and takes less than a second.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: make-guest.sh OUTDIR [CACHEDIR]}
cache=${2:-${MICROVMD_CACHE:-/var/cache/microvmd-guest}}

# In any order; what they depend on is found by depmod. Those that the kernel has built in, or lacks, are skipped.
modules=(virtio_mmio virtio_pci virtio_blk virtio_net virtio_console virtio_rng virtio_balloon virtio_mem virtiofs
    vmw_vsock_virtio_transport qemu_fw_cfg ext4 crc32c_generic crc32c-intel evdev button af_packet pvpanic-mmio)

die() { echo "make-guest.sh: $*" >&2; exit 1; }

for tool in dpkg-deb apt-get apt-cache depmod modprobe cpio gzip flock; do
    command -v "$tool" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null ||
        die "$tool is missing (packages: apt dpkg kmod cpio gzip util-linux)"
done
PATH=$PATH:/usr/sbin:/sbin
busybox=$(command -v busybox) || die "busybox is missing (package: busybox-static)"
if ldd "$busybox" >/dev/null 2>&1; then
    die "$busybox is not static (package: busybox-static)"
fi

mkdir -p "$out" "$cache"
# Two test suites may come here at once.
exec 9>"$cache/lock"
flock 9

# The package that the meta package depends on, e.g. linux-image-6.1.0-42-cloud-amd64.
arch=$(dpkg --print-architecture)
find_package() {
    apt-cache depends "linux-image-cloud-$arch" 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}
unpacked=$cache/unpacked
if [ ! -e "$unpacked/complete" ]; then
    package=$(find_package)
    if [ -z "$package" ]; then
        apt-get -qq update || die "apt-get update failed: are the Debian packages reachable?"
        package=$(find_package)
        [ -n "$package" ] || die "no linux-image-cloud-$arch in the package lists"
    fi
    rm -rf "$unpacked" "$cache/download"
    mkdir -p "$unpacked" "$cache/download"
    # apt's own user could not write there; it says so and works as root.
    fetch() { (cd "$cache/download" && apt-get -qq -o APT::Sandbox::User=root download "$package"); }
    # Lists that are older than the mirror's last change name a version that is gone.
    fetch || { apt-get -qq update && package=$(find_package) && fetch; } || die "$package can't be downloaded"
    dpkg-deb -x "$cache"/download/*.deb "$unpacked"
    rm -rf "$cache/download"
    touch "$unpacked/complete"
fi

kernel=("$unpacked"/boot/vmlinuz-*)
release=${kernel[0]##*/vmlinuz-}
base=$unpacked
# Debian 13 has them below /usr; depmod -b wants BASE/lib/modules.
if [ ! -d "$base/lib/modules/$release" ] && [ -d "$base/usr/lib/modules/$release" ]; then
    ln -sfn usr/lib "$base/lib"
fi
[ -e "$base/lib/modules/$release/modules.dep" ] || depmod -b "$base" "$release"

# The initramfs is made again only when something that goes into it has changed.
stamp=$(sha256sum "$here/init" "$here/init.net" "$here/make-guest.sh" "$busybox" | sha256sum | cut -d ' ' -f 1)-$release
if [ "$(cat "$cache/initrd.stamp" 2>/dev/null)" != "$stamp" ]; then
    root=$(mktemp -d "$cache/root.XXXXXX")
    trap 'rm -rf "$root"' EXIT
    mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,mnt,root,modules,etc/acpi/PWRF,usr/share/udhcpc}
    cp "$busybox" "$root/bin/busybox"
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    # A file for each, numbered in an order in which insmod finds what they need.
    n=100
    declare -A seen=()
    for module in "${modules[@]}"; do
        while read -r verb path _; do
            if [ "$verb" != insmod ] || [ -n "${seen[$path]:-}" ]; then continue; fi
            seen[$path]=1
            name=${path##*/}
            case $name in
            *.ko) cp "$path" "$root/modules/$n-$name" ;;
            *.ko.xz) xz -dc "$path" >"$root/modules/$n-${name%.xz}" ;;
            *.ko.zst) zstd -qdc "$path" >"$root/modules/$n-${name%.zst}" ;;
            *) die "$path: unknown compression" ;;
            esac
            n=$((n + 1))
        done < <(modprobe -d "$base" -S "$release" --ignore-install --show-depends "$module" 2>/dev/null)
    done
    cp "$here/init" "$here/init.net" "$root"
    chmod 755 "$root/init" "$root/init.net"
    ln -s /init "$root/etc/acpi/PWRF/00000080"
    mkdir "$root/sbin"
    ln -s /init "$root/sbin/shutdown"
    echo 'root::0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    (cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 | gzip -6 -n) >"$cache/initrd.new"
    mv "$cache/initrd.new" "$cache/initrd"
    echo "$stamp" >"$cache/initrd.stamp"
fi

# Through a new name: a guest that is starting keeps the old file.
for file in vmlinuz:"${kernel[0]}" initrd:"$cache/initrd"; do
    name=${file%%:*}
    cmp -s "${file#*:}" "$out/$name" && continue
    cp "${file#*:}" "$out/$name.new"
    mv "$out/$name.new" "$out/$name"
done
