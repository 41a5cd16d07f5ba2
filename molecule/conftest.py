"""What all suites of this folder share."""

from __future__ import annotations

import signal

from ansible.plugins.loader import init_plugin_loader

# Before anything of `ansible_collections` is imported, as Ansible's own programs do it.
init_plugin_loader()


def pytest_configure() -> None:
    """Let a run that ``timeout`` or ``kill`` ends take its machines with it, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
