/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls of libvirt that concern one domain. */
#include "driver/libvirt/internal.h"

#include "base/log.h"

#include <libvirt/virterror.h>
#include <time.h>

#define USEC_PER_SEC UINT64_C(1000000)

static const struct {
    bool control;
    uint64_t deadline_usec;
    const char *what;
} kinds[] = {
    [CALL_START] = {false, 60 * USEC_PER_SEC, "start it"},
    [CALL_SHUTDOWN] = {false, 15 * USEC_PER_SEC, "ask the guest to shut down"},
    [CALL_SUSPEND] = {false, 15 * USEC_PER_SEC, "pause it"},
    [CALL_RESUME] = {false, 15 * USEC_PER_SEC, "resume it"},
    [CALL_DESTROY] = {true, 30 * USEC_PER_SEC, "end it"},
    [CALL_CHECK] = {true, 15 * USEC_PER_SEC, "look whether it is there"},
};

char *libvirt_error_text(void)
{
    const char *message = virGetLastErrorMessage();
    char *text = strdup(message ? message : "no reason given");

    /* Some messages come with a line break at the end. */
    for (size_t n = text ? strlen(text) : 0; n > 0 && text[n - 1] == '\n';)
        text[--n] = '\0';
    return text;
}

void domain_facts_clear(DomainFacts *facts)
{
    free(facts->name);
    free(facts->uuid);
    free(facts->console);
    safe_close(facts->pidfd);
    *facts = (DomainFacts){.pidfd = -EBADF};
}

/* --- in a worker --- */

static int call_generation(virDomainPtr domain, sd_id128_t *ret_generation)
{
    _cleanup_free_ char *metadata =
        virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, DOMAIN_METADATA_URI, VIR_DOMAIN_AFFECT_CURRENT);

    return metadata ? domain_generation_parse(metadata, ret_generation) : -EBUSY;
}

int domain_facts_read(virDomainPtr domain, const char *pid_directory, DomainFacts *ret_facts, char **ret_text)
{
    DomainFacts facts = {.pidfd = -EBADF};
    _cleanup_free_ char *xml = NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];
    int state = VIR_DOMAIN_NOSTATE, r;

    r = call_generation(domain, &facts.generation);
    if (r < 0)
        return r;
    xml = virDomainGetXMLDesc(domain, 0);
    if (!xml || virDomainGetState(domain, &state, NULL, 0) < 0 || virDomainGetUUIDString(domain, uuid) < 0) {
        *ret_text = libvirt_error_text();
        return -EIO;
    }
    facts.name = strdup(virDomainGetName(domain));
    facts.uuid = strdup(uuid);
    facts.paused = state == VIR_DOMAIN_PAUSED;
    facts.accel = domain_accel(xml);
    facts.console = domain_console_path(xml);
    if (process_find(pid_directory, virDomainGetName(domain), uuid, &facts.pid, &facts.pidfd) < 0)
        facts.pidfd = -EBADF; /* shown as 0, and signals can't be sent; everything else works */
    if (!facts.name || !facts.uuid) {
        domain_facts_clear(&facts);
        return -ENOMEM;
    }
    *ret_facts = facts;
    return 0;
}

static int fail(Call *call, int error, const char *what)
{
    _cleanup_free_ char *message = libvirt_error_text();

    if (!call->text && asprintf(&call->text, "%s: %s", what, message ? message : "out of memory") < 0)
        call->text = NULL;
    return error;
}

/* Nothing of that name may be there: a foreign domain is never touched, and an old run must be gone first. */
static int check_free(Call *call)
{
    virDomainPtr other = virDomainLookupByName(call->connection, call->name);
    sd_id128_t generation;
    bool ours;

    if (!other)
        return 0;
    ours = call_generation(other, &generation) >= 0;
    virDomainFree(other);
    if (asprintf(&call->text,
                 ours ? "a former run of %s is still there in libvirt"
                      : "libvirt has a domain \"%s\" that microvmd did not make; it is left alone: rename it, or this "
                        "microVM",
                 call->name) < 0)
        call->text = NULL;
    return -EBUSY;
}

static uint64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

static int run_start(Call *call)
{
    virDomainPtr domain;
    uint64_t before;
    int r;

    r = check_free(call);
    if (r < 0)
        return r;
    before = now_usec();
    domain = virDomainCreateXML(call->connection, call->xml, 0);
    call->usec = now_usec() - before;
    if (!domain)
        return fail(call, -EIO, "libvirt could not start it");
    r = domain_facts_read(domain, call->pid_directory, &call->facts, &call->text);
    virDomainFree(domain);
    return r;
}

/* The domain, if it is that very run. */
static int find_run(Call *call, virDomainPtr *ret_domain)
{
    virDomainPtr domain = virDomainLookupByName(call->connection, call->name);
    sd_id128_t generation;
    virErrorPtr error;

    if (!domain) {
        error = virGetLastError();
        call->gone = error && error->code == VIR_ERR_NO_DOMAIN;
        return call->gone ? -ESRCH : fail(call, -EIO, "libvirt did not answer");
    }
    if (call_generation(domain, &generation) >= 0 && sd_id128_equal(generation, call->generation)) {
        *ret_domain = domain;
        return 0;
    }
    virDomainFree(domain);
    call->gone = true;
    return -ESRCH;
}

static int shut_down(virDomainPtr domain)
{
    /* Drivers without ACPI (libvirt's test driver) know only the plain call. */
    return virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) < 0 ? virDomainShutdown(domain) : 0;
}

static int act(Call *call)
{
    virDomainPtr domain;
    int r;

    r = find_run(call, &domain);
    if (r < 0)
        return r;
    if (call->kind == CALL_SHUTDOWN)
        r = shut_down(domain);
    else if (call->kind == CALL_SUSPEND)
        r = virDomainSuspend(domain);
    else if (call->kind == CALL_RESUME)
        r = virDomainResume(domain);
    else if (call->kind == CALL_DESTROY)
        r = virDomainDestroy(domain);
    virDomainFree(domain);
    return r < 0 ? fail(call, -EIO, "libvirt refused") : 0;
}

static void call_run(void *argument)
{
    Call *call = argument;

    virResetLastError();
    call->error = call->kind == CALL_START ? run_start(call) : act(call);
}

/* --- on the loop thread --- */

static void call_free(void *argument)
{
    Call *call = argument;

    sd_event_source_disable_unref(call->deadline);
    if (call->connection)
        virConnectClose(call->connection);
    domain_facts_clear(&call->facts);
    free(call->name);
    free(call->uuid);
    free(call->xml);
    free(call->pid_directory);
    free(call->text);
    free(call);
}

static void start_done(Call *call, Run *run)
{
    LibvirtDriver *driver = call->driver;
    DriverEvent event = {.name = run->name, .generation = run->generation, .call_usec = call->usec};

    run->starting = false;
    /* With the connection lost, nobody knows whether it started: the next listing tells (see driver.h). */
    if (call->error < 0 && (!driver->online || call->epoch != driver->epoch)) {
        run_free(run);
        return;
    }
    if (call->error < 0) {
        event.type = DRIVER_START_FAILED;
        event.error = call->error;
        event.text = call->text;
        driver_say(driver, &event);
        run_free(run);
        return;
    }
    run_take_facts(run, &call->facts);
    run->announced = true;
    event.type = DRIVER_STARTED;
    event.run = (DriverRun){.pid = run->pid, .paused = call->facts.paused, .accel = call->facts.accel};
    driver_say(driver, &event);
    run = run_find(driver, call->name, call->generation);
    if (run && run->stopped_early)
        call_submit(run, CALL_CHECK, NULL);
}

static void other_done(Call *call, Run *run)
{
    DriverEvent event = {.type = DRIVER_CALL_FAILED, .name = run->name, .generation = run->generation};
    _cleanup_free_ char *text = NULL;

    if (call->gone) {
        /* It went without a STOPPED event that we saw: the query counts. */
        if (run->announced)
            libvirt_run_ended(run);
        return;
    }
    if (call->error >= 0 || !run->announced)
        return;
    if (call->kind == CALL_SHUTDOWN)
        run->we_asked = false;
    if (call->kind == CALL_CHECK)
        return;
    if (asprintf(&text, "could not %s: %s", kinds[call->kind].what, call->text ? call->text : strerror(-call->error)) < 0)
        text = NULL;
    event.error = call->error;
    event.text = text;
    driver_say(call->driver, &event);
}

static int submit(Call *call, Run *run);

static void call_done(void *argument)
{
    Call *call = argument;
    LibvirtDriver *driver = call->driver;
    Run *run = run_find(driver, call->name, call->generation);

    driver->in_flight--;
    if (run && run->in_flight == call) {
        run->in_flight = NULL;
        if (run->queue) {
            Call *next = run->queue;
            run->queue = next->next;
            submit(next, run);
        }
    }
    if (run && call->kind == CALL_START)
        start_done(call, run);
    else if (run)
        other_done(call, run);
    call_free(call);
    libvirt_reconnect_when_idle(driver);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
    Call *call = userdata;
    char text[128];

    call->deadline = sd_event_source_disable_unref(call->deadline);
    snprintf(text, sizeof(text), "libvirt does not answer (asked %u s ago to %s)",
             (unsigned)(kinds[call->kind].deadline_usec / USEC_PER_SEC), kinds[call->kind].what);
    driver_say(call->driver, &(DriverEvent){.type = DRIVER_CALL_FAILED,
                                            .name = call->name,
                                            .generation = call->generation,
                                            .error = -ETIMEDOUT,
                                            .text = text});
    return 0;
}

static int submit(Call *call, Run *run)
{
    LibvirtDriver *driver = call->driver;
    bool control = kinds[call->kind].control;
    Work work = {call_run, call_done, call_free, call};
    int r;

    r = sd_event_add_time_relative(driver->event, &call->deadline, CLOCK_MONOTONIC, kinds[call->kind].deadline_usec, 0,
                                   on_deadline, call);
    if (r >= 0)
        r = workers_submit(control ? driver->control_workers : driver->work_workers, &work);
    if (r < 0) {
        call_free(call);
        return r;
    }
    driver->in_flight++;
    if (!control)
        run->in_flight = call;
    return 0;
}

void call_forget_queue(Run *run)
{
    while (run->queue) {
        Call *next = run->queue->next;
        call_free(run->queue);
        run->queue = next;
    }
}

int call_submit(Run *run, CallKind kind, char *xml)
{
    LibvirtDriver *driver = run->driver;
    Call *call = calloc(1, sizeof(*call)), **last;

    if (!call || !driver->online) {
        free(call);
        free(xml);
        return driver->online ? -ENOMEM : -EHOSTDOWN;
    }
    *call = (Call){.driver = driver, .kind = kind, .generation = run->generation, .xml = xml, .epoch = driver->epoch};
    call->facts.pidfd = -EBADF;
    call->connection = kinds[kind].control ? driver->control : driver->work;
    virConnectRef(call->connection);
    if (!(call->name = strdup(run->name)) || (run->uuid && !(call->uuid = strdup(run->uuid))) ||
        (driver->pid_directory && !(call->pid_directory = strdup(driver->pid_directory)))) {
        call_free(call);
        return -ENOMEM;
    }
    if (kinds[kind].control || !run->in_flight)
        return submit(call, run);
    for (last = &run->queue; *last; last = &(*last)->next)
        ;
    *last = call;
    return 0;
}
