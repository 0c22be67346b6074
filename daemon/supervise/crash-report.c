/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/crash-report.h"

#include "base/file.h"
#include "base/utf8.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>

#define PREFIX "crash-"
#define SUFFIX ".json"

enum {
    FORMAT_VERSION = 1,
    NUMBERS_MAX = 1024, /* files that are looked at; there are CRASH_REPORTS_MAX, but for a moment one more */
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

/* --- making one --- */

static bool add_text(cJSON *object, const char *key, const char *text)
{
    return isempty(text) || cJSON_AddStringToObject(object, key, text);
}

/* cJSON's own numbers lose digits. */
static bool add_number(cJSON *object, const char *key, uint64_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, number);
    return number == 0 || cJSON_AddRawToObject(object, key, text);
}

static bool add_exit(cJSON *report, const EndDetails *details)
{
    static const char *const codes[] = {
        [CLD_EXITED] = "exited", [CLD_KILLED] = "killed", [CLD_DUMPED] = "dumped"};
    cJSON *object;

    if (details->code != CLD_EXITED && details->code != CLD_KILLED && details->code != CLD_DUMPED)
        return true;
    object = cJSON_AddObjectToObject(report, "exit");
    return object && add_text(object, "code", codes[details->code]) &&
           cJSON_AddNumberToObject(object, "status", details->status);
}

static bool add_command(cJSON *report, const char *command, size_t size)
{
    cJSON *list = size > 0 ? cJSON_AddArrayToObject(report, "command") : NULL;

    for (size_t at = 0; at < size; at += strlen(command + at) + 1) {
        _cleanup_free_ char *word = strndup(command + at, size - at);
        cJSON *item = NULL;
        if (word) {
            utf8_make_valid(word, strlen(word));
            item = cJSON_CreateString(word);
        }
        if (!item || !cJSON_AddItemToArray(list, item)) {
            cJSON_Delete(item);
            return false;
        }
    }
    return true;
}

static bool add_events(cJSON *report, const Trail *trail)
{
    cJSON *list = cJSON_AddArrayToObject(report, "events");

    for (unsigned i = 0; i < trail->count; i++) {
        const TrailEntry *entry = trail_get(trail, i);
        cJSON *object = cJSON_CreateObject();
        if (!cJSON_AddItemToArray(list, object)) {
            cJSON_Delete(object);
            return false;
        }
        if (!add_number(object, "timestamp", entry->usec) ||
            !add_text(object, "kind", microvm_event_to_string(entry->kind)) ||
            !add_text(object, "text", entry->text))
            return false;
    }
    return list;
}

static bool add_words(cJSON *report, const char *key, char *text, size_t size)
{
    _cleanup_free_ char *copy = NULL;

    if (size == 0)
        return true;
    utf8_make_valid(text, size);
    copy = strndup(text, size);
    return copy && add_text(report, key, copy);
}

cJSON *crash_report_new(CrashFacts *facts)
{
    _cleanup_(cJSON_Deletep)
    cJSON *report = cJSON_CreateObject();
    const LastEnd *end = &facts->past->end;
    _cleanup_free_ char *asked = asked_describe(&facts->past->asked);
    const char *cause = end->cause == END_MAX ? NULL : end_cause_to_string(end->cause);

    if (report && cJSON_AddNumberToObject(report, "formatVersion", FORMAT_VERSION) &&
        add_text(report, "name", facts->name) && add_number(report, "timestamp", end->usec) &&
        add_text(report, "result", microvm_result_to_string(end->result)) &&
        add_text(report, "reason", end->text) && add_text(report, "cause", cause) &&
        add_number(report, "startTimestamp", end->start_usec) && add_text(report, "asked", asked) &&
        add_number(report, "restarts", facts->n_restarts) && add_exit(report, &end->details) &&
        add_text(report, "unit", facts->unit) && add_text(report, "unitResult", end->details.unit_result) &&
        add_number(report, "memoryPeak", end->memory_peak) && add_text(report, "driver", facts->driver) &&
        add_text(report, "hypervisor", facts->hypervisor) && add_text(report, "accel", facts->accel) &&
        add_text(report, "generation", facts->generation) &&
        add_number(report, "pid", (uint64_t)facts->pid) &&
        add_command(report, facts->command, facts->command_size) && add_text(report, "see", facts->see) &&
        add_events(report, &facts->past->trail) &&
        add_words(report, "output", facts->output, facts->output_size) &&
        add_words(report, "console", facts->console, facts->console_size))
        return TAKE_PTR(report);
    return NULL;
}

/* --- files --- */

static int path_of(const char *state_dir, uint64_t usec, char **ret_path)
{
    if (asprintf(ret_path, "%s/" PREFIX "%" PRIu64 SUFFIX, state_dir, usec) < 0) {
        *ret_path = NULL;
        return -ENOMEM;
    }
    return 0;
}

/* 0: it is called as no report is. */
static uint64_t number_of(const char *file)
{
    char *end;
    uint64_t number;

    if (strncmp(file, PREFIX, strlen(PREFIX)) != 0 || file[strlen(PREFIX)] < '1' ||
        file[strlen(PREFIX)] > '9')
        return 0;
    errno = 0;
    number = strtoull(file + strlen(PREFIX), &end, 10);
    return errno == 0 && streq(end, SUFFIX) ? number : 0;
}

static int newest_first(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return a < b ? 1 : a > b ? -1 : 0;
}

static int find_numbers(const char *state_dir, uint64_t *numbers, size_t *ret_n)
{
    DIR *stream = opendir(state_dir);
    struct dirent *entry;
    size_t n = 0;

    *ret_n = 0;
    if (!stream)
        return errno == ENOENT ? 0 : -errno;
    while (n < NUMBERS_MAX && (entry = readdir(stream)))
        if ((numbers[n] = number_of(entry->d_name)) > 0)
            n++;
    closedir(stream);
    qsort(numbers, n, sizeof(*numbers), newest_first);
    *ret_n = n;
    return 0;
}

static void drop_old(const char *state_dir)
{
    uint64_t numbers[NUMBERS_MAX];
    size_t n;

    if (find_numbers(state_dir, numbers, &n) < 0)
        return;
    for (size_t i = CRASH_REPORTS_MAX; i < n; i++) {
        _cleanup_free_ char *path = NULL;
        if (path_of(state_dir, numbers[i], &path) >= 0)
            (void)unlink(path); /* it is tried again after the next one */
    }
}

/* Leaves out the older half of what the guest, or else the hypervisor, said last. */
static bool shorten(cJSON *report)
{
    static const char *const keys[] = {"console", "output", "command", "events"};

    for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
        cJSON *item = cJSON_GetObjectItemCaseSensitive(report, keys[i]);
        const char *text = cJSON_GetStringValue(item), *from;
        if (text && *text) {
            for (from = text + (strlen(text) + 1) / 2; ((unsigned char)*from & 0xc0) == 0x80;)
                from++;
            return cJSON_ReplaceItemInObjectCaseSensitive(report, keys[i], cJSON_CreateString(from));
        }
        if (item && !text) {
            cJSON_DeleteItemFromObjectCaseSensitive(report, keys[i]);
            return true;
        }
    }
    return false;
}

int crash_report_write(const char *state_dir, uint64_t usec, cJSON *report)
{
    _cleanup_free_ char *path = NULL;
    char *text;
    int r = path_of(state_dir, usec, &path);

    while (r >= 0) {
        text = cJSON_PrintUnformatted(report);
        if (!text)
            return -ENOMEM;
        if (strlen(text) <= CRASH_REPORT_SIZE_MAX) {
            r = write_file_atomic(path, text, strlen(text), 0600);
            free(text);
            break;
        }
        free(text);
        r = shorten(report) ? 0 : -EFBIG;
    }
    if (r >= 0)
        drop_old(state_dir);
    return r;
}

void crash_rows_clear(CrashRows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        free(rows->items[i].reason);
    *rows = (CrashRows){0};
}

int crash_report_read(const char *state_dir, uint64_t usec, char **ret_text)
{
    _cleanup_free_ char *path = NULL, *text = NULL;
    size_t size;
    int r = path_of(state_dir, usec, &path);

    if (r >= 0)
        r = read_file(path, CRASH_REPORT_SIZE_MAX, &text, &size);
    if (r < 0)
        return r;
    utf8_make_valid(text, size);
    *ret_text = TAKE_PTR(text);
    return 0;
}

static int read_row(const char *state_dir, uint64_t usec, CrashRow *ret_row)
{
    _cleanup_(cJSON_Deletep)
    cJSON *report = NULL;
    _cleanup_free_ char *text = NULL;
    const char *result, *reason;
    int r = crash_report_read(state_dir, usec, &text);

    if (r < 0)
        return r;
    report = cJSON_Parse(text);
    result = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(report, "result"));
    reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(report, "reason"));
    r = result ? microvm_result_from_string(result) : -EBADMSG;
    if (r < 0)
        return -EBADMSG;
    *ret_row = (CrashRow){.usec = usec, .result = (MicrovmResult)r, .reason = strdup(reason ? reason : "")};
    return ret_row->reason ? 0 : -ENOMEM;
}

int crash_report_list(const char *state_dir, CrashRows *ret_rows)
{
    uint64_t numbers[NUMBERS_MAX];
    CrashRows rows = {0};
    size_t n;
    int r = find_numbers(state_dir, numbers, &n);

    for (size_t i = 0; i < n && rows.count < CRASH_REPORTS_MAX && r != -ENOMEM; i++) {
        r = read_row(state_dir, numbers[i], &rows.items[rows.count]);
        rows.count += r >= 0;
    }
    if (r == -ENOMEM || (r < 0 && n == 0)) {
        crash_rows_clear(&rows);
        return r;
    }
    *ret_rows = rows;
    return 0;
}
