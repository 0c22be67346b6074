/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "definition-files.h"

#include "microvm/names.h"
#include "spec/spec.h"

#include <dirent.h>
#include <limits.h>
#include <strings.h>

bool has_suffix(const char *text, const char *suffix)
{
    size_t length = strlen(text), suffix_length = strlen(suffix);

    return length > suffix_length && streq(text + length - suffix_length, suffix);
}

/* --- lists of files --- */

void layer_files_clear(LayerFiles *files)
{
    for (size_t i = 0; i < files->count; i++)
        free(files->items[i].path);
    free(files->items);
    *files = (LayerFiles){0};
}

bool layer_files_equal(const LayerFiles *a, const LayerFiles *b)
{
    if (a->count != b->count || a->main != b->main)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (a->items[i].identity.inode == 0 || !streq(a->items[i].path, b->items[i].path) ||
            !file_identity_equal(&a->items[i].identity, &b->items[i].identity))
            return false;
    return true;
}

/* Empty, or a link to /dev/null, as with systemd's units. */
static bool is_mask(const char *path, const struct stat *st)
{
    _cleanup_free_ char *text = NULL;
    struct stat null;
    size_t size;

    if (S_ISREG(st->st_mode)) /* those of /proc have no size, but something in them */
        return st->st_size == 0 && read_file(path, 1, &text, &size) == 0 && size == 0;
    return S_ISCHR(st->st_mode) && stat("/dev/null", &null) == 0 && st->st_rdev == null.st_rdev;
}

int layer_files_add(LayerFiles *files, const char *path, bool even_masked)
{
    LayerFile *grown, file = {0};
    struct stat st;

    if (stat(path, &st) == 0) {
        if (!even_masked && is_mask(path, &st))
            return 0;
        file.identity = file_identity(&st);
    }
    grown = reallocarray(files->items, files->count + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    files->items = grown;
    file.path = strdup(path);
    if (!file.path)
        return -ENOMEM;
    grown[files->count++] = file;
    return 0;
}

int layer_files_prepend(LayerFiles *files, LayerFiles *lower)
{
    LayerFile *all = calloc(files->count + lower->count + 1, sizeof(*all));

    if (!all)
        return -ENOMEM;
    for (size_t i = 0; i < lower->count; i++)
        all[i] = lower->items[i];
    for (size_t i = 0; i < files->count; i++)
        all[lower->count + i] = files->items[i];
    free(files->items);
    free(lower->items);
    *files = (LayerFiles){all, lower->count + files->count, lower->count + files->main};
    *lower = (LayerFiles){0};
    return 0;
}

/* --- drop-ins --- */

typedef struct Entry {
    char *file;
    size_t directory; /* index: the lower, the higher its precedence */
} Entry;

typedef struct Entries {
    Entry *items;
    size_t count, room;
} Entries;

static void entries_clear(Entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        free(entries->items[i].file);
    free(entries->items);
}

static int by_file(const void *a, const void *b)
{
    const Entry *first = a, *second = b;
    int order = strcmp(first->file, second->file);

    return order ? order : first->directory < second->directory ? -1 : 1;
}

static int add_entry(Entries *entries, const char *file, size_t directory)
{
    if (entries->count == entries->room) {
        size_t room = entries->room ? 2 * entries->room : 16;
        Entry *grown = reallocarray(entries->items, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        entries->items = grown;
        entries->room = room;
    }
    entries->items[entries->count] = (Entry){strdup(file), directory};
    return entries->items[entries->count++].file ? 0 : -ENOMEM;
}

/* What is in a directory and not hidden. One that does not exist holds nothing. */
static int read_directory(const char *path, size_t index, Entries *entries, ProblemList *problems)
{
    DIR *stream = opendir(path);
    const struct dirent *entry;
    char target[2];
    int r = 0;

    /* A dangling link is not "no directory": something was meant to be there. */
    if (!stream && errno == ENOENT && readlink(path, target, sizeof(target)) < 0)
        return 0;
    if (!stream) {
        problem_add(problems, PROBLEM_ERROR, path, "", 0, 0, "the directory can't be read: %s",
                    strerror(errno));
        return errno == ENOMEM ? -ENOMEM : 0;
    }
    while (r >= 0 && (entry = readdir(stream)))
        if (entry->d_name[0] != '.')
            r = add_entry(entries, entry->d_name, index);
    closedir(stream);
    return r;
}

int layer_files_add_drop_ins(LayerFiles *files, const char *const *paths, size_t n, ProblemList *problems)
{
    _cleanup_(entries_clear)
    Entries entries = {0};
    int r = 0;

    for (size_t i = 0; i < n && r >= 0; i++)
        r = read_directory(paths[i], i, &entries, problems);
    if (entries.count > 0)
        qsort(entries.items, entries.count, sizeof(*entries.items), by_file);
    for (size_t i = 0; i < entries.count && r >= 0; i++) {
        const Entry *entry = &entries.items[i];
        _cleanup_free_ char *path = NULL;
        if (!has_suffix(entry->file, SUFFIX) || (i > 0 && streq(entry->file, entries.items[i - 1].file)))
            continue;
        r = asprintf(&path, "%s/%s", paths[entry->directory], entry->file) < 0
                ? -ENOMEM
                : layer_files_add(files, path, false);
    }
    return r;
}

/* --- names --- */

void definition_names_clear(DefinitionNames *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i].name);
    free(names->items);
    *names = (DefinitionNames){0};
}

bool is_template(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && name[length - 1] == '@';
}

char *template_of(const char *name)
{
    const char *at = strchr(name, '@');

    return at && at[1] ? strndup(name, (size_t)(at + 1 - name)) : NULL;
}

bool definition_name_valid(const char *name)
{
    char base[MICROVM_NAME_MAX + 1];
    size_t length = strlen(name);

    if (!is_template(name))
        return vm_name_valid(name);
    if (length > MICROVM_NAME_MAX)
        return false;
    memcpy(base, name, length - 1);
    base[length - 1] = '\0';
    return vm_name_valid(base) && !strchr(base, '@');
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const DefinitionName *)a)->name, ((const DefinitionName *)b)->name);
}

/* The highest directory that has something of it. */
static int first_directory(const DefinitionName *name)
{
    return __builtin_ctz(name->files | name->drop_ins);
}

/* Names that differ only in case stand together, the one that is kept first. */
static int by_folded_name(const void *a, const void *b)
{
    const DefinitionName *first = a, *second = b;
    int order = strcasecmp(first->name, second->name);

    if (order == 0)
        order = first_directory(first) - first_directory(second);
    return order ? order : strcmp(first->name, second->name);
}

static char *path_of(Directories directories, size_t index, const char *name, const char *suffix)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s%s", directories.paths[index], name, suffix) < 0 ? NULL : path;
}

static int refuse_name(Directories directories, const Entry *entry, const char *name, ProblemList *problems)
{
    _cleanup_free_ char *path = path_of(directories, entry->directory, entry->file, "");

    if (!path)
        return -ENOMEM;
    problem_add(
        problems, PROBLEM_ERROR, path, "", 0, 0,
        "\"%s\" can't be the name of a microVM: letters, digits, '.', '_' and '-', the first and last a "
        "letter or digit, at most 64 bytes",
        name);
    return 0;
}

/* `entries` of one name come together, after by_file(), but for others that begin with it: "a", "a-b", "a.x".
 */
static int collect_names(Directories directories, const Entries *entries, ProblemList *problems,
                         DefinitionNames *names)
{
    names->items = calloc(entries->count + 1, sizeof(*names->items));
    if (!names->items)
        return -ENOMEM;
    for (size_t i = 0; i < entries->count; i++) {
        const Entry *entry = &entries->items[i];
        bool drop_in = has_suffix(entry->file, DROP_IN_SUFFIX);
        _cleanup_free_ char *name = NULL;
        if (!drop_in && !has_suffix(entry->file, SUFFIX))
            continue;
        name = strndup(entry->file, strlen(entry->file) - strlen(drop_in ? DROP_IN_SUFFIX : SUFFIX));
        if (!name)
            return -ENOMEM;
        if (!definition_name_valid(name)) {
            if (refuse_name(directories, entry, name, problems) < 0)
                return -ENOMEM;
            continue;
        }
        names->items[names->count++] = (DefinitionName){
            .name = TAKE_PTR(name),
            .files = drop_in ? 0 : 1u << entry->directory,
            .drop_ins = drop_in ? 1u << entry->directory : 0,
        };
    }
    return 0;
}

/* After sorting: one entry a name. */
static void unite_names(DefinitionNames *names)
{
    size_t kept = 0;

    for (size_t i = 0; i < names->count; i++) {
        DefinitionName *name = &names->items[i], *last = kept > 0 ? &names->items[kept - 1] : NULL;
        if (!last || !streq(last->name, name->name)) {
            names->items[kept++] = *name;
            continue;
        }
        last->files |= name->files;
        last->drop_ins |= name->drop_ins;
        free(name->name);
    }
    names->count = kept;
}

static int refuse_folded(Directories directories, DefinitionNames *names, ProblemList *problems)
{
    size_t kept = 0;
    int r = 0;

    for (size_t i = 0; i < names->count; i++) {
        DefinitionName *name = &names->items[i], *other = kept > 0 ? &names->items[kept - 1] : NULL;
        _cleanup_free_ char *path = NULL, *other_path = NULL;
        if (!other || strcasecmp(other->name, name->name) != 0) {
            names->items[kept++] = *name;
            continue;
        }
        path = path_of(directories, (size_t)first_directory(name), name->name, SUFFIX);
        other_path = path_of(directories, (size_t)first_directory(other), other->name, SUFFIX);
        free(name->name);
        if (path && other_path)
            problem_add(problems, PROBLEM_ERROR, path, "", 0, 0,
                        "its name differs only in case from %s; rename one of them", other_path);
        else
            r = -ENOMEM;
    }
    names->count = kept;
    return r;
}

int definition_names_list(Directories directories, ProblemList *problems, DefinitionNames *ret_names)
{
    _cleanup_(entries_clear)
    Entries entries = {0};
    _cleanup_(definition_names_clear)
    DefinitionNames names = {0};
    int r = 0;

    for (size_t i = 0; i < directories.count && r >= 0; i++)
        r = read_directory(directories.paths[i], i, &entries, problems);
    if (r < 0)
        return r;
    if (entries.count > 0)
        qsort(entries.items, entries.count, sizeof(*entries.items), by_file);
    r = collect_names(directories, &entries, problems, &names);
    if (r < 0)
        return r;
    if (names.count > 0) {
        qsort(names.items, names.count, sizeof(*names.items), by_name);
        unite_names(&names);
        qsort(names.items, names.count, sizeof(*names.items), by_folded_name);
        r = refuse_folded(directories, &names, problems);
        qsort(names.items, names.count, sizeof(*names.items), by_name);
    }
    if (r < 0)
        return r;
    *ret_names = names;
    names = (DefinitionNames){0};
    return 0;
}

const DefinitionName *definition_names_find(const DefinitionNames *names, const char *name)
{
    const DefinitionName key = {.name = (char *)name};

    return names->count > 0 ? bsearch(&key, names->items, names->count, sizeof(*names->items), by_name)
                            : NULL;
}

/* `name` is borrowed. */
static DefinitionName look_up(Directories directories, const char *name)
{
    DefinitionName found = {.name = (char *)name};
    struct stat st;

    for (size_t i = 0; i < directories.count; i++) {
        _cleanup_free_ char *file = path_of(directories, i, name, SUFFIX),
                            *drop_ins = path_of(directories, i, name, DROP_IN_SUFFIX);
        if (file && lstat(file, &st) == 0)
            found.files |= 1u << i;
        if (drop_ins && lstat(drop_ins, &st) == 0)
            found.drop_ins |= 1u << i;
    }
    return found;
}

/* --- the files of one definition --- */

static char *highest_file(Directories directories, const DefinitionName *name)
{
    return path_of(directories, (size_t)__builtin_ctz(name->files), name->name, SUFFIX);
}

/* Whether an instance's file is a link to its template. Which file that is, its name says, as with systemd:
 * the link may have been made for a template that another directory overrides now. */
static bool links_to(const char *path, const char *template)
{
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    const char *base;
    size_t length = strlen(template);

    if (n < 0)
        return false;
    target[n] = '\0';
    base = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
    return strncmp(base, template, length) == 0 && streq(base + length, SUFFIX);
}

/* NULL with *ret_error 0: there is none. */
static char *main_file(Directories directories, const DefinitionName *name, const DefinitionName *template,
                       int *ret_error)
{
    _cleanup_free_ char *own = name->files ? highest_file(directories, name) : NULL;
    bool of_template = template && template->files;
    char *path;

    *ret_error = name->files && !own ? -ENOMEM : 0;
    if (!of_template || (own && !links_to(own, template->name)))
        return TAKE_PTR(own);
    path = highest_file(directories, template);
    *ret_error = path ? 0 : -ENOMEM;
    return path;
}

static int add_drop_ins(LayerFiles *files, Directories directories, const DefinitionName *name,
                        ProblemList *problems)
{
    char *paths[DIRECTORIES_MAX];
    size_t n = 0;
    int r = 0;

    for (size_t i = 0; i < directories.count && r >= 0; i++)
        if (name->drop_ins & 1u << i)
            r = (paths[n++] = path_of(directories, i, name->name, DROP_IN_SUFFIX)) ? 0 : -ENOMEM;
    if (r >= 0 && n > 0)
        r = layer_files_add_drop_ins(files, (const char *const *)paths, n, problems);
    while (n > 0)
        free(paths[--n]);
    return r;
}

static int files_over(Directories directories, const DefinitionName *name, const DefinitionName *template,
                      const char *path, ProblemList *problems, LayerFiles *ret_files)
{
    _cleanup_(layer_files_clear)
    LayerFiles files = {0};
    int r;

    r = layer_files_add(&files, path, false);
    if (r < 0)
        return r;
    if (files.count == 0)
        return -ENOENT;
    if (template)
        r = add_drop_ins(&files, directories, template, problems);
    if (r >= 0)
        r = add_drop_ins(&files, directories, name, problems);
    if (r < 0)
        return r;
    *ret_files = files;
    files = (LayerFiles){0};
    return 0;
}

int definition_files_find(Directories directories, const DefinitionName *name, const DefinitionName *template,
                          ProblemList *problems, LayerFiles *ret_files)
{
    _cleanup_free_ char *path = NULL;
    int r;

    path = main_file(directories, name, template, &r);
    if (!path)
        return r < 0 ? r : -ENOENT;
    return files_over(directories, name, template, path, problems, ret_files);
}

int definition_files_over(Directories directories, const char *name, const char *path, ProblemList *problems,
                          LayerFiles *ret_files)
{
    _cleanup_free_ char *base = template_of(name);
    DefinitionName own = look_up(directories, name), template = {0};

    if (base)
        template = look_up(directories, base);
    return files_over(directories, &own, base ? &template : NULL, path, problems, ret_files);
}

int definition_files_look_up(Directories directories, const char *name, ProblemList *problems,
                             LayerFiles *ret_files)
{
    _cleanup_free_ char *base = template_of(name);
    DefinitionName own = look_up(directories, name), template = {0};

    if (base)
        template = look_up(directories, base);
    return definition_files_find(directories, &own, base ? &template : NULL, problems, ret_files);
}
