/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a guest says of itself, in the words of sd_notify(3), and what follows from it. Pure. */
#ifndef SUPERVISE_GUEST_WORDS_H
#define SUPERVISE_GUEST_WORDS_H

#include "base/macro.h"

enum {
    GUEST_STATUS_MAX = 256, /* bytes of a status that are kept, the zero byte included */
};

/* What was heard in this run so far. */
typedef struct GuestWords {
    bool ready;     /* that it has booted */
    bool emergency; /* it is in an emergency or rescue shell */
    bool targets;   /* it tells which targets of its systemd are active, ... */
    bool booted;    /* ... among them one that is not on the way to another (bootup(7)) */
    bool stopping;
} GuestWords;

/* What a message means. */
typedef struct GuestNews {
    bool ready;          /* it is, from now on */
    bool stuck;          /* its boot ended where it is of no use: in an emergency shell, or too early */
    const char *trouble; /* why it is not ready, or no longer; NULL: no reason */
    bool alive;          /* WATCHDOG=1 */
    bool hangs;          /* WATCHDOG=trigger: it finds itself hung */
    char status[GUEST_STATUS_MAX]; /* UTF-8, no control characters; empty: none */
} GuestNews;

/*
 * `message`: lines "KEY=VALUE", which are cut apart. Unknown keys are passed over, as sd_notify(3) wants it;
 * so is what follows a zero byte.
 */
void guest_words_take(GuestWords *words, char *message, GuestNews *ret_news);

#endif
