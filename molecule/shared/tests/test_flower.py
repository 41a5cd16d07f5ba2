"""Flower, for those who have the log-in: all of it. For all others: nothing."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from stack.machine import Machine
from stack.web import Answer, Website, basic, is_slowed
from testinfra.host import Host

from testkit.waiting import eventually

UNITS = ("flower", "celery-worker")

# As they are written, and in the spellings that could make nginx and Flower see different things.
PAGES = [
    "/flower/",
    "/flower/workers",
    "/flower/tasks",
    "/flower/broker",
    "/flower/api/workers",
    "/flower/api/tasks",
    "/flower/api/task/types",
    "/flower/metrics",
    "/flower/metrics?x=1",
    "/flower//metrics",
    "//flower/metrics",
    "/flower/metrics/",
    "/flower/metrics%0a",
    "/flower/metrics%20",
    "/flower/metrics%3f",
    "/flower/metrics;",
    "/flower/METRICS",
    "/flower/%6detrics",
    "/flower%2fmetrics",
    "/flower/./metrics",
    "/flower/static/../metrics",
    "/flower/static/%2e%2e/metrics",
    "/flower/static/..%2fmetrics",
    "/x/../flower/metrics",
    "/flower/healthcheck",
    "/flower/healthcheck/",
    "/flower//healthcheck",
    "/flower/static/../healthcheck",
]
LOGINS = {"no log-in": {}, "a wrong password": basic("admin", "wrong")}


@pytest.fixture(scope="module")
def login(secrets: dict[str, str]) -> dict[str, str]:
    """The log-in."""
    return basic("admin", secrets["flower_password"])


@pytest.mark.once
@pytest.mark.parametrize("headers", LOGINS.values(), ids=LOGINS)
@pytest.mark.parametrize("page", PAGES)
def test_stranger_gets_nothing(stranger: Website, page: str, headers: dict[str, str]) -> None:
    # 404 and 400 where no such page exists for anybody, under any spelling.
    assert stranger.get(page, headers).status in {400, 401, 404}


@pytest.mark.parametrize("page", ["/flower/", "/flower/api/workers", "/flower/metrics", "/flower/healthcheck"])
@pytest.mark.parametrize("headers", LOGINS.values(), ids=LOGINS)
def test_stranger_is_told_to_log_in(stranger: Website, page: str, headers: dict[str, str]) -> None:
    assert stranger.get(page, headers).status == 401


def test_browser_asks_for_the_log_in(stranger: Website) -> None:
    assert stranger.get("/flower/").headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("page", ["/flower/", "/flower/metrics"])
@pytest.mark.parametrize("known", [True, False])
def test_page_cannot_be_framed_and_tells_nobody_its_address(
    stranger: Website, login: dict[str, str], page: str, known: bool
) -> None:
    headers = stranger.get(page, login if known else {}).headers

    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_request_waits_while_flower_is_replaced(machine: Machine, stranger: Website, login: dict[str, str]) -> None:
    restarted = threading.Event()

    def ask() -> list[int]:
        """Ask until it is over, and once more."""
        statuses: list[int] = []
        while not restarted.is_set():
            statuses.append(stranger.get("/flower/workers", login).status)
        return [*statuses, stranger.get("/flower/workers", login).status]

    with ThreadPoolExecutor(4) as people:
        asked = [people.submit(ask) for _ in range(4)]
        try:
            machine.systemctl("restart", "flower")
        finally:
            restarted.set()

    assert {status for answers in asked for status in answers.result()} == {200}


@pytest.mark.parametrize(
    "page", ["/flower/", "/flower/workers", "/flower/tasks", "/flower/broker", "/flower/metrics", "/flower/healthcheck"]
)
def test_page_opens_with_the_log_in(stranger: Website, login: dict[str, str], page: str) -> None:
    assert stranger.get(page, login).status == 200


@pytest.fixture
def worker(host: Host, release: str) -> str:
    """The name of the worker's node."""
    return f"celery-worker-{release}@{host.check_output('hostname')}"


def is_listed(stranger: Website, login: dict[str, str], worker: str) -> bool:
    """Say whether Flower, when it asks around, finds the worker."""
    answer = stranger.get("/flower/api/workers?refresh=true", login)
    return answer.status == 200 and worker in answer.json()


def test_flower_lists_the_worker(stranger: Website, login: dict[str, str], worker: str) -> None:
    eventually(lambda: is_listed(stranger, login, worker), 20)


@pytest.mark.once
def test_pool_grows_and_shrinks_through_nginx(
    host: Host, stranger: Website, login: dict[str, str], worker: str
) -> None:
    eventually(lambda: is_listed(stranger, login, worker), 20)
    before = pool(host, worker)

    assert move_pool(stranger, login, "grow", worker).status == 200
    eventually(lambda: pool(host, worker) == before + 1, 15)
    assert move_pool(stranger, login, "shrink", worker).status == 200
    eventually(lambda: pool(host, worker) == before, 15)


@pytest.mark.once
def test_page_of_another_site_cannot_move_the_pool(stranger: Website, login: dict[str, str], worker: str) -> None:
    assert move_pool(stranger, login, "grow", worker, origin="https://evil.test").status == 403


def move_pool(site: Website, login: dict[str, str], verb: str, worker: str, origin: str = "") -> Answer:
    """Press the button that grows or shrinks the pool by one."""
    headers = {**login, "Origin": origin or f"https://{site.domain}"}
    return site.request("POST", f"/flower/api/worker/pool/{verb}/{worker}?n=1", headers=headers)


def pool(host: Host, worker: str) -> int:
    """Return how many processes a worker's pool has, by the worker's own account."""
    stats: dict[str, Any] = json.loads(host.check_output("site-celery inspect stats --json"))
    return len(stats[worker]["pool"]["processes"])


@pytest.mark.last
def test_who_guesses_is_slowed_and_nobody_else(
    stranger: Website, login: dict[str, str], choices: dict[str, object]
) -> None:
    def guess(number: int) -> Answer:
        return stranger.get("/flower/", basic("admin", f"wrong{number}"))

    assert is_slowed(guess, 10 * int(str(choices["site_login_attempts"])))

    assert stranger.get("/flower/", login).status == 200
    assert stranger.get("/flower/metrics", login).status == 200
    assert stranger.get("/flower/").status == 401
    assert stranger.get("/flower/", {"Authorization": login["Authorization"].swapcase()}).status in {401, 429}
