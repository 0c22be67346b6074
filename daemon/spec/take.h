/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What strings in a definition may be: the `take` functions of the table's rows (see table.h). */
#ifndef SPEC_TAKE_H
#define SPEC_TAKE_H

#include "spec/table.h"

/* On success NULL and a value of the caller's in *ret_value (NULL: out of memory), else what is wrong. */
const char *take_text(const char *text, char **ret_value);     /* one line */
const char *take_script(const char *text, char **ret_value);   /* lines */
const char *take_absolute(const char *text, char **ret_value); /* a path */
const char *take_image(const char *text, char **ret_value);    /* a path, or one in the state directory */
const char *take_kernel_param(const char *text, char **ret_value);
const char *take_argument(const char *text, char **ret_value); /* of a program */
const char *take_serial(const char *text, char **ret_value);
const char *take_fs_label(const char *text, char **ret_value);
const char *take_mac(const char *text, char **ret_value);
const char *take_interface_name(const char *text, char **ret_value);
const char *take_uuid(const char *text, char **ret_value);
const char *take_ipv4(const char *text, char **ret_value);
const char *take_tag(const char *text, char **ret_value); /* of a share */
const char *take_device_path(const char *text, char **ret_value);
const char *take_user_name(const char *text, char **ret_value);
const char *take_identifier(const char *text, char **ret_value); /* of QEMU's devices and properties */
const char *take_option_value(const char *text, char **ret_value);
const char *take_cpu_model(const char *text, char **ret_value);
const char *take_cpu_set(const char *text, char **ret_value); /* "0-3,5" */
const char *take_label_name(const char *text, char **ret_value);
const char *take_credential_name(const char *text, char **ret_value);
const char *take_vm_name(const char *text, char **ret_value);
const char *take_dependency(const char *text, char **ret_value); /* "db" or "db:ready" */
const char *take_http_path(const char *text, char **ret_value);

/* What such strings look like, as an ECMAScript regular expression that begins with '^'; "^": anything. */
const char *take_pattern(key_take_fn take);

#endif
