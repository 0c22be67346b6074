/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resource/memory.h"

#include "base/file.h"

#include <cjson/cJSON.h>

enum {
    FORMAT_VERSION = 1,
    MEMORY_SIZE_MAX = 1024 * 1024,
};

DEFINE_CLEANUP(cJSON *, cJSON_Delete)

static char *memory_path(const char *state_dir)
{
    char *path = NULL;

    return asprintf(&path, "%s/state.json", state_dir) < 0 ? NULL : path;
}

void vm_memory_clear(VmMemory *memory)
{
    for (size_t i = 0; i < memory->n_volumes; i++)
        free(memory->volumes[i]);
    free(memory->volumes);
    *memory = (VmMemory){0};
}

bool vm_memory_has_volume(const VmMemory *memory, const char *image)
{
    for (size_t i = 0; i < memory->n_volumes; i++)
        if (streq(memory->volumes[i], image))
            return true;
    return false;
}

int vm_memory_add_volume(VmMemory *memory, const char *image)
{
    char **grown, *copy;

    if (vm_memory_has_volume(memory, image))
        return 0;
    grown = reallocarray(memory->volumes, memory->n_volumes + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memory->volumes = grown;
    copy = strdup(image);
    if (!copy)
        return -ENOMEM;
    memory->volumes[memory->n_volumes++] = copy;
    return 0;
}

bool vm_memory_forget_volume(VmMemory *memory, const char *image)
{
    for (size_t i = 0; i < memory->n_volumes; i++) {
        if (!streq(memory->volumes[i], image))
            continue;
        free(memory->volumes[i]);
        memory->volumes[i] = memory->volumes[--memory->n_volumes];
        return true;
    }
    return false;
}

int vm_memory_read(const char *state_dir, VmMemory *ret_memory)
{
    _cleanup_(vm_memory_clear)
    VmMemory memory = {0};
    _cleanup_(cJSON_Deletep)
    cJSON *object = NULL;
    _cleanup_free_ char *path = memory_path(state_dir), *text = NULL;
    const cJSON *volume;
    size_t size;
    int r;

    if (!path)
        return -ENOMEM;
    r = read_file(path, MEMORY_SIZE_MAX, &text, &size);
    if (r == -ENOENT) {
        *ret_memory = (VmMemory){0};
        return 0;
    }
    if (r < 0)
        return r;
    object = cJSON_ParseWithLength(text, size);
    if (!cJSON_IsObject(object))
        return -EBADMSG;
    memory.had_kvm = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, "hadKvm"));
    cJSON_ArrayForEach (volume, cJSON_GetObjectItemCaseSensitive(object, "volumes")) {
        r = cJSON_IsString(volume) ? vm_memory_add_volume(&memory, volume->valuestring) : -EBADMSG;
        if (r < 0)
            return r;
    }
    *ret_memory = memory;
    memory = (VmMemory){0};
    return 0;
}

int vm_memory_write(const char *state_dir, const VmMemory *memory)
{
    _cleanup_(cJSON_Deletep)
    cJSON *object = cJSON_CreateObject();
    _cleanup_free_ char *path = memory_path(state_dir), *text = NULL;
    cJSON *volumes;

    if (!path || !object || !cJSON_AddNumberToObject(object, "formatVersion", FORMAT_VERSION) ||
        !cJSON_AddBoolToObject(object, "hadKvm", memory->had_kvm) ||
        !(volumes = cJSON_AddArrayToObject(object, "volumes")))
        return -ENOMEM;
    for (size_t i = 0; i < memory->n_volumes; i++)
        if (!cJSON_AddItemToArray(volumes, cJSON_CreateString(memory->volumes[i])))
            return -ENOMEM;
    text = cJSON_Print(object);
    if (!text)
        return -ENOMEM;
    return write_file_durable(path, text, strlen(text), 0600);
}
