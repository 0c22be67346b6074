/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/loader.h"

#include "spec/spec-table.h"
#include "spec/specifier.h"

/* Defaults that are made from the name. */
static int fill_names(VmSpec *spec)
{
    if (!spec->machine_id && !(spec->machine_id = default_machine_id(spec->name)))
        return -ENOMEM;
    for (size_t i = 0; i < spec->n_interfaces; i++) {
        InterfaceSpec *interface = &spec->interfaces[i];
        if (!interface->mac && !(interface->mac = default_mac(spec->name, i)))
            return -ENOMEM;
        if (!interface->id && !(interface->id = default_interface_id(spec->name, i)))
            return -ENOMEM;
    }
    return 0;
}

static int read_into(VmSpec *spec, const TableReader *reader, const SpecContext *context)
{
    size_t before = problem_count(reader->problems, PROBLEM_ERROR);
    int r;

    r = table_read(reader, &vm_table, reader->document->root, "", spec);
    if (r >= 0)
        r = fill_names(spec);
    if (r < 0 || !cJSON_IsObject(reader->document->root))
        return r < 0 ? r : -EBADMSG;
    vm_spec_check(spec, reader);
    if (context->check)
        context->check(spec, reader);
    return problem_count(reader->problems, PROBLEM_ERROR) > before ? -EBADMSG : 0;
}

int vm_spec_read(const char *name, const char *path, const JsonDocument *document, const SpecContext *context,
                 ProblemList *problems, VmSpec **ret_spec)
{
    TableReader reader = {.document = document,
                          .file = path,
                          .problems = problems,
                          .below = context->defaults_path,
                          .recorded = context->recorded};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = calloc(1, sizeof(*spec));
    int r;

    if (!spec)
        return -ENOMEM;
    spec->references = 1;
    spec->driver = context->driver;
    spec->accel = context->accel;
    spec->name = strdup(name);
    spec->path = path ? strdup(path) : NULL;
    if (!spec->name || (path && !spec->path))
        return -ENOMEM;
    r = read_into(spec, &reader, context);
    if (r < 0)
        return r;
    *ret_spec = TAKE_PTR(spec);
    return 0;
}

int vm_spec_parse(const char *name, const char *path, const char *text, size_t size,
                  const SpecContext *context, ProblemList *problems, VmSpec **ret_spec)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    TableReader reader = {.document = &document, .file = path, .problems = problems};
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = NULL;
    size_t before = problem_count(problems, PROBLEM_ERROR);
    int r;

    r = json_scan(text, size, path, problems, &document);
    if (r >= 0)
        r = specifiers_expand(&reader, &document, &vm_table, name);
    if (r >= 0)
        r = vm_spec_read(name, path, &document, context, problems, &spec);
    if (r < 0)
        return r;
    if (problem_count(problems, PROBLEM_ERROR) > before)
        return -EBADMSG; /* a key that was there twice, say */
    *ret_spec = TAKE_PTR(spec);
    return 0;
}
