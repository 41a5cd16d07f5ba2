"""What the choices of processes become: the rows of `site_all_processes`, and what is written into units."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

DOCUMENTATION = r"""
name: processes
short_description: Processes that an inventory chooses
description:
  - C(pool_processes) makes rows of C(site_all_processes) of C(celery_worker_pools).
  - C(systemd_words) writes words as a command of a unit has them.
options:
  _input:
    description: What is chosen, as a mapping by name; or the words.
    type: raw
    required: true
author: [Celeriac]
"""

# Megabytes of a worker with its first process, and of each process of its pool; as in needs.yml.
WORKER_MB, TASK_MB = 55, 50
# A worker that drains twice, beside the new one.
SETS_OF_WORKERS = 3

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


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by their names."""
        return {"pool_processes": pool_processes, "systemd_words": systemd_words}
