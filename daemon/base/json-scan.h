/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A strict scanner of JSON (RFC 8259, UTF-8) with comments and trailing commas. cJSON, which builds the tree,
 * accepts too much and knows no positions: duplicate keys, 01, raw newlines, invalid UTF-8, strings cut at
 * \u0000, digits of large integers lost.
 */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include "base/problem.h"

#include <cjson/cJSON.h>

enum {
    JSON_MAX_DEPTH = 64,
    JSON_MAX_VALUES = 100000,
    JSON_MAX_POINTERS = 16 * 1024 * 1024, /* bytes of all pointers together: long keys above many values */
    JSON_MAX_NUMBER = 60,                 /* digits; cJSON reads numbers into a small buffer */
};

typedef struct JsonPlace {
    char *pointer;                 /* RFC 6901 */
    size_t offset;                 /* of the value */
    unsigned line, column;         /* of the value, from 1; the column in bytes */
    unsigned key_line, key_column; /* of its key; 0: it is in an array, or the document */
    char *number;                  /* as written; NULL: it is none */
    const char *file;              /* where several were merged: one of the document's `files` */
    bool flawed;  /* a problem with the value itself has been told: the tree holds a filler */
    bool removed; /* there is no value: here a null took it out */
    bool cut;     /* while documents are merged: it is gone */
} JsonPlace;

typedef struct JsonDocument {
    cJSON *root;       /* NULL when it can't be parsed */
    JsonPlace *places; /* sorted by pointer */
    size_t n_places;
    char **files; /* that it was merged from; NULL: from one, which the reader knows */
    size_t n_files;
} JsonDocument;

void json_document_clear(JsonDocument *document);

/* 0 or -ENOMEM. */
int json_document_copy(const JsonDocument *document, JsonDocument *ret_copy);

/*
 * Scans `text`; every problem goes to `problems` with `file` as its name. Returns 0 when there is a tree,
 * even if there were problems (duplicate keys, say) beside; -EBADMSG when there is none, -ENOMEM.
 */
int json_scan(const char *text, size_t size, const char *file, ProblemList *problems,
              JsonDocument *ret_document);

/* For json_scan(): sorts the places and tells of keys that are there twice. Linear for many keys in one
 * object. */
void json_document_index(JsonDocument *document, const char *file, ProblemList *problems);
/* Sorts the places alone. */
void json_document_sort(JsonDocument *document);

/* The document's own copy of a file's name, for its places; NULL: out of memory. */
const char *json_document_file(JsonDocument *document, const char *file);

/* All places are of that file. 0 or -ENOMEM. */
int json_document_set_file(JsonDocument *document, const char *file);

/* The place of a pointer; NULL: there is none. */
const JsonPlace *json_find(const JsonDocument *document, const char *pointer);

/* The same, or where it was removed. */
const JsonPlace *json_find_any(const JsonDocument *document, const char *pointer);

/* The same, or else of the nearest value above it: the inside of a short form has no place of its own. NULL:
 * there is none at all. */
const JsonPlace *json_find_nearest(const JsonDocument *document, const char *pointer);

/* How many places there are inside the value, and the number of the first one. */
size_t json_places_inside(const JsonDocument *document, const char *pointer, size_t *ret_first);

/* Appends a reference token to a pointer, escaped; NULL: out of memory. */
char *json_pointer_join(const char *pointer, const char *token);

#endif
