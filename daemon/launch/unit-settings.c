/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "launch/unit-settings.h"

#include "base/strv.h"

enum {
    NUMBERS_MAX = 8192, /* of a set: as many processors as Linux knows, and systemd takes */
};

void unit_settings_clear(UnitSettings *settings)
{
    for (size_t i = 0; i < settings->count; i++)
        strv_free(settings->items[i].strings);
    free(settings->items);
    *settings = (UnitSettings){0};
}

void unit_settings_add(UnitSettings *settings, const char *name, const char *signature, uint64_t number,
                       const char *const *strings)
{
    UnitSetting *grown = reallocarray(settings->items, settings->count + 1, sizeof(*grown));
    char **copy = strv_copy((char *const *)strings);

    if (grown)
        settings->items = grown;
    if (!grown || !copy) {
        strv_free(copy);
        settings->oom = true;
        return;
    }
    grown[settings->count++] = (UnitSetting){
        .group = settings->group, .name = name, .signature = signature, .number = number, .strings = copy};
}

/* --- as a message has them --- */

static int append_number(sd_bus_message *message, char type, uint64_t number)
{
    uint32_t half = (uint32_t)number;

    /* A boolean is an int to sd-bus, of four bytes, as is "u". */
    return sd_bus_message_append_basic(message, type, type == 't' ? (void *)&number : (void *)&half);
}

static int append_set(sd_bus_message *message, const char *text)
{
    uint8_t bits[NUMBERS_MAX / 8] = {0};
    size_t size = 0;

    for (const char *at = text; *at;) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = *end == '-' ? strtoul(end + 1, &end, 10) : first;
        if (end == at || first > last || last >= NUMBERS_MAX || (*end && *end != ','))
            return -EINVAL;
        for (unsigned long n = first; n <= last; n++)
            bits[n / 8] |= (uint8_t)(1 << n % 8);
        size = MAX(size, last / 8 + 1);
        at = *end ? end + 1 : end;
    }
    return sd_bus_message_append_array(message, 'y', bits, size);
}

static int append_pairs(sd_bus_message *message, char *const *strings)
{
    int r = sd_bus_message_open_container(message, 'a', "(ss)");

    for (; *strings && r >= 0; strings += 2)
        r = sd_bus_message_append(message, "(ss)", strings[0], strings[1]);
    return r < 0 ? r : sd_bus_message_close_container(message);
}

static int append_mounts(sd_bus_message *message, char *const *strings, bool elsewhere)
{
    int r = sd_bus_message_open_container(message, 'a', "(ssbt)");

    for (; *strings && r >= 0; strings += 1 + elsewhere) {
        bool if_there = strings[0][0] == '-';
        const char *path = *strings + if_there, *place = elsewhere ? strings[1] : path;
        r = sd_bus_message_append(message, "(ssbt)", path, place, (int)if_there, UINT64_C(0));
    }
    return r < 0 ? r : sd_bus_message_close_container(message);
}

static int append_list(sd_bus_message *message, const UnitSetting *setting)
{
    int r = sd_bus_message_open_container(message, 'r', "bas");

    if (r >= 0)
        r = append_number(message, 'b', setting->number);
    if (r >= 0)
        r = sd_bus_message_append_strv(message, setting->strings);
    return r < 0 ? r : sd_bus_message_close_container(message);
}

static int append_value(sd_bus_message *message, const UnitSetting *setting)
{
    const char *signature = setting->signature;

    if (strlen(signature) == 1 && signature[0] != 's')
        return append_number(message, signature[0], setting->number);
    if (streq(signature, "s"))
        return sd_bus_message_append(message, "s", setting->strings[0]);
    if (streq(signature, "as"))
        return sd_bus_message_append_strv(message, setting->strings);
    if (streq(signature, "ay"))
        return append_set(message, setting->strings[0]);
    if (streq(signature, "(bas)"))
        return append_list(message, setting);
    if (streq(signature, "a(ss)"))
        return append_pairs(message, setting->strings);
    return streq(signature, "a(ssbt)") ? append_mounts(message, setting->strings, setting->number) : -EINVAL;
}

static int append_setting(sd_bus_message *message, const UnitSetting *setting)
{
    int r = sd_bus_message_open_container(message, 'r', "sv");

    if (r >= 0)
        r = sd_bus_message_append(message, "s", setting->name);
    if (r >= 0)
        r = sd_bus_message_open_container(message, 'v', setting->signature);
    if (r >= 0)
        r = append_value(message, setting);
    if (r >= 0)
        r = sd_bus_message_close_container(message);
    return r < 0 ? r : sd_bus_message_close_container(message);
}

int unit_settings_append(sd_bus_message *message, const UnitSettings *settings)
{
    int r = settings->oom ? -ENOMEM : 0;

    for (size_t i = 0; i < settings->count && r >= 0; i++)
        r = append_setting(message, &settings->items[i]);
    return r < 0 ? r : 0;
}
