/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* File work before and after a run: in workers, because disks and even tmpfs take their time. */
#include "supervise/vm.h"

#include "base/log.h"
#include "resource/memory.h"

typedef struct Preparation {
    MicroVM *vm;
    Plan *plan;
    int error;
    char *error_text;
    PlanResult result;
} Preparation;

static void preparation_free(void *argument)
{
    Preparation *preparation = argument;

    plan_free(preparation->plan);
    free(preparation->error_text);
    free(preparation->result.block_volumes);
    free(preparation);
}

static void preparation_run(void *argument)
{
    Preparation *preparation = argument;

    preparation->error = plan_run(preparation->plan, &preparation->result, &preparation->error_text);
}

void vm_never_launched(MicroVM *vm)
{
    if (vm->record.state == MICROVM_STARTING)
        vm_event(vm, VM_EVENT_ENDED_AGAIN, "starting it was interrupted by a restart of microvmd");
    else if (vm->record.again)
        vm_event(vm, VM_EVENT_ENDED_AGAIN, "starting again, as asked");
    else
        vm_event(vm, VM_EVENT_ENDED_OFF, "stopped before the guest had started");
}

static void preparation_done(void *argument)
{
    Preparation *preparation = argument;
    MicroVM *vm = preparation->vm;

    vm->had_kvm = preparation->result.had_kvm;
    vm->user = preparation->result.user;
    free(vm->block_volumes);
    vm->block_volumes = TAKE_PTR(preparation->result.block_volumes);
    boot_files_clear(&vm->record.files);
    vm->record.files.kernel = preparation->result.kernel;
    vm->record.files.initrd = preparation->result.initrd;
    vm->outdated_files = 0;
    if (vm->record.state == MICROVM_STOPPING) {
        vm_never_launched(vm);
    } else if (preparation->error < 0) {
        vm->record.result = MICROVM_RESULT_RESOURCES;
        vm_event(vm, VM_EVENT_GIVE_UP, "%s",
                 preparation->error_text ? preparation->error_text : strerror(-preparation->error));
    } else {
        vm_event(vm, VM_EVENT_PREPARED, "starting the hypervisor");
    }
    preparation_free(preparation);
}

/* What is made is found by it again, to be undone, whenever the daemon dies. */
static int take_definition(MicroVM *vm)
{
    char *text = vm_spec_to_json(vm_next_spec(vm));

    if (!text)
        return -ENOMEM;
    vm_spec_unref(vm->booted);
    vm->booted = vm_spec_ref(vm_next_spec(vm));
    free(vm->record.definition);
    vm->record.definition = text;
    vm_save(vm);
    return 0;
}

void vm_prepare(MicroVM *vm)
{
    Preparation *preparation = calloc(1, sizeof(*preparation));
    Work work = {preparation_run, preparation_done, preparation_free, preparation};
    int r = -ENOMEM;

    vm->launch_usec = now_boottime_usec();
    if (preparation) {
        preparation->vm = vm;
        r = take_definition(vm);
    }
    if (r >= 0)
        r = plan_new(vm->booted, vm->state_dir, vm->runtime_dir, vm->host->spare_dir, &preparation->plan);
    if (r >= 0)
        r = workers_submit(vm->host->files, &work);
    if (r < 0) {
        if (preparation)
            preparation_free(preparation);
        vm->record.result = MICROVM_RESULT_RESOURCES;
        vm_event(vm, VM_EVENT_GIVE_UP, "its start can't be prepared: %s", strerror(-r));
    }
}

/* Cleaning and remembering. A new start waits for it: it would make what this removes. */
typedef struct Chore {
    MicroVM *vm;
    Plan *plan;
    bool launched, remember_kvm;
} Chore;

static void chore_free(void *argument)
{
    Chore *chore = argument;

    plan_free(chore->plan);
    free(chore);
}

static void chore_run(void *argument)
{
    Chore *chore = argument;
    _cleanup_(vm_memory_clear)
    VmMemory memory = {0};
    int r = 0;

    plan_undo(chore->plan);
    if (chore->launched)
        plan_stock_up(chore->plan);
    if (!chore->remember_kvm)
        return;
    r = vm_memory_read(chore->plan->state_dir, &memory);
    if (r >= 0) {
        memory.had_kvm = true;
        r = vm_memory_write(chore->plan->state_dir, &memory);
    }
    if (r < 0)
        log_full(LOG_WARNING, chore->plan->spec->name, r,
                 "Can't note in %s/state.json that it ran under KVM: %m", chore->plan->state_dir);
}

static void chore_done(void *argument)
{
    Chore *chore = argument;
    MicroVM *vm = chore->vm;

    chore_free(chore);
    vm->chores--;
    vm_admit(vm);
    vm->host->changed(vm, vm->host->userdata);
}

void vm_clean(MicroVM *vm, bool launched)
{
    /* An earlier version has nothing on record of a preparation. */
    VmSpec *spec = vm->booted ? vm->booted : vm->spec;
    Chore *chore;
    int r = -ENOMEM;

    if (!spec)
        return;
    chore = calloc(1, sizeof(*chore));
    if (chore) {
        Work work = {chore_run, chore_done, chore_free, chore};
        chore->vm = vm;
        chore->launched = launched;
        chore->remember_kvm = launched && vm->record.accel == ACCEL_KVM && !vm->had_kvm;
        r = plan_new(spec, vm->state_dir, vm->runtime_dir, vm->host->spare_dir, &chore->plan);
        if (r >= 0)
            r = workers_submit(vm->host->files, &work);
        if (r >= 0)
            vm->chores++;
    }
    if (r < 0) {
        log_full(LOG_WARNING, vm->name, r, "Can't clean up in %s: %m", vm->runtime_dir);
        if (chore)
            chore_free(chore);
    }
}

/* --- a look before a restart --- */

typedef struct StartCheck {
    MicroVM *vm;
    Plan *plan;
    vm_checked_fn done;
    void *userdata;
    PlanResult result;
    int error;
    char *text;
} StartCheck;

static void start_check_free(StartCheck *check)
{
    plan_free(check->plan);
    free(check->text);
    free(check);
}

static void start_check_run(void *argument)
{
    StartCheck *check = argument;

    check->error = plan_check(check->plan, &check->result, &check->text);
}

static int check_accel(const StartCheck *check, char **ret_reason)
{
    AccelFacts facts;
    Accel accel;

    vm_accel_facts(check->vm, &check->result.user, &facts);
    return accel_choose(check->plan->spec->accel, &facts, check->result.had_kvm, &accel, ret_reason);
}

static void start_check_done(void *argument)
{
    StartCheck *check = argument;
    MicroVM *vm = check->vm;

    if (check->error >= 0)
        check->error = check_accel(check, &check->text);
    vm->chores--;
    check->done(vm, check->error, check->text, check->userdata);
    start_check_free(check);
    vm_admit(vm);
    vm->host->changed(vm, vm->host->userdata);
}

static void start_check_discard(void *argument)
{
    StartCheck *check = argument;

    check->done(check->vm, -ESHUTDOWN, "microvmd is ending", check->userdata);
    start_check_free(check);
}

int vm_check_start(MicroVM *vm, vm_checked_fn done, void *userdata)
{
    StartCheck *check;
    int r;

    check = calloc(1, sizeof(*check));
    if (!check)
        return -ENOMEM;
    *check = (StartCheck){.vm = vm, .done = done, .userdata = userdata};
    r = plan_new(vm->spec, vm->state_dir, vm->runtime_dir, vm->host->spare_dir, &check->plan);
    if (r >= 0)
        r = workers_submit(vm->host->files,
                           &(Work){start_check_run, start_check_done, start_check_discard, check});
    if (r < 0)
        start_check_free(check);
    else
        vm->chores++; /* it is not forgotten meanwhile */
    return r;
}
