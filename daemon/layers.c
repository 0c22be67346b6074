/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "layers.h"

#include "spec/loader.h"
#include "spec/merge.h"
#include "spec/spec-table.h"
#include "spec/specifier.h"
#include "spec/table-value.h"

#include <time.h>

void layers_clear(Layers *layers)
{
    layer_files_clear(&layers->files);
    json_document_clear(&layers->document);
}

/* --- one file --- */

/* Whether it may be written to again without a change of its times, which are as coarse as a clock tick. */
static bool is_fresh(const FileIdentity *identity)
{
    enum {
        TICKS_MSEC = 40
    };
    const struct timespec *last = &identity->changed; /* also set by what sets the other */
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - last->tv_sec) * 1000 + (now.tv_nsec - last->tv_nsec) / 1000000 < TICKS_MSEC;
}

static int read_layer(LayerFile *file, ProblemList *problems, char **ret_text, size_t *ret_size)
{
    struct stat st;
    int r = read_file_whole(file->path, SPEC_FILE_MAX, ret_text, ret_size, &file->identity);

    if (r >= 0) {
        if (is_fresh(&file->identity))
            file->identity = (FileIdentity){0};
        return 0;
    }
    file->identity = (FileIdentity){0};
    if (r == -ENOENT && lstat(file->path, &st) < 0)
        return -ESTALE;
    if (r == -ENOMEM)
        return r;
    problem_add(problems, PROBLEM_ERROR, file->path, "", 0, 0, "the file can't be read: %s",
                read_file_problem(r));
    return -EBADMSG;
}

/* --- together --- */

/* What reads and merges: for whom, and what it has come to. */
typedef struct Reading {
    const char *name; /* of the microVM that specifiers are expanded for; NULL: not yet */
    ProblemList *problems;
    JsonDocument merged;
    bool broken; /* a file could not be read */
} Reading;

/* Specifiers come first, so that lists are merged by what their elements are called. */
static int expand(const char *name, const char *path, ProblemList *problems, JsonDocument *document)
{
    TableReader reader = {.document = document, .file = path, .problems = problems};

    return name ? specifiers_expand(&reader, document, &vm_table, name) : 0;
}

/* Puts a text over what there is. */
static int add_layer(Reading *reading, const char *path, const char *text, size_t size)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    TableReader reader = {.document = &document, .file = path, .problems = reading->problems};
    int r;

    r = json_scan(text, size, path, reading->problems, &document);
    if (r >= 0)
        r = path ? json_document_set_file(&document, path) : 0;
    if (r < 0)
        return r;
    if (!cJSON_IsObject(document.root)) {
        if (!table_is_flawed(&reader, "")) /* what it is has been told already */
            table_wrong_type(&reader, document.root, "", "an object");
        return -EBADMSG;
    }
    r = expand(reading->name, path, reading->problems, &document);
    return r < 0 ? r : json_merge(&vm_table, &reading->merged, &document, path, reading->problems);
}

/* What is said of all of a definition, that a key is missing, say, is said of its own file. */
static int set_root_place(JsonDocument *document, const char *path, unsigned line, unsigned column)
{
    JsonPlace *root = (JsonPlace *)json_find(document, "");

    root->file = json_document_file(document, path);
    root->line = line;
    root->column = column;
    return root->file ? 0 : -ENOMEM;
}

static int merge_files(Reading *reading, LayerFiles *files)
{
    unsigned line = 0, column = 0;

    for (size_t i = 0; i < files->count; i++) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = read_layer(&files->items[i], reading->problems, &text, &size);
        if (r >= 0 && size > 0)
            r = add_layer(reading, files->items[i].path, text, size);
        else if (r >= 0)
            r = -ESTALE; /* it masks since it was looked at */
        if (r < 0 && r != -EBADMSG)
            return r;
        reading->broken |= r < 0; /* what is wrong with the others is told all the same */
        if (i == files->main && r >= 0) {
            line = json_find(&reading->merged, "")->line;
            column = json_find(&reading->merged, "")->column;
        }
    }
    return line > 0 ? set_root_place(&reading->merged, files->items[files->main].path, line, column) : 0;
}

/* What is below, for this microVM. */
static int begin(Reading *reading, const Layers *below)
{
    int r;

    if (!below || !below->document.root)
        return 0;
    r = json_document_copy(&below->document, &reading->merged);
    return r < 0 ? r : expand(reading->name, NULL, reading->problems, &reading->merged);
}

/* Tells what is wrong with the values that could be read; what is missing may be where nothing could. */
static int tell_values(const Reading *reading)
{
    TableReader reader = {.document = &reading->merged, .problems = reading->problems, .incomplete = true};
    VmSpec spec = {0};
    int r = reading->merged.root ? table_read(&reader, &vm_table, reading->merged.root, "", &spec) : 0;

    table_clear(&vm_table, &spec);
    return r < 0 ? r : -EBADMSG;
}

int layers_merge(const char *name, const Layers *below, LayerFiles *files, ProblemList *problems,
                 JsonDocument *ret_document)
{
    Reading reading = {.name = name, .problems = problems, .broken = below && below->broken};
    int r;

    r = begin(&reading, below);
    if (r >= 0)
        r = merge_files(&reading, files);
    if (r >= 0 && reading.broken)
        r = tell_values(&reading);
    if (r < 0)
        json_document_clear(&reading.merged);
    else
        *ret_document = reading.merged;
    return r;
}

int layers_merge_text(const char *name, const Layers *below, const char *text, size_t size,
                      ProblemList *problems, JsonDocument *ret_document)
{
    Reading reading = {.name = name, .problems = problems};
    int r;

    r = begin(&reading, below);
    if (r >= 0)
        r = add_layer(&reading, NULL, text, size);
    if (r < 0)
        json_document_clear(&reading.merged);
    else
        *ret_document = reading.merged;
    return r;
}

/* --- what is below --- */

int layers_find_below(const char *defaults_path, ProblemList *problems, LayerFiles *ret_files)
{
    _cleanup_(layer_files_clear)
    LayerFiles files = {0};
    _cleanup_free_ char *directory = NULL;
    struct stat st;
    int r = 0;

    if (defaults_path) {
        if (asprintf(&directory, "%s.d", defaults_path) < 0)
            return -ENOMEM;
        if (lstat(defaults_path, &st) == 0)
            r = layer_files_add(&files, defaults_path, false);
        if (r >= 0)
            r = layer_files_add_drop_ins(&files, (const char *const[]){directory}, 1, problems);
    }
    if (r < 0)
        return r;
    *ret_files = files;
    files = (LayerFiles){0};
    return 0;
}

int layers_load_below(const char *defaults_path, ProblemList *problems, Layers *ret_below)
{
    enum {
        TRIES = 3
    };
    Layers below = {0};
    int r = -ESTALE;

    for (int i = 0; i < TRIES && r == -ESTALE; i++) {
        Reading reading = {.problems = problems};
        layers_clear(&below);
        r = layers_find_below(defaults_path, problems, &below.files);
        if (r >= 0)
            r = merge_files(&reading, &below.files);
        below.document = reading.merged;
        below.broken = reading.broken;
    }
    if (r < 0) {
        layers_clear(&below);
        return r == -ESTALE ? -EBADMSG : r;
    }
    *ret_below = below;
    return below.broken ? -EBADMSG : 0;
}
