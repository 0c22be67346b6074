/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sd_journal_send(3) would wait for a journald that is busy, so that its protocol ("Native Journal Protocol",
 * systemd.io) is spoken here, on a socket that does not block.
 */
#include "supervise/console-journal.h"

#include "base/clock.h"
#include "base/file.h"
#include "supervise/console-lines.h"
#include "supervise/log-follow.h"

#include "microvm/names.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>

#define PACE_USEC  UINT64_C(200000)
#define RETRY_USEC UINT64_C(10000000) /* also how long a number of suppressed lines is added up */

enum {
    CHUNK = 16 * 1024,
    ENTRY_MAX = CONSOLE_LINE_MAX + 512,
    PLACE_MAX = 64,
    BUDGET = 2 * 1024 * 1024, /* read at a time: a flood must not keep the loop */
};

struct ConsoleJournal {
    sd_event *event;
    char *name, *socket_path, *place_path;
    LogFollow *follow; /* NULL: the run is over, and what is left is in the chunk */
    LineCutter cutter;
    LineRate rate;
    char chunk[CHUNK];
    size_t used, taken; /* of the chunk */
    char entry[ENTRY_MAX];
    size_t entry_size; /* 0: none waits */
    size_t budget;
    int socket, place; /* -EBADF: not open */
    sd_event_source *writable, *timer, *more, *unfinished;
};

ConsoleJournal *console_journal_free(ConsoleJournal *journal)
{
    if (!journal)
        return NULL;
    sd_event_source_disable_unref(journal->writable);
    sd_event_source_disable_unref(journal->timer);
    sd_event_source_disable_unref(journal->more);
    sd_event_source_disable_unref(journal->unfinished);
    log_follow_free(journal->follow);
    safe_close(journal->socket);
    safe_close(journal->place);
    sd_event_unref(journal->event);
    free(journal->name);
    free(journal->socket_path);
    free(journal->place_path);
    free(journal);
    return NULL;
}

/* --- to the journal --- */

static void put_entry(ConsoleJournal *journal, int priority, const char *text)
{
    int size = snprintf(journal->entry, sizeof(journal->entry),
                        "MESSAGE=%s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=" MICROVM_LOG_CONSOLE
                        "%s\n" MICROVM_LOG_NAME "=%s\nOBJECT_SYSTEMD_UNIT=" MICROVM_VM_UNIT_PREFIX
                        "%s.service\nMESSAGE_ID=" MICROVM_MESSAGE_CONSOLE "\n",
                        text, priority, journal->name, journal->name, journal->name);

    journal->entry_size = (size_t)MIN(size, (int)sizeof(journal->entry) - 1);
}

static void disconnect(ConsoleJournal *journal)
{
    journal->writable = sd_event_source_disable_unref(journal->writable);
    journal->socket = safe_close(journal->socket);
}

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *userdata);

static int connect_journal(ConsoleJournal *journal)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (journal->socket >= 0)
        return 0;
    if (strlen(journal->socket_path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, journal->socket_path);
    journal->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (journal->socket < 0)
        return -errno;
    if (connect(journal->socket, (struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return sd_event_add_io(journal->event, &journal->writable, journal->socket, 0, on_writable, journal);
}

/* Sends the entry that waits. 1: done, 0: not now, woken when it can be. */
static int send_entry(ConsoleJournal *journal)
{
    int r = connect_journal(journal);

    if (r >= 0 && send(journal->socket, journal->entry, journal->entry_size, MSG_NOSIGNAL) < 0)
        r = -errno;
    if (r == -EAGAIN)
        return sd_event_source_set_io_events(journal->writable, EPOLLOUT);
    if (r == -EMSGSIZE)
        r = 0; /* it will never take it */
    if (r >= 0) {
        journal->entry_size = 0;
        return 1;
    }
    /* There is no journald, or it begins anew. */
    disconnect(journal);
    return r;
}

/* --- from the log --- */

static void note_place(ConsoleJournal *journal)
{
    char text[PLACE_MAX];
    LogPlace place;
    uint64_t ahead = journal->used - journal->taken + journal->cutter.raw;

    log_follow_place(journal->follow, &place);
    /* In one piece and of one length: it is never half of two places. */
    snprintf(text, sizeof(text), "%020" PRIu64 " %020" PRIu64 "\n", place.inode,
             place.offset > ahead ? place.offset - ahead : 0);
    if (journal->place >= 0 && pwrite(journal->place, text, strlen(text), 0) < 0)
        journal->place = safe_close(journal->place); /* then lines may come twice after a restart */
}

static int read_place(const char *path, LogPlace *ret_place)
{
    _cleanup_free_ char *text = NULL;
    size_t size;
    int r = read_file(path, PLACE_MAX, &text, &size);

    if (r < 0)
        return r;
    return sscanf(text, "%" SCNu64 " %" SCNu64, &ret_place->inode, &ret_place->offset) == 2 ? 0 : -EBADMSG;
}

static int on_more(sd_event_source *source, uint64_t usec, void *userdata);
static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static int call_later(ConsoleJournal *journal, sd_event_source **timer, uint64_t usec,
                      sd_event_time_handler_t callback)
{
    if (*timer)
        return 0;
    return sd_event_add_time_relative(journal->event, timer, CLOCK_MONOTONIC, usec, usec / 10, callback,
                                      journal);
}

/* Fills the chunk. 1: done, 0: not now. */
static int fill(ConsoleJournal *journal)
{
    ssize_t n;

    if (!journal->follow)
        return 0;
    if (journal->budget < sizeof(journal->chunk))
        return call_later(journal, &journal->more, PACE_USEC, on_more);
    n = log_follow_read(journal->follow, journal->chunk, sizeof(journal->chunk));
    if (n <= 0)
        return (int)n;
    journal->budget -= (size_t)n;
    journal->used = (size_t)n;
    journal->taken = 0;
    return 1;
}

/* The next entry, from what was read and what there is to read. 1: there is one, 0: not now. */
static int next_entry(ConsoleJournal *journal)
{
    for (;;) {
        const char *line;
        int r;
        if (journal->taken == journal->used) {
            r = fill(journal);
            if (r <= 0)
                return r;
        }
        journal->taken += line_cutter_take(&journal->cutter, journal->chunk + journal->taken,
                                           journal->used - journal->taken, &line);
        if (line && line_rate_take(&journal->rate, now_usec(CLOCK_MONOTONIC))) {
            put_entry(journal, LOG_INFO, line);
            return 1;
        }
    }
}

/* Copies what there is, as far as the journal takes it. True: nothing is left of what was read. */
static bool pump(ConsoleJournal *journal)
{
    int r = 1;

    journal->budget = BUDGET;
    while (r > 0) {
        r = journal->entry_size > 0 ? 1 : next_entry(journal);
        if (r > 0)
            r = send_entry(journal);
    }
    if (journal->follow)
        note_place(journal);
    if (r < 0 || journal->rate.suppressed > 0)
        (void)call_later(journal, &journal->timer, RETRY_USEC, on_timer);
    return journal->entry_size == 0 && journal->taken == journal->used;
}

static void put_suppressed(ConsoleJournal *journal)
{
    char text[128];

    snprintf(text, sizeof(text),
             "%" PRIu64 " lines of the console were left out here: more than %d a second came",
             journal->rate.suppressed, LINE_RATE_PER_SECOND);
    put_entry(journal, LOG_WARNING, text);
    journal->rate.suppressed = 0;
}

/* After the run: what is left is copied, then it goes, or at once where there is no journald. */
static void go_on(ConsoleJournal *journal)
{
    bool done = pump(journal);

    if (journal->follow || (!done && journal->socket >= 0))
        return;
    if (done && journal->rate.suppressed > 0) {
        put_suppressed(journal);
        if (send_entry(journal) == 0)
            return;
    }
    console_journal_free(journal);
}

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    ConsoleJournal *journal = userdata;

    sd_event_source_set_io_events(source, 0);
    if (revents & (EPOLLHUP | EPOLLERR))
        disconnect(journal);
    go_on(journal);
    return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    ConsoleJournal *journal = userdata;

    journal->timer = sd_event_source_disable_unref(journal->timer);
    if (journal->rate.suppressed > 0 && journal->entry_size == 0)
        put_suppressed(journal);
    go_on(journal);
    return 0;
}

static int on_more(sd_event_source *source, uint64_t usec, void *userdata)
{
    ConsoleJournal *journal = userdata;

    journal->more = sd_event_source_disable_unref(journal->more);
    go_on(journal);
    return 0;
}

static void on_log(void *userdata)
{
    go_on(userdata);
}

/* sd-event frees what is left when the loop ends. */
static int on_exit_loop(sd_event_source *source, void *userdata)
{
    console_journal_free(userdata);
    return 0;
}

void console_journal_end(ConsoleJournal *journal)
{
    size_t kept;
    ssize_t n;

    (void)unlink(journal->place_path);
    (void)pump(journal);
    /* As much as there is room for, of what journald does not take now; the log has all of it. */
    kept = journal->used - journal->taken;
    memmove(journal->chunk, journal->chunk + journal->taken, kept);
    n = log_follow_read(journal->follow, journal->chunk + kept, sizeof(journal->chunk) - kept);
    journal->used = kept + (n > 0 ? (size_t)n : 0);
    journal->taken = 0;
    if (journal->used < sizeof(journal->chunk))
        journal->chunk[journal->used++] = '\n'; /* it ends in any case */
    journal->follow = log_follow_free(journal->follow);
    if (sd_event_add_exit(journal->event, &journal->unfinished, on_exit_loop, journal) < 0)
        console_journal_free(journal);
    else
        go_on(journal);
}

int console_journal_new(sd_event *event, const ConsoleJournalOptions *options, ConsoleJournal **ret_journal)
{
    _cleanup_(console_journal_freep)
    ConsoleJournal *journal = calloc(1, sizeof(*journal));
    LogPlace place = {0};
    bool known;
    int r = -ENOENT;

    if (!journal)
        return -ENOMEM;
    journal->socket = journal->place = -EBADF;
    journal->event = sd_event_ref(event);
    journal->name = strdup(options->name);
    journal->socket_path = strdup(options->socket);
    journal->place_path = strdup(options->place);
    if (!journal->name || !journal->socket_path || !journal->place_path)
        return -ENOMEM;
    known = !options->resume || read_place(options->place, &place) >= 0;
    if (!known) /* what was said until now has been copied, or was not meant to be */
        r = log_follow_new(event, options->state_dir, &(LogFollowOptions){.follow = true}, PACE_USEC, on_log,
                           journal, &journal->follow);
    if (r == -ENOENT)
        r = log_follow_new(event, options->state_dir, &(LogFollowOptions){.follow = true, .from = &place},
                           PACE_USEC, on_log, journal, &journal->follow);
    if (r < 0)
        return r;
    journal->place = open(options->place, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (journal->place < 0)
        return -errno;
    (void)pump(journal);
    *ret_journal = TAKE_PTR(journal);
    return 0;
}
