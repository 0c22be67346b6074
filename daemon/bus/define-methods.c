/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The manager's methods that write definitions. They are answered when files and daemon have the new one. */
#include "bus/server.h"

#include "base/log.h"
#include "manager-define.h"
#include "microvm/errors.h"
#include "microvm/names.h"

/* A call that waits for the writer. */
typedef struct Pending Pending;
struct Pending {
    BusServer *server;
    sd_bus_message *message;
    ProblemList problems; /* warnings */
    char *name;
    int (*reply)(Pending *pending, char *const *paths);
};

static void pending_free(Pending *pending)
{
    sd_bus_message_unref(pending->message);
    problem_list_clear(&pending->problems);
    free(pending->name);
    free(pending);
}

DEFINE_CLEANUP(Pending *, pending_free)

static Pending *pending_new(BusServer *server, sd_bus_message *message, const char *name,
                            int (*reply)(Pending *pending, char *const *paths))
{
    _cleanup_(pending_freep)
    Pending *pending = calloc(1, sizeof(*pending));

    if (!pending)
        return NULL;
    pending->server = server;
    pending->message = sd_bus_message_ref(message);
    pending->reply = reply;
    pending->name = strdup(name);
    return pending->name ? TAKE_PTR(pending) : NULL;
}

static int set_error(sd_bus_error *error, int number, const char *text)
{
    if (number == -EINVAL && text)
        return sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS, text);
    return bus_error_set(error, number, text);
}

static void on_done(int result, const char *text, char *const *paths, void *userdata)
{
    _cleanup_(pending_freep)
    Pending *pending = userdata;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int r;

    if (result >= 0) {
        r = pending->reply(pending, paths);
    } else {
        set_error(&error, result, text);
        r = sd_bus_reply_method_error(pending->message, &error);
    }
    if (r < 0)
        log_debug("A caller could not be answered: %s", strerror(-r));
    sd_bus_error_free(&error);
}

/* `r`: whether a change is under way. Takes over the pending call if so. */
static int begun(int r, Pending **pending, const char *text, sd_bus_error *error)
{
    if (r < 0)
        return set_error(error, r, text);
    *pending = NULL;
    return 1;
}

static int reply_empty(Pending *pending, char *const *paths)
{
    return sd_bus_reply_method_return(pending->message, NULL);
}

static int reply_problems(Pending *pending, char *const *paths)
{
    return bus_reply_problems(pending->message, &pending->problems);
}

static int reply_paths(Pending *pending, char *const *paths)
{
    return bus_reply_strings(pending->message, paths);
}

static int reply_object(Pending *pending, char *const *paths)
{
    MicroVM *vm = manager_find(pending->server->manager, pending->name);
    const char *path = vm ? bus_vm_path(vm) : NULL;

    return path ? sd_bus_reply_method_return(pending->message, "o", path)
                : sd_bus_reply_method_errno(pending->message, -ENOENT, NULL);
}

/* The right to reach further, where the content does. 1: go on; 0: asked. */
static int authorize_reach(BusServer *server, sd_bus_message *message, const DefineCheck *check,
                           sd_bus_error *error)
{
    _cleanup_free_ char *name = NULL, *text = NULL;
    int r;

    if (!check->unsafe)
        return 1;
    r = bus_authorize_also(server, message, MICROVM_POLKIT_DEFINE_UNSAFE, error);
    if (r >= 0 || !sd_bus_error_is_set(error))
        return r;
    name = strdup(error->name);
    text = strdup(error->message);
    if (!name || !text)
        return r;
    sd_bus_error_free(error);
    return sd_bus_error_setf(
        error, name,
        "%s \"%s\" would reach beyond the microVM: it runs commands on the host, or names a "
        "file outside the declared directories (images.directories).",
        text, check->unsafe);
}

/* --- Define --- */

static int define(BusServer *server, sd_bus_message *message, const char *name, const char *content,
                  const DefineOptions *options, DefineCheck *check, sd_bus_error *error)
{
    _cleanup_(pending_freep)
    Pending *pending = pending_new(server, message, name, options->transient ? reply_object : reply_problems);
    _cleanup_free_ char *text = NULL;
    int r;

    if (!pending)
        return -ENOMEM;
    pending->problems = check->problems;
    check->problems = (ProblemList){0};
    if (check->redundant)
        r = manager_remove_drop_in(server->manager, name, options, on_done, pending, &text);
    else
        r = manager_define(server->manager, name, content, options, on_done, pending, &text);
    return begun(r, &pending, text, error);
}

static int method_define(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    _cleanup_(define_check_clear)
    DefineCheck check = {0};
    _cleanup_free_ char *text = NULL;
    DefineOptions define_options = {0};
    const char *name, *content;
    const BusOption options[] = {{"drop-in", 's', &define_options.drop_in},
                                 {"expected", 's', &define_options.expected},
                                 {"no-autostart", 'b', &define_options.no_autostart},
                                 {"prune", 'b', &define_options.prune}};
    int r;

    r = sd_bus_message_read(message, "ss", &name, &content);
    if (r >= 0)
        r = bus_read_options(message, options, ELEMENTSOF(options), error);
    if (r < 0)
        return r;
    r = manager_check_definition(server->manager, name, content, &define_options, &check, &text);
    if (r == -EBADMSG)
        return bus_reply_problems(message, &check.problems);
    if (r < 0)
        return set_error(error, r, text);
    r = authorize_reach(server, message, &check, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    return define(server, message, name, content, &define_options, &check, error);
}

/* --- CreateTransient --- */

static int refuse_transient(const ProblemList *problems, sd_bus_error *error)
{
    _cleanup_free_ char *all = NULL;
    size_t size;
    FILE *stream = open_memstream(&all, &size);

    if (!stream)
        return -ENOMEM;
    fputs("the definition can't be used", stream);
    for (size_t i = 0; i < problems->count; i++) {
        _cleanup_free_ char *text = problem_format(&problems->items[i]);
        fprintf(stream, "%s%s", i ? "; " : ": ", text ? text : "out of memory");
    }
    if (fclose(stream) != 0)
        return -ENOMEM;
    return bus_error_set(error, -EBADMSG, all);
}

static int method_create_transient(BusServer *server, sd_bus_message *message, MicroVM *none,
                                   sd_bus_error *error)
{
    _cleanup_(define_check_clear)
    DefineCheck check = {0};
    _cleanup_free_ char *text = NULL;
    /* One of that name in another directory would be hidden by it, or hide it. */
    const DefineOptions options = {.transient = true, .expected = "", .no_autostart = true};
    const char *name, *content, *state;
    int r;

    r = sd_bus_message_read(message, "ss", &name, &content);
    if (r >= 0)
        r = bus_read_options(message, NULL, 0, error);
    if (r < 0)
        return r;
    state = manager_definition_state(server->manager, name);
    if (state && !streq(state, "undeclared"))
        return sd_bus_error_setf(error, MICROVM_ERROR_RESOURCE_BUSY,
                                 "There is a microVM \"%s\" already, or its name is masked.", name);
    r = manager_check_definition(server->manager, name, content, &options, &check, &text);
    if (r == -EBADMSG)
        return refuse_transient(&check.problems, error);
    if (r < 0)
        return set_error(error, r, text);
    r = authorize_reach(server, message, &check, error);
    if (r <= 0)
        return r < 0 ? r : 1;
    return define(server, message, name, content, &options, &check, error);
}

/* --- the rest --- */

static int method_undefine(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    _cleanup_(pending_freep)
    Pending *pending = NULL;
    _cleanup_free_ char *text = NULL;
    UndefineOptions undefine = {0};
    DefineOptions file = {0};
    const char *name;
    const BusOption options[] = {{"purge", 'b', &undefine.purge},
                                 {"dry-run", 'b', &undefine.dry_run},
                                 {"drop-in", 's', &file.drop_in},
                                 {"expected", 's', &file.expected}};
    int r;

    r = sd_bus_message_read(message, "s", &name);
    if (r >= 0)
        r = bus_read_options(message, options, ELEMENTSOF(options), error);
    if (r < 0)
        return r;
    pending = pending_new(server, message, name, reply_paths);
    if (!pending)
        return -ENOMEM;
    r = file.drop_in ? manager_remove_drop_in(server->manager, name, &file, on_done, pending, &text)
                     : manager_undefine(server->manager, name, &undefine, on_done, pending, &text);
    return begun(r, &pending, text, error);
}

static int set_mask(BusServer *server, sd_bus_message *message, bool mask, sd_bus_error *error)
{
    _cleanup_(pending_freep)
    Pending *pending = NULL;
    _cleanup_free_ char *text = NULL;
    const char *name;
    int r;

    r = sd_bus_message_read(message, "s", &name);
    if (r < 0)
        return r;
    pending = pending_new(server, message, name, reply_empty);
    if (!pending)
        return -ENOMEM;
    r = manager_mask(server->manager, name, mask, on_done, pending, &text);
    return begun(r, &pending, text, error);
}

static int method_mask(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    return set_mask(server, message, true, error);
}

static int method_unmask(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    return set_mask(server, message, false, error);
}

static int method_get_state(BusServer *server, sd_bus_message *message, MicroVM *none, sd_bus_error *error)
{
    const char *name, *state;
    int r;

    r = sd_bus_message_read(message, "s", &name);
    if (r < 0)
        return r;
    state = manager_definition_state(server->manager, name);
    if (!state)
        return sd_bus_error_setf(error, MICROVM_ERROR_NO_SUCH_MICROVM, "No microVM is called \"%.*s\".",
                                 MICROVM_NAME_MAX, name);
    return sd_bus_reply_method_return(message, "s", state);
}

const BusMethod bus_define_methods[] = {
    {"Define", MICROVM_POLKIT_DEFINE, method_define},
    {"CreateTransient", MICROVM_POLKIT_DEFINE, method_create_transient},
    {"Undefine", MICROVM_POLKIT_DEFINE, method_undefine},
    {"Mask", MICROVM_POLKIT_DEFINE, method_mask},
    {"Unmask", MICROVM_POLKIT_DEFINE, method_unmask},
    {"GetDefinitionState", NULL, method_get_state},
};

const size_t bus_n_define_methods = ELEMENTSOF(bus_define_methods);
