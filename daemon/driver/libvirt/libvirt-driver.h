/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microVMs as transient domains of the host's libvirt. */
#ifndef DRIVER_LIBVIRT_LIBVIRT_DRIVER_H
#define DRIVER_LIBVIRT_LIBVIRT_DRIVER_H

#include "driver/driver.h"

extern const DriverOps libvirt_driver_ops;

int libvirt_driver_new(const DriverSetup *setup, Driver **ret_driver);

#endif
