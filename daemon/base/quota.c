/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/quota.h"

struct QuotaUser {
    Quota *quota;
    uid_t uid;
    unsigned taken; /* never 0 */
    QuotaUser *next;
};

int quota_take(Quota *quota, uid_t uid, QuotaUser **ret_user)
{
    QuotaUser *user = quota->users;

    while (user && user->uid != uid)
        user = user->next;
    if (user && user->taken >= quota->most)
        return -EDQUOT;
    if (!user) {
        user = malloc(sizeof(*user));
        if (!user)
            return -ENOMEM;
        *user = (QuotaUser){.quota = quota, .uid = uid, .next = quota->users};
        quota->users = user;
    }
    user->taken++;
    *ret_user = user;
    return 0;
}

QuotaUser *quota_give_back(QuotaUser *user)
{
    if (!user || --user->taken > 0)
        return NULL;
    for (QuotaUser **link = &user->quota->users; *link; link = &(*link)->next)
        if (*link == user) {
            *link = user->next;
            break;
        }
    free(user);
    return NULL;
}
