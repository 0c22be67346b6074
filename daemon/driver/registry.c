/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The drivers that there are: one row each. */
#include "driver/direct/direct-driver.h"
#include "driver/libvirt/libvirt-driver.h"

static const struct {
    int (*create)(const DriverSetup *setup, Driver **ret_driver);
    const DriverOps *ops;
} rows[DRIVER_KIND_MAX] = {
    [DRIVER_KIND_LIBVIRT] = {libvirt_driver_new, &libvirt_driver_ops},
    [DRIVER_KIND_DIRECT] = {direct_driver_new, &direct_driver_ops},
};

int driver_new(DriverKind kind, const DriverSetup *setup, Driver **ret_driver)
{
    return rows[kind].create(setup, ret_driver);
}

const DriverOps *driver_ops(DriverKind kind)
{
    return rows[kind].ops;
}
