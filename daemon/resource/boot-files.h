/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which files a run was started with, to tell when others have taken their places. */
#ifndef RESOURCE_BOOT_FILES_H
#define RESOURCE_BOOT_FILES_H

#include "base/file.h"
#include "microvm/states.h"

#define OUTDATED(reason) (1U << (reason))

/* What a process executes. */
typedef struct ProgramFile {
    char *path; /* NULL: not known, or none */
    FileStamp file;
} ProgramFile;

/* A null identity: not known, or none. */
typedef struct BootFiles {
    FileStamp kernel, initrd;
    ProgramFile hypervisor, helper; /* helper: of all of them, one is as good as another */
} BootFiles;

void boot_files_clear(BootFiles *files);
int boot_files_copy(const BootFiles *files, BootFiles *ret_copy);

/* Notes the program that process `pid` executes; 0: leaves it as it is. */
void program_file_take(ProgramFile *program, pid_t pid);

/*
 * OUTDATED() bits: which of them are other files now. `kernel` and `initrd` (may be NULL) are what the next
 * start would take. A file that is gone is another one; what can't be looked at is taken for the same. May
 * block.
 */
unsigned boot_files_outdated(const BootFiles *files, const char *kernel, const char *initrd);

#endif
