/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"

#include "microvm/names.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* sd_journal_sendv() is wanted as it is, without the macro that adds our own source line to each field. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

static struct {
    int max_level;
    bool journal;
} log_state = {.max_level = LOG_INFO};

static int level_from_name(const char *name)
{
    static const char *const names[] = {"emerg",   "alert",  "crit", "err",
                                        "warning", "notice", "info", "debug"};

    for (size_t i = 0; i < ELEMENTSOF(names); i++)
        if (streq(names[i], name))
            return (int)i;
    return -EINVAL;
}

/* systemd.exec(5), $JOURNAL_STREAM: "DEVICE:INODE" of the stream that leads to the journal. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(STDERR_FILENO, &st) < 0)
        return false;
    return (unsigned long long)st.st_dev == device && (unsigned long long)st.st_ino == inode;
}

void log_setup(void)
{
    const char *level = getenv("MICROVMD_LOG_LEVEL");
    int value = level ? level_from_name(level) : LOG_INFO;

    log_state.max_level = value < 0 ? LOG_INFO : value;
    log_state.journal = stderr_is_journal();
    if (level && value < 0)
        log_warning("MICROVMD_LOG_LEVEL=%s is not a log level; taking \"info\".", level);
}

static void write_stderr(const char *name, const char *message)
{
    struct iovec parts[] = {
        {(char *)name, name ? strlen(name) : 0},
        {(char *)": ", name ? 2 : 0},
        {(char *)message, strlen(message)},
        {(char *)"\n", 1},
    };

    /* One writev() keeps lines of several threads whole; a full or closed stderr is nobody's problem. */
    if (writev(STDERR_FILENO, parts, ELEMENTSOF(parts)) < 0)
        return;
}

static void write_journal(int level, const char *name, const char *const *fields, const char *message)
{
    enum {
        MAX_FIELDS = 24
    };
    struct iovec parts[MAX_FIELDS];
    char *made[4] = {NULL};
    int n = 0;

    if (asprintf(&made[0], "MESSAGE=%s%s%s", name ? name : "", name ? ": " : "", message) < 0)
        made[0] = NULL;
    if (asprintf(&made[1], "PRIORITY=%d", level) < 0)
        made[1] = NULL;
    if (name && asprintf(&made[2], MICROVM_LOG_NAME "=%s", name) < 0)
        made[2] = NULL;
    /* "journalctl -u" of the unit that its hypervisor is shows what root says of it in this field. */
    if (name && asprintf(&made[3], "OBJECT_SYSTEMD_UNIT=" MICROVM_VM_UNIT_PREFIX "%s.service", name) < 0)
        made[3] = NULL;
    for (size_t i = 0; i < ELEMENTSOF(made); i++)
        if (made[i])
            parts[n++] = (struct iovec){made[i], strlen(made[i])};
    parts[n++] = (struct iovec){(char *)"SYSLOG_IDENTIFIER=microvmd", strlen("SYSLOG_IDENTIFIER=microvmd")};
    for (; fields && *fields && n < MAX_FIELDS; fields++)
        parts[n++] = (struct iovec){(char *)*fields, strlen(*fields)};

    if (sd_journal_sendv(parts, n) < 0)
        write_stderr(name, message);
    for (size_t i = 0; i < ELEMENTSOF(made); i++)
        free(made[i]);
}

static int log_internal(int level, const char *name, int error, const char *const *fields, const char *format,
                        va_list arguments)
{
    _cleanup_free_ char *message = NULL;
    int saved = errno;

    if (level > log_state.max_level)
        return error;
    errno = error < 0 ? -error : saved;
    if (vasprintf(&message, format, arguments) < 0)
        message = NULL;
    if (log_state.journal)
        write_journal(level, name, fields, message ? message : format);
    else
        write_stderr(name, message ? message : format);
    errno = saved;
    return error;
}

int log_full(int level, const char *name, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_internal(level, name, error, NULL, format, arguments);
    va_end(arguments);
    return error;
}

int log_fields(int level, const char *name, int error, const char *const *fields, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_internal(level, name, error, fields, format, arguments);
    va_end(arguments);
    return error;
}
