#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stands in for qemu-system-x86_64: speaks QMP on the descriptor that it was given, and misbehaves as "fake=..." on the
kernel's command line says: exit, latin, dies, garbage, silent, mute, deaf, closes, code, floods, slow (to come up, and then
ready at once), halts (before it has), msr (its KVM has no arch-capabilities); keys, term, stone: of all that could stop it, it
heeds ctrl-alt-del and what is stronger, SIGTERM and SIGKILL, SIGKILL only. Its guest's agent behaves as "agent=..." says:
obeys, refuses, babbles, late (it comes when it is asked for the second time); else there is none."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time

line = " ".join(sys.argv)
fake = (re.search(r"fake=([a-z]+)", line) or ["", ""])[1]
listener = socket.socket(fileno=int(re.search(r"id=control,fd=(\d+)", line)[1]))
notify = re.search(r"id=notify,fd=(\d+)", line)
notify = notify and socket.socket(fileno=int(notify[1]))
agent = re.search(r"id=agent,fd=(\d+)", line)
agent = agent and socket.socket(fileno=int(agent[1]))
how = (re.search(r"agent=([a-z]+)", line) or ["", ""])[1]
heard = threading.Event()  # whether there is a microvmd that hears what becomes of the guest


def say(peer, message):
    with contextlib.suppress(OSError):  # of a microvmd that has been killed the place is taken by another one
        peer.sendall(json.dumps(message).encode() + b"\r\n")


def lines_of(peer):
    with contextlib.suppress(OSError):
        yield from peer.makefile()


def end(peer, reason, code=0):
    say(peer, {"event": "SHUTDOWN", "data": {"guest": reason.startswith("guest"), "reason": reason}, "timestamp": {}})
    os._exit(code)


def flood():
    """A gigabyte on its console, a hundred times as fast as a serial port, and some of its own words."""
    log = os.open(re.search(r"logfile=([^, ]+)", line)[1], os.O_WRONLY | os.O_APPEND)
    block = b"all work and no play makes jack a dull boy\n" * (1 << 20 >> 5)
    for written in range(720):
        os.write(log, block)
        if written % 16 == 0:
            os.write(2, block)
        time.sleep(0.01)
    while True:  # what comes in the very instant of a cut is lost
        os.write(log, b"flooded\n")
        time.sleep(0.3)


def serve_agent():
    """As qemu-ga does: it says the number again that it is asked for, and no more when it does as it is told."""
    asked = 0
    while True:
        peer, _ = agent.accept()
        asked += 1
        if how == "late" and asked == 1:
            peer.recv(65536)
            continue
        if how == "babbles":
            peer.sendall(b"\xff{\"return\": {}}\n\xff\xff\n" + b"x" * 100000 + b"\n{\"error\": {\"desc\": \"no\"}}\n")
            continue
        for text in peer.makefile("rb"):
            call = json.loads(text.lstrip(b"\xff"))
            if call["execute"] == "guest-sync-delimited":
                peer.sendall(b"\xff" + json.dumps({"return": call["arguments"]["id"]}).encode() + b"\n")
            elif how == "refuses":
                peer.sendall(b'{"error": {"class": "CommandNotFound", "desc": "Command guest-shutdown has been disabled"}}\n')
            else:
                assert call == {"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}}, call
                time.sleep(0.2)  # a guest takes its time, in which QEMU greets a microvmd that has just come
                heard.wait()
                end(client, "guest-shutdown")


if fake == "latin":
    sys.stderr.buffer.write(b"caf\xe9 \x1b[2J\n")
    sys.exit(1)
if fake == "exit":
    print("fake: -device nonsense: no such device", file=sys.stderr)
    sys.exit(1)
if fake == "msr" and "-arch-capabilities" not in line:
    os._exit(1)
if fake == "halts":
    os.kill(os.getpid(), signal.SIGSTOP)
client, _ = listener.accept()
if fake == "dies":
    client.sendall(b'{"QMP": {"vers')
    os.kill(os.getpid(), signal.SIGSEGV)
if fake == "garbage":
    client.sendall(b"login: \n" * 100)
    time.sleep(1000)
if fake == "silent":
    time.sleep(1000)
if fake == "slow":
    time.sleep(2)
    threading.Thread(target=lambda: notify.accept()[0].sendall(b"READY=1\n"), daemon=True).start()
if fake in ("deaf", "stone"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: end(client, "host-signal"))
say(client, {"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}})
status, balloon, ear = "running", 0, None
if how:
    threading.Thread(target=serve_agent, daemon=True).start()
if fake == "floods":
    threading.Thread(target=flood, daemon=True).start()
while True:
    for text in lines_of(client):
        call = json.loads(text)
        if fake == "mute" and call["execute"] == "system_powerdown":
            continue
        if fake != "refuses" and call["execute"] in ("stop", "cont"):
            status = "paused" if call["execute"] == "stop" else "running"
        result = {"status": status, "running": status == "running"} if call["execute"] == "query-status" else {}
        if call["execute"] == "hang":
            print("fake: hangs", file=sys.stderr, flush=True)
            continue
        if call["execute"] == "nonsense":
            say(client, {"error": {"class": "CommandNotFound", "desc": f"The command {call['execute']} has not been found"}, "id": call["id"]})
            continue
        if fake == "refuses" and call["execute"] == "balloon":
            say(client, {"error": {"class": "DeviceNotActive", "desc": "No balloon device has been activated"}, "id": call["id"]})
            continue
        if call["execute"] == "query-balloon":
            result = {"actual": balloon}
        if call["execute"] == "balloon":
            balloon = call["arguments"]["value"]
            say(client, {"event": "BALLOON_CHANGE", "data": {"actual": balloon}, "timestamp": {"seconds": 1, "microseconds": 1}})
        if fake == "refuses" and call["execute"] == "stop":
            say(client, {"error": {"class": "GenericError", "desc": "it can't be paused now"}, "id": call["id"]})
            continue
        say(client, {"return": result, "id": call["id"]})
        heard.set()
        if call["execute"] == "query-status" and fake == "code":
            print("fake: the disk has gone", file=sys.stderr, flush=True)
            os._exit(3)
        if call["execute"] in ("stop", "cont"):
            say(client, {"event": "STOP" if call["execute"] == "stop" else "RESUME", "timestamp": {}})
        if call["execute"] == "system_powerdown":
            say(client, {"event": "POWERDOWN", "timestamp": {}})
            if fake not in ("keys", "term", "stone"):
                end(client, "guest-shutdown")
        if call["execute"] == "send-key" and fake == "keys":
            assert [key["data"] for key in call["arguments"]["keys"]] == ["ctrl", "alt", "delete"]
            end(client, "guest-reset")
        if call["execute"] == "quit":
            end(client, "host-qmp-quit")
        if call["execute"] == "fake-guest-says":  # whoever hears it now
            if not ear or select.select([ear], [], [], 0)[0]:
                ear, _ = notify.accept()
            ear.sendall(call["arguments"]["text"].encode() * call["arguments"].get("times", 1))
        if call["execute"] == "fake-event":
            say(client, {**call["arguments"], "timestamp": {}})
        if call["execute"] == "fake-end":
            end(client, call["arguments"]["reason"])
        if fake == "closes" and call["execute"] == "query-status":
            break
    heard.clear()
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
    client, _ = listener.accept()
