/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads crash reports, in a worker. */
#include "supervise/vm-past.h"

typedef struct Reading {
    char *state_dir;
    uint64_t number; /* 0: all are listed */
    CrashRows rows;
    char *text;
    int error;
    vm_crashes_fn listed;
    vm_crash_fn read;
    void *userdata;
} Reading;

static void reading_free(Reading *reading)
{
    crash_rows_clear(&reading->rows);
    free(reading->state_dir);
    free(reading->text);
    free(reading);
}

static void reading_run(void *argument)
{
    Reading *reading = argument;

    reading->error = reading->listed ? crash_report_list(reading->state_dir, &reading->rows)
                                     : crash_report_read(reading->state_dir, reading->number, &reading->text);
}

static void answer(Reading *reading)
{
    if (reading->listed)
        reading->listed(reading->error, &reading->rows, reading->userdata);
    else
        reading->read(reading->error, reading->text, reading->userdata);
    reading_free(reading);
}

static void reading_done(void *argument)
{
    answer(argument);
}

static void reading_discard(void *argument)
{
    ((Reading *)argument)->error = -ESHUTDOWN;
    answer(argument);
}

static int begin(MicroVM *vm, Reading what)
{
    Reading *reading = malloc(sizeof(*reading));
    int r = -ENOMEM;

    if (!reading)
        return r;
    *reading = what;
    reading->state_dir = strdup(vm->state_dir);
    if (reading->state_dir)
        r = workers_submit(vm->host->files, &(Work){reading_run, reading_done, reading_discard, reading});
    if (r < 0)
        reading_free(reading);
    return r;
}

int vm_list_crashes(MicroVM *vm, vm_crashes_fn done, void *userdata)
{
    return begin(vm, (Reading){.listed = done, .userdata = userdata});
}

int vm_get_crash(MicroVM *vm, uint64_t usec, vm_crash_fn done, void *userdata)
{
    return begin(vm, (Reading){.number = usec, .read = done, .userdata = userdata});
}
