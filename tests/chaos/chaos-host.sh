#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The long form of the chaos suite: real QEMU, systemd, libvirtd and bus, in a throwaway host. Arguments go to test-chaos.py, as
# --seed 7; without any: 20 microVMs, 500 faults, another seed each time (it is printed).
set -u
# shellcheck source=../system/host.sh
. "$(dirname "$0")/../system/host.sh"
# shellcheck source=../system/tap.sh
. "$(dirname "$0")/../system/tap.sh"

host_make || tap_bail "no throwaway host"
microvmd_install
as --64 -o "$HOST_TOP/tiny.o" "$SOURCE/tests/guest/tiny.S" &&
    ld -m elf_x86_64 -Ttext=0x100000 -e entry -o "$HOST_ROOT/boot/tiny" "$HOST_TOP/tiny.o" || tap_bail "no guest"
for unit in microvmd.service libvirtd.service dbus.service; do
    mkdir -p "$HOST_ROOT/etc/systemd/system/$unit.d"
    printf '[Unit]\nStartLimitIntervalSec=0\n' >"$HOST_ROOT/etc/systemd/system/$unit.d/chaos.conf"
done
host_boot || tap_bail "the throwaway host does not boot"
[ $# -gt 0 ] || set -- --faults 500 --microvms 20 --seed $RANDOM
host "$SOURCE/tests/chaos/test-chaos.py" --system /boot/tiny --verbose "$@"
