/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two connections: made, lost, made again. */
#include "driver/libvirt/internal.h"

#include "base/log.h"

#include <libvirt/virterror.h>

#define USEC_PER_SEC   UINT64_C(1000000)
#define BACKOFF_FIRST  USEC_PER_SEC
#define BACKOFF_LONGEST (30 * USEC_PER_SEC)

enum {
    KEEPALIVE_INTERVAL = 5, /* s; after KEEPALIVE_COUNT unanswered ones the connection is closed */
    KEEPALIVE_COUNT = 3,
};

/* One attempt: made by a worker, values only. */
typedef struct Attempt {
    LibvirtDriver *driver;
    char *uri, *pid_directory;
    unsigned epoch;
    virConnectPtr control, work;
    AccelFacts accel_facts;
    DomainFacts *found;
    size_t n_found;
    int error;
    char *text;
} Attempt;

static void attempt_free(void *argument)
{
    Attempt *attempt = argument;

    for (size_t i = 0; i < attempt->n_found; i++)
        domain_facts_clear(&attempt->found[i]);
    free(attempt->found);
    if (attempt->work)
        virConnectClose(attempt->work);
    if (attempt->control)
        virConnectClose(attempt->control);
    free(attempt->uri);
    free(attempt->pid_directory);
    free(attempt->text);
    free(attempt);
}

/* --- in a worker --- */

static int attempt_failed(Attempt *attempt)
{
    attempt->text = libvirt_error_text();
    return -EHOSTDOWN;
}

/* Who runs QEMU, and so who must be able to open /dev/kvm. Drivers that do not say so run it as themselves. */
static void read_owner(Attempt *attempt)
{
    _cleanup_free_ char *capabilities = virConnectGetCapabilities(attempt->control);
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (capabilities)
        (void)capabilities_owner(capabilities, &uid, &gid);
    accel_facts_read(uid, gid, &attempt->accel_facts);
}

static int list_ours(Attempt *attempt)
{
    virDomainPtr *domains = NULL;
    int n = virConnectListAllDomains(attempt->control, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE), r = 0;

    if (n < 0)
        return attempt_failed(attempt);
    attempt->found = calloc((size_t)n + 1, sizeof(*attempt->found));
    if (!attempt->found)
        r = -ENOMEM;
    for (int i = 0; i < n; i++) {
        _cleanup_free_ char *text = NULL;
        /* What is not ours, or went this moment, is passed over. */
        if (r >= 0 && domain_facts_read(domains[i], attempt->pid_directory, &attempt->found[attempt->n_found], &text) >= 0)
            attempt->n_found++;
        virDomainFree(domains[i]);
    }
    free(domains);
    return r;
}

static int open_connections(Attempt *attempt)
{
    int r;

    attempt->control = virConnectOpen(attempt->uri);
    if (!attempt->control)
        return attempt_failed(attempt);
    attempt->work = virConnectOpen(attempt->uri);
    if (!attempt->work)
        return attempt_failed(attempt);
    /* Not every driver has keep-alive messages (the embedded one needs none). */
    virConnectSetKeepAlive(attempt->control, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT);
    virConnectSetKeepAlive(attempt->work, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT);
    r = libvirt_register_events(attempt->driver, attempt->epoch, attempt->control);
    if (r < 0)
        return attempt_failed(attempt);
    read_owner(attempt);
    return list_ours(attempt); /* after the events are on: nothing falls between */
}

static void attempt_run(void *argument)
{
    Attempt *attempt = argument;

    virResetLastError();
    attempt->error = open_connections(attempt);
}

/* --- on the loop thread --- */

static void found(LibvirtDriver *driver, DomainFacts *facts)
{
    Run *run = run_find(driver, facts->name, facts->generation);
    DriverEvent event = {
        .type = DRIVER_FOUND,
        .generation = facts->generation,
        .run = {.pid = facts->pid, .paused = facts->paused, .accel = facts->accel},
    };

    if (!run)
        run = run_new(driver, facts->name, facts->uuid, facts->generation);
    if (!run) {
        log_oom();
        return;
    }
    run->announced = true;
    run_take_facts(run, facts);
    event.name = run->name;
    driver_say(driver, &event);
}

/* Runs that are tracked but were not found ended unseen; the manager concludes that from the silence about them. */
static void forget_missing(LibvirtDriver *driver, const Attempt *attempt)
{
    for (Run *run = driver->runs, *next; run; run = next) {
        bool there = false;
        next = run->next;
        for (size_t i = 0; i < attempt->n_found; i++)
            there |= sd_id128_equal(attempt->found[i].generation, run->generation);
        if (!there)
            run_free(run);
    }
}

static void connected(LibvirtDriver *driver, Attempt *attempt)
{
    driver->control = TAKE_PTR(attempt->control);
    driver->work = TAKE_PTR(attempt->work);
    driver->accel_facts = attempt->accel_facts;
    driver->online = true;
    driver->backoff_usec = 0;
    forget_missing(driver, attempt);
    driver_say(driver, &(DriverEvent){.type = DRIVER_ONLINE});
    for (size_t i = 0; i < attempt->n_found; i++)
        found(driver, &attempt->found[i]);
    driver_say(driver, &(DriverEvent){.type = DRIVER_SYNCED});
    /* Who ended between the listing and now sent an event before anybody knew the run: ask again. */
    for (Run *run = driver->runs, *next; run; run = next) {
        next = run->next;
        if (!run->starting)
            call_submit(run, CALL_CHECK, NULL);
    }
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
    LibvirtDriver *driver = userdata;
    int r;

    driver->retry = sd_event_source_disable_unref(driver->retry);
    r = libvirt_connect(driver);
    if (r < 0)
        log_error_errno(r, "Can't try to reach libvirt again: %m");
    return 0;
}

static void retry_later(LibvirtDriver *driver)
{
    int r;

    driver->backoff_usec = driver->backoff_usec ? MIN(2 * driver->backoff_usec, BACKOFF_LONGEST) : BACKOFF_FIRST;
    driver->retry = sd_event_source_disable_unref(driver->retry);
    r = sd_event_add_time_relative(driver->event, &driver->retry, CLOCK_MONOTONIC, driver->backoff_usec, 0, on_retry,
                                   driver);
    if (r < 0)
        log_error_errno(r, "Can't time the next try to reach libvirt: %m");
}

static void say_offline(LibvirtDriver *driver, const char *why)
{
    _cleanup_free_ char *text = NULL;
    bool system = strncmp(driver->uri, "qemu:///system", 14) == 0;

    if (asprintf(&text, "libvirt at %s can't be reached: %s%s", driver->uri, why ? why : "no reason given",
                 system ? " (is it installed and running? Debian: apt install libvirt-daemon-system; then: systemctl "
                          "start libvirtd)"
                        : "") < 0)
        text = NULL;
    driver_say(driver, &(DriverEvent){.type = DRIVER_OFFLINE, .text = text});
}

static void attempt_done(void *argument)
{
    Attempt *attempt = argument;
    LibvirtDriver *driver = attempt->driver;

    driver->connecting = false;
    if (attempt->error < 0) {
        say_offline(driver, attempt->text ? attempt->text : strerror(-attempt->error));
        retry_later(driver);
    } else {
        connected(driver, attempt);
    }
    attempt_free(attempt);
}

int libvirt_connect(LibvirtDriver *driver)
{
    Attempt *attempt;
    int r = -ENOMEM;

    /* Calls of the old connection must have come back: what they did belongs into the listing. */
    if (driver->online || driver->connecting || driver->in_flight > 0)
        return 0;
    attempt = calloc(1, sizeof(*attempt));
    if (attempt) {
        Work work = {attempt_run, attempt_done, attempt_free, attempt};
        attempt->driver = driver;
        attempt->epoch = ++driver->epoch;
        attempt->uri = strdup(driver->uri);
        attempt->pid_directory = driver->pid_directory ? strdup(driver->pid_directory) : NULL;
        if (attempt->uri && (attempt->pid_directory || !driver->pid_directory))
            r = workers_submit(driver->control_workers, &work);
    }
    if (r < 0 && attempt)
        attempt_free(attempt);
    driver->connecting = r >= 0;
    return r;
}

void libvirt_reconnect_when_idle(LibvirtDriver *driver)
{
    if (!driver->online && !driver->connecting && driver->in_flight == 0 && !driver->retry)
        retry_later(driver);
}

void libvirt_close(LibvirtDriver *driver)
{
    if (driver->work)
        virConnectClose(driver->work);
    if (driver->control)
        virConnectClose(driver->control);
    driver->work = driver->control = NULL;
}

void libvirt_disconnected(LibvirtDriver *driver, const char *why)
{
    if (!driver->online)
        return;
    driver->online = false;
    for (Run *run = driver->runs; run; run = run->next)
        call_forget_queue(run);
    libvirt_close(driver);
    say_offline(driver, why);
    retry_later(driver);
}
