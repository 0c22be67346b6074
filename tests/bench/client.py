# SPDX-License-Identifier: LGPL-2.1-or-later
"""A D-Bus client for benches: it is told of states as they change."""

import os
import sys
import time

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from harness import NAME, VM  # noqa: E402

PATIENCE = 300  # seconds that anything may take


def options():
    return dbus.Dictionary({}, signature="sv")


class Client:
    def __init__(self, address):
        dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
        self.bus = dbus.bus.BusConnection(address)
        self.loop = GLib.MainLoop()
        self.until = lambda state: False
        self.bus.add_signal_receiver(self.changed, "PropertiesChanged", "org.freedesktop.DBus.Properties", NAME)

    def changed(self, interface, properties, gone):
        if self.until(properties.get("State")):
            self.loop.quit()

    def time(self, act, until):
        """Milliseconds from `act`, which gets the microVM "one", until a State is told that fits."""
        self.until = lambda state: False
        while GLib.MainContext.default().iteration(False):
            pass  # what was told before
        self.until = until
        vm = dbus.Interface(self.bus.get_object(NAME, "/org/microvm1/vm/one", introspect=False), VM)
        timeout = GLib.timeout_add_seconds(PATIENCE, self.loop.quit)
        before = time.monotonic()
        act(vm)
        self.loop.run()
        took = (time.monotonic() - before) * 1000
        assert GLib.source_remove(timeout), "nothing came of it"
        return took
