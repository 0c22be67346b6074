/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/loader.h"

#include "microvm/names.h"
#include "spec/spec-table.h"
#include "spec/specifier.h"

VmSpec *vm_spec_ref(VmSpec *spec)
{
    if (spec)
        __atomic_add_fetch(&spec->references, 1, __ATOMIC_RELAXED);
    return spec;
}

VmSpec *vm_spec_unref(VmSpec *spec)
{
    if (!spec || __atomic_sub_fetch(&spec->references, 1, __ATOMIC_ACQ_REL) > 0)
        return NULL;
    table_clear(&vm_table, spec);
    free(spec->name);
    free(spec->path);
    free(spec);
    return NULL;
}

char *vm_spec_to_json(const VmSpec *spec)
{
    cJSON *object = table_dump(&vm_table, spec);
    char *text = object && specifiers_escape(object, &vm_table) >= 0 ? cJSON_Print(object) : NULL;

    cJSON_Delete(object);
    return text;
}

bool vm_spec_equal(const VmSpec *a, const VmSpec *b)
{
    return a == b || (a && b && table_equal(&vm_table, a, b));
}

size_t vm_spec_loosened(const VmSpec *spec, const char *ret_parts[static SANDBOX_PARTS])
{
    static const char group[] = "sandbox.";
    size_t n = 0;

    for (size_t i = 0; i < vm_table.n_rows && n < SANDBOX_PARTS; i++) {
        const KeyRow *row = &vm_table.rows[i];
        if (strncmp(row->key, group, strlen(group)) == 0 && !table_is_default(row, spec))
            ret_parts[n++] = row->key + strlen(group);
    }
    return n;
}

char *volume_path(const VolumeSpec *volume, const char *state_dir)
{
    char *path = NULL;

    if (volume->image[0] == '/')
        return strdup(volume->image);
    return asprintf(&path, "%s/%s", state_dir, volume->image) < 0 ? NULL : path;
}

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool vm_name_valid(const char *name)
{
    size_t length = strlen(name), ats = 0;

    if (length == 0 || length > MICROVM_NAME_MAX)
        return false;
    if (!is_alphanumeric(name[0]) || !is_alphanumeric(name[length - 1]) || strstr(name, ".."))
        return false;
    for (size_t i = 0; i < length; i++) {
        ats += name[i] == '@';
        if (!is_alphanumeric(name[i]) && !strchr("._-@", name[i]))
            return false;
    }
    return ats <= 1;
}

bool vm_spec_needs_notify(const VmSpec *spec)
{
    return spec->readiness_type == READINESS_NOTIFY || spec->watchdog_type == WATCHDOG_NOTIFY;
}

bool vm_spec_wants_notify(const VmSpec *spec)
{
    return vm_spec_needs_notify(spec) || spec->readiness_type == READINESS_AUTO;
}

bool vm_spec_declares_ready(const VmSpec *spec)
{
    return spec->readiness_type != READINESS_NONE && spec->readiness_type != READINESS_AUTO;
}

const ForwardSpec *vm_spec_forward_to(const VmSpec *spec, uint64_t guest_port)
{
    for (size_t i = 0; i < spec->n_forward_ports; i++) {
        const ForwardSpec *forward = &spec->forward_ports[i];
        if (forward->from == FORWARD_FROM_HOST && forward->proto == FORWARD_TCP &&
            forward->guest_port == guest_port && forward->host_port != 0)
            return forward;
    }
    return NULL;
}
