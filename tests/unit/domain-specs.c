/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain-specs.h"

const DomainTarget system_target = {.type = DOMAIN_QEMU, .dac = true};

InterfaceSpec interfaces[2] = {
    {.type = INTERFACE_USER, .id = (char *)"net0", .mac = (char *)"02:00:00:00:00:01"},
    {.type = INTERFACE_USER, .id = (char *)"net1", .mac = (char *)"02:00:00:00:00:02"},
};

InterfaceSpec cards[4] = {
    {.type = INTERFACE_TAP, .id = (char *)"mvm-tap", .mac = (char *)"02:00:00:00:00:01", .tap_vhost = true},
    {.type = INTERFACE_BRIDGE,
     .id = (char *)"mvm-br",
     .mac = (char *)"02:00:00:00:00:02",
     .bridge = (char *)"br0"},
    {.type = INTERFACE_MACVTAP,
     .id = (char *)"mvm-mv",
     .mac = (char *)"02:00:00:00:00:03",
     .macvtap_link = (char *)"eth0",
     .macvtap_mode = MACVTAP_PASSTHRU},
    {.type = INTERFACE_USER, .id = (char *)"mvm-user", .mac = (char *)"02:00:00:00:00:04"},
};

ShareSpec shares[4] = {
    {.tag = (char *)"plain", .source = (char *)"/srv/plain", .security_model = SECURITY_NONE},
    {.tag = (char *)"mapped",
     .source = (char *)"/srv/mapped",
     .security_model = SECURITY_MAPPED,
     .read_only = true},
    {.tag = (char *)"fast",
     .source = (char *)"/srv/fast",
     .proto = SHARE_VIRTIOFS,
     .cache = SHARE_CACHE_ALWAYS},
    {.tag = (char *)"foreign",
     .source = (char *)"/srv/foreign",
     .proto = SHARE_VIRTIOFS,
     .socket = (char *)"/run/virtiofsd.sock"},
};

DeviceSpec devices[3] = {
    {.bus = DEVICE_PCI, .path = (char *)"0000:0a:1f.7"},
    {.bus = DEVICE_PCI, .path = (char *)"00:02.0"},
    {.bus = DEVICE_USB, .path = (char *)"vendorid=0x46d,productid=0xc52b"},
};

StringPair credentials[2] = {
    {(char *)"db.password", (char *)"/etc/keys/db"},
    {(char *)"ssh", (char *)"/etc/keys/ssh"},
};

char *credential_copies[2] = {(char *)"/run/microvmd/vm/web/credential.db.password",
                              (char *)"/run/microvmd/vm/web/credential.ssh"};

char *arguments[2] = {(char *)"-no-user-config", (char *)"-global=a,b=<c>"};

VmSpec minimal_spec(void)
{
    return (VmSpec){.name = (char *)"web",
                    .machine_id = (char *)"dc449f31-234a-af5f-a0e8-2c21ab644d76",
                    .vcpu = 1,
                    .mem_mib = 512,
                    .kernel = (char *)"/boot/vmlinuz",
                    .qemu_serial_console = true};
}

StartRequest request_for(VmSpec *spec)
{
    return (StartRequest){.spec = spec,
                          .generation = GENERATION,
                          .accel = ACCEL_TCG,
                          .kernel = "/run/microvmd/vm/web/kernel",
                          .cmdline = "console=ttyS0 reboot=t panic=-1",
                          .console_log = "/var/lib/microvmd/vm/web/console.log",
                          .state_dir = "/var/lib/microvmd/vm/web"};
}
