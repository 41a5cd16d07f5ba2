"""The processes that an inventory adds: what of a choice cannot be one, and a line that can."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
    for key in pool:
        if key not in POOL:
            near = nearest(str(key), list(POOL))
            yield (
                f"with `{key}`, which no pool has; there are {', '.join(POOL)}",
                example % f"{near or 'concurrency'}: {POOL[near or 'concurrency']}",
            )
    yield from ((fault, concurrency) for fault in _faults_of_queues(pool.get("queues")))
    for key, (least, greatest) in POOL_NUMBERS.items():
        value = pool.get(key, least)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= greatest:
            yield (
                f"with `{key}` {value}, which is no whole number from {least} to {greatest}",
                example % f"{key}: {POOL[key]}",
            )
    for key, known in (("pool", POOL_KINDS), ("log_level", LOG_LEVELS)):
        if pool.get(key, known[0]) not in known:
            yield f"with `{key}` {pool[key]}, which is none of {', '.join(known)}", example % f"{key}: {POOL[key]}"
    for key in ("memory_high", "memory_max"):
        if fault := fault_of_limit(pool.get(key), needed_mb):
            yield f"with `{key}` {pool[key]}, {fault}", example % f"{key}: {2 * (needed_mb or 256)}M"
    yield from ((fault, example % right) for fault, right in faults_together(pool, plain))


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
