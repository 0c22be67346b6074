#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The documentation holds together: its links lead somewhere, its index has all of it, its examples are accepted. Prints TAP."""

import glob
import os
import re
import subprocess
import sys
import tempfile

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DAEMON = os.path.join(os.environ.get("MICROVMD_BUILD", os.path.join(SOURCE, "build", "release")), "microvmd")
INDEX = os.path.join(SOURCE, "docs", "README.md")


def pages():
    found = sorted(glob.glob(os.path.join(SOURCE, "*.md")) + glob.glob(os.path.join(SOURCE, "docs", "**", "*.md"), recursive=True))
    assert len(found) > 20, found
    return found


def read(path):
    with open(path) as file:
        return file.read()


def anchors(text):
    """Of the headings, as GitHub makes them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.M)}


def links(page):
    """(file, anchor) of those that lead to this tree."""
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page, anchor


def test_links():
    for page in pages():
        for path, anchor in links(page):
            assert os.path.exists(path), f"{page}: there is no {path}"
            assert not anchor or anchor in anchors(read(path)), f"{page}: {path} has no #{anchor}"


def test_index():
    linked = {path for path, _ in links(INDEX)}
    missing = [page for page in pages() if page.startswith(os.path.dirname(INDEX)) and page != INDEX and page not in linked]
    assert missing == [], f"{missing} not in docs/README.md"
    titles = {os.path.basename(page): read(page).split("\n", 1)[0] for page in glob.glob(os.path.join(SOURCE, "docs", "adr", "*.md"))}
    for number, title, name in re.findall(r"^(\d+)\. \[(.*)\]\(adr/(.*)\)$", read(INDEX), re.M):
        assert titles[name] == f"# {number}. {title}", name
    for page in glob.glob(os.path.join(SOURCE, "docs", "man", "*")):
        name, section = re.match(r"(.*)\.([1-8])(\.in)?$", os.path.basename(page)).group(1, 2)
        assert f"{name}({section})" in read(INDEX), f"{page} is not in docs/README.md"


def examples():
    for page in pages():
        yield from ((page, text) for text in re.findall(r"^ *```json\n(.*?)^ *```$", read(page), re.M | re.S))
    manual = os.path.join(SOURCE, "docs", "man", "microvm-definition.5.in")
    for text in re.findall(r"^\.nf\n({.*?)^\.fi$", read(manual), re.M | re.S):
        yield manual, text.replace("\\-", "-").replace("\\(dq", '"')


def test_examples():
    """Each is a definition, or a host configuration."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "example.json")
        os.mkdir(os.path.join(folder, "vms"))
        found = list(examples())
        assert len(found) >= 5, found
        for page, text in found:
            with open(path, "w") as file:
                file.write(text)
            runs = [subprocess.run([DAEMON, *words], capture_output=True, text=True) for words in (
                ["--config", os.path.join(folder, "none.json"), "--check", path],
                ["--config", path, "--definitions", os.path.join(folder, "vms"), "--check"])]
            assert any(run.returncode == 0 and "warning" not in run.stdout for run in runs), f"{page}:\n{text}\n{runs}"


def test_help():
    summary = subprocess.run([DAEMON, "--help"], capture_output=True, text=True, check=True).stdout
    manual = read(os.path.join(SOURCE, "docs", "man", "microvmd.8")).replace("\\-", "-")
    options = re.findall(r'^    {"([a-z-]+)", \w+_argument', read(os.path.join(SOURCE, "daemon", "options.c")), re.M)
    assert [line for line in summary.splitlines() if len(line) > 80] == []
    assert len(options) > 10, options
    for option in options:
        assert f"--{option}" in summary and f"--{option}" in manual, option


def main():
    tests = [(name[5:], run) for name, run in globals().items() if name.startswith("test_")]
    failed = 0
    print(f"1..{len(tests)}")
    for number, (name, run) in enumerate(tests, 1):
        try:
            run()
            print(f"ok {number} - {name}")
        except AssertionError as error:
            failed += 1
            print("".join(f"# {line}\n" for line in str(error).splitlines()), end="")
            print(f"not ok {number} - {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
