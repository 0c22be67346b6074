/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For test-json-schema.py: definitions of every kind (corpus.h), and whether the loader takes them.
 * usage: schema-corpus vm|drop-in|host. Each line is a JSON array: taken, type of the row, text, and the
 * document as text.
 */
#include "host/config.h"
#include "layers.h"

#include "corpus.h"

static char host_path[] = "/tmp/microvmd-corpus.XXXXXX";

typedef struct Target {
    const KeyTable *table;
    bool layers;     /* of a definition */
    bool complete;   /* it has a kernel */
    bool incomplete; /* elements may lack something */
} Target;

/* In the one way that there is; a role that forbids to run is well said all the same. */
static bool is_host_taken(const char *text, ProblemList *problems)
{
    static int fd = -1;
    _cleanup_(host_config_clear)
    HostConfig config = {0};
    _cleanup_free_ char *refusal = NULL;
    HostVerdict verdict = HOST_UNREADABLE;

    if (fd < 0)
        fd = mkstemp(host_path);
    if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) < 0)
        abort();
    if (host_config_load(host_path, problems, &verdict, &refusal, &config) < 0)
        abort();
    return verdict != HOST_UNREADABLE;
}

static bool is_taken(const Target *target, const char *text, ProblemList *problems)
{
    static const Layers nothing;
    _cleanup_(json_document_clear)
    JsonDocument document = {0};
    TableReader reader = {.document = &document, .problems = problems, .incomplete = target->incomplete};
    VmSpec spec = {0};
    int r;

    if (!target->layers)
        return is_host_taken(text, problems);
    r = layers_merge_text("web@1", &nothing, text, strlen(text), problems, &document);
    if (r < 0)
        return false;
    r = table_read(&reader, target->table, document.root, "", &spec);
    if (target->complete && spec.boot == BOOT_KERNEL && !spec.kernel)
        r = -EBADMSG;
    table_clear(target->table, &spec);
    return r >= 0 && problem_count(problems, PROBLEM_ERROR) == 0;
}

static void emit(const KeyRow *row, const char *pointer, const char *text, void *userdata)
{
    static const char *const quantities[KEY_REFUSED + 1] = {
        [KEY_SIZE] = "quantity", [KEY_DURATION] = "quantity", [KEY_PERCENT] = "quantity"};
    _cleanup_problems_ ProblemList problems = {0};
    bool taken = is_taken(userdata, text, &problems);
    cJSON *line = cJSON_CreateArray();
    char *printed;

    cJSON_AddItemToArray(line, cJSON_CreateBool(taken));
    cJSON_AddItemToArray(line, cJSON_CreateString(quantities[row->type] ? quantities[row->type] : ""));
    cJSON_AddItemToArray(line, cJSON_CreateString(problems.count > 0 ? problems.items[0].text : ""));
    cJSON_AddItemToArray(line, cJSON_CreateString(text));
    printed = cJSON_PrintUnformatted(line);
    puts(printed);
    free(printed);
    cJSON_Delete(line);
}

int main(int argc, char *argv[])
{
    Target vm = {&vm_table, .layers = true, .complete = true}, drop_in = {&vm_table, .layers = true},
           host = {0};
    static const char *const suffixes[] = {"", "+"};

    if (argc != 2)
        return 2;
    for (size_t i = 0; i < 2; i++) {
        drop_in.incomplete = i == 0; /* what is appended is complete */
        if (streq(argv[1], "vm"))
            corpus_each(&vm_table, NULL, "{\"kernel\": \"/k\"}", suffixes[i], emit, &vm);
        else if (streq(argv[1], "drop-in"))
            corpus_each(&vm_table, NULL, "{}", suffixes[i], emit, &drop_in);
        else if (streq(argv[1], "host"))
            corpus_each(&host_table, NULL, "{}", suffixes[i], emit, &host);
        else
            return 2;
    }
    return streq(argv[1], "host") ? unlink(host_path) < 0 : 0;
}
