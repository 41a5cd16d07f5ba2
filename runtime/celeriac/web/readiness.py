"""The readiness check of a release's web application, before it can accept a request.

Two gunicorns may listen on one socket, and from then on both get requests: what is not good must
never come so far. With ``CELERIAC_JUDGE=1`` the import of `celeriac.web.wsgi`, which gunicorn does
under ``--preload`` before it listens, or of `celeriac.web.asgi`, first asks the application for its health:

======================================  ==========================================================
``CELERIAC_JUDGE``                      ``1`` asks; anything else, and nothing, does not
``CELERIAC_HEALTH_PATH``                what to ask for: ``/health/``
``CELERIAC_HEALTH_HOST``                under which name: ``www.example.org``
``CELERIAC_JUDGE_SECONDS``              how long the answer may take, 20 by default
======================================  ==========================================================

A child process asks and is gone again, with all that it connected and started. At a boot nobody
asks: a site must come up though its broker is still down.
"""

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.core.signals import got_request_exception
from django.db import connections

from celeriac.web import request

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from celeriac.project import ASGIApplication

BODY_BYTES = 500  # of an answer that is not good, for the operator


def wanted() -> bool:
    """Return whether the environment asks for a check."""
    return os.environ.get("CELERIAC_JUDGE") == "1"


def check(application: "WSGIApplication | ASGIApplication") -> None:
    """Ask the application for its health, and return if that is good.

    Args:
        application: as gunicorn would call it. The process should have no threads yet.

    Raises:
        SystemExit: it is not good. The one line says why; the exit code is 1.
    """
    path, host = _required("CELERIAC_HEALTH_PATH"), _required("CELERIAC_HEALTH_HOST")
    seconds = float(os.environ.get("CELERIAC_JUDGE_SECONDS") or 20)
    began = time.monotonic()
    finding = _in_a_child(lambda: _ask(application, path, host), seconds)
    if finding:
        sys.exit(f"celeriac: the release is not good: GET https://{host}{path}: {finding}")
    took = time.monotonic() - began
    print(f"celeriac: the release is good: {path} in {took:.2f} s", file=sys.stderr, flush=True)


def _required(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        sys.exit(f"celeriac: CELERIAC_JUDGE is 1, and {variable} is not set")
    return value


def _in_a_child(ask: Callable[[], str], seconds: float) -> str:
    """Call a function in a forked child; return what it returns, or why it did not."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(ask, writer, seconds)
    os.close(writer)
    try:
        finding = _read(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)  # it has nothing left to say; a zombie does not mind
        _, status = os.waitpid(child, 0)
    if finding is None:
        return f"no answer in {seconds:g} s"
    if not finding:
        return f"the process that asked ended with {os.waitstatus_to_exitcode(status)}"
    return finding.removesuffix("\n")


def _child(ask: Callable[[], str], writer: int, seconds: float) -> None:
    """Write what was found, and a newline, which is all when nothing is wrong. Does not return."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(seconds) + 2)  # should the parent be gone by then
        try:
            finding = ask()
            connections.close_all()  # or every check is a broken connection in the server's log
        except BaseException:
            finding = _on_one_line(traceback.format_exc())
        os.write(writer, f"{finding}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(0)  # without what the project does at the end of a process


def _read(reader: int, deadline: float) -> str | None:
    """Return what comes until a newline or the end, None if neither comes in time."""
    found = b""
    while not found.endswith(b"\n"):
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        part = os.read(reader, 65536)
        if not part:
            break
        found += part
    return found.decode(errors="backslashreplace")


def _ask(application: "WSGIApplication | ASGIApplication", path: str, host: str) -> str:
    """Return what is wrong with the answer to a request, nothing if it is 200."""
    raised: list[str] = []

    def record(**_: object) -> None:
        raised.append(_on_one_line(traceback.format_exc()))

    got_request_exception.connect(record, weak=False)  # Django's answer to it does not say what it was
    status, body = request.get(application, path, host)
    if status.partition(" ")[0] == "200":
        return ""
    text = body[:BODY_BYTES].decode(errors="backslashreplace")
    return "; ".join([status or "no status", *raised, _on_one_line(text)])


def _on_one_line(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())
