/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is fuzzed: functions of any bytes that end the process when something is not as it must be. */
#ifndef TEST_FUZZ_H
#define TEST_FUZZ_H

#include "definitions.h"

/* Definitions are read, and what they are dumped as means the same. */
int fuzz_loader(const uint8_t *data, size_t size);
/* Definitions become plans, kernel command lines, domain XML and arguments, from which nothing can break
 * out. */
int fuzz_xml(const uint8_t *data, size_t size);

/* Loads a definition of `name` as the daemon does; NULL: there are errors. */
VmSpec *fuzz_load(const char *name, const uint8_t *data, size_t size);

bool fuzz_is_utf8(const char *text);

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: it must be that %s\n", __FILE__, __LINE__, #condition);                  \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#endif
