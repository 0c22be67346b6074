/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util.h"

#include "microvm/exit.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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

int fail_oom(void)
{
    return fail(MICROVM_EXIT_FAILURE, "Out of memory.");
}

/* Insertions, deletions, substitutions and swaps of neighbours between two short words. */
static size_t distance(const char *a, const char *b)
{
    enum {
        LONGEST = 64
    };
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

/* --- times --- */

static const struct {
    const char *name;
    uint64_t factor;
} units[] = {
    {"w", 604800 * USEC_PER_SEC},
    {"d", 86400 * USEC_PER_SEC},
    {"h", 3600 * USEC_PER_SEC},
    {"min", 60 * USEC_PER_SEC},
    {"s", USEC_PER_SEC},
    {"ms", 1000},
    {"us", 1},
    /* only read */
    {"m", 60 * USEC_PER_SEC},
    {"sec", USEC_PER_SEC},
    {"hr", 3600 * USEC_PER_SEC},
};
enum {
    PRINTED_UNITS = 7
};

static int parse_unit(const char **text, uint64_t *ret_factor)
{
    size_t length = strspn(*text, "abcdefghijklmnopqrstuvwxyz");

    *ret_factor = USEC_PER_SEC;
    if (length == 0)
        return 0;
    for (size_t i = 0; i < ELEMENTSOF(units); i++)
        if (strlen(units[i].name) == length && strncmp(units[i].name, *text, length) == 0) {
            *ret_factor = units[i].factor;
            *text += length;
            return 0;
        }
    return -EINVAL;
}

int parse_duration(const char *text, uint64_t *ret_usec)
{
    uint64_t total = 0, value, factor;
    char *end;

    do {
        text += strspn(text, " ");
        if (!isdigit((unsigned char)*text))
            return -EINVAL;
        errno = 0;
        value = strtoull(text, &end, 10);
        if (errno == ERANGE)
            return -ERANGE;
        text = end + strspn(end, " ");
        if (parse_unit(&text, &factor) < 0)
            return -EINVAL;
        if (__builtin_mul_overflow(value, factor, &value) || __builtin_add_overflow(total, value, &total))
            return -ERANGE;
        text += strspn(text, " ");
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
        if (units[i].factor < USEC_PER_SEC && parts > 0)
            break; /* nobody reads the milliseconds of minutes */
        used += (size_t)snprintf(buffer + used, size - used, "%s%" PRIu64 "%s", parts ? " " : "", n,
                                 units[i].name);
        usec %= units[i].factor;
        parts++;
    }
}

static uint64_t now_usec(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

uint64_t now_monotonic_usec(void)
{
    return now_usec(CLOCK_MONOTONIC);
}

uint64_t now_realtime_usec(void)
{
    return now_usec(CLOCK_REALTIME);
}

char *format_time(uint64_t realtime_usec)
{
    time_t when = (time_t)(realtime_usec / USEC_PER_SEC);
    char text[64];
    struct tm broken_down;

    if (!localtime_r(&when, &broken_down) ||
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &broken_down) == 0)
        return strdup("");
    return strdup(text);
}

char *format_since(uint64_t realtime_usec)
{
    time_t when = (time_t)(realtime_usec / USEC_PER_SEC);
    uint64_t now = now_usec(CLOCK_REALTIME);
    bool future = realtime_usec > now;
    char date[64], span[64], *text = NULL;
    struct tm broken_down;

    if (!localtime_r(&when, &broken_down) ||
        strftime(date, sizeof(date), "%a %Y-%m-%d %H:%M:%S %Z", &broken_down) == 0)
        return strdup("a time that has no date");
    format_span(future ? realtime_usec - now : now - realtime_usec, span, sizeof(span));
    if (asprintf(&text, future ? "%s; in %s" : "%s; %s ago", date, span) < 0)
        return NULL;
    return text;
}
