/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "watch.h"

#include <errno.h>
#include <string.h>

#define OBJECT_MANAGER "org.freedesktop.DBus.ObjectManager"
#define PROPERTIES     "org.freedesktop.DBus.Properties"

static Watched *find_path(const Watch *watch, const char *path)
{
    for (size_t i = 0; i < watch->count; i++)
        if (strcmp(watch->items[i].path, path) == 0)
            return &watch->items[i];
    return NULL;
}

const cJSON *watch_find(const Watch *watch, const char *name)
{
    for (size_t i = 0; i < watch->count; i++)
        if (strcmp(json_text(watch->items[i].properties, "Name"), name) == 0)
            return watch->items[i].properties;
    return NULL;
}

static void drop(Watch *watch, Watched *item)
{
    Watched gone = *item;

    *item = watch->items[--watch->count];
    watch->handlers.changed(json_text(gone.properties, "Name"), gone.properties, NULL, false,
                            watch->handlers.userdata);
    cJSON_Delete(gone.properties);
    free(gone.path);
}

/* Takes the properties over. */
static void take(Watch *watch, const char *path, cJSON *properties)
{
    Watched *item = find_path(watch, path), *grown;
    cJSON *before = NULL;

    if (item) {
        before = item->properties;
        item->properties = properties;
        item->listed = true;
    } else {
        grown = reallocarray(watch->items, watch->count + 1, sizeof(*grown));
        if (grown)
            watch->items = grown;
        if (!grown || !(grown[watch->count].path = strdup(path))) {
            cJSON_Delete(properties);
            watch->failed = fail_oom();
            return;
        }
        item = &grown[watch->count++];
        item->properties = properties;
        item->listed = true;
    }
    watch->handlers.changed(json_text(properties, "Name"), before, properties, !watch->begun,
                            watch->handlers.userdata);
    cJSON_Delete(before);
}

/* --- what there is --- */

static int on_objects(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const sd_bus_error *error = sd_bus_message_get_error(reply);
    _cleanup_json_ cJSON *objects = NULL;
    Watch *watch = userdata;
    cJSON *object;
    int r;

    watch->listing = sd_bus_slot_unref(watch->listing);
    if (error && watch->begun && error_is_unreachable(error, 0))
        return 0; /* it has ended again: its return is heard */
    if (error) {
        watch->failed =
            ctl_explain(watch->ctl, error, -sd_bus_error_get_errno(error), "GetManagedObjects", NULL);
        return 0;
    }
    r = json_from_message(reply, &objects);
    if (r < 0) {
        watch->failed = ctl_bad_answer(r);
        return 0;
    }
    for (size_t i = 0; i < watch->count; i++)
        watch->items[i].listed = false;
    cJSON_ArrayForEach (object, objects) {
        cJSON *properties = cJSON_DetachItemFromObjectCaseSensitive(object, MICROVM_VM_INTERFACE);
        if (properties)
            take(watch, object->string, properties);
    }
    for (size_t i = watch->count; i-- > 0;)
        if (!watch->items[i].listed)
            drop(watch, &watch->items[i]);
    watch->told = watch->begun = true;
    watch->handlers.daemon(true, watch->handlers.userdata);
    return 0;
}

/* Asked without waiting: what is told before the answer is older than that, and what comes after is newer. */
static int ask_objects(Watch *watch)
{
    _cleanup_message_ sd_bus_message *call = NULL;
    int r;

    watch->listing = sd_bus_slot_unref(watch->listing);
    r = sd_bus_message_new_method_call(watch->ctl->bus, &call, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH,
                                       OBJECT_MANAGER, "GetManagedObjects");
    if (r >= 0)
        r = sd_bus_message_set_auto_start(call, 0);
    return r < 0 ? r
                 : sd_bus_call_async(watch->ctl->bus, &watch->listing, call, on_objects, watch, UINT64_MAX);
}

/* --- what happens --- */

static int on_properties(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const char *path = sd_bus_message_get_path(message), *interface;
    _cleanup_json_ cJSON *changes = NULL;
    Watch *watch = userdata;
    Watched *item = find_path(watch, path);
    const cJSON *change;
    cJSON *properties;

    if (!watch->told || !item || sd_bus_message_read(message, "s", &interface) < 0 ||
        strcmp(interface, MICROVM_VM_INTERFACE) != 0 || json_from_message(message, &changes) < 0)
        return 0;
    properties = cJSON_Duplicate(item->properties, true);
    cJSON_ArrayForEach (change, changes) {
        cJSON *copy = cJSON_Duplicate(change, true);
        if (!cJSON_ReplaceItemInObjectCaseSensitive(properties, change->string, copy))
            cJSON_AddItemToObject(properties, change->string, copy);
    }
    if (properties)
        take(watch, path, properties);
    return 0;
}

static int on_added(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    _cleanup_json_ cJSON *interfaces = NULL;
    Watch *watch = userdata;
    cJSON *properties;
    const char *path;

    if (!watch->told || sd_bus_message_read(message, "o", &path) < 0 ||
        json_from_message(message, &interfaces) < 0)
        return 0;
    properties = cJSON_DetachItemFromObjectCaseSensitive(interfaces, MICROVM_VM_INTERFACE);
    if (properties)
        take(watch, path, properties);
    return 0;
}

static int on_removed(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Watch *watch = userdata;
    Watched *item;
    const char *path;

    if (!watch->told || sd_bus_message_read(message, "o", &path) < 0)
        return 0;
    item = find_path(watch, path);
    if (item)
        drop(watch, item);
    return 0;
}

static int on_job(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const char *name, *verb, *result, *reason;
    Watch *watch = userdata;
    uint64_t id;

    if (watch->told && watch->handlers.job &&
        sd_bus_message_read(message, "tssss", &id, &name, &verb, &result, &reason) >= 0)
        watch->handlers.job(id, name, verb, result, reason, watch->handlers.userdata);
    return 0;
}

static int on_owner(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const char *name, *before, *after;
    Watch *watch = userdata;
    bool was_told = watch->told;

    if (sd_bus_message_read(message, "sss", &name, &before, &after) < 0)
        return 0;
    if (*before) {
        watch->told = false;
        watch->listing = sd_bus_slot_unref(watch->listing);
        if (was_told)
            watch->handlers.daemon(false, watch->handlers.userdata);
    }
    if (*after && ask_objects(watch) < 0)
        watch->failed = fail_oom();
    return 0;
}

/* --- life --- */

static int listen(Watch *watch)
{
    sd_bus *bus = watch->ctl->bus;
    int r;

    r = sd_bus_add_match(bus, NULL,
                         "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                         "member='NameOwnerChanged',arg0='" MICROVM_BUS_NAME "'",
                         on_owner, watch);
    if (r >= 0)
        r = sd_bus_add_match(bus, NULL,
                             "type='signal',sender='" MICROVM_BUS_NAME "',interface='" PROPERTIES "',"
                             "member='PropertiesChanged',path_namespace='" MICROVM_VM_PATH "'",
                             on_properties, watch);
    if (r >= 0)
        r = sd_bus_match_signal(bus, NULL, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH, OBJECT_MANAGER,
                                "InterfacesAdded", on_added, watch);
    if (r >= 0)
        r = sd_bus_match_signal(bus, NULL, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH, OBJECT_MANAGER,
                                "InterfacesRemoved", on_removed, watch);
    if (r >= 0 && watch->handlers.job)
        r = sd_bus_match_signal(bus, NULL, MICROVM_BUS_NAME, MICROVM_MANAGER_PATH, MICROVM_MANAGER_INTERFACE,
                                "JobRemoved", on_job, watch);
    return r;
}

int watch_begin(Ctl *ctl, const WatchHandlers *handlers, Watch *watch)
{
    int code, r;

    *watch = (Watch){.ctl = ctl, .handlers = *handlers};
    code = ctl_connect(ctl);
    if (code != MICROVM_EXIT_OK)
        return code;
    r = listen(watch);
    if (r >= 0)
        r = ask_objects(watch);
    return r < 0 ? fail(MICROVM_EXIT_FAILURE, "Can't listen to the bus: %s", strerror(-r)) : MICROVM_EXIT_OK;
}

int watch_step(Watch *watch, uint64_t deadline_usec)
{
    uint64_t now = now_monotonic_usec();
    int r;

    if (watch->failed)
        return watch->failed;
    r = sd_bus_process(watch->ctl->bus, NULL);
    if (r == 0)
        r = sd_bus_wait(watch->ctl->bus, deadline_usec == UINT64_MAX ? UINT64_MAX
                                         : deadline_usec > now       ? deadline_usec - now
                                                                     : 0);
    if (r < 0 && r != -EINTR)
        return fail(MICROVM_EXIT_UNREACHABLE, "The connection to the bus has ended: %s", strerror(-r));
    return watch->failed;
}

void watch_clear(Watch *watch)
{
    sd_bus_slot_unref(watch->listing);
    for (size_t i = 0; i < watch->count; i++) {
        cJSON_Delete(watch->items[i].properties);
        free(watch->items[i].path);
    }
    free(watch->items);
    *watch = (Watch){0};
}
