/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The definition language for people, from the spec table; run when the project is built.
 *
 * reference man TEMPLATE: the man page, with all keys in the place of @KEYS@ and those that are refused in
 * that of @REFUSED@. reference keys TEMPLATE: shell text, with the names of all keys in the place of @KEYS@.
 */
#include "definition.h"
#include "spec/spec-table.h"

#include "driver/driver.h"
#include "launch/launch.h"

#include <inttypes.h>

/* --- roff --- */

static void roff(const char *text)
{
    for (bool first = true; *text; text++, first = false) {
        if (first && strchr(".'", *text))
            fputs("\\&", stdout);
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '"')
            fputs("\\(dq", stdout);
        else
            putchar(*text);
    }
}

/* In the units that a definition has, so that 2^40 is said as people would. */
static void print_bound(KeyType type, uint64_t value)
{
    if (type == KEY_DURATION && value % (86400 * UINT64_C(1000000)) == 0 && value > 0)
        printf("%" PRIu64 "d", value / (86400 * UINT64_C(1000000)));
    else if (type == KEY_DURATION)
        printf("%" PRIu64, value / 1000000);
    else if (type == KEY_SIZE && value > 0 && value % (1 << 20) == 0)
        printf("%" PRIu64 "T", value >> 20);
    else
        printf("%" PRIu64, value);
}

static void print_range(const KeyRow *row)
{
    if (row->maximum == 0)
        return;
    fputs(", ", stdout);
    print_bound(row->type, row->minimum);
    fputs(" to ", stdout);
    print_bound(row->type, row->maximum);
}

static void print_type(const KeyRow *row)
{
    static const char *const types[] = {
        [KEY_BOOL] = "boolean",
        [KEY_NUMBER] = "number",
        [KEY_SIZE] = "size",
        [KEY_DURATION] = "time",
        [KEY_PERCENT] = "percent",
        [KEY_STRING] = "string",
        [KEY_ENUM] = NULL,
        [KEY_STRINGS] = "list of strings",
        [KEY_MAP] = "names and values",
        [KEY_JSON] = "object",
        [KEY_OBJECTS] = "list",
    };

    for (int value = 0; row->type == KEY_ENUM && value < row->enum_max; value++) {
        fputs(value > 0 ? ", \"" : "\"", stdout);
        roff(row->enum_name(value));
        putchar('"');
    }
    if (row->type == KEY_ENUM)
        return;
    fputs(types[row->type], stdout);
    if (row->type == KEY_NUMBER || row->type == KEY_SIZE || row->type == KEY_DURATION ||
        row->type == KEY_PERCENT)
        print_range(row);
}

/* --- who can --- */

enum {
    WHO_MICROVM = 1 << 0,
    WHO_Q35 = 1 << 1,
    WHO_COMMAND = 1 << 2,
    WHO_QEMU = WHO_MICROVM | WHO_Q35,
};

/* Who under this driver has the capability: machines of QEMU, and, where it runs them, commands. */
static unsigned who_of(DriverKind driver, Capability capability)
{
    const VmSpec specs[] = {
        {.driver = driver, .hypervisor = HYPERVISOR_QEMU, .qemu_machine = QEMU_MACHINE_MICROVM},
        {.driver = driver, .hypervisor = HYPERVISOR_QEMU, .qemu_machine = QEMU_MACHINE_Q35},
        {.driver = driver, .hypervisor = HYPERVISOR_COMMAND},
    };
    unsigned who = 0;

    for (size_t i = 0; i < ELEMENTSOF(specs); i++)
        if (definition_capabilities(&specs[i]) & CAPABILITY(capability))
            who |= 1U << i;
    return definition_capabilities(&specs[2]) & CAPABILITY(CAP_COMMAND) ? who : who & WHO_QEMU;
}

/* Which hypervisor it is: of that, only the drivers are told. */
static bool is_hypervisor(Capability capability)
{
    return capability >= CAP_QEMU && capability <= CAP_COMMAND;
}

/* "QEMU", "QEMU's machine q35", "the hypervisor "command"", "QEMU and …" */
static void print_hypervisors(unsigned who)
{
    if ((who & WHO_QEMU) == WHO_QEMU)
        fputs("QEMU", stdout);
    else if (who & WHO_QEMU)
        printf("QEMU\\(cqs machine %s", who & WHO_Q35 ? "q35" : "microvm");
    if (who & WHO_COMMAND)
        printf("%sthe hypervisor \\(dqcommand\\(dq", who & WHO_QEMU ? " and " : "");
}

static void print_who(const unsigned who[static DRIVER_KIND_MAX], bool is_name)
{
    const char *separator = "";

    if (who[DRIVER_KIND_LIBVIRT] == who[DRIVER_KIND_DIRECT]) {
        print_hypervisors(who[DRIVER_KIND_DIRECT]);
        return;
    }
    for (DriverKind kind = 0; kind < DRIVER_KIND_MAX; kind++) {
        if (who[kind] == 0)
            continue;
        fputs(separator, stdout);
        if (!is_name)
            print_hypervisors(who[kind]);
        printf("%swith the driver %s", is_name ? "" : " ", driver_kind_to_string(kind));
        separator = "; ";
    }
}

static void print_need(const char *word, Capability capability)
{
    bool is_name = word && is_hypervisor(capability);
    unsigned who[DRIVER_KIND_MAX], any = 0;

    for (DriverKind kind = 0; kind < DRIVER_KIND_MAX; kind++)
        any |= who[kind] = who_of(kind, capability);
    if (capability == CAP_NONE ||
        (who[DRIVER_KIND_LIBVIRT] == WHO_QEMU && who[DRIVER_KIND_DIRECT] == (WHO_QEMU | WHO_COMMAND)) ||
        (is_name && who[DRIVER_KIND_LIBVIRT] && who[DRIVER_KIND_DIRECT]))
        return; /* everybody can */
    fputs(".br\n", stdout);
    if (word) {
        putchar('"');
        roff(word);
        fputs("\": ", stdout);
    }
    if (any) {
        fputs("Only ", stdout);
        print_who(who, is_name);
    } else {
        fputs("Nobody can yet; ", stdout);
        roff(capability_hint(capability));
    }
    fputs(".\n", stdout);
}

static void print_needs(const KeyRow *row)
{
    print_need(NULL, row->needs);
    for (int value = 0; row->enum_needs && value < row->enum_max; value++)
        print_need(row->enum_name(value), row->enum_needs(value));
}

/* --- keys --- */

/* Beside what it has an effect. */
static void print_conditions(const KeyTable *table, const KeyRow *row)
{
    for (size_t i = 0; i < ELEMENTSOF(row->only) && row->only[i].key; i++) {
        _cleanup_free_ char *words = NULL;
        size_t size;
        FILE *stream = open_memstream(&words, &size);
        if (!stream)
            abort();
        table_print_condition(table, row, &row->only[i], stream);
        if (fclose(stream) != 0)
            abort();
        fputs(i > 0 ? " and " : "Only with ", stdout);
        roff(words);
    }
    fputs(row->only[0].key ? ".\n" : "", stdout);
}

static void print_row(const KeyTable *table, const KeyRow *row)
{
    static const char *const changes[CHANGE_MAX] = {[CHANGE_RESTART] = "takes a restart",
                                                    [CHANGE_LIVE] = "is applied live",
                                                    [CHANGE_NEXT_START] = "takes effect at the next start"};

    fputs(".TP\n\\fB", stdout);
    roff(row->key);
    fputs("\\fR (", stdout);
    if (row->alias_of) {
        fputs("another name of \\fB", stdout);
        roff(row->alias_of);
        fputs("\\fR)\n", stdout);
    } else {
        print_type(row);
        if (row->required)
            fputs("; required", stdout);
        else if (row->fallback || row->computed) {
            fputs("; default: ", stdout);
            roff(row->fallback ? row->fallback : row->computed);
        }
        printf("; a change %s)\n", changes[row->change]);
    }
    roff(row->doc);
    putchar('\n');
    print_conditions(table, row);
    print_needs(row);
}

static void print_rows(const KeyTable *table)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const KeyRow *row = &table->rows[i];
        if (row->type == KEY_REFUSED)
            continue;
        print_row(table, row);
        if (row->type != KEY_OBJECTS)
            continue;
        fputs(".RS\n", stdout);
        print_rows(row->items);
        fputs(".RE\n", stdout);
    }
}

static void print_refused(void)
{
    for (size_t i = 0; i < vm_table.n_rows; i++) {
        if (vm_table.rows[i].type != KEY_REFUSED)
            continue;
        fputs(".TP\n\\fB", stdout);
        roff(vm_table.rows[i].key);
        fputs("\\fR\n", stdout);
        roff(vm_table.rows[i].doc);
        fputs(".\n", stdout);
    }
}

static void print_names(void)
{
    for (size_t i = 0; i < vm_table.n_rows; i++)
        if (vm_table.rows[i].type != KEY_REFUSED)
            printf("%s\n", vm_table.rows[i].key);
}

int main(int argc, char *argv[])
{
    char line[4096];
    FILE *template = argc == 3 ? fopen(argv[2], "re") : NULL;
    bool man = argc == 3 && streq(argv[1], "man");

    launcher_use(LAUNCHER_SYSTEMD); /* with which a driver can the most */
    if (!template) {
        fputs("usage: reference man|keys TEMPLATE\n", stderr);
        return 2;
    }
    while (fgets(line, sizeof(line), template)) {
        if (streq(line, "@KEYS@\n") && man)
            print_rows(&vm_table);
        else if (streq(line, "@KEYS@\n"))
            print_names();
        else if (streq(line, "@REFUSED@\n"))
            print_refused();
        else
            fputs(line, stdout);
    }
    fclose(template);
    return ferror(stdout) != 0;
}
