/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "jobs.h"

#include "term.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TICK_USEC (USEC_PER_SEC / 2) /* of the line of progress */

enum {
    UNANSWERED_MAX =
        64, /* dbus-daemon lets a caller wait for 128 replies at a time, and refuses the others */
};

static void job_over(Job *job, int code)
{
    if (job->over)
        return;
    job->over = true;
    job->code = code;
    job->jobs->open--;
}

void jobs_clear(Jobs *jobs)
{
    for (size_t i = 0; jobs->items && i < jobs->count; i++) {
        sd_bus_slot_unref(jobs->items[i].call);
        free(jobs->items[i].result);
        free(jobs->items[i].reason);
    }
    free(jobs->items);
    sd_bus_slot_unref(jobs->look);
    free(jobs->waits);
    vm_rows_clear(&jobs->rows);
    free(jobs->required);
    *jobs = (Jobs){0};
}

/* --- what comes back --- */

static void take_end(Job *job, const char *result, const char *reason)
{
    free(job->result);
    free(job->reason);
    job->result = strdup(result);
    job->reason = strdup(reason);
}

static int code_of(const char *result)
{
    return result && strcmp(result, "done") == 0 ? MICROVM_EXIT_OK : MICROVM_EXIT_FAILURE;
}

static int on_job_removed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Jobs *jobs = userdata;
    const char *name, *verb, *result, *reason;
    uint64_t id;

    if (sd_bus_message_read(message, "tssss", &id, &name, &verb, &result, &reason) < 0)
        return 0;
    for (size_t i = 0; i < jobs->count; i++) {
        Job *job = &jobs->items[i];
        if (job->over || strcmp(job->row->name, name) != 0 || (!job->call && job->id != id))
            continue;
        take_end(job, result, reason);
        if (job->call)
            job->early_id = id; /* ours, or somebody else's: the answer to our call will tell */
        else
            job_over(job, code_of(result));
    }
    return 0;
}

static void clear_progress(const Jobs *jobs)
{
    if (!jobs->ctl->quiet && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* Whoever asked for the stops says so, or asks. */
static bool is_required(Jobs *jobs, const sd_bus_error *error)
{
    if (!sd_bus_error_has_name(error, MICROVM_ERROR_REQUIRED))
        return false;
    free(jobs->required);
    jobs->required = strdup(error->message);
    return jobs->required;
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const sd_bus_error *error = sd_bus_message_get_error(reply);
    Job *job = userdata;
    Jobs *jobs = job->jobs;
    int r;

    job->call = sd_bus_slot_unref(job->call);
    jobs->unanswered--;
    if (job->over)
        return 0;
    if (error) {
        if (error_is_unreachable(error, 0)) {
            jobs->daemon_gone = true;
            return 0;
        }
        clear_progress(jobs);
        take_end(job, "", error->message ? error->message : error->name);
        if (is_required(jobs, error))
            job_over(job, MICROVM_EXIT_FAILURE);
        else
            job_over(job, ctl_explain(jobs->ctl, error, -sd_bus_error_get_errno(error), jobs->member,
                                      job->row->name));
        return 0;
    }
    r = sd_bus_message_read(reply, "t", &job->id);
    if (r < 0)
        job_over(job, ctl_bad_answer(r));
    else if (!jobs->wait)
        job_over(job, MICROVM_EXIT_OK);
    else if (job->early_id == job->id)
        job_over(job, code_of(job->result));
    return 0;
}

/* --- asking --- */

static int subscribe(Jobs *jobs)
{
    sd_bus *bus = jobs->ctl->bus;
    int r;

    r = sd_bus_match_signal(bus, NULL, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE,
                            "JobRemoved", on_job_removed, jobs);
    if (r >= 0)
        r = ctl_watch_daemon(jobs->ctl, &jobs->daemon_gone);
    return r < 0 ? fail(MICROVM_EXIT_FAILURE, "Can't listen to the bus: %s", strerror(-r)) : MICROVM_EXIT_OK;
}

int jobs_append_options(const Ctl *ctl, sd_bus_message *call)
{
    int r;

    r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0 && ctl->wait)
        r = sd_bus_message_append(call, "{sv}", "wait", "s", ctl->wait);
    if (r >= 0 && (ctl->given & OPTION_FORCE))
        r = sd_bus_message_append(call, "{sv}", "force", "b", 1);
    if (r >= 0 && ctl->timeout_usec != UINT64_MAX)
        r = sd_bus_message_append(call, "{sv}", "timeout", "t", ctl->timeout_usec);
    if (r >= 0 && (ctl->given & OPTION_HOST_SHUTDOWN))
        r = sd_bus_message_append(call, "{sv}", "host-shutdown", "b", 1);
    if (r >= 0 && ctl->dependents)
        r = sd_bus_message_append(call, "{sv}", "dependents", "s", ctl->dependents);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

static int ask(Job *job)
{
    _cleanup_message_ sd_bus_message *call = NULL;
    Jobs *jobs = job->jobs;
    int code, r;

    code = ctl_new_call(jobs->ctl, job->row->path, jobs->member, &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = jobs_append_options(jobs->ctl, call);
    if (r >= 0) /* no timeout of ours: a person may be typing a password */
        r = sd_bus_call_async(jobs->ctl->bus, &job->call, call, on_answer, job, UINT64_MAX);
    jobs->unanswered += r >= 0;
    return r < 0 ? fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r)) : MICROVM_EXIT_OK;
}

/* Asks for those that are left, as far as may be. An exit code. */
static int ask_more(Jobs *jobs)
{
    int code = MICROVM_EXIT_OK;

    while (jobs->asked < jobs->count && jobs->unanswered < UNANSWERED_MAX && code == MICROVM_EXIT_OK)
        code = ask(&jobs->items[jobs->asked++]);
    return code;
}

/* --- waiting --- */

/* The one that is named. */
static const Job *last_open(const Jobs *jobs)
{
    for (size_t i = jobs->count; i-- > 0;)
        if (!jobs->items[i].over)
            return &jobs->items[i];
    return NULL;
}

static void show_progress(const Jobs *jobs)
{
    const char *doing = strcmp(jobs->member, "Start") == 0  ? "Starting"
                        : strcmp(jobs->member, "Stop") == 0 ? "Stopping"
                                                            : "Restarting";
    const Job *job = last_open(jobs);
    char span[64], line[512];
    size_t end = MIN((size_t)terminal_width(), sizeof(line)) - 1, n;

    format_span((now_monotonic_usec() - jobs->since_usec) / USEC_PER_SEC * USEC_PER_SEC, span, sizeof(span));
    if (jobs->open > 1)
        snprintf(line, sizeof(line), "%s %zu of %zu microVMs… %s", doing, jobs->open, jobs->count, span);
    else
        snprintf(line, sizeof(line), "%s %s… %s", doing, job->row->name, span);
    n = strlen(line);
    if (job == jobs->looked && jobs->waits && jobs->open > 1)
        snprintf(line + n, sizeof(line) - n, "; %s: %s", job->row->name, jobs->waits);
    else if (job == jobs->looked && jobs->waits)
        snprintf(line + n, sizeof(line) - n, ": %s", jobs->waits);
    /* A line that goes on below could not be taken back; no character is cut. */
    end = MIN(end, strlen(line));
    while (end > 0 && ((unsigned char)line[end] & 0xc0) == 0x80)
        end--;
    line[end] = '\0';
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
}

static int on_look(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    _cleanup_json_ cJSON *properties = NULL;
    Jobs *jobs = userdata;

    jobs->look = sd_bus_slot_unref(jobs->look);
    free(jobs->waits);
    jobs->waits = NULL;
    if (!sd_bus_message_get_error(reply) && json_from_message(reply, &properties) >= 0 &&
        strcmp(json_text(properties, "State"), "waiting") == 0)
        jobs->waits = escape(json_text(properties, "StateReason"), ESCAPE_LINE);
    if (jobs->waits && jobs->open > 0)
        show_progress(jobs);
    return 0;
}

/* What it waits for may change, or come true. */
static void look(Jobs *jobs)
{
    _cleanup_message_ sd_bus_message *call = NULL;
    sd_bus *bus = jobs->ctl->bus;

    if (jobs->look)
        return;
    if (jobs->looked != last_open(jobs)) {
        free(jobs->waits);
        jobs->waits = NULL;
    }
    jobs->looked = last_open(jobs);
    if (sd_bus_message_new_method_call(bus, &call, MICROVM_BUS_NAME, jobs->looked->row->path,
                                       "org.freedesktop.DBus.Properties", "GetAll") >= 0 &&
        sd_bus_message_set_auto_start(call, 0) >= 0 &&
        sd_bus_message_append(call, "s", MICROVM_VM_INTERFACE) >= 0)
        (void)sd_bus_call_async(bus, &jobs->look, call, on_look, jobs, 0);
}

/* Once all calls are answered, nobody has to type any more. */
static void release_agent(Jobs *jobs)
{
    if (jobs->asked == jobs->count && jobs->unanswered == 0)
        ctl_stop_asking(jobs->ctl);
}

static int wait_for_all(Jobs *jobs)
{
    uint64_t next;
    int code, r = 0;

    jobs->since_usec = now_monotonic_usec();
    next = jobs->since_usec + TICK_USEC;
    while (jobs->open > 0 && !jobs->daemon_gone) {
        code = ask_more(jobs);
        if (code != MICROVM_EXIT_OK)
            return code;
        r = sd_bus_process(jobs->ctl->bus, NULL);
        if (r < 0)
            break;
        if (r > 0)
            continue;
        release_agent(jobs);
        /* A question for a password must not be written over. */
        if (now_monotonic_usec() > next && !jobs->ctl->quiet && jobs->ctl->agent <= 0 &&
            isatty(STDERR_FILENO)) {
            next = now_monotonic_usec() + TICK_USEC;
            show_progress(jobs);
            look(jobs);
        }
        r = sd_bus_wait(jobs->ctl->bus, TICK_USEC);
        if (r < 0 && r != -EINTR)
            break;
    }
    clear_progress(jobs);
    if (jobs->open == 0)
        return MICROVM_EXIT_OK;
    return fail(MICROVM_EXIT_UNREACHABLE,
                "%s ended while %zu job%s waited for; the microVMs go on without it.\n"
                "Look again when it is back: microvmctl list",
                jobs->daemon_gone ? "microvmd" : "The connection to microvmd", jobs->open,
                jobs->open == 1 ? " was" : "s were");
}

static void tell_failure(const Jobs *jobs, const Job *job)
{
    _cleanup_free_ char *reason = job->reason ? escape(job->reason, ESCAPE_LINE) : NULL;
    const char *name = job->row->name, *verb = strcmp(jobs->member, "Start") == 0  ? "start"
                                               : strcmp(jobs->member, "Stop") == 0 ? "stop"
                                                                                   : "restart";

    if (!job->over || !job->result || !*job->result || job->code == MICROVM_EXIT_OK)
        return;
    if (strcmp(job->result, "superseded") == 0) {
        fail(job->code, "The %s of %s was superseded by another request: %s", verb, name,
             reason ? reason : "");
    } else if (strcmp(job->result, "timeout") == 0) {
        fail(job->code, "The %s of %s took too long: %s", verb, name, reason ? reason : "");
        fprintf(stderr, "See: microvmctl why %s\n", name);
    } else {
        fail(job->code, "The %s of %s %s: %s", verb, name,
             strcmp(job->result, "canceled") == 0 ? "was canceled" : "failed", reason ? reason : "");
        fprintf(stderr, "See: microvmctl why %s\n", name);
    }
}

static int add_json(const Jobs *jobs, cJSON *list)
{
    for (size_t i = 0; i < jobs->count; i++) {
        const Job *job = &jobs->items[i];
        cJSON *object = cJSON_CreateObject();
        char id[24];
        snprintf(id, sizeof(id), "%llu", (unsigned long long)job->id);
        if (!cJSON_AddItemToArray(list, object) || !cJSON_AddStringToObject(object, "Name", job->row->name) ||
            !cJSON_AddRawToObject(object, "Job", id) ||
            !cJSON_AddStringToObject(object, "Result", job->result ? job->result : "") ||
            !cJSON_AddStringToObject(object, "Reason", job->reason ? job->reason : ""))
            return -ENOMEM;
    }
    return 0;
}

static int print_jobs(const Jobs *jobs)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();

    return list && add_json(jobs, list) >= 0 ? json_print(jobs->ctl->json, list) : fail_oom();
}

/* A job for each row; none is asked for yet, nor is anything listened to. */
static int set_up(Jobs *jobs, Ctl *ctl, const char *member)
{
    *jobs = (Jobs){.ctl = ctl, .member = member, .wait = !ctl->no_block};
    /* Before the first call, so that no end is missed. */
    return subscribe(jobs);
}

static int add_jobs(Jobs *jobs, const VmRows *rows)
{
    jobs->items = calloc(rows->count + 1, sizeof(*jobs->items));
    if (!jobs->items)
        return fail_oom();
    jobs->count = jobs->open = rows->count;
    for (size_t i = 0; i < rows->count; i++) {
        jobs->items[i].jobs = jobs;
        jobs->items[i].row = &rows->items[i];
    }
    return MICROVM_EXIT_OK;
}

static int finish(Jobs *jobs, int code)
{
    if (code == MICROVM_EXIT_OK)
        code = wait_for_all(jobs);
    for (size_t i = 0; i < jobs->count; i++) {
        tell_failure(jobs, &jobs->items[i]);
        if (code == MICROVM_EXIT_OK)
            code = jobs->items[i].code;
    }
    if (jobs->ctl->json != JSON_OFF && !jobs->required)
        print_jobs(jobs);
    return code;
}

int jobs_run(Ctl *ctl, const char *member, const VmRows *rows, Jobs *ret_jobs)
{
    Jobs *jobs = ret_jobs; /* callbacks point into it */
    int code = set_up(jobs, ctl, member);

    if (code == MICROVM_EXIT_OK)
        code = add_jobs(jobs, rows);
    if (code == MICROVM_EXIT_OK)
        ctl_ask_password(ctl);
    return finish(jobs, code);
}

/* --- by one call --- */

/* A job that was not accepted is over, with the reason. */
static void take_answer(Job *job, uint64_t id, const char *error)
{
    job->id = id;
    if (id == 0) {
        take_end(job, "failed", error);
        job_over(job, MICROVM_EXIT_FAILURE);
    } else if (!job->jobs->wait) {
        job_over(job, MICROVM_EXIT_OK);
    }
}

/* Twice: the rows must stay where they are before jobs point to them. */
static int read_answer(Jobs *jobs, sd_bus_message *reply)
{
    const char *name, *path, *state, *error;
    uint64_t id;
    int r = sd_bus_message_enter_container(reply, 'a', "(sosts)");

    while (r >= 0 && (r = sd_bus_message_read(reply, "(sosts)", &name, &path, &state, &id, &error)) > 0)
        r = vm_rows_add(&jobs->rows, (VmRow){strdup(name), strdup(path), strdup(state), strdup(""),
                                             strdup(""), strdup(""), 0});
    if (r >= 0 && add_jobs(jobs, &jobs->rows) != MICROVM_EXIT_OK)
        r = -ENOMEM;
    jobs->asked = jobs->count;
    if (r >= 0)
        r = sd_bus_message_rewind(reply, true);
    if (r >= 0)
        r = sd_bus_message_enter_container(reply, 'a', "(sosts)");
    for (size_t i = 0; r >= 0 && i < jobs->count; i++) {
        r = sd_bus_message_read(reply, "(sosts)", &name, &path, &state, &id, &error);
        if (r > 0)
            take_answer(&jobs->items[i], id, error);
    }
    return r < 0 ? ctl_bad_answer(r) : MICROVM_EXIT_OK;
}

int jobs_run_call(Ctl *ctl, const char *member, sd_bus_message *call, Jobs *ret_jobs)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
    Jobs *jobs = ret_jobs;
    int code = set_up(jobs, ctl, member), r;

    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_ask_password(ctl);
    r = sd_bus_call(ctl->bus, call, UINT64_MAX, &error, &reply); /* as ctl_send() */
    ctl_stop_asking(ctl);
    if (r < 0 && is_required(jobs, &error))
        code = MICROVM_EXIT_FAILURE;
    else if (r < 0)
        code = ctl_explain(ctl, &error, r, sd_bus_message_get_member(call), NULL);
    else
        code = read_answer(jobs, reply);
    return finish(jobs, code);
}
