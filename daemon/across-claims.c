/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "across-claims.h"

#include <inttypes.h>

void claims_clear(Claims *claims)
{
    for (size_t i = 0; i < claims->count; i++) {
        free(claims->items[i].path);
        free(claims->items[i].rest);
    }
    free(claims->items);
    file_places_clear(&claims->places);
    *claims = (Claims){0};
}

/* --- of one spec --- */

/* Like `like`, for what `kind` and the rest say; NULL: out of memory. */
static Claim *add(Claims *claims, const Claim *like, ClaimKind kind, size_t item, bool strong)
{
    Claim *claim;

    if (claims->count == claims->room) {
        size_t room = claims->room ? 2 * claims->room : 64;
        Claim *grown = reallocarray(claims->items, room, sizeof(*grown));
        if (!grown)
            return NULL;
        claims->items = grown;
        claims->room = room;
    }
    claim = &claims->items[claims->count++];
    *claim = *like;
    claim->kind = kind;
    claim->item = item;
    claim->strong = strong;
    return claim;
}

static int add_text(Claims *claims, const Claim *like, ClaimKind kind, size_t item, const char *text)
{
    Claim *claim = add(claims, like, kind, item, true);

    if (claim)
        claim->text = text;
    return claim ? 0 : -ENOMEM;
}

/* Two addresses of one port go together, all addresses of it and one of them don't. */
static int add_port(Claims *claims, const Claim *like, size_t item, const ForwardSpec *forward)
{
    bool all = streq(forward->host_address, "0.0.0.0");
    Claim *claim;

    for (ClaimKind kind = CLAIM_PORT; kind <= CLAIM_ADDRESS_PORT; kind++) {
        if (all && kind == CLAIM_ADDRESS_PORT)
            continue;
        claim = add(claims, like, kind, item, all || kind == CLAIM_ADDRESS_PORT);
        if (!claim)
            return -ENOMEM;
        claim->number[0] = forward->proto;
        claim->number[1] = forward->host_port;
        if (kind == CLAIM_ADDRESS_PORT)
            claim->text = forward->host_address;
    }
    return 0;
}

static int add_image(Claims *claims, const Claim *like, size_t item, const VolumeSpec *volume,
                     const char *name, const char *state_dir)
{
    Claim *claim = add(claims, like, CLAIM_IMAGE, item, !volume->read_only);
    FilePlace place;

    if (!claim)
        return -ENOMEM;
    if (volume->image[0] == '/')
        claim->path = strdup(volume->image);
    else if (asprintf(&claim->path, "%s/vm/%s/%s", state_dir, name, volume->image) < 0)
        claim->path = NULL;
    if (!claim->path || file_place(&claims->places, claim->path, &place) < 0)
        return -ENOMEM;
    claim->number[0] = place.device;
    claim->number[1] = place.inode;
    claim->rest = place.rest;
    if (place.rest)
        claim->text = place.rest;
    return 0;
}

int claims_add(Claims *claims, Claimant claimant, size_t owner, const VmSpec *spec, const char *name,
               const char *state_dir)
{
    Claim like = {.claimant = claimant, .owner = owner, .text = ""}, *claim;
    int r = add_text(claims, &like, CLAIM_MACHINE_ID, 0, spec->machine_id);

    if (r >= 0 && spec->vsock_cid > 0) {
        claim = add(claims, &like, CLAIM_CID, 0, true);
        if (claim)
            claim->number[0] = spec->vsock_cid;
        r = claim ? 0 : -ENOMEM;
    }
    for (size_t i = 0; i < spec->n_interfaces && r >= 0; i++) {
        const InterfaceSpec *interface = &spec->interfaces[i];
        r = add_text(claims, &like, CLAIM_MAC, i, interface->mac);
        if (r >= 0 && interface->type != INTERFACE_USER) /* that has none on the host */
            r = add_text(claims, &like, CLAIM_INTERFACE, i, interface->id);
    }
    for (size_t i = 0; i < spec->n_forward_ports && r >= 0; i++)
        if (spec->forward_ports[i].from == FORWARD_FROM_HOST)
            r = add_port(claims, &like, i, &spec->forward_ports[i]);
    for (size_t i = 0; i < spec->n_volumes && r >= 0; i++)
        r = add_image(claims, &like, i, &spec->volumes[i], name, state_dir);
    return r;
}

/* --- which are the same --- */

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_keys(const Claim *a, const Claim *b)
{
    int order = compare_numbers(a->kind, b->kind);

    for (size_t i = 0; i < ELEMENTSOF(a->number) && order == 0; i++)
        order = compare_numbers(a->number[i], b->number[i]);
    return order ? order : strcmp(a->text, b->text);
}

bool claims_meet(const Claim *a, const Claim *b)
{
    return compare_keys(a, b) == 0;
}

int claims_compare(const void *left, const void *right)
{
    static const int ranks[] = {
        [CLAIMANT_RUN] = 0,
        [CLAIMANT_BEFORE] = 1,
        [CLAIMANT_DEFINITION] = 2,
    };
    const Claim *a = left, *b = right;
    int order = compare_keys(a, b);

    order = order ? order : compare_numbers(a->owner, b->owner);
    order = order ? order : ranks[a->claimant] - ranks[b->claimant];
    return order ? order : compare_numbers(a->item, b->item);
}

/* --- for people --- */

char *claim_describe(const Claim *claim)
{
    char *text = NULL;
    int n = -1;

    switch (claim->kind) {
    case CLAIM_MACHINE_ID:
        n = asprintf(&text, "machineId %s", claim->text);
        break;
    case CLAIM_CID:
        n = asprintf(&text, "vsock CID %" PRIu64, claim->number[0]);
        break;
    case CLAIM_MAC:
        n = asprintf(&text, "MAC address %s", claim->text);
        break;
    case CLAIM_INTERFACE:
        n = asprintf(&text, "interface %s", claim->text);
        break;
    case CLAIM_PORT:
    case CLAIM_ADDRESS_PORT:
        n = asprintf(&text, "port of the host %s %" PRIu64,
                     forward_proto_to_string((ForwardProto)claim->number[0]), claim->number[1]);
        break;
    case CLAIM_IMAGE:
        n = asprintf(&text, "image %s", claim->path);
        break;
    }
    return n < 0 ? NULL : text;
}

void claim_pointer(const Claim *claim, char *pointer, size_t size)
{
    static const struct {
        const char *list, *key;
    } places[] = {
        [CLAIM_MACHINE_ID] = {NULL, "machineId"},     [CLAIM_CID] = {NULL, "vsock/cid"},
        [CLAIM_MAC] = {"interfaces", "mac"},          [CLAIM_INTERFACE] = {"interfaces", "id"},
        [CLAIM_PORT] = {"forwardPorts", "host/port"}, [CLAIM_ADDRESS_PORT] = {"forwardPorts", "host/port"},
        [CLAIM_IMAGE] = {"volumes", "image"},
    };
    const char *list = places[claim->kind].list, *key = places[claim->kind].key;

    if (list)
        snprintf(pointer, size, "/%s/%zu/%s", list, claim->item, key);
    else
        snprintf(pointer, size, "/%s", key);
}
