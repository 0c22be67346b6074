/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images that are made: real mkfs. */
#include "resource/volume.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <sys/stat.h>

static char *in_scratch(void **context, const char *name)
{
    return strdup(scratch_path(*context, name));
}

/* What a tool prints of an image. */
static char *tell(const char *command, const char *path)
{
    _cleanup_free_ char *line = NULL;
    char *text = calloc(1, 4096);
    FILE *pipe;

    assert_true(asprintf(&line, "PATH=/usr/sbin:/sbin:$PATH; %s '%s' 2>&1", command, path) > 0);
    pipe = popen(line, "re");
    assert_non_null(pipe);
    assert_true(fread(text, 1, 4095, pipe) > 0);
    pclose(pipe);
    return text;
}

static void test_label_and_arguments(void **context)
{
    char *arguments[] = {(char *)"-m", (char *)"0"};
    VolumeSpec volume = {.image = (char *)"data.img",
                         .size_mib = 16,
                         .auto_create = true,
                         .fs_type = FS_EXT2,
                         .label = (char *)"my data",
                         .mkfs_args = arguments,
                         .n_mkfs_args = 2};
    _cleanup_free_ char *path = in_scratch(context, "data.img"), *error = NULL, *told = NULL;
    struct stat st;

    if (volume_ensure(&volume, "web", path, false, &error) != 1)
        fail_msg("%s", error);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 16 << 20);
    assert_true(st.st_blocks * 512 < 8 << 20); /* sparse */
    told = tell("dumpe2fs -h", path);
    assert_non_null(strstr(told, "Filesystem volume name:   my data"));
    assert_non_null(strstr(told, "Reserved block count:     0"));
    assert_null(strstr(told, "has_journal"));
    assert_int_equal(volume_ensure(&volume, "web", path, true, &error), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(volume_ensure(&volume, "web", path, true, &error), -ENOENT);
    assert_non_null(strstr(error, volume.image));
    assert_non_null(strstr(error, "microvmctl forget-volume web "));
}

/* Each kind is made, or the sentence names the package that has its mkfs. */
static void test_all_kinds(void **context)
{
    for (FsType type = 0; type < FS_TYPE_MAX; type++) {
        VolumeSpec volume = {.image = (char *)"x.img",
                             .size_mib = 512,
                             .auto_create = true,
                             .fs_type = type,
                             .label = (char *)"X"};
        _cleanup_free_ char *path = in_scratch(context, fs_type_to_string(type)), *error = NULL;
        int r = volume_ensure(&volume, "web", path, false, &error);
        if (r != 1 && (r != -ENOENT || !strstr(error, "is not installed (package ")))
            fail_msg("%s: %s", fs_type_to_string(type), error);
        assert_int_equal(access(path, F_OK) == 0, r == 1);
    }
}

/* What mkfs says of its trouble is passed on, and no half-made image stays. */
static void test_failure(void **context)
{
    char *arguments[] = {(char *)"--no-such-option"};
    VolumeSpec volume = {.image = (char *)"x.img",
                         .size_mib = 1,
                         .auto_create = true,
                         .mkfs_args = arguments,
                         .n_mkfs_args = 1};
    _cleanup_free_ char *path = in_scratch(context, "x.img"), *error = NULL,
                        *partial = in_scratch(context, "x.img.partial");

    assert_int_equal(volume_ensure(&volume, "web", path, false, &error), -EIO);
    assert_non_null(strstr(error, "mkfs.ext4 failed"));
    assert_null(strpbrk(error, "\n\t")); /* though mkfs explains itself on several */
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(partial, F_OK), -1);
}

/* An image that names another file would make libvirt change that one's owner. */
static void test_qcow2_stands_alone(void **context)
{
    VolumeSpec volume = {.image = (char *)"x.qcow2", .image_type = IMAGE_QCOW2};
    _cleanup_free_ char *path = in_scratch(context, "x.qcow2");
    uint8_t image[104] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3};
    static const struct {
        size_t at;
        uint8_t value;
        const char *error;
    } cases[] = {
        {0, 'Q', NULL},
        {14, 2, "leans on another file"},      /* backing_file_offset 0x200 */
        {79, 1 << 2, "leans on another file"}, /* incompatible features: external data file */
        {79, 1 << 0, NULL},                    /* another feature */
        {1, 'X', "is no qcow2 image"},
    };

    for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
        _cleanup_free_ char *error = NULL;
        uint8_t before = image[cases[i].at];
        image[cases[i].at] = cases[i].value;
        assert_int_equal(write_file_atomic(path, image, sizeof(image), 0600), 0);
        assert_int_equal(volume_ensure(&volume, "web", path, false, &error), cases[i].error ? -EINVAL : 0);
        assert_true(cases[i].error ? error && strstr(error, cases[i].error) : !error);
        image[cases[i].at] = before;
    }
    assert_int_equal(truncate(path, 3), 0);
    {
        _cleanup_free_ char *error = NULL;
        assert_int_equal(volume_ensure(&volume, "web", path, false, &error), -EINVAL);
        assert_non_null(error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_SCRATCH(test_label_and_arguments),
        IN_SCRATCH(test_all_kinds),
        IN_SCRATCH(test_failure),
        IN_SCRATCH(test_qcow2_stands_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
