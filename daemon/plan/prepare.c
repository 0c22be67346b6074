/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plan/prepare.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/say.h"
#include "host/accel.h"
#include "resource/console-log.h"
#include "resource/memory.h"
#include "resource/spare-copies.h"
#include "resource/volume.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>

static int add_step(Plan *plan, StepKind kind, const char *what, const char *from, char *to, mode_t mode,
                    const VolumeSpec *volume)
{
    Step *step = &plan->steps[plan->n_steps];

    *step = (Step){.kind = kind, .what = what, .to = to, .mode = mode, .volume = volume};
    plan->n_steps++;
    if (from)
        step->from = strdup(from);
    return !to || (from && !step->from) ? -ENOMEM : 0;
}

static char *join(const char *directory, const char *file)
{
    char *path = NULL;

    return asprintf(&path, "%s/%s", directory, file) < 0 ? NULL : path;
}

char *credential_copy_path(const char *runtime_dir, const char *name)
{
    char *path = NULL;

    return asprintf(&path, "%s/credential.%s", runtime_dir, name) < 0 ? NULL : path;
}

int plan_new(VmSpec *spec, const char *state_dir, const char *runtime_dir, const char *spare_dir,
             Plan **ret_plan)
{
    enum {
        FIXED_STEPS = 6
    };
    _cleanup_(plan_freep)
    Plan *plan = calloc(1, sizeof(*plan));
    int r;

    if (!plan)
        return -ENOMEM;
    plan->spec = vm_spec_ref(spec);
    plan->state_dir = strdup(state_dir);
    plan->runtime_dir = strdup(runtime_dir);
    plan->spare_dir = strdup(spare_dir);
    plan->steps = calloc(FIXED_STEPS + spec->n_volumes + spec->n_credentials, sizeof(*plan->steps));
    if (!plan->state_dir || !plan->runtime_dir || !plan->spare_dir || !plan->steps)
        return -ENOMEM;

    if (spec->user && (r = add_step(plan, STEP_USER, "user", spec->user, strdup(""), 0, NULL)) < 0)
        return r;
    /* Others may pass through (the hypervisor's user must reach its files), but not look around. */
    r = add_step(plan, STEP_DIRECTORY, "state directory", NULL, strdup(state_dir), 0711, NULL);
    if (r >= 0)
        r = add_step(plan, STEP_DIRECTORY, "runtime directory", NULL, strdup(runtime_dir), 0711, NULL);
    for (size_t i = 0; i < spec->n_volumes && r >= 0; i++)
        r = add_step(plan, STEP_VOLUME, "volume", NULL, volume_path(&spec->volumes[i], state_dir), 0600,
                     &spec->volumes[i]);
    if (r >= 0 && spec->kernel)
        r = add_step(plan, STEP_BOOT_FILE, "kernel", spec->kernel, join(runtime_dir, "kernel"), 0600, NULL);
    if (r >= 0 && spec->initrd)
        r = add_step(plan, STEP_BOOT_FILE, "initrd", spec->initrd, join(runtime_dir, "initrd"), 0600, NULL);
    for (size_t i = 0; i < spec->n_credentials && r >= 0; i++)
        r = add_step(plan, STEP_COPY, "credential", spec->credentials[i].value,
                     credential_copy_path(runtime_dir, spec->credentials[i].name), 0600, NULL);
    /* Last, so that a start that failed before does not push an earlier boot's log out. */
    if (r >= 0)
        r = add_step(plan, STEP_NEW_BOOT, "console log", NULL, strdup(state_dir), 0, NULL);
    if (r < 0)
        return r;
    *ret_plan = TAKE_PTR(plan);
    return 0;
}

Plan *plan_free(Plan *plan)
{
    if (!plan)
        return NULL;
    for (size_t i = 0; i < plan->n_steps; i++) {
        free(plan->steps[i].from);
        free(plan->steps[i].to);
    }
    free(plan->steps);
    free(plan->state_dir);
    free(plan->runtime_dir);
    free(plan->spare_dir);
    vm_spec_unref(plan->spec);
    free(plan);
    return NULL;
}

/* Hypervisors want to be told. */
static int note_device(const Plan *plan, const Step *step, PlanResult *result)
{
    struct stat st;

    if (stat(step->to, &st) < 0 || !S_ISBLK(st.st_mode))
        return 0;
    if (!result->block_volumes && !(result->block_volumes = calloc(plan->spec->n_volumes, sizeof(bool))))
        return -ENOMEM;
    result->block_volumes[step->volume - plan->spec->volumes] = true;
    return 0;
}

static int run_volume(const Plan *plan, const Step *step, VmMemory *memory, PlanResult *result,
                      char **ret_error)
{
    const char *image = step->volume->image;
    int r;

    r = volume_ensure(step->volume, plan->spec->name, step->to, vm_memory_has_volume(memory, image),
                      ret_error);
    if (r >= 0)
        r = note_device(plan, step, result);
    return r < 0 ? r : vm_memory_add_volume(memory, image);
}

static int run_user(const Step *step, RunUser *ret_user, char **ret_error)
{
    RunUser user = {.named = true};
    int r = host_user_find(step->from, &user.ids);

    if (r == -ENOENT)
        return say_why(ret_error, r,
                       "user %s: there is none of that name on this host; make it, or remove \"user\"",
                       step->from);
    if (r < 0)
        return say_why(ret_error, r, "user %s can't be looked up: %s", step->from, strerror(-r));
    user.kvm_error = accel_device_error(user.ids);
    *ret_user = user;
    return 0;
}

static int run_boot_file(const Step *step, const char *spare_dir, PlanResult *result)
{
    FileStamp *stamp = streq(step->what, "kernel") ? &result->kernel : &result->initrd;
    int r = spare_copy_take(spare_dir, step->from, step->to, stamp);

    return r < 0 ? copy_file_stamped(step->from, step->to, step->mode, stamp) : r;
}

static int run_step(const Plan *plan, const Step *step, VmMemory *memory, PlanResult *result,
                    char **ret_error)
{
    int r;

    switch (step->kind) {
    case STEP_USER:
        return run_user(step, &result->user, ret_error);
    case STEP_DIRECTORY:
        r = mkdir_parents(step->to, step->mode);
        break;
    case STEP_VOLUME:
        return run_volume(plan, step, memory, result, ret_error);
    case STEP_COPY:
        r = copy_file(step->from, step->to, step->mode);
        break;
    case STEP_BOOT_FILE:
        r = run_boot_file(step, plan->spare_dir, result);
        break;
    case STEP_NEW_BOOT:
        r = console_log_new_boot(step->to);
        break;
    default:
        r = -EINVAL;
    }
    return r < 0 ? say_why(ret_error, r, "%s %s: %s", step->what, step->from ? step->from : step->to,
                           strerror(-r))
                 : r;
}

static bool same_volumes(const VmMemory *memory, size_t before)
{
    return memory->n_volumes == before;
}

static int read_memory(const Plan *plan, VmMemory *memory, char **ret_error)
{
    int r = vm_memory_read(plan->state_dir, memory);

    if (r < 0)
        return say_why(ret_error, r,
                       "%s/state.json, which remembers its volumes, can't be read: %s; mend or remove it",
                       plan->state_dir, strerror(-r));
    return 0;
}

static int check_readable(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? -EISDIR : 0;
}

static int check_step(const Step *step, const char *vm, const VmMemory *memory, PlanResult *result,
                      char **ret_error)
{
    int r = 0;

    if (step->kind == STEP_USER)
        return run_user(step, &result->user, ret_error);
    if (step->kind == STEP_VOLUME)
        return volume_check(step->volume, vm, step->to, vm_memory_has_volume(memory, step->volume->image),
                            ret_error);
    if (step->from)
        r = check_readable(step->from);
    return r < 0 ? say_why(ret_error, r, "%s %s: %s", step->what, step->from, strerror(-r)) : 0;
}

int plan_check(const Plan *plan, PlanResult *ret_result, char **ret_error)
{
    PlanResult result = {0};
    _cleanup_(vm_memory_clear)
    VmMemory memory = {0};
    int r;

    r = read_memory(plan, &memory, ret_error);
    for (size_t i = 0; i < plan->n_steps && r >= 0; i++)
        r = check_step(&plan->steps[i], plan->spec->name, &memory, &result, ret_error);
    if (r < 0)
        return r;
    result.had_kvm = memory.had_kvm;
    *ret_result = result;
    return 0;
}

int plan_run(const Plan *plan, PlanResult *ret_result, char **ret_error)
{
    PlanResult result = {0};
    _cleanup_(vm_memory_clear)
    VmMemory memory = {0};
    size_t remembered;
    int r;

    r = read_memory(plan, &memory, ret_error);
    if (r < 0)
        return r;
    remembered = memory.n_volumes;
    for (size_t i = 0; i < plan->n_steps && r >= 0; i++) {
        fault_point("before a step of the preparation");
        r = run_step(plan, &plan->steps[i], &memory, &result, ret_error);
    }
    /* Also after a failure: a volume that was made before it has been there from now on. */
    if (!same_volumes(&memory, remembered)) {
        int written = vm_memory_write(plan->state_dir, &memory);
        if (written < 0 && r >= 0)
            r = say_why(ret_error, written, "%s/state.json can't be written: %s", plan->state_dir,
                        strerror(-written));
    }
    if (r < 0) {
        plan_undo(plan);
        free(result.block_volumes);
        return r;
    }
    result.had_kvm = memory.had_kvm;
    *ret_result = result;
    return 0;
}

void plan_undo(const Plan *plan)
{
    for (size_t i = plan->n_steps; i-- > 0;) {
        const Step *step = &plan->steps[i];
        if (step->kind != STEP_COPY && step->kind != STEP_BOOT_FILE)
            continue;
        unlink(step->to);
        write_file_forget(step->to);
    }
}

void plan_stock_up(const Plan *plan)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].kind == STEP_BOOT_FILE)
            (void)spare_copy_make(plan->spare_dir, plan->steps[i].from, time(NULL));
}

static bool has_param(const VmSpec *spec, const char *prefix)
{
    for (size_t i = 0; i < spec->n_kernel_params; i++)
        if (strncmp(spec->kernel_params[i], prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

/* The name of the microVM, as a host name can be: Linux takes it from 6.0 on, older ones pass it on to init.
 */
static void put_hostname(FILE *stream, const char *name)
{
    fputs(" hostname=", stream);
    for (; *name; name++)
        fputc(*name == '@' || *name == '_' ? '-' : *name, stream);
}

char *kernel_command_line(const VmSpec *spec, uint64_t emulated_tsc_khz)
{
    _cleanup_free_ char *line = NULL;
    size_t size;
    FILE *stream = open_memstream(&line, &size);

    if (!stream)
        return NULL;
    if (spec->qemu_serial_console) /* that of "virt" is a PL011 */
        fputs(spec->qemu_machine == QEMU_MACHINE_VIRT ? "console=ttyAMA0 " : "console=ttyS0 ", stream);
    fputs("reboot=t panic=-1", stream);
    if (spec->n_volumes > 0 && !spec->initrd && !has_param(spec, "root="))
        fputs(spec->volumes[0].read_only ? " root=/dev/vda ro" : " root=/dev/vda rw", stream);
    if (!has_param(spec, "hostname=") && !has_param(spec, "systemd.hostname="))
        put_hostname(stream, spec->name);
    if (emulated_tsc_khz > 0 && !has_param(spec, "tsc_early_khz=") && !has_param(spec, "tsc="))
        fprintf(stream, " tsc_early_khz=%" PRIu64, emulated_tsc_khz);
    for (size_t i = 0; i < spec->n_kernel_params; i++)
        fprintf(stream, " %s", spec->kernel_params[i]);
    if (fclose(stream) != 0)
        return NULL;
    return TAKE_PTR(line);
}
