/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A settings language as a table: one row a key. From the same rows come the parser, the checks, the
 * defaults, the dump and the JSON Schema. A new key is a new row.
 */
#ifndef SPEC_TABLE_H
#define SPEC_TABLE_H

#include "base/json-scan.h"

typedef enum KeyType {
    KEY_BOOL,     /* bool */
    KEY_NUMBER,   /* uint64_t */
    KEY_SIZE,     /* uint64_t, MiB; a number (MiB) or a string with a unit */
    KEY_DURATION, /* uint64_t, µs; a number (seconds) or a string with units */
    KEY_STRING,   /* char * */
    KEY_ENUM,     /* an enum with a string table */
    KEY_STRINGS,  /* char **, and its count */
    KEY_OBJECTS,  /* array of structs, and its count */
} KeyType;

typedef struct KeyTable KeyTable;

/* Takes a string value: NULL and the value (the caller's) in *ret_value, or what is wrong with it. */
typedef const char *(*key_take_fn)(const char *text, char **ret_value);

typedef struct KeyRow {
    const char *key; /* dots separate objects: "restart.policy" */
    KeyType type;
    size_t offset;             /* in the struct */
    size_t count_offset;       /* of a size_t: lists */
    uint64_t minimum, maximum; /* numbers, in the stored unit; lists: entries; maximum 0: none */
    const char *fallback;      /* the default, as a definition would write it; NULL: none, or computed */
    const char *computed;      /* how a computed default is found, for people */
    bool required;
    const char *alias_of; /* another name of that key */
    key_take_fn take;     /* strings and the elements of string lists; NULL: any */
    const char *pattern;  /* of a string, for the schema; NULL: any */
    const char *(*enum_name)(int value);
    int (*enum_value)(const char *name);
    int enum_max;
    const KeyTable *items; /* KEY_OBJECTS */
    const char *doc;       /* one or two sentences */
} KeyRow;

enum {
    TABLE_ROWS_MAX = 256
};

/* Which keys an object had. */
typedef struct KeysGiven {
    const KeyTable *table;
    bool row[TABLE_ROWS_MAX];
} KeysGiven;

struct KeyTable {
    const char *title;
    const KeyRow *rows;
    size_t n_rows;
    size_t item_size; /* of the struct, in lists */
    const char
        *short_key; /* a bare string in the list stands for an object with this key; NULL: no short form */
    /* After an object was read: computed defaults. Returns 0 or -ENOMEM. */
    int (*finish)(void *item, const KeysGiven *given);
    const char *open_group; /* an object in which unknown keys are somebody else's and ignored; NULL: none */
};

/* Who reads: where problems go. */
typedef struct TableReader {
    const JsonDocument *document;
    const char *file;
    ProblemList *problems;
} TableReader;

/*
 * Reads the object `json` at `pointer` into `target`, defaults first. All problems are reported. Returns 0
 * also when there were some, or -ENOMEM. `target` is freed with table_clear() in every case.
 */
int table_read(const TableReader *reader, const KeyTable *table, const cJSON *json, const char *pointer,
               void *target);

/* Whether `key`, or another name of it, was there. */
bool key_given(const KeysGiven *given, const char *key);

/* Frees all that rows of the table own. */
void table_clear(const KeyTable *table, void *target);

/* The complete object; NULL: out of memory. Equal specs give equal dumps. */
cJSON *table_dump(const KeyTable *table, const void *source);

/* JSON Schema 2020-12 of an object; NULL: out of memory. */
cJSON *table_schema(const KeyTable *table);

/* Adds a problem at a pointer, with its place. */
void table_problem(const TableReader *reader, ProblemSeverity severity, const char *pointer, bool at_key,
                   const char *format, ...) _printf_(5, 6);

#define FIELD(row, base, type) (*(type *)((char *)(base) + (row)->offset))
#define COUNT(row, base)       (*(size_t *)((char *)(base) + (row)->count_offset))

#endif
