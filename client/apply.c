/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* apply: makes microVMs what their files say. The daemon does it; here it is asked for, watched and told. */
#include "definition.h"
#include "plan.h"

#include "microvm/states.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define TICK_USEC (USEC_PER_SEC / 2)

typedef struct Apply {
    Ctl *ctl;
    uint64_t id;
    cJSON *steps;
    size_t failures;
    bool over, daemon_gone;
    bool canceling; /* ^C was passed on */
    char *busy;     /* what goes on, for the line of progress */
    char *result, *reason;
} Apply;

static volatile sig_atomic_t interrupts;

/* --- what is told meanwhile --- */

static void clear_line(const Apply *apply)
{
    if (!apply->ctl->quiet && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* What is said of a step: while it goes on, when it is done, when it was not begun, when it failed. */
static const struct {
    const char *doing, *done, *skipped, *failed;
} words[MICROVM_STEP_MAX] = {
    [MICROVM_STEP_CHECK] = {"check", "checked", "not checked", NULL},
    [MICROVM_STEP_LIVE] = {"change", "changed while it runs", "not changed", "not changed"},
    [MICROVM_STEP_STOP] = {"stop", "stopped", "not stopped", "stop failed"},
    [MICROVM_STEP_PURGE] = {"purge", "its files are removed", "its files stay",
                            "its files are not all removed"},
    [MICROVM_STEP_START] = {"start", "started", "not started", "start failed"},
    [MICROVM_STEP_RESTART] = {"restart", "restarted", "not restarted", "restart failed"},
    [MICROVM_STEP_ROLLBACK] = {"roll-back", "rolled back to what it ran with before", "not rolled back",
                               "roll-back failed"},
};

static void print_step(Apply *apply, const char *name, MicrovmStep step, MicrovmApply how, const char *text)
{
    _cleanup_free_ char *shown = escape(name, ESCAPE_LINE), *why = escape(text, ESCAPE_LINE);
    bool told = !apply->ctl->quiet && apply->ctl->json == JSON_OFF;

    clear_line(apply);
    free(apply->busy);
    apply->busy = NULL;
    if (!shown || !why)
        return;
    if (how == MICROVM_APPLY_BEGUN && asprintf(&apply->busy, "%s of %s", words[step].doing, shown) < 0)
        apply->busy = NULL;
    if (how == MICROVM_APPLY_FAILED && !words[step].failed) /* the text says it all */
        fail(MICROVM_EXIT_FAILURE, "%s: %s", shown, why);
    else if (how == MICROVM_APPLY_FAILED)
        fail(MICROVM_EXIT_FAILURE, "%s: %s: %s", shown, words[step].failed, why);
    else if (how == MICROVM_APPLY_DONE && told)
        printf("%s: %s\n", shown, words[step].done);
    else if (how == MICROVM_APPLY_SKIPPED && told)
        printf("%s: %s: %s\n", shown, words[step].skipped, why);
    fflush(stdout);
}

static int on_progress(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Apply *apply = userdata;
    const char *name, *action, *how, *text;
    int known, outcome;
    cJSON *step;
    uint64_t id;

    if (sd_bus_message_read(message, "tssss", &id, &name, &action, &how, &text) < 0 || id != apply->id)
        return 0;
    known = microvm_step_from_string(action);
    outcome = microvm_apply_from_string(how);
    if (known >= 0 && outcome >= 0)
        print_step(apply, name, (MicrovmStep)known, (MicrovmApply)outcome, text);
    apply->failures += outcome == MICROVM_APPLY_FAILED;
    step = cJSON_CreateObject();
    cJSON_AddStringToObject(step, "Name", name);
    cJSON_AddStringToObject(step, "Action", action);
    cJSON_AddStringToObject(step, "How", how);
    cJSON_AddStringToObject(step, "Text", text);
    cJSON_AddItemToArray(apply->steps, step);
    return 0;
}

static int on_removed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Apply *apply = userdata;
    const char *result, *reason;
    uint64_t id;

    if (sd_bus_message_read(message, "tss", &id, &result, &reason) < 0 || id != apply->id)
        return 0;
    apply->over = true;
    apply->result = strdup(result);
    apply->reason = strdup(reason);
    return 0;
}

static int subscribe(Apply *apply)
{
    sd_bus *bus = apply->ctl->bus;
    int r;

    r = sd_bus_match_signal(bus, NULL, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE,
                            "ApplyProgress", on_progress, apply);
    if (r >= 0)
        r = sd_bus_match_signal(bus, NULL, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE,
                                "ApplyRemoved", on_removed, apply);
    if (r >= 0)
        r = ctl_watch_daemon(apply->ctl, &apply->daemon_gone);
    return r < 0 ? fail(MICROVM_EXIT_FAILURE, "Can't listen to the bus: %s", strerror(-r)) : MICROVM_EXIT_OK;
}

/* --- the end --- */

static void on_interrupt(int number)
{
    interrupts++;
}

/* ^C ends what has not begun; once more, and it goes on without us. */
static int pass_interrupts(Apply *apply)
{
    int r;

    if (interrupts == 0 || (apply->canceling && interrupts == 1))
        return MICROVM_EXIT_OK;
    clear_line(apply);
    if (apply->canceling)
        return fail(MICROVM_EXIT_FAILURE,
                    "Not waited for any longer; what has begun goes on: microvmctl list");
    apply->canceling = true;
    fputs("Canceled: what has begun is finished, nothing else begins. ^C once more does not wait for it.\n",
          stderr);
    r = sd_bus_call_method_async(apply->ctl->bus, NULL, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH,
                                 MICROVM_MANAGER_INTERFACE, "CancelApply", NULL, NULL, "t", apply->id);
    return r < 0 ? fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r)) : MICROVM_EXIT_OK;
}

static void show_progress(const Apply *apply, uint64_t since)
{
    char span[64];

    if (!apply->busy || apply->ctl->quiet || !isatty(STDERR_FILENO))
        return;
    format_span((now_monotonic_usec() - since) / USEC_PER_SEC * USEC_PER_SEC, span, sizeof(span));
    fprintf(stderr, "\r\033[K%s… %s", apply->busy, span);
}

static int wait_for_end(Apply *apply)
{
    uint64_t since = now_monotonic_usec();
    int code, r = 0;

    while (!apply->over && !apply->daemon_gone) {
        code = pass_interrupts(apply);
        if (code != MICROVM_EXIT_OK)
            return code;
        r = sd_bus_process(apply->ctl->bus, NULL);
        if (r < 0)
            break;
        if (r > 0)
            continue;
        show_progress(apply, since);
        r = sd_bus_wait(apply->ctl->bus, TICK_USEC);
        if (r < 0 && r != -EINTR)
            break;
    }
    clear_line(apply);
    if (apply->over)
        return strcmp(apply->result ? apply->result : "", "done") == 0 ? MICROVM_EXIT_OK
                                                                       : MICROVM_EXIT_FAILURE;
    if (!apply->daemon_gone)
        return fail(MICROVM_EXIT_UNREACHABLE,
                    "The connection to microvmd ended; the apply goes on there. Look again: microvmctl plan");
    return fail(MICROVM_EXIT_UNREACHABLE,
                "microvmd ended while it applied; what it had begun goes on, the rest is not done.\n"
                "Look again when it is back: microvmctl plan");
}

static int wait_interruptibly(Apply *apply)
{
    struct sigaction action = {.sa_handler = on_interrupt}, before;
    int code;

    sigaction(SIGINT, &action, &before);
    code = wait_for_end(apply);
    sigaction(SIGINT, &before, NULL);
    return code;
}

/* --- asking --- */

static int append_options(const Ctl *ctl, sd_bus_message *call)
{
    int r;

    r = sd_bus_message_open_container(call, 'a', "{sv}");
    if (r >= 0 && (ctl->given & OPTION_RESTART))
        r = sd_bus_message_append(call, "{sv}", "restart", "b", 1);
    if (r >= 0 && (ctl->given & OPTION_OUTDATED))
        r = sd_bus_message_append(call, "{sv}", "outdated", "b", 1);
    if (r >= 0 && (ctl->given & OPTION_CANARY))
        r = sd_bus_message_append(call, "{sv}", "canary", "b", 1);
    if (r >= 0 && ctl->canary_usec != UINT64_MAX)
        r = sd_bus_message_append(call, "{sv}", "canaryTime", "t", ctl->canary_usec);
    if (r >= 0 && (ctl->given & OPTION_MAX_PARALLEL))
        r = sd_bus_message_append(call, "{sv}", "maxParallel", "t", ctl->max_parallel);
    if (r >= 0 && (ctl->given & OPTION_PRUNE))
        r = sd_bus_message_append(call, "{sv}", "prune", "s", ctl->prune ? ctl->prune : "yes");
    if (r >= 0)
        r = append_labels(ctl, call);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

/* `files` NULL: none go. */
static int ask(Apply *apply, const cJSON *files)
{
    _cleanup_message_ sd_bus_message *call = NULL, *reply = NULL;
    Ctl *ctl = apply->ctl;
    const cJSON *file;
    int code, r;

    code = ctl_new_call(ctl, NULL, files ? "ApplyAndPurge" : "Apply", &call);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = append_names(call, ctl->names, ctl->n_names);
    if (r >= 0 && files) {
        r = sd_bus_message_open_container(call, 'a', "s");
        cJSON_ArrayForEach (file, files)
            if (r >= 0)
                r = sd_bus_message_append(call, "s", file->valuestring);
        if (r >= 0)
            r = sd_bus_message_close_container(call);
    }
    if (r >= 0)
        r = append_options(ctl, call);
    if (r < 0)
        return fail(MICROVM_EXIT_FAILURE, "Can't make a call: %s", strerror(-r));
    code = ctl_send(ctl, call, NULL, &reply);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_read(reply, "t", &apply->id);
    return r < 0 ? ctl_bad_answer(r) : MICROVM_EXIT_OK;
}

/* --- files that go with what is pruned --- */

static int add_files(Ctl *ctl, const char *name, cJSON *files)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    _cleanup_free_ char *path = NULL;
    const char *file;
    int code, r;

    if (sd_bus_path_encode(MICROVM_VM_PATH, name, &path) < 0)
        return fail_oom();
    code = ctl_call(ctl, path, name, "ListFiles", &reply, NULL);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_enter_container(reply, 'a', "s");
    while (r >= 0 && (r = sd_bus_message_read(reply, "s", &file)) > 0)
        cJSON_AddItemToArray(files, cJSON_CreateString(file));
    return r < 0 ? ctl_bad_answer(r) : MICROVM_EXIT_OK;
}

static int confirm(const Ctl *ctl, const cJSON *files)
{
    const cJSON *file;
    int n = cJSON_GetArraySize(files);
    char question[64];

    cJSON_ArrayForEach (file, files) {
        _cleanup_free_ char *shown = escape(file->valuestring, ESCAPE_LINE);
        fprintf(stderr, "  %s\n", shown ? shown : "?");
    }
    if (ctl->given & OPTION_YES)
        return MICROVM_EXIT_OK;
    if (!isatty(STDIN_FILENO))
        return fail(MICROVM_EXIT_FAILURE, "Nobody can be asked whether %s to go for ever; if so: --yes",
                    n == 1 ? "this file is" : "these files are");
    if (n == 1)
        snprintf(question, sizeof(question), "Remove this file for ever?");
    else
        snprintf(question, sizeof(question), "Remove these %d files for ever?", n);
    if (!define_ask(question))
        return fail(MICROVM_EXIT_FAILURE, "Nothing was done.");
    return MICROVM_EXIT_OK;
}

static int collect_files(Ctl *ctl, cJSON *files)
{
    _cleanup_json_ cJSON *plan = NULL;
    const cJSON *item;
    int code;

    code = ctl_plan(ctl, ctl->names, ctl->n_names, true, &plan);
    if (code != MICROVM_EXIT_OK)
        return code;
    cJSON_ArrayForEach (item, plan) {
        if (strcmp(json_text(item, "Action"), microvm_plan_to_string(MICROVM_PLAN_UNDECLARED)) == 0)
            code = add_files(ctl, json_text(item, "Name"), files);
        if (code != MICROVM_EXIT_OK)
            return code;
    }
    return cJSON_GetArraySize(files) > 0 ? confirm(ctl, files) : MICROVM_EXIT_OK;
}

/* --- what is left --- */

/* The names and labels of the command line, for another one. */
static void print_selection(const Ctl *ctl)
{
    for (size_t i = 0; i < ctl->n_labels; i++) {
        _cleanup_free_ char *label = escape(ctl->labels[i], ESCAPE_LINE);
        printf(" -l %s", label ? label : "?");
    }
    for (size_t i = 0; i < ctl->n_names; i++)
        printf(" %s", ctl->names[i]);
}

/* What an option would have done: for who may see that. */
static void tell_rest(Ctl *ctl)
{
    static const struct {
        MicrovmPlan action;
        const char *one, *more, *option;
    } rests[] = {
        {MICROVM_PLAN_RESTART, "needs a restart", "need a restart", "--restart"},
        {MICROVM_PLAN_OUTDATED, "runs with other files than the host has now",
         "run with other files than the host has now", "--restart --outdated"},
        {MICROVM_PLAN_UNDECLARED, "runs without a definition", "run without a definition", "--prune"},
    };
    _cleanup_json_ cJSON *plan = NULL;
    const cJSON *item;

    if (ctl_plan(ctl, ctl->names, ctl->n_names, false, &plan) != MICROVM_EXIT_OK)
        return;
    for (size_t i = 0; i < ELEMENTSOF(rests); i++) {
        size_t n = 0;
        cJSON_ArrayForEach (item, plan)
            n += strcmp(json_text(item, "Action"), microvm_plan_to_string(rests[i].action)) == 0;
        if (n == 0)
            continue;
        printf("%zu microVM%s %s: microvmctl apply %s", n, n == 1 ? "" : "s",
               n == 1 ? rests[i].one : rests[i].more, rests[i].option);
        print_selection(ctl);
        puts("");
    }
}

static int print_json(const Apply *apply)
{
    _cleanup_json_ cJSON *object = cJSON_CreateObject();
    char id[24];

    snprintf(id, sizeof(id), "%" PRIu64, apply->id);
    cJSON_AddRawToObject(object, "Apply", id);
    cJSON_AddItemToObject(object, "Steps", cJSON_Duplicate(apply->steps, 1));
    cJSON_AddStringToObject(object, "Result", apply->result ? apply->result : "");
    cJSON_AddStringToObject(object, "Reason", apply->reason ? apply->reason : "");
    return json_print(apply->ctl->json, object);
}

static int tell_end(const Apply *apply, int code)
{
    _cleanup_free_ char *reason = apply->reason ? escape(apply->reason, ESCAPE_LINE) : NULL;
    bool failed = apply->over && code == MICROVM_EXIT_FAILURE;

    if (apply->ctl->json != JSON_OFF)
        print_json(apply);
    else if (code == MICROVM_EXIT_OK && !apply->ctl->quiet && cJSON_GetArraySize(apply->steps) == 0)
        puts("Nothing was to be done.");
    /* What failed was told as it did; a cancellation was not, nor what was missed. */
    if (failed && apply->failures > 0)
        fail(code, "Not all was applied%s.", apply->canceling ? "; the rest was canceled" : "");
    else if (failed)
        fail(code, "Not all was applied: %s", reason ? reason : "");
    if (apply->ctl->json == JSON_OFF && !apply->ctl->quiet && apply->over)
        tell_rest(apply->ctl);
    return code;
}

static int check_options(const Ctl *ctl)
{
    static const struct {
        OptionBit option, needs;
        const char *text;
    } pairs[] = {
        {OPTION_OUTDATED, OPTION_RESTART,
         "--outdated says what --restart restarts: microvmctl apply --restart --outdated"},
        {OPTION_CANARY, OPTION_RESTART, "--canary is about restarts: microvmctl apply --restart --canary"},
        {OPTION_MAX_PARALLEL, OPTION_RESTART,
         "--max-parallel is about restarts: microvmctl apply --restart --max-parallel=N"},
        {OPTION_PURGE, OPTION_PRUNE,
         "--purge removes files of what --prune stops: microvmctl apply --prune --purge"},
    };

    for (size_t i = 0; i < ELEMENTSOF(pairs); i++)
        if ((ctl->given & pairs[i].option) && !(ctl->given & pairs[i].needs))
            return fail(MICROVM_EXIT_USAGE, "%s", pairs[i].text);
    return MICROVM_EXIT_OK;
}

int verb_apply(Ctl *ctl)
{
    _cleanup_json_ cJSON *steps = cJSON_CreateArray(), *files = NULL;
    Apply apply = {.ctl = ctl, .steps = steps};
    int code;

    code = check_options(ctl);
    if (code == MICROVM_EXIT_OK)
        code = ctl_connect(ctl);
    if (code != MICROVM_EXIT_OK)
        return code;
    ctl_ask_password(ctl);
    ctl->member = (ctl->given & OPTION_PURGE) ? "ApplyAndPurge" : NULL;
    code = ctl_reload_quietly(ctl);
    if (code == MICROVM_EXIT_OK && (ctl->given & OPTION_PURGE)) {
        files = cJSON_CreateArray();
        code = collect_files(ctl, files);
    }
    if (code == MICROVM_EXIT_OK)
        code = subscribe(&apply);
    if (code == MICROVM_EXIT_OK)
        code = ask(&apply, files);
    ctl_stop_asking(ctl);
    if (code == MICROVM_EXIT_OK && !ctl->no_block)
        code = tell_end(&apply, wait_interruptibly(&apply));
    free(apply.busy);
    free(apply.result);
    free(apply.reason);
    return code;
}
