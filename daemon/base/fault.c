/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fault.h"

#include "base/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

static long fatal;

static void read_environment(void)
{
    const char *text = getenv("MICROVMD_FAULT");

    fatal = text ? strtol(text, NULL, 10) : 0;
}

void fault_point(const char *where)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static atomic_long count;

    pthread_once(&once, read_environment);
    if (fatal > 0 && atomic_fetch_add(&count, 1) + 1 == fatal) {
        log_info("Killed for a test, %s.", where);
        raise(SIGKILL);
    }
}
