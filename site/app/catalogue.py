"""The registered tasks, what they take, and whether given arguments fit.

Everything that lets somebody start a task by its name asks here first: the console, the API, the
terminal, a rerun.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["str", "int", "float", "bool", "json"]


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
        kind: "str", "int", "float" or "bool" where the annotation says so, "json" for all else.
        required: whether it has no default.
        default: what is taken when it is not given.
        variadic: "*" or "**" for one that takes all the rest, else "".
    """

    name: str
    kind: Kind
    required: bool
    default: Any = None
    variadic: Literal["", "*", "**"] = ""


@dataclass(frozen=True)
class Registered:
    """A task that can be started by its name.

    Attributes:
        name: under which it is registered.
        description: the first sentence of its docstring.
        parameters: what it takes, in order; `self` of a bound task is not one.
        keeps_arguments: whether its arguments are stored, so that it can be run again.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    keeps_arguments: bool


def registered() -> list[Registered]:
    """Return the project's tasks by name; Celery's own and the deployment's are left out."""
    raise NotImplementedError


def find(name: str) -> Registered:
    """Return a registered task.

    Raises:
        UnknownTaskError: there is none of that name.
    """
    raise NotImplementedError


def check(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Say nothing if a task can be called with these arguments.

    Raises:
        UnknownTaskError: there is no such task.
        BadArgumentsError: they do not fit its signature, a value is not of the annotated kind, or is not JSON.
    """
    raise NotImplementedError
