/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* D-Bus values as JSON, and JSON on standard output. */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

#include "util.h"

#include <cjson/cJSON.h>
#include <systemd/sd-bus.h>

static inline void cjson_deletep(cJSON **json)
{
    cJSON_Delete(*json);
}
#define _cleanup_json_ _cleanup_(cjson_deletep)

typedef enum JsonMode {
    JSON_OFF,
    JSON_SHORT,
    JSON_PRETTY,
} JsonMode;

/* The next value of a message, whatever its type: dictionaries become objects, arrays and structures lists.
 */
int json_from_message(sd_bus_message *message, cJSON **ret_json);
/* The next value, an array of structures, as a list of objects: `keys` (NULL ends them) name the members in
 * their order. The caller's. */
int json_rows_from_message(sd_bus_message *message, const char *const keys[], cJSON **ret_rows);
/* An exit code. */
int json_print(JsonMode mode, const cJSON *json);

/* JSON text as it is, but for what acts on a terminal, and a line end. */
void json_put(const char *text);

/* As text with two spaces a level, the caller's; NULL: out of memory. */
char *json_pretty(const cJSON *json);

/* Members of an object of properties; "", 0, false when absent. */
const char *json_text(const cJSON *object, const char *key);
uint64_t json_number(const cJSON *object, const char *key);
bool json_flag(const cJSON *object, const char *key);

#endif
