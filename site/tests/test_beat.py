"""Beat as a process, over starts, deploys and rollbacks: what it leaves of an operator's changes."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celeriac.schedule.scheduler import REMOVED
from testkit.postgresql import PostgreSQL
from testkit.redis import Redis
from testkit.waiting import eventually

from processes import SITE, Stack

# Two releases of the same code, but for the schedule.
CODE = """
from datetime import timedelta
from TimeOut.celery import app

app.conf.beat_schedule = {
    name: {"task": "app.tasks.daily_report", "schedule": timedelta(hours=hours)} for name, hours in %s.items()
}
"""
OLDER = {"kept": 1, "dropped": 1}
NEWER = {"kept": 2, "added": 1}

ROWS = """
import json
from django_celery_beat.models import PeriodicTask
rows = PeriodicTask.objects.filter(task="app.tasks.daily_report").select_related("interval")
print(json.dumps({row.name: [row.interval.every // 3600, row.enabled, row.description] for row in rows}))
"""


@pytest.fixture
def release(tmp_path: Path) -> str:
    """A folder with the code of two releases, to import from."""
    for name, entries in (("older", OLDER), ("newer", NEWER)):
        (tmp_path / f"{name}.py").write_text(CODE % entries)
    return f"{tmp_path}:{SITE}:{SITE.parent / 'runtime'}"


@pytest.fixture
def computer(tmp_path: Path, redis_server: Redis) -> Iterator[Stack]:
    """A developer's computer, without a process yet."""
    stack = Stack(tmp_path, redis_server, variables={"CELERY_BROKER_URL": redis_server.database(10)})
    stack.manage("migrate", "-v0")
    yield stack
    stack.stop()


@pytest.fixture
def host(tmp_path: Path, redis_server: Redis, postgresql_server: PostgreSQL) -> Iterator[Stack]:
    """A host, with its PostgreSQL, and without a process yet."""
    database = postgresql_server.create(f"beat_{tmp_path.name}")
    variables = {"DATABASE_URL": database, "CELERY_BROKER_URL": redis_server.database(11)}
    stack = Stack(tmp_path, redis_server, variables=variables)
    stack.manage("migrate", "-v0")
    yield stack
    stack.stop()


def rows(stack: Stack) -> Any:
    """Return hours, enabled and description of each entry of the releases."""
    return stack.ask(ROWS)


def change(stack: Stack, what: str) -> None:
    """Change an entry, as the admin would: `kept.enabled = False`."""
    stack.ask(
        "from django_celery_beat.models import *\n"
        "entry = lambda name: PeriodicTask.objects.get(name=name)\n"
        f"kept = entry('kept')\n{what}\nkept.save()\nprint(1)"
    )


def start_on_computer(stack: Stack, name: str, release: str) -> None:
    """Start beat as a developer does, and wait until it ticks."""
    command = ("celery", "-A", name, "beat", "--loglevel=debug", f"--pidfile={stack.folder / name}.pid")
    stack.spawn(name, *command, PYTHONPATH=release)
    eventually(lambda: "beat: Ticking" in stack.log(name), what="beat ticks")


def test_an_operators_change_outlives_each_start_of_beat(computer: Stack, release: str) -> None:
    """`celery beat`, stopped and started with other code: SQLite, and django-celery-beat's scheduler under ours."""
    start_on_computer(computer, "older", release)
    assert rows(computer) == {"kept": [1, True, ""], "dropped": [1, True, ""]}
    change(computer, "kept.interval = IntervalSchedule.objects.create(every=3600 * 5, period='seconds')")
    computer.end("older")
    start_on_computer(computer, "newer", release)
    assert rows(computer) == {"kept": [5, True, ""], "dropped": [1, False, REMOVED], "added": [1, True, ""]}


class Told:
    """What a process tells systemd."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self._texts: list[str] = []

    def __contains__(self, text: str) -> bool:
        """Say whether something with this text in it was told by now."""
        try:
            while True:
                self._texts.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return any(text in told for told in self._texts)


def start_on_host(stack: Stack, name: str, process: str, release: str) -> Told:
    """Start beat as its unit does; return what it tells systemd."""
    told = Told(stack.folder / f"{process}.sock")
    stack.spawn(
        process,
        *("celery", "-A", "celeriac.app", "beat", "--scheduler=celeriac.beat.scheduler:scheduler"),
        *("--pidfile=", "--max-interval=1", "--loglevel=info"),
        **{"PYTHONPATH": release, "CELERIAC_CELERY_APP": name, "NOTIFY_SOCKET": str(told.path)},
    )
    return told


def test_a_deploy_merges_as_the_new_beat_takes_over_and_a_rollback_takes_it_back(host: Stack, release: str) -> None:
    """On PostgreSQL, two beats at a time, as a deploy has them: the one that stands by writes nothing."""
    told = start_on_host(host, "older", "first", release)
    eventually(lambda: "last tick" in told, what="the older release's beat sends")
    change(host, "kept.enabled = False")
    before = rows(host)
    assert before == {"kept": [1, False, ""], "dropped": [1, True, ""]}

    told = start_on_host(host, "newer", "second", release)
    eventually(lambda: "standby" in told, what="the newer one's stands by")
    assert rows(host) == before
    host.end("first")
    eventually(lambda: "last tick" in told, what="the newer one's has taken over")
    assert rows(host) == {"kept": [2, False, ""], "dropped": [1, False, REMOVED], "added": [1, True, ""]}

    told = start_on_host(host, "older", "third", release)
    eventually(lambda: "standby" in told, what="the older one's stands by again")
    host.end("second")
    eventually(lambda: "last tick" in told, what="the older one's has taken over")
    assert rows(host) == {**before, "added": [1, False, REMOVED]}
