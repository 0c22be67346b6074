/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resource/process-look.h"

#include "base/file.h"
#include "base/utf8.h"

enum {
    STATUS_MAX = 16 * 1024,
    COMMAND_MAX = 64 * 1024,
    NAME_MAX_BYTES = 64,
};

static int look(pid_t pid, const char *file, size_t max, char **ret_text, size_t *ret_size)
{
    char path[64];

    if (pid <= 0)
        return -ESRCH;
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    return read_file(path, max, ret_text, ret_size);
}

uint64_t process_memory_peak(pid_t pid)
{
    _cleanup_free_ char *text = NULL;
    const char *line;
    size_t size;

    if (look(pid, "status", STATUS_MAX, &text, &size) < 0)
        return 0;
    line = strstr(text, "\nVmHWM:");
    return line ? strtoull(line + strlen("\nVmHWM:"), NULL, 10) * 1024 : 0;
}

char *process_command(pid_t pid, size_t *ret_size)
{
    char *text = NULL;

    if (look(pid, "cmdline", COMMAND_MAX, &text, ret_size) < 0)
        return NULL;
    if (*ret_size == 0) {
        free(text);
        return NULL;
    }
    return text;
}

void process_name(pid_t pid, char *ret_name, size_t size)
{
    _cleanup_free_ char *text = NULL;
    size_t length;

    snprintf(ret_name, size, "%s", "");
    if (look(pid, "comm", NAME_MAX_BYTES, &text, &length) < 0)
        return;
    text[strcspn(text, "\n")] = '\0';
    utf8_make_printable(text);
    snprintf(ret_name, size, "%s", text);
}
