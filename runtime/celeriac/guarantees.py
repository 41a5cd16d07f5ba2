"""Which task is executed at least once, which at most once, and who says so.

At least once: it is acknowledged when it has ended, and is back in its queue when its process is lost.
At most once: it is acknowledged when it starts. (Who is killed in between has begun it, and it runs
again.) Of each of the two attributes of a task that make the difference, ``acks_late`` and
``reject_on_worker_lost``, the first of these decides that says something:

===================================================  ==============================================
the inventory of this task (by name or pattern)      ``CELERIAC_TASK_GUARANTEES``, a JSON object
the project of this task                             ``task_annotations``
the task                                             ``@shared_task(acks_late=…)``, or its base class
the inventory of all tasks: ``at_most_once``         ``CELERIAC_TASK_GUARANTEE``
the project of all tasks                             its settings
the inventory of all tasks: ``at_least_once``        the same, and where there is none
Celery
===================================================  ==============================================

A guarantee ``project`` says nothing.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from celery import Celery
from celery.app.annotations import resolve_all

from celeriac import internals
from celeriac.defaults import DURABLE, unset

AT_LEAST_ONCE, AT_MOST_ONCE, PROJECT = "at_least_once", "at_most_once", "project"

# By the attribute of a task, the setting that all tasks have it from.
_SETTINGS = {name.removeprefix("task_"): name for name in DURABLE if name.startswith("task_")}
# What each guarantee is made of.
_MADE_OF: Mapping[str, Mapping[str, bool]] = {
    AT_LEAST_ONCE: dict.fromkeys(_SETTINGS, True),
    AT_MOST_ONCE: {"acks_late": False},
    PROJECT: {},
}

# Who says so.
INVENTORY, OF_PROJECT, TASK = "inventory", "project", "task"

# Not the project's.
_OTHERS = ("celery.", "celeriac.")


class Choices(NamedTuple):
    """What is said of an app, and not by its tasks.

    Attributes:
        everywhere: the guarantee of the inventory for all tasks.
        by_name: those for some, by name or pattern.
        settings: what the project has set, by attribute.
    """

    everywhere: str = AT_LEAST_ONCE
    by_name: Mapping[str, str] = {}
    settings: Mapping[str, bool | None] = {}

    def of(self, name: str) -> str | None:
        """Return the guarantee that the inventory gives to this task: a name goes before a pattern."""
        fitting = (found for pattern, found in self.by_name.items() if fnmatchcase(name, pattern))
        return self.by_name.get(name) or next(fitting, None)


_choices: WeakKeyDictionary[Celery, Choices] = WeakKeyDictionary()
_own: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()
_said_by: WeakKeyDictionary[type, Mapping[str, str]] = WeakKeyDictionary()


def decide(attribute: str, chosen: str | None, choices: Choices, said_by: str | None) -> tuple[bool | None, str]:
    """Return what an attribute is to be (None: as it is), and who says so.

    Args:
        attribute: of a task.
        chosen: the guarantee that the inventory gives to this task.
        choices: for all tasks.
        said_by: who has said something of this task: the task, its project, nobody.
    """
    everywhere = PROJECT if chosen == PROJECT else choices.everywhere
    if chosen and attribute in _MADE_OF[chosen]:
        return _MADE_OF[chosen][attribute], INVENTORY
    if said_by:
        return None, said_by
    if everywhere == AT_MOST_ONCE and attribute in _MADE_OF[everywhere]:
        return _MADE_OF[everywhere][attribute], INVENTORY
    if attribute in choices.settings:
        return choices.settings[attribute], OF_PROJECT
    if everywhere == AT_LEAST_ONCE:
        return _MADE_OF[everywhere][attribute], INVENTORY
    return False, OF_PROJECT


def lay(app: Celery) -> None:
    """Give each task of an app its guarantee, and those that it gets later. Doing it again changes nothing.

    Args:
        app: of the project, with its settings.
    """
    if app in _choices:
        return
    choices = _choices[app] = Choices(
        os.environ.get("CELERIAC_TASK_GUARANTEE") or AT_LEAST_ONCE,
        json.loads(os.environ.get("CELERIAC_TASK_GUARANTEES") or "{}"),
        {each: app.conf[name] for each, name in _SETTINGS.items() if internals.is_set(app, name)},
    )
    if choices.everywhere == AT_LEAST_ONCE:
        app.conf.update(unset(app, DURABLE))
    for task in [each for each in _own if getattr(each, "app", None) is app]:
        _lay_on(app, task, choices)


def report(app: Celery) -> dict[str, Any]:
    """Return how many tasks of the project have which guarantee, and of those that are not like most, which and why.

    Args:
        app: of the project, with its tasks.
    """
    found = {name: _found(task) for name, task in sorted(app.tasks.items()) if not name.startswith(_OTHERS)}
    counts = Counter(guarantee for guarantee, _ in found.values())
    most = max(counts, key=counts.__getitem__, default=None)
    return {
        "counts": dict(counts.most_common()),
        "others": {name: each for name, each in found.items() if each[0] != most},
    }


def _found(task: Any) -> tuple[str, str]:
    """Return the guarantee of a task, and who says so."""
    said_by = _said_by.get(type(task), {})
    late, back = "acks_late", "reject_on_worker_lost"
    if not task.acks_late:
        return AT_MOST_ONCE, said_by.get(late, OF_PROJECT)
    if not task.reject_on_worker_lost:
        return "neither", said_by.get(back, OF_PROJECT)
    return AT_LEAST_ONCE, said_by.get(late, OF_PROJECT)


def _bound(app: Celery, task: type, own: set[str]) -> None:
    _own.setdefault(task, frozenset(own))
    if app in _choices:
        _lay_on(app, task, _choices[app])


def _lay_on(app: Celery, task: Any, choices: Choices) -> None:
    annotated = {attribute for each in resolve_all(app.annotations, task) for attribute in each}
    said_by = {**dict.fromkeys(_own[task], TASK), **dict.fromkeys(annotated, OF_PROJECT)}
    chosen, why = choices.of(task.name), {}
    for attribute in _SETTINGS:
        value, why[attribute] = decide(attribute, chosen, choices, said_by.get(attribute))
        if why[attribute] != said_by.get(attribute):
            setattr(task, attribute, value)
    _said_by[task] = why


# At the import of this module, for that is before the project has tasks.
internals.on_bind(_SETTINGS, _bound)
