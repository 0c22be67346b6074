/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "harness.h"

#include <time.h>

/* The same as in tests/lsan.supp, so that a test needs no environment. Called by the leak sanitizer, if there
 * is one. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:virDomainQemuMonitorEventStateRegisterID\nleak:virSaveLastError\n";
}

/* libvirt has no frame pointers: the quick way stops at its first frame, and the line above would match
 * nothing. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "fast_unwind_on_malloc=0";
}

static const char *type_name(DriverEventType type)
{
    static const char *const names[] = {
        [DRIVER_ONLINE] = "ONLINE",
        [DRIVER_OFFLINE] = "OFFLINE",
        [DRIVER_FOUND] = "FOUND",
        [DRIVER_SYNCED] = "SYNCED",
        [DRIVER_STARTED] = "STARTED",
        [DRIVER_START_FAILED] = "START_FAILED",
        [DRIVER_PAUSED] = "PAUSED",
        [DRIVER_RESUMED] = "RESUMED",
        [DRIVER_ENDED] = "ENDED",
        [DRIVER_CALL_FAILED] = "CALL_FAILED",
        [DRIVER_MEMORY_SET] = "MEMORY_SET",
        [DRIVER_HEARD] = "HEARD",
        [DRIVER_STOP_REFUSED] = "STOP_REFUSED",
    };

    return names[type];
}

static uint64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void on_event(Driver *driver, const DriverEvent *event, void *userdata)
{
    Harness *h = userdata;
    Seen *seen = &h->seen[h->n_seen];

    assert_true(h->n_seen < SEEN_MAX);
    *seen = (Seen){.type = event->type,
                   .generation = event->generation,
                   .error = event->error,
                   .cause = event->cause,
                   .action = event->action,
                   .run = event->run,
                   .call_usec = event->call_usec};
    snprintf(seen->name, sizeof(seen->name), "%s", event->name ? event->name : "");
    snprintf(seen->text, sizeof(seen->text), "%s", event->text ? event->text : "");
    h->n_seen++;
    fprintf(stderr, "# %s %s %s%s\n", type_name(event->type), seen->name,
            event->type == DRIVER_ENDED ? end_cause_to_string(event->cause) : "", seen->text);
}

void harness_open(Harness *h, const char *uri)
{
    DriverSetup setup = {
        .config = &h->config, .runtime_dir = "/nonexistent", .handler = on_event, .userdata = h};

    memset(h, 0, sizeof(*h));
    h->config.libvirt_uri = (char *)uri;
    assert_true(sd_event_new(&h->event) >= 0);
    setup.event = h->event;
    assert_int_equal(driver_new(DRIVER_KIND_LIBVIRT, &setup, &h->driver), 0);
}

void harness_close(Harness *h)
{
    h->driver = driver_free(h->driver);
    h->event = sd_event_unref(h->event);
}

static const Seen *find(Harness *h, DriverEventType type, const char *name, bool strict)
{
    uint64_t deadline = now_usec() + (uint64_t)PATIENCE * 1000000;

    while (now_usec() < deadline) {
        while (h->next < h->n_seen) {
            const Seen *seen = &h->seen[h->next++];
            if (seen->type == type && (!name || streq(seen->name, name)))
                return seen;
            if (strict && seen->type != DRIVER_HEARD) /* which only tells what is known already */
                fail_msg("%s of \"%s\" (%s) came, %s was awaited", type_name(seen->type), seen->name,
                         seen->text, type_name(type));
        }
        assert_true(sd_event_run(h->event, 100000) >= 0);
    }
    fail_msg("no %s within %d s", type_name(type), PATIENCE);
    return NULL;
}

const Seen *harness_wait(Harness *h, DriverEventType type, const char *name)
{
    return find(h, type, name, false);
}

const Seen *harness_expect(Harness *h, DriverEventType type, const char *name)
{
    return find(h, type, name, true);
}

unsigned harness_idle(Harness *h, uint64_t usec, DriverEventType type)
{
    uint64_t deadline = now_usec() + usec;
    unsigned n = 0;

    while (now_usec() < deadline)
        assert_true(sd_event_run(h->event, deadline - now_usec()) >= 0);
    for (size_t i = h->next; i < h->n_seen; i++)
        n += h->seen[i].type == type;
    return n;
}

unsigned harness_sync(Harness *h)
{
    unsigned n = 0;

    harness_wait(h, DRIVER_ONLINE, NULL);
    while (h->next >= h->n_seen || h->seen[h->next].type != DRIVER_SYNCED) {
        if (h->next < h->n_seen && h->seen[h->next].type == DRIVER_FOUND) {
            h->next++;
            n++;
        } else if (h->next < h->n_seen) {
            fail_msg("%s between ONLINE and SYNCED", type_name(h->seen[h->next].type));
        } else {
            assert_true(sd_event_run(h->event, 100000) >= 0);
        }
    }
    h->next++;
    return n;
}

VmSpec harness_spec(const char *name)
{
    return (VmSpec){.references = 1, /* never reaches 0: it lives on the test's stack */
                    .name = (char *)name,
                    .machine_id = (char *)"dc449f31-234a-af5f-a0e8-2c21ab644d76",
                    .vcpu = 1,
                    .mem_mib = 128,
                    .kernel = (char *)"/nonexistent/vmlinuz",
                    .qemu_serial_console = true};
}

StartRequest harness_request(VmSpec *spec, const char *directory)
{
    StartRequest request = {.spec = spec,
                            .accel = ACCEL_TCG,
                            .kernel = "/nonexistent/vmlinuz",
                            .cmdline = "console=ttyS0",
                            .console_log = "/nonexistent/console.log",
                            .state_dir = directory};

    assert_int_equal(sd_id128_randomize(&request.generation), 0);
    return request;
}
