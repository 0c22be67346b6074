/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "spec/take.h"

#include "base/parse.h"
#include "spec/spec.h"

#include <limits.h>
#include <regex.h>

enum {
    MAC_SIZE = 18,
    UUID_SIZE = 37,
    SERIAL_MAX = 20,         /* virtio-blk's VIRTIO_BLK_ID_BYTES */
    INTERFACE_NAME_MAX = 15, /* IFNAMSIZ, netdevice(7) */
    TAG_MAX = 36,            /* virtio-fs: struct virtio_fs_config; 9p's is not shorter */
    FS_LABEL_MAX = 255,
    LABEL_NAME_MAX = 63,
    LAST_CPU = 8191,
};

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS  "0123456789"

static const char *copy(const char *text, char **ret_value)
{
    *ret_value = strdup(text);
    return NULL;
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    return false;
}

/* What no path can be; NULL: nothing of that. */
static const char *bad_path(const char *text)
{
    if (has_control(text))
        return "a path can't hold control characters";
    return strlen(text) >= PATH_MAX ? "a path has at most 4095 bytes" : NULL;
}

static bool is_made_of(const char *text, const char *characters, size_t most)
{
    size_t length = strlen(text);

    return length > 0 && length <= most && strspn(text, characters) == length;
}

/* Whether a path has `name` for a component. */
static bool has_component(const char *path, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = path; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (strncmp(at, name, length) == 0 && (at[length] == '/' || at[length] == '\0'))
            return true;
    }
    return false;
}

const char *take_text(const char *text, char **ret_value)
{
    return has_control(text) ? "this must be one line, without control characters" : copy(text, ret_value);
}

const char *take_script(const char *text, char **ret_value)
{
    for (const char *at = text; *at; at++)
        if (((unsigned char)*at < 0x20 && *at != '\n' && *at != '\t') || *at == 0x7f)
            return "a script can't hold control characters";
    return copy(text, ret_value);
}

const char *take_absolute(const char *text, char **ret_value)
{
    if (text[0] != '/')
        return "this must be an absolute path";
    return bad_path(text) ? bad_path(text) : copy(text, ret_value);
}

/* What the supervisor itself keeps in a state directory. */
static bool is_ours(const char *image)
{
    return strncmp(image, "state.json", 10) == 0 || strncmp(image, "hypervisor.log", 14) == 0 ||
           strncmp(image, "readiness.log", 13) == 0 ||
           (strncmp(image, "crash-", 6) == 0 && strstr(image, ".json")) ||
           (strncmp(image, "console.", 8) == 0 && strstr(image, "log"));
}

const char *take_image(const char *text, char **ret_value)
{
    size_t length = strlen(text);

    if (length == 0 || text[length - 1] == '/')
        return "this must be the path of a disk image: absolute, or relative to the microVM's state "
               "directory";
    if (bad_path(text))
        return bad_path(text);
    if (has_component(text, ".."))
        return "a path with \"..\" in it is not allowed; write where the image really is";
    if (has_component(text, ".") || strstr(text, "//"))
        return "write the path without \"./\" and \"//\", so that the same image always has the same name";
    if (is_ours(text))
        return "microvmd itself keeps a file of that name in the state directory; call the image otherwise";
    return copy(text, ret_value);
}

static bool odd_quotes(const char *text)
{
    bool odd = false;

    for (; *text; text++)
        odd ^= *text == '"';
    return odd;
}

const char *take_kernel_param(const char *text, char **ret_value)
{
    if (!*text)
        return "an empty kernel parameter";
    if (has_control(text) || strchr(text, ' '))
        return "one kernel parameter an entry, without spaces: write \"a=1\", \"b=2\"";
    if (odd_quotes(text))
        return "a double quote is not closed: the kernel would take the parameters after it for a part of "
               "this one";
    return copy(text, ret_value);
}

const char *take_argument(const char *text, char **ret_value)
{
    return has_control(text) ? "an argument can't hold control characters" : copy(text, ret_value);
}

const char *take_serial(const char *text, char **ret_value)
{
    return is_made_of(text, LETTERS DIGITS "._-", SERIAL_MAX)
               ? copy(text, ret_value)
               : "a serial number has 1 to 20 letters, digits, '.', '_' and '-'";
}

const char *take_fs_label(const char *text, char **ret_value)
{
    if (!*text || strlen(text) > FS_LABEL_MAX || text[0] == '-' || has_control(text))
        return "this must be the label of a file system: not empty, not beginning with '-'";
    return copy(text, ret_value);
}

const char *take_mac(const char *text, char **ret_value)
{
    char mac[MAC_SIZE];

    if (parse_mac(text, mac) < 0)
        return "this must be the MAC address of one card, such as \"02:00:00:12:34:56\"";
    return copy(mac, ret_value);
}

const char *take_interface_name(const char *text, char **ret_value)
{
    return is_made_of(text, LETTERS DIGITS "._-", INTERFACE_NAME_MAX)
               ? copy(text, ret_value)
               : "an interface name has 1 to 15 letters, digits, '.', '_' and '-'";
}

const char *take_uuid(const char *text, char **ret_value)
{
    char uuid[UUID_SIZE];

    if (parse_uuid(text, uuid) < 0)
        return "this must be a UUID, such as \"6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c\"";
    return copy(uuid, ret_value);
}

const char *take_ipv4(const char *text, char **ret_value)
{
    return ipv4_valid(text) ? copy(text, ret_value) : "this must be an IPv4 address";
}

const char *take_tag(const char *text, char **ret_value)
{
    return is_made_of(text, LETTERS DIGITS "._-", TAG_MAX)
               ? copy(text, ret_value)
               : "a tag has 1 to 36 letters, digits, '.', '_' and '-'";
}

static bool matches(const char *text, const char *pattern)
{
    regex_t regex;
    bool yes;

    if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    yes = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return yes;
}

const char *take_device_path(const char *text, char **ret_value)
{
    if (!matches(text, "^([0-9A-Fa-f]{4}:)?[0-9A-Fa-f]{2}:[01][0-9A-Fa-f]\\.[0-7]$") &&
        !matches(text, "^vendorid=0x[0-9A-Fa-f]{1,4},productid=0x[0-9A-Fa-f]{1,4}$"))
        return "this must be the address of a PCI device, such as \"0000:00:02.0\", or USB ids, such as "
               "\"vendorid=0x1234,productid=0x5678\"";
    return copy(text, ret_value);
}

const char *take_user_name(const char *text, char **ret_value)
{
    if (text[0] == '-' || !is_made_of(text, LETTERS DIGITS "._-", 31))
        return "this must be the name of a user or group";
    return copy(text, ret_value);
}

const char *take_identifier(const char *text, char **ret_value)
{
    /* QEMU's util/id.c */
    if (!strchr(LETTERS, text[0]) || !is_made_of(text, LETTERS DIGITS "._-", 63))
        return "this must be a letter, then letters, digits, '.', '_' and '-'";
    return copy(text, ret_value);
}

const char *take_option_value(const char *text, char **ret_value)
{
    return has_control(text) ? "an option can't hold control characters" : copy(text, ret_value);
}

const char *take_cpu_model(const char *text, char **ret_value)
{
    return is_made_of(text, LETTERS DIGITS "._-", 64)
               ? copy(text, ret_value)
               : "this must be the name of a CPU model, as \"qemu-system-x86_64 -cpu help\" lists them";
}

/* As cpuset(7) writes lists: "0-3,5". */
const char *take_cpu_set(const char *text, char **ret_value)
{
    static const char wrong[] = "this must be a list of processors, such as \"0-3,5\"";
    const char *at = text;

    for (;;) {
        unsigned long first, last;
        char *end;
        if (!strchr(DIGITS, *at) || !*at)
            return wrong;
        first = last = strtoul(at, &end, 10);
        if (*end == '-') {
            if (!end[1] || !strchr(DIGITS, end[1]))
                return wrong;
            last = strtoul(end + 1, &end, 10);
        }
        if (last < first || last > LAST_CPU || (*end && *end != ','))
            return wrong;
        if (!*end)
            return copy(text, ret_value);
        at = end + 1;
    }
}

const char *take_label_name(const char *text, char **ret_value)
{
    return is_made_of(text, LETTERS DIGITS "._-/", LABEL_NAME_MAX)
               ? copy(text, ret_value)
               : "the name of a label has 1 to 63 letters, digits, '.', '_', '-' and '/'";
}

const char *take_credential_name(const char *text, char **ret_value)
{
    /* systemd's credential_name_valid(), as far as it fits into fw_cfg's names (56 bytes with the prefix). */
    return is_made_of(text, LETTERS DIGITS "._-", 32)
               ? copy(text, ret_value)
               : "the name of a credential has 1 to 32 letters, digits, '.', '_' and '-'";
}

const char *take_vm_name(const char *text, char **ret_value)
{
    return vm_name_valid(text) ? copy(text, ret_value) : "this must be the name of a microVM";
}

const char *take_dependency(const char *text, char **ret_value)
{
    _cleanup_free_ char *name = strdup(text);
    char *colon = name ? strchr(name, ':') : NULL;

    if (colon && !streq(colon, ":ready"))
        return "this must be the name of a microVM, or NAME:ready";
    if (colon)
        *colon = '\0';
    if (name && !vm_name_valid(name))
        return "this must be the name of a microVM, or NAME:ready";
    return copy(text, ret_value);
}

const char *take_http_path(const char *text, char **ret_value)
{
    return text[0] == '/' && !has_control(text) && !strchr(text, ' ') ? copy(text, ret_value)
                                                                      : "this must be a path, such as \"/\"";
}

/* --- the same as regular expressions --- */

#define ALL_BUT(more) "[^\\u0000-\\u001f\\u007f" more "]"
#define HEX           "[0-9A-Fa-f]"
#define BYTE          "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define CPU           "0*([0-9]{1,3}|[1-7][0-9]{3}|80[0-9]{2}|81[0-8][0-9]|819[01])"
#define VM_NAME       "(?!.*\\.\\.)(?!.*@.*@)[A-Za-z0-9]([A-Za-z0-9._@-]{0,62}[A-Za-z0-9])?"

const char *take_pattern(key_take_fn take)
{
    /* Lengths are in characters, where they are meant in bytes: the loader knows better. */
    static const struct {
        key_take_fn take;
        const char *pattern;
    } patterns[] = {
        {take_text, "^" ALL_BUT("") "*$"},
        {take_script, "^[^\\u0000-\\u0008\\u000b-\\u001f\\u007f]*$"},
        {take_absolute, "^/" ALL_BUT("") "{0,4094}$"},
        {take_image, "^(?!(.*/)?\\.{1,2}(/|$))(?!.*//"
                     ")(?!state\\.json)(?!(hypervisor|readiness)\\.log)(?!console\\..*log)" ALL_BUT(
                         "") "{0,4094}" ALL_BUT("/") "$"},
        {take_kernel_param, "^(?!$)" ALL_BUT(" \"") "*(\"" ALL_BUT(" \"") "*\"" ALL_BUT(" \"") "*)*$"},
        {take_argument, "^" ALL_BUT("") "*$"},
        {take_serial, "^[A-Za-z0-9._-]{1,20}$"},
        {take_fs_label, "^(?!-)" ALL_BUT("") "{1,255}$"},
        {take_mac, "^(?!00:00:00:00:00:00$)" HEX "[02468ACEace](:" HEX "{2}){5}$"},
        {take_interface_name, "^[A-Za-z0-9._-]{1,15}$"},
        {take_uuid, "^(?!0{8}(-0{4}){3}-0{12}$)" HEX "{8}(-" HEX "{4}){3}-" HEX "{12}$"},
        {take_ipv4, "^" BYTE "(\\." BYTE "){3}$"},
        {take_tag, "^[A-Za-z0-9._-]{1,36}$"},
        {take_device_path,
         "^((" HEX "{4}:)?" HEX "{2}:[01]" HEX "\\.[0-7]|vendorid=0x" HEX "{1,4},productid=0x" HEX "{1,4})$"},
        {take_user_name, "^(?!-)[A-Za-z0-9._-]{1,31}$"},
        {take_identifier, "^[A-Za-z][A-Za-z0-9._-]{0,62}$"},
        {take_option_value, "^" ALL_BUT("") "*$"},
        {take_cpu_model, "^[A-Za-z0-9._-]{1,64}$"},
        {take_cpu_set, "^" CPU "(-" CPU ")?(," CPU "(-" CPU ")?)*$"},
        {take_label_name, "^[A-Za-z0-9._/-]{1,63}$"},
        {take_credential_name, "^[A-Za-z0-9._-]{1,32}$"},
        {take_vm_name, "^" VM_NAME "$"},
        {take_dependency, "^" VM_NAME "(:ready)?$"},
        {take_http_path, "^/" ALL_BUT(" ") "*$"},
    };

    for (size_t i = 0; i < ELEMENTSOF(patterns); i++)
        if (patterns[i].take == take)
            return patterns[i].pattern;
    return "^";
}
