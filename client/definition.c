/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The text of a definition on its way to microvmd, and what microvmd says of it. */
#include "definition.h"
#include "term.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum {
    FILE_MAX = 1024 * 1024, /* as microvmd */
};

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

int definition_read(const char *path, char **ret_text, size_t *ret_size)
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

int fail_nul(const char *path)
{
    return fail(MICROVM_EXIT_FAILURE, "%s holds a NUL byte, so it is no JSON.", path);
}

static void problem_tell(Ctl *ctl, Tally *tally, const char *path, const char *severity, const char *pointer,
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
    fprintf(tally->to, "%s:%s %s%s%s: %s", shown_path ? shown_path : "?", place, paint(severity), severity,
            paint_off(), shown ? shown : "");
    if (at && *at)
        fprintf(tally->to, " (at %s)", at);
    fputc('\n', tally->to);
}

int problems_tell(Ctl *ctl, Tally *tally, const char *path, sd_bus_message *reply)
{
    const char *severity, *pointer, *words;
    uint32_t line, column;
    int r;

    r = sd_bus_message_enter_container(reply, 'a', "(sssuu)");
    while (r >= 0 &&
           (r = sd_bus_message_read(reply, "(sssuu)", &severity, &pointer, &words, &line, &column)) > 0)
        problem_tell(ctl, tally, path, severity, pointer, words, line, column);
    return r < 0 ? ctl_bad_answer(r) : MICROVM_EXIT_OK;
}

bool problem_tell_no_text(Ctl *ctl, Tally *tally, const char *path, const char *text, size_t size)
{
    uint32_t line = 1;
    size_t line_start = 0;

    for (size_t i = 0; i < size;) {
        int length = text[i] ? utf8_length(text + i, size - i) : 0;
        if (length <= 0) {
            problem_tell(ctl, tally, path, "error", "",
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
