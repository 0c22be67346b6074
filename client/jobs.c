/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* start, stop, restart: calls that give jobs, and waiting for these. */
#include "ctl.h"

#include <errno.h>
#include <time.h>

#define SEC UINT64_C(1000000)

typedef struct Waiting {
    uint64_t id; /* 0: not asked, or over */
    const VmRow *row;
    bool done;
    char *result, *reason;
} Waiting;

typedef struct Wait {
    Ctl *ctl;
    Waiting *items;
    size_t count, open;
    struct Early {
        uint64_t id;
        char *result, *reason;
    } *early; /* ends that came before the call's own answer was looked at */
    size_t n_early;
    bool daemon_gone;
} Wait;

static void take_end(Waiting *waiting, const char *result, const char *reason, Wait *wait)
{
    waiting->id = 0;
    waiting->done = true;
    waiting->result = strdup(result);
    waiting->reason = strdup(reason);
    wait->open--;
}

static int on_job_removed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    Wait *wait = userdata;
    const char *name, *verb, *result, *reason;
    struct Early *grown;
    uint64_t id;

    if (sd_bus_message_read(message, "tssss", &id, &name, &verb, &result, &reason) < 0)
        return 0;
    for (size_t i = 0; i < wait->count; i++)
        if (wait->items[i].id == id) {
            take_end(&wait->items[i], result, reason, wait);
            return 0;
        }
    grown = reallocarray(wait->early, wait->n_early + 1, sizeof(*grown));
    if (!grown)
        return 0;
    wait->early = grown;
    grown[wait->n_early++] = (struct Early){id, strdup(result), strdup(reason)};
    return 0;
}

static int on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    Wait *wait = userdata;
    const char *name, *before, *after;

    if (sd_bus_message_read(message, "sss", &name, &before, &after) >= 0 && *before)
        wait->daemon_gone = true; /* its jobs went with it, even if another one is there by now */
    return 0;
}

static int subscribe(Ctl *ctl, Wait *wait)
{
    int r;

    r = sd_bus_match_signal(ctl->bus, NULL, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE,
                            "JobRemoved", on_job_removed, wait);
    if (r >= 0)
        r = sd_bus_add_match(ctl->bus, NULL,
                             "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                             "member='NameOwnerChanged',arg0='" MICROVM_BUS_NAME "'",
                             on_owner_changed, wait);
    return r < 0 ? fail(MICROVM_EXIT_FAILURE, "can't listen to the bus: %s", strerror(-r)) : MICROVM_EXIT_OK;
}

/* --- asking --- */

static int append_option(sd_bus_message *call, const char *key, const char *type, uint64_t value)
{
    return *type == 'b' ? sd_bus_message_append(call, "{sv}", key, "b", (int)value)
                        : sd_bus_message_append(call, "{sv}", key, "t", value);
}

static int new_job_call(Ctl *ctl, const char *path, const char *member, sd_bus_message **ret_call)
{
    sd_bus_message *call = NULL;
    bool stops = strcmp(member, "Start") != 0;
    int code, r;

    code = ctl_new_call(ctl, path, member, &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0 && stops && ctl->force)
        r = append_option(call, "force", "b", true);
    if (r >= 0 && stops && ctl->timeout_usec != UINT64_MAX)
        r = append_option(call, "timeout", "t", ctl->timeout_usec);
    if (r >= 0 && stops && ctl->host_shutdown)
        r = append_option(call, "host-shutdown", "b", true);
    if (r >= 0)
        r = sd_bus_message_close_container(call);
    if (r < 0) {
        sd_bus_message_unref(call);
        return fail(MICROVM_EXIT_FAILURE, "can't make a call: %s", strerror(-r));
    }
    *ret_call = call;
    return MICROVM_EXIT_OK;
}

static int ask(Wait *wait, Waiting *waiting, const char *member)
{
    _cleanup_msg_ sd_bus_message *call = NULL, *reply = NULL;
    int code;

    code = new_job_call(wait->ctl, waiting->row->path, member, &call);
    if (code == MICROVM_EXIT_OK)
        code = ctl_send(wait->ctl, call, waiting->row->name, &reply);
    if (code != MICROVM_EXIT_OK)
        return code;
    if (sd_bus_message_read(reply, "t", &waiting->id) < 0)
        return fail(MICROVM_EXIT_FAILURE, "microvmd's answer can't be read");
    wait->open++;
    return MICROVM_EXIT_OK;
}

/* Ends whose signals overtook the answers to the calls. */
static void match_early(Wait *wait)
{
    for (size_t e = 0; e < wait->n_early; e++)
        for (size_t i = 0; i < wait->count; i++)
            if (wait->items[i].id != 0 && wait->items[i].id == wait->early[e].id)
                take_end(&wait->items[i], wait->early[e].result, wait->early[e].reason, wait);
}

/* --- waiting --- */

static uint64_t now_usec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SEC + (uint64_t)now.tv_nsec / 1000;
}

static void show_progress(Wait *wait, const char *member, uint64_t since)
{
    const char *doing = strcmp(member, "Start") == 0 ? "Starting" : strcmp(member, "Stop") == 0 ? "Stopping" : "Restarting";
    char span[64], line[256];
    const char *name = "";

    if (wait->ctl->quiet || !isatty(STDERR_FILENO))
        return;
    for (size_t i = 0; i < wait->count; i++)
        if (wait->items[i].id != 0)
            name = wait->items[i].row->name;
    format_span((now_usec() - since) / SEC * SEC, span, sizeof(span));
    if (wait->open > 1)
        snprintf(line, sizeof(line), "%s %zu microVMs… %s", doing, wait->open, span);
    else
        snprintf(line, sizeof(line), "%s %s… %s", doing, name, span);
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
}

static void clear_progress(Ctl *ctl)
{
    if (!ctl->quiet && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

static int wait_for_all(Wait *wait, const char *member)
{
    uint64_t since = now_usec();
    int r = 0;

    match_early(wait);
    while (wait->open > 0 && !wait->daemon_gone) {
        r = sd_bus_process(wait->ctl->bus, NULL);
        if (r < 0)
            break;
        if (r > 0)
            continue;
        if (now_usec() - since > SEC / 2)
            show_progress(wait, member, since);
        r = sd_bus_wait(wait->ctl->bus, SEC / 2);
        if (r < 0 && r != -EINTR)
            break;
    }
    clear_progress(wait->ctl);
    if (wait->open > 0)
        return fail(MICROVM_EXIT_UNREACHABLE,
                    "microvmd ended while %zu job%s waited for; the microVMs go on without it.\n"
                    "Look again when it is back: microvmctl list",
                    wait->open, wait->open == 1 ? " was" : "s were");
    return MICROVM_EXIT_OK;
}

static int tell_end(Ctl *ctl, const Waiting *waiting, const char *member)
{
    _cleanup_free_ char *reason = escape(waiting->reason, false);
    const char *name = waiting->row->name;

    if (strcmp(waiting->result, "done") == 0)
        return MICROVM_EXIT_OK;
    fail(MICROVM_EXIT_FAILURE, "%s of %s: %s: %s", member, name, waiting->result, reason ? reason : "");
    if (strcmp(waiting->result, "superseded") != 0 && !ctl->quiet)
        fprintf(stderr, "See: microvmctl status %s, microvmctl logs %s\n", name, name);
    return MICROVM_EXIT_FAILURE;
}

/* At a host's shutdown, who was cut off is said by name. */
static void tell_forced(Ctl *ctl, const VmRow *row)
{
    _cleanup_json_ cJSON *properties = NULL;
    const char *how;

    if (ctl_get_all(ctl, row->path, &properties) != MICROVM_EXIT_OK)
        return;
    how = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(properties, "LastStop"));
    if (how && strcmp(how, "forced") == 0 && strcmp(row->state, "inactive") != 0 && strcmp(row->state, "failed") != 0)
        fprintf(stderr, "%s did not shut down in time and was ended by force.\n", row->name);
}

int jobs_run(Ctl *ctl, const char *member)
{
    _cleanup_(vm_rows_clear) VmRows rows = {0};
    Wait wait = {.ctl = ctl};
    int code, worst = MICROVM_EXIT_OK;

    code = ctl_targets(ctl, false, &rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    wait.items = calloc(rows.count + 1, sizeof(*wait.items));
    wait.count = rows.count;
    code = !wait.items ? fail(MICROVM_EXIT_FAILURE, "out of memory") : ctl->no_block ? MICROVM_EXIT_OK : subscribe(ctl, &wait);
    for (size_t i = 0; code == MICROVM_EXIT_OK && i < rows.count; i++) {
        int asked;
        wait.items[i].row = &rows.items[i];
        asked = ask(&wait, &wait.items[i], member);
        worst = asked != MICROVM_EXIT_OK ? asked : worst;
        if (asked == MICROVM_EXIT_UNREACHABLE)
            break;
    }
    if (code == MICROVM_EXIT_OK && !ctl->no_block && wait.open > 0)
        code = wait_for_all(&wait, member);
    for (size_t i = 0; i < wait.count; i++) {
        if (wait.items && wait.items[i].done) {
            int ended = tell_end(ctl, &wait.items[i], member);
            worst = ended != MICROVM_EXIT_OK ? ended : worst;
            if (ctl->host_shutdown)
                tell_forced(ctl, wait.items[i].row);
            free(wait.items[i].result);
            free(wait.items[i].reason);
        }
    }
    for (size_t i = 0; i < wait.n_early; i++) {
        free(wait.early[i].result);
        free(wait.early[i].reason);
    }
    free(wait.early);
    free(wait.items);
    return code != MICROVM_EXIT_OK ? code : worst;
}

int verb_start(Ctl *ctl)
{
    return jobs_run(ctl, "Start");
}

int verb_restart(Ctl *ctl)
{
    return jobs_run(ctl, "Restart");
}

/* The one knob is TimeoutStopSec= of the unit; what is left of it is for telling and for the last ones' end by force. */
static uint64_t shutdown_budget(Ctl *ctl)
{
    enum { RESERVE = 10, LEAST = 5, WITHOUT_SYSTEMD = 90 };
    uint64_t usec = UINT64_MAX;

    if (sd_bus_get_property_trivial(ctl->bus, "org.freedesktop.systemd1",
                                    "/org/freedesktop/systemd1/unit/microvmd_2dshutdown_2eservice",
                                    "org.freedesktop.systemd1.Service", "TimeoutStopUSec", NULL, 't', &usec) < 0 ||
        usec == UINT64_MAX)
        return WITHOUT_SYSTEMD * SEC;
    return usec > (RESERVE + LEAST) * SEC ? usec - RESERVE * SEC : LEAST * SEC;
}

int verb_stop(Ctl *ctl)
{
    int code;

    if (ctl->host_shutdown) {
        code = ctl_connect(ctl);
        if (code != MICROVM_EXIT_OK)
            return code;
        if (sd_bus_get_name_creds(ctl->bus, MICROVM_BUS_NAME, 0, NULL) < 0) {
            fputs("microvmd is not running: there is nothing that it could stop.\n", stderr);
            return MICROVM_EXIT_OK;
        }
        if (ctl->timeout_usec == UINT64_MAX)
            ctl->timeout_usec = shutdown_budget(ctl);
    }
    return jobs_run(ctl, "Stop");
}
