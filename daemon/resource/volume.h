/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disk images of a microVM. */
#ifndef RESOURCE_VOLUME_H
#define RESOURCE_VOLUME_H

#include "spec/spec.h"

/*
 * Makes sure that the image is there; blocks (file work, mkfs), so not on the loop. `seen`: it has been there
 * before, so that its absence is an error and never a reason for an empty disk. A new one is made complete
 * under another name and then renamed: there is no half-made volume. `vm` is for messages. Returns 1 when it
 * was made, 0 when it was there, or a negative errno with the sentence in *ret_error.
 */
int volume_ensure(const VolumeSpec *volume, const char *vm, const char *path, bool seen, char **ret_error);

/* Whether that can work, as far as a look tells: 1 where it is to be made. Errors likewise. */
int volume_check(const VolumeSpec *volume, const char *vm, const char *path, bool seen, char **ret_error);

#endif
