"""Commands of ``manage.py`` that the inventory adds to a step of a release."""

import io
import os
import shlex

from django.core.management import CommandError, call_command


def listed(variable: str, default: str = "") -> list[list[str]]:
    """Return the commands that a variable of the environment has, as lists of words.

    Args:
        variable: its name; it has a command a line, as a shell has the words.
        default: what counts where it is not set.
    """
    return [shlex.split(line) for line in os.environ.get(variable, default).splitlines()]


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
