"""A web process with a request that does not end is replaced, and says where that stands.

gunicorn's ``--timeout`` looks at its processes, not at requests: with threads, the loop of a
process turns beside views that hang, until they have taken all of its threads. Here each request
has a timer, which begins anew with each part of a streamed answer. One that is overdue has its
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

CHECK_SECONDS = 1.0
# What this process asks itself (`celeriac.web.request`) has no timer.
OWN = "celeriac.own"


@dataclass
class RequestTimer:
    """How long a thread has been at a request without any progress.

    Attributes:
        request: as ``GET /path/``; without the query, which may be secret.
        since: `time.monotonic()`.
        overdue: it was logged as that.
    """

    request: str
    since: float
    overdue: bool = False


# By thread.
_timers: dict[int, RequestTimer] = {}


def timed(application: "WSGIApplication") -> "WSGIApplication":
    """Return an application whose requests have a timer."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if OWN in environ:
            return application(environ, start_response)
        request = f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')}"
        with _timer(request):
            parts = application(environ, start_response)
        file = environ.get("wsgi.file_wrapper")
        # A file is sent by the server, or by the kernel.
        return parts if file and isinstance(parts, file) else _Parts(request, parts)

    return answer


@contextmanager
def _timer(request: str) -> Iterator[None]:
    thread = threading.get_ident()
    _timers[thread] = RequestTimer(request, time.monotonic())
    try:
        yield
    finally:
        del _timers[thread]


class _Parts:
    """The parts of an answer, with a timer for each (PEP 3333)."""

    def __init__(self, request: str, parts: Iterable[bytes]) -> None:
        self._request = request
        self._parts = parts
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> "_Parts":
        return self

    def __next__(self) -> bytes:
        with _timer(self._request):
            if self._iterator is None:
                self._iterator = iter(self._parts)
            return next(self._iterator)

    def close(self) -> None:
        if hasattr(self._parts, "close"):
            with _timer(self._request):
                self._parts.close()


def watch(worker: Any) -> None:
    """Check the timers from now on, if the process has threads for its requests.

    Args:
        worker: gunicorn's.
    """
    if worker.cfg.timeout and getattr(worker, "tpool", None) is not None:
        watching = threading.Thread(target=_watch, args=(worker,), name="celeriac-overdue", daemon=True)
        watching.start()


def _watch(worker: Any) -> None:
    ends_at: float | None = None
    while True:
        time.sleep(CHECK_SECONDS)
        now = time.monotonic()
        for thread, timer in [*_timers.items()]:
            if not timer.overdue and now > timer.since + worker.cfg.timeout:
                timer.overdue = True
                _log_overdue(worker, thread, timer)
                _replace_thread(worker.tpool)
        overdue = sum(timer.overdue for timer in [*_timers.values()])
        if overdue and ends_at is None:
            ends_at = now + worker.cfg.graceful_timeout
            worker.handle_exit(signal.SIGTERM, None)
        if ends_at is not None and (worker.nr_conns <= overdue or now > ends_at):
            os._exit(1)  # no thread can be ended, and Python would wait for all of them


def _log_overdue(worker: Any, thread: int, timer: RequestTimer) -> None:
    frame = sys._current_frames().get(thread)
    stack = "".join(traceback.format_stack(frame)) if frame else ""
    worker.log.error(
        "celeriac: %s has not gone on for %d s; this process is replaced. It stands here:\n%s",
        timer.request,
        worker.cfg.timeout,
        stack,
    )


def _replace_thread(pool: Any) -> None:
    """Let another thread take the place of one that hangs: requests may wait behind it."""
    pool._max_workers += 1  # (concurrent.futures, ThreadPoolExecutor)
    pool.submit(bool)
