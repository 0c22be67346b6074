/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long it takes to load many definitions, and to load them again when one of them changed; how much
 * memory they take. usage: bench-definitions [COUNT] */
#include "base/file.h"
#include "definitions.h"

#include <malloc.h>
#include <time.h>

enum {
    SETTLE_USEC = 100000, /* files that were just written are not taken on trust */
    ROUNDS = 5,
};

static double now_msec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1000 + (double)now.tv_nsec / 1e6;
}

static void put(const char *directory, unsigned number, unsigned vcpu)
{
    char path[256], text[1024];

    snprintf(path, sizeof(path), "%s/vms/vm%u.json", directory, number);
    snprintf(
        text, sizeof(text),
        "{\n"
        "  \"kernel\": \"/boot/vmlinuz\", \"initrd\": \"/boot/initrd.img\",\n"
        "  \"vcpu\": %u, \"mem\": \"1G\", \"kernelParams\": [\"quiet\", \"panic=-1\"],\n"
        "  \"volumes\": [{\"image\": \"root.img\", \"size\": \"2G\"}, \"/srv/vm%u.img\"],\n"
        "  \"interfaces\": [{\"type\": \"user\", \"id\": \"vm%u\", \"mac\": \"02:00:00:00:%02x:%02x\"}],\n"
        "  \"restart\": {\"policy\": \"always\"},\n"
        "  \"labels\": {\"app\": \"web\"}, \"description\": \"number %u\"\n"
        "}\n",
        vcpu, number, number, number >> 8, number & 255, number);
    if (write_file_atomic(path, text, strlen(text), 0644) < 0)
        abort();
}

static double load(const char *directory, const Definitions *before, Definitions *ret_found)
{
    char vms[128], defaults[128];
    const char *const directories[] = {vms};
    SpecContext context = {.defaults_path = defaults};
    ProblemList problems = {0};
    double start = now_msec();

    snprintf(vms, sizeof(vms), "%s/vms", directory);
    snprintf(defaults, sizeof(defaults), "%s/defaults.json", directory);
    if (definitions_load(directories, 1, &context, before, &problems, ret_found) < 0 || problems.count > 0)
        abort();
    return now_msec() - start;
}

static void measure(const char *directory, unsigned count, const char *what)
{
    double cold = 1e9, same = 1e9, changed = 1e9;
    size_t memory = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t before = mallinfo2().uordblks;
        Definitions first = {0}, second = {0}, third = {0};
        cold = MIN(cold, load(directory, NULL, &first));
        if (first.count != count)
            abort();
        memory = mallinfo2().uordblks - before;
        same = MIN(same, load(directory, &first, &second));
        put(directory, count / 2, 2 + round % 2);
        usleep(SETTLE_USEC);
        changed = MIN(changed, load(directory, &second, &third));
        if (third.items[0].spec != first.items[0].spec)
            abort();
        definitions_clear(&first);
        definitions_clear(&second);
        definitions_clear(&third);
    }
    printf("%s: %u definitions: cold %.1f ms, again %.1f ms, one changed %.1f ms, %zu bytes each\n", what,
           count, cold, same, changed, memory / count);
}

int main(int argc, char *argv[])
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 1000;
    char directory[] = "/tmp/microvmd-bench.XXXXXX", path[128];
    static const char defaults[] = "{\"mem\": 256, \"restart\": {\"delay\": \"2s\"}, \"accel\": \"tcg\"}";

    if (!mkdtemp(directory))
        return 1;
    snprintf(path, sizeof(path), "%s/vms", directory);
    if (mkdir(path, 0755) < 0)
        return 1;
    for (unsigned i = 0; i < count; i++)
        put(directory, i, 1);
    usleep(SETTLE_USEC);
    measure(directory, count, "single files");
    snprintf(path, sizeof(path), "%s/defaults.json", directory);
    if (write_file_atomic(path, defaults, strlen(defaults), 0644) < 0)
        return 1;
    for (unsigned i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "%s/vms/vm%u.json.d/10.json", directory, i);
        *strrchr(path, '/') = '\0';
        if (mkdir(path, 0755) < 0)
            return 1;
        path[strlen(path)] = '/';
        if (write_file_atomic(path, "{\"vcpu\": 4}", 11, 0644) < 0)
            return 1;
    }
    usleep(SETTLE_USEC);
    measure(directory, count, "with defaults and a drop-in each");
    return remove_tree(directory) < 0;
}
