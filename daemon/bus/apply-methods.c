/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Plan and apply, and what becomes of the files of a microVM. Calls that lead to file work are answered after
 * it. */
#include "bus/server.h"

#include "base/log.h"
#include "base/strv.h"
#include "manager-apply.h"
#include "microvm/names.h"

/* --- late answers --- */

static void answer_error(sd_bus_message *message, int number, const char *text)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int r;

    bus_error_set(&error, number, text);
    r = sd_bus_reply_method_error(message, &error);
    if (r < 0)
        log_debug("A caller could not be answered: %s", strerror(-r));
    sd_bus_error_free(&error);
}

/* Of a call that was put off: `r` is 0 or more if it is answered; else why not, with `text` or without. */
static void answered(sd_bus_message *message, int r, const char *text)
{
    if (r < 0)
        answer_error(message, r, text);
    sd_bus_message_unref(message);
}

/* --- plan and apply: first a look at the files, in a worker --- */

typedef struct Request {
    BusServer *server;
    sd_bus_message *message;
    Selection selection;
    ApplyOptions options;
} Request;

static void request_free(Request *request)
{
    strv_free(request->selection.names);
    strv_free(request->selection.labels);
    strv_free(request->options.purge);
    sd_bus_message_unref(request->message);
    free(request);
}
DEFINE_CLEANUP(Request *, request_free)

static int append_item(sd_bus_message *reply, const void *items, size_t index)
{
    const HostPlanItem *item = (const HostPlanItem *)items + index;
    int r;

    r = sd_bus_message_open_container(reply, 'r', "sssa(ssss)");
    if (r >= 0)
        r = sd_bus_message_append(reply, "sss", item->name, microvm_plan_to_string(item->action),
                                  item->reason ? item->reason : "");
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(ssss)");
    for (size_t i = 0; i < item->changes.count && r >= 0; i++) {
        const SpecChange *change = &item->changes.items[i];
        r = sd_bus_message_append(reply, "(ssss)", change->key, change->before ? change->before : "",
                                  change->after ? change->after : "", key_change_to_string(change->change));
    }
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void plan_looked(int result, void *userdata)
{
    _cleanup_(request_freep)
    Request *request = userdata;
    _cleanup_(host_plan_clear)
    HostPlan plan = {0};
    _cleanup_free_ char *text = NULL;
    int r = result;

    if (r >= 0)
        r = manager_plan(request->server->manager, &request->selection, &plan, &text);
    if (r >= 0)
        r = bus_reply_list(request->message, "(sssa(ssss))", plan.count, append_item, plan.items);
    if (r < 0)
        answer_error(request->message, r, text);
}

static void apply_looked(int result, void *userdata)
{
    _cleanup_(request_freep)
    Request *request = userdata;
    _cleanup_free_ char *text = NULL;
    uint64_t id = 0;
    int r = result;

    if (r >= 0)
        r = manager_apply(request->server->manager, &request->selection, &request->options, &id, &text);
    if (r >= 0)
        r = sd_bus_reply_method_return(request->message, "t", id);
    if (r < 0)
        answer_error(request->message, r, text);
}

static int look_first(Request *request, manager_looked_fn then)
{
    int r = manager_look(request->server->manager, then, request);

    if (r < 0)
        request_free(request);
    return r < 0 ? r : 1;
}

static Request *request_new(BusServer *server, sd_bus_message *message)
{
    Request *request = calloc(1, sizeof(*request));

    if (!request)
        return NULL;
    request->server = server;
    request->message = sd_bus_message_ref(message);
    request->options = (ApplyOptions){.canary_usec = APPLY_CANARY_SEC * UINT64_C(1000000), .max_parallel = 1};
    return request;
}

int bus_method_plan(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    _cleanup_(request_freep)
    Request *request = request_new(server, message);
    BusOption options[1];
    int r;

    if (!request)
        return -ENOMEM;
    options[0] = (BusOption){"labels", 'a', &request->selection.labels};
    r = bus_read_strings(message, &request->selection.names);
    if (r >= 0)
        r = bus_read_options(message, options, ELEMENTSOF(options), error);
    return r < 0 ? r : look_first(TAKE_PTR(request), plan_looked);
}

static int take_prune(ApplyOptions *options, const char *prune, sd_bus_error *error)
{
    if (streq(prune, ""))
        options->prune = PRUNE_NO;
    else if (streq(prune, "yes"))
        options->prune = PRUNE_SOME;
    else if (streq(prune, "all"))
        options->prune = PRUNE_ALL;
    else
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                                "Option \"prune\" is \"\", \"yes\" or \"all\".");
    return 0;
}

static int apply(BusServer *server, sd_bus_message *message, bool purge, sd_bus_error *error)
{
    _cleanup_(request_freep)
    Request *request = request_new(server, message);
    const char *prune = "";
    int r;

    if (!request)
        return -ENOMEM;
    const BusOption options[] = {
        {"restart", 'b', &request->options.restart},
        {"outdated", 'b', &request->options.outdated},
        {"canary", 'b', &request->options.canary},
        {"canaryTime", 't', &request->options.canary_usec},
        {"maxParallel", 't', &request->options.max_parallel},
        {"labels", 'a', &request->selection.labels},
        {"prune", 's', &prune},
    };
    r = bus_read_strings(message, &request->selection.names);
    if (r >= 0 && purge)
        r = bus_read_strings(message, &request->options.purge);
    if (r >= 0)
        r = bus_read_options(message, options, ELEMENTSOF(options), error);
    if (r >= 0)
        r = take_prune(&request->options, prune, error);
    if (r < 0)
        return r;
    request->options.caller = bus_caller(server, message);
    if (purge && request->options.prune == PRUNE_NO)
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, "Files only go with what is pruned.");
    return look_first(TAKE_PTR(request), apply_looked);
}

int bus_method_apply(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    return apply(server, message, false, error);
}

int bus_method_apply_and_purge(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    return apply(server, message, true, error);
}

int bus_method_cancel_apply(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    uint64_t id;
    int r;

    r = sd_bus_message_read(message, "t", &id);
    if (r < 0)
        return r;
    r = manager_cancel_apply(server->manager, id, &text);
    return r < 0 ? bus_error_set(error, r, text) : sd_bus_reply_method_return(message, NULL);
}

void bus_apply_progress(uint64_t id, const char *name, MicrovmStep step, MicrovmApply how, const char *text,
                        void *userdata)
{
    BusServer *server = userdata;
    int r = sd_bus_emit_signal(server->bus, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE, "ApplyProgress",
                               "tssss", id, name, microvm_step_to_string(step), microvm_apply_to_string(how),
                               text);

    if (r < 0)
        log_vm_warning(name, "How the apply goes could not be told: %s", strerror(-r));
}

void bus_apply_removed(uint64_t id, MicrovmJobResult result, const char *reason, void *userdata)
{
    BusServer *server = userdata;
    int r;

    bus_server_flush(server); /* the states that it led to come before its end */
    r = sd_bus_emit_signal(server->bus, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE, "ApplyRemoved",
                           "tss", id, microvm_job_result_to_string(result), reason);
    if (r < 0)
        log_warning("The end of an apply could not be told: %s", strerror(-r));
}

/* --- files of one microVM --- */

static void forgotten(int result, const char *text, void *userdata)
{
    answered(userdata, result < 0 ? result : sd_bus_reply_method_return(userdata, NULL), text);
}

int bus_method_forget_volume(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    _cleanup_free_ char *text = NULL;
    const char *image;
    int r;

    r = sd_bus_message_read(message, "s", &image);
    if (r < 0)
        return r;
    r = vm_forget_volume(vm, image, forgotten, sd_bus_message_ref(message), &text);
    if (r < 0) {
        sd_bus_message_unref(message);
        return bus_error_set(error, r, text);
    }
    return 1;
}

static void listed(int result, const char *text, char *const *files, void *userdata)
{
    answered(userdata, result < 0 ? result : bus_reply_strings(userdata, files), text);
}

int bus_method_list_files(BusServer *server, sd_bus_message *message, MicroVM *vm, sd_bus_error *error)
{
    int r;

    r = vm_list_files(vm, listed, sd_bus_message_ref(message));
    if (r < 0)
        sd_bus_message_unref(message);
    return r < 0 ? r : 1;
}
