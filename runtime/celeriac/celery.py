"""``python -m celeriac.celery …`` is ``celery …`` that imports what it needs for the command that it is to run.

``celery`` imports the commands that other packages add, all of them, and a shell for ``celery amqp``: 0.4 s of a
processor at the start of a worker or a beat, a third of it, and 12 MB as long as it lives, most of it for Flower.
"""

import importlib.metadata
import sys
from importlib.metadata import EntryPoints
from types import SimpleNamespace
from typing import Any, cast

from celery.__main__ import main

_entry_points = importlib.metadata.entry_points


def entry_points(**which: Any) -> Any:
    """Return the entry points of the installed packages; of commands of ``celery`` those that are to run.

    Args:
        **which: what they are to have, as for the function of this name in the standard library.
    """
    found: Any = _entry_points(**which)
    if which.get("group") == "celery.commands":
        return EntryPoints(command for command in found if command.name in sys.argv)
    return found


if __name__ == "__main__":
    # `main` imports its commands when it is called: gevent and eventlet want to be the first.
    importlib.metadata.entry_points = cast("Any", entry_points)
    sys.modules["click_repl"] = cast("Any", SimpleNamespace(register_repl=lambda group: None))
    main()
