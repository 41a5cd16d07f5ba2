"""A web process with a request that does not end is replaced, and says where that stands.

gunicorn's ``--timeout`` looks at its processes, not at requests: with threads, the loop of a
process turns beside views that hang, until they have taken all of its threads. Here each request
has a clock, which begins anew with each part of a streamed answer. One that is overdue has its
stack in the log, and another thread takes the place of its own. The process takes no new
connections then, answers all others that it has, and ends; gunicorn starts another one. What waits
in the socket meanwhile is that one's.

So ``--timeout`` holds for a request as it does with gunicorn's other workers: whoever waits for a
view that hangs has an error from nginx. (gunicorn/workers/gthread.py, 27.0)
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOOK_SECONDS = 1.0
# What this process asks itself (`celeriac.web.request`) has no clock.
OWN = "celeriac.own"


@dataclass
class Clock:
    """How long a thread has been at a request without any progress.

    Attributes:
        request: as ``GET /path/``; without the query, which may be secret.
        since: `time.monotonic()`.
        overdue: it was said to be.
    """

    request: str
    since: float
    overdue: bool = False


# By thread.
_clocks: dict[int, Clock] = {}


def timed(application: "WSGIApplication") -> "WSGIApplication":
    """Return an application whose requests have a clock."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if OWN in environ:
            return application(environ, start_response)
        request = f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')}"
        with _clock(request):
            parts = application(environ, start_response)
        file = environ.get("wsgi.file_wrapper")
        # A file is sent by the server, or by the kernel.
        return parts if file and isinstance(parts, file) else _Parts(request, parts)

    return answer


@contextmanager
def _clock(request: str) -> Iterator[None]:
    thread = threading.get_ident()
    _clocks[thread] = Clock(request, time.monotonic())
    try:
        yield
    finally:
        del _clocks[thread]


class _Parts:
    """The parts of an answer, with a clock for each (PEP 3333)."""

    def __init__(self, request: str, parts: Iterable[bytes]) -> None:
        self._request = request
        self._parts = parts
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> "_Parts":
        return self

    def __next__(self) -> bytes:
        with _clock(self._request):
            if self._iterator is None:
                self._iterator = iter(self._parts)
            return next(self._iterator)

    def close(self) -> None:
        if hasattr(self._parts, "close"):
            with _clock(self._request):
                self._parts.close()


def watch(worker: Any) -> None:
    """Look at the clocks from now on, if the process has threads for its requests.

    Args:
        worker: gunicorn's.
    """
    if worker.cfg.timeout and getattr(worker, "tpool", None) is not None:
        watching = threading.Thread(target=_watch, args=(worker,), name="celeriac-overdue", daemon=True)
        watching.start()


def _watch(worker: Any) -> None:
    ends_at: float | None = None
    while True:
        time.sleep(LOOK_SECONDS)
        now = time.monotonic()
        for thread, clock in [*_clocks.items()]:
            if not clock.overdue and now > clock.since + worker.cfg.timeout:
                clock.overdue = True
                _say(worker, thread, clock)
                _replace_thread(worker.tpool)
        overdue = sum(clock.overdue for clock in [*_clocks.values()])
        if overdue and ends_at is None:
            ends_at = now + worker.cfg.graceful_timeout
            worker.handle_exit(signal.SIGTERM, None)
        if ends_at is not None and (worker.nr_conns <= overdue or now > ends_at):
            os._exit(1)  # no thread can be ended, and Python would wait for all of them


def _say(worker: Any, thread: int, clock: Clock) -> None:
    frame = sys._current_frames().get(thread)
    stack = "".join(traceback.format_stack(frame)) if frame else ""
    worker.log.error(
        "celeriac: %s has not gone on for %d s; this process is replaced. It stands here:\n%s",
        clock.request,
        worker.cfg.timeout,
        stack,
    )


def _replace_thread(pool: Any) -> None:
    """Let another thread take the place of one that hangs: requests may wait behind it."""
    pool._max_workers += 1  # (concurrent.futures, ThreadPoolExecutor)
    pool.submit(bool)
