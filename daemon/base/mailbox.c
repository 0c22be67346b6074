/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/mailbox.h"

#include <pthread.h>
#include <sys/eventfd.h>

typedef struct Letter Letter;
struct Letter {
    void *content;
    Letter *next;
};

struct Mailbox {
    pthread_mutex_t mutex;
    Letter *first, **last; /* under mutex */
    int wakeup;
    sd_event_source *source;
    mailbox_fn deliver;
    void (*discard)(void *letter);
    void *userdata;
};

static Letter *take_all(Mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    Letter *first = mailbox->first;
    mailbox->first = NULL;
    mailbox->last = &mailbox->first;
    pthread_mutex_unlock(&mailbox->mutex);
    return first;
}

static int on_wakeup(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    Mailbox *mailbox = userdata;
    uint64_t count;

    /* Emptied before the letters are taken: a letter posted meanwhile wakes us again. */
    if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
        return -errno;
    for (Letter *letter = take_all(mailbox); letter;) {
        Letter *next = letter->next;
        mailbox->deliver(letter->content, mailbox->userdata);
        free(letter);
        letter = next;
    }
    return 0;
}

int mailbox_new(sd_event *event, mailbox_fn deliver, void (*discard)(void *letter), void *userdata,
                Mailbox **ret_mailbox)
{
    _cleanup_(mailbox_freep)
    Mailbox *mailbox = calloc(1, sizeof(*mailbox));
    int r;

    if (!mailbox)
        return -ENOMEM;
    pthread_mutex_init(&mailbox->mutex, NULL);
    mailbox->last = &mailbox->first;
    mailbox->deliver = deliver;
    mailbox->discard = discard;
    mailbox->userdata = userdata;
    mailbox->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mailbox->wakeup < 0)
        return -errno;
    r = sd_event_add_io(event, &mailbox->source, mailbox->wakeup, EPOLLIN, on_wakeup, mailbox);
    if (r < 0)
        return r;
    *ret_mailbox = TAKE_PTR(mailbox);
    return 0;
}

Mailbox *mailbox_free(Mailbox *mailbox)
{
    if (!mailbox)
        return NULL;
    sd_event_source_disable_unref(mailbox->source);
    for (Letter *letter = take_all(mailbox); letter;) {
        Letter *next = letter->next;
        if (mailbox->discard)
            mailbox->discard(letter->content);
        free(letter);
        letter = next;
    }
    safe_close(mailbox->wakeup);
    pthread_mutex_destroy(&mailbox->mutex);
    free(mailbox);
    return NULL;
}

int mailbox_post(Mailbox *mailbox, void *content)
{
    Letter *letter = calloc(1, sizeof(*letter));
    uint64_t one = 1;

    if (!letter) {
        if (mailbox->discard)
            mailbox->discard(content);
        return -ENOMEM;
    }
    letter->content = content;
    pthread_mutex_lock(&mailbox->mutex);
    *mailbox->last = letter;
    mailbox->last = &letter->next;
    pthread_mutex_unlock(&mailbox->mutex);
    /* EAGAIN would mean a full counter: the loop is going to wake up anyway. */
    if (write(mailbox->wakeup, &one, sizeof(one)) < 0 && errno != EAGAIN)
        return -errno;
    return 0;
}
