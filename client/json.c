/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json.h"

#include "microvm/exit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    SIGNATURE_MAX = 256, /* the D-Bus specification's longest, and its end */
};

/* 64 bits do not fit into cJSON's double: they are kept as text. */
static cJSON *read_number(sd_bus_message *message, char type)
{
    union {
        uint8_t y;
        int b;
        int16_t n;
        uint16_t q;
        int32_t i;
        uint32_t u;
        int64_t x;
        uint64_t t;
        double d;
    } value = {0};
    char text[32] = "";

    if (sd_bus_message_read_basic(message, type, &value) <= 0)
        return NULL;
    switch (type) {
    case 'b':
        return cJSON_CreateBool(value.b);
    case 'd':
        return cJSON_CreateNumber(value.d);
    case 'y':
        return cJSON_CreateNumber(value.y);
    case 'n':
        return cJSON_CreateNumber(value.n);
    case 'q':
        return cJSON_CreateNumber(value.q);
    case 'i':
        return cJSON_CreateNumber(value.i);
    case 'u':
        return cJSON_CreateNumber(value.u);
    case 'x':
        snprintf(text, sizeof(text), "%" PRId64, value.x);
        return cJSON_CreateRaw(text);
    case 't':
        snprintf(text, sizeof(text), "%" PRIu64, value.t);
        return cJSON_CreateRaw(text);
    default:
        return NULL;
    }
}

static int read_entry(sd_bus_message *message, cJSON *object)
{
    const char *key;
    cJSON *value;
    char type;
    int r;

    r = sd_bus_message_peek_type(message, &type, NULL);
    if (r > 0)
        r = sd_bus_message_read_basic(message, type, &key); /* a string, or an object path */
    if (r < 0)
        return r;
    r = json_from_message(message, &value);
    if (r < 0)
        return r;
    if (!cJSON_AddItemToObject(object, key, value)) {
        cJSON_Delete(value);
        return -ENOMEM;
    }
    return 0;
}

static int read_items(sd_bus_message *message, const char *dictionary, cJSON *container)
{
    int r;

    while ((r = sd_bus_message_at_end(message, 0)) == 0) {
        if (dictionary) {
            r = sd_bus_message_enter_container(message, 'e', dictionary);
            if (r >= 0)
                r = read_entry(message, container);
            if (r >= 0)
                r = sd_bus_message_exit_container(message);
        } else {
            cJSON *value;
            r = json_from_message(message, &value);
            if (r >= 0 && !cJSON_AddItemToArray(container, value)) {
                cJSON_Delete(value);
                r = -ENOMEM;
            }
        }
        if (r < 0)
            return r;
    }
    return r;
}

static int read_container(sd_bus_message *message, char type, const char *contents, cJSON **ret_json)
{
    _cleanup_json_ cJSON *json = NULL;
    char copy[SIGNATURE_MAX], inner[SIGNATURE_MAX] = "";
    bool dictionary = type == 'a' && contents[0] == '{' && (contents[1] == 's' || contents[1] == 'o');
    int r;

    snprintf(copy, sizeof(copy), "%s", contents);
    if (dictionary)
        snprintf(inner, sizeof(inner), "%.*s", (int)strlen(copy) - 2, copy + 1);
    r = sd_bus_message_enter_container(message, type, copy);
    if (r < 0)
        return r;
    if (type == 'v') {
        r = json_from_message(message, &json);
    } else {
        json = dictionary ? cJSON_CreateObject() : cJSON_CreateArray();
        r = json ? read_items(message, dictionary ? inner : NULL, json) : -ENOMEM;
    }
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    if (r < 0)
        return r;
    *ret_json = json;
    json = NULL;
    return 0;
}

int json_from_message(sd_bus_message *message, cJSON **ret_json)
{
    const char *contents, *text;
    cJSON *json;
    char type;
    int r;

    r = sd_bus_message_peek_type(message, &type, &contents);
    if (r <= 0)
        return r < 0 ? r : -ENXIO;
    if (type && strchr("vare", type))
        return read_container(message, type, contents, ret_json);
    if (type == 's' || type == 'o' || type == 'g') {
        r = sd_bus_message_read_basic(message, type, &text);
        if (r < 0)
            return r;
        json = cJSON_CreateString(text);
    } else {
        json = read_number(message, type);
    }
    if (!json)
        return -ENOMEM;
    *ret_json = json;
    return 0;
}

int json_rows_from_message(sd_bus_message *message, const char *const keys[], cJSON **ret_rows)
{
    _cleanup_json_ cJSON *rows = NULL;
    cJSON *row;
    int r = json_from_message(message, &rows);

    if (r < 0)
        return r;
    cJSON_ArrayForEach (row, rows) {
        cJSON *object = cJSON_CreateObject();
        for (size_t i = 0; object && keys[i]; i++)
            if (!cJSON_AddItemToObject(object, keys[i], cJSON_DetachItemFromArray(row, 0)))
                r = -EBADMSG; /* too few values, or out of memory */
        if (!cJSON_ReplaceItemViaPointer(rows, row, object))
            r = -ENOMEM;
        if (r < 0)
            return r;
        row = object;
    }
    *ret_rows = rows;
    rows = NULL;
    return 0;
}

/* cJSON leaves DEL and the C1 controls as they are, a text that it did not write may have others; on a
 * terminal they act, in JSON they may be written as \u. */
void json_put(const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)text[0], next = (unsigned char)text[1];
        if (c == 0x7f || (c < ' ' && c != '\n')) {
            printf("\\u%04x", c);
        } else if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
            printf("\\u%04x", next);
            text++;
        } else {
            putchar(c);
        }
    }
    putchar('\n');
}

int json_print(JsonMode mode, const cJSON *json)
{
    _cleanup_free_ char *text = NULL;

    if (json)
        text = mode == JSON_PRETTY ? json_pretty(json) : cJSON_PrintUnformatted(json);
    if (!text)
        return fail_oom();
    json_put(text);
    return MICROVM_EXIT_OK;
}

const char *json_text(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

    return text ? text : "";
}

uint64_t json_number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    if (cJSON_IsRaw(item))
        return strtoull(item->valuestring, NULL, 10);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? (uint64_t)item->valuedouble : 0;
}

bool json_flag(const cJSON *object, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, key));
}
