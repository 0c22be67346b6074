/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs of handles, queued while the host boots and before microvmd is there. A unit of somebody else that is
 * ordered after a handle waits for it only if a job of it is in systemd's queue by then. See
 * docs/adr/0016.
 */
#include "bus/handle-internal.h"

#include "base/log.h"
#include "microvm/names.h"

/* Jobs are asked for all at once, and answered one by one. */
typedef struct Queue {
    size_t pending;
    bool unavailable; /* there are no handles here: said by microvmd */
} Queue;

typedef struct Entry {
    Queue *queue;
    const char *name;
} Entry;

static int on_queued(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const sd_bus_error *error = sd_bus_message_get_error(reply);
    Entry *entry = userdata;

    entry->queue->pending--;
    if (!error)
        return 0;
    if (handles_are_unavailable(error))
        entry->queue->unavailable = true;
    else if (!entry->queue->unavailable)
        log_vm_notice(entry->name, "What is ordered after %s%s.service will not wait for it: %s",
                      MICROVM_HANDLE_PREFIX, entry->name, error->message);
    return 0;
}

/* "fail": nobody's stop that is under way is put off. One transaction each: if what a unit of somebody else
 * asks for is an ordering cycle, systemd refuses this one, and deletes no job of others. */
static int ask(sd_bus *systemd, Entry *entry)
{
    _cleanup_free_ char *unit = NULL;
    int r;

    if (asprintf(&unit, MICROVM_HANDLE_PREFIX "%s.service", entry->name) < 0)
        return -ENOMEM;
    r = sd_bus_call_method_async(systemd, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                 "org.freedesktop.systemd1.Manager", "StartUnit", on_queued, entry, "ss",
                                 unit, "fail");
    if (r >= 0)
        entry->queue->pending++;
    return r;
}

int handles_queue_on(sd_bus *systemd, char *const *names)
{
    Queue queue = {0};
    size_t n = 0;
    _cleanup_free_ Entry *entries = NULL;
    int r;

    while (names[n])
        n++;
    entries = calloc(n + 1, sizeof(*entries));
    r = entries ? 0 : -ENOMEM;
    for (size_t i = 0; r >= 0 && i < n; i++) {
        entries[i] = (Entry){&queue, names[i]};
        r = ask(systemd, &entries[i]);
    }
    while (r >= 0 && queue.pending > 0) {
        r = sd_bus_process(systemd, NULL);
        if (r == 0)
            r = sd_bus_wait(systemd, UINT64_MAX);
    }
    return r < 0 ? r : 0;
}

int handles_queue(char *const *names)
{
    sd_bus *systemd = NULL;
    int r = bus_open_systemd(&systemd);

    if (r >= 0)
        r = handles_queue_on(systemd, names);
    sd_bus_flush_close_unref(systemd);
    return r;
}
