/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/direct/qmp-share.h"

#include "base/listener.h"
#include "base/say.h"

#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    CLIENTS_MAX = 16,
    RELAYS_MAX = CLIENTS_MAX + 16, /* on their way; the rest of what Qmp takes is microvmd's own */
    LISTENERS_MAX = 2,
    INPUT_MAX = QMP_COMMAND_MAX + 1,
    OUTPUT_MAX = QMP_MESSAGE_MAX + 1024 * 1024, /* waits for who does not read: an answer, and events */
};

typedef struct Client {
    QmpShare *share;
    int fd;
    sd_event_source *io;
    char *input, *output;
    size_t input_size, output_size;
    QmpScan scan; /* of the command that is coming */
    bool negotiated;
    bool waits; /* for an answer: until then it is not listened to, as by QEMU itself */
    bool gone;
    struct Client *next;
} Client;

/* A command on its way. */
typedef struct Relay {
    QmpShare *share;
    Client *client; /* NULL: of somebody without a connection, or who has gone */
    cJSON *id;
    driver_qmp_fn done;
    void *userdata;
    struct Relay *next;
} Relay;

struct QmpShare {
    sd_event *event;
    Qmp *qmp;
    Listener *listeners[LISTENERS_MAX];
    Client *clients;
    Relay *relays;
    size_t n_clients, n_relays;
};

static void client_free(Client *client)
{
    for (Relay *relay = client->share->relays; relay; relay = relay->next)
        if (relay->client == client)
            relay->client = NULL;
    sd_event_source_disable_unref(client->io);
    safe_close(client->fd);
    free(client->input);
    free(client->output);
    free(client);
}

/* Of those that are gone, which is noticed where they are still needed. */
static void sweep(QmpShare *share)
{
    for (Client **link = &share->clients; *link;) {
        Client *client = *link;
        if (!client->gone) {
            link = &client->next;
            continue;
        }
        *link = client->next;
        share->n_clients--;
        client_free(client);
    }
}

static void relay_free(Relay *relay)
{
    for (Relay **link = &relay->share->relays; *link; link = &(*link)->next)
        if (*link == relay) {
            *link = relay->next;
            relay->share->n_relays--;
            break;
        }
    cJSON_Delete(relay->id);
    free(relay);
}

/* --- what a client is told --- */

/* Who has something to read, or waits, is not listened to; who has not, is. That one has gone is told in any
 * case. */
static void listen_or_not(Client *client)
{
    uint32_t events = client->output_size > 0 ? EPOLLOUT : client->waits ? 0 : EPOLLIN;

    if (sd_event_source_set_io_events(client->io, events) < 0)
        client->gone = true;
}

static void write_some(Client *client)
{
    size_t done = 0;

    while (done < client->output_size) {
        ssize_t n =
            send(client->fd, client->output + done, client->output_size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            client->gone = true;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    client->output_size -= done;
    memmove(client->output, client->output + done, client->output_size);
    if (client->output_size == 0)
        free(TAKE_PTR(client->output));
    listen_or_not(client);
}

/* Takes `text`; NULL: there was no memory for it. */
static void tell(Client *client, char *text)
{
    size_t size = text ? strlen(text) : 0;
    char *grown = NULL;

    if (text && client->output_size + size <= OUTPUT_MAX)
        grown = realloc(client->output, client->output_size + size);
    if (grown) {
        client->output = grown;
        memcpy(grown + client->output_size, text, size);
        client->output_size += size;
        write_some(client);
    } else {
        client->gone = true;
    }
    free(text);
}

/* { "return": …, "id": … } */
static void tell_answer(Client *client, const char *member, const char *json, const cJSON *id)
{
    char *id_text = id ? cJSON_PrintUnformatted(id) : NULL;

    if (id)
        tell(client, say("{\"%s\": %s, \"id\": %s}\r\n", member, json, id_text ? id_text : "null"));
    else
        tell(client, say("{\"%s\": %s}\r\n", member, json));
    cJSON_free(id_text);
}

/* `text` has no characters that JSON escapes. */
static void tell_error(Client *client, const char *class, const char *text, const cJSON *id)
{
    _cleanup_free_ char *json = say("{\"class\": \"%s\", \"desc\": \"%s\"}", class, text);

    if (json)
        tell_answer(client, "error", json, id);
    else
        client->gone = true;
}

void qmp_share_event(QmpShare *share, const char *line)
{
    for (Client *client = share->clients; client; client = client->next)
        if (client->negotiated && !client->gone)
            tell(client, say("%s\r\n", line));
    sweep(share);
}

/* --- commands on their way --- */

static void take_commands(Client *client);

static void tell_reply(Client *client, const QmpReply *reply, const cJSON *id)
{
    if (reply->json)
        tell_answer(client, reply->error < 0 ? "error" : "return", reply->json, id);
    else
        tell_error(client, "GenericError", reply->text ? reply->text : "QEMU did not answer", id);
}

static void answer_call(const Relay *relay, const QmpReply *reply)
{
    int error = reply->error == -ENOTCONN ? -ESRCH : reply->error;
    _cleanup_free_ char *text = NULL;

    if (reply->error == -EREMOTEIO)
        text = say("%s: %s", reply->class, reply->text);
    else if (reply->error == -ENOTCONN)
        text = say("the connection to its QEMU has ended: %s", reply->text);
    relay->done(error, text ? text : reply->text, reply->json ? reply->json : "{}", relay->userdata);
}

static void on_reply(Qmp *qmp, const QmpReply *reply, void *userdata)
{
    Relay *relay = userdata;
    QmpShare *share = relay->share;
    Client *client = relay->client;

    if (client) {
        client->waits = false;
        tell_reply(client, reply, relay->id);
        take_commands(client);
    } else if (relay->done) {
        answer_call(relay, reply);
    }
    relay_free(relay);
    sweep(share);
}

/* Takes the arguments and, in case of success, the id. -EBUSY: too many are on their way. */
static int send_on(QmpShare *share, QmpCommand *command, uint64_t timeout_usec, Relay with)
{
    Relay *relay = share->n_relays < RELAYS_MAX ? calloc(1, sizeof(*relay)) : NULL;
    int r;

    if (!relay)
        return share->n_relays < RELAYS_MAX ? -ENOMEM : -EBUSY;
    r = qmp_call(share->qmp, command->name, TAKE_PTR(command->arguments), timeout_usec, on_reply, relay);
    if (r < 0) {
        free(relay);
        return r;
    }
    *relay = with;
    relay->share = share;
    relay->id = TAKE_PTR(command->id);
    relay->next = share->relays;
    share->relays = relay;
    share->n_relays++;
    return 0;
}

/* What would come to nothing here, and why. */
static const char *refusal(const char *name)
{
    if (streq(name, "getfd") || streq(name, "add-fd"))
        return "microvmd passes no file descriptors on to QEMU";
    return NULL;
}

int qmp_share_call(QmpShare *share, const QmpCommand *command, uint64_t timeout_usec, driver_qmp_fn done,
                   void *userdata)
{
    QmpCommand copy = {.name = command->name};
    const char *why = refusal(command->name);
    int r;

    if (why || streq(command->name, "qmp_capabilities")) { /* that is done already */
        done(why ? -EOPNOTSUPP : 0, why, "{}", userdata);
        return 0;
    }
    if (command->arguments && !(copy.arguments = cJSON_Duplicate(command->arguments, true)))
        return -ENOMEM;
    r = send_on(share, &copy, timeout_usec, (Relay){.done = done, .userdata = userdata});
    cJSON_Delete(copy.arguments); /* not taken: there was no place for it */
    return r;
}

/* --- what a client says --- */

static void negotiate(Client *client, const QmpCommand *command)
{
    const cJSON *wanted = cJSON_GetObjectItemCaseSensitive(command->arguments, "enable");

    if (client->negotiated) {
        tell_error(client, "CommandNotFound",
                   "Capabilities negotiation is already complete, command 'qmp_capabilities' ignored",
                   command->id);
    } else if (wanted && (!cJSON_IsArray(wanted) || cJSON_GetArraySize(wanted) > 0)) {
        tell_error(client, "GenericError", "No capabilities are offered by microvmd", command->id);
    } else {
        client->negotiated = true;
        tell_answer(client, "return", "{}", command->id);
    }
}

static void carry_out(Client *client, QmpCommand *command)
{
    const char *why = refusal(command->name);
    int r;

    if (streq(command->name, "qmp_capabilities")) {
        negotiate(client, command);
    } else if (!client->negotiated) {
        tell_error(client, "CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'",
                   command->id);
    } else if (why) {
        tell_error(client, "GenericError", why, command->id);
    } else {
        r = send_on(client->share, command, UINT64_MAX, (Relay){.client = client});
        client->waits = r >= 0;
        if (r < 0)
            tell_error(client, "GenericError",
                       r == -ENOTCONN ? "the connection to QEMU has ended"
                                      : "too many commands wait for QEMU",
                       command->id);
    }
}

static void take_command(Client *client, const char *text, size_t size)
{
    const char *why = "out of memory";
    QmpCommand command;

    if (qmp_command_parse(text, size, &command, &why) < 0)
        tell_error(client, "GenericError", why, command.id);
    else
        carry_out(client, &command);
    qmp_command_clear(&command);
}

static bool is_blank(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r\n", text[i]) || text[i] == '\0')
            return false;
    return true;
}

/* One after the other, as long as they are answered at once and the answers go out. */
static void take_commands(Client *client)
{
    size_t size;

    while (!client->gone && !client->waits && client->output_size == 0 &&
           (size = qmp_scan(&client->scan, client->input, client->input_size)) > 0) {
        if (!is_blank(client->input, size))
            take_command(client, client->input, size);
        client->input_size -= size;
        memmove(client->input, client->input + size, client->input_size);
    }
    if (client->scan.size == INPUT_MAX) {
        tell_error(client, "GenericError", "The command is longer than microvmd takes (64 KiB)", NULL);
        client->gone = true;
    }
    listen_or_not(client);
}

static void read_some(Client *client)
{
    ssize_t n;

    if (!client->input)
        client->input = malloc(INPUT_MAX);
    if (!client->input) {
        client->gone = true;
        return;
    }
    n = recv(client->fd, client->input + client->input_size, INPUT_MAX - client->input_size, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        client->gone = true;
    else
        client->input_size += (size_t)n;
    take_commands(client);
}

static int on_client(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    Client *client = userdata;
    QmpShare *share = client->share;

    if (client->output_size > 0) {
        write_some(client);
        take_commands(client);
    } else if (client->waits) {
        client->gone = true; /* nobody waits any more: its answer is dropped, its place is free */
    } else {
        read_some(client);
    }
    sweep(share);
    return 0;
}

/* --- who comes --- */

static int welcome(QmpShare *share, int fd)
{
    Client *client = calloc(1, sizeof(*client));
    int r;

    if (!client)
        return -ENOMEM;
    r = sd_event_add_io(share->event, &client->io, fd, EPOLLIN, on_client, client);
    if (r < 0) {
        free(client);
        return r;
    }
    client->share = share;
    client->fd = fd;
    client->next = share->clients;
    share->clients = client;
    share->n_clients++;
    tell(client, say("{\"QMP\": {\"version\": %s, \"capabilities\": []}}\r\n", qmp_version(share->qmp)));
    return 0;
}

static void on_connection(int fd, void *userdata)
{
    static const char full[] =
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"too many clients share this QEMU\"}}\r\n";
    QmpShare *share = userdata;

    if (share->n_clients >= CLIENTS_MAX)
        (void)!send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (share->n_clients >= CLIENTS_MAX || welcome(share, fd) < 0)
        safe_close(fd);
    sweep(share);
}

int qmp_share_listen(QmpShare *share, int fd)
{
    size_t free_place = share->listeners[0] ? 1 : 0;
    Listener **listener = &share->listeners[free_place];

    if (*listener || listen(fd, CLIENTS_MAX) < 0) {
        int r = *listener ? -EBUSY : -errno;
        safe_close(fd);
        return r;
    }
    return listener_new(share->event, fd, "Connections to a shared QEMU", on_connection, share, listener);
}

int qmp_share_new(sd_event *event, Qmp *qmp, QmpShare **ret_share)
{
    QmpShare *share = calloc(1, sizeof(*share));

    if (!share)
        return -ENOMEM;
    share->event = sd_event_ref(event);
    share->qmp = qmp;
    *ret_share = share;
    return 0;
}

QmpShare *qmp_share_free(QmpShare *share)
{
    if (!share)
        return NULL;
    for (Client *client = share->clients; client; client = client->next)
        client->gone = true;
    sweep(share);
    while (share->relays) {
        Relay *relay = share->relays;
        if (relay->done)
            relay->done(-ESRCH, "the connection to its QEMU has ended", NULL, relay->userdata);
        relay_free(relay);
    }
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        listener_free(share->listeners[i]);
    sd_event_unref(share->event);
    free(share);
    return NULL;
}
