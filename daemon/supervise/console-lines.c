/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "supervise/console-lines.h"

#include "base/utf8.h"

#define LINE_COST_USEC (UINT64_C(1000000) / LINE_RATE_PER_SECOND)

/* How much of a full line is whole characters: what follows may belong to the last one. */
static size_t whole_characters(const char *text, size_t length)
{
    size_t start = length;

    while (start > 0 && length - start < 3 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0 || (unsigned char)text[start - 1] < 0xc0)
        return length;
    return utf8_sequence(text + start - 1, length - start + 1) > 0 ? length : start - 1;
}

static const char *give(LineCutter *cutter, size_t length)
{
    memcpy(cutter->line, cutter->text, length);
    cutter->line[length] = '\0';
    cutter->length -= length;
    memmove(cutter->text, cutter->text + length, cutter->length);
    cutter->raw = cutter->length;
    utf8_make_printable(cutter->line);
    return cutter->line;
}

const char *line_cutter_end(LineCutter *cutter)
{
    cutter->state = LINE_TEXT;
    if (cutter->length > 0)
        return give(cutter, cutter->length);
    cutter->raw = 0;
    return NULL;
}

/* Returns the state after a byte of an escape sequence. */
static LineState escape(LineState state, unsigned char byte)
{
    switch (state) {
    case LINE_ESCAPE:
        if (byte == '[')
            return LINE_SEQUENCE;
        if (strchr("]P_^X", byte))
            return LINE_STRING;
        return byte >= 0x20 && byte < 0x30 ? LINE_ESCAPE : LINE_TEXT;
    case LINE_SEQUENCE:
        return byte >= 0x40 && byte < 0x7f ? LINE_TEXT : LINE_SEQUENCE;
    case LINE_STRING:
        return byte == '\a' ? LINE_TEXT : byte == 0x1b ? LINE_STRING_ESCAPE : LINE_STRING;
    default:
        return LINE_TEXT;
    }
}

size_t line_cutter_take(LineCutter *cutter, const char *data, size_t size, const char **ret_line)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)data[i];
        cutter->raw++;
        if (byte == '\n' || byte == '\r') { /* also in a broken sequence */
            *ret_line = line_cutter_end(cutter);
            if (*ret_line)
                return i + 1;
        } else if (cutter->state != LINE_TEXT) {
            cutter->state = escape(cutter->state, byte);
        } else if (byte == 0x1b) {
            cutter->state = LINE_ESCAPE;
        } else if (byte == '\t' || (byte >= 0x20 && byte != 0x7f)) {
            cutter->text[cutter->length++] = byte == '\t' ? ' ' : (char)byte;
            if (cutter->length == CONSOLE_LINE_MAX) {
                *ret_line = give(cutter, whole_characters(cutter->text, cutter->length));
                return i + 1;
            }
        }
    }
    *ret_line = NULL;
    return size;
}

bool line_rate_take(LineRate *rate, uint64_t now_usec)
{
    const uint64_t full = LINE_RATE_BURST * LINE_COST_USEC;

    if (!rate->begun)
        rate->credit_usec = full;
    else if (now_usec > rate->last_usec)
        rate->credit_usec = MIN(full, rate->credit_usec + (now_usec - rate->last_usec));
    rate->begun = true;
    rate->last_usec = now_usec;
    if (rate->credit_usec < LINE_COST_USEC) {
        rate->suppressed++;
        return false;
    }
    rate->credit_usec -= LINE_COST_USEC;
    return true;
}
