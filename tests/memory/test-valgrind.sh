#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The daemon under valgrind, on a bus of its own and libvirt's test driver: no invalid access, no leak.
set -u
BUILD=${MICROVMD_BUILD:-$(cd "$(dirname "$0")/../.." && pwd)/build/release}

if nm -D "$BUILD/microvmd" 2>/dev/null | grep -q __asan_init; then
    echo "1..0 # SKIP the address sanitizer does it itself in this build"
    exit
fi
for tool in valgrind dbus-daemon; do
    command -v $tool >/dev/null || { echo "1..0 # SKIP $tool is not installed"; exit; }
done

dir=$(mktemp -d /tmp/microvmd-valgrind.XXXXXX)
pids=
leave()
{
    trap - EXIT
    # shellcheck disable=SC2086
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null
    rm -rf "$dir"
}
trap leave EXIT
trap 'exit 143' TERM INT HUP

count=0
failed=0
ok()
{
    local status=$1
    shift
    count=$((count + 1))
    if [ "$status" = 0 ]; then echo "ok $count - $*"; else
        echo "not ok $count - $*"
        failed=1
    fi
}
wait_for()
{
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

mkdir "$dir"/{vms,state,run}
echo '{ "libvirt": { "uri": "test:///default" } }' >"$dir/host.json"
: >"$dir/kernel"
for i in 1 2 3; do
    echo "{ \"kernel\": \"$dir/kernel\", \"autostart\": false, \"mem\": \"64M\", \"volumes\": [{ \"image\": \"data$i.img\", \"size\": \"4M\" }] }" \
        >"$dir/vms/good$i.json"
    echo "{ \"kernel\": \"$dir/kernel\", \"kernel\": 7, \"vcpus\": [ }" >"$dir/vms/bad$i.json"
done
cat >"$dir/bus.conf" <<END
<busconfig>
  <listen>unix:path=$dir/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
END
dbus-daemon --config-file="$dir/bus.conf" --nofork --nopidfile --print-address=1 >"$dir/bus.address" 2>"$dir/bus.log" &
pids=$!
wait_for 30 test -s "$dir/bus.address"
export MICROVM_BUS=unix:path=$dir/bus
# What libraries keep for the life of the process is reachable at its end, and no leak.
valgrind --quiet --leak-check=full --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite \
    --error-exitcode=99 --num-callers=30 --log-file="$dir/valgrind.log" "$BUILD/microvmd" \
    --bus "$MICROVM_BUS" --config "$dir/host.json" --definitions "$dir/vms" --state-dir "$dir/state" \
    --runtime-dir "$dir/run" --launcher fork >"$dir/microvmd.log" 2>&1 &
daemon=$!
pids="$pids $daemon"
ctl() { timeout 120 "$BUILD/microvmctl" --no-pager "$@"; }

if ! wait_for 180 timeout 20 "$BUILD/microvmctl" list; then
    ok 1 "it starts under valgrind"
    sed 's/^/# /' "$dir/valgrind.log" "$dir/microvmd.log"
    echo "1..$count"
    exit 1
fi
ok 0 "it starts under valgrind"

for _ in 1 2 3; do
    ctl list
    ctl status
    ctl show good1
    ctl --json=pretty list
    ctl reload
    # Whatever becomes of these on the test driver, nothing may be lost.
    ctl start good1 good2
    ctl pause good1
    ctl resume good1
    ctl restart good2
    ctl logs good1
    ctl start nosuch
    rm -f "$dir/vms/good3.json"
    ctl reload
    ctl stop --force --all
    ctl reset-failed --all
    cp "$dir/vms/good1.json" "$dir/vms/good3.json"
done >"$dir/client.log" 2>&1
ctl list >/dev/null 2>&1
ok $? "it is still there after all verbs"

kill -TERM "$daemon"
wait_for 180 test ! -e "/proc/$daemon/exe"
ended=$?
[ "$ended" = 0 ] || kill -KILL "$daemon"
wait "$daemon"
status=$?
[ "$status" = 0 ]
ok $? "it stops cleanly, and valgrind has nothing to say"
if [ "$failed" = 1 ]; then
    echo "# exit status $status"
    for log in valgrind microvmd client; do tail -n 150 "$dir/$log.log" | sed "s/^/# $log: /"; done
fi
echo "1..$count"
exit $failed
