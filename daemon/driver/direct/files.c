/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run has in its runtime directory. */
#include "driver/direct/internal.h"

#include "base/file.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define RECORD_FILE "hypervisor.json"

enum {
    FORMAT_VERSION = 1,
    RECORD_MAX = 4 * HANDOVER_ARGUMENTS_MAX,
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

void direct_run_files_remove(const char *directory)
{
    static const char *const names[] = {CONSOLE_SOCKET, NOTIFY_SOCKET,  AGENT_SOCKET, QMP_SOCKET,
                                        OWN_SOCKET,     CONTROL_SOCKET, RECORD_FILE};
    _cleanup_close_ int at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    own_socket_remove(directory);
    for (size_t i = 0; i < ELEMENTSOF(names) && at >= 0; i++)
        (void)unlinkat(at, names[i], 0);
}

void direct_start_files_remove(const char *directory)
{
    _cleanup_close_ int at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (at >= 0 && faccessat(at, CONTROL_SOCKET, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
        direct_run_files_remove(directory);
}

/* --- a socket at a path of the definition's choice --- */

/* Where it is, the caller's; NULL: there is none. */
static char *own_socket_path(const char *directory)
{
    _cleanup_close_ int at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    char path[PATH_MAX];
    ssize_t n = at < 0 ? -1 : readlinkat(at, OWN_SOCKET, path, sizeof(path));

    return n > 0 && n < (ssize_t)sizeof(path) ? strndup(path, (size_t)n) : NULL;
}

/* -ENOENT: nothing is there. -EEXIST: it is no socket. -EADDRINUSE: somebody listens. 0: one that is left. */
static int is_left_over(const char *directory, const char *name)
{
    _cleanup_close_ int at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC), probe = -EBADF;
    struct stat st;
    int r;

    if (at < 0 || fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    r = socket_connect(directory, name, &probe);
    return r == -ECONNREFUSED ? 0 : r >= 0 || r == -EAGAIN ? -EADDRINUSE : r;
}

/* Cuts it into directory and name. */
static int split(char *path, const char **ret_directory, const char **ret_name)
{
    char *slash = strrchr(path, '/');

    if (!slash || !slash[1])
        return -EISDIR;
    *slash = '\0';
    *ret_directory = slash == path ? "/" : path;
    *ret_name = slash + 1;
    return 0;
}

int own_socket_listen(const char *directory, int *ret_fd)
{
    _cleanup_free_ char *path = own_socket_path(directory);
    const char *folder, *name;
    int r;

    if (!path)
        return -ENOENT;
    r = split(path, &folder, &name);
    if (r >= 0)
        r = is_left_over(folder, name);
    return r < 0 && r != -ENOENT ? r : socket_listen(folder, name, ret_fd);
}

int own_socket_choose(const char *directory, const char *path)
{
    _cleanup_close_ int at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (at < 0 || (unlinkat(at, OWN_SOCKET, 0) < 0 && errno != ENOENT) || symlinkat(path, at, OWN_SOCKET) < 0)
        return -errno;
    return 0;
}

void own_socket_remove(const char *directory)
{
    _cleanup_free_ char *path = own_socket_path(directory);
    const char *folder, *name;

    if (path && split(path, &folder, &name) >= 0 && is_left_over(folder, name) >= 0)
        socket_remove(folder, name);
}

/* --- the record --- */

static char *record_path(const char *directory)
{
    char *path = NULL;

    return asprintf(&path, "%s/" RECORD_FILE, directory) < 0 ? NULL : path;
}

/* A list; none where there is none. */
static bool add_strings(cJSON *object, const char *name, char *const *strings)
{
    cJSON *list = strings ? cJSON_AddArrayToObject(object, name) : NULL;

    for (size_t i = 0; strings && strings[i] && list; i++) {
        cJSON *item = cJSON_CreateString(strings[i]);
        if (!item || !cJSON_AddItemToArray(list, item)) {
            cJSON_Delete(item);
            return false;
        }
    }
    return !strings || list;
}

/* The same, the caller's; NULL: there is none, or nothing in it. */
static int take_strings(const cJSON *object, const char *name, char ***ret_strings)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, name), *item;
    char **strings = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof(*strings));
    size_t n = 0;

    if (!strings)
        return -ENOMEM;
    cJSON_ArrayForEach (item, list) {
        if (!cJSON_IsString(item) || !(strings[n++] = strdup(item->valuestring))) {
            strv_free(strings);
            return -EBADMSG;
        }
    }
    *ret_strings = n > 0 ? strings : strv_free(strings);
    return 0;
}

void process_record_clear(ProcessRecord *record)
{
    record->stop = strv_free(record->stop);
    record->ready = strv_free(record->ready);
}

int process_record_write(const char *directory, const ProcessRecord *record)
{
    _cleanup_(cJSON_Deletep)
    cJSON *object = cJSON_CreateObject();
    _cleanup_free_ char *path = record_path(directory), *text = NULL;
    char generation[SD_ID128_STRING_MAX], invocation[SD_ID128_STRING_MAX];

    /* All numbers are below 2^53: ticks of a hundredth of a second. */
    if (!path || !object || !cJSON_AddNumberToObject(object, "formatVersion", FORMAT_VERSION) ||
        !cJSON_AddNumberToObject(object, "pid", record->launched.id.pid) ||
        !cJSON_AddNumberToObject(object, "startTicks", (double)record->launched.id.start_ticks) ||
        !cJSON_AddStringToObject(object, "generation", sd_id128_to_string(record->generation, generation)) ||
        !cJSON_AddStringToObject(object, "accel", accel_to_string(record->accel)))
        return -ENOMEM;
    if (!sd_id128_is_null(record->launched.invocation) &&
        !cJSON_AddStringToObject(object, "invocationId",
                                 sd_id128_to_string(record->launched.invocation, invocation)))
        return -ENOMEM;
    if (!cJSON_AddStringToObject(object, "hypervisor", hypervisor_to_string(record->hypervisor)) ||
        !add_strings(object, "stop", record->stop) || !add_strings(object, "ready", record->ready))
        return -ENOMEM;
    if (record->silent && !cJSON_AddTrueToObject(object, "silent"))
        return -ENOMEM;
    text = cJSON_PrintUnformatted(object);
    return text ? write_file_atomic(path, text, strlen(text), 0600) : -ENOMEM;
}

int process_record_read(const char *directory, ProcessRecord *ret_record)
{
    _cleanup_(cJSON_Deletep)
    cJSON *object = NULL;
    _cleanup_free_ char *path = record_path(directory), *text = NULL;
    const char *generation, *accel, *invocation, *hypervisor;
    ProcessRecord record = {0};
    size_t size;
    int r;

    if (!path)
        return -ENOMEM;
    write_file_forget(path); /* read by a daemon that begins, so that nobody writes it */
    r = read_file(path, RECORD_MAX, &text, &size);
    if (r < 0)
        return r;
    object = cJSON_ParseWithLength(text, size);
    generation = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "generation"));
    accel = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "accel"));
    invocation = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "invocationId"));
    if (!invocation || sd_id128_from_string(invocation, &record.launched.invocation) < 0)
        record.launched.invocation = SD_ID128_NULL; /* it has no unit */
    record.launched.id.pid = (pid_t)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, "pid"));
    record.launched.id.start_ticks =
        (uint64_t)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, "startTicks"));
    r = accel ? accel_from_string(accel) : -EBADMSG;
    if (!generation || sd_id128_from_string(generation, &record.generation) < 0 || r < 0 ||
        record.launched.id.pid <= 1)
        return -EBADMSG;
    record.accel = (Accel)r;
    /* Records of earlier versions, which knew one, have none. */
    hypervisor = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, "hypervisor"));
    r = hypervisor ? hypervisor_from_string(hypervisor) : HYPERVISOR_QEMU;
    if (r < 0)
        return -EBADMSG;
    record.hypervisor = (Hypervisor)r;
    record.silent = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, "silent"));
    r = take_strings(object, "stop", &record.stop);
    if (r >= 0)
        r = take_strings(object, "ready", &record.ready);
    if (r < 0) {
        process_record_clear(&record);
        return r;
    }
    *ret_record = record;
    return 0;
}
