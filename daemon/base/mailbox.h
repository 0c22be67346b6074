/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A queue of values from other threads to the event loop, woken by an eventfd. */
#ifndef BASE_MAILBOX_H
#define BASE_MAILBOX_H

#include "base/macro.h"

#include <systemd/sd-event.h>

typedef struct Mailbox Mailbox;

/* Called on the loop thread, once a letter, in the order of posting; owns `letter`. */
typedef void (*mailbox_fn)(void *letter, void *userdata);

/* `discard` frees letters that nobody took when the mailbox goes. Errors: -ENOMEM, errno of eventfd(2). */
int mailbox_new(sd_event *event, mailbox_fn deliver, void (*discard)(void *letter), void *userdata,
                Mailbox **ret_mailbox);
/* Only when no thread posts any more. */
Mailbox *mailbox_free(Mailbox *mailbox);
DEFINE_CLEANUP(Mailbox *, mailbox_free)

/* From any thread. Takes `letter` in every case: where memory is out, it is discarded and -ENOMEM comes back.
 */
int mailbox_post(Mailbox *mailbox, void *letter);

#endif
