/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/json-scanner.h"

#include "base/utf8.h"

/* --- white space and comments --- */

/* One character beyond ASCII, or a NUL, in a comment. */
static void skip_foreign(Scanner *s, bool *told)
{
    size_t length = s->text[s->at] ? utf8_sequence(s->text + s->at, s->size - s->at) : 0;

    if (length == 0 && !*told)
        scan_complain(s, s->text[s->at] ? "the file is not UTF-8 here" : "a NUL byte: this is no text file");
    *told |= length == 0;
    s->at += MAX(length, (size_t)1);
}

static void skip_comment(Scanner *s)
{
    bool block = s->at + 1 < s->size && s->text[s->at + 1] == '*', told = false;
    size_t from = s->at;

    if (!block && !(s->at + 1 < s->size && s->text[s->at + 1] == '/')) {
        scan_give_up(s, "a \"/\" begins no JSON value; comments are // or /* */");
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
        if ((signed char)s->text[s->at] > 0)
            scan_advance(s);
        else
            skip_foreign(s, &told);
    }
    memset(s->clean + from, ' ', s->at - from);
    if (block)
        scan_give_up(s, "the comment that begins with /* does not end");
}

static void skip_space(Scanner *s)
{
    while (s->error == 0) {
        int c = scan_peek(s);
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
            scan_advance(s);
        else if (c == '/')
            skip_comment(s);
        else
            return;
    }
}

/* --- values --- */

static JsonPlace *add_place(Scanner *s)
{
    JsonDocument *document = s->document;
    JsonPlace *place;

    if (document->n_places == JSON_MAX_VALUES) {
        scan_give_up(s, "more than 100,000 values in one file");
        return NULL;
    }
    s->pointer_bytes += s->pointer_length;
    if (s->pointer_bytes > JSON_MAX_POINTERS) {
        scan_give_up(s, "the keys above these values are too long");
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
    *place = (JsonPlace){
        .pointer = strdup(s->pointer), .offset = s->at, .line = s->line, .column = scan_column(s)};
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
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' || c == '-' ||
           c == '.' || c == '_';
}

/* What is said of a byte that begins no value. */
static const char *stranger(const Scanner *s)
{
    int c = scan_peek(s);

    if (c < 0)
        return "the file ends where a value should be";
    if (c == 0)
        return "a NUL byte: this is no text file";
    if (utf8_sequence(s->text + s->at, s->size - s->at) == 0)
        return "the file is not UTF-8 here";
    return c == '\'' ? "strings are in double quotes" : "this begins no JSON value";
}

/* Numbers, true, false, null, and what somebody took for one. */
static void scan_word(Scanner *s, JsonPlace *place)
{
    enum {
        SHOWN_MAX = 24
    };
    size_t from = s->at, length;
    char shown[SHOWN_MAX + 4];

    while (in_word(scan_peek(s)))
        s->at++;
    length = s->at - from;
    if (length == 0) {
        scan_give_up(s, stranger(s));
        return;
    }
    if ((length == 4 && memcmp(s->text + from, "true", 4) == 0) ||
        (length == 5 && memcmp(s->text + from, "false", 5) == 0) ||
        (length == 4 && memcmp(s->text + from, "null", 4) == 0))
        return;
    if (length <= JSON_MAX_NUMBER && number_valid(s->text + from, length)) {
        place->number = strndup(s->text + from, length);
        if (!place->number)
            s->error = -ENOMEM;
        return;
    }
    snprintf(shown, sizeof(shown), "%.*s%s", (int)MIN(length, (size_t)SHOWN_MAX), s->text + from,
             length > SHOWN_MAX ? "..." : "");
    problem_add(s->problems, PROBLEM_ERROR, s->file, s->pointer, place->line, place->column, "%s is no %s",
                shown,
                is_digit(shown[0]) || strchr("+-.", shown[0])
                    ? "JSON number (no leading zeros, no bare dots, 60 digits at most)"
                    : "JSON value; strings are in double quotes");
    place->flawed = true;
    memset(s->clean + from, ' ', length);
    s->clean[from] = '0';
}

static void scan_value(Scanner *s);

/* What a person forgot most likely: a comma. Told; white space before the value becomes it in the tree's
 * text. */
static bool comma_missing(Scanner *s, char closing)
{
    int c = scan_peek(s);

    if (c != '"' && (closing == '}' || !(c == '{' || c == '[' || in_word(c))))
        return false;
    scan_complain(s, "a \",\" is missing before this");
    if (strchr(" \t\r\n", s->clean[s->at - 1]))
        s->clean[s->at - 1] = ',';
    else
        s->unusable = true;
    return true;
}

/* Between members: true when another one follows. A comma before the closing bracket is blanked out. */
static bool next_member(Scanner *s, char closing, const char *wanted)
{
    size_t comma;

    skip_space(s);
    if (s->error != 0)
        return false;
    if (scan_peek(s) == closing) {
        s->at++;
        return false;
    }
    if (scan_peek(s) != ',') {
        if (comma_missing(s, closing))
            return true;
        scan_give_up(s, scan_peek(s) < 0 ? "the file ends too early: a bracket is not closed" : wanted);
        return false;
    }
    comma = s->at++;
    skip_space(s);
    if (s->error == 0 && scan_peek(s) == closing) {
        s->clean[comma] = ' ';
        s->at++;
        return false;
    }
    return s->error == 0;
}

static void scan_member(Scanner *s)
{
    size_t length = s->pointer_length, index;
    unsigned line = s->line, key_column = scan_column(s);

    if (scan_peek(s) != '"') {
        scan_give_up(s, scan_peek(s) < 0 ? "the file ends too early: a bracket is not closed"
                                         : "a key in double quotes is missing here");
        return;
    }
    scan_pointer_add(s, '/');
    scan_string(s, true);
    s->unusable |= s->flawed;
    skip_space(s);
    if (s->error == 0 && scan_peek(s) != ':')
        scan_give_up(s, "a \":\" is missing after the key");
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
    scan_pointer_cut(s, length);
}

static void scan_element(Scanner *s, size_t index)
{
    size_t length = s->pointer_length;
    char text[24];

    snprintf(text, sizeof(text), "/%zu", index);
    for (const char *c = text; *c; c++)
        scan_pointer_add(s, *c);
    scan_value(s);
    scan_pointer_cut(s, length);
}

static void scan_container(Scanner *s, bool object)
{
    char closing = object ? '}' : ']';
    size_t n = 0;

    if (++s->depth > JSON_MAX_DEPTH) {
        scan_give_up(s, "nested more than 64 levels deep");
        return;
    }
    s->at++;
    skip_space(s);
    if (s->error == 0 && scan_peek(s) == closing) {
        s->at++;
        s->depth--;
        return;
    }
    do {
        if (s->error == 0 && object)
            scan_member(s);
        else if (s->error == 0)
            scan_element(s, n++);
    } while (s->error == 0 &&
             next_member(s, closing,
                         object ? "a \",\" or \"}\" is missing here" : "a \",\" or \"]\" is missing here"));
    s->depth--;
}

static void scan_value(Scanner *s)
{
    size_t index = s->document->n_places;
    JsonPlace *place;

    skip_space(s);
    place = s->error == 0 ? add_place(s) : NULL;
    if (!place)
        return;
    if (scan_peek(s) == '{' || scan_peek(s) == '[')
        scan_container(s, scan_peek(s) == '{');
    else if (scan_peek(s) != '"')
        scan_word(s, place);
    else {
        scan_string(s, false);
        s->document->places[index].flawed = s->flawed;
    }
}

/* --- the document --- */

/* Some editors put one in front; RFC 8259 forbids it. */
static void skip_byte_order_mark(Scanner *s)
{
    if (s->size < 3 || memcmp(s->text, "\xef\xbb\xbf", 3) != 0)
        return;
    scan_complain(s, "the file begins with a byte order mark; save it as UTF-8 without one");
    memset(s->clean, ' ', 3);
    s->at = 3;
}

int json_scan(const char *text, size_t size, const char *file, ProblemList *problems,
              JsonDocument *ret_document)
{
    enum {
        POINTER_ROOM = 256
    };
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    _cleanup_free_ char *clean = malloc(size + 1);
    Scanner s = {.text = text,
                 .size = size,
                 .line = 1,
                 .clean = clean,
                 .file = file,
                 .problems = problems,
                 .document = &document,
                 .pointer = calloc(1, POINTER_ROOM),
                 .pointer_room = POINTER_ROOM};

    if (!clean || !s.pointer) {
        free(s.pointer);
        return -ENOMEM;
    }
    memcpy(clean, text, size);
    clean[size] = '\0';
    skip_byte_order_mark(&s);
    scan_value(&s);
    skip_space(&s);
    if (s.error == 0 && s.at < size)
        scan_give_up(&s, scan_peek(&s) == 0 ? "a NUL byte: this is no text file"
                                            : "there is something after the end of the document");
    free(s.pointer);
    s.pointer = NULL;
    if (s.error == -ENOMEM)
        return s.error;
    json_document_index(&document, file, problems);
    if (s.error != 0 || s.unusable)
        return -EBADMSG;
    document.root = cJSON_ParseWithLength(clean, size);
    if (!document.root)
        return -ENOMEM; /* of what the scanner lets pass cJSON refuses nothing */
    *ret_document = document;
    document = (JsonDocument){0};
    return 0;
}
