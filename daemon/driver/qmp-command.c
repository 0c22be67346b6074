/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/qmp-command.h"

#include "base/utf8.h"

/* Of names in QEMU's QAPI. */
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
/* Integers beyond it are not what they were after cJSON has read them. */
#define INTEGER_MAX 9007199254740992.0

/* Whether it ends with this character. */
static bool take_character(QmpScan *scan, char c)
{
    if (scan->in_string) {
        scan->in_string = c != '"' || scan->escaped;
        scan->escaped = c == '\\' && !scan->escaped;
        return (unsigned char)c < ' '; /* no string has a line end */
    }
    if (scan->depth == 0 && c != '{' && c != '[')
        return c == '\n' || c == '}' || c == ']';
    if (c == '{' || c == '[')
        scan->depth++;
    else if (c == '}' || c == ']')
        return --scan->depth == 0;
    scan->in_string = c == '"';
    return false;
}

size_t qmp_scan(QmpScan *scan, const char *text, size_t size)
{
    while (scan->size < size)
        if (take_character(scan, text[scan->size++])) {
            size_t found = scan->size;
            *scan = (QmpScan){0};
            return found;
        }
    return 0;
}

void qmp_command_clear(QmpCommand *command)
{
    free(command->name);
    cJSON_Delete(command->arguments);
    cJSON_Delete(command->id);
    *command = (QmpCommand){0};
}

static bool is_utf8(const char *text, size_t size)
{
    for (size_t at = 0, length; at < size; at += length)
        if ((length = utf8_sequence(text + at, size - at)) == 0)
            return false;
    return true;
}

static bool loses_digits(const cJSON *value)
{
    const cJSON *item;

    if (cJSON_IsNumber(value))
        return !(value->valuedouble > -INTEGER_MAX && value->valuedouble < INTEGER_MAX);
    cJSON_ArrayForEach (item, value)
        if (loses_digits(item))
            return true;
    return false;
}

/* Why it is none, in QEMU's own words where it has some; NULL: it is one. */
static const char *find_fault(const cJSON *message)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(message, "execute");
    const cJSON *arguments = cJSON_GetObjectItemCaseSensitive(message, "arguments"), *item;

    if (!message)
        return "JSON parse error";
    if (!cJSON_IsObject(message))
        return "QMP input must be a JSON object";
    cJSON_ArrayForEach (item, message)
        if (!streq(item->string, "execute") && !streq(item->string, "arguments") &&
            !streq(item->string, "id"))
            return streq(item->string, "exec-oob") ? "Out-of-band execution is not offered by microvmd"
                                                   : "QMP input has an unexpected member";
    if (!name)
        return "QMP input lacks member 'execute'";
    if (!cJSON_IsString(name))
        return "QMP input member 'execute' must be a string";
    if (isempty(name->valuestring) || name->valuestring[strspn(name->valuestring, NAME_CHARACTERS)])
        return "QMP input member 'execute' is no name of a command";
    if (arguments && !cJSON_IsObject(arguments))
        return "QMP input member 'arguments' must be an object";
    if (loses_digits(message))
        return "A number is too large for microvmd to pass on (2^53)";
    return NULL;
}

/* One value and nothing more; NULL: it is not. */
static cJSON *parse_all(const char *text, size_t size)
{
    const char *end = NULL;
    cJSON *message;

    if (size > QMP_COMMAND_MAX || !is_utf8(text, size))
        return NULL;
    message = cJSON_ParseWithLengthOpts(text, size, &end, false);
    while (message && end < text + size && strchr(" \t\r\n", *end))
        end++;
    if (end == text + size)
        return message;
    cJSON_Delete(message);
    return NULL;
}

int qmp_command_parse(const char *text, size_t size, QmpCommand *ret_command, const char **ret_why)
{
    cJSON *message = parse_all(text, size);
    const char *fault = find_fault(message);
    int r = 0;

    *ret_command = (QmpCommand){0};
    if (cJSON_IsObject(message) && !loses_digits(message))
        ret_command->id = cJSON_DetachItemFromObjectCaseSensitive(message, "id");
    if (size > QMP_COMMAND_MAX)
        fault = "The command is longer than microvmd takes (64 KiB)";
    if (fault) {
        *ret_why = fault;
        r = -EBADMSG;
    } else {
        ret_command->name =
            strdup(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "execute")));
        ret_command->arguments = cJSON_DetachItemFromObjectCaseSensitive(message, "arguments");
        r = ret_command->name ? 0 : -ENOMEM;
    }
    cJSON_Delete(message);
    return r;
}

/*
 * "query-" is QAPI's own mark of commands without effect. Not qom-get, which shows the contents of secrets,
 * nor what measures and attests (query-sev-…), nor the experimental ones (x-query-…), which show memory.
 */
bool qmp_command_only_reads(const char *name)
{
    static const char *const others[] = {"qmp_capabilities", "qom-list", "qom-list-types",
                                         "qom-list-properties", "device-list-properties"};

    for (size_t i = 0; i < ELEMENTSOF(others); i++)
        if (streq(name, others[i]))
            return true;
    return strncmp(name, "query-", 6) == 0 && strncmp(name, "query-sev", 9) != 0;
}
