/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "card.h"

#include "term.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void print_title(const char *name, const char *word, const char *relation, uint64_t usec)
{
    _cleanup_free_ char *since = usec > 0 ? format_since(usec) : NULL, *shown = escape(name, ESCAPE_LINE),
                        *said = escape(word, ESCAPE_LINE);

    printf("%s●%s %s%s%s - %s%s%s", paint(word), paint_off(), paint_bold(), shown ? shown : "?", paint_off(),
           paint(word), said ? said : "?", paint_off());
    if (since)
        printf(" %s %s", relation, since);
    putchar('\n');
}

void print_line(const char *label, const char *format, ...)
{
    _cleanup_free_ char *text = NULL, *shown = NULL;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    shown = text ? escape(text, ESCAPE_LINE) : NULL;
    printf("%*s%c %s\n", CARD_LABEL, label, *label ? ':' : ' ', shown ? shown : "");
}

/* Of Explain and of a crash report, the names of members differ in their first letter only. */
static const cJSON *past_get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItem(object, key); /* which does not tell upper from lower case */
}

static const char *past_text(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(past_get(object, key));

    return text ? text : "";
}

static uint64_t past_number(const cJSON *object, const char *key)
{
    const cJSON *item = past_get(object, key);

    return item ? json_number(object, item->string) : 0;
}

/* "20.3M" */
static void format_bytes(uint64_t bytes, char *buffer, size_t size)
{
    static const char letters[] = "BKMGT";
    double value = (double)bytes;
    size_t i = 0;

    for (; value >= 1024 && letters[i + 1]; i++)
        value /= 1024;
    snprintf(buffer, size, i == 0 ? "%.0f%c" : "%.1f%c", value, letters[i]);
}

/* Explain has ExitCode and ExitStatus, a report "exit" with both. */
static void print_exit(const cJSON *end)
{
    const cJSON *parts = past_get(end, "exit"),
                *code = past_get(parts ? parts : end, parts ? "code" : "ExitCode"),
                *status = past_get(parts ? parts : end, parts ? "status" : "ExitStatus");
    const char *word = cJSON_GetStringValue(code), *abbreviation;

    if (!word || !cJSON_IsNumber(status))
        return;
    abbreviation = strcmp(word, "exited") != 0 ? sigabbrev_np(status->valueint) : NULL;
    if (strcmp(word, "exited") == 0)
        print_line("Process", "exited with status %d", status->valueint);
    else
        print_line("Process", "killed by SIG%s%s", abbreviation ? abbreviation : "?",
                   strcmp(word, "dumped") == 0 ? ", with a core dump" : "");
}

void print_process(const cJSON *end)
{
    uint64_t started = past_number(end, "StartTimestamp"), ended = past_number(end, "Timestamp"),
             peak = past_number(end, "MemoryPeak");
    char text[64];

    if (started > 0 && ended > started) {
        uint64_t ran = ended - started;
        format_span(ran >= USEC_PER_SEC ? ran / USEC_PER_SEC * USEC_PER_SEC : ran, text, sizeof(text));
        print_line("Ran", "%s", text);
    }
    print_exit(end);
    if (*past_text(end, "UnitResult"))
        print_line("Unit result", "%s", past_text(end, "UnitResult"));
    if (peak > 0) {
        format_bytes(peak, text, sizeof(text));
        print_line("Memory", "%s at the most that was seen", text);
    }
}

void print_events(const cJSON *events, int most)
{
    int skip = cJSON_GetArraySize(events) - most;
    const char *label = "Events";
    const cJSON *event;

    cJSON_ArrayForEach (event, events) {
        _cleanup_free_ char *when = NULL;
        if (skip-- > 0)
            continue;
        when = format_time(past_number(event, "Timestamp"));
        print_line(label, "%s  %s%s", when ? when : "",
                   strcmp(past_text(event, "Kind"), "hypervisor") == 0 ? "the hypervisor says " : "",
                   past_text(event, "Text"));
        label = "";
    }
}

/* Where the last `most` lines begin. */
static const char *last_lines(const char *text, uint64_t most)
{
    const char *at = text + strlen(text);

    if (at > text && at[-1] == '\n')
        at--;
    for (; at > text; at--)
        if (at[-1] == '\n' && most-- <= 1)
            break;
    return at;
}

void print_quoted(const char *heading, const char *text, uint64_t most)
{
    _cleanup_free_ char *shown =
        text && *text && most > 0 ? escape(last_lines(text, most), ESCAPE_COLOUR) : NULL;
    size_t length = shown ? strlen(shown) : 0;

    if (length > 0)
        printf("\n%s%s%s\n%s%s%s", paint_bold(), heading, paint_off(), shown, paint_off(),
               shown[length - 1] == '\n' ? "" : "\n");
}
