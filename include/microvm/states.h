/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The words that microvmd says over D-Bus: states, results, jobs. See org.microvm1(5). */
#ifndef MICROVM_STATES_H
#define MICROVM_STATES_H

#include "microvm/string-table.h"

#define MICROVM_STATE_LIST(X)                                                                                \
    X(MICROVM_INACTIVE, "inactive")   /* not running, nothing due */                                         \
    X(MICROVM_WAITING, "waiting")     /* start asked for, held: dependency, admission or absent driver */    \
    X(MICROVM_PREPARING, "preparing") /* volumes, networks, helpers */                                       \
    X(MICROVM_STARTING, "starting")   /* hypervisor launched */                                              \
    X(MICROVM_RUNNING, "running")     /* guest executes */                                                   \
    X(MICROVM_PAUSED, "paused")                                                                              \
    X(MICROVM_STOPPING, "stopping")                                                                          \
    X(MICROVM_BACKOFF, "backoff") /* restart due at a known time */                                          \
    X(MICROVM_FAILED, "failed")   /* gave up */
MICROVM_STRING_TABLE(MicrovmState, microvm_state, MICROVM_STATE, MICROVM_STATE_LIST)

#define MICROVM_READINESS_LIST(X)                                                                            \
    X(MICROVM_READINESS_NONE, "none")                                                                        \
    X(MICROVM_READINESS_WAITING, "waiting")                                                                  \
    X(MICROVM_READINESS_READY, "ready")                                                                      \
    X(MICROVM_READINESS_TIMED_OUT, "timed-out")                                                              \
    X(MICROVM_READINESS_LOST, "lost")
MICROVM_STRING_TABLE(MicrovmReadiness, microvm_readiness, MICROVM_READINESS, MICROVM_READINESS_LIST)

/* How the last run ended. */
#define MICROVM_RESULT_LIST(X)                                                                               \
    X(MICROVM_RESULT_SUCCESS, "success")                                                                     \
    X(MICROVM_RESULT_EXIT_CODE, "exit-code")                                                                 \
    X(MICROVM_RESULT_SIGNAL, "signal")                                                                       \
    X(MICROVM_RESULT_TIMEOUT, "timeout")                                                                     \
    X(MICROVM_RESULT_WATCHDOG, "watchdog")                                                                   \
    X(MICROVM_RESULT_GUEST_PANIC, "guest-panic")                                                             \
    X(MICROVM_RESULT_OOM, "oom")                                                                             \
    X(MICROVM_RESULT_RESOURCES, "resources")                                                                 \
    X(MICROVM_RESULT_START_LIMIT, "start-limit")                                                             \
    X(MICROVM_RESULT_CONFIG, "config")                                                                       \
    X(MICROVM_RESULT_LOST, "lost") /* ended while nobody watched, no evidence */
MICROVM_STRING_TABLE(MicrovmResult, microvm_result, MICROVM_RESULT, MICROVM_RESULT_LIST)

#define MICROVM_LAST_STOP_LIST(X)                                                                            \
    X(MICROVM_LAST_STOP_NONE, "")       /* not stopped since microvmd first saw it */                        \
    X(MICROVM_LAST_STOP_CLEAN, "clean") /* the guest shut itself down */                                     \
    X(MICROVM_LAST_STOP_FORCED, "forced")                                                                    \
    X(MICROVM_LAST_STOP_LOST, "lost")
MICROVM_STRING_TABLE(MicrovmLastStop, microvm_last_stop, MICROVM_LAST_STOP, MICROVM_LAST_STOP_LIST)

#define MICROVM_JOB_VERB_LIST(X)                                                                             \
    X(MICROVM_JOB_START, "start")                                                                            \
    X(MICROVM_JOB_STOP, "stop")                                                                              \
    X(MICROVM_JOB_RESTART, "restart")
MICROVM_STRING_TABLE(MicrovmJobVerb, microvm_job_verb, MICROVM_JOB_VERB, MICROVM_JOB_VERB_LIST)

#define MICROVM_JOB_RESULT_LIST(X)                                                                           \
    X(MICROVM_JOB_DONE, "done")                                                                              \
    X(MICROVM_JOB_FAILED, "failed")                                                                          \
    X(MICROVM_JOB_CANCELED, "canceled")                                                                      \
    X(MICROVM_JOB_TIMEOUT, "timeout")                                                                        \
    X(MICROVM_JOB_SUPERSEDED, "superseded")
MICROVM_STRING_TABLE(MicrovmJobResult, microvm_job_result, MICROVM_JOB_RESULT, MICROVM_JOB_RESULT_LIST)

/* What holds the start of a microVM that is waiting. */
#define MICROVM_HOLD_LIST(X)                                                                                 \
    X(MICROVM_HOLD_NONE, "")                                                                                 \
    X(MICROVM_HOLD_CLEANUP, "cleanup")         /* of its last run */                                         \
    X(MICROVM_HOLD_HOST_ROLE, "host-role")     /* the host's configuration is of a guest by now */           \
    X(MICROVM_HOLD_SHUTDOWN, "shutdown")       /* the host is shutting down */                               \
    X(MICROVM_HOLD_DRAIN, "drain")             /* the host is drained for maintenance */                     \
    X(MICROVM_HOLD_DRIVER, "driver")           /* its driver is away */                                      \
    X(MICROVM_HOLD_LOOK, "look")               /* driver or systemd is asked how things are: for a moment */ \
    X(MICROVM_HOLD_DEPENDENCY, "dependency")   /* another microVM comes first */                             \
    X(MICROVM_HOLD_CONCURRENCY, "concurrency") /* enough others are starting */                              \
    X(MICROVM_HOLD_MEMORY, "memory")           /* it is not available now */
MICROVM_STRING_TABLE(MicrovmHold, microvm_hold, MICROVM_HOLD, MICROVM_HOLD_LIST)

/* What becomes of those that run and require one that is to be stopped. */
#define MICROVM_DEPENDENTS_LIST(X)                                                                           \
    X(MICROVM_DEPENDENTS_REFUSE, "refuse") /* nothing is stopped, they are named */                          \
    X(MICROVM_DEPENDENTS_STOP, "stop")     /* they are stopped, too */                                       \
    X(MICROVM_DEPENDENTS_IGNORE, "ignore") /* they go on without it */
MICROVM_STRING_TABLE(MicrovmDependents, microvm_dependents, MICROVM_DEPENDENTS, MICROVM_DEPENDENTS_LIST)

/* Who or what asked last that a microVM start or stop. */
#define MICROVM_ASKED_BY_LIST(X)                                                                             \
    X(MICROVM_ASKED_BY_NOBODY, "nobody")         /* nothing was asked for since the host booted */           \
    X(MICROVM_ASKED_BY_CALLER, "caller")         /* of a method of D-Bus */                                  \
    X(MICROVM_ASKED_BY_APPLY, "apply")           /* an apply, which a caller asked for */                    \
    X(MICROVM_ASKED_BY_AUTOSTART, "autostart")   /* its definition */                                        \
    X(MICROVM_ASKED_BY_DEPENDENCY, "dependency") /* another microVM requires or wants it */                  \
    X(MICROVM_ASKED_BY_HANDLE, "handle")     /* systemd, by a job of its handle, microvmd@NAME.service */    \
    X(MICROVM_ASKED_BY_SHUTDOWN, "shutdown") /* the host's, by microvmd-shutdown.service */                  \
    X(MICROVM_ASKED_BY_OUTSIDE, "outside")   /* somebody went past microvmd: virsh, systemctl stop */
MICROVM_STRING_TABLE(MicrovmAskedBy, microvm_asked_by, MICROVM_ASKED_BY, MICROVM_ASKED_BY_LIST)

/* What happened to a microVM. */
#define MICROVM_EVENT_LIST(X)                                                                                \
    X(MICROVM_EVENT_STATE, "state")                                                                          \
    X(MICROVM_EVENT_READINESS, "readiness")   /* its guest is ready, is late, or is ready no longer */       \
    X(MICROVM_EVENT_REQUEST, "request")       /* somebody asked for something */                             \
    X(MICROVM_EVENT_HYPERVISOR, "hypervisor") /* it said something: an event of QMP, or of libvirt */
MICROVM_STRING_TABLE(MicrovmEvent, microvm_event, MICROVM_EVENT, MICROVM_EVENT_LIST)

/* Why a run is not what its files say: another file than the one it was started with. */
#define MICROVM_OUTDATED_LIST(X)                                                                             \
    X(MICROVM_OUTDATED_DEFINITION, "definition")                                                             \
    X(MICROVM_OUTDATED_KERNEL, "kernel")                                                                     \
    X(MICROVM_OUTDATED_INITRD, "initrd")                                                                     \
    X(MICROVM_OUTDATED_HYPERVISOR, "hypervisor")                                                             \
    X(MICROVM_OUTDATED_HELPER, "helper") /* a program that serves it, as virtiofsd */
MICROVM_STRING_TABLE(MicrovmOutdated, microvm_outdated, MICROVM_OUTDATED, MICROVM_OUTDATED_LIST)

/* What apply has to do with a microVM. */
#define MICROVM_PLAN_LIST(X)                                                                                 \
    X(MICROVM_PLAN_NONE, "none")                                                                             \
    X(MICROVM_PLAN_START, "start")       /* new, and to be started by itself */                              \
    X(MICROVM_PLAN_RETRY, "retry")       /* it failed, and is to be started again */                         \
    X(MICROVM_PLAN_FAILED, "failed")     /* the same, but it has reached its start limit */                  \
    X(MICROVM_PLAN_LIVE, "live")         /* what changed takes effect without a restart */                   \
    X(MICROVM_PLAN_RESTART, "restart")   /* its definition changed so that it needs one */                   \
    X(MICROVM_PLAN_OUTDATED, "outdated") /* it runs with another kernel, initrd, hypervisor... */            \
    X(MICROVM_PLAN_UNDECLARED, "undeclared")                                                                 \
    X(MICROVM_PLAN_INVALID, "invalid")
MICROVM_STRING_TABLE(MicrovmPlan, microvm_plan, MICROVM_PLAN, MICROVM_PLAN_LIST)

/* What an apply does with a microVM. */
#define MICROVM_STEP_LIST(X)                                                                                 \
    X(MICROVM_STEP_CHECK, "check") /* of its definition; told only where that can't be used */               \
    X(MICROVM_STEP_LIVE, "live")   /* what changed takes effect while it runs */                             \
    X(MICROVM_STEP_STOP, "stop")                                                                             \
    X(MICROVM_STEP_PURGE, "purge") /* of its files, after the stop */                                        \
    X(MICROVM_STEP_START, "start")                                                                           \
    X(MICROVM_STEP_RESTART, "restart")                                                                       \
    X(MICROVM_STEP_ROLLBACK, "rollback") /* of a canary */
MICROVM_STRING_TABLE(MicrovmStep, microvm_step, MICROVM_STEP, MICROVM_STEP_LIST)

/* How a step of an apply goes. */
#define MICROVM_APPLY_LIST(X)                                                                                \
    X(MICROVM_APPLY_BEGUN, "begun")                                                                          \
    X(MICROVM_APPLY_DONE, "done")                                                                            \
    X(MICROVM_APPLY_FAILED, "failed")                                                                        \
    X(MICROVM_APPLY_SKIPPED, "skipped") /* after a failure, or because it is as wanted by now */
MICROVM_STRING_TABLE(MicrovmApply, microvm_apply, MICROVM_APPLY, MICROVM_APPLY_LIST)

#define MICROVM_HOST_ROLE_LIST(X)                                                                            \
    X(MICROVM_HOST_ROLE_HOST, "host")                                                                        \
    X(MICROVM_HOST_ROLE_CONFLICT, "conflict") /* turned guest while running: nothing new starts */
MICROVM_STRING_TABLE(MicrovmHostRole, microvm_host_role, MICROVM_HOST_ROLE, MICROVM_HOST_ROLE_LIST)

#endif
