"""`manage.py api_token NAME PURPOSE [--days N]`: makes a token for the API and prints it, once."""

from argparse import ArgumentTypeError
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from celeriac.console import tokens

# For longer there is a token without an end.
LONGEST_DAYS = 36_500


class Command(BaseCommand):
    """Makes a token with which a program logs in to the API as a member of staff."""

    help = "Make a token for the API and print it. It cannot be read again; it is deleted in the admin."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the name of a user, what the token is for, and how long it is good."""
        parser.add_argument("username", help="a member of staff")
        parser.add_argument("purpose", help="what it is for, such as 'nightly import'")
        parser.add_argument("--days", type=_days, metavar="N", help="how long it is good; for ever without it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the token alone, so that a script can take it.

        Raises:
            CommandError: there is no such member of staff.
        """
        model = get_user_model()
        user = model.objects.filter(**{model.USERNAME_FIELD: options["username"]}, is_active=True).first()
        if user is None or not getattr(user, "is_staff", False):
            raise CommandError(f"There is no member of staff {options['username']!r}.")
        self.stdout.write(tokens.create(user, options["purpose"], days=options["days"]))


def _days(text: str) -> int:
    """Return a number of days in which a date can still be."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= LONGEST_DAYS):
        raise ArgumentTypeError(f"not a number of days from 1 to {LONGEST_DAYS}: {text}")
    return int(text)
