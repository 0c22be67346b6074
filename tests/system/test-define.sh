#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Who may define microVMs: the sandboxed service and a real polkit. No guest is started.
set -u
# shellcheck source=host.sh
. "$(dirname "$0")/host.sh"
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"

host_make || tap_bail "no throwaway host"
microvmd_install
host_boot || tap_bail "the throwaway host does not boot"
host useradd --no-create-home alice
host useradd --no-create-home --groups microvm bob
host useradd --no-create-home carol
# What an administrator would write: carol may define and look (enable and disable read what they change), but not
# reach beyond what is declared.
mkdir -p "$HOST_ROOT/etc/polkit-1/rules.d"
cat >"$HOST_ROOT/etc/polkit-1/rules.d/40-carol.rules" <<'END'
polkit.addRule(function(action, subject) {
    if ((action.id == "org.microvm1.define" || action.id == "org.microvm1.inspect") && subject.user == "carol" && action.lookup("microvm").indexOf("carol-") == 0) {
        return polkit.Result.YES;
    }
    return polkit.Result.NOT_HANDLED;
});
END
chmod 644 "$HOST_ROOT/etc/polkit-1/rules.d/40-carol.rules"
daemon_start || tap_bail "microvmd does not start"

INSIDE=/var/lib/microvmd/images/vmlinuz

test_root()
{
    ctl create mine --kernel=/boot/vmlinuz --mem=96
    host test -s /etc/microvmd/vms/mine.json
    [ "$(host stat -c %U:%a /etc/microvmd/vms/mine.json)" = root:644 ]
    exits 1 ctl is-enabled mine
    ctl enable mine
    host test -s /etc/microvmd/vms/mine.json.d/50-autostart.json
    ctl is-enabled mine
    ctl mask other
    [ "$(host readlink /etc/microvmd/vms/other.json)" = /dev/null ]
    ctl unmask other
    ctl create passing --transient --kernel=/boot/vmlinuz
    host test -s /run/microvmd/vms/passing.json
    # shellcheck disable=SC2016
    host sh -c 'printf "#!/bin/sh\nsed -i s/96/97/ \"\$1\"\n" >/root/editor; chmod 755 /root/editor'
    host env EDITOR=/root/editor microvmctl edit mine
    [ "$(prop mine MemoryBytes)" = $((97 << 20)) ]
    ctl remove --yes mine passing
    not host test -e /etc/microvmd/vms/mine.json
    not host test -e /etc/microvmd/vms/mine.json.d
    not host test -e /run/microvmd/vms/passing.json
}
tap "root creates, edits, enables, masks and removes, within the service's sandbox" test_root

test_others()
{
    local user
    for user in alice bob; do
        exits 77 host_user $user microvmctl --no-ask-password create new --kernel=$INSIDE
        exits 77 host_user $user microvmctl --no-ask-password create new --transient --kernel=$INSIDE
        exits 77 host_user $user microvmctl --no-ask-password mask new
    done
    not host test -e /etc/microvmd/vms/new.json
    not host test -e /run/microvmd/vms/new.json
}
tap "neither others nor the group microvm may define" test_others

test_define()
{
    host_user carol microvmctl --no-ask-password create carol-1 --kernel=$INSIDE --volume=data.img:64
    host test -s /etc/microvmd/vms/carol-1.json
    host_user carol microvmctl --no-ask-password enable carol-1
    host_user carol microvmctl is-enabled carol-1
    # The rule looks at the name.
    exits 77 host_user carol microvmctl --no-ask-password create web --kernel=$INSIDE
    host_user carol microvmctl --no-ask-password remove carol-1 2>&1 </dev/null | grep carol-1.json
    not host test -e /etc/microvmd/vms/carol-1.json
}
tap "a polkit rule lets a user define microVMs of some names" test_define

test_unsafe()
{
    fails_with 'define-unsafe' host_user carol microvmctl --no-ask-password create carol-2 --kernel=/boot/vmlinuz
    fails_with 'define-unsafe' host_user carol microvmctl --no-ask-password create carol-2 --kernel=$INSIDE --volume=/dev/sda
    not host test -e /etc/microvmd/vms/carol-2.json
    host sh -c 'echo "{ \"images\": { \"directories\": [\"/boot\"] } }" >/etc/microvmd/host.json'
    ctl reload
    host_user carol microvmctl --no-ask-password create carol-2 --kernel=/boot/vmlinuz
}
tap "but not with files that are not declared" test_unsafe
tap_end
