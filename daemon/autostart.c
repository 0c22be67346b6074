/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --queue-autostart, for microvmd-autostart.service: early in the boot, asks systemd for the handles of the
 * microVMs that microvmd will start when it comes. It decides nothing: whether they start is for microvmd to
 * say. And it says nothing of what is wrong with definitions: that microvmd will, too.
 */
#include "options.h"

#include "base/log.h"
#include "base/strv.h"
#include "bus/handle.h"
#include "microvm/exit.h"

static int load(const ManagerSettings *settings, Definitions *ret_definitions)
{
    _cleanup_(host_config_clear)
    HostConfig config = {0};
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *refusal = NULL;
    Surroundings around = {.state_dir = settings->state_dir, .memory = host_memory()};
    HostVerdict verdict;
    int r;

    r = host_config_load(settings->config_path, &problems, &verdict, &refusal, &config);
    if (r < 0 || verdict != HOST_OK)
        return r;
    around.memory_reserve_mib = config.memory_reserve_mib;
    return definitions_load(settings->directories, settings->n_directories, &config.defaults, NULL, &around,
                            &problems, ret_definitions);
}

int autostart_list(const ManagerSettings *settings, char ***ret_names)
{
    _cleanup_(definitions_clear)
    Definitions definitions = {0};
    _cleanup_strv_ char **names = NULL;
    size_t n = 0;
    int r;

    r = manager_autostart_done(settings->runtime_dir);
    if (r == 0)
        r = load(settings, &definitions);
    if (r < 0)
        return r;
    names = calloc(definitions.count + 1, sizeof(*names));
    if (!names)
        return -ENOMEM;
    for (size_t i = 0; i < definitions.count; i++)
        if (definitions.items[i].spec && definitions.items[i].spec->autostart &&
            !(names[n++] = strdup(definitions.items[i].name)))
            return -ENOMEM;
    *ret_names = TAKE_PTR(names);
    return 0;
}

int autostart_queue(const Options *options)
{
    _cleanup_strv_ char **names = NULL;
    int r;

    r = autostart_list(&options->settings, &names);
    if (r >= 0 && names[0] && streq(options->bus, "system"))
        r = handles_queue(names);
    if (r < 0)
        log_warning_errno(r, "What is ordered after microVMs does not wait for them: %m");
    return MICROVM_EXIT_OK; /* no reason for a boot to be called degraded */
}
