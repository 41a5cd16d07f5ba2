"""`manage.py task run|list|show|revoke|rerun|parked|release`: what the console does, at a terminal and for scripts.

Exit codes:

====  =============================================================================================
0     done: the task succeeded, or was sent (without ``--wait``); what was to be revoked will not run on
1     the task failed or was revoked; what was to be revoked runs on, or had ended before
2     the command line or the task's arguments are wrong: nothing was sent
3     there is no such task, or no such run, or it cannot be run again, or one to be released is not parked
4     the broker, or the result backend, is unavailable
5     ``--timeout`` is over, and the task goes on
====  =============================================================================================
"""

import getpass
import json
import math
import sys
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from celery.states import SUCCESS
from django.core.management import BaseCommand, CommandError

from celeriac import registry
from celeriac.console import broker, runs
from celeriac.enqueue import BrokerUnavailableError
from celeriac.parked import Parked

NOT_DONE, BAD_ARGUMENTS, UNKNOWN, AWAY, TIMED_OUT = 1, 2, 3, 4, 5

# How often the state is looked at while waiting, in seconds: soon at first, for most tasks are short.
POLL_SECONDS = (0.1, 0.1, 0.2, 0.3, 0.5, 1.0)


class Command(BaseCommand):
    """Starts, lists, shows, revokes, repeats and releases tasks."""

    help = (
        "Start a task, and see what became of it. Exit codes: 0 done, 1 failed, revoked or not stopped, "
        "2 wrong arguments, 3 unknown or not rerunnable, 4 broker or results away, 5 --timeout is over."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the seven subcommands."""
        names = "run|list|show|revoke|rerun|parked|release"
        commands = parser.add_subparsers(dest="subcommand", required=True, metavar=names)

        run = commands.add_parser("run", help="start a task")
        run.add_argument("name", help="of the task: app.tasks.add")
        run.add_argument(
            "arguments",
            nargs="*",
            metavar="[KEY=]VALUE",
            help="by position or by name, each JSON where it is that, else a text: 2 text='two words' list='[1, 2]'",
        )
        run.add_argument("--priority", type=int, help="0 to 9, 9 first")
        run.add_argument("--countdown", type=float, help="not before so many seconds from now")
        _waits(run)

        listed = commands.add_parser("list", help="the last runs, newest first; --tasks: what can be started")
        listed.add_argument("--tasks", action="store_true", help="the registered tasks by name, and what they take")
        listed.add_argument("--search", default="", help="with --tasks: only those that have each of these words")
        listed.add_argument("--state", default="", help="only runs in this state: FAILURE")
        listed.add_argument("--name", default="", help="only runs of this task")
        listed.add_argument("--entry", default="", help="only runs that were sent for this entry of the schedule")
        listed.add_argument("--size", type=int, default=25, help="how many at most (25)")

        show = commands.add_parser("show", help="one run")
        revoke = commands.add_parser("revoke", help="keep a run from starting")
        rerun = commands.add_parser("rerun", help="the same task with the same arguments once more")
        for each in (show, revoke, rerun):
            each.add_argument("id", help="of the run")
        revoke.add_argument("--terminate", action="store_true", help="stop it also when it runs")
        _waits(rerun)

        parked = commands.add_parser("parked", help="what did not end too often, and is not run again by itself")
        release = commands.add_parser("release", help="let what is parked run again")
        release.add_argument("ids", nargs="*", metavar="ID", help="as `parked` shows it")
        release.add_argument("--all", action="store_true", dest="everything", help="all that is parked")
        for each in (run, listed, show, revoke, rerun, parked, release):
            each.add_argument("--json", action="store_true", dest="as_json", help="print JSON")

    def handle(self, *, subcommand: str, **options: Any) -> None:
        """Do it; what the functions raise becomes an exit code.

        Raises:
            CommandError: with the exit code.
        """
        self.as_json: bool = options["as_json"]
        try:
            getattr(self, f"_{subcommand}")(**options)
        except registry.BadArgumentsError as error:
            raise CommandError(str(error), returncode=BAD_ARGUMENTS) from error
        except (registry.UnknownTaskError, runs.UnknownRunError, runs.NotRerunnableError) as error:
            raise CommandError(str(error), returncode=UNKNOWN) from error
        except BrokerUnavailableError as error:
            raise CommandError(f"The broker is unavailable: {error}", returncode=AWAY) from error
        except runs.ResultsUnavailableError as error:
            raise CommandError(f"The result backend is unavailable: {error}", returncode=AWAY) from error

    def _run(
        self, *, name: str, arguments: Sequence[str], priority: int | None, countdown: float | None, **options: Any
    ) -> None:
        args, kwargs = parsed(arguments)
        self._sent(runs.start(name, args, kwargs, priority=priority, countdown=countdown, by=_me()), **options)

    def _rerun(self, *, id: str, **options: Any) -> None:
        self._sent(runs.rerun(id, by=_me()), **options)

    def _sent(self, run_id: str, *, wait: bool, timeout: float, **_: Any) -> None:
        if not wait:
            self._print({"id": run_id}, run_id)
            return
        run = _wait(run_id, timeout)
        self._show_run(run)
        if not run.is_over:
            raise CommandError(f"{run_id} is {run.state} after {timeout:g} seconds", returncode=TIMED_OUT)
        if run.state != SUCCESS:
            sys.exit(NOT_DONE)

    def _list(self, *, tasks: bool, search: str, state: str, name: str, entry: str, size: int, **_: Any) -> None:
        if search and not tasks:
            raise CommandError("--search is for --tasks", returncode=BAD_ARGUMENTS)
        if tasks:
            found = registry.registered(search)
            self._print([asdict(task) for task in found], "\n".join(_signature(task) for task in found))
            return
        page = runs.page(state=state, name=name, entry=entry, size=max(1, size))
        self._print([_as_object(run) for run in page.runs], "\n".join(_line(run) for run in page.runs))

    def _show(self, *, id: str, **_: Any) -> None:
        self._show_run(runs.find(id))

    def _revoke(self, *, id: str, terminate: bool, **_: Any) -> None:
        done = runs.revoke(id, terminate=terminate, by=_me())
        self._print({"id": id, "done": done.name, "text": done.value}, f"{id}: {done.value}")
        if done in {runs.Revoked.RUNS_ON, runs.Revoked.WAS_OVER}:
            sys.exit(NOT_DONE)

    def _parked(self, **_: Any) -> None:
        found = broker.all_parked()
        self._print([asdict(each) for each in found], "\n".join(_parked_line(each) for each in found))

    def _release(self, *, ids: Sequence[str], everything: bool, **_: Any) -> None:
        if bool(ids) == everything:
            raise CommandError("Either ids or --all", returncode=BAD_ARGUMENTS)
        ids = [each.tag for each in broker.all_parked()] if everything else ids
        missing = broker.release(*ids)
        released = [each for each in ids if each not in missing]
        self._print({"released": released, "not_parked": missing}, "\n".join(f"{each}: released" for each in released))
        if missing and not everything:  # somebody else may be quicker
            raise CommandError(f"Not parked: {', '.join(missing)}", returncode=UNKNOWN)

    def _show_run(self, run: runs.Run) -> None:
        known = {key: value for key, value in _as_object(run).items() if value not in (None, "")}
        self._print(_as_object(run), "\n".join(f"{key:14} {value}" for key, value in known.items()))

    def _print(self, as_json: Any, text: str) -> None:
        if self.as_json:
            # Some results are more than plain JSON has: dates, and what looks like text there.
            text = json.dumps(as_json, default=str, ensure_ascii=False)
        if text:
            # What no terminal can show, a lone surrogate, is written as Python would.
            self.stdout.write(text.encode(errors="backslashreplace").decode())


def parsed(arguments: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return what is given by position, and what by name.

    Args:
        arguments: of the command line. `KEY=VALUE` is by name if KEY could be a parameter's; every value is JSON where
            it parses as that, else a text.
    """
    args, kwargs = [], {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key.isidentifier():
            kwargs[key] = _value(value)
        else:
            args.append(_value(argument))
    return args, kwargs


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _waits(parser: ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="until it has ended, and print what came of it")
    parser.add_argument("--timeout", type=float, default=math.inf, help="wait so many seconds at most")


def _wait(run_id: str, seconds: float) -> runs.Run:
    """Return the run when it has ended, or as it is when the time is over."""
    deadline = time.monotonic() + seconds
    pauses = iter(POLL_SECONDS)
    while not (run := runs.find(run_id)).is_over and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(next(pauses, POLL_SECONDS[-1]), left))
    return run


def _as_object(run: runs.Run) -> Mapping[str, Any]:
    return {**asdict(run), "seconds": run.seconds}


def _line(run: runs.Run) -> str:
    sent = f"{run.sent_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if run.sent_at else "-"
    return f"{run.id} {sent} {run.state:8} {run.name} {run.error}".rstrip()


def _parked_line(parked: Parked) -> str:
    since = f"{datetime.fromtimestamp(parked.since, UTC):%Y-%m-%d %H:%M:%S}"
    run_id = parked.task_id or parked.tag  # what cannot be read has no id, and is released by its tag
    return f"{run_id} {since} {parked.task or '-'} {parked.times} times, {parked.reason} ({parked.queue})"


def _signature(task: registry.Registered) -> str:
    takes = (
        f"{each.variadic}{each.name}" if each.required or each.variadic else f"{each.name}={json.dumps(each.default)}"
        for each in task.parameters
    )
    return f"{task.name}({', '.join(takes)})  {task.description}"


def _me() -> str:
    """Return who types this: on a host several people share the machine."""
    try:
        return f"{getpass.getuser()} (terminal)"
    except (KeyError, OSError):  # an account without a name
        return "terminal"
