/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two connections: made, lost, made again. */
#include "driver/libvirt/internal.h"

#include "base/log.h"

#include <libvirt/virterror.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define USEC_PER_SEC    UINT64_C(1000000)
#define BACKOFF_FIRST   USEC_PER_SEC
#define BACKOFF_LONGEST (30 * USEC_PER_SEC)
#define CLOSE_GRACE     (2 * USEC_PER_SEC)

enum {
    KEEPALIVE_INTERVAL = 5, /* s; after KEEPALIVE_COUNT unanswered ones the connection is closed */
    KEEPALIVE_COUNT = 3,
};

#define NO_CONNECTIONS ((Connections){.lifecycle_id = -1, .qmp_id = -1})

/* One attempt: made by a worker, values only. */
typedef struct Attempt {
    LibvirtDriver *driver; /* loop thread only */
    PostBox *box;
    char *uri, *pid_directory;
    unsigned epoch;
    Connections connections;
    DomainTarget target;
    AccelFacts accel_facts;
    DomainFacts *found;
    size_t n_found;
    int error;
    char *text;
} Attempt;

/* --- closing, which may block: taking leave of libvirtd is a call like others --- */

static void close_now(Connections *connections)
{
    libvirt_deregister_events(connections); /* each holds a reference of the connection */
    if (connections->work)
        virConnectClose(connections->work);
    if (connections->control)
        virConnectClose(connections->control);
    *connections = NO_CONNECTIONS;
}

static void *closing_thread(void *userdata)
{
    close_now(userdata);
    free(userdata);
    return NULL;
}

/* ThreadSanitizer knows one join with a deadline; a thread that ends by another runs for ever, to it. */
#ifdef MICROVMD_TSAN
#define JOIN_CLOCK                   CLOCK_REALTIME
#define join_until(thread, deadline) pthread_timedjoin_np(thread, NULL, deadline)
#else
#define JOIN_CLOCK                   CLOCK_MONOTONIC
#define join_until(thread, deadline) pthread_clockjoin_np(thread, NULL, JOIN_CLOCK, deadline)
#endif

void libvirt_close(Connections *connections, uint64_t grace_usec)
{
    Connections *copy;
    struct timespec deadline;
    sigset_t all, before;
    pthread_t thread;
    int r;

    if (!connections->control && !connections->work)
        return;
    copy = malloc(sizeof(*copy));
    if (!copy) {
        log_oom();
        return;
    }
    *copy = *connections;
    *connections = NO_CONNECTIONS;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&thread, NULL, closing_thread, copy);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0) {
        log_warning_errno(-r, "Can't close the connections to libvirt: %m");
        free(copy);
        return;
    }
    if (grace_usec == 0) {
        pthread_detach(thread);
        return;
    }
    clock_gettime(JOIN_CLOCK, &deadline);
    deadline.tv_sec += (time_t)(grace_usec / USEC_PER_SEC);
    if (join_until(thread, &deadline) != 0)
        pthread_detach(thread);
}

static void attempt_free(void *argument)
{
    Attempt *attempt = argument;

    libvirt_close(&attempt->connections, CLOSE_GRACE);
    for (size_t i = 0; i < attempt->n_found; i++)
        domain_facts_clear(&attempt->found[i]);
    free(attempt->found);
    post_box_unref(attempt->box);
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

/* What kind of libvirt this is, and who runs its QEMU, so must be able to open /dev/kvm: itself, where it
 * does not say. */
static void read_host(Attempt *attempt)
{
    _cleanup_free_ char *capabilities = virConnectGetCapabilities(attempt->connections.control);
    const char *type = virConnectGetType(attempt->connections.control);
    HostUser user = {geteuid(), getegid()};

    attempt->target.type = streq(type, "Test") || streq(type, "TEST") ? DOMAIN_TEST : DOMAIN_QEMU;
    if (capabilities) {
        attempt->target.dac = capabilities_has_security(capabilities, "dac");
        attempt->target.selinux = capabilities_has_security(capabilities, "selinux");
        (void)capabilities_owner(capabilities, &user);
    }
    accel_facts_read(user, &attempt->accel_facts);
}

/* Foreign domains, and what went this moment, are passed over; what can't be read can't be: it may be ours.
 */
static int list_ours(Attempt *attempt)
{
    virDomainPtr *domains = NULL;
    int n, r = 0;

    n = virConnectListAllDomains(attempt->connections.control, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    if (n < 0)
        return attempt_failed(attempt);
    attempt->found = calloc((size_t)n + 1, sizeof(*attempt->found));
    if (!attempt->found)
        r = -ENOMEM;
    for (int i = 0; i < n; i++) {
        int k =
            r < 0 ? r
                  : domain_facts_read(domains[i], attempt->pid_directory, &attempt->found[attempt->n_found]);
        if (k >= 0)
            attempt->n_found++;
        else if (r >= 0 && k == -EIO)
            r = attempt_failed(attempt);
        else if (k == -ENOMEM)
            r = k;
        virDomainFree(domains[i]);
    }
    free(domains);
    return r;
}

static int open_connections(Attempt *attempt)
{
    Connections *connections = &attempt->connections;

    connections->control = virConnectOpen(attempt->uri);
    if (!connections->control)
        return attempt_failed(attempt);
    /* Drivers inside our process have no keep-alive messages, and need none. */
    connections->remote =
        virConnectSetKeepAlive(connections->control, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT) >= 0;
    if (connections->remote) {
        connections->work = virConnectOpen(attempt->uri);
        if (!connections->work)
            return attempt_failed(attempt);
        virConnectSetKeepAlive(connections->work, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT);
    } else {
        /* One that serves all threads. libvirt 9.0 has room for twenty opens of its embedded driver, in all.
         */
        connections->work = connections->control;
        virConnectRef(connections->work);
    }
    if (libvirt_register_events(attempt->box, attempt->epoch, connections) < 0)
        return attempt_failed(attempt);
    read_host(attempt);
    return list_ours(attempt); /* after the events are on: nothing falls between */
}

static void attempt_run(void *argument)
{
    Attempt *attempt = argument;

    virResetLastError();
    attempt->error = open_connections(attempt);
    if (attempt->error < 0)
        close_now(&attempt->connections);
}

/* --- on the loop thread --- */

static void found(LibvirtDriver *driver, DomainFacts *facts)
{
    Run *run = run_find(driver, facts->name, facts->generation);
    DriverEvent event = {
        .type = DRIVER_FOUND,
        .generation = facts->generation,
        .run = {.pid = facts->pid, .helper = facts->helper, .paused = facts->paused, .accel = facts->accel},
    };

    if (!run)
        run = run_new(driver, facts->name, facts->generation);
    if (!run) {
        log_oom();
        return;
    }
    run->announced = true;
    run->paused = facts->paused;
    run_take_facts(run, facts);
    event.name = run->name;
    driver_say(driver, &event);
}

/* Runs that are tracked but were not found ended unseen; the manager concludes that from the silence about
 * them. */
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
    bool quirk = driver->target.no_arch_capabilities;

    driver->connections = attempt->connections;
    attempt->connections = NO_CONNECTIONS;
    driver->target = attempt->target;
    driver->target.no_arch_capabilities = quirk;
    driver->accel_facts = attempt->accel_facts;
    driver->online = true;
    driver->backoff_usec = 0;
    forget_missing(driver, attempt);
    driver_say(driver, &(DriverEvent){.type = DRIVER_ONLINE});
    for (size_t i = 0; i < attempt->n_found; i++)
        found(driver, &attempt->found[i]);
    driver_say(driver, &(DriverEvent){.type = DRIVER_SYNCED});
    libvirt_deliver_early(driver); /* what happened between the listing and now */
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

    driver->backoff_usec =
        driver->backoff_usec ? MIN(2 * driver->backoff_usec, BACKOFF_LONGEST) : BACKOFF_FIRST;
    driver->retry = sd_event_source_disable_unref(driver->retry);
    r = sd_event_add_time_relative(driver->event, &driver->retry, CLOCK_MONOTONIC, driver->backoff_usec, 0,
                                   on_retry, driver);
    if (r < 0)
        log_error_errno(r, "Can't time the next try to reach libvirt: %m");
}

static void say_offline(LibvirtDriver *driver, const char *why)
{
    _cleanup_free_ char *text = NULL;
    bool system = strncmp(driver->uri, "qemu:///system", 14) == 0;

    if (asprintf(
            &text, "libvirt at %s can't be reached: %s%s", driver->uri, why ? why : "no reason given",
            system
                ? " (is it installed and running? Debian: apt install libvirt-daemon-system; then: systemctl "
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
        libvirt_discard_early(driver);
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
        attempt->box = post_box_ref(driver->box);
        attempt->connections = NO_CONNECTIONS;
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

void libvirt_disconnected(LibvirtDriver *driver, const char *why)
{
    if (!driver->online)
        return;
    driver->online = false;
    libvirt_close(&driver->connections, 0);
    for (Run *run = driver->runs; run; run = run->next)
        call_fail_queue(run, "libvirt went away");
    say_offline(driver, why);
    retry_later(driver);
}
