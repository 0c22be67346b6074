/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which handles systemctl has enabled: links to their template, in directories beside the units
 * (systemd.unit(5)). */
#include "bus/handle.h"

#include "base/log.h"
#include "microvm/names.h"

#include <dirent.h>

static const char *const unit_directories[] = {"/etc/systemd/system", "/run/systemd/system"};

/* The microVM whose handle a link is; NULL: none. */
static MicroVM *find(Manager *manager, const char *link)
{
    static const char suffix[] = ".service";
    _cleanup_free_ char *name = NULL;

    if (strncmp(link, MICROVM_HANDLE_PREFIX, strlen(MICROVM_HANDLE_PREFIX)) != 0 || !has_suffix(link, suffix))
        return NULL;
    link += strlen(MICROVM_HANDLE_PREFIX);
    name = strndup(link, strlen(link) - strlen(suffix));
    return name ? manager_find(manager, name) : NULL;
}

static void find_in(Manager *manager, const char *directory, bool *enabled)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;

    while (stream && (entry = readdir(stream))) {
        MicroVM *vm = find(manager, entry->d_name);
        for (size_t i = 0; vm && i < manager->n_vms; i++)
            enabled[i] |= manager->vms[i] == vm;
    }
    if (stream)
        closedir(stream);
}

static void find_below(Manager *manager, const char *directory, bool *enabled)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;

    while (stream && (entry = readdir(stream))) {
        _cleanup_free_ char *path = NULL;
        if (!has_suffix(entry->d_name, ".wants") && !has_suffix(entry->d_name, ".requires"))
            continue;
        if (asprintf(&path, "%s/%s", directory, entry->d_name) >= 0)
            find_in(manager, path, enabled);
    }
    if (stream)
        closedir(stream);
}

void handles_find_enabled(Manager *manager, const char *root)
{
    _cleanup_free_ bool *enabled = calloc(manager->n_vms + 1, sizeof(*enabled));

    if (!enabled) {
        log_oom();
        return;
    }
    for (size_t i = 0; i < ELEMENTSOF(unit_directories); i++) {
        _cleanup_free_ char *directory = NULL;
        if (asprintf(&directory, "%s%s", root, unit_directories[i]) >= 0)
            find_below(manager, directory, enabled);
    }
    for (size_t i = 0; i < manager->n_vms; i++)
        vm_set_enabled(manager->vms[i], enabled[i]);
}
