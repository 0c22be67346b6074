/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The engine of all hypervisors that microvmd runs itself: its operations, and what it keeps of each run. */
#include "driver/direct/internal.h"

#include "base/clock.h"
#include "base/say.h"

enum {
    THREADS = 4,
};
#define GRACE_USEC UINT64_C(2000000)

static DirectDriver *of(Driver *driver)
{
    return (DirectDriver *)driver;
}

void direct_say(DirectDriver *driver, const DriverEvent *event)
{
    driver->handler(&driver->driver, event, driver->userdata);
}

/* --- recipes --- */

static const Recipe *const recipes[] = {&recipe_qemu, &recipe_command};

const Recipe *recipe_find(Hypervisor hypervisor)
{
    for (size_t i = 0; i < ELEMENTSOF(recipes); i++)
        if (recipes[i]->hypervisor == hypervisor)
            return recipes[i];
    return NULL;
}

/* --- runs --- */

static Run *find_name(DirectDriver *driver, const char *name)
{
    for (Run *run = driver->runs; run; run = run->next)
        if (streq(run->name, name))
            return run;
    return NULL;
}

Run *direct_run_find(DirectDriver *driver, const char *name, sd_id128_t generation)
{
    Run *run = find_name(driver, name);

    return run && sd_id128_equal(run->generation, generation) ? run : NULL;
}

Run *direct_run_new(DirectDriver *driver, const char *name, sd_id128_t generation)
{
    Run *run = calloc(1, sizeof(*run));

    if (!run)
        return NULL;
    run->driver = driver;
    run->generation = generation;
    run->pidfd = run->own_socket = -EBADF;
    run->next = driver->runs;
    driver->runs = run;
    run->name = strdup(name);
    if (asprintf(&run->directory, "%s/vm/%s", driver->runtime_dir, name) < 0)
        run->directory = NULL;
    if (run->name && run->directory)
        return run;
    direct_run_free(run);
    return NULL;
}

void direct_run_free(Run *run)
{
    for (Run **link = &run->driver->runs; *link; link = &(*link)->next)
        if (*link == run) {
            *link = run->next;
            break;
        }
    direct_helpers_forget(run);
    direct_run_leave(run);
    direct_start_free(run->retry);
    strv_free(run->argv);
    strv_free(run->stop);
    strv_free(run->ready);
    safe_close(run->pidfd);
    free(run->output);
    free(run->trouble);
    free(run->directory);
    free(run->name);
    free(run);
}

void direct_look_again(DirectDriver *driver)
{
    sandbox_host_forget(&driver->host);
    programs_look_again(driver->programs);
}

void direct_run_say(Run *run, DriverEvent event)
{
    event.name = run->name;
    event.generation = run->generation;
    direct_say(run->driver, &event);
}

DriverRun direct_run_tell(const Run *run, char unit[static UNIT_NAME_SIZE])
{
    bool has_unit = !sd_id128_is_null(run->invocation);

    unit_name(run->name, unit);
    return (DriverRun){
        .pid = run->id.pid, .paused = run->paused, .accel = run->accel, .unit = has_unit ? unit : NULL};
}

/* --- operations --- */

/* What the hypervisor can, and what becomes of its unit. Loosening a sandbox that there is not is no feat. */
static CapabilitySet capabilities(const VmSpec *spec)
{
    const Recipe *recipe = recipe_find(spec->hypervisor);
    CapabilitySet of_unit = CAPABILITY(CAP_CPU_QUOTA) | CAPABILITY(CAP_CPU_AFFINITY) |
                            CAPABILITY(CAP_MEMORY_MAX) | CAPABILITY(CAP_IO_WEIGHT) |
                            CAPABILITY(CAP_TASKS_MAX);

    if (!recipe)
        return 0;
    return recipe->capabilities(spec) | CAPABILITY(CAP_SANDBOX) |
           (launcher_in_use() == LAUNCHER_SYSTEMD ? of_unit : 0);
}

static void check(const VmSpec *spec, const Runner *runner, const TableReader *reader)
{
    const Recipe *recipe = recipe_find(spec->hypervisor);

    if (recipe)
        recipe->check(spec, runner, reader);
}

bool direct_asks_ready(const Recipe *recipe, const VmSpec *spec)
{
    return !recipe->qmp && spec->n_command_ready > 0;
}

static int take_programs(Run *run, const StartRequest *request)
{
    const VmSpec *spec = request->spec;

    if (run->recipe->prints_console)
        run->output = strdup(request->console_log);
    else if (asprintf(&run->output, "%s/" OUTPUT_FILE, request->state_dir) < 0)
        run->output = NULL;
    if (spec->n_command_stop > 0 && !(run->stop = strv_copy(spec->command_stop)))
        return -ENOMEM;
    if (direct_asks_ready(run->recipe, spec) && !(run->ready = strv_copy(spec->command_ready)))
        return -ENOMEM;
    return run->output ? 0 : -ENOMEM;
}

static int start(Driver *base, const StartRequest *request)
{
    DirectDriver *driver = of(base);
    Run *run;
    int r;

    if (!driver->online)
        return -EHOSTDOWN;
    if (find_name(driver, request->spec->name))
        return -EBUSY;
    run = direct_run_new(driver, request->spec->name, request->generation);
    if (!run)
        return -ENOMEM;
    run->accel = request->accel;
    if (request->spec->initial_balloon_mem_mib > 0)
        run->balloon_bytes = (request->spec->mem_mib - request->spec->initial_balloon_mem_mib) << 20;
    run->asked_usec = now_usec(CLOCK_MONOTONIC);
    run->recipe = recipe_find(request->spec->hypervisor);
    r = run->recipe ? take_programs(run, request) : -EOPNOTSUPP;
    if (r >= 0)
        r = direct_start(run, request);
    if (r < 0)
        direct_run_free(run);
    return r;
}

static int stop(Driver *base, const char *name, sd_id128_t generation, StopAction action)
{
    Run *run = direct_run_find(of(base), name, generation);

    if (!of(base)->online)
        return -EHOSTDOWN;
    if (!run)
        return -ESRCH;
    return direct_run_stop(run, action);
}

static int set_paused(Driver *base, const char *name, sd_id128_t generation, bool paused)
{
    Run *run = direct_run_find(of(base), name, generation);

    return run ? direct_run_set_paused(run, paused) : -ESRCH;
}

static int set_memory(Driver *base, const char *name, sd_id128_t generation, uint64_t bytes)
{
    Run *run = direct_run_find(of(base), name, generation);

    return run ? direct_run_set_memory(run, bytes) : -ESRCH;
}

static int send_signal(Driver *base, const char *name, sd_id128_t generation, int number)
{
    Run *run = direct_run_find(of(base), name, generation);

    return run && run->announced ? direct_run_signal(run, number) : -ESRCH;
}

static int open_console(Driver *base, const char *name, sd_id128_t generation, int *ret_fd)
{
    Run *run = direct_run_find(of(base), name, generation);
    int r;

    if (!run)
        return -ESRCH;
    r = socket_connect(run->directory, CONSOLE_SOCKET, ret_fd);
    return r == -ENOENT ? -EOPNOTSUPP : r;
}

static int send_qmp(Driver *base, const char *name, sd_id128_t generation, const QmpCommand *command,
                    uint64_t timeout_usec, driver_qmp_fn done, void *userdata)
{
    Run *run = direct_run_find(of(base), name, generation);

    if (!run)
        return -ESRCH;
    if (!run->recipe->qmp)
        return -EOPNOTSUPP;
    return run->share ? qmp_share_call(run->share, command, timeout_usec, done, userdata) : -ENOTCONN;
}

static void accel_facts(Driver *base, AccelFacts *ret_facts)
{
    *ret_facts = of(base)->accel_facts;
}

static Driver *direct_driver_free(Driver *base)
{
    DirectDriver *driver = of(base);

    if (!driver)
        return NULL;
    workers_stop(driver->workers, GRACE_USEC);
    while (driver->runs)
        direct_run_free(driver->runs);
    programs_free(driver->programs);
    sandbox_host_clear(&driver->host);
    sd_event_unref(driver->event);
    free(driver->state_dir);
    free(driver->runtime_dir);
    free(driver->uid_dir);
    free(driver);
    return NULL;
}

const DriverOps direct_driver_ops = {
    .capabilities = capabilities,
    .check = check,
    .start = start,
    .stop = stop,
    .set_paused = set_paused,
    .set_memory = set_memory,
    .kill = send_signal,
    .open_console = open_console,
    .qmp = send_qmp,
    .accel_facts = accel_facts,
    .free = direct_driver_free,
};

/* What is to be run is known before anybody asks for it. */
static int find_programs(DirectDriver *driver)
{
    const char *path = getenv("PATH");
    int r = programs_new(driver->event, path ? path : "/usr/local/bin:/usr/bin:/bin", &driver->programs);

    for (size_t i = 0; i < ELEMENTSOF(recipes) && r >= 0; i++)
        if (recipes[i]->program)
            (void)programs_find(driver->programs, recipes[i]->program);
    return r;
}

int direct_driver_new(const DriverSetup *setup, Driver **ret_driver)
{
    DirectDriver *driver = calloc(1, sizeof(*driver));
    int r = -ENOMEM;

    if (!driver)
        return r;
    driver->driver =
        (Driver){.ops = &direct_driver_ops, .kind = DRIVER_KIND_DIRECT, .output_log = OUTPUT_FILE};
    driver->event = sd_event_ref(setup->event);
    driver->handler = setup->handler;
    driver->userdata = setup->userdata;
    driver->launcher = launcher_in_use();
    driver->first_uid = (uid_t)setup->config->direct_first_uid;
    driver->state_dir = strdup(setup->state_dir);
    driver->runtime_dir = strdup(setup->runtime_dir);
    if (asprintf(&driver->uid_dir, "%s/uids", setup->state_dir) < 0)
        driver->uid_dir = NULL;
    if (driver->launcher == LAUNCHER_SYSTEMD)
        driver->host.root = say("%s/root", setup->runtime_dir);
    if (driver->state_dir && driver->runtime_dir && driver->uid_dir &&
        (driver->host.root || driver->launcher != LAUNCHER_SYSTEMD))
        r = find_programs(driver);
    if (r >= 0)
        r = workers_new(driver->event, "direct", THREADS, &driver->workers);
    if (r >= 0)
        r = direct_adopt(driver);
    if (r < 0) {
        direct_driver_free(&driver->driver);
        return r;
    }
    *ret_driver = &driver->driver;
    return 0;
}
