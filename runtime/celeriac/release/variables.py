"""What the settings of a project ask for and the environment does not have: all of it at once.

Each of these ends the import of the settings with words of its own: ``os.environ["NAME"]``, django-environ,
decouple, a project's own check. What they have in common is that the name was looked up, was not there, and
is in the words. It is given something, and the import is tried again.
"""

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

# What most settings can be made of: a number, a switch that is on, a text.
PLACEHOLDER = "1"


def missing(module: str) -> list[str]:
    """Return the variables without which the settings cannot be imported, in the order in which they are asked for.

    This process is of no other use then: it has placeholders in its environment.

    Args:
        module: ``DJANGO_SETTINGS_MODULE``.
    """
    found: list[str] = []
    while True:
        with _noted() as names:
            try:
                importlib.import_module(module)
            except Exception as error:
                words = set(re.findall(r"\w+", str(error)))
                # Others that were looked up may have a default.
                culprits = [name for name in names if name in words and name not in found]
            else:
                return found
        if not culprits:
            return found
        found.append(culprits[0])
        os.environ[culprits[0]] = PLACEHOLDER


def advice(names: list[str]) -> str:
    """Return what is said of missing variables, in the words of the inventory."""
    values = ", ".join(f"{name}: …" for name in names)
    return (
        f"the settings ask for {', '.join(names)}, which the environment does not have; in the inventory:\n"
        f"  site_environment: {{ {values} }}"
    )


@contextmanager
def _noted() -> Iterator[list[str]]:
    """Note the names that are looked up in the environment meanwhile and are not there."""
    names: list[str] = []
    kind: Any = type(os.environ)
    look_up = kind.__getitem__

    def noting(environment: Any, name: str) -> str:
        try:
            found: str = look_up(environment, name)
        except KeyError:
            names.append(name)
            raise
        return found

    # On the type: who has imported `environ` from `os` asks that, too.
    with patch.object(kind, "__getitem__", noting):
        yield names
