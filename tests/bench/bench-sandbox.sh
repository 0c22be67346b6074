#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the sandbox of a hypervisor costs at a start, group by group and property by property: in a throwaway host, by
# bench-unit. Argument: how many rounds (20). BENCH_DEFINITION: members of the definition ('"interfaces": ["user"]').
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=../system/host.sh
. tests/system/host.sh
host_make && host_boot || { echo "no throwaway host" >&2; exit 1; }
host bash -c '
    mkdir -p /run/microvmd/vm/bench /var/lib/microvmd/vm/bench
    : >/var/lib/microvmd/vm/bench/console.log
    cat >/run/bench.json' <<<"{ \"kernel\": \"/boot/k\", \"mem\": 128, \"driver\": \"direct\", ${BENCH_DEFINITION:-} }"
host "${MICROVMD_BUILD:-$PWD/build/release}/tests/bench-unit" measure "${1:-20}" 1900000007 /run/microvmd/vm/bench \
    /var/lib/microvmd/vm/bench/console.log /run/bench.json /usr/bin/echo x
