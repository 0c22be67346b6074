/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What follows from what libvirt tells of a domain, letter by letter. */
#include "driver/libvirt/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define REASON(text) "{\"guest\":true,\"reason\":\"" text "\"}"

/* What was told last. */
typedef struct World {
    LibvirtDriver driver;
    DriverEventType type;
    EndCause cause;
    uint64_t memory;
} World;

static void on_event(Driver *driver, const DriverEvent *event, void *userdata)
{
    World *world = userdata;

    world->type = event->type;
    world->cause = event->cause;
    world->memory = event->memory;
}

static Run *begin(World *world)
{
    Run *run;

    *world = (World){.driver = {.handler = on_event, .userdata = world}};
    run = run_new(&world->driver, "web",
                  SD_ID128_MAKE(01, 02, 03, 04, 05, 06, 07, 08, 09, 0a, 0b, 0c, 0d, 0e, 0f, 10));
    assert_non_null(run);
    run->announced = true;
    return run;
}

static Letter *letter_new(LetterKind kind)
{
    Letter *letter = calloc(1, sizeof(*letter));

    assert_non_null(letter);
    letter->kind = kind;
    letter->name = strdup("web");
    return letter;
}

static void hear_qmp(World *world, const char *event, const char *data)
{
    Letter *letter = letter_new(LETTER_QMP);

    letter->qmp_event = strdup(event);
    letter->qmp_data = strdup(data);
    libvirt_on_letter(letter, &world->driver);
}

static void hear_shutdown(World *world, virDomainEventShutdownDetailType detail)
{
    Letter *letter = letter_new(LETTER_LIFECYCLE);

    letter->event = VIR_DOMAIN_EVENT_SHUTDOWN;
    letter->detail = detail;
    libvirt_on_letter(letter, &world->driver);
}

static void assert_ends(World *world, Run *run, EndCause cause)
{
    run->stopped_detail = VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN;
    libvirt_run_ended(run);
    assert_int_equal(world->type, DRIVER_ENDED);
    assert_int_equal(world->cause, cause);
    assert_null(world->driver.runs);
}

static void test_shutdown_has_a_cause(void **context)
{
    static const struct {
        const char *reason;
        EndCause cause;
    } rows[] = {
        {REASON("guest-shutdown"), END_POWEROFF},
        {REASON("guest-reset"), END_REBOOT},
        {REASON("guest-panic"), END_PANIC},
        {REASON("host-signal"), END_TERMINATED},
        {"{}", END_SHUTDOWN},
    };

    for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
        World world;
        Run *run = begin(&world);
        hear_qmp(&world, "SHUTDOWN", rows[i].reason);
        /* After a guest's end libvirt signals QEMU, which says so. */
        if (rows[i].cause != END_SHUTDOWN)
            hear_qmp(&world, "SHUTDOWN", REASON("host-signal"));
        assert_ends(&world, run, rows[i].cause);
    }
}

/* They come at any time, also when libvirt has told of the guest's end already. */
static void test_other_events_are_no_end(void **context)
{
    World world;
    Run *run = begin(&world);

    hear_shutdown(&world, VIR_DOMAIN_EVENT_SHUTDOWN_GUEST);
    assert_int_equal(run->shutdown, SHUTDOWN_BY_GUEST);
    hear_qmp(&world, "BALLOON_CHANGE", "{\"actual\":1048576}");
    assert_int_equal(world.type, DRIVER_MEMORY_IS);
    assert_int_equal(world.memory, 1048576);
    assert_int_equal(run->shutdown, SHUTDOWN_BY_GUEST);
    hear_qmp(&world, "DEVICE_DELETED", "{\"device\":\"net0\",\"path\":\"/machine/peripheral/net0\"}");
    assert_int_equal(world.type, DRIVER_HEARD);
    assert_int_equal(run->shutdown, SHUTDOWN_BY_GUEST);
    /* The end has its cause: libvirt's signal is no other one. */
    hear_shutdown(&world, VIR_DOMAIN_EVENT_SHUTDOWN_HOST);
    assert_ends(&world, run, END_SHUTDOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shutdown_has_a_cause),
        cmocka_unit_test(test_other_events_are_no_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
