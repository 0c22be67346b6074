/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A start while libvirt is still about to take away the former run. Its QEMU driver hides such a domain from
 * everybody who looks for it, and refuses a new one of its UUID (virDomainObjListAddObjLocked(), seen with
 * libvirt 9.0 on a busy host). The test driver has no such moment, so virDomainCreateXML() is ours here, and
 * asks for something that is refused in the same way: another name for a UUID that there is.
 */
#include "harness.h"

#include <dlfcn.h>
#include <libvirt/libvirt.h>

#define URI       "test:///default" /* comes with a domain "test" */
#define TEST_UUID "6695eb01-f6a4-8304-79aa-97f2502e193f"

static Harness harness;
static int refusals, asked;

virDomainPtr virDomainCreateXML(virConnectPtr connection, const char *xml, unsigned flags)
{
    virDomainPtr (*real)(virConnectPtr, const char *, unsigned) =
        (virDomainPtr(*)(virConnectPtr, const char *, unsigned))dlsym(RTLD_NEXT, "virDomainCreateXML");

    asked++;
    if (refusals <= 0)
        return real(connection, xml, flags);
    refusals--;
    return real(connection,
                "<domain type='test'><name>twin</name><uuid>" TEST_UUID "</uuid>"
                "<memory>8192</memory><os><type>hvm</type></os></domain>",
                flags);
}

static int set_up(void **state)
{
    asked = refusals = 0;
    harness_open(&harness, URI);
    assert_int_equal(harness_sync(&harness), 0);
    return 0;
}

static int tear_down(void **state)
{
    harness_close(&harness);
    return 0;
}

static void test_it_waits_for_the_former_run(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = harness_request(&spec, "/nonexistent");

    refusals = 5;
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), 0);
    harness_expect(&harness, DRIVER_STARTED, "web");
    assert_int_equal(asked, 6);
}

/* A domain that stays is told at once. */
static void test_not_for_one_that_is_there(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = harness_request(&spec, "/nonexistent");

    spec.machine_id = (char *)TEST_UUID;
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), 0);
    assert_non_null(strstr(harness_expect(&harness, DRIVER_START_FAILED, "web")->text, "\"machineId\""));
    assert_int_equal(asked, 1);
}

/* Nor for ever. */
static void test_it_gives_up(void **state)
{
    VmSpec spec = harness_spec("web");
    StartRequest request = harness_request(&spec, "/nonexistent");

    refusals = INT32_MAX;
    assert_int_equal(harness.driver->ops->start(harness.driver, &request), 0);
    assert_non_null(strstr(harness_expect(&harness, DRIVER_START_FAILED, "web")->text, TEST_UUID));
    assert_true(asked > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_waits_for_the_former_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_not_for_one_that_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_gives_up, set_up, tear_down),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
