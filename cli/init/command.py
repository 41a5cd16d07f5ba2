"""`celeriac init`."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import yaml

from cli import inventories
from cli.init.project import Guess
from cli.init.writing import choices_file, hosts_file, write
from cli.places import COLLECTIONS, INVENTORIES

_WHY = {"site_domain": "the name that people type into a browser", "site_source": "the project"}
_HOST = "host1"


@click.command()
@click.argument("source", default=".")
@click.option("--host", help="The address of a Debian host; `local` for this computer.")
@click.option("--user", default="", help="Who logs in there with a key of yours and may use sudo; or root.")
@click.option("--domain", help="The name that people type into a browser.")
@click.option(
    "--to", "into", type=click.Path(path_type=Path), help="The folder of the inventory; else inventory/<name>."
)
@click.option("--set", "said", multiple=True, metavar="NAME=VALUE", help="A choice that is not to be guessed.")
@click.option("--import", "is_trusted", is_flag=True, help="Import settings of a project that was fetched, too.")
@click.pass_context
def init(
    context: click.Context,
    source: str,
    host: str | None,
    user: str,
    domain: str | None,
    into: Path | None,
    said: tuple[str, ...],
    is_trusted: bool,
) -> None:
    """Write the inventory of the project in SOURCE.

    SOURCE is a folder, or what `site_source` may be beside that: an archive, a package==1.2, the address of a
    repository. Each guess is said; nothing on a host is touched.
    """
    choices = {"site_source": source, **_said(said)}
    if "://" not in source and Path(source).is_dir():
        choices["site_source"] = str(Path(source).resolve())
    folder = into.expanduser().resolve() if into else INVENTORIES / _name_of(choices["site_source"])
    if folder.is_dir() and any(folder.iterdir()):
        raise click.ClickException(f"{folder} is there already: edit it, or give another with --to.")
    host = host or _asked("The address of your host", "--host 203.0.113.10")
    domain = domain or _asked("The name that people type into a browser", "--domain www.mysite.org")
    # Ansible has an importer of its own for collections, and takes a second to be imported.
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader([str(COLLECTIONS)])
    from cli.init.work import Draft, problems_of_inventory, work_out

    said_first = {"site_domain": domain, **choices}
    draft = Draft([Guess(name, value, _WHY.get(name, "as you said")) for name, value in said_first.items()])
    try:
        work_out(folder, draft, is_trusted=is_trusted)
    except click.ClickException:
        shutil.rmtree(folder)  # there was nothing in it
        raise
    files = {
        "hosts.yml": hosts_file(_HOST, host, user),
        "group_vars/all/site.yml": choices_file(draft.guesses, draft.unknown),
        ".gitignore": "# Passwords that the first run makes: keep them, and keep them out of git.\n.secrets/\n",
    }
    write(folder, files)
    click.echo(f"\nWritten: {folder}")
    for number, remark in enumerate(draft.remarks, 1):
        click.echo(f"  {number}. {remark}")
    if problems := problems_of_inventory(folder):
        raise click.ClickException(f"preflight will refuse it:\n{problems}")
    click.echo(f"\nNext: celeriac{_naming(folder)} converge")


def _said(words: Iterable[str]) -> dict[str, Any]:
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            name, equals, text = word.partition(": ")
        if not equals:
            raise click.BadParameter(f"{word}: write it as NAME=VALUE, site_source_folder=src, say.")
        found[name.strip()] = yaml.safe_load(text)
    return found


def _name_of(source: str) -> str:
    last = re.split(r"==|[?#]", source.rstrip("/"))[0].rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    return re.sub(r"[^a-z0-9-]+", "-", last.removesuffix(".git").lower()).strip("-") or "mine"


def _asked(question: str, example: str) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} is needed: {example}")
    answer: str = click.prompt(question)
    return answer


def _naming(folder: Path) -> str:
    """Return how the inventory is named on the command line; nothing where it is found by itself."""
    try:
        if inventories.chosen(None) == folder:
            return ""
    except click.UsageError:
        pass  # there are several
    return f" -i {folder.name if folder.parent == INVENTORIES else folder}"
