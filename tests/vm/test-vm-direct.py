#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same guests as in test-vm.py, by the driver "direct": no libvirt runs any of them. Prints TAP."""

import importlib.util
import os
import sys

spec = importlib.util.spec_from_file_location("test_vm", os.path.join(os.path.dirname(os.path.abspath(__file__)), "test-vm.py"))
test_vm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(test_vm)
test_vm.DRIVER = "direct"
test_vm.TAPS, test_vm.BALLOON = False, {}  # it refuses both
test_vm.QUEUES = "/sys/class/net/eth0/queues/rx-0"
# What no driver has a hand in is not tried twice.
# It refuses the keys of the last one.
for name in ("lost_volume_is_never_made_anew", "missing_kernel_says_which", "logs_of_earlier_boots", "logs_follow", "status_and_json",
             "slow_stop_is_waited_for", "user_and_socket_of_its_own"):
    delattr(test_vm, "test_" + name)

if __name__ == "__main__":
    sys.exit(test_vm.main(test_vm))
