"""E-mails, sent by the workers: a mail server may take seconds for each, and the page answers at once."""

from collections.abc import Iterable
from smtplib import SMTPRecipientsRefused

from celeriac.console import runs
from celeriac.registry import BadArgumentsError
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.mail.utils import DNS_NAME
from django.core.validators import validate_email
from django.utils.translation import gettext as _

# example.org belongs to nobody (RFC 2606): a form filled with these sends nothing to a stranger.
EXAMPLES = [f"reader{number}@example.org" for number in range(1, 11)]
# From here on an answer of a mail server means "never"; below, "not now".
FOR_GOOD = 500

SUBJECT = "News from the site"
TEXT = "There are new posts. Come and see them."


class RefusedError(Exception):
    """The mail server does not take e-mails for this address, and never will."""


def start(addresses: Iterable[str], *, by: str = "") -> str:
    """Start the run that sends an e-mail to each of these addresses; return its id, before the first is sent.

    It is noted as sent by `by`, a user's name.

    Raises:
        celeriac.registry.BadArgumentsError: there is none, or one is not an address; nothing was sent.
        celeriac.enqueue.BrokerUnavailableError: nothing was sent.
    """
    wanted = [*dict.fromkeys(addresses)]  # each once
    bad = [address for address in wanted if not _is_address(address)]
    if bad or not wanted:
        problem = _("not an address: %s") % ", ".join(bad) if bad else _("there is no address")
        raise BadArgumentsError({"addresses": problem})
    return runs.start("app.tasks.send_emails", [wanted], by=by)


def send(address: str, subject: str, text: str, *, number: str) -> None:
    """Send one e-mail.

    Args:
        address: where to.
        subject: one line.
        text: of the message.
        number: what is sent twice with the same number is the same e-mail. It becomes the Message-ID, by which mail
            programs tell that they have it already.

    Raises:
        RefusedError: the mail server knows no such address.
        OSError: it is unavailable, or does not take the e-mail now (smtplib's errors are OSErrors).
    """
    headers = {"Message-ID": f"<{number}@{DNS_NAME}>"}
    try:
        EmailMessage(subject, text, settings.DEFAULT_FROM_EMAIL, [address], headers=headers).send()
    except SMTPRecipientsRefused as error:
        code, reason = error.recipients[address]
        if code < FOR_GOOD:
            raise
        raise RefusedError(f"{code} {reason.decode(errors='replace')}") from error


def _is_address(text: str) -> bool:
    try:
        validate_email(text)
    except ValidationError:
        return False
    return True
