/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The driver "direct": microvmd runs hypervisor processes itself. */
#ifndef DRIVER_DIRECT_DIRECT_DRIVER_H
#define DRIVER_DIRECT_DIRECT_DRIVER_H

#include "driver/driver.h"

int direct_driver_new(const DriverSetup *setup, Driver **ret_driver);
extern const DriverOps direct_driver_ops;

#endif
