/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A start: what the hypervisor is given is opened and the process launched by a worker; then it is watched.
 */
#include "driver/direct/internal.h"

#include "base/fault.h"
#include "base/say.h"
#include "base/strv.h"
#include "launch/uid.h"

#include <fcntl.h>
#include <signal.h>

typedef struct Start Start;
struct Start {
    DirectDriver *driver; /* touched by the loop only */
    char *name;
    sd_id128_t generation;
    Accel accel;
    VmSpec *spec;
    char *state_dir, *runtime_dir, *uid_dir, *console_log;
    SandboxHost host;
    char **owned;                /* private copies, which become the hypervisor's; ends with NULL */
    const char *kernel, *initrd; /* among them; NULL: none */
    uid_t first_uid;
    Launcher launcher;
    Command command;
    /* what comes of it */
    int error;
    char *text;
    Launched launched;
    int pidfd, control, own_socket;
};

void direct_start_free(void *argument)
{
    Start *start = argument;

    if (!start)
        return;
    for (size_t i = 0; start->owned && start->owned[i]; i++)
        free(start->owned[i]);
    free(start->owned);
    vm_spec_unref(start->spec);
    command_clear(&start->command);
    sandbox_host_clear(&start->host);
    safe_close(start->pidfd);
    safe_close(start->control);
    safe_close(start->own_socket);
    free(start->name);
    free(start->state_dir);
    free(start->runtime_dir);
    free(start->uid_dir);
    free(start->console_log);
    free(start->text);
    free(start);
}

/* --- in the worker --- */

static int open_volume(Start *start, size_t index)
{
    return (recipe_find(start->spec->hypervisor)->opens_images ? image_open_own : image_open)(
        &start->spec->volumes[index], start->state_dir, &start->text);
}

static int open_boot_file(Start *start, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    return fd < 0 ? say_why(&start->text, -errno, "%s can't be opened: %s", path, strerror(errno)) : fd;
}

static int open_socket(Start *start, const char *name)
{
    int fd = -EBADF, r = socket_listen(start->runtime_dir, name, &fd);

    return r < 0 ? say_why(&start->text, r, "its socket %s/%s can't be made: %s", start->runtime_dir, name,
                           strerror(-r))
                 : fd;
}

/* Opened here, so that its hypervisor, which has no right to, need not. */
static int open_vsock(Start *start)
{
    int fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);

    return fd < 0 ? say_why(&start->text, -errno,
                            "\"vsock\": /dev/vhost-vsock can't be opened: %s; load the module vhost_vsock "
                            "(modprobe vhost_vsock), or remove the key",
                            strerror(errno))
                  : fd;
}

static int open_descriptor(Start *start, const Descriptor *descriptor)
{
    switch (descriptor->kind) {
    case DESCRIPTOR_CONTROL:
        return open_socket(start, CONTROL_SOCKET);
    case DESCRIPTOR_CONSOLE:
        return open_socket(start, CONSOLE_SOCKET);
    case DESCRIPTOR_NOTIFY:
        return open_socket(start, NOTIFY_SOCKET);
    case DESCRIPTOR_AGENT:
        return open_socket(start, AGENT_SOCKET);
    case DESCRIPTOR_VSOCK:
        return open_vsock(start);
    case DESCRIPTOR_KERNEL:
        return open_boot_file(start, start->kernel);
    case DESCRIPTOR_INITRD:
        return open_boot_file(start, start->initrd);
    case DESCRIPTOR_VOLUME:
        return open_volume(start, descriptor->index);
    default:
        return -EOPNOTSUPP;
    }
}

/* Something at its path that we have not made is the user's. */
static int make_own_socket(Start *start)
{
    const char *wanted = start->spec->socket;
    _cleanup_free_ char *path = NULL;
    int r;

    if (!wanted)
        return 0;
    path = wanted[0] == '/' ? strdup(wanted) : say("%s/%s", start->state_dir, wanted);
    r = path ? own_socket_choose(start->runtime_dir, path) : -ENOMEM;
    if (r >= 0)
        r = own_socket_listen(start->runtime_dir, &start->own_socket);
    if (r == -EEXIST)
        return say_why(&start->text, r, "\"socket\": there is a file already at %s; remove it", path);
    if (r == -EADDRINUSE)
        return say_why(&start->text, r, "\"socket\": somebody listens at %s already", path);
    return r < 0 ? say_why(&start->text, r, "\"socket\": %s can't be made: %s", path ? path : wanted,
                           strerror(-r))
                 : 0;
}

/* A log that the hypervisor appends to. Nobody else may have put something in its place: O_NOFOLLOW. */
static int open_log(Start *start, const char *path, int flags, uid_t uid)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | flags, 0600);

    if (fd < 0 || (uid != 0 && fchown(fd, uid, uid) < 0)) {
        int error = -errno;
        safe_close(fd);
        return say_why(&start->text, error, "%s can't be written to: %s", path, strerror(-error));
    }
    return fd;
}

/* The hypervisor's own user may read what was copied for it alone. */
static int give_away(Start *start, uid_t uid)
{
    for (size_t i = 0; start->owned[i] && uid != 0; i++)
        if (lchown(start->owned[i], uid, uid) < 0)
            return say_why(&start->text, -errno, "%s can't be given to the hypervisor: %s", start->owned[i],
                           strerror(errno));
    return 0;
}

static int give_images(Start *start, const int *fds, uid_t uid)
{
    int r = 0;

    for (size_t i = 0; i < start->command.n_descriptors && uid != 0 && r >= 0; i++) {
        const Descriptor *descriptor = &start->command.descriptors[i];
        if (descriptor->kind == DESCRIPTOR_VOLUME)
            r = image_give(&start->spec->volumes[descriptor->index], fds[i], uid, &start->text);
    }
    return r;
}

static int put_on_record(const Launched *launched, void *userdata)
{
    Start *start = userdata;

    return process_record_write(
        start->runtime_dir,
        &(ProcessRecord){.hypervisor = start->spec->hypervisor,
                         .stop = start->spec->n_command_stop > 0 ? start->spec->command_stop : NULL,
                         .ready = direct_asks_ready(recipe_find(start->spec->hypervisor), start->spec)
                                      ? start->spec->command_ready
                                      : NULL,
                         .silent = recipe_find(start->spec->hypervisor)->qmp,
                         .launched = *launched,
                         .generation = start->generation,
                         .accel = start->accel});
}

/* It listens already, though nobody serves it yet. */
/* The record goes before the unit: see the end of a run. */
static void undo_launch(Start *start, const LaunchRequest *request)
{
    process_kill(start->pidfd);
    direct_run_files_remove(start->runtime_dir);
    launch_undo(request, &start->launched);
    start->pidfd = safe_close(start->pidfd);
}

static int connect_control(Start *start, const LaunchRequest *request)
{
    int r = socket_connect(start->runtime_dir, CONTROL_SOCKET, &start->control);

    if (r >= 0)
        return r;
    undo_launch(start, request);
    return say_why(&start->text, r, "its control socket in %s can't be connected to: %s", start->runtime_dir,
                   strerror(-r));
}

static int launch(Start *start, const int *fds, uid_t uid)
{
    const Recipe *recipe = recipe_find(start->spec->hypervisor);
    _cleanup_free_ char *output_path = NULL;
    _cleanup_close_ int output = -EBADF, console = -EBADF;
    _cleanup_unit_settings_ UnitSettings settings = {0};
    SandboxRequest sandbox = {.spec = start->spec,
                              .accel = start->accel,
                              .uid = uid,
                              .host = &start->host,
                              .program = start->command.argv[0],
                              .runtime_dir = start->runtime_dir,
                              .console_log = start->console_log};
    LaunchRequest request;
    int r;

    if (asprintf(&output_path, "%s/" OUTPUT_FILE, start->state_dir) < 0)
        return -ENOMEM;
    output = open_log(start, output_path, O_TRUNC, 0);
    if (output < 0)
        return output;
    console = open_log(start, start->console_log, 0, uid);
    if (console < 0)
        return console;
    r = start->launcher == LAUNCHER_SYSTEMD ? sandbox_settings(&sandbox, &settings) : 0;
    if (r < 0)
        return r;
    command_mark(&start->command, start->runtime_dir, start->generation);
    if (start->command.oom)
        return -ENOMEM;
    request = (LaunchRequest){.launcher = start->launcher,
                              .helper = start->host.helper,
                              .name = start->name,
                              .generation = start->generation,
                              .stop_usec = start->spec->stop_timeout_usec,
                              .argv = start->command.argv,
                              .environment = start->command.environment,
                              .fds = fds,
                              .n_fds = start->command.n_descriptors,
                              .output = recipe->prints_console ? console : output,
                              .uid = uid,
                              .gid = uid,
                              .extra_gid = sandbox_needs_kvm_group(&sandbox) ? start->host.kvm_group : uid,
                              .settings = &settings};
    r = launch_process(&request, put_on_record, start, &start->launched, &start->pidfd, &start->text);
    fault_point("after the launch");
    if (r >= 0 && recipe->qmp)
        r = connect_control(start, &request);
    if (r < 0 && start->text)
        return r;
    return r < 0 ? say_why(&start->text, r, "%s can't be executed: %s", start->command.argv[0], strerror(-r))
                 : 0;
}

/* What there is to be known ahead of a start. */
static int know_places(Start *start)
{
    const char *path = getenv("PATH");

    if (start->command.argv[0][0] != '/')
        return say_why(&start->text, -ENOENT, "%s is not installed: it is in no directory of $PATH (%s)",
                       start->command.argv[0], path ? path : "");
    return start->host.helper ? 0 : sandbox_host_look(&start->host, &start->text);
}

static int open_and_launch(Start *start, int *fds)
{
    uid_t uid = 0;
    int r = know_places(start);

    if (r < 0)
        return r;
    if (geteuid() == 0) {
        r = uid_allot(start->uid_dir, start->name, start->first_uid, &uid);
        if (r < 0)
            return say_why(&start->text, r, "there is no user for its hypervisor in %s: %s", start->uid_dir,
                           strerror(-r));
    }
    for (size_t i = 0; i < start->command.n_descriptors; i++)
        fds[i] = -EBADF;
    for (size_t i = 0; i < start->command.n_descriptors && r >= 0; i++) {
        fault_point("before a descriptor is opened");
        r = fds[i] = open_descriptor(start, &start->command.descriptors[i]);
    }
    fault_point("before files are given away");
    if (r >= 0)
        r = make_own_socket(start);
    if (r >= 0)
        r = give_away(start, uid);
    if (r >= 0 && recipe_find(start->spec->hypervisor)->opens_images)
        r = give_images(start, fds, uid);
    if (r >= 0)
        r = launch(start, fds, uid);
    for (size_t i = 0; i < start->command.n_descriptors; i++)
        safe_close(fds[i]);
    return r;
}

static void start_run(void *argument)
{
    Start *start = argument;
    _cleanup_free_ int *fds = calloc(start->command.n_descriptors + 1, sizeof(*fds));

    start->error = fds ? open_and_launch(start, fds) : -ENOMEM;
    if (start->error < 0)
        start->own_socket = safe_close(start->own_socket);
    if (start->error < 0)
        direct_run_files_remove(start->runtime_dir);
}

/* Of one that was launched. */
static void undo_run(void *argument)
{
    Start *start = argument;

    undo_launch(
        start,
        &(LaunchRequest){.launcher = start->launcher, .name = start->name, .generation = start->generation});
}

/* --- on the loop --- */

/* Nothing is left of it by then (but where there was no memory for a worker). */
static void tell_failure(void *argument)
{
    Start *start = argument;
    Run *run = direct_run_find(start->driver, start->name, start->generation);

    direct_look_again(start->driver);
    direct_run_say(run, (DriverEvent){.type = DRIVER_START_FAILED,
                                      .error = start->error,
                                      .argv = run->argv,
                                      .text = start->text ? start->text : strerror(-start->error)});
    direct_run_free(run);
    direct_start_free(start);
}

/* Its end may take long: it is waited for where that holds nobody up. */
static int take_back(Start *start, Run *run)
{
    (void)direct_run_signal(run, SIGKILL);
    direct_run_leave(run);
    start->pidfd = TAKE_FD(run->pidfd);
    return workers_submit(start->driver->workers, &(Work){undo_run, tell_failure, direct_start_free, start});
}

static void start_done(void *argument)
{
    Start *start = argument;
    Run *run = direct_run_find(start->driver, start->name, start->generation);

    run->id = start->launched.id;
    run->invocation = start->launched.invocation;
    run->pidfd = TAKE_FD(start->pidfd);
    run->own_socket = TAKE_FD(start->own_socket);
    strv_free(run->argv);
    run->argv = TAKE_PTR(start->command.argv);
    start->command.n_arguments = 0;
    if (start->error < 0) {
        tell_failure(start);
        return;
    }
    if (!start->driver->host.helper) {
        sandbox_host_clear(&start->driver->host);
        start->driver->host = start->host;
        start->host = (SandboxHost){0};
    }
    start->error = direct_run_watch(run, TAKE_FD(start->control));
    if (start->error >= 0) {
        if (run->forced) /* it was to end before it had begun */
            (void)direct_run_signal(run, SIGKILL);
        direct_start_free(start);
    } else if (take_back(start, run) < 0) {
        tell_failure(start);
    }
}

static int copy_request(Start *start, const StartRequest *request)
{
    size_t n = 0;

    start->owned = calloc(request->spec->n_credentials + 3, sizeof(*start->owned));
    start->name = strdup(request->spec->name);
    start->state_dir = strdup(request->state_dir);
    start->console_log = strdup(request->console_log);
    start->uid_dir = strdup(start->driver->uid_dir);
    if (!start->owned || !start->name || !start->state_dir || !start->console_log || !start->uid_dir ||
        asprintf(&start->runtime_dir, "%s/vm/%s", start->driver->runtime_dir, start->name) < 0 ||
        sandbox_host_copy(&start->driver->host, &start->host) < 0)
        return -ENOMEM;
    if (request->kernel && !(start->kernel = start->owned[n++] = strdup(request->kernel)))
        return -ENOMEM;
    if (request->initrd && !(start->initrd = start->owned[n++] = strdup(request->initrd)))
        return -ENOMEM;
    for (size_t i = 0; i < request->spec->n_credentials; i++)
        if (!(start->owned[n++] = strdup(request->credentials[i])))
            return -ENOMEM;
    return 0;
}

/* What executes it looks nowhere. */
static int set_program(Start *start, const char *name)
{
    const char *path = name ? programs_find(start->driver->programs, name) : NULL;

    return path ? free_and_strdup(&start->command.argv[0], path) : 0;
}

static int start_new(Run *run, const StartRequest *request, Start **ret_start)
{
    const Recipe *recipe = recipe_find(request->spec->hypervisor);
    Start *start = calloc(1, sizeof(*start));
    int r;

    if (!start || !recipe) {
        free(start);
        return recipe ? -ENOMEM : -EOPNOTSUPP;
    }
    start->driver = run->driver;
    start->generation = request->generation;
    start->accel = request->accel;
    start->spec = vm_spec_ref(request->spec);
    start->first_uid = run->driver->first_uid;
    start->launcher = run->driver->launcher;
    start->pidfd = start->control = start->own_socket = -EBADF;
    r = copy_request(start, request);
    if (r >= 0)
        r = recipe->render(request, &start->command);
    if (r >= 0 && (start->command.oom || set_program(start, recipe->program) < 0))
        r = -ENOMEM;
    if (r < 0) {
        direct_start_free(start);
        return r;
    }
    *ret_start = start;
    return 0;
}

static int submit(Run *run, Start *start)
{
    int r = workers_submit(run->driver->workers, &(Work){start_run, start_done, direct_start_free, start});

    if (r < 0)
        direct_start_free(start);
    return r;
}

int direct_start(Run *run, const StartRequest *request)
{
    StartRequest second = *request;
    Start *start = NULL;
    int r = start_new(run, request, &start);

    /* There are hosts whose KVM refuses what "-cpu host" asks for (MSR 0x10a); QEMU then aborts at once. */
    second.no_arch_capabilities = true;
    if (r >= 0 && start->command.arch_capabilities)
        r = start_new(run, &second, &run->retry);
    if (r >= 0)
        return submit(run, start);
    direct_start_free(start);
    return r;
}

int direct_start_again(Run *run)
{
    return submit(run, TAKE_PTR(run->retry));
}
