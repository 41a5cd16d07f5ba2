"""The words of `bin/celeriac`; the help of each is the docstring here."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from cli import hosts, inventories, playbooks
from cli.init.command import init

NAME = "celeriac"
# What a word passes on as it is: options of Ansible, of manage.py, of Celery.
AS_IT_IS = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
# Groups whose hosts run processes of the site.
PROCESSES = ("web", "workers", "beat", "monitor")
# Those that every site may have, for a shell that completes; the journal has them by these names through all releases.
COMPLETED = ("gunicorn", "celery-worker", "celery-beat", "flower")
# What all that a site has is called after, where its name is `default`.
PLAIN = "site"
# All processes of a site that a host knows, by the files that say how they run.
ALL_OF_THE_HOST = (
    'for each in /etc/{word}/processes/*.service; do set -- "$@" -t "$(basename "$each" .service)"; done; exec "$@"'
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-i",
    "--inventory",
    "named",
    envvar="CELERIAC_INVENTORY",
    metavar="INVENTORY",
    help="A folder, or the name of one in inventory/. Without it the folder here, or the only one of yours.",
    shell_complete=lambda *_: inventories.names(),
)
@click.pass_context
def celeriac(context: click.Context, named: str | None) -> None:
    """Django and Celery on bare Debian hosts: the words of every day."""
    context.obj = named


celeriac.add_command(init)


def _playbook(context: click.Context, name: str, *words: str) -> None:
    context.exit(playbooks.run(name, inventories.chosen(context.obj), words))


def _of_ansible(name: str, about: str) -> None:
    """Add a word that is a playbook, and passes on options of Ansible."""

    @celeriac.command(name, help=f"{about} More words are for ansible-playbook.", context_settings=AS_IT_IS)
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def _(context: click.Context, words: tuple[str, ...]) -> None:
        _playbook(context, {"converge": "site"}.get(name, name), *words)


_of_ansible("preflight", "Say what is wrong with the inventory and its hosts; change nothing.")
_of_ansible("converge", "Bring hosts to what the inventory says: everything. The first run, and after each change.")
_of_ansible("deploy", "Ship the release in site_source; nothing else.")
_of_ansible("backup", "Make a backup now.")


@celeriac.command(context_settings=AS_IT_IS)
@click.argument("release", required=False)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def rollback(context: click.Context, release: str | None, words: tuple[str, ...]) -> None:
    """Go back to the release before, or to RELEASE."""
    more = [release] if release else []
    if release and not release.startswith("-"):
        more = ["-e", f"release={release}"]
    _playbook(context, "rollback", *more, *words)


@celeriac.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document, and nothing else.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Say how the site is, host by host."""
    _playbook(context, "status", *(["-e", "format=json"] if as_json else []))


@celeriac.command()
@click.argument("state", type=click.Choice(["on", "off"]))
@click.option("--pause", is_flag=True, help="Workers and beat end what they run, and wait as well.")
@click.pass_context
def maintenance(context: click.Context, state: str, pause: bool) -> None:
    """Let people wait, or let them in again."""
    _playbook(context, "maintenance", "-e", f"state={state}", *(["-e", "processes=pause"] if pause else []))


@celeriac.command(context_settings=AS_IT_IS)
@click.argument("to")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def restore(context: click.Context, to: str, words: tuple[str, ...]) -> None:
    """Bring back what was backed up: TO is latest, a time or a label."""
    _playbook(context, "restore", "-e", f"to='{to}'", *words)


@celeriac.command(context_settings=AS_IT_IS)
@click.argument("secrets")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def rotate(context: click.Context, secrets: str, words: tuple[str, ...]) -> None:
    """Make SECRETS anew, with commas, or all: redis_password, say."""
    _playbook(context, "rotate", "-e", f"secret='{secrets}'", *words)


@celeriac.command(context_settings=AS_IT_IS)
@click.argument("name", required=False)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def remove(context: click.Context, name: str | None, words: tuple[str, ...]) -> None:
    """Take the site called NAME off its hosts; without it, it is asked for."""
    more = [name] if name else []
    if name and not name.startswith("-"):
        more = ["-e", f"remove={name}"]
    _playbook(context, "remove", *more, *words)


@celeriac.command()
@click.argument("processes", nargs=-1, shell_complete=lambda *_: [*COMPLETED])
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="Of each host.")
@click.option("--since", help='As journalctl has it: "10 min ago".')
@click.pass_context
def logs(context: click.Context, processes: tuple[str, ...], follow: bool, lines: int, since: str | None) -> None:
    """Show what PROCESSES have said, through all their releases; all of the site without any."""
    words = ["journalctl", "--no-pager", "--output=short-iso", f"--lines={lines}"]
    words += ["--follow"] if follow else []
    words += [f"--since={since}"] if since else []
    inventory = hosts.read(inventories.chosen(context.obj))
    found = inventory.hosts(*PROCESSES)
    word = _word(inventory, found[0]) if found else PLAIN
    words += [f"--identifier={name if word == PLAIN else f'{word}-{name}'}" for name in processes]
    if not processes:
        words = ["sh", "-c", ALL_OF_THE_HOST.replace("{word}", word), "sh", *words]
    context.exit(hosts.run_on_all(found, words))


def _word(inventory: hosts.Inventory, host: hosts.Host) -> str:
    """Return what the names of all that the site has begin with; of the one called `default` they do not."""
    name = inventory.choice(host, "site_name") or "default"
    return PLAIN if name == "default" else str(name)


def _on_a_host(name: str, group: str, about: str, command: str, *first: str) -> None:
    """Add a word that is a command on the first host of a group."""

    @celeriac.command(name, help=about, context_settings={**AS_IT_IS, "allow_interspersed_args": False})
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    @click.pass_context
    def _(context: click.Context, words: tuple[str, ...]) -> None:
        inventory = hosts.read(inventories.chosen(context.obj))
        host = inventory.first(group)
        context.exit(hosts.run(host, [f"{_word(inventory, host)}-{command}", *first, *words]))


_on_a_host("manage", "web", "Run WORDS as `manage.py WORDS` in the release that serves.", "manage")
_on_a_host("celery", "workers", "Run WORDS as `celery -A the project WORDS` there.", "celery")
_on_a_host("shell", "web", "Open Django's shell there.", "manage", "shell")
_on_a_host("alerts", "web", "`test` sends a message to whom the alerts go; `look` looks at that host now.", "alerts")
_on_a_host("run", "web", "Run any program there, with the project's packages and environment.", "run")


@celeriac.command("open")
@click.argument("path", default="/")
@click.pass_context
def open_page(context: click.Context, path: str) -> None:
    """Show a page of the site in the browser, or say where it is."""
    found = hosts.read(inventories.chosen(context.obj))
    address = f"https://{found.choice(found.first('web'), 'site_domain')}/{path.removeprefix('/')}"
    click.echo(address)
    if sys.stdout.isatty():
        webbrowser.open(address)


@celeriac.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what lets SHELL complete these words.

    For bash, it belongs into ~/.local/share/bash-completion/completions/celeriac.
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(celeriac, {}, NAME, f"_{NAME.upper()}_COMPLETE").source())


def main() -> None:
    """Do what the command line says."""
    celeriac(prog_name=NAME if Path(sys.argv[0]).name in ("cli", "__main__.py") else None)
