"""What a site cannot do without, and gets in a version that its project's own lock allows where that has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .projects import Wanted
from .requirements import Line, lines_of

# The lock of the example has the versions that were tested, and that of the tests has those of what the example does
# not need: what is added is of these, where the project allows it.
_ROOT = Path(__file__).resolve().parents[3]
_TESTED = (_ROOT / "site" / "requirements.txt", _ROOT / "requirements.txt")


@dataclass(frozen=True)
class Addition:
    """A package that we add.

    Attributes:
        requirement: how it is asked for.
        why: what it is for.
        instead: the packages of which one is enough; the package itself where none are named.
    """

    requirement: str
    why: str
    instead: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """Return the packages of which one is enough."""
        return self.instead or frozenset({Line(self.requirement).name})


_WEB = Addition("gunicorn>=20.1", "runs the web processes")
# By kombu's own extra: it excludes clients that it does not work with.
REDIS = Addition("kombu[redis]", "speaks to Redis", frozenset({"redis"}))
_DRIVER = Addition("psycopg[binary]", "speaks to PostgreSQL", frozenset({"psycopg", "psycopg2", "psycopg2-binary"}))
_MONITOR = Addition("flower>=2.0", "is the monitor")
# What of an ASGI application gunicorn cannot do itself.
_ASGI = (
    Addition("uvicorn>=0.30", "serves ASGI"),
    Addition("uvicorn-worker>=0.2", "lets gunicorn run it"),
    Addition("websockets>=13", "speaks to websockets", frozenset({"websockets", "wsproto"})),
)


def additions_of(wanted: Wanted) -> list[Addition]:
    """Return what the site must have."""
    monitor, asgi = [_MONITOR] if wanted.monitored else [], _ASGI if wanted.asgi else []
    return [_WEB, *asgi, REDIS, _DRIVER, *monitor]


def lacking(wanted: Wanted, asked: set[str], locked: set[str]) -> Iterator[Addition]:
    """Yield what a project does not have.

    Args:
        wanted: the choices.
        asked: the packages that the project asks for itself.
        locked: those of which its lock has a version, such as for its developers.
    """
    for addition in additions_of(wanted):
        if addition.names & asked:
            continue
        known = sorted(addition.names & locked)
        yield replace(addition, requirement=known[0]) if known else addition


def tested(additions: Iterable[Addition]) -> list[Line]:
    """Return the versions of additions that were tested, without hashes: an index of the operator's may have others."""
    names = {name for addition in additions for name in addition.names}
    found = [line for file in _TESTED for line in lines_of(file.read_text()) if line.name in names]
    return [Line(text) for text in dict.fromkeys(line.text for line in found)]
