/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/quota.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_each_user_has_as_many(void **context)
{
    Quota quota = {.most = 2};
    QuotaUser *first[2], *second, *more = NULL;

    assert_int_equal(quota_take(&quota, 0, &first[0]), 0);
    assert_int_equal(quota_take(&quota, 0, &first[1]), 0);
    assert_int_equal(quota_take(&quota, 0, &more), -EDQUOT);
    assert_null(more);
    assert_int_equal(quota_take(&quota, 1000, &second), 0);
    quota_give_back(first[1]);
    assert_int_equal(quota_take(&quota, 0, &more), 0);
    assert_int_equal(quota_take(&quota, 0, &first[1]), -EDQUOT);
    quota_give_back(second);
    quota_give_back(first[0]);
    assert_int_equal(quota_take(&quota, 0, &first[0]), 0);
    quota_give_back(first[0]);
    quota_give_back(more);
    assert_null(quota.users); /* nothing is remembered of who has none */
    assert_null(quota_give_back(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_user_has_as_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
