/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/readiness.h"

#include "base/log.h"
#include "base/parse.h"
#include "base/say.h"

ReadinessRules readiness_rules(const VmSpec *spec)
{
    return (ReadinessRules){.type = spec->readiness_type,
                            .timeout_usec = spec->readiness_timeout_usec,
                            .on_timeout = spec->readiness_on_timeout};
}

void readiness_clear(Readiness *readiness)
{
    free(readiness->text);
    *readiness = (Readiness){0};
}

void readiness_begin(Readiness *readiness, const ReadinessRules *rules, uint64_t now_boot_usec)
{
    readiness_clear(readiness);
    if (rules->type == READINESS_NONE)
        return;
    readiness->begun_boot_usec = now_boot_usec;
    readiness->deadline_boot_usec = now_boot_usec + rules->timeout_usec;
    /* Of a guest that may not be able to tell nothing is claimed until it has told something. */
    if (rules->type != READINESS_AUTO)
        readiness->state = MICROVM_READINESS_WAITING;
}

uint64_t readiness_due(const Readiness *readiness)
{
    return readiness->paused_boot_usec > 0 ? 0 : readiness->deadline_boot_usec;
}

bool readiness_is_open(const Readiness *readiness)
{
    return readiness->begun_boot_usec > 0 && readiness->paused_boot_usec == 0 &&
           (readiness->state == MICROVM_READINESS_WAITING || readiness->state == MICROVM_READINESS_TIMED_OUT);
}

static void set_text(Readiness *readiness, const char *text)
{
    if (free_and_strdup(&readiness->text, text) < 0)
        log_oom();
}

static ReadinessVerdict be_late(Readiness *readiness, const ReadinessRules *rules, uint64_t now_usec)
{
    if (readiness_due(readiness) == 0 || now_usec < readiness->deadline_boot_usec)
        return READINESS_SAME;
    readiness->deadline_boot_usec = 0;
    if (readiness->state == MICROVM_READINESS_NONE)
        return READINESS_LATE; /* a silent guest is not punished, but nobody is to wait for ever */
    readiness->state = MICROVM_READINESS_TIMED_OUT;
    return rules->on_timeout == ON_TIMEOUT_RESTART ? READINESS_RESTART
           : rules->on_timeout == ON_TIMEOUT_FAIL  ? READINESS_FAIL
                                                   : READINESS_LATE;
}

static ReadinessVerdict resume(Readiness *readiness, uint64_t now_usec)
{
    if (readiness->paused_boot_usec == 0)
        return READINESS_SAME;
    if (readiness->deadline_boot_usec > 0 && now_usec > readiness->paused_boot_usec)
        readiness->deadline_boot_usec += now_usec - readiness->paused_boot_usec;
    readiness->paused_boot_usec = 0;
    return READINESS_CHANGED;
}

static ReadinessVerdict become_ready(Readiness *readiness, const char *text, Instant now)
{
    if (readiness->state == MICROVM_READINESS_READY)
        return READINESS_SAME;
    readiness->state = MICROVM_READINESS_READY;
    readiness->ready = now;
    if (readiness->kernel.boot_usec == 0)
        readiness->kernel = now; /* it must be up, if nobody has heard it */
    readiness->deadline_boot_usec = 0;
    set_text(readiness, text);
    return READINESS_CHANGED;
}

ReadinessVerdict readiness_take(Readiness *readiness, const ReadinessRules *rules, ReadinessEvent event,
                                const char *text, Instant now)
{
    if (readiness->begun_boot_usec == 0)
        return READINESS_SAME;
    switch (event) {
    case READINESS_KERNEL_UP:
        if (readiness->kernel.boot_usec > 0)
            return READINESS_SAME;
        readiness->kernel = now;
        return READINESS_CHANGED;
    case READINESS_SPOKE:
        if (readiness->state != MICROVM_READINESS_NONE || readiness->deadline_boot_usec == 0)
            return READINESS_SAME;
        readiness->state = MICROVM_READINESS_WAITING;
        return READINESS_CHANGED;
    case READINESS_IS_READY:
        return become_ready(readiness, text, now);
    case READINESS_IS_NOT:
        if (readiness->state != MICROVM_READINESS_READY)
            return READINESS_SAME;
        readiness->state = MICROVM_READINESS_LOST;
        set_text(readiness, text);
        return READINESS_CHANGED;
    case READINESS_DEADLINE:
        return be_late(readiness, rules, now.boot_usec);
    case READINESS_PAUSED:
        if (readiness->paused_boot_usec > 0)
            return READINESS_SAME;
        readiness->paused_boot_usec = now.boot_usec;
        return READINESS_CHANGED;
    case READINESS_RESUMED:
        return resume(readiness, now.boot_usec);
    }
    return READINESS_SAME;
}

/* --- in words --- */

/* What is waited for; the caller's. */
static char *what_of(const VmSpec *spec)
{
    switch (spec->readiness_type) {
    case READINESS_CONSOLE:
        return say("a line on its console that matches \"%s\"", spec->readiness_pattern);
    case READINESS_TCP:
        return say("the guest's port %u", (unsigned)spec->readiness_port);
    case READINESS_HTTP:
        return say("an answer to GET %s at the guest's port %u",
                   spec->readiness_path ? spec->readiness_path : "/", (unsigned)spec->readiness_port);
    case READINESS_COMMAND:
        return say("%s to succeed",
                   spec->n_readiness_command > 0 ? spec->readiness_command[0] : "its command");
    default:
        return say("the guest's own word that it is ready");
    }
}

/* "1.3 s", "2min 30s": to the tenth below a minute. */
static void format_since(uint64_t from_usec, uint64_t to_usec, char *buffer, size_t size)
{
    uint64_t usec = to_usec > from_usec ? to_usec - from_usec : 0;

    if (usec < UINT64_C(60) * 1000000)
        snprintf(buffer, size, "%u.%u s", (unsigned)(usec / 1000000), (unsigned)(usec / 100000 % 10));
    else
        format_duration(usec / 1000000 * 1000000, buffer, size);
}

static char *say_waiting(const Readiness *readiness, const VmSpec *spec, const char *detail)
{
    _cleanup_free_ char *what = what_of(spec);
    char timeout[64], kernel[64] = "";
    bool late = readiness->state == MICROVM_READINESS_TIMED_OUT;
    const char *up;

    if (!what)
        return NULL;
    format_duration(spec->readiness_timeout_usec, timeout, sizeof(timeout));
    if (readiness->kernel.boot_usec > 0)
        format_since(readiness->begun_boot_usec, readiness->kernel.boot_usec, kernel, sizeof(kernel));
    if (readiness->kernel.boot_usec == 0 && !spec->qemu_serial_console)
        up = "";
    else
        up = *kernel ? "; its kernel was up after " : "; its kernel has not said anything yet";
    return say("%s%s%swaiting for %s%s%s%s%s", late ? "not ready within " : "", late ? timeout : "",
               late ? ", " : "", what, detail ? ": " : "", detail ? detail : "", up, kernel);
}

char *readiness_say(const Readiness *readiness, const VmSpec *spec, const char *detail)
{
    const char *text = readiness->text;
    char since[64];

    if (readiness->begun_boot_usec == 0 || !spec)
        return strdup("");
    switch (readiness->state) {
    case MICROVM_READINESS_WAITING:
    case MICROVM_READINESS_TIMED_OUT:
        return say_waiting(readiness, spec, detail);
    case MICROVM_READINESS_READY:
        format_since(readiness->begun_boot_usec, readiness->ready.boot_usec, since, sizeof(since));
        return say("%s, after %s", text ? text : "the guest is ready", since);
    case MICROVM_READINESS_LOST:
        return say("ready no longer: %s", text ? text : "no reason given");
    default:
        return strdup("the guest has not said anything about it");
    }
}
