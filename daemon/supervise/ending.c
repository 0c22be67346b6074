/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/ending.h"

#include "base/say.h"

static const struct {
    const char *words;
    ConsoleEvidence evidence;
} markers[] = {
    {"Kernel panic - not syncing: ", EVIDENCE_PANIC},
    {"reboot: Power down", EVIDENCE_POWEROFF},
    {"reboot: System halted", EVIDENCE_POWEROFF},
    {"reboot: Restarting system", EVIDENCE_REBOOT},
};

static const char *find_last(const char *text, size_t size, const char *words)
{
    const char *found = NULL, *from = text;
    size_t length = strlen(words);

    for (const char *at; (at = memmem(from, size - (size_t)(from - text), words, length)); from = at + 1)
        found = at;
    return found;
}

/* The rest of the line, cut to something that fits in a sentence. */
static char *copy_line(const char *line, size_t size)
{
    enum {
        LONGEST = 120
    };
    char *copy = malloc(LONGEST + 1);
    size_t n = 0;

    if (!copy)
        return NULL;
    for (size_t i = 0; i < size && n < LONGEST && line[i] != '\n' && line[i] != '\r'; i++)
        copy[n++] = line[i] >= ' ' && line[i] <= '~' ? line[i] : '?';
    while (n > 0 && copy[n - 1] == ' ')
        n--;
    copy[n] = '\0';
    return copy;
}

ConsoleEvidence console_evidence(const char *text, size_t size, char **ret_detail)
{
    ConsoleEvidence evidence = EVIDENCE_NONE;
    const char *latest = NULL;
    char *detail = NULL;

    for (size_t i = 0; i < ELEMENTSOF(markers); i++) {
        const char *at = find_last(text, size, markers[i].words);
        /* With panic=-1 the kernel goes on to say that it restarts: the panic is still the cause. */
        bool follows_panic = evidence == EVIDENCE_PANIC && markers[i].evidence == EVIDENCE_REBOOT;
        if (!at || (latest && at < latest) || follows_panic)
            continue;
        latest = at;
        evidence = markers[i].evidence;
        free(detail);
        detail = NULL;
        if (evidence == EVIDENCE_PANIC) {
            const char *message = at + strlen(markers[i].words);
            detail = copy_line(message, size - (size_t)(message - text));
        }
    }
    *ret_detail = detail;
    return evidence;
}

/* NULL: there is no more to say than the text. */
static char *say_with(const char *text, const char *detail)
{
    return detail ? say("%s (%s)", text, detail) : strdup(text);
}

/* What a driver says, in brackets behind a sentence that has its subject already. */
static char *say_of_driver(const char *text, const char *detail)
{
    static const char *const subjects[] = {"the hypervisor was ", "the hypervisor "};

    for (size_t i = 0; detail && i < ELEMENTSOF(subjects); i++)
        if (strncmp(detail, subjects[i], strlen(subjects[i])) == 0)
            return say_with(text, detail + strlen(subjects[i]));
    return say_with(text, detail);
}

static Ending classify_asked(const EndingFacts *facts)
{
    bool timed_out = facts->asked == STOP_ASKED_TIMEOUT;

    switch (facts->cause) {
    case END_POWEROFF:
    case END_REBOOT:
    case END_SHUTDOWN:
    case END_ASKED:
        if (facts->evidence == EVIDENCE_PANIC)
            return (Ending){ENDING_STOPPED, MICROVM_RESULT_GUEST_PANIC, MICROVM_LAST_STOP_FORCED,
                            say("the guest panicked while it was shutting down")};
        return (Ending){ENDING_STOPPED, MICROVM_RESULT_SUCCESS, MICROVM_LAST_STOP_CLEAN,
                        say_with("stopped: the guest shut itself down", facts->climbed)};
    case END_DESTROYED:
        if (timed_out)
            return (Ending){
                ENDING_STOPPED, MICROVM_RESULT_TIMEOUT, MICROVM_LAST_STOP_FORCED,
                say_with("stopped by force: the guest did not shut down in time", facts->climbed)};
        return (Ending){
            ENDING_STOPPED, MICROVM_RESULT_SUCCESS, MICROVM_LAST_STOP_FORCED,
            say_with("stopped by force", facts->asked == STOP_ASKED_FORCE ? facts->climbed : NULL)};
    case END_PANIC:
        return (Ending){ENDING_STOPPED, MICROVM_RESULT_GUEST_PANIC, MICROVM_LAST_STOP_FORCED,
                        say("the guest panicked while it was shutting down")};
    case END_WATCHDOG:
        return (Ending){ENDING_STOPPED, MICROVM_RESULT_WATCHDOG, MICROVM_LAST_STOP_FORCED,
                        say("stopped: the guest hung while it was shutting down, and its watchdog expired")};
    case END_UNIT_STOPPED:
        return (Ending){ENDING_STOPPED, MICROVM_RESULT_SUCCESS, MICROVM_LAST_STOP_FORCED,
                        say("stopped: its unit was stopped before the guest had shut down")};
    case END_OOM:
        return (Ending){
            ENDING_STOPPED, MICROVM_RESULT_OOM, MICROVM_LAST_STOP_FORCED,
            say_of_driver("stopped: the hypervisor ran out of memory before the guest had shut down",
                          facts->driver_text)};
    case END_LOST:
        return (Ending){ENDING_STOPPED, MICROVM_RESULT_LOST, MICROVM_LAST_STOP_LOST,
                        say("stopped: it was gone when microvmd looked again")};
    default:
        return (Ending){ENDING_STOPPED, MICROVM_RESULT_SIGNAL, MICROVM_LAST_STOP_FORCED,
                        say_of_driver("stopped: the hypervisor ended before the guest had shut down",
                                      facts->driver_text)};
    }
}

static Ending panicked(void)
{
    return (Ending){ENDING_FAILURE, MICROVM_RESULT_GUEST_PANIC, MICROVM_LAST_STOP_LOST,
                    say("the guest's kernel panicked (its console log has its last words)")};
}

static Ending powered_off(const char *when)
{
    return (Ending){ENDING_POWEROFF, MICROVM_RESULT_SUCCESS, MICROVM_LAST_STOP_CLEAN,
                    say_with("the guest powered itself off", when)};
}

static Ending rebooted(const char *when)
{
    return (Ending){ENDING_REBOOT, MICROVM_RESULT_SUCCESS, MICROVM_LAST_STOP_CLEAN,
                    say_with("the guest rebooted", when)};
}

static Ending stopped_by_another(const EndingFacts *facts, MicrovmLastStop last_stop, const char *otherwise)
{
    return (Ending){ENDING_MANUAL, MICROVM_RESULT_SUCCESS, last_stop,
                    facts->driver_text ? say_with("stopped by somebody else", facts->driver_text)
                                       : strdup(otherwise)};
}

static Ending classify_lost(const EndingFacts *facts)
{
    static const char when[] = "while microvmd was not watching; its console says so";

    switch (facts->evidence) {
    case EVIDENCE_PANIC:
        return panicked();
    case EVIDENCE_POWEROFF:
        return powered_off(when);
    case EVIDENCE_REBOOT:
        return rebooted(when);
    default:
        return (Ending){ENDING_FAILURE, MICROVM_RESULT_LOST, MICROVM_LAST_STOP_LOST,
                        strdup(facts->driver_text ? facts->driver_text
                                                  : "it ended while nobody watched, and left no word why")};
    }
}

Ending ending_classify(const EndingFacts *facts)
{
    if (facts->asked != STOP_NOT_ASKED)
        return classify_asked(facts);

    switch (facts->cause) {
    case END_POWEROFF:
        return powered_off(NULL);
    case END_REBOOT:
        return facts->evidence == EVIDENCE_PANIC ? panicked() : rebooted(NULL);
    case END_SHUTDOWN:
        if (facts->evidence == EVIDENCE_PANIC)
            return panicked();
        return facts->evidence == EVIDENCE_REBOOT ? rebooted(NULL) : powered_off(NULL);
    case END_PANIC:
        return panicked();
    case END_WATCHDOG:
        return (Ending){ENDING_FAILURE, MICROVM_RESULT_WATCHDOG, MICROVM_LAST_STOP_LOST,
                        say("the guest hung: its watchdog expired")};
    case END_DESTROYED:
        return stopped_by_another(facts, MICROVM_LAST_STOP_FORCED,
                                  "stopped through libvirt (virsh destroy, or another of its clients)");
    case END_ASKED:
        return stopped_by_another(facts, MICROVM_LAST_STOP_CLEAN,
                                  "stopped through libvirt (virsh shutdown, or another of its clients)");
    case END_UNIT_STOPPED:
        return (Ending){ENDING_MANUAL, MICROVM_RESULT_SUCCESS, MICROVM_LAST_STOP_FORCED,
                        say("stopped through systemd (systemctl stop of its unit)")};
    case END_OOM:
        return (Ending){
            ENDING_FAILURE, MICROVM_RESULT_OOM, MICROVM_LAST_STOP_LOST,
            say_of_driver("the hypervisor ran out of memory: the kernel ended it", facts->driver_text)};
    case END_TERMINATED:
        return (Ending){
            ENDING_FAILURE, MICROVM_RESULT_SIGNAL, MICROVM_LAST_STOP_LOST,
            say_of_driver("the hypervisor was ended by a signal from the host", facts->driver_text)};
    case END_EXITED:
        return (Ending){ENDING_FAILURE, MICROVM_RESULT_EXIT_CODE, MICROVM_LAST_STOP_LOST,
                        say_of_driver("the hypervisor gave up", facts->driver_text)};
    case END_LOST:
        return classify_lost(facts);
    default:
        return (Ending){ENDING_FAILURE, MICROVM_RESULT_SIGNAL, MICROVM_LAST_STOP_LOST,
                        say_of_driver("the hypervisor died", facts->driver_text)};
    }
}
