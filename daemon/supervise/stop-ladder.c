/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/stop-ladder.h"

#define USEC_PER_SEC UINT64_C(1000000)

/* A hypervisor writes its images back on SIGTERM, and ends at once on SIGKILL unless it hangs in the kernel.
 */
#define TERM_USEC (5 * USEC_PER_SEC)
#define KILL_USEC (30 * USEC_PER_SEC)

static const char *const names[STOP_ACTION_MAX] = {
    [STOP_ACTION_AGENT] = "the guest's agent",
    [STOP_ACTION_COMMAND] = "command.stop",
    [STOP_ACTION_ACPI] = "the power button",
    [STOP_ACTION_CTRL_ALT_DEL] = "ctrl-alt-del",
    [STOP_ACTION_TERM] = "SIGTERM",
    [STOP_ACTION_KILL] = "SIGKILL",
};

/* One that asks, by an action of the definition; SIGTERM does so only where it comes first. */
static void add_asking(StopLadder *ladder, StopAction action, uint64_t timeout_usec)
{
    bool ends = action == STOP_ACTION_KILL || (action == STOP_ACTION_TERM && ladder->n > 0);

    ladder->rungs[ladder->n++] = (StopRung){.action = action, .timeout_usec = timeout_usec, .asks = !ends};
}

static void add_ending(StopLadder *ladder, StopAction action)
{
    ladder->rungs[ladder->n++] =
        (StopRung){.action = action, .timeout_usec = action == STOP_ACTION_TERM ? TERM_USEC : KILL_USEC};
}

/* --- making one --- */

static void take_steps(const VmSpec *spec, StopLadder *ladder)
{
    for (size_t i = 0; i < spec->n_stop_steps && ladder->n < STOP_RUNGS_MAX - 2; i++) {
        add_asking(ladder, spec->stop_steps[i].action, spec->stop_steps[i].timeout_usec);
        if (spec->stop_steps[i].action == STOP_ACTION_KILL)
            break; /* nothing comes after it */
    }
}

static void take_defaults(const VmSpec *spec, CapabilitySet can, StopLadder *ladder)
{
    bool button = can & CAPABILITY(CAP_STOP_BUTTON);

    if (can & CAPABILITY(CAP_STOP_COMMAND) && spec->n_command_stop > 0)
        add_asking(ladder, STOP_ACTION_COMMAND, 0);
    if (button)
        add_asking(ladder, STOP_ACTION_ACPI, 0);
    /* "microvm" gets a keyboard when it needs one: see qemu_adds_keyboard(). */
    if (can & CAPABILITY(CAP_STOP_KEYS) && (!button || spec->qemu_machine != QEMU_MACHINE_MICROVM))
        add_asking(ladder, STOP_ACTION_CTRL_ALT_DEL, 0);
}

static bool has(const StopLadder *ladder, StopAction action)
{
    for (size_t i = 0; i < ladder->n; i++)
        if (ladder->rungs[i].action == action)
            return true;
    return false;
}

/* What has no time of its own gets an equal share of what is left; what is too long is cut in proportion. */
static void share_out(StopLadder *ladder, uint64_t budget_usec)
{
    uint64_t given = 0, left;
    size_t open = 0;

    for (size_t i = 0; i < ladder->n; i++) {
        given += ladder->rungs[i].asks ? ladder->rungs[i].timeout_usec : 0;
        open += ladder->rungs[i].asks && ladder->rungs[i].timeout_usec == 0;
    }
    left = budget_usec > given ? budget_usec - given : 0;
    for (size_t i = 0; i < ladder->n; i++) {
        StopRung *rung = &ladder->rungs[i];
        if (!rung->asks) {
            if (rung->timeout_usec == 0)
                rung->timeout_usec = rung->action == STOP_ACTION_TERM ? TERM_USEC : KILL_USEC;
        } else if (rung->timeout_usec == 0) {
            rung->timeout_usec = left / open;
        } else if (given > budget_usec) {
            rung->timeout_usec = (uint64_t)((double)rung->timeout_usec * (double)budget_usec / (double)given);
        }
    }
}

/* Nobody is asked who is not waited for. */
static void drop_timeless(StopLadder *ladder)
{
    size_t kept = 0;

    for (size_t i = 0; i < ladder->n; i++)
        if (ladder->rungs[i].timeout_usec > 0)
            ladder->rungs[kept++] = ladder->rungs[i];
    ladder->n = kept;
}

static void add_ends(StopLadder *ladder)
{
    if (has(ladder, STOP_ACTION_KILL))
        return;
    if (!has(ladder, STOP_ACTION_TERM))
        add_ending(ladder, STOP_ACTION_TERM);
    add_ending(ladder, STOP_ACTION_KILL);
}

void stop_ladder_make(const VmSpec *spec, CapabilitySet can, uint64_t budget_usec, StopLadder *ret_ladder)
{
    StopLadder ladder = {0};

    if (spec && spec->n_stop_steps > 0)
        take_steps(spec, &ladder);
    else if (spec)
        take_defaults(spec, can, &ladder);
    if (ladder.n == 0)
        add_asking(&ladder, STOP_ACTION_TERM, 0);
    share_out(&ladder, budget_usec);
    drop_timeless(&ladder);
    add_ends(&ladder);
    *ret_ladder = ladder;
}

void stop_ladder_force(StopLadder *ladder)
{
    ladder->n = stop_ladder_is_tried(ladder) ? ladder->at + 1 : 0;
    ladder->at = ladder->n;
    add_ending(ladder, STOP_ACTION_TERM);
    add_ending(ladder, STOP_ACTION_KILL);
}

/* --- climbing it --- */

const StopRung *stop_ladder_rung(const StopLadder *ladder)
{
    return ladder->at < ladder->n ? &ladder->rungs[ladder->at] : NULL;
}

bool stop_ladder_forces(const StopLadder *ladder)
{
    const StopRung *rung = stop_ladder_rung(ladder);

    return rung && !rung->asks;
}

bool stop_ladder_is_tried(const StopLadder *ladder)
{
    const StopRung *rung = stop_ladder_rung(ladder);

    return rung && rung->since_boot_usec > 0;
}

void stop_ladder_try(StopLadder *ladder, uint64_t now_boot_usec)
{
    StopRung *rung = &ladder->rungs[ladder->at];

    if (rung->since_boot_usec == 0)
        rung->since_boot_usec = MAX(now_boot_usec, UINT64_C(1));
}

uint64_t stop_ladder_due(const StopLadder *ladder)
{
    const StopRung *rung = stop_ladder_rung(ladder);

    return rung ? rung->since_boot_usec + MIN(rung->timeout_usec, UINT64_MAX - rung->since_boot_usec) : 0;
}

bool stop_ladder_refuse(StopLadder *ladder, StopAction action)
{
    StopRung *rung = &ladder->rungs[ladder->at];

    if (!stop_ladder_is_tried(ladder) || rung->action != action)
        return false;
    rung->refused = true;
    return true;
}

bool stop_ladder_climb(StopLadder *ladder, uint64_t now_boot_usec)
{
    if (ladder->at + 1 >= ladder->n)
        return false;
    ladder->at++;
    stop_ladder_try(ladder, now_boot_usec);
    return true;
}

/* --- for people --- */

static void put_seconds(FILE *stream, uint64_t usec)
{
    fprintf(stream, usec < 10 * USEC_PER_SEC ? "%.1f s" : "%.0f s", (double)usec / USEC_PER_SEC);
}

/* "; the guest's agent refused, the power button had not for 10 s, nor ctrl-alt-del for 5.0 s" */
static void put_tried(FILE *stream, const StopLadder *ladder, const char *verb)
{
    for (size_t i = 0; i < ladder->at; i++) {
        const StopRung *rung = &ladder->rungs[i];
        const char *name = names[rung->action];
        fputs(i == 0 ? "; " : ", ", stream);
        if (rung->refused) {
            fprintf(stream, "%s refused", name);
            continue;
        }
        if (i == 0 || ladder->rungs[i - 1].refused)
            fprintf(stream, "%s %s for ", name, verb);
        else
            fprintf(stream, "nor %s for ", name);
        put_seconds(stream, ladder->rungs[i + 1].since_boot_usec - rung->since_boot_usec);
    }
}

static char *tell(const StopLadder *ladder, bool ended, uint64_t now_boot_usec)
{
    const StopRung *rung = stop_ladder_rung(ladder);
    char *text = NULL;
    size_t size;
    FILE *stream;

    if (!stop_ladder_is_tried(ladder) || !(stream = open_memstream(&text, &size)))
        return NULL;
    if (ended) {
        fprintf(stream, "%s ended it after ", names[rung->action]);
        put_seconds(stream, now_boot_usec - MIN(now_boot_usec, rung->since_boot_usec));
        put_tried(stream, ladder, "had not");
    } else {
        fprintf(stream, "trying %s", names[rung->action]);
        put_tried(stream, ladder, "has not helped");
    }
    if (fclose(stream) == 0)
        return text;
    free(text);
    return NULL;
}

char *stop_ladder_tell_end(const StopLadder *ladder, uint64_t now_boot_usec)
{
    return tell(ladder, true, now_boot_usec);
}

char *stop_ladder_tell(const StopLadder *ladder)
{
    return tell(ladder, false, 0);
}
