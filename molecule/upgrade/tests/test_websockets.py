"""A project on ASGI: releases under load, and websockets that outlive them. The last: it changes how a site serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from stack.lab import Site
from stack.load import PEOPLE, Load, failures
from stack.releases import append
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

APPLICATION = """
import os
from django.core.asgi import get_asgi_application
pages = get_asgi_application()
async def application(scope, receive, send):
    if scope["type"] != "websocket":
        return await pages(scope, receive, send)
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] + " " + os.environ["CELERIAC_RELEASE"]})
        else:
            return
"""
# Longer than a busy computer takes for the rest of a deploy: the test ends it.
DRAIN_SECONDS = 900
CHOSEN = (
    "--extra-vars",
    json.dumps(
        {"site_asgi_application": "TimeOut.asgi:application", "gunicorn_websocket_drain_seconds": DRAIN_SECONDS}
    ),
)


def on_asgi(source: Path) -> None:
    """Let the project have an ASGI application, which repeats what its websockets are told."""
    append(source / "TimeOut/asgi.py", APPLICATION)


def says(opened: ClientConnection, word: str) -> str:
    """Return the release that repeats a word."""
    opened.send(word)
    repeated, _, release = str(opened.recv(60)).rpartition(" ")
    assert repeated == word
    return release


@pytest.fixture(scope="module")
def load(site: Site, folder: Path) -> Iterator[Load]:
    """A load that leaves the processors to the tests; nginx reads its files again meanwhile."""
    site.healthy()
    # What is sent is not sent again, so there are none that send tasks.
    plan = replace(site.plan(requests=PEOPLE, tasks=0, seconds=3600), again=True)
    with Load(plan, folder / "websockets.txt") as load:
        yield load


@pytest.fixture(scope="module")
def served(site: Site, load: Load) -> str:
    """The release that serves by ASGI; under load, that took the place of one that did not."""
    play = site.start("site.yml", *site.make(on_asgi).arguments, *CHOSEN)
    run = play.wait()
    assert run.status == 0, run.output
    assert failures(load.settled(play.began, play.ended)) == [], site.journal("gunicorn", play.began)[-8000:]
    return site.current()


def test_requests_are_answered_by_an_event_loop(site: Site, served: str) -> None:
    answer = site.web.get("/")
    assert answer.status == 200
    assert answer.headers["X-Release"] == served
    assert "celeriac.web.asgi" in site.machine.root.check_output("systemctl show --property=ExecStart gunicorn")


def test_a_websocket_outlives_a_deploy_and_is_told_when_its_time_is_over(site: Site, load: Load, served: str) -> None:
    with site.web.websocket() as opened:
        assert says(opened, "before") == served
        play = site.start_deploy(site.make(on_asgi), *CHOSEN)
        run = play.wait()
        assert run.status == 0, run.output
        assert site.current() != served

        assert says(opened, "behind") == served
        with site.web.websocket() as another:
            assert says(another, "new") == site.current()
        [old] = [name for name, state in site.units().items() if f"gunicorn-{served}" in name]
        site.machine.systemctl("kill", "--kill-who=main", "--signal=SIGQUIT", old)
        with pytest.raises(ConnectionClosed) as closed:
            opened.recv(60)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1012
    site.wait_until_gone(served, 60)
    assert failures(load.settled(play.began, play.ended)) == []
