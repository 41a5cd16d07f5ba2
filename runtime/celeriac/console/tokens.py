"""Tokens of the API: who has one is the user that it was made for. Only hashes are kept.

A token is a number, which finds its row, and a secret of 256 random bits, for which a plain SHA-256 is enough: there is
nothing to guess.
"""

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Q
from django.utils import timezone

from celeriac.console.models import ApiToken


def create(user: AbstractBaseUser, purpose: str, *, days: int | None = None) -> str:
    """Make a token for a user; return it, for it cannot be read again.

    Args:
        user: who is logged in with it.
        purpose: what it is for, so that somebody knows when to delete it.
        days: how long it is good, None for as long as it is there.
    """
    secret = secrets.token_urlsafe(32)
    end = None if days is None else timezone.now() + timedelta(days=days)
    row = ApiToken.objects.create(user_id=user.pk, purpose=purpose, digest=_digest(secret), expires_at=end)
    return f"{row.pk}.{secret}"


def user_of(token: str) -> AbstractBaseUser | None:
    """Return whose token it is, None for one that is not, or not any more, and for a user who is not active."""
    number, _, secret = token.partition(".")
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return None
    good = ApiToken.objects.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()), user__is_active=True)
    row = good.select_related("user").filter(pk=number).first()
    # In constant time: how long a wrong one takes says nothing about the right one.
    if row is None or not secrets.compare_digest(row.digest, _digest(secret)):
        return None
    user: AbstractBaseUser = row.user
    return user


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
