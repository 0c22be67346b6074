/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happened to a microVM, from the journal. */
#include "bus.h"
#include "remote.h"
#include "table.h"
#include "term.h"

#include "microvm/messages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-journal.h>

/* Of entries that tell of a state, a wish, its guest, or an end. */
static const struct {
    const char *id, *kind;
} kinds[] = {
    {MICROVM_MESSAGE_STATE, "state"},           {MICROVM_MESSAGE_FAILED, "state"},
    {MICROVM_MESSAGE_BACKOFF, "state"},         {MICROVM_MESSAGE_CRASH, "crash"},
    {MICROVM_MESSAGE_REQUEST, "request"},       {MICROVM_MESSAGE_PANIC, "panic"},
    {MICROVM_MESSAGE_GUEST_READY, "readiness"}, {MICROVM_MESSAGE_GUEST_LATE, "readiness"},
    {MICROVM_MESSAGE_GUEST_LOST, "readiness"},
};

static int match(sd_journal *journal, const char *field, const char *value)
{
    char text[256];

    snprintf(text, sizeof(text), "%s=%s", field, value);
    return sd_journal_add_match(journal, text, 0);
}

/* Anybody may write to the journal that he was microvmd; only who he is, journald says. */
static int match_all(const Ctl *ctl, sd_journal *journal, const char *name)
{
    char uid[16];
    int r;

    snprintf(uid, sizeof(uid), "%u", strcmp(ctl->bus_address, "system") == 0 ? 0 : (unsigned)geteuid());
    r = match(journal, MICROVM_LOG_NAME, name);
    if (r >= 0)
        r = match(journal, "_UID", uid);
    for (size_t i = 0; i < ELEMENTSOF(kinds) && r >= 0; i++)
        r = match(journal, "MESSAGE_ID", kinds[i].id);
    return r;
}

/* The caller's; NULL: the entry has no such field. */
static char *get_field(sd_journal *journal, const char *field)
{
    size_t size, skip = strlen(field) + 1;
    const void *data;

    if (sd_journal_get_data(journal, field, &data, &size) < 0 || size < skip)
        return NULL;
    return strndup((const char *)data + skip, size - skip);
}

static void add_field(cJSON *object, const char *key, sd_journal *journal, const char *field)
{
    _cleanup_free_ char *text = get_field(journal, field);

    if (text)
        cJSON_AddStringToObject(object, key, text);
}

static cJSON *read_entry(sd_journal *journal, const char *name)
{
    cJSON *object = cJSON_CreateObject();
    _cleanup_free_ char *id = get_field(journal, "MESSAGE_ID"), *message = get_field(journal, "MESSAGE");
    const char *text = message ? message : "";
    char number[24];
    uint64_t usec = 0;

    sd_journal_get_realtime_usec(journal, &usec);
    snprintf(number, sizeof(number), "%" PRIu64, usec);
    cJSON_AddRawToObject(object, "Timestamp", number);
    for (size_t i = 0; id && i < ELEMENTSOF(kinds); i++)
        if (strcmp(kinds[i].id, id) == 0)
            cJSON_AddStringToObject(object, "Kind", kinds[i].kind);
    add_field(object, "OldState", journal, MICROVM_LOG_OLD_STATE);
    add_field(object, "State", journal, MICROVM_LOG_STATE);
    add_field(object, "Readiness", journal, MICROVM_LOG_READINESS);
    add_field(object, "Result", journal, MICROVM_LOG_RESULT);
    add_field(object, "Reason", journal, MICROVM_LOG_REASON);
    add_field(object, "AskedBy", journal, MICROVM_LOG_ASKED_BY);
    add_field(object, "Crash", journal, MICROVM_LOG_CRASH);
    /* Its sentences begin with the name. */
    if (strncmp(text, name, strlen(name)) == 0 && strncmp(text + strlen(name), ": ", 2) == 0)
        text += strlen(name) + 2;
    cJSON_AddStringToObject(object, "Text", text);
    return object;
}

/* The last `most`, the oldest first. */
static int read_entries(sd_journal *journal, const char *name, uint64_t most, cJSON *list)
{
    int r;

    r = sd_journal_seek_tail(journal);
    for (uint64_t n = 0; r >= 0 && n < most && (r = sd_journal_previous(journal)) > 0; n++)
        if (!cJSON_InsertItemInArray(list, 0, read_entry(journal, name)))
            return -ENOMEM;
    return r < 0 ? r : 0;
}

static int print_table(const Ctl *ctl, const cJSON *list)
{
    static const char *const headers[] = {"TIME", "STATE", "WHAT"};
    _cleanup_(table_freep)
    Table *table = table_new(headers, ELEMENTSOF(headers));
    const cJSON *entry;

    if (!table)
        return fail_oom();
    cJSON_ArrayForEach (entry, list) {
        _cleanup_free_ char *when = format_time(json_number(entry, "Timestamp"));
        bool is_state = strcmp(json_text(entry, "Kind"), "state") == 0;
        const char *state = is_state ? json_text(entry, "State") : "";
        const char *text = json_text(entry, is_state ? "Reason" : "Text");
        if (!when || table_add(table, (const char *[]){when, state, text}, is_state ? state : "inactive") < 0)
            return fail_oom();
    }
    pager_open(!ctl->no_pager);
    table_print(table, !ctl->no_legend);
    pager_close();
    return MICROVM_EXIT_OK;
}

static int cant_read(int r)
{
    return fail(r == -EACCES || r == -EPERM ? MICROVM_EXIT_NOT_ALLOWED : MICROVM_EXIT_FAILURE,
                "The journal can't be read: %s", strerror(-r));
}

static int tell_nothing(sd_journal *journal, const char *name)
{
    _cleanup_free_ char *shown = escape(name, ESCAPE_LINE);

    if (sd_journal_has_runtime_files(journal) <= 0 && sd_journal_has_persistent_files(journal) <= 0) {
        bool hidden = access("/run/log/journal", F_OK) == 0 || access("/var/log/journal", F_OK) == 0;
        if (geteuid() != 0 && hidden)
            return fail(MICROVM_EXIT_NOT_ALLOWED, "You may not read the journal. Run it as root (sudo), or "
                                                  "have yourself added to the group \"systemd-journal\".");
        return fail(MICROVM_EXIT_FAILURE, "There is no journal here.");
    }
    return fail(MICROVM_EXIT_FAILURE, "The journal has nothing about %s.%s", shown ? shown : "it",
                geteuid() == 0
                    ? ""
                    : " Who is neither root nor in the group systemd-journal does not see all of it.");
}

static int show_history(Ctl *ctl, sd_journal *journal, const char *name)
{
    _cleanup_json_ cJSON *list = cJSON_CreateArray();
    int r;

    r = match_all(ctl, journal, name);
    if (r >= 0)
        r = read_entries(journal, name, ctl->lines, list);
    if (r < 0)
        return cant_read(r);
    if (cJSON_GetArraySize(list) == 0)
        return tell_nothing(journal, name);
    return ctl->json != JSON_OFF ? json_print(ctl->json, list) : print_table(ctl, list);
}

int verb_history(Ctl *ctl)
{
    sd_journal *journal = NULL;
    int code, r;

    if (ctl->n_names != 1)
        return fail(MICROVM_EXIT_USAGE, "history takes the name of one microVM: microvmctl history NAME");
    if (ctl->host)
        return remote_exec(ctl, "history");
    r = sd_journal_open(&journal, SD_JOURNAL_LOCAL_ONLY);
    if (r < 0)
        return cant_read(r);
    code = show_history(ctl, journal, ctl->names[0]);
    sd_journal_close(journal);
    return code;
}
