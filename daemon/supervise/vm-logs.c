/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What goes on beside a run with its logs. */
#include "supervise/vm.h"

#include "base/file-watch.h"
#include "base/log.h"
#include "resource/console-log.h"
#include "supervise/console-journal.h"

#include <sys/stat.h>

/* How soon after it was written to the size of a log is looked at. A serial port brings a megabyte in that
 * time at the very most, and a silent guest wakes nobody. */
#define PACE_USEC UINT64_C(200000)

enum {
    OUTPUT_PARTS = 1, /* of what the hypervisor says itself */
};

/* A log that microvmd bounds. */
typedef struct BoundLog {
    char *path;
    unsigned parts;
    FileWatch *watch;
} BoundLog;

struct VmLogs {
    MicroVM *vm;
    BoundLog bound[2];
    size_t n_bound;
    bool busy;               /* a worker bounds them */
    bool warned;             /* that they can't be bounded */
    ConsoleJournal *journal; /* NULL: the console is logged to its file only */
};

VmLogs *vm_logs_free(VmLogs *logs)
{
    if (!logs)
        return NULL;
    for (size_t i = 0; i < logs->n_bound; i++) {
        file_watch_free(logs->bound[i].watch);
        free(logs->bound[i].path);
    }
    console_journal_free(logs->journal);
    free(logs);
    return NULL;
}

VmLogs *vm_logs_end(VmLogs *logs)
{
    if (logs && logs->journal)
        console_journal_end(TAKE_PTR(logs->journal));
    return vm_logs_free(logs);
}

/* --- bounding, by a worker --- */

typedef struct Bounding {
    MicroVM *vm;
    struct {
        char *path;
        unsigned parts;
    } logs[2];
    size_t n_logs;
    int error; /* of the log at `failed` */
    size_t failed;
} Bounding;

static void bounding_free(void *argument)
{
    Bounding *bounding = argument;

    for (size_t i = 0; i < bounding->n_logs; i++)
        free(bounding->logs[i].path);
    free(bounding);
}

static void bounding_run(void *argument)
{
    Bounding *bounding = argument;

    for (size_t i = 0; i < bounding->n_logs; i++) {
        int r = log_bound(bounding->logs[i].path, bounding->logs[i].parts);
        if (r < 0) {
            bounding->error = r;
            bounding->failed = i;
        }
    }
}

static int arm(VmLogs *logs);
static void look(void *userdata);

/* What failed is tried again when the log grows on, not at once. */
static void warn_and_wait(VmLogs *logs, const char *path, int error)
{
    if (!logs->warned)
        log_full(LOG_WARNING, logs->vm->name, error, "%s can't be rotated; it may lack a part, or grow: %m",
                 path);
    logs->warned = true;
    (void)arm(logs);
}

static void bounding_done(void *argument)
{
    Bounding *bounding = argument;
    MicroVM *vm = bounding->vm;

    vm->chores--;
    if (vm->logs) {
        vm->logs->busy = false;
        if (bounding->error < 0)
            warn_and_wait(vm->logs, bounding->logs[bounding->failed].path, bounding->error);
        else
            look(vm->logs);
    }
    bounding_free(bounding);
    vm_admit(vm);
    vm->host->changed(vm, vm->host->userdata);
}

/* The next start waits for it: it begins a new series of these files. */
static int bound(VmLogs *logs)
{
    Bounding *bounding = calloc(1, sizeof(*bounding));
    int r = 0;

    if (!bounding)
        return -ENOMEM;
    bounding->vm = logs->vm;
    for (; bounding->n_logs < logs->n_bound && r >= 0; bounding->n_logs++) {
        const BoundLog *log = &logs->bound[bounding->n_logs];
        bounding->logs[bounding->n_logs].parts = log->parts;
        r = (bounding->logs[bounding->n_logs].path = strdup(log->path)) ? 0 : -ENOMEM;
    }
    if (r >= 0)
        r = workers_submit(logs->vm->host->files,
                           &(Work){bounding_run, bounding_done, bounding_free, bounding});
    if (r < 0) {
        bounding_free(bounding);
        return r;
    }
    logs->busy = true;
    logs->vm->chores++;
    return 0;
}

static int arm(VmLogs *logs)
{
    int r = 0;

    for (size_t i = 0; i < logs->n_bound && r >= 0; i++)
        r = file_watch_arm(logs->bound[i].watch);
    return r;
}

static bool is_long(const BoundLog *log)
{
    struct stat st;

    return stat(log->path, &st) >= 0 && st.st_size > CONSOLE_LOG_MAX;
}

/* At the beginning, and whenever they were written to. */
static void look(void *userdata)
{
    VmLogs *logs = userdata;
    bool any = false;
    int r;

    if (logs->busy)
        return;    /* it looks again when it is done */
    r = arm(logs); /* first, so that what comes while it looks is not missed */
    for (size_t i = 0; i < logs->n_bound; i++)
        any = any || is_long(&logs->bound[i]);
    if (r >= 0 && any)
        r = bound(logs);
    if (r < 0)
        log_full(LOG_WARNING, logs->vm->name, r, "Its logs in %s are not bounded: %m", logs->vm->state_dir);
}

static int add_bound(VmLogs *logs, const char *name, unsigned parts)
{
    BoundLog *log = &logs->bound[logs->n_bound];
    int r;

    r = file_watch_new(logs->vm->host->event, logs->vm->state_dir, name, PACE_USEC, look, logs, &log->watch);
    if (r < 0)
        return r;
    log->parts = parts;
    if (asprintf(&log->path, "%s/%s", logs->vm->state_dir, name) < 0)
        log->path = NULL;
    logs->n_bound++;
    return log->path ? 0 : -ENOMEM;
}

static int add_journal(VmLogs *logs, bool resume)
{
    MicroVM *vm = logs->vm;
    _cleanup_free_ char *place = NULL;

    if (asprintf(&place, "%s/console.place", vm->runtime_dir) < 0) {
        place = NULL;
        return -ENOMEM;
    }
    return console_journal_new(vm->host->event,
                               &(ConsoleJournalOptions){.name = vm->name,
                                                        .state_dir = vm->state_dir,
                                                        .place = place,
                                                        .resume = resume,
                                                        .socket = JOURNAL_SOCKET},
                               &logs->journal);
}

int vm_logs_new(MicroVM *vm, bool adopted, VmLogs **ret_logs)
{
    const VmSpec *spec = vm_current_spec(vm);
    _cleanup_(vm_logs_freep)
    VmLogs *logs = calloc(1, sizeof(*logs));
    int r = 0;

    if (!logs)
        return -ENOMEM;
    logs->vm = vm;
    if (!vm->driver->rotates_console)
        r = add_bound(logs, CONSOLE_LOG_NAME, CONSOLE_LOG_PARTS);
    if (r >= 0 && vm->driver->output_log)
        r = add_bound(logs, vm->driver->output_log, OUTPUT_PARTS);
    if (r >= 0 && spec && spec->console_log == LOG_TARGET_JOURNAL && spec->qemu_serial_console)
        r = add_journal(logs, adopted);
    if (r < 0)
        return r;
    look(logs);
    *ret_logs = TAKE_PTR(logs);
    return 0;
}
