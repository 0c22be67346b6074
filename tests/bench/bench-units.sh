#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A start by the driver direct under systemd, sandbox on, beside the same unit (same properties, same arguments of QEMU) made by
# bench-unit, and by systemd-run, each until QEMU says that the guest runs; and beside virsh create of the same machine, which
# returns then. In a throwaway host. Argument: rounds (20).
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=../system/host.sh
. tests/system/host.sh
# shellcheck source=../system/tap.sh
. tests/system/tap.sh
MICROVMD_BUILD=${MICROVMD_BUILD:-$PWD/build/release}
MICROVMD_GUEST=${MICROVMD_GUEST:-$PWD/build/guest}
export MICROVMD_BUILD MICROVMD_GUEST
host_make || exit 1
microvmd_install
define web '' '"autostart": false, "driver": "direct", "restart": { "policy": "no" }, "readiness": { "type": "none" }'
define other '' '"autostart": false, "driver": "libvirt", "restart": { "policy": "no" }, "readiness": { "type": "none" }'
mkdir -p "$HOST_ROOT/etc/systemd/system/microvmd.service.d"
printf '[Service]\nEnvironment=MICROVMD_LOG_LEVEL=debug\n' >"$HOST_ROOT/etc/systemd/system/microvmd.service.d/debug.conf"
host_boot && host systemctl start microvmd.service || { echo "no throwaway host" >&2; exit 1; }

DIR=/run/microvmd/vm/bench
LOG=/var/lib/microvmd/vm/bench/console.log
USER_ID=1900099999
UNIT=microvmd-vm@web.service

started() { host journalctl -b -q --no-pager -u microvmd -o cat | sed -n 's/^web: Started in \([0-9.]*\) ms.*/\1/p' | tail -n 1; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

ctl start web
mapfile -d '' -t ARGV < <(host cat "/proc/$(prop web MainPID)/cmdline")
host mkdir -p "$DIR" "${LOG%/*}"
host cp "$MICROVMD_GUEST/vmlinuz" "$DIR/kernel"
host cp "$MICROVMD_GUEST/initrd" "$DIR/initrd"
host sh -c ": >$LOG; chown -R $USER_ID:$USER_ID $DIR $LOG"
for i in "${!ARGV[@]}"; do
    ARGV[i]=$(sed "s,id=control\,fd=[0-9]*,id=control\,fd=0,; s,id=console\,fd=[0-9]*,id=console\,fd=1,
        s,/vm/web/,/vm/bench/,g; s,logfile=[^,]*,logfile=$LOG," <<<"${ARGV[i]}")
done
host cp "/run/systemd/transient/$UNIT" /run/bench.service
# (A family of addresses called "none" is none to systemd-run.)
host sed -i -e 's,/vm/web/,/vm/bench/,g' -e 's,/vm/web:,/vm/bench:,g' -e "s,^\\(User\\|Group\\)=.*,\\1=$USER_ID," \
    -e 's,^\(RestrictAddressFamilies=\)none,\1,' /run/bench.service
ctl stop --force web

# What microvmd gives libvirt, under another name, as nobody's, with files that stay.
ctl start other
host virsh dumpxml other | sed -e '/<metadata>/,/<\/metadata>/d' -e "/<uuid>/d; s,<name>other,<name>bench," \
    -e "s,/run/microvmd/vm/other/\(kernel\|initrd\),/srv/bench/\1," >"$HOST_TOP/virsh.xml"
ctl stop --force other
host mkdir -p /srv/bench
host cp "$MICROVMD_GUEST/vmlinuz" /srv/bench/kernel
host cp "$MICROVMD_GUEST/initrd" /srv/bench/initrd
host tee /run/virsh.xml <"$HOST_TOP/virsh.xml" >/dev/null

for ((round = 0; round < ${1:-20}; round++)); do
    ctl start web
    started >>"$HOST_TOP/ours"
    ctl stop --force web
    host "$MICROVMD_BUILD/tests/bench-unit" running "bench-$round.service" "$USER_ID" "$DIR" "$LOG" "/etc/microvmd/vms/web.json" \
        "${ARGV[@]}" >>"$HOST_TOP/alone" || exit 1
    host "$PWD/tests/bench/bench-systemd-run.py" /run/bench.service "$DIR" "${ARGV[@]}" >>"$HOST_TOP/run" || exit 1
    host bash -c 'before=${EPOCHREALTIME/./}; virsh -q create /run/virsh.xml >/dev/null && echo $(((${EPOCHREALTIME/./} - before) / 1000))' \
        >>"$HOST_TOP/virsh" || exit 1
    host virsh -q destroy bench >/dev/null
done
ours=$(median <"$HOST_TOP/ours")
alone=$(median <"$HOST_TOP/alone")
run=$(median <"$HOST_TOP/run")
virsh=$(median <"$HOST_TOP/virsh")
echo "units        ${1:-20} rounds: microvmd $ours ms, the same unit by bench-unit $alone ms, by systemd-run $run ms, virsh create $virsh ms (medians); \
microvmd/bench-unit $(awk "BEGIN { printf \"%.2f\", $ours / $alone }"), systemd-run/microvmd \
$(awk "BEGIN { printf \"%.2f\", $run / $ours }"), virsh create/microvmd $(awk "BEGIN { printf \"%.1f\", $virsh / $ours }")"
