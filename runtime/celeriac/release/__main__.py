"""``python -m celeriac.release STEP…``: what a release goes through before it serves.

One process, so Django is set up once. The steps, in the order given on the command line:

``check``    ``manage.py check --deploy``, and the checks of every database; fails from the level
             ``CELERIAC_CHECK_FAIL_LEVEL`` on (default ``WARNING``), but for ``CELERIAC_CHECK_IGNORE``
``import``   the WSGI or ASGI application, every view, every task module; and each entry of the app's
             ``beat_schedule`` names a task that exists
``queues``   each queue that the project feeds is read by a worker, and each one of a pool is fed (`~.queues`)
``broker``   the broker that the inventory chooses lets the site in (`~.broker`)
``commands`` each command that the inventory lets run for ever, or by a timer, is there (`~.commands`)
``migrate``  commands of ``manage.py``, ``CELERIAC_MIGRATE_COMMANDS`` (a line each; default ``migrate``), each
             for at most ``CELERIAC_MIGRATE_SECONDS`` (default 600); on PostgreSQL one host at a time, and
             no statement waits longer than ``CELERIAC_LOCK_TIMEOUT_SECONDS`` (default 10) for a lock that
             live traffic holds; before ``migrate`` its plan is rehearsed, where there is a database for that
             (`~.rehearsal`), and the moment before them gets a name, ``CELERIAC_RESTORE_POINT``, where there are
             backups (`~.restore_point`)
``note``     the names of all migrations of this release, into ``CELERIAC_MIGRATIONS_FILE``
``schema``   every migration that the database has is known to this release: before a rollback
``fits``     the database has the migrations of this release, and no others: behind a restore
``reversible``  what it costs to take back the migrations that the release of ``CELERIAC_KNOWN_MIGRATIONS`` does
             not know; fails where that cannot be done
``reverse``  takes them back
``move_back``  what waits in the broker is moved to the one before (`celeriac.moving`)
``static``   ``manage.py collectstatic``, where the project uses staticfiles, and behind it the commands of
             ``manage.py`` in ``CELERIAC_STATIC_COMMANDS`` (a line each)
``admin``    a superuser ``CELERIAC_ADMIN_USERNAME`` with ``CELERIAC_ADMIN_PASSWORD``; to one who is
             there it is given only with ``CELERIAC_ADMIN_PASSWORD_IS_NEW``

Before the first, Django is set up; of variables that the settings ask for and that are missing, all
are named at once (`~.variables`). A step prints one line. The first that fails prints why, and the exit code is 1.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable

import django
from django.core.management import CommandError

from celeriac.release import broker, commands, migrations, queues, static, steps, variables

STEPS: dict[str, Callable[[], str]] = {
    "check": steps.check,
    "import": steps.import_everything,
    "queues": queues.check,
    "broker": broker.check,
    "commands": commands.check,
    "migrate": migrations.migrate,
    "note": migrations.note,
    "schema": migrations.known,
    "fits": migrations.fits,
    "reversible": migrations.reversible,
    "reverse": migrations.reverse,
    "move_back": steps.move_back,
    "static": static.collect,
    "admin": steps.admin,
}


def main(names: list[str]) -> int:
    """Run the named steps.

    Args:
        names: keys of `STEPS`.

    Returns:
        The exit code: 0, 1 after a step failed, 2 for a name that is not a step.
    """
    unknown = [name for name in names if name not in STEPS]
    if unknown or not names:
        print(f"usage: python -m celeriac.release STEP…  with {' '.join(STEPS)}", file=sys.stderr)
        return 2
    run = [("set-up", _set_up), *((name, STEPS[name]) for name in names)]
    return 0 if all(_run(name, step) for name, step in run) else 1


def _set_up() -> str:
    try:
        django.setup()
    except Exception as error:
        if missing := variables.missing(os.environ.get("DJANGO_SETTINGS_MODULE", "")):
            raise CommandError(variables.advice(missing)) from error
        raise
    return f"Django {django.get_version()}"


def _run(name: str, step: Callable[[], str]) -> bool:
    started = time.monotonic()
    try:
        outcome = step()
    except Exception as error:
        print(f"{name}: failed after {time.monotonic() - started:.2f} s", flush=True)
        if isinstance(error, CommandError):  # a command's own words; its stack says nothing
            print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        else:
            traceback.print_exc()
        return False
    print(f"{name}: {outcome} ({time.monotonic() - started:.2f} s)", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
