/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/direct/sandbox.h"

#include "base/file.h"
#include "base/say.h"
#include "base/strv.h"

#include <limits.h>
#include <linux/major.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum {
    KVM_MINOR = 232, /* of MISC_MAJOR: Documentation/admin-guide/devices.txt of Linux */
};

/* Where distributions have programs, what belongs to them, and libraries. */
static const char *const candidates[] = {"/usr",   "/bin",       "/sbin",     "/lib",
                                         "/lib64", "/nix/store", "/gnu/store"};

/* Never removed again: what is mounted in there, in a sandbox that runs, would be unmounted by that. */
static int make_place(const char *root, const char *directory, bool *ret_link)
{
    _cleanup_free_ char *place = say("%s%s", root, directory);
    char target[PATH_MAX];
    ssize_t length = readlink(directory, target, sizeof(target) - 1);

    if (!place)
        return -ENOMEM;
    *ret_link = length >= 0;
    if (length < 0)
        return mkdir_parents(place, 0755);
    target[length] = '\0';
    return symlink(target, place) < 0 && errno != EEXIST ? -errno : 0;
}

int sandbox_root_make(const char *path, char ***ret_system)
{
    _cleanup_strv_ char **system = calloc(ELEMENTSOF(candidates) + 1, sizeof(*system));
    size_t n = 0;
    int r = system ? mkdir_parents(path, 0755) : -ENOMEM;

    for (size_t i = 0; i < ELEMENTSOF(candidates) && r >= 0; i++) {
        bool link = false;
        if (access(candidates[i], F_OK) < 0)
            continue;
        r = make_place(path, candidates[i], &link);
        if (r >= 0 && !link && !(system[n++] = strdup(candidates[i])))
            r = -ENOMEM;
    }
    if (r < 0)
        return r;
    *ret_system = TAKE_PTR(system);
    return 0;
}

bool sandbox_root_has(const char *path)
{
    for (size_t i = 0; i < ELEMENTSOF(candidates); i++)
        if (path_is_below(path, candidates[i]))
            return true;
    return false;
}

void sandbox_host_forget(SandboxHost *host)
{
    free(host->helper);
    strv_free(host->system);
    *host = (SandboxHost){.root = host->root};
}

void sandbox_host_clear(SandboxHost *host)
{
    sandbox_host_forget(host);
    free(host->root);
    host->root = NULL;
}

int sandbox_host_copy(const SandboxHost *host, SandboxHost *ret_copy)
{
    SandboxHost copy = {.kvm_node = host->kvm_node, .kvm_group = host->kvm_group};

    if (free_and_strdup(&copy.root, host->root) < 0 || free_and_strdup(&copy.helper, host->helper) < 0 ||
        !(copy.system = strv_copy(host->system))) {
        sandbox_host_clear(&copy);
        return -ENOMEM;
    }
    *ret_copy = copy;
    return 0;
}

int sandbox_host_look(SandboxHost *host, char **ret_text)
{
    struct stat st;
    int r;

    sandbox_host_forget(host);
    host->kvm_group = NO_GROUP;
    if (stat("/dev/kvm", &st) == 0 && (st.st_mode & 0060) == 0060 && (st.st_mode & 0006) != 0006 &&
        st.st_gid != 0)
        host->kvm_group = st.st_gid;
    host->kvm_node =
        lstat(KVM_NODE, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(MISC_MAJOR, KVM_MINOR);
    r = host->root ? sandbox_root_make(host->root, &host->system) : 0;
    if (r < 0)
        return say_why(ret_text, r, "the root directory of its sandbox, %s, can't be made: %s", host->root,
                       strerror(-r));
    return helper_find(&host->helper, ret_text);
}
