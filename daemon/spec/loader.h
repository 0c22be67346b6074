/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bytes of a definition file → checked VmSpec. */
#ifndef SPEC_LOADER_H
#define SPEC_LOADER_H

#include "base/problem.h"
#include "spec/spec.h"
#include "spec/table.h"

/* What a definition is read against. */
typedef struct SpecContext {
    /* What the host configuration says for keys that a definition leaves out. */
    DriverKind driver;
    Accel accel;
    /* The file that is merged below every definition, with its drop-ins; NULL: none. */
    const char *defaults_path;
    /* Refuses what those who are to run it can't do; NULL: it has been found good before. */
    void (*check)(const VmSpec *spec, const TableReader *reader);
    bool recorded; /* see TableReader */
} SpecContext;

/* Largest definition file that is read, in bytes. */
#define SPEC_FILE_MAX (1024 * 1024)

/*
 * Loads the definition of `name` from `text` (`size` bytes; `path` only for messages and VmSpec.path, may be
 * NULL). Every problem goes to `problems`, not just the first. Returns 0, -EBADMSG when there is an error
 * among them, or -ENOMEM. The spec is a new reference.
 */
int vm_spec_parse(const char *name, const char *path, const char *text, size_t size,
                  const SpecContext *context, ProblemList *problems, VmSpec **ret_spec);

/* As above from what was scanned, or merged from several files, already. */
int vm_spec_read(const char *name, const char *path, const JsonDocument *document, const SpecContext *context,
                 ProblemList *problems, VmSpec **ret_spec);

/* The complete definition (every key, defaults filled in) as formatted JSON; NULL: out of memory. */
char *vm_spec_to_json(const VmSpec *spec);

/* JSON Schema 2020-12 of a definition, from the same table; NULL: out of memory. */
char *vm_spec_schema(void);

#endif
