"""Secrets are made anew while people and tasks go on, and what they were opens nothing any more.

The tests are in the order in which this happens to a site.
"""

from __future__ import annotations

import re
import shlex
import threading
from dataclasses import replace
from http.cookies import SimpleCookie

import pytest
from stack.lab import Site
from stack.load import Load
from stack.play import Play
from stack.upgrading import only_in_full
from stack.web import Website, basic

from testkit.waiting import eventually

LOGGED_IN = "/admin/password_change/"
STAY = {"backup_passphrase"}
PERSON = """
from django.contrib.auth import get_user_model
people = get_user_model().objects
people.filter(username="anna").delete()
people.create_superuser("anna", password="a word of hers")
"""


def rotate(site: Site, secret: str, **more: str) -> Play:
    """Start to make secrets anew; the release is the one that serves."""
    words = [word for name, value in {"secret": secret, **more}.items() for word in ("-e", f"{name}={value}")]
    return site.start("playbooks/rotate.yml", *site.healthy().arguments, *words)


def secrets(site: Site) -> dict[str, str]:
    """Return what is in the inventory now."""
    folder = site.machine.inventory.parent / ".secrets"
    return {file.name: file.read_text().split()[0] for file in folder.iterdir() if not file.name.startswith(".")}


def browser(site: Site) -> Website:
    """Return one that was never there."""
    return replace(site.web, cookies=SimpleCookie())


def opens(site: Site, known: dict[str, str]) -> dict[str, bool]:
    """Return which doors are opened by what somebody knows."""
    ping = browser(site).request(
        "POST", "/-/celeriac/ping", headers={"Authorization": f"Bearer {known['health_token']}"}
    )
    redis = f"REDISCLI_AUTH={shlex.quote(known['redis_password'])} redis-cli --user site PING 2>&1"
    return {
        "admin": browser(site).log_in("admin", known["admin_password"]).status == 302,
        "flower": browser(site).get("/flower/", basic("admin", known["flower_password"])).status == 200,
        "health": ping.status == 202,
        "redis": site.machine.feed(redis) == "PONG\n",
    }


@pytest.fixture(scope="module")
def before(site: Site) -> dict[str, str]:
    """The secrets before all this."""
    site.healthy()
    return secrets(site)


@pytest.fixture(scope="module")
def person(site: Site, before: dict[str, str]) -> Website:
    """Somebody with a password of their own, who has logged in before."""
    site.machine.feed(PERSON, "site-manage", "shell", "--no-imports")
    found = browser(site)
    assert found.log_in("anna", "a word of hers").status == 302
    assert found.get(LOGGED_IN).status == 200
    return found


class Sender:
    """Somebody who sends a task after the other, each over a connection of its own; a context manager that ends it.

    A connection that is kept may be closed just then, and nobody sends again by himself what changes something.
    """

    def __init__(self, site: Site) -> None:
        self.accepted: list[str] = []
        self.refused: list[str] = []
        self._site = site
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Sender:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._over.wait(0.2):
            answer = self._site.post("/probe/send/", {"retry": True})
            if answer.status == 202:
                self.accepted += answer.json()["ids"]
            else:
                self.refused.append(f"{answer.status} {answer.text[:200]}")


def test_all_are_made_anew_and_nobody_feels_it(
    site: Site, before: dict[str, str], load: Load, person: Website, figures: list[str]
) -> None:
    assert all(opens(site, before).values()), opens(site, before)
    with Sender(site) as sender:
        play = rotate(site, "all")
        run = play.wait()
    load.stop()

    assert run.status == 0, run.output
    answers = load.answers()
    assert [answer.problem for answer in answers if answer.status != 200] == []
    assert sender.refused == []
    eventually(lambda: site.executed(sender.accepted).keys() == {*sender.accepted}, 60, pause=1)
    assert person.get(LOGGED_IN).status == 200
    site.__dict__.pop("token", None)
    now = secrets(site)
    assert {name for name in before if now.get(name) == before[name]} == STAY & before.keys()
    assert all(opens(site, now).values()), opens(site, now)
    assert not any(opens(site, before).values()), opens(site, before)
    took = f"{play.seconds:.0f} s, {len(answers)} requests, 0 failed, {len(sender.accepted)} tasks, 0 lost"
    figures.append(f"all secrets made anew: {took}")


@only_in_full
def test_a_key_that_was_stolen_holds_no_longer(site: Site, person: Website) -> None:
    run = rotate(site, "secret_key", fallback="no").wait()
    assert run.status == 0, run.output
    assert person.get(LOGGED_IN).status == 302


def test_what_stays_is_said_before_anything_is_changed(site: Site) -> None:
    now = secrets(site)
    run = rotate(site, "redis_password,backup_passphrase").wait()
    assert run.status != 0
    assert re.search(r"Nothing was changed: backup_passphrase stays: .* Say which: -e secret=", run.output)
    assert secrets(site) == now


def test_a_second_run_changes_nothing(site: Site) -> None:
    run = site.start("site.yml", *site.healthy().arguments).wait()
    assert (run.status, run.changed) == (0, 0), run.output
