/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libvirt tells of itself. Its callbacks run on the thread of its event loop; they post letters, and the
 * loop thread draws the conclusions. Events are hints: the end of a run is believed after a query.
 */
#include "driver/libvirt/internal.h"

#include "base/log.h"
#include "driver/qemu-event.h"

#include <cjson/cJSON.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <signal.h>

typedef enum LetterKind {
    LETTER_CLOSED,
    LETTER_LIFECYCLE,
    LETTER_QMP,
} LetterKind;

struct Letter {
    LetterKind kind;
    unsigned epoch;
    char *name;
    int event, detail; /* LIFECYCLE; CLOSED: reason in detail */
    char *qmp_event, *qmp_data;
    Letter *next;
};

/* What a callback knows. */
typedef struct Subscription {
    PostBox *box;
    unsigned epoch;
} Subscription;

struct PostBox {
    pthread_mutex_t mutex;
    unsigned references; /* atomic */
    Mailbox *letters;    /* NULL: shut */
};

int post_box_new(Mailbox *letters, PostBox **ret_box)
{
    PostBox *box = malloc(sizeof(*box));

    if (!box)
        return -ENOMEM;
    *box = (PostBox){.mutex = PTHREAD_MUTEX_INITIALIZER, .references = 1, .letters = letters};
    *ret_box = box;
    return 0;
}

PostBox *post_box_ref(PostBox *box)
{
    __atomic_add_fetch(&box->references, 1, __ATOMIC_RELAXED);
    return box;
}

PostBox *post_box_unref(PostBox *box)
{
    if (box && __atomic_sub_fetch(&box->references, 1, __ATOMIC_ACQ_REL) == 0) {
        pthread_mutex_destroy(&box->mutex);
        free(box);
    }
    return NULL;
}

void post_box_shut(PostBox *box)
{
    pthread_mutex_lock(&box->mutex);
    box->letters = NULL;
    pthread_mutex_unlock(&box->mutex);
}

void libvirt_letter_free(void *argument)
{
    Letter *letter = argument;

    free(letter->name);
    free(letter->qmp_event);
    free(letter->qmp_data);
    free(letter);
}

/* --- on libvirt's thread --- */

static void post(const Subscription *subscription, LetterKind kind, virDomainPtr domain, int event,
                 int detail, const char *qmp_event, const char *qmp_data)
{
    Letter *letter = calloc(1, sizeof(*letter));

    if (!letter)
        return;
    letter->kind = kind;
    letter->epoch = subscription->epoch;
    letter->name = domain ? strdup(virDomainGetName(domain)) : NULL;
    letter->event = event;
    letter->detail = detail;
    letter->qmp_event = qmp_event ? strdup(qmp_event) : NULL;
    letter->qmp_data = qmp_data ? strdup(qmp_data) : NULL;
    pthread_mutex_lock(&subscription->box->mutex);
    if (subscription->box->letters)
        mailbox_post(subscription->box->letters, letter);
    else
        libvirt_letter_free(letter);
    pthread_mutex_unlock(&subscription->box->mutex);
}

static void on_close(virConnectPtr connection, int reason, void *userdata)
{
    post(userdata, LETTER_CLOSED, NULL, 0, reason, NULL, NULL);
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail, void *userdata)
{
    post(userdata, LETTER_LIFECYCLE, domain, event, detail, NULL, NULL);
    return 0;
}

static void on_qmp(virConnectPtr connection, virDomainPtr domain, const char *event, long long seconds,
                   unsigned micros, const char *details, void *userdata)
{
    post(userdata, LETTER_QMP, domain, 0, 0, event, details);
}

/* --- in a worker --- */

static Subscription *subscribe(PostBox *box, unsigned epoch)
{
    Subscription *subscription = malloc(sizeof(*subscription));

    if (subscription)
        *subscription = (Subscription){post_box_ref(box), epoch};
    return subscription;
}

static void unsubscribe(void *userdata)
{
    Subscription *subscription = userdata;

    post_box_unref(subscription->box);
    free(subscription);
}

/*
 * Only on remote connections: drivers inside our process say yes, and forget callback and argument without
 * freeing it. The argument is libvirt's: where the other side is dead, unregistering fails, and the callback
 * may yet be called.
 */
static void watch(PostBox *box, unsigned epoch, virConnectPtr connection)
{
    Subscription *subscription = subscribe(box, epoch);

    if (subscription && virConnectRegisterCloseCallback(connection, on_close, subscription, unsubscribe) < 0)
        unsubscribe(subscription);
}

int libvirt_register_events(PostBox *box, unsigned epoch, Connections *connections)
{
    Subscription *subscription = subscribe(box, epoch);

    if (!subscription)
        return -ENOMEM;
    /* By way of void (*)(void): clang 19 takes the cast of libvirt's macro alone for a mistake. */
    connections->lifecycle_id = virConnectDomainEventRegisterAny(
        connections->control, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
        VIR_DOMAIN_EVENT_CALLBACK((void (*)(void))on_lifecycle), subscription, unsubscribe);
    if (connections->lifecycle_id < 0) {
        unsubscribe(subscription);
        return -EIO;
    }
    if (connections->remote) {
        watch(box, epoch, connections->control);
        watch(box, epoch, connections->work);
    }
    /* QEMU's own words say more than libvirt's events: why a guest shut down, and whether somebody asked it
     * to. */
    subscription = subscribe(box, epoch);
    if (!subscription)
        return -ENOMEM;
    connections->qmp_id = virConnectDomainQemuMonitorEventRegister(
        connections->control, NULL,
        "^(POWERDOWN|SHUTDOWN|RESET|GUEST_PANICKED|WATCHDOG|BALLOON_CHANGE|DEVICE_DELETED)$", on_qmp,
        subscription, unsubscribe, VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX);
    if (connections->qmp_id < 0)
        unsubscribe(subscription); /* libvirt's test driver, say */
    return 0;
}

void libvirt_deregister_events(Connections *connections)
{
    if (connections->qmp_id >= 0)
        virConnectDomainQemuMonitorEventDeregister(connections->control, connections->qmp_id);
    if (connections->lifecycle_id >= 0)
        virConnectDomainEventDeregisterAny(connections->control, connections->lifecycle_id);
    if (!connections->remote)
        return;
    virConnectUnregisterCloseCallback(connections->work, on_close);
    virConnectUnregisterCloseCallback(connections->control, on_close);
}

/* --- on the loop thread --- */

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

/* --- the thread of libvirt's event loop: libvirt has one for the process --- */

static struct {
    pthread_mutex_t mutex;
    pthread_t thread;
    unsigned users;
    bool registered;
    int wakeup; /* libvirt's id of a timer that ends a wait */
    bool stop;  /* atomic */
} events = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void on_wakeup(int timer, void *userdata)
{
    virEventUpdateTimeout(timer, -1);
}

static void *run_events(void *userdata)
{
    while (!__atomic_load_n(&events.stop, __ATOMIC_ACQUIRE))
        if (virEventRunDefaultImpl() < 0)
            log_debug("libvirt's event loop: %s", virGetLastErrorMessage());
    return NULL;
}

static int start_thread(void)
{
    sigset_t all, before;
    int r;

    if (!events.registered && virEventRegisterDefaultImpl() < 0)
        return -EIO;
    events.registered = true;
    events.stop = false;
    events.wakeup = virEventAddTimeout(-1, on_wakeup, NULL, NULL);
    if (events.wakeup < 0)
        return -EIO;
    /* Signals are the loop thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = -pthread_create(&events.thread, NULL, run_events, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

int libvirt_events_start(void)
{
    int r = 0;

    pthread_mutex_lock(&events.mutex);
    if (events.users == 0)
        r = start_thread();
    if (r >= 0)
        events.users++;
    pthread_mutex_unlock(&events.mutex);
    return r;
}

void libvirt_events_stop(void)
{
    pthread_mutex_lock(&events.mutex);
    if (--events.users == 0) {
        __atomic_store_n(&events.stop, true, __ATOMIC_RELEASE);
        virEventUpdateTimeout(events.wakeup, 0);
        pthread_join(events.thread, NULL);
        virEventRemoveTimeout(events.wakeup);
    }
    pthread_mutex_unlock(&events.mutex);
}
