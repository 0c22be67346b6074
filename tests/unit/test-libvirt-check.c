/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of a definition the driver "libvirt" refuses, and why. */
#include "domain-specs.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* How many problems the driver has with it, and whether one of them says `words`. */
static size_t problems_with(const VmSpec *spec, const char *words)
{
    _cleanup_problems_ ProblemList problems = {0};
    TableReader reader = {.document = &(JsonDocument){0}, .problems = &problems};
    bool said = !words;

    driver_ops(DRIVER_KIND_LIBVIRT)->check(spec, &(Runner){.what = "the test"}, &reader);
    for (size_t i = 0; i < problems.count; i++)
        said |= words && strstr(problems.items[i].text, words);
    assert_true(said);
    return problems.count;
}

static void test_slots(void **state)
{
    VmSpec spec = minimal_spec();
    VolumeSpec many[24] = {0};

    spec.volumes = many;
    spec.n_volumes = 18;
    spec.interfaces = interfaces;
    spec.n_interfaces = 1;
    spec.shares = shares;
    spec.n_shares = 2;
    spec.vsock_cid = 3;
    spec.balloon = true;
    assert_int_equal(problems_with(&spec, NULL), 0);
    spec.n_volumes = 19;
    assert_int_equal(problems_with(&spec, "24 devices"), 1);
    spec.qemu_machine = QEMU_MACHINE_Q35;
    assert_int_equal(problems_with(&spec, NULL), 0);
}

static void test_what_libvirt_would_do_otherwise(void **state)
{
    VmSpec spec = minimal_spec();
    InterfaceSpec tap = {.type = INTERFACE_TAP, .id = (char *)"vnet-web"};
    InterfaceSpec macvtap = {.type = INTERFACE_MACVTAP, .id = (char *)"macvtap7"};
    ShareSpec share = {.proto = SHARE_VIRTIOFS, .read_only = true};

    spec.interfaces = &tap;
    spec.n_interfaces = 1;
    assert_int_equal(problems_with(&spec, "begin with \"vnet\""), 1);
    tap.type = INTERFACE_USER; /* no interface of the host has that name */
    assert_int_equal(problems_with(&spec, NULL), 0);
    spec.interfaces = &macvtap;
    assert_int_equal(problems_with(&spec, "begin with \"macvtap\""), 1);
    spec.n_interfaces = 0;
    spec.shares = &share;
    spec.n_shares = 1;
    assert_int_equal(problems_with(&spec, "read-only shares by virtiofs"), 1);
    share = (ShareSpec){.proto = SHARE_9P, .read_only = true};
    assert_int_equal(problems_with(&spec, NULL), 0);
    spec.hotplug_mem_mib = 3;
    assert_int_equal(problems_with(&spec, "multiple of 2 MiB"), 1);
}

static void test_where_devices_can_be(void **state)
{
    VmSpec spec = minimal_spec();
    RootPortSpec ports[] = {{.id = (char *)"a", .chassis = 1}, {.id = (char *)"b", .chassis = 2}};
    DeviceSpec placed[] = {devices[0], devices[1]};

    spec.qemu_machine = QEMU_MACHINE_Q35;
    spec.qemu_root_ports = ports;
    spec.n_qemu_root_ports = ELEMENTSOF(ports);
    spec.devices = placed;
    spec.n_devices = ELEMENTSOF(placed);
    placed[0].qemu_bus = (char *)"a";
    placed[1].qemu_bus = (char *)"b";
    assert_int_equal(problems_with(&spec, NULL), 0);
    placed[1].qemu_bus = (char *)"a";
    assert_int_equal(problems_with(&spec, "room for one device"), 1);
    placed[1].qemu_bus = (char *)"c";
    assert_int_equal(problems_with(&spec, "no PCIe root port of that name"), 1);
    placed[1].qemu_bus = NULL;
    placed[1].qemu_id = (char *)"key";
    assert_int_equal(problems_with(&spec, "\"ua-key\""), 1);
    placed[1] = devices[2];
    placed[1].qemu_bus = (char *)"b";
    assert_int_equal(problems_with(&spec, "USB device"), 1);
    spec.n_devices = 0;
    ports[1].chassis = 1;
    assert_int_equal(problems_with(&spec, "chassis and slot"), 1);
    ports[1].slot = 1;
    assert_int_equal(problems_with(&spec, NULL), 0);
    ports[1].id = ports[0].id;
    assert_int_equal(problems_with(&spec, "is that of"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_what_libvirt_would_do_otherwise),
        cmocka_unit_test(test_where_devices_can_be),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
