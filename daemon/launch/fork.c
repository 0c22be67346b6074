/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where no systemd is asked: a child of our own, in a session of its own. */
#include "launch/internal.h"

#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int fork_start(const LaunchRequest *request, int stream, pid_t *ret_pid)
{
    char *argv[] = {(char *)"microvmd-exec", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int r;

    r = posix_spawn_file_actions_init(&actions);
    if (r != 0)
        return -r;
    r = posix_spawnattr_init(&attributes);
    if (r == 0) {
        r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
        r = r ? r : posix_spawn_file_actions_adddup2(&actions, stream, STDIN_FILENO);
        r = r ? r : posix_spawn_file_actions_adddup2(&actions, request->output, STDOUT_FILENO);
        r = r ? r : posix_spawn_file_actions_adddup2(&actions, request->output, STDERR_FILENO);
        r = r ? r : posix_spawn(ret_pid, request->helper, &actions, &attributes, argv, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

void fork_undo(pid_t pid)
{
    /* A child that was not waited for: its number is nobody else's. */
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (pidfd >= 0)
        process_kill(pidfd);
    (void)waitpid(pid, NULL, WNOHANG);
}
