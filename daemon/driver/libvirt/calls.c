/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls of libvirt that concern one domain: handed to workers, and what follows from their answers. Loop
 * thread. */
#include "driver/libvirt/internal.h"

#include "base/log.h"
#include "base/say.h"

#define USEC_PER_SEC    UINT64_C(1000000)
#define RECHECK_USEC    UINT64_C(20000)
#define EVENT_WAIT_USEC USEC_PER_SEC

enum {
    MAX_RECHECKS = 250,
};

/*
 * Who makes a call. Those that wait for a guest's agent, which may never answer, have threads of their own,
 * so that no guest holds up what others are asked for.
 */
typedef enum Party {
    PARTY_WORK,
    PARTY_CONTROL,
    PARTY_AGENT,
} Party;

static const struct {
    Party party;
    uint64_t deadline_usec;
    const char *what;
} kinds[] = {
    [CALL_START] = {PARTY_WORK, 60 * USEC_PER_SEC, "start it"},
    [CALL_SHUTDOWN] = {PARTY_WORK, 15 * USEC_PER_SEC, "ask the guest to shut down"},
    [CALL_KEYS] = {PARTY_WORK, 15 * USEC_PER_SEC, "press ctrl-alt-del"},
    [CALL_AGENT] = {PARTY_AGENT, 30 * USEC_PER_SEC, "ask the guest's agent to shut it down"},
    [CALL_SUSPEND] = {PARTY_WORK, 15 * USEC_PER_SEC, "pause it"},
    [CALL_RESUME] = {PARTY_WORK, 15 * USEC_PER_SEC, "resume it"},
    [CALL_SET_MEMORY] = {PARTY_WORK, 15 * USEC_PER_SEC, "tell its balloon"},
    [CALL_TERMINATE] = {PARTY_CONTROL, 30 * USEC_PER_SEC, "end it by SIGTERM"},
    [CALL_DESTROY] = {PARTY_CONTROL, 30 * USEC_PER_SEC, "end it"},
    [CALL_CHECK] = {PARTY_CONTROL, 15 * USEC_PER_SEC, "look whether it is there"},
};

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
    free(call->fallback_xml);
    free(call->pid_directory);
    free(call->text);
    free(call);
}

static void say_failed(LibvirtDriver *driver, const Call *call, int error, const char *why)
{
    _cleanup_free_ char *text = say("could not %s: %s", kinds[call->kind].what, why ? why : strerror(-error));

    driver_say(driver, &(DriverEvent){.type = call->refused ? DRIVER_STOP_REFUSED : DRIVER_CALL_FAILED,
                                      .action = STOP_ACTION_AGENT,
                                      .name = call->name,
                                      .generation = call->generation,
                                      .error = error,
                                      .text = text});
}

static void start_done(Call *call, Run *run)
{
    LibvirtDriver *driver = call->driver;
    DriverEvent event = {.name = call->name, .generation = call->generation, .call_usec = call->usec};

    run->starting = false;
    if (call->error < 0) {
        run_free(run); /* before it is told: the next start may come from within */
        event.type = DRIVER_START_FAILED;
        event.error = call->error;
        event.text = call->text;
        driver_say(driver, &event);
        return;
    }
    if (call->fell_back && !driver->target.no_arch_capabilities) {
        driver->target.no_arch_capabilities = true;
        log_notice(
            "KVM of this host refuses MSR 0x10a: guests get the host's CPU without arch-capabilities.");
    }
    run_take_facts(run, &call->facts);
    run->announced = true;
    event.type = DRIVER_STARTED;
    event.run = (DriverRun){
        .pid = run->pid, .helper = call->facts.helper, .paused = run->paused, .accel = call->facts.accel};
    driver_say(driver, &event);
    run = run_find(driver, call->name, call->generation);
    if (run && run->destroy_later)
        call_submit(run, CALL_DESTROY);
    if (run && (run->stopped_early || !call->facts.name))
        call_submit(run, CALL_CHECK);
}

static int on_recheck(sd_event_source *source, uint64_t usec, void *userdata)
{
    Run *run = userdata;

    run->recheck = sd_event_source_disable_unref(run->recheck);
    call_submit(run, CALL_CHECK);
    return 0;
}

static void check_later(Run *run, uint64_t delay_usec)
{
    int r;

    run->recheck = sd_event_source_disable_unref(run->recheck);
    r = sd_event_add_time_relative(run->driver->event, &run->recheck, CLOCK_MONOTONIC, delay_usec, 1000,
                                   on_recheck, run);
    if (r < 0)
        log_vm_warning(run->name, "Can't time a look whether it has ended.");
}

/* libvirt has it no more. Why it ended is told by events, which may come after the answer to a call. */
static void run_gone(Call *call, Run *run)
{
    if (run->starting) {
        run->destroy_later = call->kind == CALL_DESTROY; /* it is not there yet */
        return;
    }
    if (call->early && call->kind == CALL_DESTROY) {
        call_submit(run, CALL_DESTROY); /* it was not, when libvirt was asked; its start was told first */
        return;
    }
    if (!run->announced)
        return;
    if (run->stopped_detail == -1 && !run->waited) {
        run->waited = true;
        check_later(run, EVENT_WAIT_USEC);
        return;
    }
    libvirt_run_ended(run);
}

static void other_done(Call *call, Run *run)
{
    if (call->gone) {
        run_gone(call, run);
        return;
    }
    if (call->fading) {
        if (run->rechecks++ < MAX_RECHECKS)
            check_later(run, RECHECK_USEC);
        else
            libvirt_run_ended(run);
        return;
    }
    if (call->error >= 0 && call->kind == CALL_SET_MEMORY)
        driver_say(
            call->driver,
            &(DriverEvent){.type = DRIVER_MEMORY_SET, .name = call->name, .generation = call->generation});
    if (call->error >= 0 || call->late)
        return;
    if (call->kind == CALL_SHUTDOWN)
        run->we_asked = false;
    if (call->kind == CALL_CHECK) /* it is said to have stopped, so that it will be asked again */
        check_later(run, EVENT_WAIT_USEC);
    else if (run->announced || run->starting)
        say_failed(call->driver, call, call->error, call->text);
}

/*
 * The connection was lost meanwhile. Whether a start did its work, the next listing tells (see driver.h); who
 * waits for something else must not wait for ever.
 */
static void done_too_late(Call *call, Run *run)
{
    if (call->kind == CALL_START)
        run_free(run);
    else if (call->kind != CALL_CHECK)
        say_failed(call->driver, call, -EHOSTDOWN, "libvirt went away");
}

static int submit(Call *call, Run *run);

static void submit_next(Run *run)
{
    Call *next = run->queue;
    int r;

    if (!next || run->in_flight)
        return;
    run->queue = next->next;
    next->next = NULL;
    r = submit(next, run);
    if (r < 0)
        log_full(LOG_ERR, run->name, r, "Can't hand work to a thread: %m");
}

static void call_done(void *argument)
{
    Call *call = argument;
    LibvirtDriver *driver = call->driver;
    Run *run;

    driver->in_flight--;
    /* The answer may be here before the letter that says so. */
    if (call->lost && call->epoch == driver->epoch)
        libvirt_disconnected(driver, call->text ? call->text : "the connection was closed");
    run = run_find(driver, call->name, call->generation);
    if (run && run->in_flight == call) {
        run->in_flight = NULL;
        run->unresponsive = false;
    }
    if (run && run->asking == call)
        run->asking = NULL;
    if (run && (!driver->online || call->epoch != driver->epoch))
        done_too_late(call, run);
    else if (run && call->kind == CALL_START)
        start_done(call, run);
    else if (run)
        other_done(call, run);
    run = run_find(driver, call->name, call->generation); /* it may have gone from within */
    if (run)
        submit_next(run);
    call_free(call);
    libvirt_reconnect_when_idle(driver);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
    Call *call = userdata;
    Run *run = run_find(call->driver, call->name, call->generation);
    char text[128];

    call->deadline = sd_event_source_disable_unref(call->deadline);
    if (!run)
        return 0;
    if (run->in_flight == call)
        run->unresponsive = true;
    snprintf(text, sizeof(text), "libvirt has not answered for %u s",
             (unsigned)(kinds[call->kind].deadline_usec / USEC_PER_SEC));
    if (call->kind == CALL_CHECK)
        log_vm_warning(call->name, "Can't find out whether it ended: %s.", text);
    else
        say_failed(call->driver, call, -ETIMEDOUT, text);
    return 0;
}

/* Takes the call in every case. */
static int submit(Call *call, Run *run)
{
    LibvirtDriver *driver = run->driver;
    Workers *const workers[] = {[PARTY_WORK] = driver->work_workers,
                                [PARTY_CONTROL] = driver->control_workers,
                                [PARTY_AGENT] = driver->agent_workers};
    Party party = kinds[call->kind].party;
    Work work = {call_run, call_done, call_free, call};
    int r;

    r = sd_event_add_time_relative(driver->event, &call->deadline, CLOCK_MONOTONIC,
                                   kinds[call->kind].deadline_usec, 0, on_deadline, call);
    if (r >= 0)
        r = workers_submit(workers[party], &work);
    if (r < 0) {
        call_free(call);
        return r;
    }
    driver->in_flight++;
    if (party == PARTY_WORK)
        run->in_flight = call;
    else if (party == PARTY_AGENT)
        run->asking = call;
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

void call_fail_queue(Run *run, const char *why)
{
    for (const Call *call = run->queue; call; call = call->next)
        say_failed(run->driver, call, -EHOSTDOWN, why);
    call_forget_queue(run);
}

static Call *call_new(Run *run, CallKind kind)
{
    LibvirtDriver *driver = run->driver;
    Call *call = calloc(1, sizeof(*call));

    if (!call)
        return NULL;
    *call = (Call){.driver = driver,
                   .kind = kind,
                   .generation = run->generation,
                   .epoch = driver->epoch,
                   .early = run->starting};
    call->facts.pidfd = -EBADF;
    call->name = strdup(run->name);
    call->pid_directory = driver->pid_directory ? strdup(driver->pid_directory) : NULL;
    if (!call->name || (driver->pid_directory && !call->pid_directory)) {
        call_free(call);
        return NULL;
    }
    call->connection =
        kinds[kind].party == PARTY_WORK ? driver->connections.work : driver->connections.control;
    virConnectRef(call->connection);
    return call;
}

/* One call for each domain at a time on the work connection, so that one that hangs holds one thread. */
static int submit_or_queue(Call *call, Run *run)
{
    Call **last = &run->queue;

    if (kinds[call->kind].party != PARTY_WORK || !run->in_flight)
        return submit(call, run);
    if (run->unresponsive) {
        call_free(call);
        return -ETIMEDOUT;
    }
    while (*last)
        last = &(*last)->next;
    *last = call;
    return 0;
}

int call_submit(Run *run, CallKind kind)
{
    Call *call;

    if (!run->driver->online)
        return -EHOSTDOWN;
    call = call_new(run, kind);
    return call ? submit_or_queue(call, run) : -ENOMEM;
}

int call_submit_memory(Run *run, uint64_t bytes)
{
    Call *call = run->driver->online ? call_new(run, CALL_SET_MEMORY) : NULL;

    if (!call)
        return run->driver->online ? -ENOMEM : -EHOSTDOWN;
    call->memory_kib = bytes >> 10;
    return submit_or_queue(call, run);
}

int call_submit_start(Run *run, const char *uuid, char *xml, char *fallback_xml)
{
    Call *call = run->driver->online ? call_new(run, CALL_START) : NULL;

    if (!call) {
        free(xml);
        free(fallback_xml);
        return run->driver->online ? -ENOMEM : -EHOSTDOWN;
    }
    call->xml = xml;
    call->fallback_xml = fallback_xml;
    call->uuid = strdup(uuid);
    if (!call->uuid) {
        call_free(call);
        return -ENOMEM;
    }
    return submit_or_queue(call, run);
}
