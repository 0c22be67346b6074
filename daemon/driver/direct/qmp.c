/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/direct/qmp.h"

#include "base/utf8.h"

#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    SKIPPED_MAX = 256 * 1024 * 1024, /* of a message that is too long; then it has no end */
    INPUT_KEPT = 64 * 1024,          /* room that is kept for the next message */
    OUTPUT_MAX = 256 * 1024,         /* waits for a QEMU that does not read */
    CALLS_MAX = 64,
    GARBAGE_MAX = 16, /* lines; then this is no QEMU */
    READ_AT_ONCE = 16 * 1024,
    ERROR_TEXT_MAX = 1000,
};
static const uint64_t NEGOTIATION_USEC = UINT64_C(30) * 1000000;
static const double ID_MAX = 9007199254740992.0; /* cJSON's numbers count exactly up to here */

typedef struct Call {
    Qmp *qmp;
    uint64_t id;
    qmp_reply_fn reply;
    void *userdata;
    sd_event_source *timer;
    struct Call *next;
} Call;

struct Qmp {
    sd_event *event;
    int fd;
    QmpHandlers handlers;
    sd_event_source *io;
    char *input, *output;
    size_t input_size, input_room, output_size;
    size_t searched;            /* of the input: there is no line end in it */
    size_t skipped;             /* of a message that is too long, up to now; 0: it is none */
    char *version;              /* of its greeting */
    Call *calls;                /* the oldest first */
    uint64_t last_id, answered; /* commands: the last one that was sent, and that has been answered */
    size_t n_calls, n_garbage;
    bool deaf;          /* writing to it failed: it is closed when all is read that it has said */
    const char *closed; /* why; NULL: it is open */
};

static void call_free(Call *call)
{
    sd_event_source_disable_unref(call->timer);
    free(call);
}

static Call *take_call(Qmp *qmp, uint64_t id)
{
    for (Call **link = &qmp->calls; *link; link = &(*link)->next)
        if ((*link)->id == id) {
            Call *call = *link;
            *link = call->next;
            qmp->n_calls--;
            return call;
        }
    return NULL;
}

static void answer(Call *call, const QmpReply *reply)
{
    if (call->reply)
        call->reply(call->qmp, reply, call->userdata);
    call_free(call);
}

/* --- what comes --- */

/* The value of a member of an object, cut out of its text, which cJSON could read; NULL: there is none. */
static char *cut_member(char *text, const char *name)
{
    char *key = NULL, *value = NULL;
    size_t depth = 0, key_size = 0;

    for (char *at = text; *at; at++) {
        if (*at == '"') {
            char *start = at + 1;
            for (at = start; *at && *at != '"'; at++)
                if (*at == '\\' && at[1])
                    at++;
            if (!*at)
                return NULL;
            if (depth == 1 && !key) {
                key = start;
                key_size = (size_t)(at - start);
            }
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == ':' && depth == 1) {
            value = at + 1;
        } else if (*at == '}' || *at == ']' || (*at == ',' && depth == 1)) {
            if (depth == 1 && value && key_size == strlen(name) && memcmp(key, name, key_size) == 0) {
                *at = '\0';
                return value + strspn(value, " \t");
            }
            depth -= *at != ',';
            if (depth == 0)
                return NULL;
            key = depth == 1 && *at == ',' ? NULL : key;
            value = depth == 1 && *at == ',' ? NULL : value;
        }
    }
    return NULL;
}

/* People are shown it. */
static const char *error_text(const cJSON *error, const char *member, const char *otherwise)
{
    char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, member));

    if (!text)
        return otherwise;
    text[strnlen(text, ERROR_TEXT_MAX)] = '\0';
    utf8_make_printable(text);
    return text;
}

static void on_reply(Qmp *qmp, const cJSON *message, const cJSON *id, char *line)
{
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(message, "error");
    uint64_t number =
        cJSON_IsNumber(id) && id->valuedouble > 0 && id->valuedouble < ID_MAX ? (uint64_t)id->valuedouble : 0;
    Call *call = take_call(qmp, number);
    QmpReply reply = {.json = cut_member(line, error ? "error" : "return")};

    if (number <= qmp->last_id)
        qmp->answered = MAX(qmp->answered, number);
    if (!call)
        return; /* past its deadline, or none of ours */
    if (error) {
        reply.error = -EREMOTEIO;
        reply.text = error_text(error, "desc", "an error without words");
        reply.class = error_text(error, "class", "GenericError");
    } else {
        reply.result = cJSON_GetObjectItemCaseSensitive(message, "return");
    }
    answer(call, &reply);
}

/* Once for each connection. */
static void on_greeting(Qmp *qmp, char *line)
{
    char *greeting = qmp->version ? NULL : cut_member(line, "QMP");
    char *version = greeting ? cut_member(greeting, "version") : NULL;

    qmp->version = version ? strdup(version) : NULL;
}

static void on_line(Qmp *qmp, char *line, size_t size)
{
    cJSON *message = cJSON_ParseWithLength(line, size);
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(message, "event");
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(message, "id");

    if (!cJSON_IsObject(message)) {
        if (++qmp->n_garbage >= GARBAGE_MAX)
            qmp->closed = "what it says is not QEMU's protocol";
    } else if (cJSON_IsString(event)) {
        qmp->handlers.event(qmp, event->valuestring, cJSON_GetObjectItemCaseSensitive(message, "data"), line,
                            qmp->handlers.userdata);
    } else if (id) {
        on_reply(qmp, message, id, line);
    } else if (cJSON_HasObjectItem(message, "QMP")) {
        on_greeting(qmp, line);
    } /* else an error that it can't tell the cause of */
    cJSON_Delete(message);
}

static void take_lines(Qmp *qmp)
{
    char *start = qmp->input, *from = start + qmp->searched, *end = start + qmp->input_size, *newline;

    while (!qmp->closed && (newline = memchr(from, '\n', (size_t)(end - from)))) {
        size_t size = (size_t)(newline - start);
        if (size > 0 && start[size - 1] == '\r')
            size--;
        start[size] = '\0';
        if (size > 0)
            on_line(qmp, start, size);
        start = from = newline + 1;
    }
    qmp->input_size = qmp->searched = (size_t)(end - start);
    memmove(qmp->input, start, qmp->input_size);
}

/*
 * A message that is longer than we take can only be an answer. Commands are carried out one after the other,
 * so it is that of the oldest one without, which may be past its deadline; what comes of it is dropped, and
 * the connection goes on.
 */
static void begin_to_skip(Qmp *qmp)
{
    bool is_answer = qmp->version && qmp->answered < qmp->last_id;
    Call *call = is_answer ? take_call(qmp, ++qmp->answered) : NULL;

    if (call)
        answer(call,
               &(QmpReply){.error = -EMSGSIZE, .text = "its answer is longer than microvmd takes (4 MiB)"});
    else if (!is_answer)
        qmp->closed = "it sent a message without an end";
    qmp->skipped = qmp->input_size;
    qmp->input_size = qmp->searched = 0;
}

/* Up to the end of that message. */
static void skip(Qmp *qmp)
{
    char *newline = memchr(qmp->input, '\n', qmp->input_size);
    size_t size = newline ? (size_t)(newline + 1 - qmp->input) : qmp->input_size;

    qmp->skipped = newline ? 0 : qmp->skipped + size;
    qmp->input_size -= size;
    memmove(qmp->input, qmp->input + size, qmp->input_size);
    if (qmp->skipped > SKIPPED_MAX)
        qmp->closed = "it sent a message without an end";
}

static int make_room(Qmp *qmp)
{
    size_t room = qmp->input_room > 0 ? 2 * qmp->input_room : READ_AT_ONCE;
    char *grown;

    if (qmp->input_room - qmp->input_size >= READ_AT_ONCE)
        return 0;
    grown = realloc(qmp->input, room);
    if (!grown)
        return -ENOMEM;
    qmp->input = grown;
    qmp->input_room = room;
    return 0;
}

/* Not for ever what its longest message took. */
static void give_back_room(Qmp *qmp)
{
    if (qmp->input_size > 0 || qmp->input_room <= INPUT_KEPT)
        return;
    free(TAKE_PTR(qmp->input));
    qmp->input_room = 0;
}

/* Whether there may be more. */
static bool read_some(Qmp *qmp)
{
    ssize_t n;

    if (make_room(qmp) < 0) {
        qmp->closed = "no memory for what it says";
        return false;
    }
    n = recv(qmp->fd, qmp->input + qmp->input_size, qmp->input_room - qmp->input_size, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        qmp->closed = n == 0 || errno == ECONNRESET ? "QEMU closed it" : "reading from it failed";
        return false;
    }
    qmp->input_size += (size_t)n;
    if (qmp->skipped > 0)
        skip(qmp);
    if (qmp->skipped == 0)
        take_lines(qmp);
    if (!qmp->closed && qmp->input_size > QMP_MESSAGE_MAX)
        begin_to_skip(qmp);
    give_back_room(qmp);
    return !qmp->closed;
}

/* --- what goes --- */

static void write_some(Qmp *qmp)
{
    size_t done = 0;

    while (done < qmp->output_size) {
        ssize_t n = send(qmp->fd, qmp->output + done, qmp->output_size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            qmp->deaf = true;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    qmp->output_size -= done;
    memmove(qmp->output, qmp->output + done, qmp->output_size);
    (void)sd_event_source_set_io_events(qmp->io, qmp->output_size > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void finish(Qmp *qmp)
{
    qmp->io = sd_event_source_disable_unref(qmp->io);
    while (qmp->calls)
        answer(take_call(qmp, qmp->calls->id), &(QmpReply){.error = -ENOTCONN, .text = qmp->closed});
    qmp->handlers.closed(qmp, qmp->closed, qmp->handlers.userdata);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    Qmp *qmp = userdata;

    if (events & EPOLLOUT)
        write_some(qmp);
    /* The rest in the next round: others have their turn. */
    if (!qmp->closed && !read_some(qmp) && !qmp->closed && qmp->deaf)
        qmp->closed = "writing to it failed";
    if (qmp->closed)
        finish(qmp);
    return 0;
}

const char *qmp_version(const Qmp *qmp)
{
    return qmp->version ? qmp->version : "{}";
}

void qmp_drain(Qmp *qmp)
{
    while (!qmp->closed && read_some(qmp))
        ;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
    Call *call = userdata;

    call = take_call(call->qmp, call->id);
    answer(call, &(QmpReply){.error = -ETIMEDOUT, .text = "QEMU did not answer in time"});
    return 0;
}

static int queue_output(Qmp *qmp, const char *text)
{
    size_t size = strlen(text);
    char *grown;

    if (qmp->output_size + size > OUTPUT_MAX)
        return -ENOBUFS;
    grown = realloc(qmp->output, qmp->output_size + size + 1);
    if (!grown)
        return -ENOMEM;
    qmp->output = grown;
    memcpy(grown + qmp->output_size, text, size);
    qmp->output_size += size;
    return 0;
}

/* One line; NULL: out of memory. Takes `arguments`. */
static char *write_command(const char *command, cJSON *arguments, uint64_t id)
{
    cJSON *message = cJSON_CreateObject();
    char *text = NULL, *line = NULL;
    bool good = message && cJSON_AddStringToObject(message, "execute", command) &&
                cJSON_AddNumberToObject(message, "id", (double)id);

    if (good && arguments)
        good = cJSON_AddItemToObject(message, "arguments", arguments);
    else
        cJSON_Delete(arguments);
    if (good)
        text = cJSON_PrintUnformatted(message);
    cJSON_Delete(message);
    if (text && asprintf(&line, "%s\n", text) < 0)
        line = NULL;
    cJSON_free(text);
    return line;
}

int qmp_call(Qmp *qmp, const char *command, cJSON *arguments, uint64_t timeout_usec, qmp_reply_fn reply,
             void *userdata)
{
    _cleanup_free_ char *line = write_command(command, arguments, qmp->last_id + 1);
    Call *call, **link = &qmp->calls;
    int r;

    if (!qmp->io) /* that it is closed has been told; before, this call is told of it, too */
        return -ENOTCONN;
    if (qmp->n_calls >= CALLS_MAX)
        return -ENOBUFS;
    call = calloc(1, sizeof(*call));
    if (!line || !call) {
        free(call);
        return -ENOMEM;
    }
    *call = (Call){.qmp = qmp, .id = qmp->last_id + 1, .reply = reply, .userdata = userdata};
    r = timeout_usec == UINT64_MAX ? 0
                                   : sd_event_add_time_relative(qmp->event, &call->timer, CLOCK_MONOTONIC,
                                                                timeout_usec, 0, on_deadline, call);
    if (r >= 0)
        r = queue_output(qmp, line);
    if (r < 0) {
        call_free(call);
        return r;
    }
    qmp->last_id++;
    qmp->n_calls++;
    while (*link)
        link = &(*link)->next;
    *link = call;
    write_some(qmp); /* a failure is told from the loop */
    return 0;
}

int qmp_new(sd_event *event, int fd, const QmpHandlers *handlers, Qmp **ret_qmp)
{
    _cleanup_(qmp_freep)
    Qmp *qmp = calloc(1, sizeof(*qmp));
    int r;

    if (!qmp)
        return -ENOMEM;
    qmp->fd = -EBADF;
    qmp->event = sd_event_ref(event);
    qmp->handlers = *handlers;
    r = sd_event_add_io(event, &qmp->io, fd, EPOLLIN, on_io, qmp);
    if (r < 0)
        return r;
    qmp->fd = fd;
    r = qmp_call(qmp, "qmp_capabilities", NULL, NEGOTIATION_USEC, NULL, NULL);
    if (r < 0) {
        qmp->fd = -EBADF; /* it stays the caller's */
        return r;
    }
    *ret_qmp = TAKE_PTR(qmp);
    return 0;
}

Qmp *qmp_free(Qmp *qmp)
{
    if (!qmp)
        return NULL;
    while (qmp->calls)
        call_free(take_call(qmp, qmp->calls->id));
    sd_event_source_disable_unref(qmp->io);
    sd_event_unref(qmp->event);
    safe_close(qmp->fd);
    free(qmp->input);
    free(qmp->output);
    free(qmp->version);
    free(qmp);
    return NULL;
}
