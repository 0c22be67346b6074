/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A program of the definition's own that runs beside the hypervisor for a while, as the same user. */
#include "driver/direct/internal.h"

#include "launch/errand.h"

/* How long it may take. */
static const uint64_t HELPER_USEC = UINT64_C(60) * 1000000;

struct Helper {
    Run *run;
    helper_fn done;
    Errand *errand;
    Helper *next;
};

static void on_done(int error, const char *text, void *userdata)
{
    Helper *helper = userdata;
    Run *run = helper->run;
    helper_fn done = helper->done;

    for (Helper **link = &run->helpers; *link; link = &(*link)->next)
        if (*link == helper) {
            *link = helper->next;
            break;
        }
    free(helper);
    done(run, error, text);
}

int direct_helper_run(Run *run, char *const *argv, helper_fn done)
{
    DirectDriver *driver = run->driver;
    _cleanup_free_ char *output = NULL;
    _cleanup_free_ Helper *helper = calloc(1, sizeof(*helper));
    int r;

    if (!helper || asprintf(&output, "%s/vm/%s/" OUTPUT_FILE, driver->state_dir, run->name) < 0) {
        output = NULL;
        return -ENOMEM;
    }
    *helper = (Helper){.run = run, .done = done, .next = run->helpers};
    r = errand_run(&(ErrandRequest){.event = driver->event,
                                    .workers = driver->workers,
                                    .name = run->name,
                                    .runtime_dir = run->directory,
                                    .generation = run->generation,
                                    .pid = run->id.pid,
                                    .argv = argv,
                                    .output = output,
                                    .uid_dir = driver->uid_dir,
                                    .first_uid = driver->first_uid,
                                    .timeout_usec = HELPER_USEC},
                   on_done, helper, &helper->errand);
    if (r < 0)
        return r;
    run->helpers = TAKE_PTR(helper);
    return 0;
}

void direct_helpers_forget(Run *run)
{
    for (Helper *helper = run->helpers, *next; helper; helper = next) {
        next = helper->next;
        errand_forget(helper->errand);
        free(helper);
    }
    run->helpers = NULL;
}
