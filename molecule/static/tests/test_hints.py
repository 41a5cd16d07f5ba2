"""A failed step ends with the choice of the inventory that helps: by what the programs really print."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from ansible_collections.celeriac.site.plugins.module_utils.site_hints import HINTS, with_hints
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.bundle import Bundle

PRINTED = {
    "no compiler": (
        "         error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-g++'\n",
        "`site_build_packages: [gcc,",
    ),
    "no header": (
        "         ./lib/ultrajson.h:56:10: fatal error: stdio.h: No such file or directory\n"
        "            56 | #include <stdio.h>\n"
        "         compilation terminated.\n",
        "`site_build_packages: [gcc,",
    ),
    "no library": ("         Error: pg_config executable not found.\n", "libpq-dev]`"),
    "no pkg-config, said by a shell": ("         /bin/sh: 1: pkg-config: not found\n", "g++, pkgconf,"),
    "no pkg-config, said by Python": (
        "         FileNotFoundError: [Errno 2] No such file or directory: 'pkg-config'\n",
        "g++, pkgconf,",
    ),
    "no program of a library": (
        "         ConfigurationError: Could not run curl-config: [Errno 2] No such file or directory: 'curl-config'\n",
        "g++, pkgconf,",
    ),
    "no library, in words of a package's own": (
        "error: Failed to build `borgbackup==1.4.5`\n  cause: The build backend returned an error\n"
        "  cause: Call to `setuptools.build_meta.get_requires_for_build_wheel` failed (exit status: 1)\n\n"
        "         [stderr]\n"
        "         Exception: Could not find crypto lib/headers, please set BORG_OPENSSL_PREFIX or ensure libcrypto.pc "
        "is in PKG_CONFIG_PATH.\n",
        "g++, pkgconf,",
    ),
    "no namespace, asked for in a version": (
        "    raise ValueError('Namespace %s not available' % namespace)\nValueError: Namespace Rsvg not available\n",
        "GObject finds no Rsvg on the host",
    ),
    "no namespace, imported": (
        "                      'introspection typelib not found' % namespace)\n"
        "ImportError: cannot import name Rsvg, introspection typelib not found\n",
        "gir1.2-rsvg-2.0]`",
    ),
    "no library for the loader": (
        "ImportError: libxcb.so.1: cannot open shared object file: No such file or directory\n",
        "The host has no libxcb.so.1: ",
    ),
    "no library for cffi": (
        'OSError: no library called "libcairo-2" was found\n'
        "cannot load library 'libcairo-2.dll': libcairo-2.dll: cannot open shared object file: No such file or "
        "directory.  Additionally, ctypes.util.find_library() did not manage to locate a library called "
        "'libcairo-2.dll'\n",
        "The host has no libcairo-2: ",
    ),
    "no library for python-magic": (
        "    raise ImportError('failed to find libmagic.  Check your installation')\n"
        "ImportError: failed to find libmagic.  Check your installation\n",
        "The host has no libmagic: ",
    ),
    "no library for pyzbar": ("ImportError: Unable to find zbar shared library\n", "The host has no zbar: "),
    "no library for psycopg": (
        "- couldn't import psycopg 'python' implementation: libpq library not found\n",
        "The host has no libpq: ",
    ),
    "a table in SQLite": (
        "set-up: Django 5.2.19 (0.79 s)\ncheck: failed after 0.12 s\nTraceback (most recent call last):\n"
        "django.db.utils.OperationalError: no such table: work_theme",
        "`site_check: after_migrate`",
    ),
    "a table in PostgreSQL": (
        "check: failed after 0.12 s\nTraceback (most recent call last):\n"
        'psycopg.errors.UndefinedTable: relation "work_theme" does not exist\n',
        "`site_check: after_migrate`",
    ),
    "findings": (
        "check: failed after 0.20 s\nSystem check identified some issues:\n\nWARNINGS:\n"
        "?: (security.W004) You have not set a value for the SECURE_HSTS_SECONDS setting.\n"
        "?: (security.W016) You have 'django.middleware.csrf.CsrfViewMiddleware' in your MIDDLEWARE.\n"
        "work.Note: (models.W042) Auto-created primary key used when not defining a primary key type.\n"
        "work.More: (models.W042) Auto-created primary key used when not defining a primary key type.\n",
        "`site_check_ignore: [security.W004, security.W016, models.W042]`",
    ),
    "a name that is refused": (
        "GET /health/: 400 where 200 is right: <h1>Bad Request (400)</h1>",
        "`site_domain_aliases`; where the project reads another variable, it belongs into `site_environment`",
    ),
    "an app that is not there": (
        "celery.exceptions.ImproperlyConfigured: CELERIAC_CELERY_APP=demo.cellery: No module named 'demo.cellery'",
        "CELERIAC_CELERY_APP is `site_celery_app`",
    ),
    "an application that is not there": (
        "celery.exceptions.ImproperlyConfigured: CELERIAC_WSGI_APPLICATION=demo.wsgi:app is not a WSGI application",
        "CELERIAC_WSGI_APPLICATION is `site_wsgi_application`",
    ),
    "a Redis without its password": (
        "redis.exceptions.AuthenticationError: HELLO must be called with the client already authenticated, otherwise "
        "the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP "
        "protocol version at the same time\n",
        "`{{ site_broker_url }}`",
    ),
    "a broker without its password": (
        "kombu.exceptions.OperationalError: Authentication required.\n",
        "`{{ site_broker_url }}`",
    ),
    "a slow start": (
        "gunicorn-0123456789ab.service: start operation timed out. Terminating.",
        "`site_start_timeout_seconds`",
    ),
}


@pytest.mark.parametrize("case", PRINTED)
def test_what_was_printed_is_followed_by_the_choice_that_helps(case: str) -> None:
    printed, helps = PRINTED[case]
    first, *hints = with_hints(printed).removeprefix(printed).splitlines()
    assert first == ""
    assert len(hints) == 1
    assert helps in hints[0]


@pytest.mark.parametrize(
    ("command", "helps"),
    [
        (["/usr/bin/env", "--", "no-such-program", "ci"], "The host has no no-such-program: "),
        ([sys.executable, "-c", "import no_such_module.part"], "No no_such_module is in the release"),
        # As a Python says it that has no setuptools, or a new one.
        ([sys.executable, "-S", "-c", "import pkg_resources"], "`site_requirements: ['setuptools<81']`"),
    ],
)
def test_a_program_or_a_module_that_is_missing_is_named(command: list[str], helps: str) -> None:
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert helps in with_hints(printed)


def test_what_nothing_is_known_of_stays_as_it_is() -> None:
    assert with_hints("django.db.utils.DataError: division by zero") == "django.db.utils.DataError: division by zero"


def test_a_table_that_a_migration_misses_is_no_matter_of_checks() -> None:
    text = "check: nothing at WARNING or above (0.2 s)\nmigrate: failed after 0.1 s\nno such table: work_theme"
    assert with_hints(text) == text


def test_each_choice_that_is_named_is_one(bundle: Bundle) -> None:
    named = {name for _, hint in HINTS for name in re.findall(r"`(site_\w+)", hint)}
    assert len(named) > 5
    assert named <= set(bundle.settable)
