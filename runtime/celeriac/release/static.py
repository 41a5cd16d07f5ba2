"""The static files of a release: collected where nginx finds them, under the address that it serves."""

import io
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core import checks
from django.core.files.storage import FileSystemStorage
from django.core.management import CommandError, call_command

from celeriac.release import commands


def register() -> None:
    """Have Django's ``check`` compare ``STATIC_URL`` with what nginx serves (``CELERIAC_STATIC_URL``)."""

    def address_is_served(**_: Any) -> list[checks.CheckMessage]:
        served = os.environ.get("CELERIAC_STATIC_URL")
        # One with a host is a CDN's, or a bucket's.
        if not served or not _is_used() or urlsplit(settings.STATIC_URL).netloc or served == settings.STATIC_URL:
            return []
        return [
            checks.Error(
                f"STATIC_URL of the project is {settings.STATIC_URL!r}, and nginx serves {served!r}.",
                hint=f"Choose `site_static_url: {settings.STATIC_URL}` in the inventory.",
                id="celeriac.E002",
            )
        ]

    checks.register(address_is_served, checks.Tags.staticfiles)


def collect() -> str:
    """Collect the static files into STATIC_ROOT, and run what makes more of them (`CELERIAC_STATIC_COMMANDS`)."""
    if not _is_used():
        return "the project does not use django.contrib.staticfiles"
    _refuse_another_folder()
    output = io.StringIO()
    call_command("collectstatic", interactive=False, stdout=output)
    _collect_lists_of_vite()
    done = [output.getvalue().strip().rpartition("\n")[2].rstrip(".")]
    for words in commands.listed("CELERIAC_STATIC_COMMANDS"):
        commands.run(words)
        done.append(f"{words[0]} done")
    return ", ".join(done)


def _collect_lists_of_vite() -> None:
    """Collect what Vite says of the files that it made: ``collectstatic`` leaves out what begins with a dot.

    A page that is made from it asks STATIC_ROOT for it (https://vite.dev/guide/backend-integration.html).
    """
    found = (each for finder in get_finders() for each in finder.list([]))
    # The first one counts, as for all others.
    for path, storage in reversed([*found]):
        if path.split("/")[-2:] == [".vite", "manifest.json"]:
            prefix = getattr(storage, "prefix", None)
            place = Path(settings.STATIC_ROOT, prefix or "", path)
            place.parent.mkdir(parents=True, exist_ok=True)
            with storage.open(path) as file:
                place.write_bytes(file.read())


def _is_used() -> bool:
    return bool(apps.is_installed("django.contrib.staticfiles"))


def _refuse_another_folder() -> None:
    """Refuse a storage with a folder of its own: it would be filled, and every page be without its styles."""
    if not isinstance(staticfiles_storage, FileSystemStorage) or not settings.STATIC_ROOT:
        return
    if os.path.realpath(staticfiles_storage.location) != os.path.realpath(settings.STATIC_ROOT):
        raise CommandError(
            f"the storage of the static files writes to {staticfiles_storage.location}, and nginx serves what is in "
            f'STATIC_ROOT, {settings.STATIC_ROOT}: take `location` out of the OPTIONS of STORAGES["staticfiles"]'
        )
