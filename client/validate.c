/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

enum {
    FILE_MAX = 1024 * 1024,
};

typedef struct Tally {
    size_t errors;
    cJSON *list; /* with --json */
} Tally;

/* Never blocks on FIFOs and devices; standard input may be a pipe. */
static int read_definition(const char *path, char **ret_text, size_t *ret_size)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char *text = malloc(FILE_MAX + 2);
    struct stat st;
    size_t used = 0;
    ssize_t n = 0;
    int r = 0;

    if (fd < 0 || !text || fstat(fd, &st) < 0)
        r = !text ? -ENOMEM : -errno;
    else if (!standard && S_ISDIR(st.st_mode))
        r = -EISDIR;
    else if (!standard && !S_ISREG(st.st_mode))
        r = -EINVAL;
    while (r == 0 && used <= FILE_MAX && (n = read(fd, text + used, FILE_MAX + 1 - used)) > 0)
        used += (size_t)n;
    if (r == 0 && n < 0)
        r = -errno;
    if (r == 0 && used > FILE_MAX)
        r = -EFBIG;
    if (fd >= 0 && !standard)
        close(fd);
    if (r < 0) {
        free(text);
        return r;
    }
    text[used] = '\0';
    *ret_text = text;
    *ret_size = used;
    return 0;
}

static void tell(Ctl *ctl, Tally *tally, const char *path, const char *severity, const char *pointer, const char *text,
                 uint32_t line, uint32_t column)
{
    if (strcmp(severity, "error") == 0)
        tally->errors++;
    if (ctl->json != JSON_OFF) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "File", path);
        cJSON_AddStringToObject(object, "Severity", severity);
        cJSON_AddStringToObject(object, "Pointer", pointer);
        cJSON_AddStringToObject(object, "Text", text);
        cJSON_AddNumberToObject(object, "Line", line);
        cJSON_AddNumberToObject(object, "Column", column);
        cJSON_AddItemToArray(tally->list, object);
        return;
    }
    _cleanup_free_ char *shown = escape(text, false);
    printf("%s:", path);
    if (line > 0)
        printf("%u:%u:", line, column);
    printf(" %s%s%s: %s", colours() ? (strcmp(severity, "error") == 0 ? "\033[1;31m" : "\033[1;33m") : "", severity, PAINT_OFF,
           shown ? shown : "");
    if (*pointer)
        printf(" (at %s)", pointer);
    putchar('\n');
}

static int validate_text(Ctl *ctl, Tally *tally, const char *path, const char *text)
{
    _cleanup_msg_ sd_bus_message *reply = NULL;
    const char *severity, *pointer, *words;
    uint32_t line, column;
    int code, r;

    code = ctl_call(ctl, NULL, "Validate", &reply, "s", text);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_enter_container(reply, 'a', "(sssuu)");
    while (r >= 0 && (r = sd_bus_message_read(reply, "(sssuu)", &severity, &pointer, &words, &line, &column)) > 0)
        tell(ctl, tally, path, severity, pointer, words, line, column);
    return r < 0 ? fail(MICROVM_EXIT_FAILURE, "microvmd's answer can't be read") : MICROVM_EXIT_OK;
}

static int validate_file(Ctl *ctl, Tally *tally, const char *path)
{
    _cleanup_free_ char *text = NULL;
    size_t size, before = tally->errors;
    int code, r;

    r = read_definition(path, &text, &size);
    if (r == -EFBIG)
        tell(ctl, tally, path, "error", "", "the file is larger than 1 MiB, so it is no definition", 0, 0);
    else if (r == -EINVAL)
        tell(ctl, tally, path, "error", "", "this is not a regular file", 0, 0);
    else if (r < 0)
        tell(ctl, tally, path, "error", "", strerror(-r), 0, 0);
    else if (size == 0)
        tell(ctl, tally, path, "warning", "", "it is empty: it only masks definitions of the same name in other directories", 0, 0);
    else if (strlen(text) != size)
        tell(ctl, tally, path, "error", "", "the file holds a NUL byte, so it is no JSON", 0, 0);
    /* D-Bus carries only UTF-8: what is not would end the connection. */
    else if (mbstowcs(NULL, text, 0) == (size_t)-1)
        tell(ctl, tally, path, "error", "", "the file is not UTF-8", 0, 0);
    else if ((code = validate_text(ctl, tally, path, text)) != MICROVM_EXIT_OK)
        return code;
    if (ctl->json == JSON_OFF && !ctl->quiet && tally->errors == before)
        printf("%s: good\n", path);
    return MICROVM_EXIT_OK;
}

int verb_validate(Ctl *ctl)
{
    Tally tally = {.list = cJSON_CreateArray()};
    int code;

    if (ctl->n_names == 0)
        return fail(MICROVM_EXIT_USAGE, "the files to validate are missing (- is standard input)");
    code = ctl_connect(ctl);
    for (int i = 0; i < ctl->n_names && code == MICROVM_EXIT_OK; i++)
        code = validate_file(ctl, &tally, ctl->names[i]);
    if (code == MICROVM_EXIT_OK && ctl->json != JSON_OFF)
        code = print_json(ctl, tally.list);
    cJSON_Delete(tally.list);
    return code != MICROVM_EXIT_OK ? code : tally.errors > 0 ? MICROVM_EXIT_FAILURE : MICROVM_EXIT_OK;
}
