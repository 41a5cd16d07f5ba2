"""The processes that an inventory adds: what of a choice cannot be one, and a line that can."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .memory import fault_of_limit
from .names import nearest

# The end of a sentence that begins with the entry, and a right one.
Fault = tuple[str, str]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# An alias with a part like the name of a release could not be told from the unit of a release.
_RELEASE = re.compile(r"(^|-)[0-9a-f]{12}(-|$)")
LONGEST_NAME = 40

POOL_KINDS = ("prefork", "threads", "solo")
# Others that Celery has. Where as many tasks run as there is room for, their worker stands still (docs/processes.md).
GREEN_KINDS = ("gevent", "eventlet")
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
# What one may say of a pool, each with a value that is right.
POOL = {
    "queues": "[mail]",
    "concurrency": "1",
    "autoscale": "[8, 2]",
    "pool": "prefork",
    "prefetch": "1",
    "time_limit_seconds": "3600",
    "soft_time_limit_seconds": "3500",
    "max_tasks_per_child": "1000",
    "log_level": "info",
    "memory_high": "400M",
    "memory_max": "600M",
    "nice": "10",
    "environment": "{ NAME: value }",
}
# Whole numbers: the least and the greatest.
POOL_NUMBERS = {
    "concurrency": (1, 1024),
    "prefetch": (0, 10_000),
    "time_limit_seconds": (1, 10 * 365 * 24 * 3600),
    "soft_time_limit_seconds": (1, 10 * 365 * 24 * 3600),
    "max_tasks_per_child": (0, 10**9),
    "nice": (-20, 19),
}
# The plain worker is called so.
RESERVED_POOLS = ("default",)
# Units that a run brings, and those that stand for others: an alias of ours would take their place.
RESERVED = (
    "nginx",
    "nginx-acme",
    "site-alerts",
    "redis-server",
    "rabbitmq-server",
    "postgresql",
    "backup-database",
    "backup-files",
    "backup-verify",
    "backup-verify-files",
    "site",
    "default",
)

SECONDS = (1, 30 * 24 * 3600)
# What one may say of a command that runs for ever, each with a value that is right.
COMMAND = {
    "command": "[document_consumer]",
    "program": "[granian, --version]",
    "group": "workers",
    "overlap": "true",
    "stop_seconds": "30",
    "settle_seconds": "10",
    "memory_high": "400M",
    "memory_max": "600M",
    "nice": "10",
    "environment": "{ NAME: value }",
}
COMMAND_NUMBERS = {"stop_seconds": SECONDS, "settle_seconds": SECONDS, "nice": POOL_NUMBERS["nice"]}
# And of one that runs at times.
TIMER = {
    "command": "[runperiodic]",
    "program": "[granian, --version]",
    "every": '"*:0/5"',
    "catch_up": "true",
    "time_limit_seconds": "3600",
    "group": "workers",
    "memory_high": "400M",
    "memory_max": "600M",
    "nice": "10",
    "environment": "{ NAME: value }",
}
TIMER_NUMBERS = {"time_limit_seconds": SECONDS, "nice": POOL_NUMBERS["nice"]}
TIMER_EXAMPLE = 'site_timers: { periodic: { command: [runperiodic], every: "*:0/5"%s } }'
# What a time of systemd is made of; whether it is one the host is asked.
_CALENDAR = re.compile(r"[A-Za-z0-9*:,./~_+ -]+")
COMMAND_EXAMPLE = "site_commands: { consumer: { command: [document_consumer]%s } }"


def fault_of_name(name: str) -> str:
    """Say why something is no name of a process, empty where it is one.

    Args:
        name: as the inventory has it.
    """
    if not _NAME.fullmatch(name):
        return "which is no name: it begins with a small letter, and has small letters, digits and single hyphens"
    if _RELEASE.search(name):
        return "a part of which looks like the name of a release"
    if len(name) > LONGEST_NAME:
        return f"which is too long a name: it has {LONGEST_NAME} letters at most"
    return ""


def faults_of_pool(name: str, pool: Any, plain: Mapping[str, Any], needed_mb: int | None) -> Iterator[Fault]:
    """Say why something is no pool of workers.

    Args:
        name: of the pool.
        pool: as it is chosen.
        plain: what it has where it says nothing, with the names of `POOL`.
        needed_mb: what it has of memory at rest, in megabytes, None where that is not known.
    """
    example = f"celery_worker_pools: {{ {name if not fault_of_name(name) else 'mail'}: {{ queues: [mail], %s }} }}"
    concurrency = example % "concurrency: 1"
    if fault := fault_of_name(name) or ("which is celery-worker itself" if name in RESERVED_POOLS else ""):
        yield fault, "celery_worker_pools: { mail: { queues: [mail], concurrency: 1 } }"
        return
    if not isinstance(pool, Mapping):
        yield "which says nothing of it: it is a mapping with its queues", concurrency
        return
    yield from _faults_of_keys(pool, POOL, POOL_NUMBERS, example, "concurrency")
    yield from ((fault, concurrency) for fault in _faults_of_queues(pool.get("queues")))
    if pool.get("pool") in GREEN_KINDS:
        yield (
            f"with `pool` {pool['pool']}, whose worker stands still as soon as it has no room",
            example % "pool: threads, concurrency: 50",
        )
    for key, known in (("pool", POOL_KINDS), ("log_level", LOG_LEVELS)):
        if pool.get(key, known[0]) not in (*known, *GREEN_KINDS):
            yield f"with `{key}` {pool[key]}, which is none of {', '.join(known)}", example % f"{key}: {POOL[key]}"
    yield from _faults_of_memory(pool, needed_mb, example)
    yield from ((fault, example % right) for fault, right in faults_together(pool, plain))


def _faults_of_keys(
    entry: Mapping[str, Any],
    known: Mapping[str, str],
    numbers: Mapping[str, tuple[int, int]],
    example: str,
    instead: str,
) -> Iterator[Fault]:
    """Say what of an entry nobody knows, and which of its numbers are none."""
    for key in entry:
        if key not in known:
            near = nearest(str(key), list(known)) or instead
            yield f"with `{key}`, which none has; there are {', '.join(known)}", example % f"{near}: {known[near]}"
    for key, (least, greatest) in numbers.items():
        value = entry.get(key, least)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= greatest:
            fault = f"with `{key}` {value}, which is no whole number from {least} to {greatest}"
            yield fault, example % f"{key}: {known[key]}"


def _faults_of_memory(entry: Mapping[str, Any], needed_mb: int | None, example: str) -> Iterator[Fault]:
    for key in ("memory_high", "memory_max"):
        if fault := fault_of_limit(entry.get(key), needed_mb):
            yield f"with `{key}` {entry[key]}, {fault}", example % f"{key}: {2 * (needed_mb or 256)}M"


def faults_of_command(name: str, command: Any, groups: Sequence[str], settles: int | None) -> Iterator[Fault]:
    """Say why something is no command that runs for ever.

    Args:
        name: of its unit.
        command: as it is chosen.
        groups: the groups whose hosts may run it.
        settles: how long a release may take until all is well, in seconds, None where that is not known.
    """
    yield from faults_of_unit(name, command, COMMAND, COMMAND_NUMBERS, groups, COMMAND_EXAMPLE)
    if not isinstance(command, Mapping):
        return
    if not isinstance(command.get("overlap", True), bool):
        yield (
            f"with `overlap` {command['overlap']}, which is neither true nor false",
            COMMAND_EXAMPLE % ", overlap: true",
        )
    settle = command.get("settle_seconds", 10)
    if settles is not None and isinstance(settle, int) and settle >= settles:
        yield (
            f"with `settle_seconds` {settle}, which is not less than site_health_timeout_seconds, {settles}",
            COMMAND_EXAMPLE % f", settle_seconds: {max(1, settles // 3)}",
        )


def faults_of_timer(name: str, timer: Any, groups: Sequence[str]) -> Iterator[Fault]:
    """Say why something is no command that runs at times.

    Args:
        name: of its unit.
        timer: as it is chosen.
        groups: the groups whose hosts may run it.
    """
    yield from faults_of_unit(name, timer, TIMER, TIMER_NUMBERS, groups, TIMER_EXAMPLE)
    if not isinstance(timer, Mapping):
        return
    every = timer.get("every")
    if every is None:
        yield "which does not say when: `every`", TIMER_EXAMPLE % ""
    elif not isinstance(every, str) or not _CALENDAR.fullmatch(every):
        yield f"with `every` {every}, which is no time of systemd: put it in quotes", TIMER_EXAMPLE % ""
    if not isinstance(timer.get("catch_up", True), bool):
        yield (
            f"with `catch_up` {timer['catch_up']}, which is neither true nor false",
            TIMER_EXAMPLE % ", catch_up: false",
        )


def faults_of_unit(
    name: str,
    entry: Any,
    known: Mapping[str, str],
    numbers: Mapping[str, tuple[int, int]],
    groups: Sequence[str],
    example: str,
) -> Iterator[Fault]:
    """Say why something is no command of the project under a unit of its own.

    Args:
        name: of its unit.
        entry: as it is chosen.
        known: what one may say of it, each with a value that is right.
        numbers: which of that are whole numbers, from where to where.
        groups: the groups whose hosts may run it.
        example: a line that is right, with a place for more.
    """
    if fault := fault_of_name(name) or ("which is the name of another unit" if name in RESERVED else ""):
        yield fault, example % ""
        return
    if not isinstance(entry, Mapping):
        yield "which says nothing of it: it is a mapping with its command", example % ""
        return
    yield from _faults_of_keys(entry, known, numbers, example.replace("%s", ", %s"), "nice")
    said = [kind for kind in ("command", "program") if kind in entry]
    if len(said) != 1:
        fault = "with `command` and `program`: it is one or the other" if said else "which has no command"
        yield fault, example % ""
    for kind in said:
        words = entry[kind]
        right = re.fullmatch(r"[A-Za-z_]\w*" if kind == "command" else r"[A-Za-z0-9_][\w.-]*", str((words or [""])[0]))
        if not isinstance(words, list) or not all(_is_word(word) for word in words) or not right:
            fault = f"whose `{kind}` is no list of words, or does not begin with "
            fault += "a command of manage.py" if kind == "command" else "the name of a program of the virtualenv"
            yield fault, example % ""
    if entry.get("group", groups[0]) not in groups:
        yield f"with `group` {entry['group']}, which is none of {', '.join(groups)}", example % f", group: {groups[0]}"
    yield from _faults_of_memory(entry, None, example.replace("%s", ", %s"))


def _is_word(word: Any) -> bool:
    return isinstance(word, str | int) and not isinstance(word, bool) and not set("\0\n") & set(str(word))


def _faults_of_queues(queues: Any) -> Iterator[str]:
    if queues is None or queues == []:
        yield "which has no queues: celery-worker reads those that the project has already, and there is one of it"
    elif not isinstance(queues, list):
        yield "whose `queues` are no list"
    else:
        for queue in queues:
            if not isinstance(queue, str) or not re.fullmatch(r"[^\s,]+", queue):
                yield f"with the queue `{queue}`, which is no name: it has no comma and no space"


def faults_together(pool: Mapping[str, Any], plain: Mapping[str, Any]) -> Iterator[Fault]:
    """Say what of a pool does not go together, and what is right of it.

    Args:
        pool: as it is chosen.
        plain: what it has where it says nothing.
    """
    kind = pool.get("pool", plain.get("pool"))
    autoscale = pool.get("autoscale")
    if autoscale:
        numbers = isinstance(autoscale, list) and all(
            isinstance(each, int) and not isinstance(each, bool) for each in autoscale
        )
        if not numbers or len(autoscale) != 2 or not autoscale[0] >= autoscale[1] >= 0 or autoscale[0] < 1:
            yield (
                f"with `autoscale` {autoscale}, which is not the most and the least tasks at once",
                "autoscale: [8, 2]",
            )
        if "concurrency" in pool:
            yield "with `concurrency` and `autoscale`: it is one or the other", "autoscale: [8, 2]"
        if kind != "prefork":
            yield f"with `autoscale`, and a pool of {kind} cannot grow", "autoscale: [8, 2], pool: prefork"
    hard, soft = pool.get("time_limit_seconds"), pool.get("soft_time_limit_seconds")
    if (hard is None) != (soft is None):
        yield (
            "with one of `time_limit_seconds` and `soft_time_limit_seconds`: a task is asked to end, and then killed",
            "time_limit_seconds: 3600, soft_time_limit_seconds: 3500",
        )
    elif isinstance(hard, int) and isinstance(soft, int) and soft >= hard:
        yield (
            f"with `soft_time_limit_seconds` {soft}, which is not less than `time_limit_seconds` {hard}",
            f"time_limit_seconds: {soft + 100}, soft_time_limit_seconds: {soft}",
        )
    if hard is not None and kind != "prefork":
        yield f"with limits of time, which a pool of {kind} has not", "pool: prefork"
