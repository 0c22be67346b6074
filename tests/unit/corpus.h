/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Definitions made from the rows of the table: each key with every kind of value, good and bad. */
#ifndef TESTS_CORPUS_H
#define TESTS_CORPUS_H

#include "spec/spec-table.h"
#include "spec/take.h"

#include <assert.h>

/* One definition that is about one row: `text` is JSON, `pointer` that of the value. */
typedef void (*corpus_fn)(const KeyRow *row, const char *pointer, const char *text, void *userdata);

/* What strings, and whatever else, may look like; %% is a percent sign in a definition. */
static const char *const corpus_values[] = {
    "null",
    "true",
    "false",
    "0",
    "1",
    "2",
    "-1",
    "1.5",
    "1.0",
    "70000",
    "12345678901234567890",
    "{}",
    "[]",
    "[[]]",
    "[{}]",
    "[null]",
    "[1]",
    "{\"a\":1}",
    "{\"a\":1.50}",
    "{\"a\":9007199254740993}",
    "{\"a\":1e400}",
    "{\"a\":\"b\"}",
    "{\"a\":true}",
    "{\"a\":null}",
    "{\"a\":[]}",
    "{\"a\":{\"b\":[1,\"%\"]}}",
    "{\"a b\":\"c\"}",
    "{\"a\":\"/b\"}",
    "{\"a\":\"/b%%c\"}",
    "{\"a\":\"%n\"}",
    "{\"a\":\"%x\"}",
    "{\"a.b-c_d\":\"/x\"}",
    "{\"a/b\":\"c\"}",
    "{\"-a\":\"/c\"}",
    "[\"a\"]",
    "[\"/a\"]",
    "[\"a b\"]",
    "[\"\"]",
    "[\"%n\"]",
    "[\"%x\"]",
    "[\"a%%b\",\"c,d\"]",
    "[\"user\"]",
    "[\"tap:t0\"]",
    "[\"tap:%n\"]",
    "[\"bridge:\"]",
    "[\"kill\"]",
    "[\"a\",\"a\"]",
    "[\"db:ready\"]",
    /* strings */
    "\"\"",
    "\"a\"",
    "\"/\"",
    "\"/a\"",
    "\"a.img\"",
    "\"a b\"",
    "\"a,b=c\"",
    "\"a\\\"b\"",
    "\"a=\\\"b c\\\"\"",
    "\"a\\\"b\\\"\"",
    "\"/a\\\\b\"",
    "\"\\u00fc\"",
    "\"/\\u00fc%%\\ud83d\\udc27\"",
    "\"a\\nb\"",
    "\"a\\tb\"",
    "\"a\\u007f\"",
    "\"/a\\u001b\"",
    "\"%\"",
    "\"%%\"",
    "\"%n\"",
    "\"%x\"",
    "\"%%%\"",
    "\"100%%\"",
    "\"/%%n\"",
    "\"/a%%%%b\"",
    "\"/srv/%n/%i.img\"",
    "\"%i%\"",
    "\"..\"",
    "\"../a\"",
    "\"a/../b\"",
    "\"/a/..\"",
    "\"..a\"",
    "\"a..b\"",
    "\"./a\"",
    "\"a/./b\"",
    "\".\"",
    "\".a\"",
    "\"a//b\"",
    "\"//a\"",
    "\"a/\"",
    "\"state.json\"",
    "\"state.json5\"",
    "\"console.0.log\"",
    "\"console.img\"",
    "\"sub/state.json\"",
    "\"-a\"",
    "\"a-\"",
    "\"_a\"",
    "\"1a\"",
    "\"a.b_c-d\"",
    "\"a@b\"",
    "\"a@@b\"",
    "\"a@b@c\"",
    "\"db:ready\"",
    "\"db:\"",
    "\"02:00:00:00:AB:01\"",
    "\"03:00:00:00:00:01\"",
    "\"00:00:00:00:00:00\"",
    "\"02:00:00:00:00\"",
    "\"6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4B5C\"",
    "\"00000000-0000-0000-0000-000000000000\"",
    "\"6a2c9b1e0f5d4c3b9a875d1e2f3a4b5c\"",
    "\"10.0.2.15\"",
    "\"0.0.0.0\"",
    "\"10.0.2.015\"",
    "\"256.0.0.1\"",
    "\"10.0.2\"",
    "\"0000:00:02.0\"",
    "\"00:1f.7\"",
    "\"00:20.0\"",
    "\"vendorid=0x1234,productid=0x5\"",
    "\"vendorid=1,productid=2\"",
    "\"0\"",
    "\"0-3,5\"",
    "\"0-\"",
    "\",1\"",
    "\"8192\"",
    "\"08191\"",
    "\"user\"",
    "\"macvtap:eth0\"",
    "\"qemu:///system\"",
    /* quantities */
    "\"1\"",
    "\" 1\"",
    "\"1 \"",
    "\"512M\"",
    "\"1 GiB\"",
    "\"1.5G\"",
    "\"0.0000001G\"",
    "\"1024K\"",
    "\"1Q\"",
    "\"1 2\"",
    "\"90s\"",
    "\"1min 30s\"",
    "\"1min30s\"",
    "\"1h \"",
    "\" 2s\"",
    "\"0.25s\"",
    "\"500ms\"",
    "\"3 parsecs\"",
    "\"s\"",
    "\"1m\"",
    "\"1M\"",
    "\"50%\"",
    "\"50%%\"",
    "\"50 %\"",
    "\"-5s\"",
    "0.25",
    "0.5",
};

/* A value that a row takes. */
static inline void corpus_sample(const KeyRow *row, char *text, size_t size)
{
    static const struct {
        key_take_fn take;
        const char *text;
    } samples[] = {
        {take_absolute, "/a"},           {take_device_path, "0000:00:02.0"},
        {take_mac, "02:00:00:00:00:01"}, {take_uuid, "6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c"},
        {take_ipv4, "10.0.0.1"},         {take_cpu_set, "0"},
        {take_http_path, "/"},
    };
    const char *sample = "a";

    for (size_t i = 0; i < ELEMENTSOF(samples); i++)
        if (row->take && samples[i].take == row->take)
            sample = samples[i].text;
    if (row->type == KEY_ENUM)
        sample = row->enum_name(0);
    if (row->type == KEY_NUMBER)
        snprintf(text, size, "%llu", (unsigned long long)MAX(row->minimum, UINT64_C(1)));
    else
        snprintf(text, size, "\"%s\"", sample);
}

/* Sets the value of a dotted key, with the objects above it. */
static inline void corpus_put(cJSON *object, const char *key, cJSON *value)
{
    for (const char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        char name[64];
        cJSON *inner;
        snprintf(name, sizeof(name), "%.*s", (int)(dot - key), key);
        inner = cJSON_GetObjectItemCaseSensitive(object, name);
        object = inner ? inner : cJSON_AddObjectToObject(object, name);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    cJSON_AddItemToObject(object, key, value);
}

static inline void corpus_set(cJSON *object, const char *key, const char *value)
{
    corpus_put(object, key, cJSON_CreateRaw(value));
}

/* An object that has what the table requires. */
static inline cJSON *corpus_object(const KeyTable *table)
{
    cJSON *object = cJSON_CreateObject();
    char text[128];

    for (size_t i = 0; i < table->n_rows; i++)
        if (table->rows[i].required) {
            corpus_sample(&table->rows[i], text, sizeof(text));
            corpus_set(object, table->rows[i].key, text);
        }
    return object;
}

typedef struct Corpus {
    const KeyTable *table;
    const char *container; /* key of the list that the objects are in; NULL: none */
    const cJSON *base;     /* what the definition has beside */
    const char *suffix;    /* of the key, "+" */
    corpus_fn emit;
    void *userdata;
} Corpus;

static inline void corpus_emit(const Corpus *corpus, const KeyRow *row, const char *value)
{
    cJSON *definition = cJSON_Duplicate(corpus->base, true), *object = definition;
    char key[96], pointer[192];
    char *text;

    if (corpus->container) {
        cJSON *list = cJSON_CreateArray();
        corpus_put(definition, corpus->container, list);
        object = corpus_object(corpus->table);
        cJSON_AddItemToArray(list, object);
    }
    snprintf(key, sizeof(key), "%s%s", row->key, corpus->suffix);
    corpus_set(object, key, value);
    snprintf(pointer, sizeof(pointer), "/%s%s%s", corpus->container ? corpus->container : "",
             corpus->container ? "/0/" : "", key);
    for (char *at = pointer; *at; at++)
        *at = *at == '.' ? '/' : *at;
    text = cJSON_PrintUnformatted(definition);
    corpus->emit(row, pointer, text, corpus->userdata);
    free(text);
    cJSON_Delete(definition);
}

/* Numbers at the ends of the range, as they are and in a string. */
static inline void corpus_numbers(const Corpus *corpus, const KeyRow *row)
{
    uint64_t unit = row->type == KEY_DURATION ? 1000000 : 1;
    uint64_t ends[] = {row->minimum ? row->minimum - unit : 0,
                       row->minimum,
                       row->minimum + unit,
                       row->maximum - unit,
                       row->maximum,
                       row->maximum + unit};

    for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
        char text[64];
        if (ends[i] > INT64_MAX) /* below zero */
            continue;
        snprintf(text, sizeof(text), "%llu", (unsigned long long)(ends[i] / unit));
        corpus_emit(corpus, row, text);
        if (row->type == KEY_NUMBER)
            continue;
        snprintf(text, sizeof(text), "\"%llu\"", (unsigned long long)(ends[i] / unit));
        corpus_emit(corpus, row, text);
    }
}

/* As many entries as there may be, and one more. */
static inline void corpus_lists(const Corpus *corpus, const KeyRow *row)
{
    for (uint64_t n = row->maximum; n <= row->maximum + 1; n++) {
        cJSON *list = cJSON_CreateArray();
        char text[128], *printed;
        KeyRow element = {.type = KEY_STRING, .take = row->take};
        for (uint64_t i = 0; i < n; i++) {
            corpus_sample(&element, text, sizeof(text));
            cJSON_AddItemToArray(list, row->items ? corpus_object(row->items) : cJSON_CreateRaw(text));
        }
        printed = cJSON_PrintUnformatted(list);
        corpus_emit(corpus, row, printed);
        free(printed);
        cJSON_Delete(list);
    }
}

/* Strings of the lengths at which something ends. */
static inline void corpus_lengths(const Corpus *corpus, const KeyRow *row)
{
    static const size_t lengths[] = {15, 16, 20, 21, 31, 32, 33, 36, 37, 63, 64, 65, 255, 256, 4095, 4096};
    static char text[4096 + 3];

    for (size_t i = 0; i < ELEMENTSOF(lengths) * 2; i++) {
        size_t length = lengths[i / 2];
        memset(text, 'a', sizeof(text));
        text[0] = '"';
        text[1] = i % 2 ? '/' : 'a';
        memcpy(text + length + 1, "\"", 2);
        corpus_emit(corpus, row, text);
    }
}

static inline void corpus_row(const Corpus *corpus, const KeyRow *row)
{
    char text[128];

    for (size_t i = 0; i < ELEMENTSOF(corpus_values); i++)
        corpus_emit(corpus, row, corpus_values[i]);
    for (int value = 0; row->type == KEY_ENUM && value < row->enum_max; value++) {
        snprintf(text, sizeof(text), "\"%s\"", row->enum_name(value));
        corpus_emit(corpus, row, text);
        text[1] = 'X';
        corpus_emit(corpus, row, text);
    }
    if (row->type == KEY_NUMBER || row->type == KEY_SIZE || row->type == KEY_DURATION ||
        row->type == KEY_PERCENT)
        corpus_numbers(corpus, row);
    if (row->type == KEY_STRINGS || row->type == KEY_OBJECTS)
        corpus_lists(corpus, row);
    if (row->type == KEY_STRING)
        corpus_lengths(corpus, row);
}

/* Every row of the table, and of those in its lists, with every value. `suffix` is "" or "+". */
static inline void corpus_each(const KeyTable *table, const char *container, const char *base,
                               const char *suffix, corpus_fn emit, void *userdata)
{
    cJSON *json = cJSON_Parse(base);
    Corpus corpus = {table, container, json, suffix, emit, userdata};

    for (size_t i = 0; i < table->n_rows; i++) {
        if (!*suffix || table->rows[i].type == KEY_STRINGS || table->rows[i].type == KEY_OBJECTS)
            corpus_row(&corpus, &table->rows[i]);
        else
            corpus_emit(&corpus, &table->rows[i], "[\"/a\"]");
        if (table->rows[i].type == KEY_OBJECTS)
            corpus_each(table->rows[i].items, table->rows[i].key, base, suffix, emit, userdata);
    }
    cJSON_Delete(json);
}

#endif
