#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of each option of MicroVM.nix: asked of microvmd itself, one definition an option. Prints TAP.

docs/microvm-nix.md is made of the same rows and microvmd's own words: UPDATE_GOLDEN=1 writes it anew.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DAEMON = os.path.join(os.environ.get("MICROVMD_BUILD", os.path.join(SOURCE, "build", "release")), "microvmd")
PAGE = os.path.join(SOURCE, "docs", "microvm-nix.md")

YES, OTHER, LATER, REFUSED = "yes", "–", "later", "no"
KERNEL = {"kernel": "/boot/vmlinuz"}
Q35 = {"qemu": {"machine": "q35"}}
PORT = {"qemu": {"machine": "q35", "pcieRootPorts": [{"id": "port1", "chassis": 1, "slot": 2}]}}
USER = {"interfaces": ["user"]}


def volume(**keys):
    return {"volumes": [{"image": "/srv/data.img", **keys}]}


def interface(kind, **keys):
    return {"interfaces": [{"type": kind, **keys}]}


def share(**keys):
    return {"shares": [{"tag": "srv", "source": "/srv", **keys}]}


def device(kind, path, **qemu):
    return {**Q35, "devices": [{"bus": kind, "path": path, **({"qemu": qemu} if qemu else {})}]}


def other(hypervisor, **options):
    return {"hypervisor": hypervisor, **({hypervisor: options} if options else {})}


# Option, what a definition with it says beside a kernel, what becomes of it, JSON pointer of what is refused or a remark.
ROWS = [
    ("guest.enable", {"guest": {"enable": True}}, REFUSED, "/guest"),
    ("host.enable", {"host": {"enable": True}}, REFUSED, "/host"),
    ("host.startupTimeout", {"host": {"startupTimeout": 150}}, REFUSED, "/host"),
    ("host.useNotifySockets", {"host": {"useNotifySockets": True}}, REFUSED, "/host"),
    ("autostart", {"autostart": False}, YES, "A key of each definition instead of a list of names."),
    ("stateDir", {"stateDir": "/srv"}, REFUSED, "/stateDir"),
    ("vms.NAME.autostart", {"vms": {"web": {"autostart": True}}}, REFUSED, "/vms"),
    ("vms.NAME.restartIfChanged", {"vms": {"web": {"restartIfChanged": True}}}, REFUSED, "/vms"),
    ("vms.NAME.flake", {"vms": {"web": {"flake": "x"}}}, REFUSED, "/vms"),
    ("vms.NAME.updateFlake", {"vms": {"web": {"updateFlake": "x"}}}, REFUSED, "/vms"),
    ("vms.NAME.config", {"vms": {"web": {"config": {}}}}, REFUSED, "/vms"),
    ("hypervisor = qemu", {"hypervisor": "qemu"}, YES, ""),
    ("hypervisor = cloud-hypervisor", other("cloud-hypervisor"), LATER, "/hypervisor"),
    ("hypervisor = firecracker", other("firecracker"), LATER, "/hypervisor"),
    ("hypervisor = crosvm", other("crosvm"), LATER, "/hypervisor"),
    ("hypervisor = kvmtool", other("kvmtool"), LATER, "/hypervisor"),
    ("hypervisor = stratovirt", other("stratovirt"), LATER, "/hypervisor"),
    ("hypervisor = alioth", other("alioth"), LATER, "/hypervisor"),
    ("hypervisor = vfkit", other("vfkit"), REFUSED, "/hypervisor"),
    ("cpu", {"cpu": "Nehalem"}, YES, "Under TCG, unless `accel` says otherwise, as there."),
    ("vcpu", {"vcpu": 2}, YES, ""),
    ("mem", {"mem": 2048}, YES, "Also `\"2G\"`. Exactly 2048 MiB boots: see below."),
    ("hugepageMem", {"hugepageMem": True}, YES, "Also on QEMU."),
    ("hotplugMem", {**Q35, "hotplugMem": 1024}, YES, "On the machine `q35`."),
    ("hotpluggedMem", {**Q35, "hotplugMem": 1024, "hotpluggedMem": 512}, YES, "On the machine `q35`."),
    ("balloon", {"balloon": True}, YES, "With free page reporting."),
    ("initialBalloonMem", {"balloon": True, "initialBalloonMem": 128}, YES, "Also on QEMU."),
    ("deflateOnOOM", {"balloon": True, "deflateOnOOM": False}, YES, ""),
    ("kernel", {}, YES, "A path."),
    ("initrdPath", {"initrdPath": "/boot/initrd.img"}, YES, "Also `initrd`."),
    ("kernelParams", {"kernelParams": ["quiet"]}, YES, "After `console=ttyS0 reboot=t panic=-1`."),
    ("storeOnDisk", {"storeOnDisk": True}, REFUSED, "/storeOnDisk"),
    ("storeDisk", {"storeDisk": "/srv/store.img"}, REFUSED, "/storeDisk"),
    ("storeDiskType", {"storeDiskType": "erofs"}, REFUSED, "/storeDiskType"),
    ("storeDiskErofsFlags", {"storeDiskErofsFlags": []}, REFUSED, "/storeDiskErofsFlags"),
    ("storeDiskSquashfsFlags", {"storeDiskSquashfsFlags": []}, REFUSED, "/storeDiskSquashfsFlags"),
    ("storeDiskInterface", {"storeDiskInterface": "blk"}, REFUSED, "/storeDiskInterface"),
    ("writableStoreOverlay", {"writableStoreOverlay": "/rw"}, REFUSED, "/writableStoreOverlay"),
    ("registerClosure", {"registerClosure": True}, REFUSED, "/registerClosure"),
    ("optimize.enable", {"optimize": {"enable": True}}, REFUSED, "/optimize"),
    ("systemSymlink", {"systemSymlink": True}, REFUSED, "/systemSymlink"),
    ("declaredRunner", {"declaredRunner": "x"}, REFUSED, "/declaredRunner"),
    ("runner", {"runner": {}}, REFUSED, "/runner"),
    ("binScripts", {"binScripts": {}}, REFUSED, "/binScripts"),
    ("vmHostPackages", {"vmHostPackages": {}}, REFUSED, "/vmHostPackages"),
    *((f"{name}.package", {name: {"package": "x"}}, REFUSED, f"/{name}/package")
      for name in ("qemu", "cloud-hypervisor", "firecracker", "crosvm", "kvmtool", "stratovirt", "alioth", "virtiofsd")),
    ("volumes[].image", volume(), YES, "Relative to the microVM's state directory, or absolute."),
    ("volumes[].size", volume(size="1G", autoCreate=True), YES, ""),
    ("volumes[].autoCreate", volume(size="1G", autoCreate=True), YES,
     "Default: only for relative images. One that was there and is gone is an error."),
    ("volumes[].fsType", volume(size="1G", autoCreate=True, fsType="xfs"), YES, ""),
    ("volumes[].label", volume(size="1G", autoCreate=True, label="data"), YES, ""),
    ("volumes[].mkfsExtraArgs", volume(size="1G", autoCreate=True, mkfsExtraArgs=["-K"]), YES, ""),
    ("volumes[].mountPoint", volume(mountPoint="/data"), YES, "Shown; mounting is the guest's affair."),
    ("volumes[].readOnly", volume(readOnly=True), YES, ""),
    ("volumes[].direct", volume(direct=True), YES, ""),
    ("volumes[].serial", volume(serial="data-1"), YES, ""),
    ("volumes[].imageType = raw", volume(imageType="raw"), YES, ""),
    ("volumes[].imageType = qcow2", volume(imageType="qcow2"), YES, ""),
    ("volumes[].imageType = vhd", volume(imageType="vhd"), YES, ""),
    ("volumes[].imageType = vhdx", volume(imageType="vhdx"), OTHER, "/volumes/0/imageType"),
    ("interfaces[].type = user", interface("user"), YES, ""),
    ("interfaces[].type = tap", interface("tap"), YES, "libvirt makes the tap device and removes it."),
    ("interfaces[].type = macvtap", interface("macvtap", macvtap={"link": "eth0"}), YES, ""),
    ("interfaces[].type = bridge", interface("bridge", bridge="br0"), YES, ""),
    ("interfaces[].id", interface("tap", id="tap0"), YES, "Not `vnet…` or `macvtap…`: such names libvirt gives."),
    ("interfaces[].mac", interface("user", mac="02:00:00:00:00:01"), YES, "Has a stable default."),
    ("interfaces[].bridge", interface("bridge", bridge="br0"), YES, ""),
    ("interfaces[].macvtap.link", interface("macvtap", macvtap={"link": "eth0"}), YES, ""),
    *((f"interfaces[].macvtap.mode = {mode}", interface("macvtap", macvtap={"link": "eth0", "mode": mode}), YES, "")
      for mode in ("private", "vepa", "bridge", "passthru")),
    ("interfaces[].macvtap.mode = source", interface("macvtap", macvtap={"link": "eth0", "mode": "source"}), LATER,
     "/interfaces/0/macvtap/mode"),
    ("interfaces[].tap.vhost", interface("tap", tap={"vhost": True}), YES, ""),
    ("(multi-queue)", {**Q35, "vcpu": 2, **interface("tap")}, YES,
     "tap and macvtap with `vcpu` > 1 on the machine `q35`; never user and bridge."),
    ("forwardPorts[].from, .proto, .host, .guest",
     {**USER, "forwardPorts": [{"from": "host", "proto": "udp", "host": {"address": "127.0.0.1", "port": 53},
                                "guest": {"address": "10.0.2.15", "port": 53}}]}, YES, ""),
    ("shares[].tag", share(), YES, ""),
    ("shares[].source", share(), YES, ""),
    ("shares[].mountPoint", share(mountPoint="/mnt"), YES, "Shown; mounting is the guest's affair."),
    ("shares[].proto = 9p", share(proto="9p"), YES, ""),
    ("shares[].proto = virtiofs", share(proto="virtiofs"), YES, "libvirt runs virtiofsd; the driver `direct` takes the `socket` of one that runs."),
    ("shares[].socket", share(proto="virtiofs", socket="/run/fs.sock"), YES, "Of a virtiofsd that somebody else runs."),
    *((f"shares[].securityModel = {model}", share(securityModel=model), YES, "")
      for model in ("passthrough", "none", "mapped")),
    ("shares[].securityModel = mapped-file", share(securityModel="mapped-file"), OTHER, "/shares/0/securityModel"),
    ("shares[].readOnly, of 9p", share(readOnly=True), YES, ""),
    ("shares[].readOnly, of virtiofs", share(proto="virtiofs", readOnly=True), REFUSED, "/shares/0/readOnly"),
    *((f"shares[].cache = {mode}", share(proto="virtiofs", cache=mode), YES, "") for mode in ("auto", "always", "never")),
    ("shares[].cache = metadata", share(proto="virtiofs", cache="metadata"), REFUSED, "/shares/0/cache"),
    ("shares[].posixAcl", share(proto="virtiofs", posixAcl=True), LATER, "/shares/0/posixAcl"),
    ("shares[].extraArgs", share(proto="virtiofs", extraArgs=["--xattr"]), LATER, "/shares/0/extraArgs"),
    ("virtiofsd.inodeFileHandles", {**share(proto="virtiofs"), "virtiofsd": {"inodeFileHandles": "never"}}, LATER, "/virtiofsd/inodeFileHandles"),
    ("virtiofsd.threadPoolSize", {**share(proto="virtiofs"), "virtiofsd": {"threadPoolSize": 4}}, YES, ""),
    ("virtiofsd.group", {**share(proto="virtiofs"), "virtiofsd": {"group": "kvm"}}, LATER, "/virtiofsd/group"),
    ("virtiofsd.extraArgs", {**share(proto="virtiofs"), "virtiofsd": {"extraArgs": ["--xattr"]}}, LATER, "/virtiofsd/extraArgs"),
    ("devices[].bus = pci, .path", device("pci", "0000:00:02.0"), YES, "On the machine `q35`."),
    ("devices[].bus = usb, .path", device("usb", "vendorid=0x1234,productid=0x5678"), YES, "On the machine `q35`."),
    ("devices[].qemu.id", device("pci", "0000:00:02.0", id="ua-gpu"), YES,
     "On the machine `q35`; libvirt takes only ids that begin with `ua-`."),
    ("devices[].qemu.bus", PORT | {"devices": [{"bus": "pci", "path": "0000:00:02.0", "qemu": {"bus": "port1"}}]}, YES,
     "On the machine `q35`: one of `qemu.pcieRootPorts`."),
    ("devices[].qemu.deviceExtraArgs", device("pci", "0000:00:02.0", deviceExtraArgs="x-vga=on"), YES,
     "On the machine `q35`."),
    ("vsock.cid", {"vsock": {"cid": 42}}, YES, ""),
    ("machineId", {"machineId": "6a2c9b1e-0f5d-4c3b-9a87-5d1e2f3a4b5c"}, YES, "The same default."),
    ("registerWithMachined", {"registerWithMachined": True}, YES, "libvirt registers all its guests, whatever it says."),
    ("credentialFiles", {"credentialFiles": {"key": "/etc/keys/key"}}, YES, "By fw_cfg, as there."),
    ("cloud-hypervisor.platformOEMStrings", other("cloud-hypervisor", platformOEMStrings=["a"]), LATER, "/hypervisor"),
    ("graphics.enable", {**Q35, "graphics": {"enable": True}}, YES, "On the machine `q35`."),
    ("graphics.backend = headless", {**Q35, "graphics": {"enable": True, "backend": "headless"}}, YES,
     "`virt-viewer --attach NAME` shows it."),
    *((f"graphics.backend = {backend}", {**Q35, "graphics": {"enable": True, "backend": backend}}, REFUSED, "/graphics/backend")
      for backend in ("gtk", "cocoa")),
    *((f"graphics.{key}", {**Q35, "graphics": {"enable": True, key: value}}, LATER, f"/graphics/{key}")
      for key, value in (("socket", "gpu.sock"), ("vulkan", True), ("hostmem", "1G"))),
    ("qemu.machine = microvm", {"qemu": {"machine": "microvm"}}, YES, "On x86-64."),
    ("qemu.machine = q35", Q35, YES, "On x86-64."),
    ("qemu.machine = virt", {"qemu": {"machine": "virt"}}, REFUSED, "/qemu/machine"),
    ("qemu.machineOpts", {"qemu": {"machineOpts": {"mem-merge": "off"}}}, YES, "But for `accel` and `type`, which have keys of their own."),
    ("qemu.extraArgs", {"qemu": {"extraArgs": ["-no-user-config"]}}, YES, ""),
    ("qemu.serialConsole", {"qemu": {"serialConsole": False}}, YES, ""),
    ("qemu.pcieRootPorts[]", PORT, YES, "On the machine `q35`."),
    ("firecracker.cpu", other("firecracker", cpu={}), LATER, "/hypervisor"),
    ("firecracker.driveIoEngine", other("firecracker", driveIoEngine="Sync"), LATER, "/hypervisor"),
    ("firecracker.extraArgs", other("firecracker", extraArgs=["-v"]), LATER, "/hypervisor"),
    ("firecracker.extraConfig", other("firecracker", extraConfig={}), LATER, "/hypervisor"),
    ("cloud-hypervisor.extraArgs", other("cloud-hypervisor", extraArgs=["-v"]), LATER, "/hypervisor"),
    ("crosvm.extraArgs", other("crosvm", extraArgs=["-v"]), LATER, "/hypervisor"),
    ("crosvm.pivotRoot", other("crosvm", pivotRoot="/var/empty"), LATER, "/hypervisor"),
    ("kvmtool.extraArgs", other("kvmtool", extraArgs=["-v"]), LATER, "/hypervisor"),
    ("alioth.extraArgs", other("alioth", extraArgs=["-v"]), LATER, "/hypervisor"),
    ("stratovirt.extraArgs", other("stratovirt", extraArgs=["-v"]), LATER, "/hypervisor"),
    ("vfkit.extraArgs", {"vfkit": {"extraArgs": []}}, REFUSED, "/vfkit"),
    ("vfkit.logLevel", {"vfkit": {"logLevel": "info"}}, REFUSED, "/vfkit"),
    ("vfkit.rosetta.enable", {"vfkit": {"rosetta": {"enable": True}}}, REFUSED, "/vfkit"),
    ("preStart", {"preStart": "true"}, LATER, "/preStart"),
    ("extraArgsScript", {"extraArgsScript": "echo"}, LATER, "/extraArgsScript"),
    ("user", {"user": "microvm"}, YES, "The driver `direct` gives each microVM a user of its own."),
    ("socket", {"socket": "/run/guests/web.sock"}, YES, "With libvirt absolute, in a directory that QEMU's user may write to; with the driver `direct` root's, for several clients at once."),
    ("prettyProcnames", {"prettyProcnames": True}, LATER, "/prettyProcnames"),
]

PROBLEM = re.compile(r"(?P<file>[^:]+):(?:\d+:\d+:)? (?P<severity>error|warning): (?P<text>.*?)(?: \(at (?P<pointer>\S+)\))?$")
INTRODUCTION = """# Coming from MicroVM.nix

microvmd runs on any host with systemd, and knows nothing of Nix: what a guest consists of is in a JSON file, whoever has built
it. The two can run side by side. Nothing here is called `microvm@…`, and a start is refused, with the unit named, while
MicroVM.nix runs a microVM of the same name.

| there | here |
|---|---|
| `microvm.vms.NAME` in the host's configuration | `/etc/microvmd/vms/NAME.json` ([the first one](first-microvm.md)) |
| `microvm -c NAME -f FLAKE` | `microvmctl create NAME --from=FILE`, or put the file there: `microvmctl apply` |
| `microvm -u NAME`, `microvm -u NAME -R` | put the new files there: `microvmctl plan`, `microvmctl apply --restart` ([what each does](reload.md)) |
| `microvm -l` | `microvmctl list`, `microvmctl list --outdated` |
| `microvm -r NAME` | `microvmctl start NAME`, then `microvmctl console NAME` |
| `rm -rf /var/lib/microvms/NAME` | `microvmctl remove NAME`, with its volumes: `--purge` |
| `systemctl start microvm@NAME`, `stop`, `status` | `systemctl start microvmd@NAME`, `stop`, `status`, or `microvmctl` |
| `journalctl -u microvm@NAME` | the guest's words: `microvmctl logs NAME`; what happened to it: `microvmctl history NAME` |
| `/var/lib/microvms/NAME` | `/var/lib/microvmd/vm/NAME` |
| `microvm.autostart` | `autostart` in each definition; `microvmctl enable NAME` |
| `microvm.vms.NAME.restartIfChanged` | `microvmctl apply` restarts nothing, `apply --restart` what has changed |
| `microvm.host.useNotifySockets` | `"readiness": { "type": "notify" }`, and microvm-guest-notify(7) |

Of a guest that its modules have evaluated, with `microvm` for its `config.microvm`:

| there | here |
|---|---|
| `"${microvm.kernel.out}/bzImage"`, `microvm.initrdPath` | `kernel`, `initrd` |
| `microvm.kernelParams`, which has `init=` | `kernelParams`; the console, `reboot=t` and `panic=-1` come by themselves |
| `microvm.storeDisk` | the first volume: `{ "image": "/nix/store/…", "readOnly": true }` |
| `microvm.volumes`, `interfaces`, `shares`, `forwardPorts`… | the same, below |

## Options

The options of its guest module are keys here, under the same names and in the same units. This table says what becomes
of each, with the driver `libvirt`, which is the default, and with the driver `direct`: **yes**, it is honoured; **–**, only the
other driver can; **later**, it is refused until a later version of microvmd, and why; **no**, it is refused for good, and what
to do instead. Nothing is ignored in silence. An option of another hypervisor than the definition's own has no effect, with a
warning.

This page is generated: `tests/unit/test-microvm-nix.py` asks microvmd about each option, and fails when the answer is
another one than here.

| option | `libvirt` | `direct` | |
|---|---|---|---|
"""
EPILOGUE = """
MicroVM.nix warns of exactly 2048 MiB, with which QEMU is said to hang. That could not be reproduced: Linux 6.1 boots with
2048 MiB, as with 2047 and 2049, on QEMU 7.2's machines `microvm` and `q35` under TCG. So microvmd does not warn of it.
"""


def ask(**more):
    """Of each row, with more keys, its problems: [(severity, text, pointer)]."""
    found = [[] for _ in ROWS]
    with tempfile.TemporaryDirectory() as directory:
        files = []
        for number, (_, keys, _, _) in enumerate(ROWS):
            # All of one name: as different ones, they would want each other's disks and interfaces.
            files.append(os.path.join(directory, f"row-{number}", "vm.json"))
            os.mkdir(os.path.dirname(files[-1]))
            with open(files[-1], "w") as file:
                json.dump({**KERNEL, **keys, **more}, file)
        for i in range(0, len(files), 20):
            run = subprocess.run([DAEMON, "--config", os.path.join(directory, "none.json"), "--check", *files[i:i + 20]],
                                 capture_output=True, text=True)
            for line in run.stdout.splitlines():
                match = PROBLEM.match(line)
                if match:
                    number = int(re.search(r"row-(\d+)/vm\.json", match["file"])[1])
                    found[number].append((match["severity"], match["text"], match["pointer"]))
            assert run.returncode == (1 if any(p[0] == "error" for row in found[i:i + 20] for p in row) else 0), run
    return found


def verdict(problems):
    errors = [problem for problem in problems if problem[0] == "error"]
    if not errors:
        return YES
    if all(re.search('set "driver": "[a-z]+", which can', text) for _, text, _ in errors):
        return OTHER
    return LATER if all("a later version of microvmd will" in text for _, text, _ in errors) else REFUSED


def verdict_by_direct(problems, by_libvirt):
    return YES if verdict(problems) == YES else OTHER if by_libvirt == YES else by_libvirt


def reason(text):
    """microvmd's words without what they are about."""
    text = re.sub(r'^not possible with driver "libvirt" and [^:]*: ', "", text)
    text = re.sub(r'^"[^"]*" can\'t be used here: ', "", text)
    return (text[0].upper() + text[1:] + ".").replace("|", "\\|")


def page(found, by_direct):
    lines = []
    for (option, _, _, remark), problems, direct in zip(ROWS, found, by_direct):
        words = remark if not problems else " ".join(dict.fromkeys(reason(text) for _, text, _ in problems))
        lines.append(f"| `{option}` | {verdict(problems)} | {verdict_by_direct(direct, verdict(problems))} | {words} |\n")
    return INTRODUCTION + "".join(lines) + EPILOGUE


def main():
    found, by_direct = ask(), ask(driver="direct")
    if os.environ.get("UPDATE_GOLDEN"):
        with open(PAGE, "w") as file:
            file.write(page(found, by_direct))
    failed = 0
    print(f"1..{len(ROWS) + 1}")
    for number, ((option, _, expected, where), problems) in enumerate(zip(ROWS, found), 1):
        good = verdict(problems) == expected
        if expected == YES:
            good = good and not problems  # not so much as a warning
        else:
            good = good and [pointer for _, _, pointer in problems] == [where]
        if expected == OTHER:  # it is true what it says
            good = good and not by_direct[number - 1]
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} - {option}: {expected}")
        if not good:
            print(f"# {verdict(problems)}: {problems}")
    with open(PAGE) as file:
        good = file.read() == page(found, by_direct)
    failed += not good
    print(f"{'ok' if good else 'not ok'} {len(ROWS) + 1} - docs/microvm-nix.md is up to date (UPDATE_GOLDEN=1 writes it)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
