/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* apply: makes microVMs what their files say. The daemon does it; here it is asked for, watched and told. */
#include "definition.h"
#include "plan.h"
#include "term.h"

#include "microvm/states.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TICK_USEC (USEC_PER_SEC / 2)

typedef struct Apply {
    Ctl *ctl;
    uint64_t id;
    cJSON *steps;
    bool over, daemon_gone;
    char *busy; /* what goes on, for the line of progress */
    char *result, *reason;
} Apply;

/* --- what is told meanwhile --- */

static void clear_line(const Apply *apply)
{
    if (!apply->ctl->quiet && isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

static void print_step(Apply *apply, const char *name, const char *action, const char *how, const char *text)
{
    static const struct {
        const char *action, *done;
    } words[] = {
        {"start", "started"},
        {"stop", "stopped"},
        {"restart", "restarted"},
        {"rollback", "rolled back"},
        {"live", "changed while it runs"},
    };
    _cleanup_free_ char *shown = escape(name, ESCAPE_LINE), *why = escape(text, ESCAPE_LINE);
    const char *done = action;

    for (size_t i = 0; i < ELEMENTSOF(words); i++)
        if (strcmp(words[i].action, action) == 0)
            done = words[i].done;
    clear_line(apply);
    free(apply->busy);
    apply->busy = NULL;
    if (strcmp(how, "begun") == 0) {
        if (asprintf(&apply->busy, "%s of %s", action, shown ? shown : "?") < 0)
            apply->busy = NULL;
    } else if (strcmp(how, "failed") == 0) {
        fail(MICROVM_EXIT_FAILURE, "%s: %s failed: %s", shown ? shown : "?", action, why ? why : "");
    } else if (!apply->ctl->quiet && apply->ctl->json == JSON_OFF) {
        if (strcmp(how, "done") == 0)
            printf("%s: %s\n", shown ? shown : "?", done);
        else
            printf("%s: no %s: %s\n", shown ? shown : "?", action, why ? why : "");
        fflush(stdout);
    }
}

static int on_progress(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Apply *apply = userdata;
    const char *name, *action, *how, *text;
    cJSON *step;
    uint64_t id;

    if (sd_bus_message_read(message, "tssss", &id, &name, &action, &how, &text) < 0 || id != apply->id)
        return 0;
    print_step(apply, name, action, how, text);
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

static int wait_for_end(Apply *apply)
{
    uint64_t since = now_monotonic_usec();
    char span[64];
    int r = 0;

    while (!apply->over && !apply->daemon_gone) {
        r = sd_bus_process(apply->ctl->bus, NULL);
        if (r < 0)
            break;
        if (r > 0)
            continue;
        if (apply->busy && !apply->ctl->quiet && isatty(STDERR_FILENO)) {
            format_span((now_monotonic_usec() - since) / USEC_PER_SEC * USEC_PER_SEC, span, sizeof(span));
            fprintf(stderr, "\r\033[K%s… %s", apply->busy, span);
        }
        r = sd_bus_wait(apply->ctl->bus, TICK_USEC);
        if (r < 0 && r != -EINTR)
            break;
    }
    clear_line(apply);
    if (apply->over)
        return strcmp(apply->result ? apply->result : "", "done") == 0 ? MICROVM_EXIT_OK
                                                                       : MICROVM_EXIT_FAILURE;
    return fail(MICROVM_EXIT_UNREACHABLE,
                "%s ended while it applied; what it had begun goes on, the rest is not done.\n"
                "Look again when it is back: microvmctl plan",
                apply->daemon_gone ? "microvmd" : "The connection to microvmd");
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
    char question[64];

    cJSON_ArrayForEach (file, files) {
        _cleanup_free_ char *shown = escape(file->valuestring, ESCAPE_LINE);
        fprintf(stderr, "  %s\n", shown ? shown : "?");
    }
    if (ctl->given & OPTION_YES)
        return MICROVM_EXIT_OK;
    if (!isatty(STDIN_FILENO))
        return fail(MICROVM_EXIT_FAILURE,
                    "Nobody can be asked whether these files are to go for ever; if so: --yes");
    snprintf(question, sizeof(question), "Remove these %d files for ever?", cJSON_GetArraySize(files));
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

/* What an option would have done: for who may see that. */
static void tell_rest(Ctl *ctl)
{
    static const struct {
        MicrovmPlan action;
        const char *text;
    } rests[] = {
        {MICROVM_PLAN_RESTART, "still to restart: microvmctl apply --restart"},
        {MICROVM_PLAN_OUTDATED, "with older files than the host has: microvmctl apply --restart --outdated"},
        {MICROVM_PLAN_UNDECLARED, "without a definition: microvmctl apply --prune"},
        {MICROVM_PLAN_INVALID, "with a definition that can't be used: microvmctl plan"},
    };
    _cleanup_json_ cJSON *plan = NULL;
    const cJSON *item;

    if (ctl_plan(ctl, ctl->names, ctl->n_names, false, &plan) != MICROVM_EXIT_OK)
        return;
    for (size_t i = 0; i < ELEMENTSOF(rests); i++) {
        size_t n = 0;
        cJSON_ArrayForEach (item, plan)
            n += strcmp(json_text(item, "Action"), microvm_plan_to_string(rests[i].action)) == 0;
        if (n > 0)
            printf("%zu %s\n", n, rests[i].text);
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

    if (apply->ctl->json != JSON_OFF)
        print_json(apply);
    else if (code == MICROVM_EXIT_OK && !apply->ctl->quiet && cJSON_GetArraySize(apply->steps) == 0)
        puts("Nothing was to be done.");
    if (code == MICROVM_EXIT_FAILURE && apply->over)
        fail(code, "Not all could be applied: %s", reason ? reason : "");
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
        code = tell_end(&apply, wait_for_end(&apply));
    free(apply.busy);
    free(apply.result);
    free(apply.reason);
    return code;
}
