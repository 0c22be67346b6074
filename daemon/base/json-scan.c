/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/json-scan.h"

#include <stdarg.h>

typedef struct Scanner {
    const char *text;
    size_t size, at;
    unsigned line;
    size_t line_start;
    char *clean;    /* the text without comments and trailing commas: what cJSON gets */
    char *pointer;  /* to the present value */
    size_t pointer_length, pointer_room;
    unsigned depth;
    const char *file;
    ProblemList *problems;
    JsonDocument *document;
    size_t room; /* for places */
    int error;   /* not 0: the scan is over */
} Scanner;

static unsigned column(const Scanner *s)
{
    return (unsigned)(s->at - s->line_start) + 1;
}

static void complain(Scanner *s, const char *text)
{
    problem_add(s->problems, PROBLEM_ERROR, s->file, s->pointer, s->line, column(s), "%s", text);
}

/* After a mistake in the structure everything further would be a guess. */
static void give_up(Scanner *s, const char *text)
{
    if (s->error == 0)
        complain(s, text);
    s->error = -EBADMSG;
}

static int peek(const Scanner *s)
{
    return s->at < s->size ? (unsigned char)s->text[s->at] : -1;
}

static void advance(Scanner *s)
{
    if (s->text[s->at++] == '\n') {
        s->line++;
        s->line_start = s->at;
    }
}

/* --- pointer --- */

static void pointer_cut(Scanner *s, size_t length)
{
    s->pointer_length = length;
    s->pointer[length] = '\0';
}

static void pointer_add(Scanner *s, char c)
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
static void pointer_add_escaped(Scanner *s, char c)
{
    if (c == '~' || c == '/') {
        pointer_add(s, '~');
        c = c == '~' ? '0' : '1';
    }
    pointer_add(s, c);
}

char *json_pointer_join(const char *pointer, const char *token)
{
    char *joined = malloc(strlen(pointer) + 2 * strlen(token) + 2), *end;

    if (!joined)
        return NULL;
    end = stpcpy(joined, pointer);
    *end++ = '/';
    for (; *token; token++) {
        if (*token == '~' || *token == '/')
            *end++ = '~';
        *end++ = *token == '~' ? '0' : *token == '/' ? '1' : *token;
    }
    *end = '\0';
    return joined;
}

/* --- white space and comments --- */

static void skip_comment(Scanner *s)
{
    bool block = s->at + 1 < s->size && s->text[s->at + 1] == '*';
    size_t from = s->at;

    if (!block && !(s->at + 1 < s->size && s->text[s->at + 1] == '/')) {
        give_up(s, "a \"/\" begins no JSON value; comments are // or /* */");
        return;
    }
    s->at += 2;
    while (s->at < s->size) {
        if (!block && s->text[s->at] == '\n')
            break;
        if (block && s->text[s->at] == '*' && s->at + 1 < s->size && s->text[s->at + 1] == '/') {
            s->at += 2;
            memset(s->clean + from, ' ', s->at - from);
            return;
        }
        advance(s);
    }
    memset(s->clean + from, ' ', s->at - from);
    if (block)
        give_up(s, "the comment that begins with /* does not end");
}

static void skip_space(Scanner *s)
{
    while (s->error == 0) {
        int c = peek(s);
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
            advance(s);
        else if (c == '/')
            skip_comment(s);
        else
            return;
    }
}

/* --- strings --- */

static int hex4(const Scanner *s, size_t at)
{
    int value = 0;

    if (at + 4 > s->size)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        char c = s->text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static void emit_utf8(Scanner *s, bool key, uint32_t c)
{
    if (!key)
        return;
    if (c < 0x80) {
        pointer_add_escaped(s, (char)c);
    } else if (c < 0x800) {
        pointer_add(s, (char)(0xc0 | c >> 6));
        pointer_add(s, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        pointer_add(s, (char)(0xe0 | c >> 12));
        pointer_add(s, (char)(0x80 | (c >> 6 & 0x3f)));
        pointer_add(s, (char)(0x80 | (c & 0x3f)));
    } else {
        pointer_add(s, (char)(0xf0 | c >> 18));
        pointer_add(s, (char)(0x80 | (c >> 12 & 0x3f)));
        pointer_add(s, (char)(0x80 | (c >> 6 & 0x3f)));
        pointer_add(s, (char)(0x80 | (c & 0x3f)));
    }
}

/* After the 'u' of \uXXXX, surrogate pairs included. */
static void scan_unicode_escape(Scanner *s, bool key)
{
    int high = hex4(s, s->at), low;
    uint32_t c = (uint32_t)high;

    if (high < 0) {
        complain(s, "\\u needs four hexadecimal digits");
        return;
    }
    s->at += 4;
    if (high == 0) {
        complain(s, "\\u0000 is not allowed: no setting can hold it");
        return;
    }
    if (high >= 0xdc00 && high <= 0xdfff) {
        complain(s, "\\u escape is the second half of a surrogate pair without the first");
        return;
    }
    if (high >= 0xd800 && high <= 0xdbff) {
        low = s->at + 1 < s->size && s->text[s->at] == '\\' && s->text[s->at + 1] == 'u' ? hex4(s, s->at + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff) {
            complain(s, "\\u escape is the first half of a surrogate pair without the second");
            return;
        }
        s->at += 6;
        c = 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
    }
    emit_utf8(s, key, c);
}

static void scan_escape(Scanner *s, bool key)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    int c;

    s->at++; /* the backslash */
    c = peek(s);
    if (c == 'u') {
        s->at++;
        scan_unicode_escape(s, key);
        return;
    }
    const char *name = c > 0 ? strchr(names, c) : NULL;
    if (!name) {
        complain(s, "unknown escape after \"\\\"; a backslash itself is written \"\\\\\"");
        return;
    }
    s->at++;
    if (key)
        pointer_add_escaped(s, values[name - names]);
}

/* Length of the UTF-8 sequence at `at`, or 0: RFC 3629, neither overlong nor surrogate nor beyond U+10FFFF. */
static size_t utf8_length(const Scanner *s)
{
    const unsigned char *p = (const unsigned char *)s->text + s->at;
    size_t left = s->size - s->at, length;

    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        length = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        length = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        length = 4;
    else
        return 0;
    if (left < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return length;
}

/* From the opening quote to behind the closing one. A key is appended to the pointer, unescaped. */
static void scan_string(Scanner *s, bool key)
{
    bool told_utf8 = false, told_control = false;

    s->at++;
    for (;;) {
        int c = peek(s);
        if (c < 0) {
            give_up(s, "the string does not end");
            return;
        }
        if (c == '"') {
            s->at++;
            return;
        }
        if (c == '\\') {
            scan_escape(s, key);
        } else if (c < 0x20) {
            if (!told_control)
                complain(s, c == '\n' ? "the string goes on over the end of the line; write \\n, or close the quote"
                                      : "a control character in a string must be escaped (\\u00XX)");
            told_control = true;
            if (c == '\n') {
                s->error = -EBADMSG;
                return;
            }
            advance(s);
        } else if (c < 0x80) {
            if (key)
                pointer_add_escaped(s, (char)c);
            s->at++;
        } else {
            size_t length = utf8_length(s);
            if (length == 0 && !told_utf8)
                complain(s, "the file is not UTF-8 here");
            told_utf8 |= length == 0;
            for (size_t i = 0; i < (length ? length : 1); i++, s->at++)
                if (key && length)
                    pointer_add(s, s->text[s->at]);
        }
    }
}

/* --- values --- */

static JsonPlace *add_place(Scanner *s)
{
    JsonDocument *document = s->document;
    JsonPlace *place;

    if (document->n_places == JSON_MAX_VALUES) {
        give_up(s, "more than 100,000 values in one file");
        return NULL;
    }
    if (document->n_places == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        JsonPlace *grown = reallocarray(document->places, room, sizeof(*grown));
        if (!grown) {
            s->error = -ENOMEM;
            return NULL;
        }
        document->places = grown;
        s->room = room;
    }
    place = &document->places[document->n_places];
    *place = (JsonPlace){.pointer = strdup(s->pointer), .offset = s->at, .line = s->line, .column = column(s)};
    if (!place->pointer) {
        s->error = -ENOMEM;
        return NULL;
    }
    document->n_places++;
    return place;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

/* RFC 8259: -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)? */
static bool number_valid(const char *text, size_t size)
{
    size_t i = 0;

    if (i < size && text[i] == '-')
        i++;
    if (i == size || !is_digit(text[i]))
        return false;
    if (text[i] == '0')
        i++;
    else
        while (i < size && is_digit(text[i]))
            i++;
    if (i < size && text[i] == '.') {
        if (++i == size || !is_digit(text[i]))
            return false;
        while (i < size && is_digit(text[i]))
            i++;
    }
    if (i < size && (text[i] | 32) == 'e') {
        i++;
        if (i < size && (text[i] == '+' || text[i] == '-'))
            i++;
        if (i == size || !is_digit(text[i]))
            return false;
        while (i < size && is_digit(text[i]))
            i++;
    }
    return i == size;
}

static bool in_word(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' || c == '-' || c == '.' || c == '_';
}

/* Numbers, true, false, null, and what somebody took for one. */
static void scan_word(Scanner *s, JsonPlace *place)
{
    size_t from = s->at, length;
    char shown[32];

    while (in_word(peek(s)))
        s->at++;
    length = s->at - from;
    if (length == 0) {
        give_up(s, peek(s) < 0 ? "the file ends where a value should be"
                               : peek(s) == '\'' ? "strings are in double quotes" : "this begins no JSON value");
        return;
    }
    if ((length == 4 && memcmp(s->text + from, "true", 4) == 0) ||
        (length == 5 && memcmp(s->text + from, "false", 5) == 0) ||
        (length == 4 && memcmp(s->text + from, "null", 4) == 0))
        return;
    if (number_valid(s->text + from, length)) {
        place->number = strndup(s->text + from, length);
        if (!place->number)
            s->error = -ENOMEM;
        return;
    }
    snprintf(shown, sizeof(shown), "%.*s", (int)MIN(length, sizeof(shown) - 1), s->text + from);
    problem_add(s->problems, PROBLEM_ERROR, s->file, s->pointer, place->line, place->column, "%s is no %s", shown,
                is_digit(shown[0]) || shown[0] == '-' ? "JSON number (no leading zeros, no bare dots)"
                                                       : "JSON value; strings are in double quotes");
    s->error = -EBADMSG;
}

static void scan_value(Scanner *s);

/* Between members: true when another one follows. A comma before the closing bracket is blanked out. */
static bool next_member(Scanner *s, char closing, const char *wanted)
{
    size_t comma;

    skip_space(s);
    if (s->error != 0)
        return false;
    if (peek(s) == closing) {
        s->at++;
        return false;
    }
    if (peek(s) != ',') {
        give_up(s, peek(s) < 0 ? "the file ends too early: a bracket is not closed" : wanted);
        return false;
    }
    comma = s->at++;
    skip_space(s);
    if (s->error == 0 && peek(s) == closing) {
        s->clean[comma] = ' ';
        s->at++;
        return false;
    }
    return s->error == 0;
}

static void scan_member(Scanner *s)
{
    size_t length = s->pointer_length, index;
    unsigned line = s->line, key_column = column(s);

    if (peek(s) != '"') {
        give_up(s, peek(s) < 0 ? "the file ends too early: a bracket is not closed" : "a key in double quotes is missing here");
        return;
    }
    pointer_add(s, '/');
    scan_string(s, true);
    skip_space(s);
    if (s->error == 0 && peek(s) != ':')
        give_up(s, "a \":\" is missing after the key");
    if (s->error != 0)
        return;
    s->at++;
    skip_space(s);
    index = s->document->n_places;
    scan_value(s);
    if (s->document->n_places > index) {
        s->document->places[index].key_line = line;
        s->document->places[index].key_column = key_column;
    }
    pointer_cut(s, length);
}

static void scan_element(Scanner *s, size_t index)
{
    size_t length = s->pointer_length;
    char text[24];

    snprintf(text, sizeof(text), "/%zu", index);
    for (const char *c = text; *c; c++)
        pointer_add(s, *c);
    scan_value(s);
    pointer_cut(s, length);
}

static void scan_container(Scanner *s, bool object)
{
    char closing = object ? '}' : ']';
    size_t n = 0;

    if (++s->depth > JSON_MAX_DEPTH) {
        give_up(s, "nested more than 64 levels deep");
        return;
    }
    s->at++;
    skip_space(s);
    if (s->error == 0 && peek(s) == closing) {
        s->at++;
        s->depth--;
        return;
    }
    do {
        if (s->error == 0 && object)
            scan_member(s);
        else if (s->error == 0)
            scan_element(s, n++);
    } while (s->error == 0 && next_member(s, closing, object ? "a \",\" or \"}\" is missing here" : "a \",\" or \"]\" is missing here"));
    s->depth--;
}

static void scan_value(Scanner *s)
{
    JsonPlace *place;

    skip_space(s);
    place = s->error == 0 ? add_place(s) : NULL;
    if (!place)
        return;
    if (peek(s) == '{' || peek(s) == '[')
        scan_container(s, peek(s) == '{');
    else if (peek(s) == '"')
        scan_string(s, false);
    else
        scan_word(s, place);
}

/* --- the document --- */

void json_document_clear(JsonDocument *document)
{
    cJSON_Delete(document->root);
    for (size_t i = 0; i < document->n_places; i++) {
        free(document->places[i].pointer);
        free(document->places[i].number);
    }
    free(document->places);
    *document = (JsonDocument){0};
}

static int by_pointer(const void *a, const void *b)
{
    const JsonPlace *first = a, *second = b;
    int order = strcmp(first->pointer, second->pointer);

    return order ? order : first->offset < second->offset ? -1 : first->offset > second->offset;
}

const JsonPlace *json_find(const JsonDocument *document, const char *pointer)
{
    for (size_t low = 0, high = document->n_places; low < high;) {
        size_t middle = (low + high) / 2;
        int order = strcmp(pointer, document->places[middle].pointer);
        if (order == 0)
            return &document->places[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static bool is_inside_duplicate(const char *pointer, const char *duplicate)
{
    return duplicate && strncmp(pointer, duplicate, strlen(duplicate)) == 0 && pointer[strlen(duplicate)] == '/';
}

/* Sorting brings equal pointers together: linear for any number of keys in one object. */
static void find_duplicates(Scanner *s)
{
    JsonDocument *document = s->document;
    const char *duplicate = NULL;

    if (document->n_places > 0)
        qsort(document->places, document->n_places, sizeof(*document->places), by_pointer);
    for (size_t i = 1; i < document->n_places; i++) {
        const JsonPlace *first = &document->places[i - 1], *again = &document->places[i];
        if (!streq(first->pointer, again->pointer) || is_inside_duplicate(again->pointer, duplicate))
            continue;
        duplicate = again->pointer;
        problem_add(s->problems, PROBLEM_ERROR, s->file, again->pointer, again->key_line, again->key_column,
                    "this key is here twice; its first place is line %u", first->key_line);
    }
}

int json_scan(const char *text, size_t size, const char *file, ProblemList *problems, JsonDocument *ret_document)
{
    enum { POINTER_ROOM = 256 };
    _cleanup_(json_document_clear) JsonDocument document = {0};
    _cleanup_free_ char *clean = malloc(size + 1);
    Scanner s = {.text = text, .size = size, .line = 1, .clean = clean, .file = file, .problems = problems,
                 .document = &document, .pointer = calloc(1, POINTER_ROOM), .pointer_room = POINTER_ROOM};

    if (!clean || !s.pointer) {
        free(s.pointer);
        return -ENOMEM;
    }
    memcpy(clean, text, size);
    clean[size] = '\0';
    scan_value(&s);
    skip_space(&s);
    if (s.error == 0 && s.at < size)
        give_up(&s, "there is something after the end of the document");
    free(s.pointer);
    s.pointer = NULL;
    if (s.error == 0)
        find_duplicates(&s);
    if (s.error == 0 && !(document.root = cJSON_ParseWithLength(clean, size)))
        s.error = problem_count(problems, PROBLEM_ERROR) > 0 ? -EBADMSG : -ENOMEM;
    if (s.error != 0)
        return s.error;
    *ret_document = document;
    document = (JsonDocument){0};
    return 0;
}
