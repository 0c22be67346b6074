/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definitions are read here and judged by the daemon: it knows its own defaults and version. */
#include "bus.h"
#include "term.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum {
    FILE_MAX = 1024 * 1024, /* as microvmd */
};

typedef struct Tally {
    size_t errors;
    cJSON *list; /* with --json */
} Tally;

static int open_definition(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* never blocks on FIFOs and devices */
    struct stat st;
    int r = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        r = -errno;
    else if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)) /* /dev/null masks; it reads as empty */
        return fd;
    else if (S_ISDIR(st.st_mode))
        r = -EISDIR;
    else if (!S_ISREG(st.st_mode))
        r = -EINVAL;
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

/* Standard input may be a pipe. */
static int read_definition(const char *path, char **ret_text, size_t *ret_size)
{
    _cleanup_free_ char *text = malloc(FILE_MAX + 2);
    _cleanup_close_ int opened = -EBADF;
    int fd = STDIN_FILENO;
    size_t used = 0;
    ssize_t n;

    if (!text)
        return -ENOMEM;
    if (strcmp(path, "-") != 0) {
        fd = opened = open_definition(path);
        if (fd < 0)
            return fd;
    }
    while (used <= FILE_MAX) {
        n = read(fd, text + used, FILE_MAX + 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    if (used > FILE_MAX)
        return -EFBIG;
    text[used] = '\0';
    *ret_text = text;
    *ret_size = used;
    text = NULL;
    return 0;
}

static void tell(Ctl *ctl, Tally *tally, const char *path, const char *severity, const char *pointer,
                 const char *text, uint32_t line, uint32_t column)
{
    _cleanup_free_ char *shown = NULL, *at = NULL, *shown_path = NULL;
    char place[32] = "";

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
    if (line > 0)
        snprintf(place, sizeof(place), "%u:%u:", line, column);
    shown = escape(text, ESCAPE_LINE);
    at = escape(pointer, ESCAPE_LINE);
    shown_path = escape(path, ESCAPE_LINE);
    printf("%s:%s %s%s%s: %s", shown_path ? shown_path : "?", place, paint(severity), severity, paint_off(),
           shown ? shown : "");
    if (at && *at)
        printf(" (at %s)", at);
    putchar('\n');
}

static int validate_text(Ctl *ctl, Tally *tally, const char *path, const char *text)
{
    _cleanup_message_ sd_bus_message *reply = NULL;
    const char *severity, *pointer, *words;
    uint32_t line, column;
    int code, r;

    code = ctl_call(ctl, NULL, NULL, "Validate", &reply, "s", text);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = sd_bus_message_enter_container(reply, 'a', "(sssuu)");
    while (r >= 0 &&
           (r = sd_bus_message_read(reply, "(sssuu)", &severity, &pointer, &words, &line, &column)) > 0)
        tell(ctl, tally, path, severity, pointer, words, line, column);
    return r < 0 ? ctl_bad_answer(r) : MICROVM_EXIT_OK;
}

/* D-Bus carries neither what is not UTF-8 nor NUL bytes: the first such byte is told here. Columns are in
 * bytes, as microvmd's. */
static bool tell_no_text(Ctl *ctl, Tally *tally, const char *path, const char *text, size_t size)
{
    uint32_t line = 1;
    size_t line_start = 0;

    for (size_t i = 0; i < size;) {
        int length = text[i] ? utf8_length(text + i, size - i) : 0;
        if (length <= 0) {
            tell(ctl, tally, path, "error", "",
                 text[i] ? "this is not UTF-8, so it is no JSON"
                         : "the file holds a NUL byte, so it is no JSON",
                 line, (uint32_t)(i - line_start) + 1);
            return true;
        }
        i += (size_t)length;
        if (text[i - 1] == '\n') {
            line++;
            line_start = i;
        }
    }
    return false;
}

static int validate_file(Ctl *ctl, Tally *tally, const char *path)
{
    _cleanup_free_ char *text = NULL;
    size_t size = 0, before = tally->errors;
    int code, r;

    r = read_definition(path, &text, &size);
    if (r == -EFBIG)
        tell(ctl, tally, path, "error", "", "the file is larger than 1 MiB, so it is no definition", 0, 0);
    else if (r == -EINVAL)
        tell(ctl, tally, path, "error", "", "this is not a regular file", 0, 0);
    else if (r < 0)
        tell(ctl, tally, path, "error", "", strerror(-r), 0, 0);
    else if (size == 0)
        tell(ctl, tally, path, "warning", "",
             "it is empty: it only masks definitions of the same name in other directories", 0, 0);
    else if (!tell_no_text(ctl, tally, path, text, size) &&
             (code = validate_text(ctl, tally, path, text)) != MICROVM_EXIT_OK)
        return code;
    if (ctl->json == JSON_OFF && !ctl->quiet && tally->errors == before)
        printf("%s: good\n", strcmp(path, "-") == 0 ? "standard input" : path);
    return MICROVM_EXIT_OK;
}

int verb_validate(Ctl *ctl)
{
    Tally tally = {.list = cJSON_CreateArray()};
    int code;

    if (ctl->n_names == 0) {
        cJSON_Delete(tally.list);
        return fail(MICROVM_EXIT_USAGE, "The files to validate are missing (- is standard input).");
    }
    code = ctl_connect(ctl);
    for (size_t i = 0; i < ctl->n_names && code == MICROVM_EXIT_OK; i++)
        code = validate_file(ctl, &tally, ctl->names[i]);
    if (code == MICROVM_EXIT_OK && ctl->json != JSON_OFF)
        code = json_print(ctl->json, tally.list);
    cJSON_Delete(tally.list);
    if (code == MICROVM_EXIT_UNREACHABLE)
        fputs("Without a daemon: microvmd --check FILE...\n", stderr);
    return code != MICROVM_EXIT_OK ? code : tally.errors > 0 ? MICROVM_EXIT_FAILURE : MICROVM_EXIT_OK;
}
