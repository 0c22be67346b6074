/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the guest of a run says of itself: that it is ready, lives, is in an emergency shell, shuts down. */
#include "supervise/vm.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/say.h"
#include "base/socket.h"
#include "supervise/guest-words.h"
#include "supervise/notify-stream.h"

/* How long a guest whose word is overdue is listened to before that counts: the word may have come while
 * microvmd itself was stopped or had no processor. */
#define DOUBT_USEC UINT64_C(2000000)

/* Each changes what is on record, is told on the bus and goes into the journal, which others need, too. A
 * guest that boots, reloads and reboots softly has a dozen. */
#define CHANGES_MAX  60
#define CHANGES_USEC UINT64_C(60000000)

struct VmNotify {
    NotifyStream *port;       /* NULL: it has none, or it is closed */
    sd_event_source *silence; /* its next word that it lives is due */
    bool doubt;               /* it was, and is waited for a moment longer */
    unsigned changes;         /* in the present minute */
    uint64_t minute_usec;     /* that it began at */
};

const char *vm_doing(const MicroVM *vm, bool paused)
{
    return paused ? "the guest is paused" : vm->record.trouble ? vm->record.trouble : "the guest is running";
}

/* --- liveness --- */

/* What its definition wants of a guest that is in trouble; `why` is one sentence without its full stop. */
static void act_on(MicroVM *vm, OnTimeout action, bool force, const char *why)
{
    bool goes_on = action == ON_TIMEOUT_WAIT;

    if (goes_on && streq(vm->record.trouble, why))
        return; /* it says so again */
    log_vm_warning(vm->name, "In trouble: %s%s.", why,
                   goes_on ? "; it goes on, as its definition wants it" : "");
    if (!goes_on) {
        vm_condemn(vm, MICROVM_RESULT_WATCHDOG, action == ON_TIMEOUT_FAIL, force, why);
    } else if (vm->record.state == MICROVM_RUNNING) {
        if (free_and_strdup(&vm->record.trouble, why) < 0)
            log_oom();
        vm_set_reason(vm, why);
    }
}

static void is_well(MicroVM *vm)
{
    if (!vm->record.trouble)
        return;
    free(vm->record.trouble);
    vm->record.trouble = NULL;
    if (vm->record.state == MICROVM_RUNNING)
        vm_set_reason(vm, vm_doing(vm, false));
}

static void hangs(MicroVM *vm, const char *why)
{
    if (vm->record.hangs)
        return;
    vm->record.hangs = true;
    act_on(vm, vm->booted->watchdog_action, true, why);
}

static void listen_for(MicroVM *vm, uint64_t usec);

static int on_silence(sd_event_source *source, uint64_t usec, void *userdata)
{
    MicroVM *vm = userdata;
    VmNotify *notify = vm->notify;
    _cleanup_free_ char *why = NULL;
    char timeout[64];

    if (vm->record.state != MICROVM_RUNNING) {
        listen_for(vm, vm->booted->watchdog_timeout_usec); /* one that stands still says nothing */
        return 0;
    }
    if (!notify->doubt) {
        listen_for(vm, DOUBT_USEC);
        notify->doubt = true;
        return 0;
    }
    notify->silence = sd_event_source_disable_unref(notify->silence);
    format_duration(vm->booted->watchdog_timeout_usec, timeout, sizeof(timeout));
    why = say("the guest hangs: it has not said that it lives for %s", timeout);
    hangs(vm, why ? why : "the guest hangs");
    return 0;
}

/* Its next word is due by then. */
static void listen_for(MicroVM *vm, uint64_t usec)
{
    VmNotify *notify = vm->notify;
    int r;

    notify->doubt = false;
    notify->silence = sd_event_source_disable_unref(notify->silence);
    r = sd_event_add_time_relative(vm->host->event, &notify->silence, CLOCK_MONOTONIC, usec, 0, on_silence,
                                   vm);
    if (r < 0)
        log_full(LOG_ERR, vm->name, r, "The guest's watchdog can't be timed: %m");
}

void vm_notify_resumed(MicroVM *vm)
{
    if (vm->notify && vm->notify->silence)
        listen_for(vm, vm->booted->watchdog_timeout_usec);
}

static bool has_watchdog(const MicroVM *vm)
{
    return vm->booted && vm->booted->watchdog_type == WATCHDOG_NOTIFY;
}

static void is_alive(MicroVM *vm)
{
    if (!has_watchdog(vm))
        return;
    if (vm->record.hangs) {
        vm->record.hangs = false;
        is_well(vm);
    }
    listen_for(vm, vm->booted->watchdog_timeout_usec);
    if (vm->record.keeps_alive)
        return;
    vm->record.keeps_alive = true; /* a daemon that takes our place goes on */
    vm_save(vm);
}

/* --- a message --- */

static bool tells_readiness(const MicroVM *vm)
{
    return vm->booted->readiness_type == READINESS_AUTO || vm->booted->readiness_type == READINESS_NOTIFY;
}

static void tell_readiness(MicroVM *vm, const GuestNews *news)
{
    if (news->trouble) {
        vm_guest_not_ready(vm, news->trouble);
        vm_readiness_detail(vm, news->trouble);
    }
    if (news->ready)
        vm_guest_ready(vm, "the guest said so");
}

/* Whether the guest may change its mind once more; what it says beyond that is not heard. */
static bool may_change(MicroVM *vm)
{
    VmNotify *notify = vm->notify;
    uint64_t now = now_usec(CLOCK_MONOTONIC);

    if (now - notify->minute_usec >= CHANGES_USEC) {
        notify->minute_usec = now;
        notify->changes = 0;
    }
    if (++notify->changes == CHANGES_MAX + 1)
        log_vm_warning(vm->name,
                       "The guest has said %d times in a minute that it is otherwise; no more of it is "
                       "heard in this minute.",
                       CHANGES_MAX);
    return notify->changes <= CHANGES_MAX;
}

void vm_notify_hear(MicroVM *vm, char *message)
{
    GuestWords before = vm->record.words;
    GuestNews news;
    bool changes;

    if (!vm->notify || !vm->booted || vm->settling)
        return;
    guest_words_take(&vm->record.words, message, &news);
    changes = memcmp(&before, &vm->record.words, sizeof(before)) != 0;
    if ((changes || (news.hangs && has_watchdog(vm) && !vm->record.hangs)) && !may_change(vm)) {
        vm->record.words = before;
        return;
    }
    vm_kernel_up(vm);
    if (*news.status)
        vm_guest_status(vm, news.status);
    if (tells_readiness(vm))
        tell_readiness(vm, &news);
    if (news.alive)
        is_alive(vm);
    if (news.hangs && has_watchdog(vm))
        hangs(vm, "the guest hangs: its own watchdog says so");
    if (news.ready)
        is_well(vm);
    if (news.stuck)
        act_on(vm, vm->booted->on_emergency, false, news.trouble);
    if (changes)
        vm_save(vm); /* a daemon that takes our place goes on */
}

/* --- the port --- */

static void on_line(NotifyStream *stream, char *text, void *userdata)
{
    vm_notify_hear(userdata, text);
}

static void on_closed(NotifyStream *stream, void *userdata)
{
    MicroVM *vm = userdata;

    vm->notify->port = notify_stream_free(stream);
}

static void open_port(MicroVM *vm)
{
    int fd = -EBADF, r;

    r = socket_connect(vm->runtime_dir, NOTIFY_SOCKET, &fd);
    if (r >= 0)
        r = notify_stream_new(vm->host->event, fd, &(NotifyHandlers){on_line, on_closed, vm},
                              &vm->notify->port);
    /* Where there was no room for it, it was not offered. */
    if (r < 0 && (r != -ENOENT || (vm_spec_needs_notify(vm->booted) && vm->booted->vsock_cid == 0)))
        log_full(LOG_WARNING, vm->name, r, "The guest can't be heard by %s/" NOTIFY_SOCKET ": %m",
                 vm->runtime_dir);
}

void vm_notify_begin(MicroVM *vm)
{
    MicrovmReadiness before = vm->record.readiness.state;

    if (!vm->booted || !vm_spec_wants_notify(vm->booted))
        return;
    if (!vm->notify) {
        vm->notify = calloc(1, sizeof(*vm->notify));
        if (!vm->notify) {
            log_oom();
            return;
        }
        /* (An earlier version has left no more than that on record.) */
        vm->record.words.ready |= before == MICROVM_READINESS_READY || before == MICROVM_READINESS_LOST;
        if (vm->record.words.emergency && tells_readiness(vm))
            vm_readiness_detail(vm, vm->record.trouble);
        if (vm->record.keeps_alive && has_watchdog(vm))
            listen_for(vm, vm->booted->watchdog_timeout_usec);
    }
    if (!vm->notify->port)
        open_port(vm);
}

void vm_notify_end(MicroVM *vm)
{
    VmNotify *notify = TAKE_PTR(vm->notify);

    if (!notify)
        return;
    notify_stream_free(notify->port);
    sd_event_source_disable_unref(notify->silence);
    free(notify);
}
