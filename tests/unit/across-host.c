/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "across-host.h"

int host_setup(void **context)
{
    Host *host = calloc(1, sizeof(*host));

    scratch_setup((void **)&host->scratch);
    host->around = (Surroundings){.state_dir = host->scratch->path, .runs = host->runs};
    *context = host;
    return 0;
}

int host_teardown(void **context)
{
    Host *host = *context;
    int r = scratch_teardown((void **)&host->scratch);

    definitions_clear(&host->definitions);
    definitions_clear(&host->before);
    for (size_t i = 0; i < host->around.n_runs; i++)
        vm_spec_unref(host->runs[i].spec);
    problem_list_clear(&host->problems);
    free(host);
    return r;
}

static VmSpec *parse(const char *name, const char *path, const char *keys)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *text = NULL;
    VmSpec *spec = NULL;

    assert_true(asprintf(&text, "{ \"kernel\": \"/k\",\n  %s\n}\n", keys) > 0);
    if (vm_spec_parse(name, path, text, strlen(text), &(SpecContext){0}, &problems, &spec) < 0)
        fail_msg("%s: %s", text, problems.items[0].text);
    return spec;
}

void add(Host *host, const char *name, const char *keys)
{
    Definitions *definitions = &host->definitions;
    _cleanup_free_ char *text = NULL, *file = NULL;
    Definition *definition;

    assert_true(asprintf(&text, "{ \"kernel\": \"/k\",\n  %s\n}\n", keys ? keys : "{") > 0);
    assert_true(asprintf(&file, "%s.json", name) > 0);
    (void)unlink(
        scratch_path(host->scratch, file)); /* to replace one makes some file systems write at once */
    definitions->items =
        reallocarray(definitions->items, definitions->count + 1, sizeof(*definitions->items));
    assert_non_null(definitions->items);
    definition = &definitions->items[definitions->count++];
    *definition = (Definition){.name = strdup(name), .path = strdup(scratch_text(host->scratch, file, text))};
    assert_int_equal(layer_files_add(&definition->files, definition->path, false), 0);
    if (keys)
        definition->read = parse(name, definition->path, keys);
    else
        definition->error = strdup("broken");
}

void run(Host *host, const char *name, const char *keys, const char *path)
{
    assert_true(host->around.n_runs < ELEMENTSOF(host->runs));
    host->runs[host->around.n_runs++] = (Run){name, parse(name, NULL, keys), path};
}

void check(Host *host)
{
    problem_list_clear(&host->problems);
    assert_int_equal(
        definitions_check_across(&host->definitions, &host->before, NULL, &host->around, &host->problems), 0);
}

void next(Host *host)
{
    check(host);
    definitions_clear(&host->before);
    host->before = host->definitions;
    host->definitions = (Definitions){0};
}

void refused(Host *host, const char *name, const char *said)
{
    const Definition *definition = definitions_find(&host->definitions, name);

    if (definition->spec)
        fail_msg("%s is good, not %s", name, said);
    if (!strstr(definition->error, said) || !strstr(definition->error, definition->path))
        fail_msg("%s, not %s", definition->error, said);
}

void kept(Host *host, const char *name)
{
    const Definition *definition = definitions_find(&host->definitions, name);

    if (!definition->spec)
        fail_msg("%s is refused: %s", name, definition->error);
    assert_null(definition->error);
}
