"""A web process with a request that does not end is replaced, and says where that stands.

gunicorn's ``--timeout`` looks at its processes, not at requests: with threads, the loop of a
process turns beside views that hang, until they have taken all of its threads. Here each request
has a timer, which begins anew with each part of a streamed answer. One that is overdue has its
stack in the log, and another thread takes the place of its own. The process takes no new
connections then, answers all others that it has, and ends; gunicorn starts another one. What waits
in the socket meanwhile is that one's.

So ``--timeout`` holds for a request as it does with gunicorn's other workers: whoever waits for a
view that hangs has an error from nginx. (gunicorn/workers/gthread.py, 27.0)

The requests of an ASGI application have the same timers, by their tasks; its server checks them
(`celeriac.web.server`).
"""

import asyncio
import itertools
import math
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

from celeriac.project import ASGIApplication, Message, Receive, Send

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


# By thread, and by task.
_timers: dict[int, RequestTimer] = {}
_timers_of_tasks: dict["asyncio.Task[Any]", RequestTimer] = {}
# Of those that wait, one of which is the view, or waits for it: a task does not say whose it is.
STACKS_SHOWN = 30


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


def timed_tasks(application: ASGIApplication) -> ASGIApplication:
    """Return an ASGI application whose requests have a timer; not so its websockets, which may be silent."""

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if scope["type"] != "http" or OWN in scope or task is None:
            await application(scope, receive, send)
            return
        timer = RequestTimer(f"{scope['method']} {scope['path']}", time.monotonic())

        async def received() -> Message:
            message = await receive()
            timer.since = time.monotonic()
            return message

        async def sent(message: Message) -> None:
            timer.since = math.inf  # how fast a visitor reads is not the view's
            try:
                await send(message)
            finally:
                timer.since = time.monotonic()

        _timers_of_tasks[task] = timer
        try:
            await application(scope, received, sent)
        finally:
            del _timers_of_tasks[task]

    return answer


def late_tasks(seconds: float, log: Any) -> int:
    """Return how many requests of an ASGI application have not gone on for too long; each is logged once.

    Args:
        seconds: what is too long.
        log: gunicorn's.
    """
    now = time.monotonic()
    new = [timer for timer in _timers_of_tasks.values() if not timer.overdue and now > timer.since + seconds]
    for timer in new:
        timer.overdue = True
        log.error(
            "celeriac: %s has not gone on for %d s; this process is replaced. It stands at one of these:\n%s",
            timer.request,
            seconds,
            "\n".join(itertools.islice(_stacks(), STACKS_SHOWN)),
        )
    return sum(timer.overdue for timer in _timers_of_tasks.values())


def _stacks() -> Iterator[str]:
    """Yield the stack of each task that waits, and of each thread beside that of the event loop."""
    here = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not here:
            yield "".join(traceback.format_list(traceback.StackSummary.extract(_frames(task.get_coro()))))
    for thread, frame in sys._current_frames().items():
        if thread != threading.get_ident():
            yield "".join(traceback.format_stack(frame))


# What a coroutine, an asynchronous generator and a generator call their frame, and what they wait for.
_OF_COROUTINES = (("cr_frame", "cr_await"), ("ag_frame", "ag_await"), ("gi_frame", "gi_yieldfrom"))


def _frames(coroutine: Any) -> Iterator[tuple[Any, int]]:
    """Yield where a coroutine stands, and what it waits for, from the outside in."""
    while coroutine is not None:
        name, waits = next((each for each in _OF_COROUTINES if hasattr(coroutine, each[0])), ("", ""))
        frame = getattr(coroutine, name) if name else None
        if frame is not None:
            yield frame, frame.f_lineno
        coroutine = getattr(coroutine, waits) if waits else None


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
