/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The thread of libvirt's event loop: libvirt has one for the process. */
#include "driver/libvirt/internal.h"

#include "base/log.h"

#include <libvirt/virterror.h>
#include <pthread.h>
#include <signal.h>

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
