/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/schedule.h"

#include <errno.h>
#include <sched.h>

int schedule_promptly(void)
{
    struct sched_param lowest = {.sched_priority = 1};

    return sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) < 0 ? -errno : 0;
}
