/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What libvirt tells of itself, as letters to the loop thread. */
#include "driver/libvirt/internal.h"

#include <libvirt/libvirt-qemu.h>
#include <pthread.h>

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
