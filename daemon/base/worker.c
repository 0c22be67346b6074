/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/worker.h"

#include "base/mailbox.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

typedef struct Item Item;
struct Item {
    Work work;
    Item *next;
};

struct Workers {
    pthread_mutex_t mutex;
    pthread_cond_t more; /* work came, or stopping */
    pthread_cond_t less; /* a thread ended */
    Item *first, **last;
    unsigned max_threads, threads, idle, queued;
    bool stopping;
    Mailbox *results;
    char name[16];
};

static void item_discard(void *userdata)
{
    Item *item = userdata;

    if (item->work.discard)
        item->work.discard(item->work.argument);
    free(item);
}

static void on_result(void *letter, void *userdata)
{
    Item *item = letter;

    item->work.done(item->work.argument);
    free(item);
}

/* The next item, or NULL when the pool stops. */
static Item *wait_for_item(Workers *workers)
{
    Item *item;

    pthread_mutex_lock(&workers->mutex);
    workers->idle++;
    while (!workers->first && !workers->stopping)
        pthread_cond_wait(&workers->more, &workers->mutex);
    workers->idle--;
    item = workers->stopping ? NULL : workers->first;
    if (item) {
        workers->first = item->next;
        if (!workers->first)
            workers->last = &workers->first;
        item->next = NULL;
        workers->queued--;
    }
    pthread_mutex_unlock(&workers->mutex);
    return item;
}

static void *worker_thread(void *userdata)
{
    Workers *workers = userdata;

    for (Item *item; (item = wait_for_item(workers));) {
        item->work.run(item->work.argument);
        mailbox_post(workers->results, item);
    }
    pthread_mutex_lock(&workers->mutex);
    workers->threads--;
    pthread_cond_signal(&workers->less);
    pthread_mutex_unlock(&workers->mutex);
    return NULL;
}

int workers_new(sd_event *event, const char *name, unsigned threads, Workers **ret_workers)
{
    _cleanup_free_ Workers *workers = calloc(1, sizeof(*workers));
    pthread_condattr_t attributes;
    int r;

    if (!workers)
        return -ENOMEM;
    r = mailbox_new(event, on_result, item_discard, workers, &workers->results);
    if (r < 0)
        return r;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&workers->mutex, NULL);
    pthread_cond_init(&workers->more, &attributes);
    pthread_cond_init(&workers->less, &attributes);
    pthread_condattr_destroy(&attributes);
    workers->last = &workers->first;
    workers->max_threads = threads;
    snprintf(workers->name, sizeof(workers->name), "%s", name);
    *ret_workers = TAKE_PTR(workers);
    return 0;
}

/* With the mutex held. Signals stay with the loop thread, where sd-event takes them. */
static int start_thread(Workers *workers)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_t thread;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    r = pthread_create(&thread, &attributes, worker_thread, workers);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return -r;
    pthread_setname_np(thread, workers->name);
    workers->threads++;
    return 0;
}

int workers_submit(Workers *workers, const Work *work)
{
    Item *item = calloc(1, sizeof(*item));
    int r = 0;

    if (!item)
        return -ENOMEM;
    item->work = *work;
    pthread_mutex_lock(&workers->mutex);
    if (workers->queued >= workers->idle && workers->threads < workers->max_threads)
        r = start_thread(workers);
    if (r < 0 && workers->threads > 0)
        r = 0; /* the threads that there are will come to it */
    if (r == 0) {
        *workers->last = item;
        workers->last = &item->next;
        workers->queued++;
        pthread_cond_signal(&workers->more);
    }
    pthread_mutex_unlock(&workers->mutex);
    if (r < 0)
        free(item);
    return r;
}

Workers *workers_stop(Workers *workers, uint64_t grace_usec)
{
    struct timespec deadline;
    bool hung;
    int r = 0;

    if (!workers)
        return NULL;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += (time_t)(grace_usec / 1000000);
    deadline.tv_nsec += (long)(grace_usec % 1000000) * 1000;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000;
    }

    pthread_mutex_lock(&workers->mutex);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->more);
    while (workers->threads > 0 && r == 0)
        r = pthread_cond_timedwait(&workers->less, &workers->mutex, &deadline);
    hung = workers->threads > 0;
    for (Item *item = workers->first; item;) {
        Item *next = item->next;
        item_discard(item);
        item = next;
    }
    workers->first = NULL;
    workers->last = &workers->first;
    pthread_mutex_unlock(&workers->mutex);
    if (hung)
        return NULL; /* a thread still uses the pool; the process is about to end */

    mailbox_free(workers->results);
    pthread_cond_destroy(&workers->more);
    pthread_cond_destroy(&workers->less);
    pthread_mutex_destroy(&workers->mutex);
    free(workers);
    return NULL;
}
