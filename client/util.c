/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>

#define SEC UINT64_C(1000000)

int fail(int code, const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    fputs("microvmctl: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return code;
}

/* Insertions, deletions, substitutions and swaps of neighbours between two short words. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 64 };
    size_t n = strlen(a), m = strlen(b), row[3][LONGEST + 1];

    if (n > LONGEST || m > LONGEST)
        return SIZE_MAX;
    memset(row, 0, sizeof(row));
    for (size_t j = 0; j <= m; j++)
        row[1][j] = j;
    for (size_t i = 1; i <= n; i++) {
        row[2][0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = MIN(row[1][j - 1] + (a[i - 1] != b[j - 1]), MIN(row[1][j], row[2][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN(best, row[0][j - 2] + 1);
            row[2][j] = best;
        }
        memcpy(row[0], row[1], sizeof(row[0]));
        memcpy(row[1], row[2], sizeof(row[1]));
    }
    return row[1][m];
}

const char *did_you_mean(const char *word, const char *const *candidates, size_t n)
{
    const char *best = NULL;
    size_t nearest = SIZE_MAX;

    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, candidates[i]);
        if (d < nearest) {
            nearest = d;
            best = candidates[i];
        }
    }
    return nearest <= MAX(strlen(word) / 3, (size_t)2) && nearest < strlen(word) ? best : NULL;
}

static const struct {
    const char *name;
    uint64_t factor;
} units[] = {
    {"w", 604800 * SEC}, {"d", 86400 * SEC}, {"h", 3600 * SEC}, {"min", 60 * SEC}, {"s", SEC}, {"ms", 1000}, {"us", 1},
    {"m", 60 * SEC}, {"sec", SEC}, {"hr", 3600 * SEC},
};
enum { PRINTED_UNITS = 7 };

int parse_duration(const char *text, uint64_t *ret_usec)
{
    uint64_t total = 0;

    do {
        char *end;
        uint64_t value, factor = SEC;
        size_t length, i;
        while (*text == ' ')
            text++;
        if (!isdigit((unsigned char)*text))
            return -EINVAL;
        errno = 0;
        value = strtoull(text, &end, 10);
        for (text = end; *text == ' '; text++)
            ;
        for (length = 0; isalpha((unsigned char)text[length]); length++)
            ;
        for (i = 0; length > 0 && i < ELEMENTSOF(units); i++)
            if (strlen(units[i].name) == length && strncmp(units[i].name, text, length) == 0)
                break;
        if (i == ELEMENTSOF(units))
            return -EINVAL;
        if (length > 0)
            factor = units[i].factor;
        if (errno || __builtin_mul_overflow(value, factor, &value) || __builtin_add_overflow(total, value, &total))
            return -ERANGE;
        text += length;
    } while (*text);
    *ret_usec = total;
    return 0;
}

void format_span(uint64_t usec, char *buffer, size_t size)
{
    size_t used = 0, parts = 0;

    snprintf(buffer, size, "0s");
    for (size_t i = 0; i < PRINTED_UNITS && used < size && parts < 2; i++) {
        uint64_t n = usec / units[i].factor;
        if (n == 0)
            continue;
        if (units[i].factor < SEC && parts > 0)
            break; /* nobody reads the milliseconds of minutes */
        used += (size_t)snprintf(buffer + used, size - used, "%s%" PRIu64 "%s", parts ? " " : "", n, units[i].name);
        usec %= units[i].factor;
        parts++;
    }
}

char *format_since(uint64_t realtime_usec)
{
    time_t when = (time_t)(realtime_usec / SEC);
    struct timespec now;
    struct tm broken_down;
    char date[64], span[64], *text = NULL;
    uint64_t now_usec;
    bool future;

    clock_gettime(CLOCK_REALTIME, &now);
    now_usec = (uint64_t)now.tv_sec * SEC + (uint64_t)now.tv_nsec / 1000;
    future = realtime_usec > now_usec;
    if (!localtime_r(&when, &broken_down) || strftime(date, sizeof(date), "%a %Y-%m-%d %H:%M:%S %Z", &broken_down) == 0)
        return NULL;
    format_span(future ? realtime_usec - now_usec : now_usec - realtime_usec, span, sizeof(span));
    if (asprintf(&text, future ? "%s; in %s" : "%s; %s ago", date, span) < 0)
        return NULL;
    return text;
}

/* Length of an SGR sequence (colours and the like) at `text`, or 0. */
static size_t sgr_length(const char *text)
{
    size_t n = 2;

    if (text[0] != '\033' || text[1] != '[')
        return 0;
    while (isdigit((unsigned char)text[n]) || text[n] == ';')
        n++;
    return text[n] == 'm' ? n + 1 : 0;
}

char *escape(const char *text, bool keep_colour)
{
    char *escaped = malloc(4 * strlen(text) + 1), *to = escaped;

    if (!escaped)
        return NULL;
    while (*text) {
        size_t sgr = keep_colour ? sgr_length(text) : 0;
        unsigned char c = (unsigned char)*text;
        if (sgr > 0) {
            to = mempcpy(to, text, sgr);
            text += sgr;
            continue;
        }
        if (c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f && !(c == 0xc2 && ((unsigned char)text[1] & 0xe0) == 0x80)))
            *to++ = *text;
        else if (c != '\r')
            to += sprintf(to, "\\x%02x", c);
        text++;
    }
    *to = '\0';
    return escaped;
}

bool colours(void)
{
    static int known = -1;

    if (known < 0)
        known = isatty(STDOUT_FILENO) && !getenv("NO_COLOR") && getenv("TERM") && strcmp(getenv("TERM"), "dumb") != 0;
    return known;
}

const char *paint(const char *state)
{
    if (!colours())
        return "";
    if (strcmp(state, "running") == 0)
        return "\033[0;32m";
    if (strcmp(state, "failed") == 0)
        return "\033[1;31m";
    if (strcmp(state, "inactive") == 0)
        return "\033[2m";
    return "\033[1;33m";
}

unsigned terminal_width(void)
{
    struct winsize size;

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

static pid_t pager = 0;

void pager_open(Ctl *ctl)
{
    const char *command = getenv("SYSTEMD_PAGER") ? getenv("SYSTEMD_PAGER") : getenv("PAGER") ? getenv("PAGER") : "less";
    int ends[2];

    if (ctl->no_pager || ctl->json != JSON_OFF || !isatty(STDOUT_FILENO) || !*command || strcmp(command, "cat") == 0)
        return;
    colours(); /* decided by the terminal, not by the pipe */
    if (pipe(ends) < 0)
        return;
    pager = fork();
    if (pager == 0) {
        dup2(ends[0], STDIN_FILENO);
        close(ends[0]);
        close(ends[1]);
        setenv("LESS", "FRSXMK", 0);
        execlp("sh", "sh", "-c", command, NULL);
        execlp("cat", "cat", NULL);
        _exit(1);
    }
    close(ends[0]);
    if (pager > 0)
        dup2(ends[1], STDOUT_FILENO);
    close(ends[1]);
}

void pager_close(void)
{
    if (pager <= 0)
        return;
    fflush(stdout);
    close(STDOUT_FILENO);
    waitpid(pager, NULL, 0);
    pager = 0;
}

int print_json(Ctl *ctl, const cJSON *json)
{
    _cleanup_free_ char *text = ctl->json == JSON_PRETTY ? cJSON_Print(json) : cJSON_PrintUnformatted(json);

    if (!text)
        return fail(MICROVM_EXIT_FAILURE, "out of memory");
    puts(text);
    return MICROVM_EXIT_OK;
}
