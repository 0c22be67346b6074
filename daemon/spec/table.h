/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A settings language as a table: one row a key. From the same rows come the parser, the checks, the
 * defaults, the dump, the JSON Schema, the reference and the differences. A new key is a new row.
 */
#ifndef SPEC_TABLE_H
#define SPEC_TABLE_H

#include "base/json-scan.h"
#include "microvm/string-table.h"
#include "spec/capability.h"
#include "spec/words.h"

typedef enum KeyType {
    KEY_BOOL,     /* bool */
    KEY_NUMBER,   /* uint64_t */
    KEY_SIZE,     /* uint64_t, MiB; a number (MiB) or a string with a unit */
    KEY_DURATION, /* uint64_t, µs; a number (seconds) or a string with units */
    KEY_PERCENT,  /* uint64_t; a number or a string with "%" */
    KEY_STRING,   /* char * */
    KEY_ENUM,     /* an enum with a string table */
    KEY_STRINGS,  /* char **, and its count */
    KEY_MAP,      /* StringPair *, sorted by name, and its count */
    KEY_JSON,     /* char *: an object of somebody else's, as compact JSON */
    KEY_OBJECTS,  /* array of structs, and its count */
    KEY_REFUSED,  /* nothing: a key that can't be honoured, and why */
} KeyType;

/* What a change of the value takes while the microVM runs. */
#define KEY_CHANGE_LIST(X)                                                                                   \
    X(CHANGE_RESTART, "restart")       /* the guest or its hypervisor has it: a restart */                   \
    X(CHANGE_LIVE, "live")             /* microvmd itself acts on it: at once, by apply */                   \
    X(CHANGE_NEXT_START, "next-start") /* it concerns starts only */
MICROVM_STRING_TABLE(KeyChange, key_change, CHANGE, KEY_CHANGE_LIST)

/* How far a value reaches on the host: what to give it takes more than the right to define. */
typedef enum KeyReach {
    REACH_GUEST, /* not beyond what the microVM is given */
    REACH_PATH,  /* it names a file: not beyond the declared directories */
    REACH_HOST,  /* it runs commands on the host, or may as well do so */
} KeyReach;

typedef struct KeyTable KeyTable;

/* Takes a string value, of which take_pattern() is to know the form: NULL and the value (the caller's) in
 * *ret_value, or what is wrong with it. */
typedef const char *(*key_take_fn)(const char *text, char **ret_value);

/* What another key of the same object must be: true, more than 0, or one of these words. */
typedef struct KeyCondition {
    const char *key; /* NULL: none */
    uint64_t words;  /* bits by value */
} KeyCondition;

typedef struct KeyRow {
    const char *key; /* dots separate objects: "restart.policy" */
    KeyType type;
    size_t offset;             /* in the struct */
    size_t count_offset;       /* of a size_t: lists and maps */
    uint64_t minimum, maximum; /* numbers, in the stored unit; lists: entries; maximum 0: none */
    const char *fallback;      /* the default, as a definition would write it; NULL: none, or computed */
    const char *computed;      /* how a computed default is found, for people */
    bool required;
    const char *alias_of;  /* another name of that key */
    key_take_fn take;      /* strings, elements of string lists and values of maps; NULL: any */
    key_take_fn take_name; /* names in maps; NULL: any */
    const char *pattern;   /* for the schema, where take_pattern() knows none */
    const char *(*enum_name)(int value);
    int (*enum_value)(const char *name);
    int enum_max;
    const KeyTable *items; /* KEY_OBJECTS */
    KeyCondition only[2];  /* without these it has no effect, which is told */
    bool misleads;         /* ... as an error: who writes it takes something for done that is not */
    KeyChange change;
    KeyReach reach;
    Capability needs;                    /* for anything but the default */
    Capability (*enum_needs)(int value); /* for one of the words */
    const char *doc;                     /* one or two sentences; of KEY_REFUSED: why not, and what instead */
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
    /* A bare string in the list stands for an object: with this key, or what `expand` makes of it (a new
     * object, NULL: out of memory). Both NULL: no short form. */
    const char *short_key;
    cJSON *(*expand)(const char *text);
    const char *short_pattern; /* of what `expand` takes, for the schema */
    const char *merge_key;     /* elements with the same value are one, when layers are merged; NULL: never */
    /* After an object was read: computed defaults. Returns 0 or -ENOMEM. */
    int (*finish)(void *item, const KeysGiven *given);
    const char *open_group; /* an object in which unknown keys are somebody else's and ignored; NULL: none */
};

/* Who reads: where problems go. */
typedef struct TableReader {
    const JsonDocument *document;
    const char *file; /* for places that name none */
    ProblemList *problems;
    bool recorded;     /* written by microvmd itself, maybe a later one: a key it does not know is left out */
    bool incomplete;   /* there is more of it elsewhere: elements that are merged may lack something */
    const char *below; /* what is in the files whose paths begin so may be for others; NULL: nothing is */
} TableReader;

/*
 * Reads the object `json` at `pointer` into `target`, defaults first. All problems are reported. Returns 0
 * also when there were some, or -ENOMEM. `target` is freed with table_clear() in every case.
 */
int table_read(const TableReader *reader, const KeyTable *table, const cJSON *json, const char *pointer,
               void *target);

/* The object that a bare string in a list stands for, new; NULL: out of memory. The table must have a short
 * form. */
cJSON *table_expand_short(const KeyTable *table, const char *text);
bool table_has_short(const KeyTable *table);

/* The row of a key, of which it may be another name; NULL: there is none. */
const KeyRow *table_row(const KeyTable *table, const char *key);

/* Whether `key` is "KEY+", which in a layer appends to the list KEY. */
bool table_appends_to(const KeyTable *table, const char *key);

/* Whether `key`, or another name of it, was there. */
bool key_given(const KeysGiven *given, const char *key);

/* "KEY is missing", with what it is for. */
void table_missing(const TableReader *reader, const KeyRow *row, const char *pointer);

/* Frees all that rows of the table own. */
void table_clear(const KeyTable *table, void *target);

/* The complete object; NULL: out of memory. Equal specs give equal dumps. */
cJSON *table_dump(const KeyTable *table, const void *source);
/* What of it is not as it is when nothing is said: for people. */
cJSON *table_dump_short(const KeyTable *table, const void *source);

/* One row's value; NULL with *ret_none: there is none, without: out of memory. */
cJSON *table_dump_row(const KeyRow *row, const void *source, bool *ret_none);

/* Whether the row stands for a value of its own: it is neither another name nor a refusal. */
static inline bool row_has_value(const KeyRow *row)
{
    return !row->alias_of && row->type != KEY_REFUSED;
}

/* Whether values are the same. */
bool table_row_equal(const KeyRow *row, const void *a, const void *b);
bool table_equal(const KeyTable *table, const void *a, const void *b);
/* Replaces the row's value in `target` by a copy of the one in `source`. 0 or -ENOMEM. */
int table_row_copy(const KeyRow *row, const void *source, void *target);

/* Whether the row's value in `source` is what it is when nothing is said (false where that is computed). */
bool table_is_default(const KeyRow *row, const void *source);

/* Whether what the row needs beside it is there. */
bool table_has_effect(const KeyTable *table, const KeyRow *row, const void *source);
/* Tells of all values other than the default that have no effect in `source`, which is at `pointer`. */
void table_check_effects(const TableReader *reader, const KeyTable *table, const void *source,
                         const char *pointer);
/* What is missing, as a definition would say it. */
void table_print_condition(const KeyTable *table, const KeyRow *row, const KeyCondition *condition,
                           FILE *stream);
/* Whether the value at `pointer` is written by somebody who means this very microVM. */
bool table_is_written(const TableReader *reader, const char *pointer);
/* RFC 6901 pointer of a dotted key; NULL: out of memory. */
char *table_key_pointer(const char *pointer, const char *key);

/* Who is to run a microVM. */
typedef struct Runner {
    CapabilitySet can;
    CapabilitySet of_drivers[DRIVER_KIND_MAX]; /* what each could do in its place */
    const char *other;                         /* the driver that could do all of it instead; NULL: none */
    const char *hypervisor;                    /* keys in the group of another one have no effect */
    const char *what; /* for people: "driver \"libvirt\" (qemu, machine \"microvm\")" */
} Runner;

/* Refuses what `source`, which is at `pointer`, asks for and the runner can't do. */
void table_check_capabilities(const TableReader *reader, const KeyTable *table, const void *source,
                              const char *pointer, const Runner *runner);
/* Refuses one thing. */
void table_refuse(const TableReader *reader, const char *pointer, Capability capability,
                  const Runner *runner);

/* JSON Schema 2020-12 of an object as it is written, as text; NULL: out of memory. */
char *table_schema(const KeyTable *table);

/* Adds a problem at a pointer, with its place. */
void table_problem(const TableReader *reader, ProblemSeverity severity, const char *pointer, bool at_key,
                   const char *format, ...) _printf_(5, 6);

#define FIELD(row, base, type) (*(type *)((char *)(base) + (row)->offset))
#define COUNT(row, base)       (*(size_t *)((char *)(base) + (row)->count_offset))

#endif
