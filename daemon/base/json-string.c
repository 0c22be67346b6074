/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The scanner's helpers, and strings: the part of JSON with the most ways to be wrong. */
#include "base/json-scanner.h"
#include "base/utf8.h"

unsigned scan_column(const Scanner *s)
{
    return (unsigned)(s->at - s->line_start) + 1;
}

void scan_complain(Scanner *s, const char *text)
{
    problem_add(s->problems, PROBLEM_ERROR, s->file, s->pointer, s->line, scan_column(s), "%s", text);
}

/* After a mistake in the structure everything further would be a guess. */
void scan_give_up(Scanner *s, const char *text)
{
    if (s->error == 0)
        scan_complain(s, text);
    s->error = -EBADMSG;
}

int scan_peek(const Scanner *s)
{
    return s->at < s->size ? (unsigned char)s->text[s->at] : -1;
}

void scan_advance(Scanner *s)
{
    if (s->text[s->at++] == '\n') {
        s->line++;
        s->line_start = s->at;
    }
}

/* --- pointer --- */

void scan_pointer_cut(Scanner *s, size_t length)
{
    s->pointer_length = length;
    s->pointer[length] = '\0';
}

void scan_pointer_add(Scanner *s, char c)
{
    if (s->pointer_length + 2 > s->pointer_room) {
        char *grown = realloc(s->pointer, s->pointer_room * 2);
        if (!grown) {
            s->error = -ENOMEM;
            return;
        }
        s->pointer = grown;
        s->pointer_room *= 2;
    }
    s->pointer[s->pointer_length++] = c;
    s->pointer[s->pointer_length] = '\0';
}

/* RFC 6901: '~' is "~0", '/' is "~1". */
static void add_escaped(Scanner *s, char c)
{
    if (c == '~' || c == '/') {
        scan_pointer_add(s, '~');
        c = c == '~' ? '0' : '1';
    }
    scan_pointer_add(s, c);
}

static int hex4(const Scanner *s, size_t at)
{
    int value = 0;

    if (at + 4 > s->size)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        char c = s->text[i];
        int digit = c >= '0' && c <= '9'                 ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static void emit_code(Scanner *s, bool key, uint32_t code)
{
    char bytes[4];
    size_t length = utf8_encode(code, bytes);

    for (size_t i = 0; key && i < length; i++)
        add_escaped(s, bytes[i]);
}

/* A mistake in a string: told, and what the tree gets for it is a filler, so that the rest can be looked at.
 */
static void spoil(Scanner *s, size_t at, const char *text)
{
    problem_add(s->problems, PROBLEM_ERROR, s->file, s->pointer, s->line, (unsigned)(at - s->line_start) + 1,
                "%s", text);
    s->clean[at] = '?';
    s->flawed = true;
}

/* Whether the text ends in the next `n` bytes, without a quote before: that is told, and is enough. */
static bool ends_within(const Scanner *s, size_t n)
{
    return s->size - s->at < n && !memchr(s->text + s->at, '"', s->size - s->at);
}

/* After the 'u' of \uXXXX, surrogate pairs included. */
static void scan_unicode_escape(Scanner *s, bool key)
{
    int high = hex4(s, s->at), low;
    uint32_t c = (uint32_t)high;
    size_t backslash = s->at - 2;

    if (high < 0 && ends_within(s, 4))
        return;
    if (high < 0) {
        spoil(s, backslash, "\\u needs four hexadecimal digits");
        return;
    }
    s->at += 4;
    if (high == 0) {
        spoil(s, backslash, "\\u0000 is not allowed: no setting can hold it");
        return;
    }
    if (high >= 0xdc00 && high <= 0xdfff) {
        spoil(s, backslash, "\\u escape is the second half of a surrogate pair without the first");
        return;
    }
    if (high >= 0xd800 && high <= 0xdbff) {
        low = s->at + 1 < s->size && s->text[s->at] == '\\' && s->text[s->at + 1] == 'u' ? hex4(s, s->at + 2)
                                                                                         : -1;
        if (low < 0xdc00 || low > 0xdfff) {
            spoil(s, backslash, "\\u escape is the first half of a surrogate pair without the second");
            return;
        }
        s->at += 6;
        c = 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
    }
    emit_code(s, key, c);
}

static void scan_escape(Scanner *s, bool key)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    int c;

    s->at++; /* the backslash */
    c = scan_peek(s);
    if (c < 0)
        return;
    if (c == 'u') {
        s->at++;
        scan_unicode_escape(s, key);
        return;
    }
    const char *name = c > 0 ? strchr(names, c) : NULL;
    if (!name) {
        spoil(s, s->at - 1, "unknown escape after \"\\\"; a backslash itself is written \"\\\\\"");
        return;
    }
    s->at++;
    if (key)
        add_escaped(s, values[name - names]);
}

static const char *control_problem(int c)
{
    return c == '\0'   ? "a NUL byte: this is no text file"
           : c == '\n' ? "the string goes on over the end of the line; write \\n, or close the quote"
                       : "a control character in a string must be escaped (\\u00XX)";
}

/* Characters that stand for themselves. What is wrong is told once a string. */
static void scan_character(Scanner *s, bool key)
{
    int c = scan_peek(s);
    size_t length = utf8_sequence(s->text + s->at, s->size - s->at);

    if (c < 0x20 || length == 0) {
        if (!s->flawed)
            scan_complain(s, c < 0x20 ? control_problem(c) : "the file is not UTF-8 here");
        if (c == '\n')
            s->error = -EBADMSG;
        s->flawed = true;
        s->clean[s->at++] = '?';
        if (key)
            scan_pointer_add(s, '?');
        return;
    }
    for (; length > 0; length--, s->at++)
        if (key)
            add_escaped(s, s->text[s->at]);
}

void scan_string(Scanner *s, bool key)
{
    s->flawed = false;
    s->at++;
    while (s->error == 0) {
        int c = scan_peek(s);
        if (c < 0) {
            scan_give_up(s, "the string does not end");
        } else if (c == '"') {
            s->at++;
            return;
        } else if (c == '\\') {
            scan_escape(s, key);
        } else {
            scan_character(s, key);
        }
    }
}
