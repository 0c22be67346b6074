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
tiny_install
never_give_up libvirtd dbus
host_boot || tap_bail "the throwaway host does not boot"
[ $# -gt 0 ] || set -- --faults 500 --microvms 20 --seed $RANDOM
host "$SOURCE/tests/chaos/test-chaos.py" --system /boot/tiny --verbose "$@"
