/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Guests and definitions don't write to a terminal: what they say is made harmless first. */
#include "util.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int utf8_length(const char *text, size_t size)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)*text;
    int length = first < 0x80   ? 1
                 : first < 0xc2 ? 0
                 : first < 0xe0 ? 2
                 : first < 0xf0 ? 3
                 : first < 0xf5 ? 4
                                : 0;
    uint32_t code = length == 1 ? first : first & (0x7fU >> length);

    for (int i = 1; i < length; i++) {
        if ((size_t)i >= size)
            return -EAGAIN;
        if (((unsigned char)text[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | ((unsigned char)text[i] & 0x3f);
    }
    if (length == 0 || code < least[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return 0;
    return length;
}

/* C1 controls, and the characters that turn the direction of what follows. */
static bool is_harmful(const char *text, int length)
{
    const unsigned char *c = (const unsigned char *)text;

    if (length == 2)
        return c[0] == 0xc2 && c[1] < 0xa0;
    if (length == 3 && c[0] == 0xe2)
        return (c[1] == 0x80 && c[2] >= 0xaa && c[2] <= 0xae) ||
               (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9);
    return false;
}

/* Length of an SGR sequence at `text`; 0: none; -EAGAIN: cut off by the end. */
static int sgr_length(const char *text, size_t size)
{
    size_t n = 2;

    if (text[0] != '\033')
        return 0;
    if (size < 2)
        return -EAGAIN;
    if (text[1] != '[')
        return 0;
    while (n < size && n < ESCAPE_REST - 1 && (isdigit((unsigned char)text[n]) || text[n] == ';'))
        n++;
    if (n == size)
        return -EAGAIN;
    return text[n] == 'm' ? (int)n + 1 : 0;
}

/* Carriage returns before a line end, as serial consoles send them. */
static int line_end_length(const char *text, size_t size)
{
    size_t n = 0;

    while (n < size && n < ESCAPE_REST - 1 && text[n] == '\r')
        n++;
    if (n == size)
        return -EAGAIN;
    return text[n] == '\n' ? (int)n : 0;
}

/* How many bytes at `text` pass as they are (`*ret_keep`) or are dropped; 0: the first one is to be escaped.
 */
static int passing(const char *text, size_t size, EscapeMode mode, bool *ret_keep)
{
    int length;

    *ret_keep = true;
    if (*text == '\n' || *text == '\t')
        return mode != ESCAPE_LINE;
    if (*text == '\r' && mode != ESCAPE_LINE) {
        *ret_keep = false;
        return line_end_length(text, size);
    }
    if (*text == '\033' && mode == ESCAPE_COLOUR)
        return sgr_length(text, size);
    if ((unsigned char)*text < 0x20 || *text == 0x7f)
        return 0;
    length = utf8_length(text, size);
    return length > 0 && is_harmful(text, length) ? 0 : length;
}

char *escape_piece(const char *text, size_t size, EscapeMode mode, bool last, size_t *ret_used)
{
    char *escaped = malloc(4 * size + 1), *to = escaped;
    size_t i = 0;

    if (!escaped)
        return NULL;
    while (i < size) {
        bool keep;
        int n = passing(text + i, size - i, mode, &keep);
        if (n < 0 && !last)
            break;
        if (n > 0 && keep)
            to = mempcpy(to, text + i, (size_t)n);
        else if (n <= 0)
            to += sprintf(to, "\\x%02x", (unsigned char)text[i]);
        i += n > 0 ? (size_t)n : 1;
    }
    *to = '\0';
    *ret_used = i;
    return escaped;
}

char *escape(const char *text, EscapeMode mode)
{
    size_t used;

    return escape_piece(text, strlen(text), mode, true, &used);
}
