"""Ten e-mails, by a real mail server that is slow, refuses, or asks for patience."""

import asyncio
import time
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from testkit.ports import free_port
from testkit.redis import Redis
from testkit.waiting import eventually

from processes import Stack


class Mailbox:
    """Takes a second for each e-mail, knows no nobody@, and wants busy@ to come again."""

    def __init__(self) -> None:
        self.received: list[tuple[float, str, Message]] = []
        self.asked: list[str] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Say whether e-mails for an address are taken."""
        self.asked.append(address)
        if address.startswith("nobody@"):
            return "550 no such user here"
        if address.startswith("busy@") and self.asked.count(address) == 1:
            return "451 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take an e-mail, slowly."""
        await asyncio.sleep(1)
        content = envelope.content
        assert isinstance(content, bytes)
        self.received.append((time.time(), envelope.rcpt_tos[0], BytesParser().parsebytes(content)))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    """A mail server, and its URL."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield mailbox, f"smtp://127.0.0.1:{controller.port}"
    controller.stop()


SEND = """
import json, time
from app import mail
run_id = mail.start({addresses}, by="anna")
print(json.dumps([run_id, time.time()]))
"""

OUTCOMES = """
import json
from celeriac.console import runs
page = runs.page(name="app.tasks.send_email", size=50)
print(json.dumps({run.args[0]: [run.state, run.error, run.sent_by] for run in page.runs}))
"""


@pytest.fixture
def mailing_stack(tmp_path: Path, redis_server: Redis, mailbox: tuple[Mailbox, str]) -> Iterator[Stack]:
    """The site with this mail server, and a worker."""
    redis_server.forget(7)
    variables = {
        "CELERY_BROKER_URL": redis_server.database(7),
        "EMAIL_URL": mailbox[1],
        "DEFAULT_FROM_EMAIL": "site@example.org",
    }
    stack = Stack(tmp_path, redis_server, variables=variables)
    migrate = stack.manage("migrate", "-v0")
    assert migrate.returncode == 0, migrate.stderr
    stack.start_worker("--concurrency=4")
    yield stack
    stack.stop()


def test_the_request_is_answered_before_the_first_of_ten_is_sent_and_all_arrive(
    mailing_stack: Stack, mailbox: tuple[Mailbox, str]
) -> None:
    """A refused address stops no other, one that is to come again does; each e-mail arrives once."""
    good = [f"reader{number}@example.org" for number in range(1, 10)] + ["busy@example.org"]
    _, sent_at = mailing_stack.ask(SEND.format(addresses=["nobody@example.org", *good, good[0]]))
    received = mailbox[0].received
    eventually(lambda: len(received) >= 10, what="ten e-mails arrive")
    assert sent_at < min(at for at, _, _ in received)
    assert sorted(address for _, address, _ in received) == sorted(good)
    message = received[0][2]
    assert (message["From"], message["Subject"]) == ("site@example.org", "News from the site")
    assert len({message["Message-ID"] for _, _, message in received}) == 10

    def outcomes() -> Any:
        found = mailing_stack.ask(OUTCOMES)
        return found if all(state in {"SUCCESS", "FAILURE"} for state, _, _ in found.values()) else None

    found = eventually(outcomes, what="all have ended")
    assert found.pop("nobody@example.org")[:2] == ["FAILURE", "RefusedError: 550 no such user here"]
    assert {state for state, _, _ in found.values()} == {"SUCCESS"}
    assert mailbox[0].asked.count("nobody@example.org") == 1, "refused for good is not tried again"
    assert mailbox[0].asked.count("busy@example.org") == 2


@pytest.mark.parametrize(
    "addresses", [[], [""], ["x"], ["a@example.org", "a@example.org, b@example.org"], ["a@b.c\nBcc: d@e.f"]]
)
def test_what_is_no_address_is_refused(addresses: list[str]) -> None:
    """Before anything is sent; nor can a header be smuggled in."""
    from celeriac.registry import BadArgumentsError

    from app import mail

    with pytest.raises(BadArgumentsError) as caught:
        mail.start(addresses)
    assert [*caught.value.problems] == ["addresses"]
