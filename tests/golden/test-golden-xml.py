#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The golden domain XML against libvirt's own schema. Prints TAP."""

import glob
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    for tool in ("virt-xml-validate", "xmllint"):
        if not shutil.which(tool):
            print(f"{tool} is missing (packages: libvirt-clients libxml2-utils)")
            return 77
    files = sorted(glob.glob(os.path.join(HERE, "*.xml")))
    failed = 0
    print(f"1..{len(files)}")
    for number, path in enumerate(files, 1):
        run = subprocess.run(["virt-xml-validate", path, "domain"], capture_output=True, text=True)
        failed += run.returncode != 0
        print(f"{'ok' if run.returncode == 0 else 'not ok'} {number} - {os.path.basename(path)}")
        if run.returncode != 0:
            print("# " + (run.stdout + run.stderr).strip().replace("\n", "\n# "))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
