/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Giving up volumes: one that is gone, or, with all that it has, those of a microVM that goes. */
#include "supervise/vm.h"

#include "base/log.h"
#include "base/say.h"
#include "base/strv.h"
#include "resource/files.h"
#include "resource/memory.h"

typedef struct Forgetting {
    MicroVM *vm;
    char *state_dir, *image;
    vm_forget_fn done;
    void *userdata;
    int error;
    char *text;
} Forgetting;

static void forgetting_free(Forgetting *forgetting)
{
    free(forgetting->state_dir);
    free(forgetting->image);
    free(forgetting->text);
    free(forgetting);
}

/* "a.img, b.img" */
static char *list_volumes(const VmMemory *memory)
{
    _cleanup_free_ char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    if (!stream)
        return NULL;
    for (size_t i = 0; i < memory->n_volumes; i++)
        fprintf(stream, "%s%s", i > 0 ? ", " : "", memory->volumes[i]);
    return fclose(stream) == 0 ? TAKE_PTR(text) : NULL;
}

static void forgetting_run(void *argument)
{
    Forgetting *forgetting = argument;
    _cleanup_(vm_memory_clear)
    VmMemory memory = {0};
    _cleanup_free_ char *known = NULL;
    int r;

    r = vm_memory_read(forgetting->state_dir, &memory);
    if (r >= 0 && !vm_memory_forget_volume(&memory, forgetting->image)) {
        known = list_volumes(&memory);
        forgetting->error =
            say_why(&forgetting->text, -ENODATA, "no volume %s is remembered; %s%s", forgetting->image,
                    memory.n_volumes > 0 ? "these are: " : "none is", known ? known : "");
        return;
    }
    if (r >= 0)
        r = vm_memory_write(forgetting->state_dir, &memory);
    forgetting->error = r;
    if (r < 0)
        forgetting->text = say("%s/state.json, which remembers its volumes, can't be changed: %s",
                               forgetting->state_dir, strerror(-r));
}

static void forgetting_done(void *argument)
{
    Forgetting *forgetting = argument;
    MicroVM *vm = forgetting->vm;

    if (forgetting->error >= 0)
        log_vm_info(vm->name,
                    "The volume %s is given up: where it is missing at the next start, it counts as new.",
                    forgetting->image);
    forgetting->done(forgetting->error, forgetting->text, forgetting->userdata);
    forgetting_free(forgetting);
    vm->chores--;
    vm_admit(vm);
    vm->host->changed(vm, vm->host->userdata);
}

static void forgetting_discard(void *argument)
{
    Forgetting *forgetting = argument;

    forgetting->done(-ESHUTDOWN, "microvmd is ending", forgetting->userdata);
    forgetting_free(forgetting);
}

int vm_forget_volume(MicroVM *vm, const char *image, vm_forget_fn done, void *userdata, char **ret_error)
{
    Forgetting *forgetting;
    int r = -ENOMEM;

    if (state_is_alive(vm->record.state))
        return say_why(ret_error, -EBUSY, "%s is %s, maybe with that volume; stop it first", vm->name,
                       microvm_state_to_string(vm->record.state));
    /* What prepares a start, or cleans up after one, has the memory in its hands. */
    if (vm->record.state == MICROVM_PREPARING || vm->chores > 0)
        return say_why(ret_error, -EBUSY, "%s is %s; try again in a moment", vm->name,
                       vm->chores > 0 ? "being cleaned up" : "starting");
    forgetting = calloc(1, sizeof(*forgetting));
    if (!forgetting)
        return -ENOMEM;
    *forgetting = (Forgetting){.vm = vm,
                               .state_dir = strdup(vm->state_dir),
                               .image = strdup(image),
                               .done = done,
                               .userdata = userdata};
    if (forgetting->state_dir && forgetting->image)
        r = workers_submit(vm->host->files,
                           &(Work){forgetting_run, forgetting_done, forgetting_discard, forgetting});
    if (r < 0)
        forgetting_free(forgetting);
    else
        vm->chores++;
    return r;
}

/* --- naming all files --- */

typedef struct Listing {
    char *state_dir;
    char **files;
    int error;
    char *text;
    vm_files_fn done;
    void *userdata;
} Listing;

static void listing_free(Listing *listing)
{
    free(listing->state_dir);
    free(listing->text);
    strv_free(listing->files);
    free(listing);
}

static void listing_run(void *argument)
{
    Listing *listing = argument;
    size_t n = 0;

    listing->error = files_list(listing->state_dir, &listing->files, &n, &listing->text);
}

static void listing_done(void *argument)
{
    Listing *listing = argument;

    listing->done(listing->error, listing->text, listing->files, listing->userdata);
    listing_free(listing);
}

static void listing_discard(void *argument)
{
    Listing *listing = argument;

    listing->done(-ESHUTDOWN, "microvmd is ending", NULL, listing->userdata);
    listing_free(listing);
}

int vm_list_files(MicroVM *vm, vm_files_fn done, void *userdata)
{
    Listing *listing = calloc(1, sizeof(*listing));
    int r = -ENOMEM;

    if (!listing)
        return -ENOMEM;
    *listing = (Listing){.state_dir = strdup(vm->state_dir), .done = done, .userdata = userdata};
    if (listing->state_dir)
        r = workers_submit(vm->host->files, &(Work){listing_run, listing_done, listing_discard, listing});
    if (r < 0)
        listing_free(listing);
    return r;
}
