"""The work of `celeriac init`: a project and an inventory are read by what preflight and a deploy read them by.

Ansible's importer of collections has to be there before this is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from ansible.parsing.dataloader import DataLoader
from ansible_collections.celeriac.site.plugins.module_utils.site_systems import NEWEST_PYTHON
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.fetch import fetched
from ansible_collections.celeriac.site.plugins.plugin_utils.origin.origin import FOLDER, Origin
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.bundle import read_bundle
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.check import problems_of
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.inventory import Inventory
from ansible_collections.celeriac.site.plugins.plugin_utils.preflight.source import SourceError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.errors import LockError
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.projects import Wanted
from ansible_collections.celeriac.site.plugins.plugin_utils.resolve.resolve import Locked, resolve

from cli.init.choices import of_environment, of_settings, undecided
from cli.init.project import Guess, Project, UnclearError
from cli.init.trial import Trial, TrialError, try_out
from cli.places import REPOSITORY

# What a choice is called in the fact `site_project`.
_OF_PROJECT = {
    "source": "site_source",
    "source_version": "site_source_version",
    "folder": "site_source_folder",
    "lock": "site_lock",
    "extras": "site_lock_extras",
    "groups": "site_lock_groups",
    "requirements": "site_requirements",
    "python": "site_python",
    "index_url": "site_index_url",
    "extra_index_urls": "site_extra_index_urls",
}
_LISTS = frozenset({"extras", "groups", "requirements", "extra_index_urls"})


@dataclass
class Draft:
    """An inventory that is being worked out.

    Attributes:
        guesses: the choices, each with its reason.
        unknown: variables that the settings ask for, and of which nobody here knows what they mean.
        remarks: what a person has to look at, a sentence each.
    """

    guesses: list[Guess]
    unknown: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def values(self) -> dict[str, Any]:
        """Return the choices."""
        return {guess.name: guess.value for guess in self.guesses}

    def add(self, more: Iterable[Guess]) -> None:
        """Add what was not said or guessed before, and say it."""
        for guess in more:
            if guess.name not in self.values:
                self.guesses.append(guess)
                shown = ", ".join(guess.value) if isinstance(guess.value, dict) else guess.value
                click.echo(f"  {guess.name}: {shown}  ({guess.why})")

    def choose_asgi(self) -> None:
        """Let the application for websockets be the only one, where there is one."""
        if "site_asgi_application" in self.values:
            self.guesses = [guess for guess in self.guesses if guess.name != "site_wsgi_application"]

    def project(self, beside: Path) -> dict[str, Any]:
        """Return what the fact `site_project` would be of an inventory in a folder."""
        values = self.values
        fact = {name: values.get(choice, [] if name in _LISTS else "") for name, choice in _OF_PROJECT.items()}
        return {**fact, "beside": str(beside), "monitored": True, "asgi": "site_asgi_application" in values}


def work_out(folder: Path, draft: Draft, *, is_trusted: bool) -> None:
    """Work out the inventory of a project; its exact versions are written.

    Args:
        folder: of the inventory.
        draft: with what was said; the rest comes into it.
        is_trusted: whether settings of a project that was fetched are imported.

    Raises:
        click.ClickException: there is no such project, or no versions of its packages.
    """
    try:
        _work_out(folder, draft, is_trusted=is_trusted)
    except (SourceError, LockError) as error:
        raise click.ClickException(f"{error}\n  In the words of the inventory (--set): {error.remedy}") from None
    except UnclearError as error:
        raise click.ClickException(str(error)) from None


def problems_of_inventory(folder: Path) -> str:
    """Return what preflight says of an inventory; nothing of a host is asked."""
    inventory = Inventory(read_bundle(REPOSITORY), DataLoader(), [str(folder)], {})
    return "\n".join(f"  {problem}" for problem in dict.fromkeys(problems_of(inventory)))


def _work_out(folder: Path, draft: Draft, *, is_trusted: bool) -> None:
    fact = draft.project(folder)
    is_foreign = Origin.from_fact(fact).kind != FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    here = fetched(fact, ask=True, write=True)
    _say(here.remark)
    project = Project(here.folder, fact["folder"] or None)
    draft.add(project.guesses())
    wanted, locked = _locked(folder, draft, here.folder)
    _say(locked.remark)
    draft.remarks += _not_found(draft.values)
    if "site_settings_module" not in draft.values:
        return
    if is_foreign and not is_trusted:
        draft.remarks.append("The settings were not imported, for the project is somebody's: with --import they are.")
        return
    click.echo("Importing the settings …")
    try:
        trial = _tried(wanted, locked.file, project, draft.values)
    except TrialError as error:
        draft.remarks.append(f"The settings were not imported here, so they were not looked at. {error}")
        return
    draft.add(of_environment(trial))
    draft.add(of_settings(trial))
    draft.choose_asgi()
    draft.unknown += trial.unknown
    if trial.unknown:
        draft.remarks.append(
            f"The settings stop without {', '.join(trial.unknown)}: site_environment has to have them."
        )
    draft.remarks += undecided(trial, draft.values)


def _locked(folder: Path, draft: Draft, source: Path) -> tuple[Wanted, Locked]:
    """Return the exact versions; those of the newest hosts, where packages ask for their Python."""
    wanted = Wanted.from_fact(draft.project(folder), source)
    try:
        return wanted, resolve(wanted, folder / "site.lock.txt")
    except LockError as error:
        if error.choice != "site_python" or wanted.python:
            raise
        draft.add([Guess("site_python", NEWEST_PYTHON, str(error).partition(",")[0])])
        return _locked(folder, draft, source)


def _tried(wanted: Wanted, lock: Path, project: Project, values: Mapping[str, Any]) -> Trial:
    given = values.get("site_environment")
    environment = {name: str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    module, app = str(values["site_settings_module"]), str(values.get("site_celery_app", ""))
    return try_out(wanted, lock, project.root, module, app, environment)


def _not_found(values: Mapping[str, Any]) -> Iterable[str]:
    for name, what, example in (
        ("site_settings_module", "settings", "config.settings"),
        ("site_celery_app", "app of Celery", "config"),
        ("site_wsgi_application", "WSGI application", "config.wsgi:application"),
    ):
        if name not in values:
            yield f"No {what} is found. Set it: `{name}: {example}`."


def _say(remark: str) -> None:
    if remark:
        click.echo(remark)
