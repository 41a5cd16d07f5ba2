"""Processes as systemd runs them: in a session of their own, with a socket that they report to."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Notifications:
    """The other end of a process's ``NOTIFY_SOCKET``: keeps what it is told, with the time.

    Attributes:
        messages: pairs of time.monotonic() and the message, in the order of arrival.
    """

    def __init__(self, address: str) -> None:
        self.messages: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while message := self._socket.recv(4096):
            self.messages.append((time.monotonic(), message.decode()))

    def close(self) -> None:
        """Read no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def texts(self) -> list[str]:
        """Return the messages alone."""
        return [text for _, text in self.messages]


class Supervised:
    """A running process.

    Attributes:
        process: the process itself.
        notifications: what it told its supervisor.
        log: the file that it writes to.
    """

    def __init__(self, module: str, arguments: list[str], environment: dict[str, str]) -> None:
        directory = Path(environment["SCRATCH"])
        name = f"{module}-{time.monotonic_ns()}"
        self.log = directory / f"{name}.log"
        self.notifications = Notifications(str(directory / f"{name}.sock"))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**environment, "NOTIFY_SOCKET": str(directory / f"{name}.sock")},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def told(self, text: str, *, within: float = 60, times: int = 1) -> str:
        """Wait until a message contains a text; return the last that does.

        Args:
            text: what to look for.
            within: how long to wait at most, in seconds.
            times: how many messages must contain it.

        Raises:
            AssertionError: no such message in time; with the messages and the end of the log.
        """

        def found() -> list[str]:
            return [message for message in self.notifications.texts() if text in message]

        self.waits(lambda: len(found()) >= times, f"{times} message(s) with {text!r}", within)
        return found()[-1]

    def waits(self, condition: Callable[[], bool], what: str, within: float = 60) -> None:
        """Wait for a condition, as long as this process lives.

        Raises:
            AssertionError: it did not come true in time, or the process ended.
        """
        deadline = time.monotonic() + within
        while not condition():
            late = time.monotonic() > deadline
            if late or (self.process.poll() is not None and not condition()):
                why = "in time" if late else f"before the exit, {self.process.returncode}"
                log = self.log.read_text()[-3000:]
                raise AssertionError(f"no {what} {why}: {self.notifications.texts()}\n{log}")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM, *, within: float = 60) -> float:
        """Send a signal, wait for the end, and return how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(within)
        return time.monotonic() - began

    def end(self) -> None:
        """End it and its children, if they are still there."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.notifications.close()


@contextmanager
def supervised(module: str, *arguments: str, environment: dict[str, str]) -> Iterator[Supervised]:
    """Run ``python -m MODULE ARGUMENTS`` with exactly this environment until the block ends."""
    running = Supervised(module, list(arguments), environment)
    try:
        yield running
    finally:
        running.end()
