"""What ``celery -A celeriac.monitor flower`` loads: the app, and the socket that systemd keeps.

Flower needs seconds to start, and two of them cannot run at once. While one is replaced by the
next, requests wait in the socket, which outlives both; Flower by itself would open one of its own.
"""

import os
import socket

from tornado import netutil

from celeriac.configure import RETRIES_IN_WORKER, configure
from celeriac.project import celery_app
from celeriac.systemd import keep_sockets

with keep_sockets():
    app = configure(celery_app(), result_retries=RETRIES_IN_WORKER)

# The first descriptor that systemd passes on: SD_LISTEN_FDS_START of sd_listen_fds(3).
FIRST_DESCRIPTOR = 3


def activated_socket(file: str, mode: int = 0o600, backlog: int = 128) -> socket.socket:
    """Return the socket that systemd has opened, where Flower would have tornado open one.

    Args:
        file: where it is; known to systemd.
        mode: who may connect; known to systemd.
        backlog: how many may wait; known to systemd.
    """
    kept = socket.socket(fileno=FIRST_DESCRIPTOR)
    kept.setblocking(False)
    return kept


# Meant for this process, and not for the one that started it: sd_listen_fds(3).
if os.environ.get("LISTEN_PID") == str(os.getpid()):
    netutil.bind_unix_socket = activated_socket
