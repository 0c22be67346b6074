/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of its host a microVM asks for that only one can have. */
#ifndef ACROSS_CLAIMS_H
#define ACROSS_CLAIMS_H

#include "base/file-place.h"
#include "spec/spec.h"

typedef enum ClaimKind {
    CLAIM_MACHINE_ID,
    CLAIM_CID,
    CLAIM_MAC,
    CLAIM_INTERFACE,
    CLAIM_PORT,         /* on all addresses, or (not strong) on some of them */
    CLAIM_ADDRESS_PORT, /* on one of them */
    CLAIM_IMAGE,
} ClaimKind;

/* Who asks: a definition, one that was accepted before, or a run. */
typedef enum Claimant {
    CLAIMANT_DEFINITION,
    CLAIMANT_BEFORE,
    CLAIMANT_RUN,
} Claimant;

typedef struct Claim {
    Claimant claimant;
    ClaimKind kind;
    size_t owner; /* index: of the definition, or of the run */
    size_t item;  /* index in the list that it is from */
    bool strong;  /* excludes all others of the same; else only those that are strong */
    /* What it is: equal ones meet. */
    uint64_t number[2];
    const char *text; /* never NULL; the spec's or the claim's own */
    char *path;       /* of an image, else NULL */
    char *rest;       /* what `text` is then, or NULL */
    /* across-rivals.c's own */
    int rank; /* among those of the same: the lower, the earlier it has it */
    bool held;
    size_t group;
    size_t next; /* of the same definition; SIZE_MAX: none */
} Claim;

typedef struct Claims {
    Claim *items;
    size_t count, room;
    FilePlaces places;
} Claims;

void claims_clear(Claims *claims);

/* Appends all of a spec, which must outlive them; images are looked up. `state_dir`: of all microVMs. 0 or
 * -ENOMEM. */
int claims_add(Claims *claims, Claimant claimant, size_t owner, const VmSpec *spec, const char *name,
               const char *state_dir);

/* For qsort(): equal ones together, what a definition had before ahead of the same one now. */
int claims_compare(const void *a, const void *b);
bool claims_meet(const Claim *a, const Claim *b);

/* "MAC address 02:00:00:00:00:01"; NULL: out of memory. */
char *claim_describe(const Claim *claim);
/* Where it is in its definition. */
void claim_pointer(const Claim *claim, char *pointer, size_t size);

#endif
