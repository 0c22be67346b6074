/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* handle.c: what systemd is told. handle-process.c: what the processes of handles are told, and say. */
#ifndef BUS_HANDLE_INTERNAL_H
#define BUS_HANDLE_INTERNAL_H

#include "bus/handle-words.h"
#include "bus/server.h"

/* The process of a handle. Before it has said its name, it is nobody's. */
typedef struct Attached {
    Handles *handles;
    Handle *handle;
    int fd;
    sd_event_source *source;
    HandleTalk talk;
    char *status; /* that it was told last */
    struct Attached *next;
} Attached;

struct Handle {
    Handles *handles;
    MicroVM *vm;
    bool told;          /* see HandleLook; so is due */
    bool due, late;     /* the start that is to be told waits, has waited */
    bool failed;        /* so it was shown, last */
    bool known;         /* something of it has been told before, in this life of the daemon */
    bool gates;         /* handles_pending() for the sake of it */
    bool end_asked;     /* systemd asks for its end, and was asked back whether the host goes down */
    bool stop_waits;    /* for its driver to be asked what runs, which has not happened yet */
    bool asks_start;    /* that `call` and `job` are about */
    sd_bus_slot *call;  /* to systemd, which has not answered yet */
    char *job;          /* that it has answered with; NULL: none, or it is over */
    Attached *attached; /* NULL: no process is */
    struct Handle *next;
};

struct Handles {
    BusServer *server;
    bool systemd;
    sd_event_source *timer;
    Handle *first;
    size_t gates;
    bool unavailable_said;
    char *directory;         /* where processes listen */
    sd_event_source *source; /* for those that come */
    Attached *attached;
};

static inline HandlePhase handle_phase_of(const Handle *handle)
{
    /* A stop that waits for others has been accepted, though it runs on. */
    if (handle->vm->record.stop_held)
        return HANDLE_STOPPING;
    return handle_phase(handle->vm->record.state, handle->vm->record.readiness.state,
                        handle->vm->record.again);
}

/* That of a microVM, found or made; NULL: out of memory. */
Handle *handle_get(Handles *handles, MicroVM *vm);
/* Does what is to be done now: tells systemd, and the process. */
void handle_look(Handle *handle);

/* systemd's answer that there are no handles: who masks the template wants none, and an installation may be
 * without. */
static inline bool handles_are_unavailable(const sd_bus_error *error)
{
    return sd_bus_error_has_names(error, "org.freedesktop.systemd1.UnitMasked",
                                  "org.freedesktop.systemd1.NoSuchUnit");
}

/* Something asked of systemd is under way. */
static inline bool handle_is_under_way(const Handle *handle)
{
    return handle->call || handle->job;
}

/* handle-process.c */
int handles_listen(Handles *handles);
void handles_listen_no_more(Handles *handles);
/* Tells the process how the microVM is, if there is one. */
void handle_talk(Handle *handle);
/* systemd asks for the end of a handle, and it is not because we do. */
void handle_end_asked(Handle *handle);
/* systemd was asked for a start in place of our stop, which had not begun: the process stays. */
void handle_start_asked(Handle *handle);
/* The microVM is gone. */
void handle_detach(Handle *handle);

#endif
