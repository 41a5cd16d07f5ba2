"""How gunicorn's processes serve an ASGI application: by uvicorn, with an end that nobody notices.

``gunicorn --worker-class=celeriac.web.server.Worker``. uvicorn ends its websockets as soon as it is to stop, and closes
what it has accepted and not yet read. Here a process that is to stop

1. takes no more connections; the socket is systemd's, and those that wait in there are the next release's;
2. answers what it has accepted, for as long as a request may take (``--timeout``);
3. leaves its websockets alone for as long as they were promised (what ``--graceful-timeout`` has beyond that), and then
   closes them with 1012, "service restart": a client that knows it connects again, to the next release.

======================  ==========================================================================
``--threads``           requests that a process has at a time, as with threads: the others wait. One
                        whose answer is a stream (it has no ``Content-Length``) counts until it begins
``--timeout``           a process whose event loop stands still for so long is killed, with the stacks
                        in the log; one with a request that does not go on for so long is replaced
                        (`celeriac.web.overdue`)
======================  ==========================================================================
"""

import asyncio
import faulthandler
import os
import signal
import sys
import time
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from uvicorn import Server
from uvicorn_worker import UvicornWorker

from celeriac.project import ASGIApplication, Message, Receive, Send
from celeriac.web import overdue, warmup

PAUSE_SECONDS = 0.1
# What is accepted when no more is taken has its place among the connections after a few turns of the event loop.
ACCEPTED_SECONDS = 0.2
# For what does not end by itself to be ended.
END_SECONDS = 5
# nginx must not take a websocket for dead in which nobody says anything (`proxy_read_timeout`).
LONGEST_PING_SECONDS = 20.0


class Worker(UvicornWorker):
    """A process of gunicorn with an event loop.

    Args:
        *args: gunicorn's.
        **kwargs: gunicorn's.
    """

    # uvloop takes connections in another way, and nobody has looked at how it stops.
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "asyncio", "http": "auto", "access_log": False}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.ws_ping_interval = min(LONGEST_PING_SECONDS, self.cfg.timeout / 3 or LONGEST_PING_SECONDS)
        self.config.timeout_graceful_shutdown = END_SECONDS

    def run(self) -> None:
        """Serve until somebody ends it."""
        # gunicorn ends by SIGABRT what stands still.
        faulthandler.enable()
        late = asyncio.run(self._serve())
        if late:
            os._exit(1)  # no thread can be ended, and Python would wait for all of them

    async def _serve(self) -> bool:
        """Serve, and return whether a request is left that does not end."""
        application: ASGIApplication = self.wsgi
        self.config.app = limited(overdue.timed_tasks(application), self.cfg.threads)
        self.config.load()
        self.config.lifespan_class = _warming(self.config.lifespan_class, application, self.log)
        server = DrainingServer(self.config, self.cfg, self.log)
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, server.end_now)
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        return server.late > 0


class DrainingServer(Server):
    """What accepts in such a process.

    Args:
        config: uvicorn's.
        settings: gunicorn's.
        log: gunicorn's.

    Attributes:
        late: requests that do not go on.
    """

    def __init__(self, config: Any, settings: Any, log: Any) -> None:
        super().__init__(config)
        self.late = 0
        self._log = log
        self._request_seconds: float = settings.timeout
        self._websocket_seconds: float = max(0, settings.graceful_timeout - settings.timeout)
        self._notified = 0.0

    def end_now(self) -> None:
        """End without waiting for anybody."""
        self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Look at the timers of the requests, too; return whether it is over."""
        if counter % 10 == 0 and self._are_late():
            self.should_exit = True
        return bool(await super().on_tick(counter))

    def _are_late(self) -> bool:
        self.late = overdue.late_tasks(self._request_seconds, self._log) if self._request_seconds else 0
        return self.late > 0

    async def shutdown(self, sockets: Any = None) -> None:
        """Take no more connections, wait for those that are there, and end the rest."""
        # Not yet `close()`: what was accepted a moment ago would be dropped with the socket (asyncio).
        loop = asyncio.get_running_loop()
        for listening in (each for server in self.servers for each in server.sockets):
            loop.remove_reader(listening.fileno())
        await asyncio.sleep(ACCEPTED_SECONDS)
        began = time.monotonic()
        while not self.force_exit:
            passed = time.monotonic() - began
            websockets, requests = self._open()
            if passed >= self._websocket_seconds:
                for each in websockets:
                    each.shutdown()  # with 1012
                websockets = []
            self._are_late()
            if not websockets and (len(requests) <= self.late or passed >= self._request_seconds):
                break
            await self._notify()
            await asyncio.sleep(PAUSE_SECONDS)
        await super().shutdown(sockets)

    def _open(self) -> tuple[list[Any], list[Any]]:
        """Return the websockets, and the connections with a request, or on which one is to come."""
        kinds: tuple[list[Any], list[Any]] = [], []
        for connection in [*self.server_state.connections]:
            kinds[not isinstance(connection, self.config.ws_protocol_class or ())].append(connection)
        return kinds

    async def _notify(self) -> None:
        """Tell gunicorn that this goes on."""
        if self.config.callback_notify is not None and time.monotonic() > self._notified + 1:
            self._notified = time.monotonic()
            await self.config.callback_notify()


def limited(application: ASGIApplication, requests: int) -> ASGIApplication:
    """Return an application that has so many requests at a time.

    Each may have a connection to the database, of which there are so many: more of them would be errors and not waits.

    Args:
        application: it.
        requests: how many; a stream that has begun, and a websocket, is none.
    """
    turns = asyncio.Semaphore(requests)

    async def answer(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or overdue.OWN in scope:
            await application(scope, receive, send)
            return
        await turns.acquire()
        is_held = True

        async def sent(message: Message) -> None:
            nonlocal is_held
            if is_held and message["type"] == "http.response.start" and not _has_length(message):
                turns.release()
                is_held = False
            await send(message)

        try:
            await application(scope, receive, sent)
        finally:
            if is_held:
                turns.release()

    return answer


def _has_length(message: Message) -> bool:
    return any(name.lower() == b"content-length" for name, _ in message.get("headers") or ())


def _warming(kind: Any, application: ASGIApplication, log: Any) -> Any:
    """Return a kind of lifespan in which a process is warm before it takes its first connection."""

    class Warming(kind):
        """As its base, with a warm-up."""

        async def startup(self) -> None:
            """Let the project begin, then ask it for its pages."""
            await super().startup()
            if not self.should_exit:
                await warmup.warm_up(application, log)

    return Warming
