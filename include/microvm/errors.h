/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* D-Bus errors of org.microvm1, each with the errno that the daemon uses for it inside. */
#ifndef MICROVM_ERRORS_H
#define MICROVM_ERRORS_H

#include <errno.h>

#define MICROVM_ERROR_PREFIX "org.microvm1.Error."

#define MICROVM_ERROR_NO_SUCH_MICROVM    MICROVM_ERROR_PREFIX "NoSuchMicroVM"
#define MICROVM_ERROR_INVALID_DEFINITION MICROVM_ERROR_PREFIX "InvalidDefinition"
#define MICROVM_ERROR_NOT_RUNNING        MICROVM_ERROR_PREFIX "NotRunning"
#define MICROVM_ERROR_GUEST_MODE         MICROVM_ERROR_PREFIX "GuestMode"
#define MICROVM_ERROR_DRIVER_UNAVAILABLE MICROVM_ERROR_PREFIX "DriverUnavailable"
#define MICROVM_ERROR_RESOURCE_BUSY      MICROVM_ERROR_PREFIX "ResourceBusy"
#define MICROVM_ERROR_START_LIMIT        MICROVM_ERROR_PREFIX "StartLimit"
#define MICROVM_ERROR_SUPERSEDED         MICROVM_ERROR_PREFIX "Superseded"
#define MICROVM_ERROR_TIMEOUT            MICROVM_ERROR_PREFIX "Timeout"
#define MICROVM_ERROR_UNSUPPORTED        MICROVM_ERROR_PREFIX "Unsupported"
#define MICROVM_ERROR_SHUTTING_DOWN      MICROVM_ERROR_PREFIX "ShuttingDown"
#define MICROVM_ERROR_PRUNE_REFUSED      MICROVM_ERROR_PREFIX "PruneRefused" /* it looks like a mistake */
#define MICROVM_ERROR_REQUIRED           MICROVM_ERROR_PREFIX "Required"     /* others that run require it */
#define MICROVM_ERROR_DRAINED            MICROVM_ERROR_PREFIX "Drained"    /* nothing starts until undrain */
#define MICROVM_ERROR_HYPERVISOR         MICROVM_ERROR_PREFIX "Hypervisor" /* it refused: its own words */

/* name, errno below bus/; the daemon's sd-bus error map is made from these rows. */
#define MICROVM_ERROR_LIST(X)                                                                                \
    X(MICROVM_ERROR_NO_SUCH_MICROVM, ENOENT)                                                                 \
    X(MICROVM_ERROR_INVALID_DEFINITION, EBADMSG)                                                             \
    X(MICROVM_ERROR_NOT_RUNNING, ESRCH)                                                                      \
    X(MICROVM_ERROR_GUEST_MODE, EUCLEAN)                                                                     \
    X(MICROVM_ERROR_DRIVER_UNAVAILABLE, EHOSTDOWN)                                                           \
    X(MICROVM_ERROR_RESOURCE_BUSY, EBUSY)                                                                    \
    X(MICROVM_ERROR_START_LIMIT, ECANCELED)                                                                  \
    X(MICROVM_ERROR_SUPERSEDED, ESTALE)                                                                      \
    X(MICROVM_ERROR_TIMEOUT, ETIMEDOUT)                                                                      \
    X(MICROVM_ERROR_UNSUPPORTED, EOPNOTSUPP)                                                                 \
    X(MICROVM_ERROR_SHUTTING_DOWN, ESHUTDOWN)                                                                \
    X(MICROVM_ERROR_PRUNE_REFUSED, EDOM)                                                                     \
    X(MICROVM_ERROR_REQUIRED, EMLINK)                                                                        \
    X(MICROVM_ERROR_DRAINED, EUSERS)                                                                         \
    X(MICROVM_ERROR_HYPERVISOR, EREMOTEIO)

#endif
