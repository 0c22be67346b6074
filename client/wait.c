/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waits until microVMs are in some state. */
#include "watch.h"

#include <stdio.h>
#include <string.h>

typedef enum Verdict {
    VERDICT_NOT_YET,
    VERDICT_REACHED,
    VERDICT_NEVER,
} Verdict;

/* `p` NULL: there is no such microVM any more. *ret_why is set for VERDICT_NEVER. */
typedef Verdict (*judge_fn)(const cJSON *p, const char **ret_why);

static bool is(const cJSON *p, const char *key, const char *word)
{
    return strcmp(json_text(p, key), word) == 0;
}

/* What is off may yet be started by somebody; what has failed is not waited for. */
static Verdict judge_running(const cJSON *p, const char **ret_why)
{
    *ret_why = p ? json_text(p, "StateReason") : "it is gone";
    if (!p || is(p, "State", "failed"))
        return VERDICT_NEVER;
    return is(p, "State", "running") || is(p, "State", "paused") ? VERDICT_REACHED : VERDICT_NOT_YET;
}

static Verdict judge_ready(const cJSON *p, const char **ret_why)
{
    Verdict verdict = judge_running(p, ret_why);

    if (verdict != VERDICT_REACHED)
        return verdict;
    if (is(p, "Readiness", "ready"))
        return VERDICT_REACHED;
    *ret_why = "it runs, and its definition declares no readiness";
    return is(p, "Readiness", "none") ? VERDICT_NEVER : VERDICT_NOT_YET;
}

static Verdict judge_stopped(const cJSON *p, const char **ret_why)
{
    return !p || is(p, "State", "inactive") || is(p, "State", "failed") ? VERDICT_REACHED : VERDICT_NOT_YET;
}

static Verdict judge_failed(const cJSON *p, const char **ret_why)
{
    *ret_why = "it is gone";
    return !p ? VERDICT_NEVER : is(p, "State", "failed") ? VERDICT_REACHED : VERDICT_NOT_YET;
}

static const struct {
    const char *word;
    judge_fn judge;
} goals[] = {
    {"running", judge_running},
    {"ready", judge_ready},
    {"stopped", judge_stopped},
    {"failed", judge_failed},
};

typedef struct Waiting {
    Ctl *ctl;
    Watch watch;
    const char *word;
    judge_fn judge;
    VmRows rows;
    Verdict *verdicts; /* of each row; what was reached once counts */
    char **why;
    size_t open;
} Waiting;

static void settle(Waiting *waiting, size_t i, Verdict verdict, const char *why)
{
    if (waiting->verdicts[i] != VERDICT_NOT_YET || verdict == VERDICT_NOT_YET)
        return;
    waiting->verdicts[i] = verdict;
    waiting->why[i] = verdict == VERDICT_NEVER ? escape(why, ESCAPE_LINE) : NULL;
    waiting->open--;
}

static void judge(Waiting *waiting, const char *name, const cJSON *p)
{
    for (size_t i = 0; i < waiting->rows.count; i++) {
        const char *why = "";
        Verdict verdict = waiting->judge(p, &why);
        if (strcmp(waiting->rows.items[i].name, name) == 0)
            settle(waiting, i, verdict, why);
    }
}

static void on_changed(const char *name, const cJSON *before, const cJSON *now, bool first, void *userdata)
{
    judge(userdata, name, now);
}

static void on_daemon(bool there, void *userdata)
{
    Waiting *waiting = userdata;

    if (!there && !waiting->ctl->quiet)
        fail(0, "microvmd has ended; waiting for its return.");
    /* Who went between the two lists is gone. */
    for (size_t i = 0; there && i < waiting->rows.count; i++)
        if (!watch_find(&waiting->watch, waiting->rows.items[i].name))
            judge(waiting, waiting->rows.items[i].name, NULL);
}

static int choose_goal(Ctl *ctl, Waiting *waiting)
{
    const char *word = ctl->wait_for ? ctl->wait_for : "running";

    for (size_t i = 0; i < ELEMENTSOF(goals); i++)
        if (strcmp(goals[i].word, word) == 0) {
            waiting->word = goals[i].word;
            waiting->judge = goals[i].judge;
            return MICROVM_EXIT_OK;
        }
    return fail(MICROVM_EXIT_USAGE, "--for %s: this must be running, ready, stopped or failed.", word);
}

static int wait_for_all(Waiting *waiting)
{
    const Ctl *ctl = waiting->ctl;
    WatchHandlers handlers = {on_changed, NULL, on_daemon, waiting};
    uint64_t now = now_monotonic_usec(),
             deadline = ctl->timeout_usec > UINT64_MAX - now ? UINT64_MAX : now + ctl->timeout_usec;
    int code = watch_begin(waiting->ctl, &handlers, &waiting->watch);

    while (code == MICROVM_EXIT_OK && waiting->open > 0 &&
           (!waiting->watch.begun || now_monotonic_usec() < deadline))
        code = watch_step(&waiting->watch, waiting->watch.begun ? deadline : UINT64_MAX);
    return code;
}

/* An exit code. */
static int tell(const Waiting *waiting)
{
    int code = MICROVM_EXIT_OK;

    for (size_t i = 0; i < waiting->rows.count; i++) {
        const char *name = waiting->rows.items[i].name;
        const cJSON *p = watch_find(&waiting->watch, name);
        _cleanup_free_ char *reason = escape(json_text(p, "StateReason"), ESCAPE_LINE);
        if (waiting->verdicts[i] == VERDICT_REACHED)
            continue;
        code = MICROVM_EXIT_FAILURE;
        if (waiting->verdicts[i] == VERDICT_NEVER)
            fail(code, "%s does not become %s: %s", name, waiting->word,
                 waiting->why[i] ? waiting->why[i] : "");
        else
            fail(code, "%s is not %s in time: it is %s: %s", name, waiting->word, json_text(p, "State"),
                 reason ? reason : "");
        fprintf(stderr, "See: microvmctl why %s\n", name);
    }
    return code;
}

static int print_verdicts(const Waiting *waiting)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < waiting->rows.count; i++) {
        const cJSON *p = watch_find(&waiting->watch, waiting->rows.items[i].name);
        cJSON *object = cJSON_CreateObject();
        cJSON_AddItemToArray(list, object);
        cJSON_AddStringToObject(object, "Name", waiting->rows.items[i].name);
        cJSON_AddBoolToObject(object, "Reached", waiting->verdicts[i] == VERDICT_REACHED);
        cJSON_AddStringToObject(object, "State", json_text(p, "State"));
        cJSON_AddStringToObject(object, "Readiness", json_text(p, "Readiness"));
        cJSON_AddStringToObject(object, "Reason",
                                waiting->why[i] ? waiting->why[i] : json_text(p, "StateReason"));
    }
    return json_print(waiting->ctl->json, list);
}

int verb_wait(Ctl *ctl)
{
    Waiting waiting = {.ctl = ctl};
    int code = choose_goal(ctl, &waiting), told;

    if (code == MICROVM_EXIT_OK)
        code = ctl_targets(ctl, false, &waiting.rows);
    if (code != MICROVM_EXIT_OK)
        return code;
    waiting.open = waiting.rows.count;
    waiting.verdicts = calloc(waiting.rows.count + 1, sizeof(*waiting.verdicts));
    waiting.why = calloc(waiting.rows.count + 1, sizeof(*waiting.why));
    code = waiting.verdicts && waiting.why ? wait_for_all(&waiting) : fail_oom();
    if (code == MICROVM_EXIT_OK) {
        code = tell(&waiting);
        told = ctl->json != JSON_OFF ? print_verdicts(&waiting) : MICROVM_EXIT_OK;
        code = code != MICROVM_EXIT_OK ? code : told;
    }
    watch_clear(&waiting.watch);
    for (size_t i = 0; waiting.why && i < waiting.rows.count; i++)
        free(waiting.why[i]);
    free(waiting.why);
    free(waiting.verdicts);
    vm_rows_clear(&waiting.rows);
    return code;
}
