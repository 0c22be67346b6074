/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/restart.h"

#include "base/parse.h"
#include "base/say.h"

uint64_t restart_delay(const RestartRules *rules, unsigned failures)
{
    uint64_t delay = rules->delay_usec, longest = MAX(delay, rules->max_delay_usec);

    for (unsigned i = 1; i < failures && delay < longest && rules->factor > 1; i++)
        delay = MIN(delay * rules->factor, longest);
    return delay;
}

uint64_t restart_jitter(const RestartRules *rules, uint64_t delay_usec, uint32_t chance)
{
    uint64_t more = delay_usec / 10 * (chance >> 16) >> 16;

    return MIN(delay_usec + more, MAX(rules->delay_usec, rules->max_delay_usec));
}

/* Notes an automatic start at `at_usec`, unless there were too many in the interval. */
static bool history_admit(RestartHistory *history, const RestartRules *rules, uint64_t at_usec)
{
    unsigned kept = 0;

    if (rules->start_limit == 0)
        return true;
    for (unsigned i = 0; i < history->n_starts; i++)
        if (history->starts_usec[i] + rules->limit_interval_usec > at_usec)
            history->starts_usec[kept++] = history->starts_usec[i];
    history->n_starts = kept;
    if (kept >= MIN(rules->start_limit, RESTART_STARTS_MAX))
        return false;
    history->starts_usec[history->n_starts++] = at_usec;
    return true;
}

static RestartVerdict verdict(RestartKind kind, MicrovmResult result, const char *text,
                              const char *what_follows)
{
    return (RestartVerdict){.kind = kind,
                            .result = result,
                            .text = say("%s%s%s", text ? text : "ended", what_follows ? "; " : "",
                                        what_follows ? what_follows : "")};
}

static RestartVerdict give_up(const Ending *ending, const RestartRules *rules)
{
    char interval[64], follows[192];

    format_duration(rules->limit_interval_usec, interval, sizeof(interval));
    snprintf(follows, sizeof(follows),
             "it has reached its start limit (%u within %s) and is not started again until \"microvmctl "
             "reset-failed\" or a new definition",
             (unsigned)rules->start_limit, interval);
    return verdict(RESTART_VERDICT_FAILED, MICROVM_RESULT_START_LIMIT, ending->text, follows);
}

/* Whether the policy is for such a failure. */
static bool restarts(const Ending *ending, RestartPolicy policy)
{
    bool at_the_start = ending->result == MICROVM_RESULT_RESOURCES || ending->result == MICROVM_RESULT_CONFIG;

    if (policy == RESTART_ON_ABNORMAL)
        return !at_the_start && ending->result != MICROVM_RESULT_EXIT_CODE;
    return policy != RESTART_NO;
}

/* What the definition wants after such an end, whatever happened before; and why, where that is not plain. */
static RestartKind wanted(const Ending *ending, const RestartRules *rules, const char **ret_why)
{
    *ret_why = NULL;
    switch (ending->kind) {
    case ENDING_REBOOT:
        if (rules->on_reboot == GUEST_END_RESTART)
            return RESTART_VERDICT_AGAIN;
        *ret_why = rules->policy == RESTART_NO ? "restart.policy is \"no\"" : "onReboot is \"stop\"";
        return RESTART_VERDICT_OFF;
    case ENDING_POWEROFF:
        return rules->on_poweroff == GUEST_END_RESTART ? RESTART_VERDICT_RETRY : RESTART_VERDICT_OFF;
    case ENDING_FAILURE:
        if (restarts(ending, rules->policy))
            return RESTART_VERDICT_RETRY;
        *ret_why =
            rules->policy == RESTART_NO ? "restart.policy is \"no\"" : "restart.policy is \"on-abnormal\"";
        return RESTART_VERDICT_FAILED;
    default:
        return RESTART_VERDICT_OFF; /* a person's stop is never undone */
    }
}

RestartVerdict restart_decide(const Ending *ending, const RestartRules *rules, bool again, uint64_t ran_usec,
                              uint64_t now_usec, uint32_t chance, RestartHistory *history)
{
    bool failure = ending->kind == ENDING_FAILURE;
    uint64_t nominal_usec, delay_usec;
    const char *why;
    RestartKind kind;
    RestartVerdict made;
    char delay_text[64], follows[96];

    if (again)
        return verdict(RESTART_VERDICT_AGAIN, ending->result, ending->text, "it starts again, as asked");
    if (rules->never && ending->kind != ENDING_STOPPED && ending->kind != ENDING_MANUAL)
        return verdict(failure ? RESTART_VERDICT_FAILED : RESTART_VERDICT_OFF, ending->result, ending->text,
                       ending->kind == ENDING_POWEROFF ? NULL : rules->never);
    kind = wanted(ending, rules, &why);
    if (kind == RESTART_VERDICT_OFF || kind == RESTART_VERDICT_FAILED)
        return verdict(kind, ending->result, ending->text, why);
    if (kind == RESTART_VERDICT_AGAIN) {
        history->failures = 0;
        if (!history_admit(history, rules, now_usec))
            return give_up(ending, rules);
        return verdict(kind, ending->result, ending->text, "it starts again");
    }

    /* Who ran well for as long as the interval has left the earlier trouble behind. */
    history->failures = !failure || ran_usec >= rules->limit_interval_usec ? 1 : history->failures + 1;
    nominal_usec = restart_delay(rules, history->failures);
    delay_usec = restart_jitter(rules, nominal_usec, chance);
    if (!history_admit(history, rules, now_usec + delay_usec))
        return give_up(ending, rules);
    format_duration(nominal_usec, delay_text, sizeof(delay_text));
    snprintf(follows, sizeof(follows), "it starts again in %s", delay_text);
    made = verdict(kind, ending->result, ending->text, follows);
    made.delay_usec = delay_usec;
    return made;
}
