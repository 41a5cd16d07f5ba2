"""Commands of ``manage.py`` that the inventory adds: to a step of a release, or as processes and timers."""

import difflib
import io
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from django.core.management import CommandError, call_command, get_commands


def listed(variable: str, default: str = "") -> list[list[str]]:
    """Return the commands that a variable of the environment has, as lists of words.

    Args:
        variable: its name; it has a command a line, as a shell has the words.
        default: what counts where it is not set.
    """
    return [shlex.split(line) for line in os.environ.get(variable, default).splitlines()]


def check() -> str:
    """Find out whether each command that the inventory adds is there.

    ``CELERIAC_CHOSEN_COMMANDS`` has them as JSON: what an operator calls each, and its ``command`` of ``manage.py``, or
    its ``program``, as lists of words.

    Returns:
        How many there are.

    Raises:
        CommandError: one is not there; with those that are called nearly so.
    """
    chosen = json.loads(os.environ.get("CELERIAC_CHOSEN_COMMANDS") or "{}")
    known = sorted(get_commands())
    faults = []
    for choice, words in chosen.items():
        name = str((words.get("program") or words["command"])[0])
        if "program" in words:
            if not shutil.which(name, path=str(Path(sys.executable).parent)):
                faults.append(
                    f"{choice} is the program {name}, and the virtualenv of the release has none of this name."
                )
        elif name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, 5, 0.5)) or "manage.py help shows those there are"
            faults.append(f"{choice} is manage.py {name}, and the project has no such command ({near}).")
    if faults:
        raise CommandError("\n".join(faults))
    return f"{len(chosen)} are there"


def run(words: list[str]) -> None:
    """Run a command; what it prints is shown when it fails.

    Args:
        words: the command of ``manage.py``, and its arguments.

    Raises:
        CommandError: it ended with an exit code. Other errors are its own, with a note of what it printed.
    """
    name, output = words[0], io.StringIO()
    try:
        call_command(*words, stdout=output, stderr=output)
    except SystemExit as error:
        if error.code:
            raise CommandError(f"manage.py {name} ended with {error.code}.\n{output.getvalue().strip()}") from None
    except Exception as error:
        error.add_note(f"This was manage.py {name}.\n{output.getvalue().strip()}")
        raise
