/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How many of something each user has, and no more than so many. */
#ifndef BASE_QUOTA_H
#define BASE_QUOTA_H

#include "base/macro.h"

#include <sys/types.h>

/* A user who has some. */
typedef struct QuotaUser QuotaUser;

typedef struct Quota {
    unsigned most;
    QuotaUser *users;
} Quota;

/* One more for `uid`, until it is given back, before the quota goes. -EDQUOT: there are `most` of that user.
 */
int quota_take(Quota *quota, uid_t uid, QuotaUser **ret_user);
QuotaUser *quota_give_back(QuotaUser *user);
DEFINE_CLEANUP(QuotaUser *, quota_give_back)

#endif
