/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/loader.h"

#include "base/file.h"
#include "spec/spec-table.h"

#include <sys/stat.h>

static void check_volumes(const TableReader *reader, const VmSpec *spec)
{
    char pointer[64];

    for (size_t i = 0; i < spec->n_volumes; i++) {
        const VolumeSpec *volume = &spec->volumes[i];
        snprintf(pointer, sizeof(pointer), "/volumes/%zu", i);
        if (volume->auto_create && volume->size_mib == 0)
            table_problem(reader, PROBLEM_ERROR, pointer, false,
                          "\"autoCreate\" needs a \"size\", such as \"1G\"");
        for (size_t k = 0; k < i; k++)
            if (volume->image && streq(volume->image, spec->volumes[k].image))
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "image %s is here twice (also at /volumes/%zu)", volume->image, k);
    }
}

static void check_interfaces(const TableReader *reader, const VmSpec *spec)
{
    char pointer[64];

    for (size_t i = 0; i < spec->n_interfaces; i++)
        for (size_t k = 0; k < i; k++) {
            snprintf(pointer, sizeof(pointer), "/interfaces/%zu", i);
            if (streq(spec->interfaces[i].mac, spec->interfaces[k].mac))
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "MAC address %s is here twice (also at /interfaces/%zu)",
                              spec->interfaces[i].mac, k);
            if (streq(spec->interfaces[i].id, spec->interfaces[k].id))
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "id %s is here twice (also at /interfaces/%zu)", spec->interfaces[i].id, k);
        }
}

static bool addresses_overlap(const char *a, const char *b)
{
    return streq(a, b) || streq(a, "0.0.0.0") || streq(b, "0.0.0.0");
}

static void check_forwards(const TableReader *reader, const VmSpec *spec)
{
    bool user = false;
    char pointer[64];

    for (size_t i = 0; i < spec->n_interfaces; i++)
        user |= spec->interfaces[i].type == INTERFACE_USER;
    if (spec->n_forward_ports > 0 && !user)
        table_problem(
            reader, PROBLEM_ERROR, "/forwardPorts", true,
            "ports are forwarded through an interface of type \"user\"; add \"interfaces\": [\"user\"]");
    for (size_t i = 0; i < spec->n_forward_ports; i++) {
        const ForwardSpec *forward = &spec->forward_ports[i];
        snprintf(pointer, sizeof(pointer), "/forwardPorts/%zu", i);
        if (forward->from == FORWARD_FROM_GUEST && forward->proto != FORWARD_TCP)
            table_problem(reader, PROBLEM_ERROR, pointer, false, "from \"guest\" only tcp can be forwarded");
        for (size_t k = 0; k < i; k++) {
            const ForwardSpec *other = &spec->forward_ports[k];
            if (forward->from == FORWARD_FROM_HOST && other->from == FORWARD_FROM_HOST &&
                forward->proto == other->proto && forward->host_port == other->host_port &&
                forward->host_port != 0 && addresses_overlap(forward->host_address, other->host_address))
                table_problem(reader, PROBLEM_ERROR, pointer, false,
                              "the host's port %u is here twice (also at /forwardPorts/%zu)",
                              (unsigned)forward->host_port, k);
        }
    }
}

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

static int parse_into(VmSpec *spec, const char *text, size_t size, ProblemList *problems)
{
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    TableReader reader = {.document = &document, .file = spec->path, .problems = problems};
    size_t before = problem_count(problems, PROBLEM_ERROR);
    int r;

    r = json_scan(text, size, spec->path, problems, &document);
    if (r < 0)
        return r;
    r = table_read(&reader, &vm_table, document.root, "", spec);
    if (r >= 0)
        r = fill_names(spec);
    if (r < 0)
        return r;
    check_volumes(&reader, spec);
    check_interfaces(&reader, spec);
    check_forwards(&reader, spec);
    return problem_count(problems, PROBLEM_ERROR) > before ? -EBADMSG : 0;
}

int vm_spec_parse(const char *name, const char *path, const char *text, size_t size,
                  const SpecDefaults *defaults, ProblemList *problems, VmSpec **ret_spec)
{
    _cleanup_(vm_spec_unrefp)
    VmSpec *spec = calloc(1, sizeof(*spec));
    int r;

    if (!spec)
        return -ENOMEM;
    spec->references = 1;
    spec->driver = defaults->driver;
    spec->accel = defaults->accel;
    spec->name = strdup(name);
    spec->path = path ? strdup(path) : NULL;
    if (!spec->name || (path && !spec->path))
        return -ENOMEM;
    r = parse_into(spec, text, size, problems);
    if (r < 0)
        return r;
    *ret_spec = TAKE_PTR(spec);
    return 0;
}

static int unreadable(ProblemList *problems, const char *path, int error)
{
    if (error == -ENOMEM)
        return error;
    problem_add(problems, PROBLEM_ERROR, path, "", 0, 0, "the file can't be read: %s",
                read_file_problem(error));
    return -EBADMSG;
}

/* A link to /dev/null masks, as with systemd's units. */
static bool is_masked(const char *path)
{
    struct stat st, null;

    return stat(path, &st) == 0 && S_ISCHR(st.st_mode) && stat("/dev/null", &null) == 0 &&
           st.st_rdev == null.st_rdev;
}

int vm_spec_load(const char *name, const char *path, const SpecDefaults *defaults, ProblemList *problems,
                 VmSpec **ret_spec)
{
    _cleanup_free_ char *text = NULL;
    size_t size;
    int r;

    if (is_masked(path))
        return -ENOENT;
    r = read_file(path, SPEC_FILE_MAX, &text, &size);
    if (r < 0)
        return unreadable(problems, path, r);
    if (size == 0)
        return -ENOENT;
    return vm_spec_parse(name, path, text, size, defaults, problems, ret_spec);
}
