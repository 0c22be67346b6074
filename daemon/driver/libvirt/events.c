/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What follows from what libvirt tells of itself. Events are hints: the end of a run is believed after a
 * query.
 */
#include "driver/libvirt/internal.h"

#include "base/log.h"
#include "driver/qemu-event.h"

#include <cjson/cJSON.h>

static EndCause cause_of(const Run *run)
{
    bool asked = run->others_asked && !run->we_asked;

    if (run->shutdown == SHUTDOWN_PANIC)
        return END_PANIC;
    if (run->shutdown == SHUTDOWN_WATCHDOG)
        return END_WATCHDOG;
    switch (run->stopped_detail) {
    case VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
    case VIR_DOMAIN_EVENT_STOPPED_SAVED: /* these, too, only happen because somebody asks libvirt */
    case VIR_DOMAIN_EVENT_STOPPED_MIGRATED:
    case VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT:
        return END_DESTROYED;
    case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
    case VIR_DOMAIN_EVENT_STOPPED_FAILED:
        return run->killed ? END_DESTROYED : END_CRASHED;
    case -1:
        return run->killed ? END_DESTROYED : END_LOST; /* a query found it gone, no event told why */
    default:
        break;
    }
    switch (run->shutdown) {
    case SHUTDOWN_BY_HOST:
        return END_TERMINATED;
    case SHUTDOWN_RESET:
        return END_REBOOT;
    case SHUTDOWN_POWEROFF:
        return asked ? END_ASKED : END_POWEROFF;
    default:
        return asked ? END_ASKED : END_SHUTDOWN;
    }
}

void libvirt_run_ended(Run *run)
{
    LibvirtDriver *driver = run->driver;
    _cleanup_free_ char *name = strdup(run->name);
    DriverEvent event = {
        .type = DRIVER_ENDED,
        .name = name ? name : "",
        .generation = run->generation,
        .cause = cause_of(run),
    };

    run_free(run); /* before it is told: the next start may come from within */
    driver_say(driver, &event);
}

static void on_stopped(Run *run, int detail)
{
    run->stopped_detail = detail;
    run->rechecks = 0;
    if (run->starting)
        run->stopped_early = true; /* the call that starts it knows */
    else if (call_submit(run, CALL_CHECK) < 0)
        log_vm_warning(run->name, "It stopped, and libvirt can't be asked about it; waiting for its return.");
}

/* libvirt tells of every start that it resumes the guest, too; and sooner or later than STARTED is said. */
static void say_paused(Run *run, bool paused)
{
    bool changed = run->paused != paused;

    run->paused = paused;
    if (run->announced && changed)
        driver_say(run->driver, &(DriverEvent){.type = paused ? DRIVER_PAUSED : DRIVER_RESUMED,
                                               .name = run->name,
                                               .generation = run->generation});
}

/* The machine begins anew: what was heard of its end was about another one, or came to nothing. */
static void forget_hints(Run *run)
{
    run->shutdown = SHUTDOWN_UNKNOWN;
    run->others_asked = false;
    run->stopped_detail = -1;
    run->stopped_early = false;
}

static void take_lifecycle(Run *run, const Letter *letter)
{
    switch (letter->event) {
    case VIR_DOMAIN_EVENT_STARTED:
        /* Late letters about an earlier run of that name are behind us now. */
        if (run->starting)
            forget_hints(run);
        break;
    case VIR_DOMAIN_EVENT_SUSPENDED:
        say_paused(run, true);
        break;
    case VIR_DOMAIN_EVENT_RESUMED:
        say_paused(run, false);
        break;
    case VIR_DOMAIN_EVENT_SHUTDOWN:
        if (run->shutdown == SHUTDOWN_UNKNOWN)
            run->shutdown =
                letter->detail == VIR_DOMAIN_EVENT_SHUTDOWN_HOST ? SHUTDOWN_BY_HOST : SHUTDOWN_BY_GUEST;
        break;
    case VIR_DOMAIN_EVENT_STOPPED:
        on_stopped(run, letter->detail);
        break;
    default:
        break;
    }
}

/* The "reason" of QEMU's SHUTDOWN and RESET: qapi/run-state.json, ShutdownCause. */
static ShutdownCause shutdown_cause(const char *data)
{
    cJSON *object = data ? cJSON_Parse(data) : NULL;
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "reason"));
    ShutdownCause cause = SHUTDOWN_UNKNOWN;

    if (streq(reason, "guest-shutdown"))
        cause = SHUTDOWN_POWEROFF;
    else if (streq(reason, "guest-reset"))
        cause = SHUTDOWN_RESET;
    else if (streq(reason, "guest-panic"))
        cause = SHUTDOWN_PANIC;
    else if (streq(reason, "host-signal"))
        cause = SHUTDOWN_BY_HOST;
    cJSON_Delete(object);
    return cause;
}

static void hear(const Run *run, const Letter *letter)
{
    cJSON *data = letter->qmp_data ? cJSON_Parse(letter->qmp_data) : NULL;
    _cleanup_free_ char *text = qemu_event_text(letter->qmp_event, data);
    uint64_t memory = qemu_event_memory(letter->qmp_event, data);

    if ((text || memory > 0) && run->announced)
        driver_say(run->driver, &(DriverEvent){.type = text ? DRIVER_HEARD : DRIVER_MEMORY_IS,
                                               .name = run->name,
                                               .generation = run->generation,
                                               .text = text,
                                               .memory = memory});
    cJSON_Delete(data);
}

static void take_qmp(Run *run, const Letter *letter)
{
    ShutdownCause cause;

    log_vm_debug(run->name, "QEMU: %s %s", letter->qmp_event, letter->qmp_data ? letter->qmp_data : "");
    hear(run, letter);
    if (streq(letter->qmp_event, "POWERDOWN")) {
        if (!run->we_asked)
            run->others_asked = true;
        return;
    }
    if (streq(letter->qmp_event, "GUEST_PANICKED")) {
        run->shutdown = SHUTDOWN_PANIC;
        return;
    }
    if (streq(letter->qmp_event, "WATCHDOG")) {
        if (letter->qmp_data && strstr(letter->qmp_data, "\"none\""))
            log_vm_warning(
                run->name,
                "The guest hangs: its watchdog has expired; it goes on, as its definition wants it.");
        else
            run->shutdown = SHUTDOWN_WATCHDOG;
        return;
    }
    if (streq(letter->qmp_event, "RESET")) {
        forget_hints(
            run); /* one that the run survives: "virsh reset", or a reboot that libvirt carries out */
        return;
    }
    if (!streq(letter->qmp_event, "SHUTDOWN"))
        return;
    cause = shutdown_cause(letter->qmp_data);
    /* The first word counts: after a guest's end libvirt signals QEMU, which then says that the host did it.
     */
    if (run->shutdown == SHUTDOWN_UNKNOWN || run->shutdown == SHUTDOWN_BY_GUEST)
        run->shutdown = cause;
}

static const char *close_reason(int reason)
{
    switch (reason) {
    case VIR_CONNECT_CLOSE_REASON_ERROR:
        return "an error on the connection";
    case VIR_CONNECT_CLOSE_REASON_EOF:
        return "it closed the connection";
    case VIR_CONNECT_CLOSE_REASON_KEEPALIVE:
        return "it has not answered for 15 s";
    default:
        return "the connection was closed";
    }
}

static void deliver(LibvirtDriver *driver, Letter *letter)
{
    Run *run = letter->name ? run_find_name(driver, letter->name) : NULL;

    if (letter->epoch == driver->epoch) {
        if (letter->kind == LETTER_CLOSED)
            libvirt_disconnected(driver, close_reason(letter->detail));
        else if (run && letter->kind == LETTER_LIFECYCLE)
            take_lifecycle(run, letter);
        else if (run)
            take_qmp(run, letter);
    }
    libvirt_letter_free(letter);
}

void libvirt_on_letter(void *argument, void *userdata)
{
    LibvirtDriver *driver = userdata;
    Letter *letter = argument;

    if (!driver->connecting || letter->epoch != driver->epoch) {
        deliver(driver, letter);
        return;
    }
    /* It is being found out which runs there are. */
    *driver->early_last = letter;
    driver->early_last = &letter->next;
}

static Letter *take_early(LibvirtDriver *driver)
{
    Letter *letter = driver->early;

    if (letter && !(driver->early = letter->next))
        driver->early_last = &driver->early;
    return letter;
}

void libvirt_deliver_early(LibvirtDriver *driver)
{
    for (Letter *letter; (letter = take_early(driver));)
        deliver(driver, letter);
}

void libvirt_discard_early(LibvirtDriver *driver)
{
    for (Letter *letter; (letter = take_early(driver));)
        libvirt_letter_free(letter);
}
