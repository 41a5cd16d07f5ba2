"""Secrets of an inventory that are made anew: what is there goes, and the run that follows makes another one."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

ALL = "all"
SECRET_KEY = "secret_key"
# What was signed with this one holds on (SECRET_KEY_FALLBACKS of Django).
FALLBACK = "secret_key.fallback"
# Those that the first run makes (playbooks/group_vars/all/secrets.yml) and another one may follow.
ROTATED = (
    "admin_password",
    "database_owner_password",
    "database_password",
    "flower_cookie_secret",
    "flower_password",
    "health_token",
    "maintenance_token",
    "metrics_token",
    "rabbitmq_password",
    "redis_password",
    SECRET_KEY,
)
# And those that stay, each with the reason.
KEPT = {
    "backup_passphrase": "what was backed up could not be read any more; begin another repository for another one",
    "member_authority.pem": "hosts that have not been reached yet would be strangers to those that have",
    "rabbitmq_cookie": "the members of a cluster know each other by that of their first start",
}


class RotationError(Exception):
    """A secret cannot be made anew; the message says which, why, and what can."""


def chosen(folder: Path, asked: str, own: Collection[str]) -> list[str]:
    """Return the secrets that are to be made anew.

    Args:
        folder: where the inventory has them, a file each.
        asked: their names, with commas, or `ALL`: those that are there.
        own: the variables of the inventory that bring one (``vault_…``).

    Raises:
        RotationError: one of them is not there, is the inventory's own, or must stay.
    """
    there = [name for name in ROTATED if (folder / name).exists() and not _variable(name, own)]
    names = [word.strip() for word in asked.split(",") if word.strip()]
    if names == [ALL]:
        names = there
    for name in names:
        if variable := _variable(name, own):
            raise RotationError(f"{name} is your own: change `{variable}`, and run site.yml")
        if name in KEPT:
            raise RotationError(f"{name} stays: {KEPT[name]}")
        if name not in there and not (name == SECRET_KEY and (folder / FALLBACK).exists()):
            raise RotationError(f"there is no {name} in {folder}")
    if not names:
        raise RotationError("no secret is named")
    return names


def rotate(folder: Path, names: Collection[str], *, signed_holds: bool) -> None:
    """Let the next run make these secrets anew. Interrupted, it is safe to be done again.

    Args:
        folder: where the inventory has them.
        names: what `chosen` has returned.
        signed_holds: whether what was signed with the secret key of now, a session say, holds on.
    """
    for name in names:
        file = folder / name
        if name != SECRET_KEY:
            file.unlink(missing_ok=True)
        elif not signed_holds:
            (folder / FALLBACK).unlink(missing_ok=True)
            file.unlink(missing_ok=True)
        elif file.exists():
            file.replace(folder / FALLBACK)


def _variable(name: str, own: Collection[str]) -> str:
    """Return the variable by which the inventory brings a secret itself; empty for none."""
    stem = name.removesuffix(".pem")
    return next((each for each in (f"vault_{stem}", f"vault_site_{stem}") if each in own), "")
