"""Tokens of the API: who has one is the user that it was made for. Only hashes are kept.

A token is a number, which finds its row, and a secret of 256 random bits, for which a plain SHA-256 is enough: there is
nothing to guess.
"""

import hashlib
import secrets

from django.contrib.auth.models import AbstractBaseUser

from app.models import ApiToken


def create(user: AbstractBaseUser, purpose: str) -> str:
    """Make a token for a user; return it, for it cannot be read again.

    Args:
        user: who is logged in with it.
        purpose: what it is for, so that somebody knows when to delete it.
    """
    secret = secrets.token_urlsafe(32)
    row = ApiToken.objects.create(user_id=user.pk, purpose=purpose, digest=_digest(secret))
    return f"{row.pk}.{secret}"


def user_of(token: str) -> AbstractBaseUser | None:
    """Return whose token it is, None for one that is not, or not any more, and for a user who is not active."""
    number, _, secret = token.partition(".")
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return None
    row = ApiToken.objects.select_related("user").filter(pk=number, user__is_active=True).first()
    # In constant time: how long a wrong one takes says nothing about the right one.
    if row is None or not secrets.compare_digest(row.digest, _digest(secret)):
        return None
    user: AbstractBaseUser = row.user
    return user


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
