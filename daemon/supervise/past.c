/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/past.h"

#include "base/say.h"
#include "base/utf8.h"

#include <inttypes.h>

#define CUT "…"

void past_copy_text(char *to, size_t size, const char *text)
{
    size_t used = 0, left = strlen(text), length;

    while (left > 0 && (length = MAX(utf8_sequence(text + used, left), (size_t)1)) + used < size) {
        memcpy(to + used, text + used, length);
        used += length;
        left -= length;
    }
    if (left > 0 && size > strlen(CUT)) {
        while (used + strlen(CUT) >= size || (used > 0 && (text[used] & 0xC0) == 0x80))
            used--; /* to where a character begins */
        memcpy(to + used, CUT, strlen(CUT));
        used += strlen(CUT);
    }
    to[used] = '\0';
}

void trail_add(Trail *trail, uint64_t usec, MicrovmEvent kind, const char *text)
{
    TrailEntry *entry = &trail->entries[(trail->first + trail->count) % TRAIL_LENGTH];

    if (trail->count == TRAIL_LENGTH)
        trail->first = (trail->first + 1) % TRAIL_LENGTH;
    else
        trail->count++;
    entry->usec = usec;
    entry->kind = kind;
    past_copy_text(entry->text, sizeof(entry->text), text);
}

const TrailEntry *trail_get(const Trail *trail, unsigned i)
{
    return &trail->entries[(trail->first + i) % TRAIL_LENGTH];
}

char *caller_describe(const Caller *caller)
{
    if (!caller->known)
        return say("somebody whom the bus did not tell");
    if (caller->pid == 0)
        return say("uid %u", (unsigned)caller->uid);
    return say("uid %u (%s%spid %d)", (unsigned)caller->uid, caller->process, *caller->process ? ", " : "",
               (int)caller->pid);
}

char *asked_describe(const Asked *asked)
{
    const char *verb = microvm_job_verb_to_string(asked->verb);
    _cleanup_free_ char *caller = NULL;

    switch (asked->by) {
    case MICROVM_ASKED_BY_CALLER:
    case MICROVM_ASKED_BY_APPLY:
        caller = caller_describe(&asked->caller);
        return caller ? say("%s asked for by %s%s", verb,
                            asked->by == MICROVM_ASKED_BY_APPLY ? "the apply of " : "", caller)
                      : NULL;
    case MICROVM_ASKED_BY_AUTOSTART:
        return say("%s by its \"autostart\"", verb);
    case MICROVM_ASKED_BY_DEPENDENCY:
        return say("%s for %s, which needs it", verb, asked->whom);
    case MICROVM_ASKED_BY_HANDLE:
        return say("%s asked for through systemd, by its handle", verb);
    case MICROVM_ASKED_BY_SHUTDOWN:
        return say("%s because the host is shutting down, by " MICROVM_SHUTDOWN_UNIT, verb);
    case MICROVM_ASKED_BY_OUTSIDE:
        return say("%s by somebody else than microvmd", verb);
    default:
        return say("nothing was asked for");
    }
}

/* --- on record; 64 bits as decimal text, for cJSON's numbers are doubles --- */

static bool add_text(cJSON *object, const char *key, const char *text)
{
    return !*text || cJSON_AddStringToObject(object, key, text);
}

static bool add_number(cJSON *object, const char *key, uint64_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, number);
    return number == 0 || cJSON_AddStringToObject(object, key, text);
}

static bool add_word(cJSON *object, const char *key, const char *word)
{
    return word && cJSON_AddStringToObject(object, key, word);
}

static bool write_asked(cJSON *past, const Asked *asked)
{
    cJSON *object;

    if (asked->by == MICROVM_ASKED_BY_NOBODY)
        return true;
    object = cJSON_AddObjectToObject(past, "asked");
    return object && add_word(object, "by", microvm_asked_by_to_string(asked->by)) &&
           add_word(object, "verb", microvm_job_verb_to_string(asked->verb)) &&
           add_number(object, "timestamp", asked->usec) &&
           cJSON_AddBoolToObject(object, "known", asked->caller.known) &&
           add_number(object, "uid", asked->caller.uid) &&
           add_number(object, "pid", (uint64_t)asked->caller.pid) &&
           add_text(object, "process", asked->caller.process) && add_text(object, "whom", asked->whom);
}

static bool write_end(cJSON *past, const LastEnd *end)
{
    cJSON *object;

    if (end->usec == 0)
        return true;
    object = cJSON_AddObjectToObject(past, "end");
    return object && add_number(object, "timestamp", end->usec) &&
           add_number(object, "startTimestamp", end->start_usec) &&
           add_word(object, "result", microvm_result_to_string(end->result)) &&
           (end->cause == END_MAX || add_word(object, "cause", end_cause_to_string(end->cause))) &&
           add_number(object, "code", (uint64_t)end->details.code) &&
           add_number(object, "status", (uint64_t)end->details.status) &&
           add_text(object, "unitResult", end->details.unit_result) &&
           add_number(object, "memoryPeak", end->memory_peak) &&
           add_number(object, "crashTimestamp", end->crash_usec) && add_text(object, "text", end->text);
}

/* "TIME KIND TEXT" each: a third of the work of objects, for what is written at every change. */
static bool write_trail(cJSON *past, const Trail *trail)
{
    cJSON *list = trail->count > 0 ? cJSON_AddArrayToObject(past, "events") : NULL;

    for (unsigned i = 0; i < trail->count; i++) {
        const TrailEntry *entry = trail_get(trail, i);
        char text[TRAIL_TEXT_MAX + 64];
        cJSON *item;
        snprintf(text, sizeof(text), "%" PRIu64 " %s %s", entry->usec, microvm_event_to_string(entry->kind),
                 entry->text);
        item = cJSON_CreateString(text);
        if (!cJSON_AddItemToArray(list, item)) {
            cJSON_Delete(item);
            return false;
        }
    }
    return true;
}

bool past_write(cJSON *record, const VmPast *past)
{
    cJSON *object = cJSON_AddObjectToObject(record, "past");

    return object && write_asked(object, &past->asked) && write_end(object, &past->end) &&
           write_trail(object, &past->trail);
}

static const char *get_text(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

    return text ? text : "";
}

static uint64_t get_number(const cJSON *object, const char *key)
{
    return strtoull(get_text(object, key), NULL, 10);
}

static void read_asked(const cJSON *object, Asked *asked)
{
    int by = microvm_asked_by_from_string(get_text(object, "by")),
        verb = microvm_job_verb_from_string(get_text(object, "verb"));

    if (by < 0 || verb < 0)
        return;
    *asked = (Asked){.by = (MicrovmAskedBy)by,
                     .verb = (MicrovmJobVerb)verb,
                     .usec = get_number(object, "timestamp"),
                     .caller = {.known = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, "known")),
                                .apply = by == MICROVM_ASKED_BY_APPLY,
                                .uid = (uid_t)get_number(object, "uid"),
                                .pid = (pid_t)get_number(object, "pid")}};
    past_copy_text(asked->caller.process, sizeof(asked->caller.process), get_text(object, "process"));
    past_copy_text(asked->whom, sizeof(asked->whom), get_text(object, "whom"));
}

static void read_end(const cJSON *object, LastEnd *end)
{
    int result = microvm_result_from_string(get_text(object, "result")),
        cause = end_cause_from_string(get_text(object, "cause"));

    if (result < 0)
        return;
    *end = (LastEnd){
        .usec = get_number(object, "timestamp"),
        .start_usec = get_number(object, "startTimestamp"),
        .result = (MicrovmResult)result,
        .cause = cause < 0 ? END_MAX : (EndCause)cause,
        .details = {.code = (int)get_number(object, "code"), .status = (int)get_number(object, "status")},
        .memory_peak = get_number(object, "memoryPeak"),
        .crash_usec = get_number(object, "crashTimestamp")};
    past_copy_text(end->details.unit_result, sizeof(end->details.unit_result),
                   get_text(object, "unitResult"));
    past_copy_text(end->text, sizeof(end->text), get_text(object, "text"));
}

static void read_event(const char *line, Trail *trail)
{
    char *end, word[16];
    uint64_t usec = strtoull(line, &end, 10);
    size_t length = *end == ' ' ? strcspn(end + 1, " ") : 0;
    int kind;

    if (length == 0 || length >= sizeof(word) || end[1 + length] != ' ')
        return;
    memcpy(word, end + 1, length);
    word[length] = '\0';
    kind = microvm_event_from_string(word);
    if (kind >= 0)
        trail_add(trail, usec, (MicrovmEvent)kind, end + 1 + length + 1);
}

void past_read(const cJSON *record, VmPast *ret_past)
{
    const cJSON *past = cJSON_GetObjectItemCaseSensitive(record, "past"), *entry;

    *ret_past = (VmPast){0};
    read_asked(cJSON_GetObjectItemCaseSensitive(past, "asked"), &ret_past->asked);
    read_end(cJSON_GetObjectItemCaseSensitive(past, "end"), &ret_past->end);
    cJSON_ArrayForEach (entry, cJSON_GetObjectItemCaseSensitive(past, "events"))
        if (cJSON_IsString(entry))
            read_event(entry->valuestring, &ret_past->trail);
}
