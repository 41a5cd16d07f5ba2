"""What the choices of processes become: the rows of `site_all_processes`, and what is written into units."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DOCUMENTATION = r"""
name: processes
short_description: Processes that an inventory chooses
description:
  - C(pool_processes) makes rows of C(site_all_processes) of C(celery_worker_pools).
  - C(command_processes) makes them of C(site_commands).
  - C(timer_processes) makes them of C(site_timers), and C(calendar) the time of one.
  - C(sizes) reads what processes have that do not say it, in the defaults of their roles.
  - C(words_of_commands) makes what a release looks for of them.
  - C(systemd_words) writes words as a command of a unit has them, and C(systemd_environment) values as a file of
    its environment has them.
options:
  _input:
    description: What is chosen, as a mapping by name; or the words.
    type: raw
    required: true
author: [Celeriac]
"""

# Megabytes of a worker with its first process, and of each process of its pool; as in needs.yml.
WORKER_MB = 55
TASK_MB = 50
# A worker that drains twice, beside the new one.
SETS_OF_WORKERS = 3

# Of a command of the project: as much as a process with all of Django, and as the project's own code takes.
COMMAND_MB = 80
COMMAND_CONNECTIONS = 2

Row = dict[str, Any]


def pool_processes(pools: Any, sizes: Mapping[str, Any]) -> list[Row]:
    """Return the rows of pools of workers; what preflight refuses has none.

    Args:
        pools: `celery_worker_pools`.
        sizes: what one has that does not say it: `celery_worker_concurrency`, `celery_worker_autoscale` and
            `celery_worker_pool`.
    """
    return [
        {
            "name": f"celery-worker-{name}",
            "kind": "worker",
            "group": "workers",
            "connections": SETS_OF_WORKERS * (most + 1),
            "memory_mb": WORKER_MB + TASK_MB * (most if _chosen(pool, sizes, "pool") == "prefork" else 1),
        }
        for name, pool in _entries(pools)
        for most in [most_at_once(pool, sizes)]
    ]


def sizes(files: Iterable[str]) -> dict[str, Any]:
    """Return what stands in the defaults of roles.

    The sizes of processes are asked for again and again in a task, and six files of YAML took longer than all else.

    Args:
        files: their paths.
    """
    return {name: value for file in files for name, value in _defaults_in(str(file)).items()}


@cache
def _defaults_in(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(file).read_text())
    return found


def command_processes(commands: Any) -> list[Row]:
    """Return the rows of commands that run for ever; what preflight refuses has none.

    Args:
        commands: `site_commands`.
    """
    return [
        {
            "name": name,
            "kind": "overlapping-command" if command.get("overlap") is True else "command",
            "group": command.get("group", "workers"),
            "connections": COMMAND_CONNECTIONS * (2 if command.get("overlap") is True else 1),
            "memory_mb": COMMAND_MB,
        }
        for name, command in _entries(commands)
    ]


def timer_processes(timers: Any) -> list[Row]:
    """Return the rows of commands that run at times; what preflight refuses has none.

    They have memory at times only: `site_memory_at_times_mb`.

    Args:
        timers: `site_timers`.
    """
    return [
        {
            "name": name,
            "kind": "timer",
            "group": timer.get("group", "workers"),
            "connections": COMMAND_CONNECTIONS,
            "memory_mb": 0,
            "memory_at_times_mb": COMMAND_MB,
        }
        for name, timer in _entries(timers)
    ]


def calendar(every: str, time_zone: str) -> str:
    """Return a time as systemd has it, in the time zone of the site where it says none (systemd.time(7)).

    Args:
        every: as it is chosen.
        time_zone: a name of the tz database.
    """
    said = re.search(r"(^| )(UTC|[A-Z][A-Za-z0-9_+-]*/[A-Za-z0-9_+/-]+)$", every.strip())
    return every.strip() if said else f"{every.strip()} {time_zone}"


def calendars(timers: Mapping[str, Any], names: Iterable[str], time_zone: str) -> dict[str, str]:
    """Return when timers run, by their names.

    Args:
        timers: `site_timers`.
        names: which of them.
        time_zone: of the site.
    """
    here = set(names)
    return {name: calendar(str(timer.get("every")), time_zone) for name, timer in _entries(timers) if name in here}


def words_of_commands(commands: Mapping[str, Any], choice: str) -> dict[str, dict[str, Any]]:
    """Return the words of commands, and nothing else of them, by what an operator calls each.

    Args:
        commands: `site_commands`, say.
        choice: its name.
    """
    kinds = ("command", "program")
    return {
        f"{choice}: {name}": {kind: command[kind] for kind in kinds if kind in command}
        for name, command in _entries(commands)
    }


def most_at_once(pool: Mapping[str, Any], sizes: Mapping[str, Any]) -> int:
    """Return how many tasks a pool runs at the same time at most.

    Args:
        pool: as it is chosen.
        sizes: as for `pool_processes`.
    """
    if "autoscale" not in pool and "concurrency" in pool:
        return _number(pool["concurrency"])
    autoscale = _chosen(pool, sizes, "autoscale")
    return max(map(_number, autoscale)) if autoscale else _number(_chosen(pool, sizes, "concurrency"))


def _chosen(pool: Mapping[str, Any], sizes: Mapping[str, Any], name: str) -> Any:
    return pool.get(name, sizes.get(f"celery_worker_{name}"))


def _number(value: Any) -> int:
    return int(value) if str(value).isdecimal() else 1


def _entries(chosen: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, entry in chosen.items() if isinstance(chosen, Mapping) else ():
        if isinstance(entry, Mapping):
            yield str(name), entry


def systemd_words(words: Iterable[Any]) -> list[str]:
    r"""Return words as a command of a unit has them, each as it was (systemd.service(5), "Command lines").

    Args:
        words: as a program is to get them.
    """
    escaped = (re.sub(r'(["\\])', r"\\\1", str(word)).replace("%", "%%").replace("$", "$$") for word in words)
    return [f'"{word}"' for word in escaped]


def systemd_environment(environment: Mapping[str, Any]) -> str:
    r"""Return variables as a file of EnvironmentFile= has them, each value as it is.

    In double quotes systemd takes all as it is but these four, and takes a backslash off each (systemd.exec(5)).

    Args:
        environment: their names and values.
    """
    lines = []
    for name in sorted(environment, key=str.lower):
        value = re.sub(r'(["\\`$])', r"\\\1", str(environment[name]))
        lines.append(f'{name}="{value}"')
    return "\n".join(("#", "# Ansible managed", "#", *lines, ""))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by their names."""
        return {
            "calendar": calendar,
            "calendars": calendars,
            "command_processes": command_processes,
            "pool_processes": pool_processes,
            "sizes": sizes,
            "systemd_environment": systemd_environment,
            "systemd_words": systemd_words,
            "timer_processes": timer_processes,
            "words_of_commands": words_of_commands,
        }
