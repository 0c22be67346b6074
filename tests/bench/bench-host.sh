#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The same with a real libvirtd, in a throwaway host. Arguments: those of bench.py.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=../system/host.sh
. tests/system/host.sh
host_make && host_boot || { echo "no throwaway host" >&2; exit 1; }
host virsh -c qemu:///system list >/dev/null || exit 1
host env MICROVMD_BUILD="$PWD/build/release" MICROVMD_GUEST="${MICROVMD_GUEST:-$PWD/build/guest}" \
    MICROVMD_BENCH_URI=qemu:///system "$PWD/tests/bench/bench.py" "$@"
