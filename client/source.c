/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "source.h"

#include "table.h"
#include "term.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BEFORE = 60, /* bytes of a long line that are shown in front of the place */
    SHOWN = 100, /* in all */
};

/* The line without its end; NULL: there are fewer. */
static const char *find_line(const char *text, size_t size, unsigned line, size_t *ret_length)
{
    const char *end = text + size, *stop;

    while (--line > 0) {
        text = memchr(text, '\n', (size_t)(end - text));
        if (!text)
            return NULL;
        text++;
    }
    stop = memchr(text, '\n', (size_t)(end - text));
    stop = stop ? stop : end;
    if (stop > text && stop[-1] == '\r')
        stop--;
    *ret_length = (size_t)(stop - text);
    return text;
}

/* Back to the first byte of a character. */
static size_t character_start(const char *line, size_t at)
{
    for (int i = 0; i < 3 && at > 0 && ((unsigned char)line[at] & 0xc0) == 0x80; i++)
        at--;
    return at;
}

void source_show(const char *text, size_t size, unsigned line, unsigned column)
{
    size_t length, start = 0, end, at, used;
    const char *found = line > 0 && column > 0 ? find_line(text, size, line, &length) : NULL;
    _cleanup_free_ char *copy = NULL, *before = NULL, *after = NULL;

    if (!found)
        return;
    copy = malloc(length + 1); /* there may be a NUL in it */
    if (!copy)
        return;
    memcpy(copy, found, length);
    copy[length] = '\0';
    for (size_t i = 0; i < length; i++)
        if (copy[i] == '\t' || copy[i] == '\0')
            copy[i] = ' ';
    at = MIN((size_t)column - 1, length);
    if (at > BEFORE)
        start = character_start(copy, at - BEFORE);
    end = start + SHOWN < length ? character_start(copy, start + SHOWN) : length;
    before = escape_piece(copy + start, at - start, ESCAPE_LINE, true, &used);
    after = escape_piece(copy + at, end - at, ESCAPE_LINE, true, &used);
    if (!before || !after)
        return;
    printf("%5u | %s%s%s%s\n", line, start > 0 ? "..." : "", before, after, end < length ? "..." : "");
    printf("      | %*s%s^%s\n", (int)(text_width(before) + (start > 0 ? 3 : 0)), "", paint("error"),
           paint_off());
}
