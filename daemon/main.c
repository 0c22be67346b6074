/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvmd: arguments, guard, event loop. */
#include "base/log.h"
#include "base/schedule.h"
#include "bus/server.h"
#include "microvm/exit.h"
#include "microvm/names.h"
#include "options.h"

#include <signal.h>
#include <systemd/sd-daemon.h>

/* For "systemctl status" and microvmctl: the same words on one line, because a line end ends an assignment.
 */
static void notify_refusal(const char *refusal)
{
    _cleanup_free_ char *line = strdup(refusal);

    if (!line)
        return;
    for (char *c = line; *c; c++)
        if (*c == '\n')
            *c = ' ';
    sd_notifyf(0, "STATUS=%s", line);
}

/* The guard: a system is a host or a guest, never both. Nothing has been touched yet. */
static int guard(const Options *options, HostConfig *ret_config)
{
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *refusal = NULL, *warning = host_nixos_warning("");
    HostVerdict verdict;
    int r;

    r = host_config_load(options->settings.config_path, &problems, &verdict, &refusal, ret_config);
    if (r < 0) {
        log_error_errno(r, "Can't read the host configuration: %m");
        return MICROVM_EXIT_FAILURE;
    }
    if (warning)
        log_warning("%s", warning);
    if (verdict == HOST_OK)
        return MICROVM_EXIT_OK;
    log_error("%s\nand then: systemctl restart microvmd",
              refusal ? refusal : "This host must not run microvmd.");
    notify_refusal(refusal ? refusal : "This host must not run microvmd.");
    return MICROVM_EXIT_GUARD;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    _cleanup_(reload_changes_clear)
    ReloadChanges changes = {0};
    _cleanup_free_ char *error = NULL;

    manager_reload(userdata, &changes, &error); /* logs what is wrong */
    return 0;
}

static int add_signals(sd_event *event, Manager *manager)
{
    int r;

    r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGHUP, on_hangup, manager);
    return r;
}

/* Before the first thread is there, so that all of them inherit it: signals belong to the event loop. */
static void block_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int run(const Options *options, HostConfig *config)
{
    _cleanup_(sd_event_unrefp)
    sd_event *event = NULL;
    _cleanup_(bus_server_freep)
    BusServer *server = NULL;
    _cleanup_(manager_freep)
    Manager *manager = NULL;
    ManagerObserver observer;
    int r;

    r = schedule_promptly();
    if (r < 0)
        log_full(LOG_DEBUG, NULL, r, "Not scheduled before other programs: %m");
    r = sd_event_default(&event);
    if (r < 0)
        return log_error_errno(r, "Can't make an event loop: %m");
    r = bus_server_new(event, options->bus, &server);
    if (r < 0)
        return log_error_errno(r, "Can't connect to the bus (--bus %s): %m", options->bus);
    observer = bus_server_observer(server);
    r = manager_new(event, &options->settings, config, &observer, &manager);
    if (r < 0)
        return log_error_errno(r, "Can't set up: %m");
    r = bus_server_publish(server, manager);
    if (r == -EEXIST)
        return log_error_errno(r, "Another microvmd runs on this bus already.");
    if (r < 0)
        return log_error_errno(r, "Can't publish on the bus: %m");
    r = add_signals(event, manager);
    if (r >= 0)
        r = sd_event_set_watchdog(event, true);
    if (r >= 0)
        r = manager_start(manager);
    if (r < 0)
        return log_error_errno(r, "Can't start: %m");
    r = bus_server_open_handles(server, sd_booted() > 0 && streq(options->bus, "system"));
    if (r < 0)
        log_warning_errno(r, "There are no units %s*.service now: %m", MICROVM_HANDLE_PREFIX);

    r = sd_event_loop(event);
    sd_notify(0, "STOPPING=1\nSTATUS=Stopping; microVMs go on running.");
    bus_server_flush(server);
    if (r > 0) /* sd-bus ends the loop so: a failure, for systemd to start us again */
        return log_error_errno(-ECONNRESET, "The bus is gone: %m. microVMs go on running.");
    return r < 0 ? log_error_errno(r, "The event loop failed: %m") : 0;
}

int main(int argc, char *argv[])
{
    _cleanup_(host_config_clear)
    HostConfig config = {0};
    Options options;
    int code;

    log_setup();
    if (options_parse(argc, argv, &options) < 0)
        return MICROVM_EXIT_USAGE;
    if (options.mode == MODE_DONE)
        return MICROVM_EXIT_OK;
    if (options.mode == MODE_CHECK)
        return check_run(&options);
    if (options.mode == MODE_QUEUE_AUTOSTART)
        return autostart_queue(&options);
    if (options.mode == MODE_SCHEMA)
        return schema_print(options.schema);
    code = guard(&options, &config);
    if (code != MICROVM_EXIT_OK)
        return code;
    block_signals();
    return run(&options, &config) < 0 ? MICROVM_EXIT_FAILURE : MICROVM_EXIT_OK;
}
