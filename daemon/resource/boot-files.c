/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "resource/boot-files.h"

#include <limits.h>

void boot_files_clear(BootFiles *files)
{
    free(files->hypervisor.path);
    free(files->helper.path);
    *files = (BootFiles){0};
}

int boot_files_copy(const BootFiles *files, BootFiles *ret_copy)
{
    BootFiles copy = *files;

    copy.hypervisor.path = copy.helper.path = NULL;
    if (free_and_strdup(&copy.hypervisor.path, files->hypervisor.path) < 0 ||
        free_and_strdup(&copy.helper.path, files->helper.path) < 0) {
        boot_files_clear(&copy);
        return -ENOMEM;
    }
    *ret_copy = copy;
    return 0;
}

/* The link leads to the very file that is executed, whatever its name means by now. */
void program_file_take(ProgramFile *program, pid_t pid)
{
    static const char deleted[] = " (deleted)";
    char link[64], path[PATH_MAX];
    FileStamp identity;
    ssize_t length;

    snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
    length = pid > 0 ? readlink(link, path, sizeof(path) - 1) : -1;
    if (length <= 0 || file_stamp(link, &identity) < 0)
        return;
    path[length] = '\0';
    if ((size_t)length > strlen(deleted) && streq(path + length - strlen(deleted), deleted))
        path[(size_t)length - strlen(deleted)] = '\0';
    if (free_and_strdup(&program->path, path) >= 0)
        program->file = identity;
}

static bool is_another(const FileStamp *known, const char *path)
{
    FileStamp now = {0};
    int r;

    if (file_stamp_is_null(known) || !path)
        return false;
    r = file_stamp(path, &now);
    return r < 0 ? r == -ENOENT : !file_stamp_equal(known, &now);
}

unsigned boot_files_outdated(const BootFiles *files, const char *kernel, const char *initrd)
{
    return (is_another(&files->kernel, kernel) ? OUTDATED(MICROVM_OUTDATED_KERNEL) : 0) |
           (is_another(&files->initrd, initrd) ? OUTDATED(MICROVM_OUTDATED_INITRD) : 0) |
           (is_another(&files->hypervisor.file, files->hypervisor.path)
                ? OUTDATED(MICROVM_OUTDATED_HYPERVISOR)
                : 0) |
           (is_another(&files->helper.file, files->helper.path) ? OUTDATED(MICROVM_OUTDATED_HELPER) : 0);
}
