/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The methods of a microVM's object. */
#include "bus/server.h"

#include "base/utf8.h"
#include "microvm/names.h"
#include "resource/console-log.h"
#include "supervise/log-stream.h"

#include <signal.h>

static int reply_job(sd_bus_message *message, int r, uint64_t job, const char *text, sd_bus_error *error)
{
    return r < 0 ? bus_error_set(error, r, text) : sd_bus_reply_method_return(message, "t", job);
}

/* What a start is to be waited for: the option "wait". */
static int read_wait(MicroVM *vm, const char *wait, MicrovmJobVerb verb, bool *ret_ready, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    int r;

    *ret_ready = streq(wait, "ready");
    if (!*ret_ready && !streq(wait, "running"))
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                "Option \"wait\" is \"running\" or \"ready\".");
    r = *ret_ready ? vm_may_wait_ready(vm, verb, &text) : 0;
    return r < 0 ? bus_error_set(error, r, text) : 0;
}

static int method_start(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    const char *wait = "running";
    const BusOption options[] = {{"wait", 's', &wait}};
    uint64_t job = 0;
    bool ready;
    int r;

    r = bus_read_options(message, options, ELEMENTSOF(options), error);
    if (r >= 0)
        r = read_wait(vm, wait, MICROVM_JOB_START, &ready, error);
    if (r < 0)
        return r;
    r = state_is_up(vm->record.state) && !vm->record.stop_held
            ? 0
            : manager_may_start(server->manager, vm, &text);
    if (r >= 0)
        r = vm_request_start(vm, &job, &text);
    if (r >= 0 && ready)
        job = vm_wait_ready(vm, MICROVM_JOB_START);
    return reply_job(message, r, job, text, error);
}

static int method_stop(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_(stop_jobs_clear)
    StopJobs jobs = {0};
    _cleanup_free_ char *text = NULL;
    MicrovmDependents dependents;
    StopOptions stop;
    bool host_shutdown;
    int r;

    r = bus_read_stop(message, &stop, &dependents, &host_shutdown, error);
    if (r < 0)
        return r;
    if (host_shutdown)
        bus_note_shutdown(server);
    r = manager_stop(server->manager, &vm, 1, &stop, dependents, &jobs, &text);
    if (r >= 0 && jobs.items[0].job == 0)
        r = -EHOSTDOWN;
    return reply_job(message, r, r < 0 ? 0 : jobs.items[0].job,
                     text         ? text
                     : jobs.items ? jobs.items[0].error
                                  : NULL,
                     error);
}

static int method_restart(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    StopOptions stop = {.timeout_usec = UINT64_MAX};
    const char *wait = "running";
    const BusOption options[] = {
        {"force", 'b', &stop.force},
        {"timeout", 't', &stop.timeout_usec},
        {"wait", 's', &wait},
    };
    uint64_t job = 0;
    bool ready;
    int r;

    r = bus_read_options(message, options, ELEMENTSOF(options), error);
    if (r >= 0)
        r = read_wait(vm, wait, MICROVM_JOB_RESTART, &ready, error);
    if (r < 0)
        return r;
    r = manager_may_start(server->manager, vm, &text);
    if (r >= 0)
        r = vm_request_restart(vm, &stop, &job, &text);
    if (r >= 0 && ready)
        job = vm_wait_ready(vm, MICROVM_JOB_RESTART);
    return reply_job(message, r, job, text, error);
}

static int method_kill(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    int32_t signal;
    int r;

    r = sd_bus_message_read(message, "i", &signal);
    if (r < 0)
        return r;
    if (signal < 1 || signal > SIGRTMAX)
        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "There is no signal %d.", signal);
    r = vm_request_kill(vm, signal, &text);
    return r < 0 ? bus_error_set(error, r, text) : sd_bus_reply_method_return(message, NULL);
}

/* The call is answered when it is done: the guest is paused, say. */
static void on_done(int result, const char *text, void *userdata)
{
    sd_bus_message *message = userdata;
    sd_bus_error error = SD_BUS_ERROR_NULL;

    if (result < 0) {
        bus_error_set(&error, result, text);
        sd_bus_reply_method_error(message, &error);
    } else {
        sd_bus_reply_method_return(message, NULL);
    }
    sd_bus_error_free(&error);
    sd_bus_message_unref(message);
}

static int set_paused(sd_bus_message *message, MicroVM *vm, bool pause, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    int r;

    r = bus_read_options(message, NULL, 0, error);
    if (r < 0)
        return r;
    sd_bus_message_ref(message);
    r = vm_request_pause(vm, pause, on_done, message, &text);
    if (r < 0) {
        sd_bus_message_unref(message);
        return bus_error_set(error, r, text);
    }
    return 1;
}

static int method_pause(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    return set_paused(message, vm, true, error);
}

static int method_resume(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    return set_paused(message, vm, false, error);
}

static int method_set_memory(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    uint64_t bytes;
    int r;

    r = sd_bus_message_read(message, "t", &bytes);
    if (r < 0)
        return r;
    sd_bus_message_ref(message);
    r = vm_request_memory(vm, bytes, on_done, message, &text);
    if (r >= 0)
        return 1;
    sd_bus_message_unref(message);
    return r == -ERANGE ? sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, text)
                        : bus_error_set(error, r, text);
}

static int method_reset_failed(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    vm_request_reset_failed(vm);
    return sd_bus_reply_method_return(message, NULL);
}

/* One more stream for who calls; it is given back when that ends. */
static int take_stream(BusServer *server, sd_bus_message *message, QuotaUser **ret_caller,
                       sd_bus_error *error)
{
    uid_t uid = bus_caller(server, message).uid;
    int r = quota_take(&server->streams, uid, ret_caller);

    return r == -EDQUOT ? sd_bus_error_setf(
                              error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                              "The user %u has %u consoles and console logs open, which is the most that "
                              "one can have: close some of them first.",
                              (unsigned)uid, server->streams.most)
                        : r;
}

static int method_open_console(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_(quota_give_backp)
    QuotaUser *caller = NULL;
    _cleanup_free_ char *text = NULL;
    _cleanup_close_ int fd = -EBADF;
    ConsoleOptions console = {0};
    const BusOption options[] = {
        {"read-only", 'b', &console.read_only},
        {"take-over", 'b', &console.take_over},
        {"lines", 't', &console.lines},
    };
    int r;

    r = bus_read_options(message, options, ELEMENTSOF(options), error);
    if (r < 0)
        return r;
    if (console.read_only && console.take_over)
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                "Options \"read-only\" and \"take-over\" exclude each other.");
    r = take_stream(server, message, &caller, error);
    if (r < 0)
        return r;
    r = vm_open_console(vm, &console, caller, &fd, &text);
    if (r < 0)
        return bus_error_set(error, r, text);
    TAKE_PTR(caller);
    return sd_bus_reply_method_return(message, "h", fd);
}

static int method_open_log(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    LogFollowOptions log = {.lines = UINT64_MAX};
    int32_t boot = 0;
    const BusOption options[] = {
        {"boot", 'i', &boot}, {"lines", 't', &log.lines}, {"follow", 'b', &log.follow}};
    _cleanup_(quota_give_backp)
    QuotaUser *caller = NULL;
    _cleanup_close_ int fd = -EBADF;
    int r;

    r = bus_read_options(message, options, ELEMENTSOF(options), error);
    if (r < 0)
        return r;
    if (boot > 0)
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                "Option \"boot\" is 0 (this boot, or the last one), -1 (the one before)...");
    log.boot = (unsigned)-boot;
    r = take_stream(server, message, &caller, error);
    if (r < 0)
        return r;
    r = log_stream_new(server->event, vm->state_dir, &log, caller, &fd);
    if (r == -ENOENT && boot == 0)
        return sd_bus_error_setf(error, SD_BUS_ERROR_FILE_NOT_FOUND, "%s has no console log yet.", vm->name);
    if (r == -ENOENT)
        return sd_bus_error_setf(
            error, SD_BUS_ERROR_FILE_NOT_FOUND,
            "There is no console log of boot %d of %s; those of %u boots are kept, the present "
            "one included.",
            boot, vm->name, CONSOLE_LOG_BOOTS);
    if (r < 0)
        return r;
    TAKE_PTR(caller);
    return sd_bus_reply_method_return(message, "h", fd);
}

/* The files that make the definition up, as they are now; an error, if there is none any more. */
static int find_definition(BusServer *server, const MicroVM *vm, ProblemList *problems, LayerFiles *ret_files,
                           sd_bus_error *error)
{
    const Manager *manager = server->manager;
    int r = definition_find(manager->settings.directories, manager->settings.n_directories, vm->name,
                            &manager->config.defaults, problems, ret_files);

    return r == -ENOENT ? sd_bus_error_setf(error, SD_BUS_ERROR_FILE_NOT_FOUND,
                                            "There is no definition of %s any more.", vm->name)
                        : r;
}

static int reply_origins(BusServer *server, sd_bus_message *message, const MicroVM *vm, sd_bus_error *error)
{
    _cleanup_(layer_files_clear)
    LayerFiles files = {0};
    _cleanup_problems_ ProblemList problems = {0};
    _cleanup_free_ char *json = NULL, *problem = NULL;
    int r;

    r = find_definition(server, vm, &problems, &files, error);
    if (r >= 0)
        r = definition_origins(vm->name, &files, &problems, &json);
    if (r == -EBADMSG && problems.count > 0)
        problem = problem_format(&problems.items[0]);
    if (r == -EBADMSG || r == -ESTALE)
        return bus_error_set(error, -EBADMSG, problem);
    return r < 0 ? r : sd_bus_reply_method_return(message, "s", json);
}

static int method_get_definition(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    const VmSpec *spec = vm->spec ? vm->spec : vm->booted;
    bool origins = false;
    const BusOption options[] = {{"origins", 'b', &origins}};
    int r;

    r = bus_read_options(message, options, ELEMENTSOF(options), error);
    if (r < 0)
        return r;
    if (origins)
        return reply_origins(server, message, vm, error);
    if (!spec)
        return bus_error_set(error, -EBADMSG, vm->definition_error);
    text = vm_spec_to_json(spec);
    return text ? sd_bus_reply_method_return(message, "s", text) : -ENOMEM;
}

/* What D-Bus takes for a string. */
static bool is_text(const char *text, size_t size)
{
    for (size_t at = 0, length; at < size; at += length)
        if (text[at] == '\0' || (length = utf8_sequence(text + at, size - at)) == 0)
            return false;
    return true;
}

/* A file that can't be shown is in the list all the same: its content says why. */
static int append_file(sd_bus_message *reply, const void *items, size_t index)
{
    const char *path = ((const LayerFile *)items)[index].path;
    _cleanup_free_ char *text = NULL, *shown = NULL;
    size_t size;
    int r = read_file(path, SPEC_FILE_MAX, &text, &size);

    if (r == -ENOMEM)
        return r;
    if (r < 0 && asprintf(&shown, "// The file can't be read: %s.\n", read_file_problem(r)) < 0)
        return -ENOMEM;
    if (r >= 0 && !is_text(text, size) && !(shown = strdup("// The file is no text in UTF-8.\n")))
        return -ENOMEM;
    return sd_bus_message_append(reply, "(ss)", path, shown ? shown : text);
}

static int method_cat(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_(layer_files_clear)
    LayerFiles files = {0};
    _cleanup_problems_ ProblemList problems = {0};
    int r;

    r = bus_read_options(message, NULL, 0, error);
    if (r >= 0)
        r = find_definition(server, vm, &problems, &files, error);
    return r < 0 ? r : bus_reply_list(message, "(ss)", files.count, append_file, files.items);
}

const BusMethod bus_vm_methods[] = {
    {"Start", MICROVM_POLKIT_MANAGE, method_start},
    {"Stop", MICROVM_POLKIT_MANAGE, method_stop},
    {"Restart", MICROVM_POLKIT_MANAGE, method_restart},
    {"Kill", MICROVM_POLKIT_MANAGE, method_kill},
    {"Pause", MICROVM_POLKIT_MANAGE, method_pause},
    {"Resume", MICROVM_POLKIT_MANAGE, method_resume},
    {"SetMemory", MICROVM_POLKIT_MANAGE, method_set_memory},
    {"ResetFailed", MICROVM_POLKIT_MANAGE, method_reset_failed},
    {"OpenConsole", MICROVM_POLKIT_CONSOLE, method_open_console},
    {"OpenLog", MICROVM_POLKIT_CONSOLE, method_open_log},
    {"GetDefinition", MICROVM_POLKIT_INSPECT, method_get_definition},
    {"Cat", MICROVM_POLKIT_INSPECT, method_cat},
    {"ForgetVolume", MICROVM_POLKIT_MANAGE, bus_method_forget_volume},
    {"ListFiles", MICROVM_POLKIT_INSPECT, bus_method_list_files},
    {"Qmp", MICROVM_POLKIT_INSPECT, bus_method_qmp},
    {"ListCrashes", MICROVM_POLKIT_CONSOLE, bus_method_list_crashes},
    {"GetCrash", MICROVM_POLKIT_CONSOLE, bus_method_get_crash},
};

const size_t bus_n_vm_methods = ELEMENTSOF(bus_vm_methods);
