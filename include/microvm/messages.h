/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What our journal entries are about: their MESSAGE_ID=, stable, each explained in the message catalog
 * (journalctl -x). Not every entry has one.
 */
#ifndef MICROVM_MESSAGES_H
#define MICROVM_MESSAGES_H

#include "microvm/names.h"

#define MICROVM_MESSAGE_STATE    "e40356cbc6e74affb684fa349bb8cb40" /* a microVM has another state */
#define MICROVM_MESSAGE_FAILED   "f3c08b171a4d498280c7a4aeaf31eb02" /* it failed, and nothing follows */
#define MICROVM_MESSAGE_BACKOFF  "c9062dc86b9c4a10969e6e5d5ce39f89" /* it ended badly, and starts again later */
#define MICROVM_MESSAGE_REQUEST  "17f2246ac42a4604a4bb4aaedd155154" /* somebody asked that it start or stop */
#define MICROVM_MESSAGE_CRASH    "3cc04110abe041bdae000033767d6a3f" /* a run ended badly: the report */
#define MICROVM_MESSAGE_PANIC    "e00679a790e941948c836a47a219210f" /* the guest's kernel panicked */
#define MICROVM_MESSAGE_READY    "64ab72f17bfc440291e011c44b9353ce" /* microvmd knows what runs */
#define MICROVM_MESSAGE_STOPPING "ea1c0aa3683b434c8cb4d9f70d09d531" /* the host is shutting down */

/* Its guest is ready, was not in time, is ready no longer. */
#define MICROVM_MESSAGE_GUEST_READY "476435a295454cb1b8fe5289ba2a9e29"
#define MICROVM_MESSAGE_GUEST_LATE  "3247268aa141440681ee0601eb10dd6f"
#define MICROVM_MESSAGE_GUEST_LOST  "33d54387365b4b419bd746308f2c9148"

#endif
