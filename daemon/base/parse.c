/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/parse.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <strings.h>

enum {
    FRACTION_DIGITS = 6,
};

typedef struct Unit {
    const char *name;
    uint64_t factor;
} Unit;

static const Unit size_units[] = {
    {"B", 1},           {"K", 1ull << 10}, {"KiB", 1ull << 10},
    {"KB", 1ull << 10}, {"M", 1ull << 20}, {"MiB", 1ull << 20},
    {"MB", 1ull << 20}, {"G", 1ull << 30}, {"GiB", 1ull << 30},
    {"GB", 1ull << 30}, {"T", 1ull << 40}, {"TiB", 1ull << 40},
    {"TB", 1ull << 40},
};

#define SEC UINT64_C(1000000)

/* Those of systemd.time(7), up to weeks. */
static const Unit time_units[] = {
    {"us", 1},
    {"usec", 1},
    {"ms", 1000},
    {"msec", 1000},
    {"s", SEC},
    {"sec", SEC},
    {"second", SEC},
    {"seconds", SEC},
    {"m", 60 * SEC},
    {"min", 60 * SEC},
    {"minute", 60 * SEC},
    {"minutes", 60 * SEC},
    {"h", 3600 * SEC},
    {"hr", 3600 * SEC},
    {"hour", 3600 * SEC},
    {"hours", 3600 * SEC},
    {"d", 86400 * SEC},
    {"day", 86400 * SEC},
    {"days", 86400 * SEC},
    {"w", 604800 * SEC},
    {"week", 604800 * SEC},
    {"weeks", 604800 * SEC},
};

static const Unit *find_unit(const Unit *units, size_t n, const char *name, size_t length)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(units[i].name) == length && strncmp(units[i].name, name, length) == 0)
            return &units[i];
    return NULL;
}

/* "NUMBER[.FRACTION] [UNIT]", from *at on, without floating point. */
static int parse_term(const char **at, const Unit *units, size_t n_units, uint64_t default_factor,
                      uint64_t *ret_value)
{
    uint64_t whole = 0, fraction = 0, scale = 1, factor = default_factor, value;
    const char *p = *at, *name;

    if (!isdigit((unsigned char)*p))
        return -EINVAL;
    for (; isdigit((unsigned char)*p); p++)
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
            return -ERANGE;
    if (*p == '.') {
        if (!isdigit((unsigned char)*++p))
            return -EINVAL;
        for (int digits = 0; isdigit((unsigned char)*p); p++, digits++) {
            if (digits == FRACTION_DIGITS)
                return -EINVAL;
            fraction = fraction * 10 + (uint64_t)(*p - '0');
            scale *= 10;
        }
    }
    while (*p == ' ')
        p++;
    for (name = p; isalpha((unsigned char)*p); p++)
        ;
    if (p > name) {
        const Unit *unit = find_unit(units, n_units, name, (size_t)(p - name));
        if (!unit)
            return -EINVAL;
        factor = unit->factor;
    }
    if (__builtin_mul_overflow(whole, factor, &value) ||
        __builtin_add_overflow(value, (uint64_t)((unsigned __int128)fraction * factor / scale), &value))
        return -ERANGE;
    *at = p;
    *ret_value = value;
    return 0;
}

int parse_size_mib(const char *text, uint64_t *ret_mib)
{
    uint64_t bytes;
    int r;

    r = parse_term(&text, size_units, ELEMENTSOF(size_units), 1ull << 20, &bytes);
    if (r < 0)
        return r;
    if (*text != '\0' || bytes % (1 << 20) != 0)
        return -EINVAL;
    *ret_mib = bytes >> 20;
    return 0;
}

int parse_duration(const char *text, uint64_t *ret_usec)
{
    uint64_t total = 0, term;
    int r;

    do {
        while (*text == ' ')
            text++;
        r = parse_term(&text, time_units, ELEMENTSOF(time_units), SEC, &term);
        if (r < 0)
            return r;
        if (__builtin_add_overflow(total, term, &total))
            return -ERANGE;
    } while (*text != '\0');
    *ret_usec = total;
    return 0;
}

void format_duration(uint64_t usec, char *buffer, size_t size)
{
    static const Unit units[] = {
        {"w", 604800 * SEC}, {"d", 86400 * SEC}, {"h", 3600 * SEC}, {"min", 60 * SEC},
        {"s", SEC},          {"ms", 1000},       {"us", 1}};
    size_t used = 0;

    snprintf(buffer, size, "0");
    for (size_t i = 0; i < ELEMENTSOF(units) && used < size; i++) {
        uint64_t n = usec / units[i].factor;
        if (n == 0)
            continue;
        used += (size_t)snprintf(buffer + used, size - used, "%s%" PRIu64 "%s", used ? " " : "", n,
                                 units[i].name);
        usec %= units[i].factor;
    }
}

int parse_mac(const char *text, char *ret_mac)
{
    unsigned bytes[6], sum = 0;
    int end = 0;

    if (strlen(text) != 17 ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
               &bytes[5], &end) != 6 ||
        end != 17 || strspn(text, "0123456789abcdefABCDEF:") != 17)
        return -EINVAL;
    for (size_t i = 0; i < ELEMENTSOF(bytes); i++)
        sum |= bytes[i];
    if (sum == 0 || (bytes[0] & 1))
        return -EINVAL;
    snprintf(ret_mac, 18, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0] & 0xff, bytes[1] & 0xff, bytes[2] & 0xff,
             bytes[3] & 0xff, bytes[4] & 0xff, bytes[5] & 0xff);
    return 0;
}

int parse_uuid(const char *text, char *ret_uuid)
{
    char uuid[37];
    bool zero = true;

    if (strlen(text) != 36)
        return -EINVAL;
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return -EINVAL;
        uuid[i] = (char)tolower((unsigned char)text[i]);
        zero &= dash || text[i] == '0';
    }
    if (zero)
        return -EINVAL;
    uuid[36] = '\0';
    memcpy(ret_uuid, uuid, sizeof(uuid));
    return 0;
}

bool ipv4_valid(const char *text)
{
    struct in_addr address;

    return inet_pton(AF_INET, text, &address) == 1;
}

/* Optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours. */
static size_t distance(const char *a, const char *b)
{
    enum {
        LONGEST = 48
    };
    size_t n = strlen(a), m = strlen(b), row[3][LONGEST + 1];

    if (n > LONGEST || m > LONGEST)
        return SIZE_MAX;
    for (size_t j = 0; j <= m; j++)
        row[1][j] = j;
    for (size_t i = 1; i <= n; i++) {
        row[2][0] = i;
        for (size_t j = 1; j <= m; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            size_t best = MIN(row[1][j - 1] + !same, MIN(row[1][j], row[2][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN(best, row[0][j - 2] + 1);
            row[2][j] = best;
        }
        memcpy(row[0], row[1], sizeof(row[0]));
        memcpy(row[1], row[2], sizeof(row[1]));
    }
    return row[1][m];
}

/* "memory" for "mem": the word goes on where the candidate ends, or the other way round. */
static bool goes_on(const char *word, const char *candidate)
{
    enum {
        SHORTEST = 3,
        MORE_MAX = 3
    };
    size_t n = strlen(word), m = strlen(candidate), common = MIN(n, m);

    return common >= SHORTEST && MAX(n, m) - common <= MORE_MAX && strncasecmp(word, candidate, common) == 0;
}

const char *did_you_mean(const char *word, const char *const *candidates, size_t n)
{
    const char *best = NULL;
    size_t nearest = SIZE_MAX;

    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, candidates[i]);
        if (d < nearest) {
            nearest = d;
            best = candidates[i];
        }
    }
    /* One error in three letters is a typing error; more is another word. */
    if (nearest <= MAX(strlen(word) / 3, (size_t)1))
        return best;
    for (size_t i = 0; i < n; i++)
        if (goes_on(word, candidates[i]))
            return candidates[i];
    return NULL;
}
