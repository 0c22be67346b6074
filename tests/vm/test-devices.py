#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices, volumes and memory of real guests in real QEMU under TCG, by both drivers. Prints TAP."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import VM, Skip, only, wait_for  # noqa: E402
from vm import BOOT, DATA, boot, console, guest, main, read_volume, said, state  # noqa: E402


@only("libvirt")  # no driver has a hand in it
def test_lost_volume_is_never_made_anew(host):
    boot(host, "write=dear", **DATA)
    host.ctl("stop", "web")
    os.unlink(host.path("state/vm/web/data.img"))
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "was there before and is gone" in run.stderr, run.stderr
    assert state(host) == "failed" and host.vm("web", "Result") == "resources"
    assert not os.path.exists(host.path("state/vm/web/data.img"))


@only("libvirt")  # no driver has a hand in it
def test_missing_kernel_says_which(host):
    host.kernel = "/nowhere/vmlinuz"
    host.define("web")
    host.reload()
    run = host.ctl("start", "web")
    assert run.returncode == 1 and "/nowhere/vmlinuz" in run.stderr


def test_foreign_image_keeps_its_owner(host):
    image = host.path("foreign.img")
    subprocess.run(["truncate", "-s", "8M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    os.chown(image, 12345, 12345)
    boot(host, "write=x", volumes=[image])
    assert os.stat(image).st_uid == 12345
    host.ctl("stop", "web")
    assert os.stat(image).st_uid == 12345


@contextlib.contextmanager
def loop_device(image):
    run = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True)
    try:
        yield run.stdout.strip()
    finally:
        if run.returncode == 0:
            subprocess.run(["losetup", "--detach", run.stdout.strip()], check=True)


def test_link_to_a_device(host):
    """What an image is does not depend on its name."""
    image, link = host.path("disk.img"), host.path("link.img")
    subprocess.run(["truncate", "-s", "8M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with loop_device(image) as device:
        if not device:
            raise Skip("this host gives no device (losetup)")
        os.symlink(device, link)
        boot(host, "write=x", volumes=[link])
        said(host, "written x")
        assert host.ctl("stop", "web").returncode == 0
    run = subprocess.run(["debugfs", "-R", "cat /written", image], capture_output=True, text=True)
    assert run.stdout.strip() == "x", run


def qcow2(path, mib):
    """An empty image of one cluster each for header, tables and the first reference counts (QEMU's docs/interop/qcow2)."""
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, mib << 20, 0, 1, 3 << 16, 1 << 16, 1, 0, 0)
    counts = struct.pack(">4H", 1, 1, 1, 1)
    with open(path, "wb") as file:
        for cluster in (header, struct.pack(">Q", 2 << 16), counts, b""):
            file.write(cluster.ljust(1 << 16, b"\0"))


# What the guest of the next test says of its devices; its second volume holds it.
LOOK = """
say() { echo "seen: $*"; }
say credential $(cat /sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/key/raw)
say serial $(cat /sys/block/vda/serial), read-only $(cat /sys/block/vdb/ro)
echo written-by-guest | dd of=/dev/vda conv=fsync 2>/dev/null
say $(nproc) processors, $(ls -d /sys/class/net/eth0/queues/rx-*) and $(ls -d /sys/class/net/eth1/queues/rx-*)
say balloon $(ls -d /sys/bus/virtio/drivers/virtio_balloon/virtio* | wc -l)
say cpu $(sed -n '/^model name/{s/.*: //p;q}' /proc/cpuinfo)
mount -t virtiofs virtio /mnt && say virtiofs $(cat /mnt/hello)
say everything
exit
"""


VIRTIOFSD = [path for path in ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd") if os.path.exists(path)]


def test_every_device_on_q35(host):
    """Everything that the throwaway machine has: neither IOMMU, huge pages, vhost nor control groups."""
    os.makedirs(host.path("state/vm/web"))
    os.mkdir(host.path("share"))
    host.write("share/hello", "shared")
    host.write("secret", "hush-hush")
    tap = f"mvt{os.getpid() % 1000000}"
    os.chown(host.path("secret"), 12345, 12345)
    os.chmod(host.path("secret"), 0o600)
    host.write("look.img", LOOK.ljust(1 << 20, "\n"))
    qcow2(host.path("state/vm/web/root.qcow2"), 16)
    shares = [{"tag": "nine", "source": host.path("share"), "readOnly": True}]
    by_libvirt = host.driver == "libvirt"  # "direct" refuses the rest
    if VIRTIOFSD and by_libvirt:
        shares.append({"tag": "virtio", "source": host.path("share"), "proto": "virtiofs", "cache": "never"})
    boot(host, "run", qemu={"machine": "q35"}, vcpu=2, cpu="Nehalem", description="All <of> it", balloon=True, initialBalloonMem=32,
         hotplugMem=128, hotpluggedMem=0, credentialFiles={"key": host.path("secret")}, shares=shares,
         volumes=[{"image": "root.qcow2", "imageType": "qcow2", "serial": "root-1"},
                  {"image": host.path("look.img"), "readOnly": True, "direct": True}],
         interfaces=([{"type": "tap", "id": tap}] if by_libvirt else []) + ["user"])
    said(host, "seen: everything")
    queues = "/sys/class/net/eth0/queues/rx-0" + (" /sys/class/net/eth0/queues/rx-1 and /sys/class/net/eth1/queues/rx-0" if by_libvirt else "")
    text = console(host)
    for words in ("credential hush-hush", "serial root-1, read-only 1", "balloon 1", "cpu Intel Core i7 9xx (Nehalem",
                  "2 processors, " + queues) + (("virtiofs shared",) if len(shares) > 1 else ()):
        assert f"seen: {words}" in text, f"no {words!r} in {text}"
    pid = host.vm("web", "MainPID")
    with open(f"/proc/{pid}/cmdline") as file:
        line = file.read()
    assert "hush" not in line and "credential.key" in line and "nine" in line, line
    assert not os.path.exists(host.path("run/vm/web/credential.key")), "the copy of the credential stays"
    assert os.path.exists(f"/sys/class/net/{tap}") == by_libvirt
    with open(host.path("run/vm/web/record.json")) as file:
        helper = json.load(file).get("helper", {}).get("path", "")
    assert os.path.basename(helper) == ("virtiofsd" if len(shares) > 1 else ""), helper
    stat = os.stat(host.path("secret"))
    assert (stat.st_uid, stat.st_mode & 0o777) == (12345, 0o600)
    with open(host.path("state/vm/web/root.qcow2"), "rb") as file:
        image = file.read()
    assert image[:4] == b"QFI\xfb" and b"written-by-guest" in image[1 << 18:]
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "LastStop") == "clean"
    wait_for("the tap to be gone", lambda: not os.path.exists(f"/sys/class/net/{tap}"))


# Says when its balloon has taken memory, and when it has given it back.
WATCH = """
free() { sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo; }
echo "seen: watching"
until [ $(free) -lt 81920 ]; do sleep 0.1; done
echo "seen: less"
until [ $(free) -gt 122880 ]; do sleep 0.1; done
echo "seen: more"
exit
"""


def test_memory_while_it_runs(host):
    host.write("watch.img", WATCH.ljust(1 << 20, "\n"))
    os.makedirs(host.path("state/vm/web"))
    boot(host, "run", balloon=True, volumes=[{"image": "data.img", "size": 16}, {"image": host.path("watch.img"), "readOnly": True}])
    said(host, "seen: watching")
    for mebibytes, words in ((128, "less"), (256, "more")):
        host.call("/org/microvm1/vm/web", VM, "SetMemory", "t", str(mebibytes << 20))
        said(host, "seen: " + words)
        wait_for("the balloon to tell", lambda: host.vm("web", "MemoryActualBytes") == mebibytes << 20, BOOT)
    assert host.ctl("stop", "web").returncode == 0


@only("direct")
def test_balloon_takes_memory_at_the_start(host):
    boot(host, balloon=True, initialBalloonMem=64)
    wait_for("the balloon", lambda: json.loads(host.ctl("qmp", "web", "query-balloon").stdout)["actual"] == (256 - 64) << 20, BOOT)


NOBODY = 65534


def ask_qmp(path, *commands):
    """The replies to commands on a QMP socket."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(60)
        monitor.connect(path)
        lines = monitor.makefile("rw")
        assert "QMP" in json.loads(lines.readline())
        replies = []
        for command in ({"execute": "qmp_capabilities"}, *commands):
            print(json.dumps(command), file=lines, flush=True)
            while "event" in (reply := json.loads(lines.readline())):
                pass
            replies.append(reply)
        return replies[1:]


@only("libvirt")  # "direct" refuses these keys
def test_user_and_socket_of_its_own(host):
    """What libvirt leaves to QEMU's own words, and another user than libvirt's."""
    own = host.path("own")
    os.mkdir(own)
    os.chown(own, NOBODY, NOBODY)
    host.write("secret", "hush-hush")
    os.chmod(host.path("secret"), 0o600)
    boot(host, "write=by-nobody", **DATA, user="nobody", socket=own + "/control,odd.sock", credentialFiles={"key": host.path("secret")},
         qemu={"machineOpts": {"mem-merge": "off"}})
    said(host, "written by-nobody")
    with open(f"/proc/{host.vm('web', 'MainPID')}/status") as file:
        users = [line.split()[1:] for line in file if line.startswith(("Uid:", "Gid:"))]
    assert users == [[str(NOBODY)] * 4] * 2, users
    status, merge = ask_qmp(own + "/control,odd.sock", {"execute": "query-status"},
                            {"execute": "qom-get", "arguments": {"path": "/machine", "property": "mem-merge"}})
    assert status["return"]["status"] == "running" and merge["return"] is False, (status, merge)
    assert host.ctl("stop", "web").returncode == 0 and host.vm("web", "LastStop") == "clean"
    assert "by-nobody" in read_volume(host, "web", "/written")
    assert os.stat(host.path("state/vm/web/data.img")).st_uid == 0, "the image stays nobody's"
    guest(host, user="no-such-user")
    assert "there is none of that name on this host" in host.ctl("start", "web").stderr


def test_boot_from_disk(host):
    """A boot sector that lets the firmware print, which must go to the serial console: there is no screen."""
    words = b"the disk has booted"
    # ds = 0; si = the words; until a zero byte: int 10h, function 0eh (teletype); then halt for ever
    code = bytes.fromhex("31c0 8ed8 be207c ac 84c0 7409 b40e bb0700 cd10 ebf2 fbf4ebfd")
    sector = (code.ljust(32, b"\x90") + words + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"
    os.makedirs(host.path("state/vm/web"))
    with open(host.path("state/vm/web/disk.img"), "wb") as file:
        file.write(sector.ljust(1 << 20, b"\0"))
    host.write("vms/web.json", json.dumps({"boot": "disk", "accel": "tcg", "mem": 64, "volumes": ["disk.img"], "autostart": False}))
    host.reload()
    run = host.ctl("start", "web")
    assert run.returncode == 0, run.stderr
    said(host, words.decode())
    assert host.ctl("stop", "--force", "web").returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
