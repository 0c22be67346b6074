/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The definitions in tests/golden/HYPERVISOR, which recipes are tried with; after cmocka.h. */
#ifndef TEST_RECIPE_CASES_H
#define TEST_RECIPE_CASES_H

#include "base/file.h"
#include "driver/direct/recipe.h"
#include "plan/prepare.h"

#include <dirent.h>

typedef struct Case {
    VmSpec *spec;
    char *cmdline;
    char *credentials[8];
    StartRequest request;
} Case;

/* Reads the definition as that of "web". */
static void case_load(Case *c, const char *path)
{
    SpecContext context = {.driver = DRIVER_KIND_LIBVIRT, .accel = ACCEL_TCG};
    _cleanup_problems_ ProblemList problems = {0};

    _cleanup_free_ char *text = NULL;
    size_t size;

    *c = (Case){0};
    assert_int_equal(read_file(path, 1 << 20, &text, &size), 0);
    if (vm_spec_parse("web", path, text, size, &context, &problems, &c->spec) < 0)
        fail_msg("%s: %s", path, problems.count > 0 ? problems.items[0].text : "no definition");
    c->cmdline = kernel_command_line(c->spec, 0);
    assert_non_null(c->cmdline);
    assert_in_range(c->spec->n_credentials, 0, ELEMENTSOF(c->credentials));
    for (size_t i = 0; i < c->spec->n_credentials; i++)
        assert_true(asprintf(&c->credentials[i], "/run/microvmd/vm/web/credential.%s",
                             c->spec->credentials[i].name) > 0);
    c->request = (StartRequest){.spec = c->spec,
                                .accel = c->spec->accel,
                                .kernel = c->spec->kernel ? "/run/microvmd/vm/web/kernel" : NULL,
                                .initrd = c->spec->initrd ? "/run/microvmd/vm/web/initrd" : NULL,
                                .cmdline = c->cmdline,
                                .credentials = c->credentials,
                                .console_log = "/var/lib/microvmd/vm/web/console.log",
                                .state_dir = "/var/lib/microvmd/vm/web"};
    if (vm_spec_wants_notify(c->spec)) {
        c->request.notify_socket = "/run/microvmd/vm/web/notify.sock";
        c->request.notify_vsock_port = 28022;
    }
}

static void case_clear(Case *c)
{
    for (size_t i = 0; i < ELEMENTSOF(c->credentials); i++)
        free(c->credentials[i]);
    free(c->cmdline);
    vm_spec_unref(c->spec);
}

/* Calls `each` with the path of every definition in `directory`; returns how many there are. */
static size_t cases_each(const char *directory, void (*each)(const char *path, void *userdata),
                         void *userdata)
{
    DIR *stream = opendir(directory);
    const struct dirent *entry;
    size_t n = 0;

    assert_non_null(stream);
    while ((entry = readdir(stream))) {
        const char *end = strrchr(entry->d_name, '.');
        _cleanup_free_ char *path = NULL;
        if (!streq(end, ".json"))
            continue;
        assert_true(asprintf(&path, "%s/%s", directory, entry->d_name) > 0);
        each(path, userdata);
        n++;
    }
    closedir(stream);
    return n;
}

#endif
