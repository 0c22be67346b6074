/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/qemu-event.h"

#include "base/say.h"

/* qapi/run-state.json, qapi/block-core.json, qapi/qdev.json */
static const char *const told[] = {
    "SHUTDOWN",       "POWERDOWN", "RESET",          "STOP",           "RESUME",         "SUSPEND",
    "GUEST_PANICKED", "WATCHDOG",  "MEMORY_FAILURE", "BLOCK_IO_ERROR", "DEVICE_DELETED",
};

static const char *word_of(const cJSON *data, const char *key)
{
    enum {
        LONGEST = 32
    };
    const char *word = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(data, key));
    size_t length = word ? strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;

    return length > 0 && length <= LONGEST && word[length] == '\0' ? word : NULL;
}

char *qemu_event_text(const char *name, const cJSON *data)
{
    const char *word = word_of(data, "reason");

    if (!word)
        word = word_of(data, "action");
    for (size_t i = 0; i < ELEMENTSOF(told); i++)
        if (streq(name, told[i]))
            return word ? say("%s (%s)", name, word) : say("%s", name);
    return NULL;
}

uint64_t qemu_event_memory(const char *name, const cJSON *data)
{
    const cJSON *actual = cJSON_GetObjectItemCaseSensitive(data, "actual");

    return streq(name, "BALLOON_CHANGE") && cJSON_IsNumber(actual) && actual->valuedouble >= 1 &&
                   actual->valuedouble < 0x1p53
               ? (uint64_t)actual->valuedouble
               : 0;
}
