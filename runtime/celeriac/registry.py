"""The registered tasks, what they take, and whether given arguments fit.

Everything that lets somebody start a task by its name asks here first: the console, the API, the
terminal, a rerun. Why not is said in the language that is active then: on a page, its reader's.
"""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, reduce
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from celery import Task, current_app
from django.apps import apps
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from kombu.utils import json

# Not the project's: Celery's own, and those that the deployment adds.
_FOREIGN = ("celery.", "celeriac.")

Kind = Literal["str", "int", "float", "number", "decimal", "bool", "json"]

_KINDS: dict[frozenset[Any], Kind] = {
    frozenset({str}): "str",
    frozenset({bool}): "bool",
    frozenset({int}): "int",
    frozenset({float}): "float",
    frozenset({int, float}): "number",
    frozenset({Decimal}): "decimal",
    # What takes any number takes an exact one.
    frozenset({int, Decimal}): "decimal",
    frozenset({float, Decimal}): "decimal",
    frozenset({int, float, Decimal}): "decimal",
}


class UnknownTaskError(LookupError):
    """No task of that name is registered here."""


class BadArgumentsError(ValueError):
    """The arguments do not fit the task; nothing was sent.

    Attributes:
        problems: what is wrong, by the name of the parameter; "" for the call as a whole.
    """

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{name}: {text}" if name else text for name, text in self.problems.items()))


@dataclass(frozen=True)
class Parameter:
    """One parameter of a task.

    Attributes:
        name: as in the function.
        kind: "str", "int", "float", "decimal" or "bool" where the annotation says so, "number" for `int | float`,
            "json" for all else.
        nullable: whether it may be None: `int | None`.
        required: whether it has no default.
        default: what is taken when it is not given.
        variadic: "*" or "**" for one that takes all the rest, else "".
    """

    name: str
    kind: Kind
    required: bool
    default: Any = None
    variadic: Literal["", "*", "**"] = ""
    nullable: bool = False


@dataclass(frozen=True)
class Registered:
    """A task that can be started by its name.

    Attributes:
        name: under which it is registered.
        app: whose module defines it, by its name in `INSTALLED_APPS`; the module itself where it is of none.
        description: the first sentence of its docstring.
        parameters: what it takes, in order; `self` of a bound task is not one.
        keeps_arguments: whether its arguments are stored, so that it can be run again.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    keeps_arguments: bool
    app: str = ""


def registered(text: str = "") -> list[Registered]:
    """Return the project's tasks by name; Celery's own and the deployment's are left out.

    Args:
        text: only those with each of its words in name, app or description, however it is written; "" for all.
    """
    words = text.casefold().split()
    found = (_described(name, task) for name, task in sorted(_tasks().items()) if is_ours(name))
    return [task for task in found if all(word in _searched(task) for word in words)]


def by_app(text: str = "") -> dict[str, list[Registered]]:
    """Return what `registered` does by app, apps and tasks by name."""
    found: dict[str, list[Registered]] = {}
    for task in sorted(registered(text), key=lambda task: task.app):
        found.setdefault(task.app, []).append(task)
    return found


def find(name: str) -> Registered:
    """Return a registered task.

    Raises:
        UnknownTaskError: there is none of that name.
    """
    return _described(name, task_named(name))


def check(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments with which a task cannot be called.

    Raises:
        UnknownTaskError: there is no such task.
        BadArgumentsError: they do not fit its signature, a value is not of the annotated kind, or is not JSON.
    """
    task = task_named(name)
    signature = inspect.signature(task.run)
    problems = dict(_argument_errors(signature, args, kwargs))
    if not problems:
        bound = signature.bind(*args, **kwargs)
        hints = _hints(task)
        for parameter, value in _each(signature, bound.arguments):
            problem = _not_json(value) or _wrong_kind(value, hints.get(parameter.partition("[")[0], Any))
            if problem:
                problems[parameter] = problem
    if problems:
        raise BadArgumentsError(problems)


def is_ours(name: str) -> bool:
    """Return whether a task of that name is the project's, and not Celery's own or the deployment's."""
    return not name.startswith(_FOREIGN)


def keeps_arguments(task: "Task[Any, Any]") -> bool:
    """Return whether the arguments of a task may be stored: `@shared_task(keep_arguments=False)` says no."""
    return bool(getattr(task, "keep_arguments", True))


def task_named(name: str) -> "Task[Any, Any]":
    """Return the project's task of that name, to send it.

    Raises:
        UnknownTaskError: there is none.
    """
    task = _tasks().get(name) if is_ours(name) else None
    if task is None:
        raise UnknownTaskError(_("There is no task %r here.") % name)
    return task


def _tasks() -> "Mapping[str, Task[Any, Any]]":
    """Return all registered tasks."""
    _import_all()
    tasks: Mapping[str, Task[Any, Any]] = current_app.tasks
    return tasks


@cache
def _import_all() -> None:
    """Import every `tasks.py`, once: a worker has done it, a web process has not."""
    autodiscover_modules("tasks")


def _described(name: str, task: "Task[Any, Any]") -> Registered:
    hints = _hints(task)
    return Registered(
        name=name,
        description=_first_sentence(inspect.getdoc(task.run) or ""),
        parameters=tuple(
            _parameter(parameter, hints.get(parameter.name))
            for parameter in inspect.signature(task.run).parameters.values()
        ),
        keeps_arguments=keeps_arguments(task),
        app=_app(task.__module__),
    )


def _app(module: str) -> str:
    found = apps.get_containing_app_config(module)
    return found.name if found else module


def _searched(task: Registered) -> str:
    return f"{task.name} {task.app} {task.description}".casefold()


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split())
    sentence, dot, _ = paragraph.partition(". ")
    return sentence + dot.strip()


def _parameter(parameter: inspect.Parameter, annotation: Any) -> Parameter:
    variadic: dict[Any, Literal["", "*", "**"]] = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    stars = variadic.get(parameter.kind, "")
    members = _members(annotation)
    without_default = parameter.default is parameter.empty
    return Parameter(
        name=parameter.name,
        kind="json" if stars else _kind(members),
        nullable=types.NoneType in members and not stars,
        required=without_default and not stars,
        default=None if without_default else parameter.default,
        variadic=stars,
    )


def _members(annotation: Any) -> frozenset[Any]:
    """Return what a union is one of; of anything else, itself."""
    is_union = get_origin(annotation) in {Union, types.UnionType}
    return frozenset(get_args(annotation) if is_union else [annotation])


def _kind(members: frozenset[Any]) -> Kind:
    """Return the kind of a parameter. Of a union only a number has one: a text is no number, and "1" may be either.

    A text or a choice that may be None is JSON, where "", null and false are three things.
    """
    kind = _KINDS.get(members - {types.NoneType}, "json")
    return "json" if types.NoneType in members and kind in {"str", "bool"} else kind


def _hints(task: "Task[Any, Any]") -> dict[str, Any]:
    """Return the annotations by parameter; none where one names something that cannot be found."""
    try:
        return get_type_hints(inspect.unwrap(task.run))
    except (NameError, TypeError):
        return {}


def _argument_errors(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield what is missing, too much, or given twice: as Python would, but all of it and by name."""
    parameters = signature.parameters.values()
    positional = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    named = {each.name for each in parameters if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}}
    kinds = {each.kind for each in parameters}
    if len(args) > len(positional) and inspect.Parameter.VAR_POSITIONAL not in kinds:
        problem = ngettext(
            "takes %(most)d positional argument at most, %(given)d were given",
            "takes %(most)d positional arguments at most, %(given)d were given",
            len(positional),
        )
        yield "", problem % {"most": len(positional), "given": len(args)}
    by_position = {each.name for each in positional[: len(args)]}
    for name in kwargs:
        if name in by_position & named:
            yield name, _("is given twice, by position and by name")
        elif name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            yield name, _("the task takes no argument of this name")
    for each in parameters:
        required = each.default is each.empty and each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
        if required and each.name not in by_position and not (each.name in kwargs and each.name in named):
            yield each.name, _("is required")


def _each(signature: inspect.Signature, arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return every value with the name of its parameter, those of variadic ones one by one."""
    for name, value in arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            yield from ((f"{name}[{number}]", each) for number, each in enumerate(value))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            yield from ((f"{name}[{key}]", each) for key, each in value.items())
        else:
            yield name, value


def _not_json(value: Any) -> str:
    """Return why a value would not reach the worker as it is, "" if it would.

    Celery's JSON carries dates, UUIDs and decimals, too. What looks like one of its envelopes and is a plain object
    would arrive as something else, or not at all.
    """
    try:
        arrived = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError, ArithmeticError):
        return _("is not JSON")
    return "" if _same(value, arrived) else _("would not arrive as it is")


def _same(sent: Any, arrived: Any) -> bool:
    if isinstance(sent, list | tuple):
        return (
            isinstance(arrived, list)
            and len(sent) == len(arrived)
            and all(_same(*pair) for pair in zip(sent, arrived, strict=True))
        )
    if isinstance(sent, dict):
        return (
            isinstance(arrived, dict)
            and sent.keys() == arrived.keys()
            and all(_same(value, arrived[key]) for key, value in sent.items())
        )
    return type(sent) is type(arrived) and bool(sent == arrived)


def _wrong_kind(value: Any, annotation: Any) -> str:
    return "" if _is_of_kind(value, annotation) else _("is not %(kind)s") % {"kind": _in_words(annotation)}


def _is_of_kind(value: Any, annotation: Any) -> bool:
    """Return False for what is certainly wrong; an annotation that is none of JSON's own kinds decides nothing."""
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        return any(_is_of_kind(value, each) for each in get_args(annotation))
    kind = origin or annotation
    if kind is None or kind is types.NoneType:
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is list or kind is Sequence:
        inner = (get_args(annotation) or (Any,))[0]
        return isinstance(value, list | tuple) and all(_is_of_kind(each, inner) for each in value)
    return not isinstance(kind, type) or kind not in {str, bool, dict} or isinstance(value, kind)


def _in_words(annotation: Any) -> str:
    words = {
        str: _("a text"),
        int: _("a whole number"),
        float: _("a number"),
        bool: _("true or false"),
        types.NoneType: "null",
    }
    if get_origin(annotation) in {Union, types.UnionType}:
        kinds = get_args(annotation)
        # Every whole number is a number.
        each_in_words = (_in_words(each) for each in kinds if not (each is int and float in kinds))
        return reduce(lambda one, other: _("%(one)s or %(other)s") % {"one": one, "other": other}, each_in_words)
    if (get_origin(annotation) or annotation) in {list, Sequence}:
        inner = get_args(annotation)
        return _("a list, each item %(kind)s") % {"kind": _in_words(inner[0])} if inner else _("a list")
    if (get_origin(annotation) or annotation) is dict:
        return _("an object")
    return words.get(annotation, _("of the right kind"))
