/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/record.h"

#include "base/file.h"

#include <cjson/cJSON.h>
#include <inttypes.h>

enum {
    FORMAT_VERSION = 2, /* 2: readiness that is not asked for is "auto", no longer "none" */
    RECORD_SIZE_MAX = 4 * 1024 * 1024,
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

void condemned_clear(Condemned *condemned)
{
    free(condemned->text);
    *condemned = (Condemned){0};
}

void vm_record_clear(VmRecord *record)
{
    readiness_clear(&record->readiness);
    condemned_clear(&record->condemned);
    free(record->reason);
    free(record->accel_reason);
    free(record->definition);
    free(record->fallback);
    free(record->trouble);
    boot_files_clear(&record->files);
    *record = (VmRecord){0};
}

static bool add_string(cJSON *object, const char *key, const char *value)
{
    return !value || cJSON_AddStringToObject(object, key, value);
}

/* As decimal text: cJSON's numbers are doubles. */
static bool add_u64(cJSON *object, const char *key, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, value);
    return cJSON_AddStringToObject(object, key, text);
}

static bool add_file(cJSON *object, const char *key, const char *path, const FileStamp *identity)
{
    cJSON *file;

    if (file_stamp_is_null(identity))
        return true;
    file = cJSON_AddObjectToObject(object, key);
    return file && add_string(file, "path", path) && add_u64(file, "device", identity->device) &&
           add_u64(file, "inode", identity->inode) && add_u64(file, "size", identity->size) &&
           add_u64(file, "mtime", identity->mtime_nsec);
}

static bool add_files(cJSON *object, const BootFiles *files)
{
    return add_file(object, "kernel", NULL, &files->kernel) &&
           add_file(object, "initrd", NULL, &files->initrd) &&
           add_file(object, "hypervisor", files->hypervisor.path, &files->hypervisor.file) &&
           add_file(object, "helper", files->helper.path, &files->helper.file);
}

static bool add_ladder(cJSON *object, const StopLadder *ladder)
{
    cJSON *rungs, *rung;

    if (ladder->n == 0)
        return true;
    rungs = cJSON_AddArrayToObject(object, "stopLadder");
    for (size_t i = 0; rungs && i < ladder->n; i++) {
        rung = cJSON_CreateObject();
        if (!cJSON_AddItemToArray(rungs, rung) ||
            !add_string(rung, "action", stop_action_to_string(ladder->rungs[i].action)) ||
            !add_u64(rung, "timeout", ladder->rungs[i].timeout_usec) ||
            !add_u64(rung, "sinceBoottime", ladder->rungs[i].since_boot_usec) ||
            !cJSON_AddBoolToObject(rung, "asks", ladder->rungs[i].asks) ||
            !cJSON_AddBoolToObject(rung, "refused", ladder->rungs[i].refused))
            return false;
    }
    return rungs && add_u64(object, "stopRung", ladder->at);
}

static bool add_history(cJSON *object, const RestartHistory *history)
{
    cJSON *starts = cJSON_AddArrayToObject(object, "starts");
    char text[24];

    if (!starts || !add_u64(object, "failures", history->failures))
        return false;
    for (unsigned i = 0; i < history->n_starts; i++) {
        snprintf(text, sizeof(text), "%" PRIu64, history->starts_usec[i]);
        if (!cJSON_AddItemToArray(starts, cJSON_CreateString(text)))
            return false;
    }
    return true;
}

static bool add_readiness(cJSON *object, const Readiness *readiness)
{
    cJSON *added;

    if (readiness->begun_boot_usec == 0)
        return true;
    added = cJSON_AddObjectToObject(object, "readiness");
    return added && add_string(added, "state", microvm_readiness_to_string(readiness->state)) &&
           add_u64(added, "begunBoottime", readiness->begun_boot_usec) &&
           add_u64(added, "deadlineBoottime", readiness->deadline_boot_usec) &&
           add_u64(added, "pausedBoottime", readiness->paused_boot_usec) &&
           add_u64(added, "kernelTimestamp", readiness->kernel.real_usec) &&
           add_u64(added, "kernelBoottime", readiness->kernel.boot_usec) &&
           add_u64(added, "readyTimestamp", readiness->ready.real_usec) &&
           add_u64(added, "readyBoottime", readiness->ready.boot_usec) &&
           add_string(added, "text", readiness->text);
}

static bool add_words(cJSON *object, const GuestWords *words)
{
    cJSON *added = cJSON_AddObjectToObject(object, "guest");

    return added && cJSON_AddBoolToObject(added, "ready", words->ready) &&
           cJSON_AddBoolToObject(added, "emergency", words->emergency) &&
           cJSON_AddBoolToObject(added, "targets", words->targets) &&
           cJSON_AddBoolToObject(added, "booted", words->booted) &&
           cJSON_AddBoolToObject(added, "stopping", words->stopping);
}

static bool add_condemned(cJSON *object, const Condemned *condemned)
{
    cJSON *added;

    if (!condemned->text)
        return true;
    added = cJSON_AddObjectToObject(object, "condemned");
    return added && add_string(added, "result", microvm_result_to_string(condemned->result)) &&
           cJSON_AddBoolToObject(added, "forGood", condemned->for_good) &&
           add_string(added, "text", condemned->text);
}

int vm_record_write(const char *path, const char *name, const VmRecord *record)
{
    _cleanup_(cJSON_Deletep)
    cJSON *object = cJSON_CreateObject();
    _cleanup_free_ char *text = NULL;
    char generation[SD_ID128_STRING_MAX];
    bool ok;

    ok = object && cJSON_AddNumberToObject(object, "formatVersion", FORMAT_VERSION) &&
         add_string(object, "name", name) &&
         add_string(object, "state", microvm_state_to_string(record->state)) &&
         add_string(object, "reason", record->reason) &&
         add_u64(object, "stateTimestamp", record->state_usec) &&
         add_string(object, "result", microvm_result_to_string(record->result)) &&
         add_string(object, "lastStop", microvm_last_stop_to_string(record->last_stop)) &&
         add_string(object, "driver", driver_kind_to_string(record->driver)) &&
         add_string(object, "generation", sd_id128_to_string(record->generation, generation)) &&
         add_string(object, "accel", accel_to_string(record->accel)) &&
         add_string(object, "accelReason", record->accel_reason) &&
         add_u64(object, "startTimestamp", record->start_usec) &&
         add_u64(object, "startBoottime", record->start_boot_usec) &&
         add_u64(object, "nextRestartBoottime", record->next_restart_boot_usec) &&
         add_u64(object, "stopDeadlineBoottime", record->stop_deadline_boot_usec) &&
         add_string(object, "stopAsked", stop_asked_to_string(record->stop_asked)) &&
         add_ladder(object, &record->stop) && cJSON_AddBoolToObject(object, "again", record->again) &&
         cJSON_AddBoolToObject(object, "stopHeld", record->stop_held) &&
         add_u64(object, "heldBoottime", record->held_boot_usec) &&
         add_u64(object, "heldTimeout", record->held_timeout_usec) &&
         cJSON_AddBoolToObject(object, "heldIsBudget", record->held_is_budget) &&
         add_u64(object, "restarts", record->n_restarts) && add_history(object, &record->history) &&
         add_string(object, "definition", record->definition) &&
         add_string(object, "fallback", record->fallback) && add_files(object, &record->files) &&
         add_readiness(object, &record->readiness) && add_condemned(object, &record->condemned) &&
         cJSON_AddBoolToObject(object, "keepsAlive", record->keeps_alive) &&
         add_words(object, &record->words) && add_string(object, "trouble", record->trouble) &&
         cJSON_AddBoolToObject(object, "hangs", record->hangs) && add_u64(object, "memory", record->memory) &&
         past_write(object, &record->past) && cJSON_AddBoolToObject(object, "decided", record->decided) &&
         cJSON_AddBoolToObject(object, "wanted", record->wanted);
    text = ok ? cJSON_PrintUnformatted(object) : NULL;
    if (!text)
        return -ENOMEM;
    return write_file_atomic(path, text, strlen(text), 0600);
}

static const char *get_string(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static uint64_t get_u64(const cJSON *object, const char *key)
{
    const char *text = get_string(object, key);

    return text ? strtoull(text, NULL, 10) : 0;
}

static bool get_bool(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key));
}

#define GET_ENUM(object, key, function, fallback)                                                            \
    ({                                                                                                       \
        const char *_text = get_string(object, key);                                                         \
        int _value = _text ? function(_text) : -EINVAL;                                                      \
        _value < 0 ? (int)(fallback) : _value;                                                               \
    })

static void read_history(const cJSON *object, RestartHistory *ret_history)
{
    const cJSON *start;

    *ret_history = (RestartHistory){.failures = (unsigned)get_u64(object, "failures")};
    cJSON_ArrayForEach (start, cJSON_GetObjectItemCaseSensitive(object, "starts"))
        if (cJSON_IsString(start) && ret_history->n_starts < RESTART_STARTS_MAX)
            ret_history->starts_usec[ret_history->n_starts++] = strtoull(start->valuestring, NULL, 10);
}

/* One with a word of a later version is none: the stop goes on by its deadline. */
static void read_ladder(const cJSON *object, StopLadder *ret_ladder)
{
    StopLadder ladder = {.at = (size_t)get_u64(object, "stopRung")};
    const cJSON *rung;

    *ret_ladder = (StopLadder){0};
    cJSON_ArrayForEach (rung, cJSON_GetObjectItemCaseSensitive(object, "stopLadder")) {
        int action = GET_ENUM(rung, "action", stop_action_from_string, -EINVAL);
        if (action < 0 || ladder.n == STOP_RUNGS_MAX)
            return;
        ladder.rungs[ladder.n++] = (StopRung){.action = (StopAction)action,
                                              .timeout_usec = get_u64(rung, "timeout"),
                                              .since_boot_usec = get_u64(rung, "sinceBoottime"),
                                              .asks = get_bool(rung, "asks"),
                                              .refused = get_bool(rung, "refused")};
    }
    if (ladder.at < ladder.n)
        *ret_ladder = ladder;
}

static FileStamp read_identity(const cJSON *object, const char *key)
{
    const cJSON *file = cJSON_GetObjectItemCaseSensitive(object, key);

    return (FileStamp){.device = get_u64(file, "device"),
                       .inode = get_u64(file, "inode"),
                       .size = get_u64(file, "size"),
                       .mtime_nsec = get_u64(file, "mtime")};
}

static const char *get_path(const cJSON *object, const char *key)
{
    return get_string(cJSON_GetObjectItemCaseSensitive(object, key), "path");
}

static Readiness read_readiness(const cJSON *record)
{
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(record, "readiness");

    return (Readiness){
        .state = (MicrovmReadiness)GET_ENUM(object, "state", microvm_readiness_from_string,
                                            MICROVM_READINESS_NONE),
        .begun_boot_usec = get_u64(object, "begunBoottime"),
        .deadline_boot_usec = get_u64(object, "deadlineBoottime"),
        .paused_boot_usec = get_u64(object, "pausedBoottime"),
        .kernel = {get_u64(object, "kernelBoottime"), get_u64(object, "kernelTimestamp")},
        .ready = {get_u64(object, "readyBoottime"), get_u64(object, "readyTimestamp")},
    };
}

static Condemned read_condemned(const cJSON *record)
{
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(record, "condemned");

    return (Condemned){.result = (MicrovmResult)GET_ENUM(object, "result", microvm_result_from_string,
                                                         MICROVM_RESULT_TIMEOUT),
                       .for_good = get_bool(object, "forGood")};
}

static GuestWords read_words(const cJSON *record)
{
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(record, "guest");

    return (GuestWords){.ready = get_bool(object, "ready"),
                        .emergency = get_bool(object, "emergency"),
                        .targets = get_bool(object, "targets"),
                        .booted = get_bool(object, "booted"),
                        .stopping = get_bool(object, "stopping")};
}

static const char *get_text(const cJSON *object, const char *key)
{
    return get_string(cJSON_GetObjectItemCaseSensitive(object, key), "text");
}

/*
 * Definitions are on record with all their defaults. The first version could do no other readiness than
 * "none", so that it was never a choice: whatever the default is now, what runs has not become another
 * definition by it.
 */
static int modernize(int version, char **definition)
{
    _cleanup_(cJSON_Deletep)
    cJSON *object = version < 2 && *definition ? cJSON_Parse(*definition) : NULL;
    char *text;

    if (!object)
        return 0;
    cJSON_DeleteItemFromObjectCaseSensitive(object, "readiness");
    text = cJSON_PrintUnformatted(object);
    if (!text)
        return -ENOMEM;
    free(*definition);
    *definition = text;
    return 0;
}

static int parse_record(const cJSON *object, VmRecord *ret_record)
{
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(object, "formatVersion");
    int version = cJSON_IsNumber(number) ? number->valueint : FORMAT_VERSION;

    VmRecord record = {
        .state_usec = get_u64(object, "stateTimestamp"),
        .result =
            (MicrovmResult)GET_ENUM(object, "result", microvm_result_from_string, MICROVM_RESULT_SUCCESS),
        .last_stop = (MicrovmLastStop)GET_ENUM(object, "lastStop", microvm_last_stop_from_string,
                                               MICROVM_LAST_STOP_NONE),
        .driver = (DriverKind)GET_ENUM(object, "driver", driver_kind_from_string, DRIVER_KIND_LIBVIRT),
        .accel = (Accel)GET_ENUM(object, "accel", accel_from_string, ACCEL_AUTO),
        .start_usec = get_u64(object, "startTimestamp"),
        .start_boot_usec = get_u64(object, "startBoottime"),
        .next_restart_boot_usec = get_u64(object, "nextRestartBoottime"),
        .stop_deadline_boot_usec = get_u64(object, "stopDeadlineBoottime"),
        .stop_asked = (StopAsked)GET_ENUM(object, "stopAsked", stop_asked_from_string, STOP_NOT_ASKED),
        .again = get_bool(object, "again"),
        .stop_held = get_bool(object, "stopHeld"),
        .held_boot_usec = get_u64(object, "heldBoottime"),
        .held_timeout_usec =
            cJSON_HasObjectItem(object, "heldTimeout") ? get_u64(object, "heldTimeout") : UINT64_MAX,
        .held_is_budget = get_bool(object, "heldIsBudget"),
        .n_restarts = get_u64(object, "restarts"),
        .files = {.kernel = read_identity(object, "kernel"),
                  .initrd = read_identity(object, "initrd"),
                  .hypervisor.file = read_identity(object, "hypervisor"),
                  .helper.file = read_identity(object, "helper")},
        /* Records of the first version do not say; who has run has been started. */
        .decided = get_bool(object, "decided") || get_u64(object, "startTimestamp") > 0,
        .wanted = get_bool(object, "wanted"),
        .readiness = read_readiness(object),
        .condemned = read_condemned(object),
        .keeps_alive = get_bool(object, "keepsAlive"),
        .words = read_words(object),
        .hangs = get_bool(object, "hangs"),
        .memory = get_u64(object, "memory"),
    };
    const char *generation = get_string(object, "generation");
    int state = GET_ENUM(object, "state", microvm_state_from_string, -EBADMSG);

    if (state < 0 || !generation || sd_id128_from_string(generation, &record.generation) < 0)
        return -EBADMSG;
    record.state = (MicrovmState)state;
    read_history(object, &record.history);
    read_ladder(object, &record.stop);
    past_read(object, &record.past);
    if (free_and_strdup(&record.reason, get_string(object, "reason")) < 0 ||
        free_and_strdup(&record.accel_reason, get_string(object, "accelReason")) < 0 ||
        free_and_strdup(&record.definition, get_string(object, "definition")) < 0 ||
        free_and_strdup(&record.fallback, get_string(object, "fallback")) < 0 ||
        free_and_strdup(&record.trouble, get_string(object, "trouble")) < 0 ||
        modernize(version, &record.definition) < 0 || modernize(version, &record.fallback) < 0 ||
        free_and_strdup(&record.readiness.text, get_text(object, "readiness")) < 0 ||
        free_and_strdup(&record.condemned.text, get_text(object, "condemned")) < 0 ||
        free_and_strdup(&record.files.hypervisor.path, get_path(object, "hypervisor")) < 0 ||
        free_and_strdup(&record.files.helper.path, get_path(object, "helper")) < 0) {
        vm_record_clear(&record);
        return -ENOMEM;
    }
    *ret_record = record;
    return 0;
}

int vm_record_read(const char *path, VmRecord *ret_record)
{
    _cleanup_(cJSON_Deletep)
    cJSON *object = NULL;
    _cleanup_free_ char *text = NULL;
    size_t size;
    int r;

    r = read_file(path, RECORD_SIZE_MAX, &text, &size);
    if (r < 0)
        return r;
    object = cJSON_ParseWithLength(text, size);
    if (!cJSON_IsObject(object))
        return -EBADMSG;
    return parse_record(object, ret_record);
}
