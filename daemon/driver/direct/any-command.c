/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The recipe of a hypervisor that microvmd does not know: the definition has its command. What it is to run,
 * it is told by its environment.
 */
#include "driver/direct/recipe.h"

#include <inttypes.h>

/* It opens them by such names: they are its user's, so it may, wherever it is. */
static void put_file(Command *command, const char *variable, DescriptorKind kind, size_t index)
{
    command_set(command, variable, "/dev/fd/%d", command_descriptor(command, kind, index));
}

static void put_files(const StartRequest *request, Command *command)
{
    if (request->kernel)
        put_file(command, "MICROVM_KERNEL", DESCRIPTOR_KERNEL, 0);
    if (request->initrd)
        put_file(command, "MICROVM_INITRD", DESCRIPTOR_INITRD, 0);
    for (size_t i = 0; i < request->spec->n_volumes; i++) {
        char variable[48];
        snprintf(variable, sizeof(variable), "MICROVM_VOLUME_%zu", i);
        put_file(command, variable, DESCRIPTOR_VOLUME, i);
    }
}

static int render(const StartRequest *request, Command *command)
{
    const VmSpec *spec = request->spec;

    for (size_t i = 0; i < spec->n_command_start; i++)
        command_add_text(command, spec->command_start[i]);
    command_set_text(command, "MICROVM_NAME", spec->name);
    command_set_text(command, "MICROVM_UUID", spec->machine_id);
    command_set_text(command, "MICROVM_ACCEL", accel_to_string(request->accel));
    command_set(command, "MICROVM_VCPU", "%" PRIu64, spec->vcpu);
    command_set(command, "MICROVM_MEM", "%" PRIu64, spec->mem_mib);
    command_set_text(command, "MICROVM_CMDLINE", request->cmdline);
    put_files(request, command);
    if (command->oom)
        return -ENOMEM;
    return command->n_arguments > 0 ? 0 : -EINVAL;
}

static CapabilitySet capabilities(const VmSpec *spec)
{
    return CAPABILITY(CAP_COMMAND) | CAPABILITY(CAP_HYPERVISOR_OPTIONS) | CAPABILITY(CAP_IMAGE_FORMATS) |
           CAPABILITY(CAP_IMAGE_VHDX) | CAPABILITY(CAP_STOP_COMMAND) | CAPABILITY(CAP_CONSOLE_JOURNAL);
}

static void check_program(char *const *words, size_t n, const char *pointer, const TableReader *reader)
{
    if (n > 0 && words[0][0] != '/')
        table_problem(reader, PROBLEM_ERROR, pointer, true,
                      "the program must be an absolute path, not \"%s\"", words[0]);
}

/* There is nothing else that it could be asked by. */
static void check_steps(const VmSpec *spec, const TableReader *reader)
{
    for (size_t i = 0; i < spec->n_stop_steps; i++) {
        char pointer[64];
        snprintf(pointer, sizeof(pointer), "/stop/steps/%zu", i);
        if (spec->stop_steps[i].action == STOP_ACTION_COMMAND && spec->n_command_stop == 0)
            table_problem(
                reader, PROBLEM_ERROR, pointer, false,
                "there is no program for it; add \"command\": { \"stop\": [...] }, or remove the step");
    }
}

static void check(const VmSpec *spec, const Runner *runner, const TableReader *reader)
{
    check_steps(spec, reader);
    check_program(spec->command_start, spec->n_command_start, "/command/start/0", reader);
    check_program(spec->command_stop, spec->n_command_stop, "/command/stop/0", reader);
    check_program(spec->command_ready, spec->n_command_ready, "/command/ready/0", reader);
    for (size_t i = 0; i < spec->n_volumes; i++) {
        char pointer[64];
        snprintf(pointer, sizeof(pointer), "/volumes/%zu/image", i);
        if (spec->volumes[i].image && spec->volumes[i].image[0] == '/')
            table_problem(
                reader, PROBLEM_ERROR, pointer, true,
                "a command opens its images itself, as a user who could not open this one; use a relative "
                "one, which is in the state directory and becomes that user's");
    }
}

const Recipe recipe_command = {
    .hypervisor = HYPERVISOR_COMMAND,
    .opens_images = true,
    .prints_console = true,
    .capabilities = capabilities,
    .check = check,
    .render = render,
};
