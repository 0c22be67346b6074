/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manager-world.h"

#include <sys/stat.h>

void manager_world_make(ManagerWorld *world, unsigned max_concurrent_starts, const ManagerObserver *observer)
{
    ManagerSettings settings = {.n_directories = 1};
    HostConfig config = {.max_concurrent_starts = max_concurrent_starts};

    strcpy(world->directory, "/tmp/microvmd-test.XXXXXX");
    assert_non_null(mkdtemp(world->directory));
    assert_true(asprintf(&world->config, "%s/host.json", world->directory) > 0);
    assert_true(asprintf(&world->definitions, "%s/vms", world->directory) > 0);
    assert_true(asprintf(&world->kernel, "%s/vmlinuz", world->directory) > 0);
    assert_int_equal(mkdir(world->definitions, 0755), 0);
    assert_int_equal(write_file_atomic(world->kernel, "kernel", 6, 0644), 0);
    assert_int_equal(sd_event_new(&world->event), 0);
    settings.config_path = world->config;
    settings.directories[0] = world->definitions;
    settings.state_dir = settings.runtime_dir = world->directory;
    config.libvirt_uri = strdup("test:///default");
    assert_int_equal(manager_new(world->event, &settings, &config, observer, &world->manager), 0);
}

void manager_world_clear(ManagerWorld *world)
{
    manager_free(world->manager);
    sd_event_unref(world->event);
    remove_tree(world->directory);
    free(world->config);
    free(world->definitions);
    free(world->kernel);
}

char *manager_world_path(const ManagerWorld *world, const char *name)
{
    char *path;

    assert_true(asprintf(&path, "%s/%s.json", world->definitions, name) > 0);
    return path;
}

void manager_world_define(const ManagerWorld *world, const char *name, const char *text)
{
    _cleanup_free_ char *path = manager_world_path(world, name);

    if (text)
        assert_int_equal(write_file_atomic(path, text, strlen(text), 0644), 0);
    else
        assert_int_equal(unlink(path), 0);
}

size_t manager_world_reload(ManagerWorld *world)
{
    _cleanup_(reload_changes_clear)
    ReloadChanges changes = {0};
    _cleanup_free_ char *error = NULL;

    assert_int_equal(manager_reload(world->manager, &changes, &error), 0);
    return changes.count;
}
