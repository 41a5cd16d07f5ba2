"""A project with the journal: who sends its tasks, and what the journal then says."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

from environment import postgresql_session
from workers import record

# A process of the project that is neither web nor worker, and knows nothing of `celeriac.app`.
PROJECT_PROCESS = """
import json, sys
import django
django.setup()
from demo.celery import app
from django.db import transaction
from celeriac.ledger import report
for line in sys.stdin:
    asked = json.loads(line)
    try:
        if asked.get("report"):
            answer = report.report()
        elif asked.get("import"):
            module = __import__(asked["import"], fromlist=["x"])
            answer = getattr(module, asked["call"])(*asked["args"])
        else:
            task, options = app.tasks.get(asked["task"]), asked["options"]
            options = {"ignore_result": True, **options}
            answer = [
                (task.apply_async(args, **options) if task else
                 app.send_task(asked["task"], args, **options)).id
                for args in asked["args"]
            ]
    except Exception as error:
        answer = {"error": repr(error)}
    print(json.dumps(answer, default=str), flush=True)
"""


def with_ledger(environment: dict[str, str], **settings: Any) -> dict[str, str]:
    """Return the environment of a process of the project with the journal, and other settings."""
    given = json.loads(environment.get("MORE_SETTINGS", "{}"))
    more = json.dumps({**given, **settings})
    return {**environment, "MORE_APPS": "celeriac.ledger", "MORE_SETTINGS": more}


class Project:
    """A running process of the project.

    Args:
        environment: its own.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._log = (Path(environment["SCRATCH"]) / "project.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROJECT_PROCESS],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def send(self, *arguments: object, task: str = "sleep", queue: str | None = None, **options: object) -> str:
        """Send a task of ``work.tasks``, or one by its full name; return its id."""
        (sent,) = self.send_many([arguments], task=task, queue=queue, **options)
        return sent

    def send_many(
        self,
        arguments: list[Any],
        task: str = "sleep",
        queue: str | None = None,
        **options: object,
    ) -> list[str]:
        """Send one task for each tuple of arguments; return their ids."""
        full = task if "." in task else f"work.tasks.{task}"
        if queue is not None:
            options["queue"] = queue
        sent: list[str] = self.ask({"task": full, "args": arguments, "options": options})
        assert isinstance(sent, list), sent
        return sent

    def report(self) -> dict[str, Any]:
        """Return the journal in numbers."""
        found: dict[str, Any] = self.ask({"report": True})
        return found

    def call(self, module: str, function: str, *arguments: object) -> Any:
        """Call a function of a module there."""
        return self.ask({"import": module, "call": function, "args": arguments})

    def ask(self, question: dict[str, Any]) -> Any:
        """Ask it something; see `PROJECT_PROCESS`."""
        self.begin(question)
        return self.answer()

    def begin(self, question: dict[str, Any]) -> None:
        """Ask it something, and do not wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for an answer, for a minute at most."""
        assert self.process.stdout is not None
        assert select([self.process.stdout], [], [], 60)[0], "no answer"
        answer = self.process.stdout.readline()
        assert answer, Path(self._log.name).read_text()[-3000:]
        return json.loads(answer)

    def row(self, task_id: str) -> dict[str, Any]:
        """Return the row of a task, by the names of the columns."""
        (found,) = self.rows("WHERE task_id = %s", task_id)
        return found

    def rows(self, condition: str = "", *values: object) -> list[dict[str, Any]]:
        """Return rows of the journal, the oldest first."""
        with postgresql_session(self._environment) as session:
            query = f"SELECT * FROM celeriac_ledger_dispatch {condition} ORDER BY id"
            cursor = session.execute(query, values)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, values, strict=True)) for values in cursor]

    def open(self) -> int:
        """Return how many rows have not ended."""
        return len(self.rows("WHERE ended_at IS NULL"))

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self._log.close()


@contextmanager
def running(environment: dict[str, str]) -> Iterator[Project]:
    """Run a process of the project until the block ends."""
    project = Project(environment)
    try:
        yield project
    finally:
        project.end()


def ended(environment: dict[str, str]) -> list[str]:
    """Return the names that tasks recorded when they ended."""
    return [line[6:] for line in record(environment) if line.startswith("ended ")]


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and its children, as a host does that loses its power."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
