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

/* Whether a merge would change nothing: no null, no "KEY+". */
static bool is_plain(const cJSON *json)
{
    const cJSON *child;

    cJSON_ArrayForEach (child, json)
        if (!is_plain(child) ||
            (child->string && (cJSON_IsNull(child) || (*child->string && has_suffix(child->string, "+")))))
            return false;
    return true;
}

/* What a document of one file needs to be one of several. */
static int set_file(JsonDocument *document, const char *path)
{
    const char *file = path ? json_document_file(document, path) : NULL;

    for (size_t i = 0; i < document->n_places; i++)
        document->places[i].file = file;
    return path && !file ? -ENOMEM : 0;
}

/* Puts a text over `lower`, into *merged, which may be that. */
static int add_layer(const char *path, const char *text, size_t size, ProblemList *problems,
                     const JsonDocument *lower, JsonDocument *merged)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    TableReader reader = {.document = &document, .file = path, .problems = problems};
    JsonDocument result;
    int r;

    r = json_scan(text, size, path, problems, &document);
    if (r >= 0)
        r = set_file(&document, path);
    if (r < 0)
        return r;
    if (!cJSON_IsObject(document.root)) {
        if (!table_is_flawed(&reader, "")) /* what it is has been told already */
            table_wrong_type(&reader, document.root, "", "an object");
        return -EBADMSG;
    }
    if (!lower->root && is_plain(document.root)) {
        result = document;
        document = (JsonDocument){0};
    } else {
        r = json_merge(&vm_table, lower->root ? lower : NULL, &document, path, problems, &result);
        if (r < 0)
            return r;
    }
    json_document_clear(merged);
    *merged = result;
    return 0;
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

static int merge_files(const JsonDocument *below, LayerFiles *files, ProblemList *problems,
                       JsonDocument *merged)
{
    unsigned line = 0, column = 0;
    bool broken = false;

    for (size_t i = 0; i < files->count; i++) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r = read_layer(&files->items[i], problems, &text, &size);
        if (r >= 0 && size > 0)
            r = add_layer(files->items[i].path, text, size, problems, merged->root ? merged : below, merged);
        else if (r >= 0)
            r = -ESTALE; /* it masks since it was looked at */
        if (r < 0 && r != -EBADMSG)
            return r;
        broken |= r < 0; /* what is wrong with the others is told all the same */
        if (i == files->main && merged->root) {
            line = json_find(merged, "")->line;
            column = json_find(merged, "")->column;
        }
    }
    if (broken)
        return -EBADMSG;
    return line > 0 ? set_root_place(merged, files->items[files->main].path, line, column) : 0;
}

static int expand(const char *name, const char *path, ProblemList *problems, JsonDocument *document)
{
    TableReader reader = {.document = document, .file = path, .problems = problems};

    return specifiers_expand(&reader, document, &vm_table, name);
}

int layers_merge(const char *name, const Layers *below, LayerFiles *files, ProblemList *problems,
                 JsonDocument *ret_document)
{
    static const JsonDocument nothing = {0};
    _cleanup_(json_document_clear)
    JsonDocument merged = {0};
    const char *path = files->items[files->main].path;
    int r;

    r = merge_files(below ? &below->document : &nothing, files, problems, &merged);
    if (r < 0)
        return r;
    r = expand(name, path, problems, &merged);
    if (r < 0)
        return r;
    *ret_document = merged;
    merged = (JsonDocument){0};
    return 0;
}

int layers_merge_text(const char *name, const Layers *below, const char *text, size_t size,
                      ProblemList *problems, JsonDocument *ret_document)
{
    _cleanup_(json_document_clear)
    JsonDocument merged = {0};
    int r;

    r = add_layer(NULL, text, size, problems, &below->document, &merged);
    if (r >= 0)
        r = expand(name, NULL, problems, &merged);
    if (r < 0)
        return r;
    *ret_document = merged;
    merged = (JsonDocument){0};
    return 0;
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
    static const JsonDocument nothing = {0};
    Layers below = {0};
    int r = -ESTALE;

    for (int i = 0; i < TRIES && r == -ESTALE; i++) {
        layers_clear(&below);
        r = layers_find_below(defaults_path, problems, &below.files);
        if (r >= 0)
            r = merge_files(&nothing, &below.files, problems, &below.document);
    }
    if (r < 0 && r != -EBADMSG) {
        layers_clear(&below);
        return r == -ESTALE ? -EBADMSG : r;
    }
    *ret_below = below;
    return r;
}
