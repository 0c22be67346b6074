/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Logging. To the journal with fields when standard error is the journal, else as lines on standard error.
 * Library code returns a negative errno; whoever stops the error logs it, once.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/macro.h"

#include <syslog.h>

/* Finds out where messages go and which level counts ($MICROVMD_LOG_LEVEL: a syslog level name). */
void log_setup(void);

/*
 * Logs one message about the microVM `name` (NULL: about the daemon). Thread-safe. `%m` works when `error`
 * is a negative errno. Returns `error`, so that `return log_full(...)` keeps error paths to one line.
 */
int log_full(int level, const char *name, int error, const char *format, ...) _printf_(4, 5);

/* As log_full(), with extra journal fields, each "FIELD=value", NULL-terminated list (may be NULL). */
int log_fields(int level, const char *name, int error, const char *const *fields, const char *format, ...)
    _printf_(5, 6);

#define log_error(...)   log_full(LOG_ERR, NULL, 0, __VA_ARGS__)
#define log_warning(...) log_full(LOG_WARNING, NULL, 0, __VA_ARGS__)
#define log_notice(...)  log_full(LOG_NOTICE, NULL, 0, __VA_ARGS__)
#define log_info(...)    log_full(LOG_INFO, NULL, 0, __VA_ARGS__)
#define log_debug(...)   log_full(LOG_DEBUG, NULL, 0, __VA_ARGS__)

#define log_error_errno(error, ...)   log_full(LOG_ERR, NULL, error, __VA_ARGS__)
#define log_warning_errno(error, ...) log_full(LOG_WARNING, NULL, error, __VA_ARGS__)

/* The same about one microVM; they carry MICROVM_NAME= in the journal. */
#define log_vm_error(name, ...)   log_full(LOG_ERR, name, 0, __VA_ARGS__)
#define log_vm_warning(name, ...) log_full(LOG_WARNING, name, 0, __VA_ARGS__)
#define log_vm_notice(name, ...)  log_full(LOG_NOTICE, name, 0, __VA_ARGS__)
#define log_vm_info(name, ...)    log_full(LOG_INFO, name, 0, __VA_ARGS__)
#define log_vm_debug(name, ...)   log_full(LOG_DEBUG, name, 0, __VA_ARGS__)

#define log_oom() log_full(LOG_ERR, NULL, -ENOMEM, "Out of memory.")

#endif
