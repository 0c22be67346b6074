/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long it takes to load many definitions, and to load them again when one of them changed; how much
 * memory they take. usage: bench-definitions [COUNT] */
#include "base/file.h"
#include "definitions.h"

#include <malloc.h>
#include <time.h>

enum {
    SETTLE_USEC = 100000, /* files that were just written are not taken on trust */
    ROUNDS = 10,
};

/* The least of all rounds: what others on the machine add is none of ours. */
typedef struct Cost {
    double msec, processor_msec;
} Cost;

static double now_msec(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
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
        "  \"vcpu\": %u, \"mem\": \"8M\", \"kernelParams\": [\"quiet\", \"panic=-1\"],\n"
        "  \"volumes\": [{\"image\": \"root.img\", \"size\": \"2G\"}, \"/srv/vm%u.img\"],\n"
        "  \"interfaces\": [{\"type\": \"user\", \"id\": \"vm%u\", \"mac\": \"02:00:00:00:%02x:%02x\"}],\n"
        "  \"restart\": {\"policy\": \"always\"},\n"
        "  \"labels\": {\"app\": \"web\"}, \"description\": \"number %u\"\n"
        "}\n",
        vcpu, number, number, number >> 8, number & 255, number);
    if (write_file_atomic(path, text, strlen(text), 0644) < 0)
        abort();
}

static void load(const char *directory, const Definitions *before, Definitions *ret_found, Cost *least)
{
    char vms[128], defaults[128];
    const char *const directories[] = {vms};
    SpecContext context = {.defaults_path = defaults};
    Surroundings around = {.state_dir = directory};
    ProblemList problems = {0};
    double start = now_msec(CLOCK_MONOTONIC), processor = now_msec(CLOCK_PROCESS_CPUTIME_ID);

    snprintf(vms, sizeof(vms), "%s/vms", directory);
    snprintf(defaults, sizeof(defaults), "%s/defaults.json", directory);
    if (definitions_load(directories, 1, &context, before, &around, &problems, ret_found) < 0 ||
        problems.count > 0)
        abort();
    least->msec = MIN(least->msec, now_msec(CLOCK_MONOTONIC) - start);
    least->processor_msec = MIN(least->processor_msec, now_msec(CLOCK_PROCESS_CPUTIME_ID) - processor);
}

static void measure(const char *directory, unsigned count, const char *what)
{
    Cost cold = {1e9, 1e9}, same = cold, changed = cold;
    size_t memory = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t before = mallinfo2().uordblks;
        Definitions first = {0}, second = {0}, third = {0};
        load(directory, NULL, &first, &cold);
        if (first.count != count)
            abort();
        memory = mallinfo2().uordblks - before;
        load(directory, &first, &second, &same);
        put(directory, count / 2, 2 + round % 2);
        usleep(SETTLE_USEC);
        load(directory, &second, &third, &changed);
        if (third.items[0].spec != first.items[0].spec)
            abort();
        definitions_clear(&first);
        definitions_clear(&second);
        definitions_clear(&third);
    }
    printf(
        "%s: %u definitions (ms, processor ms): cold %.1f, %.1f; again %.1f, %.1f; one changed %.1f, %.1f; "
        "%zu bytes each\n",
        what, count, cold.msec, cold.processor_msec, same.msec, same.processor_msec, changed.msec,
        changed.processor_msec, memory / count);
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
