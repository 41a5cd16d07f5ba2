"""What has begun of that which was given out before: so the end of a whole worker is counted on RabbitMQ, too.

RabbitMQ gives back what a dead worker had, and says of it only that it was given out before. A drain and a lost
connection look the same. So a worker that begins with such a message notes it, in a file that goes when the message is
acknowledged or given back, and when the worker stops. A file that is there though its process is dead is of a message
that has ended its worker, or ran beside one that did: the next worker of this host that is to begin with it counts
that in the message (`celeriac.worker.unfinished`).

Nothing is written of what is given out for the first time, and that is nearly all. So the first end is not counted.
The files are in the cache of the unit, which all releases share; where there is none, nothing is counted. Those of
another host are not seen: with several the count lags behind, and is right in the end.
(systemd.exec(5), CacheDirectory=)
"""

import hashlib
import json
import logging
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from celeriac.transport import identity
from celeriac.worker.unfinished import times_of

_FOLDER = "celeriac-begun"

_log = logging.getLogger(__name__)


class Begun:
    """The files of this host about messages that have begun, and what this process adds to them."""

    def __init__(self) -> None:
        """Find the folder, and remove what a boot before this one has left there."""
        cache = os.environ.get("CACHE_DIRECTORY", "")
        self._folder = Path(cache, _FOLDER) if cache else None
        self._own: set[Path] = set()
        self._is_closed = False
        host = json.loads(identity.own())["host"]
        for path, who in self._all("*"):
            if who["host"] != host:
                _remove(path)

    def note(self, request: Any) -> Path | None:
        """Note that a message is begun; return the file, None where nothing is noted."""
        if self._folder is None or self._is_closed or not request.task.acks_late:
            return None
        path = self._folder / f"{_key(request)}.{uuid.uuid4().hex}"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path.write_text(identity.own())
        except OSError as error:
            _log.warning("that %s[%s] begins could not be noted: %r", request.name, request.id, error)
            return None
        self._own.add(path)
        return path

    def forget(self, path: Path) -> None:
        """Forget what this process has noted: it is acknowledged, or given back."""
        self._own.discard(path)
        _remove(path)

    def of_dead(self, request: Any) -> tuple[list[Path], str]:
        """Return what dead processes have noted of a message, and the words for that."""
        found = [(path, who) for path, who in self._all(f"{_key(request)}.*") if identity.is_dead(who)]
        words = [f"{who['unit'] or 'process'} {who['pid']} on {who['hostname']} ended" for _, who in found]
        return [path for path, _ in found], " ".join(words[-1:])

    def close(self) -> None:
        """Forget all that this process has noted: it stops, and what it still ends is no fault of a task."""
        self._is_closed = True
        for path in [*self._own]:
            self.forget(path)

    def _all(self, pattern: str) -> list[tuple[Path, identity.Identity]]:
        found = []
        for path in self._folder.glob(pattern) if self._folder else ():
            with suppress(OSError, ValueError):  # another worker has removed it, or is writing
                found.append((path, json.loads(path.read_text())))
        return found


def _key(request: Any) -> str:
    """Return by what a message is known again: RabbitMQ has no name for it."""
    known = request.id, request.request_dict.get("retries"), times_of(request.message)
    return hashlib.sha256(repr(known).encode()).hexdigest()[:32]


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
