/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where libFuzzer comes in; FUZZ_TARGET is the function that this program is for. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return FUZZ_TARGET(data, size);
}
