/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/spec-table.h"

#include <nettle/sha2.h>

static void digest_of(const char *prefix, const char *name, size_t index, uint8_t digest[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx context;
    char suffix[24] = "";

    if (index > 0)
        snprintf(suffix, sizeof(suffix), "/%zu", index);
    sha256_init(&context);
    sha256_update(&context, strlen(prefix), (const uint8_t *)prefix);
    sha256_update(&context, strlen(name), (const uint8_t *)name);
    sha256_update(&context, strlen(suffix), (const uint8_t *)suffix);
    sha256_digest(&context, SHA256_DIGEST_SIZE, digest);
}

char *default_machine_id(const char *name)
{
    uint8_t d[SHA256_DIGEST_SIZE];
    char *uuid = NULL;

    digest_of("microvm.nix:", name, 0, d);
    if (asprintf(&uuid, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", d[0], d[1],
                 d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13], d[14],
                 d[15]) < 0)
        return NULL;
    return uuid;
}

char *default_mac(const char *name, size_t index)
{
    uint8_t d[SHA256_DIGEST_SIZE];
    char *mac = NULL;

    digest_of("microvmd:mac:", name, index, d);
    return asprintf(&mac, "02:%02x:%02x:%02x:%02x:%02x", d[0], d[1], d[2], d[3], d[4]) < 0 ? NULL : mac;
}

char *default_interface_id(const char *name, size_t index)
{
    uint8_t d[SHA256_DIGEST_SIZE];
    char *id = NULL;

    digest_of("microvmd:interface:", name, index, d);
    return asprintf(&id, "mvm-%02x%02x%02x%02x%02x", d[0], d[1], d[2], d[3], d[4]) < 0 ? NULL : id;
}
