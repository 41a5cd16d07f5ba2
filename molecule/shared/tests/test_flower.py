"""Flower, for those who have its log-in, or a session of staff: all of it. For all others: nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
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
    # What nginx asks for itself.
    "/flower/api/session",
    "/flower/api/signed-in",
    "/-/celeriac/session/staff",
]
LOGINS = {"no log-in": {}, "a wrong password": basic("admin", "wrong")}
FOR_A_PAGE = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def login(secrets: dict[str, str]) -> dict[str, str]:
    """The log-in."""
    return basic("admin", secrets["flower_password"])


# Two people who have logged in, and how they are forgotten.
PEOPLE = """
from importlib import import_module
from django.conf import settings
from django.contrib import auth
User = auth.get_user_model()
for name, is_staff in (("flower-staff", True), ("flower-plain", False)):
    user = User.objects.create_user(name, is_staff=is_staff)
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[auth.SESSION_KEY] = str(user.pk)
    session[auth.BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    print(session.session_key)
"""
NOBODY = """
from django.contrib import auth
auth.get_user_model().objects.filter(username__startswith="flower-").delete()
"""


@pytest.fixture(scope="module")
def people(machine: Machine, stranger: Website) -> Iterator[dict[str, Website]]:
    """The browsers of a member of staff who is no superuser, and of somebody who is neither."""
    keys = machine.feed(f"site-manage shell <<'EOF'\n{PEOPLE}EOF").split()[-2:]
    browsers = [Website(stranger.domain, stranger.address, stranger.certificate) for _ in keys]
    for browser, key in zip(browsers, keys, strict=True):
        browser.cookies["sessionid"] = key
    yield dict(zip(("staff", "plain"), browsers, strict=True))
    machine.feed(f"site-manage shell <<'EOF'\n{NOBODY}EOF")


@pytest.mark.parametrize("page", ["/flower/", "/flower/api/workers", "/flower/metrics", "/flower/healthcheck"])
def test_session_opens_flower_to_staff_alone(people: dict[str, Website], site: Website, page: str) -> None:
    assert [browser.get(page).status for browser in (people["staff"], site)] == [200, 200]
    assert people["plain"].get(page).status == 401


@pytest.mark.once
@pytest.mark.parametrize("page", PAGES)
def test_who_is_no_staff_gets_nothing(people: dict[str, Website], page: str) -> None:
    assert people["plain"].get(page).status in {400, 401, 404}


@pytest.mark.parametrize("path", ["/flower/api/session", "/flower/api/signed-in", "/-/celeriac/session/staff"])
def test_what_nginx_asks_nobody_else_may_ask(site: Website, login: dict[str, str], path: str) -> None:
    assert [site.get(path, headers).status in {401, 404} for headers in ({}, login)] == [True, True]


def test_page_of_flower_is_kept_by_nobody(people: dict[str, Website]) -> None:
    assert people["staff"].get("/flower/").headers.get_all("Cache-Control") == ["no-store"]


def test_browser_is_led_to_the_log_in_and_back(stranger: Website, people: dict[str, Website]) -> None:
    form = f"https://{stranger.domain}/admin/login/?next=/flower/tasks%3Fx%3D1%26y%3D2"
    for browser in (stranger, people["plain"]):
        answer = browser.get("/flower/tasks?x=1&y=2", FOR_A_PAGE)
        assert (answer.status, answer.headers["Location"]) == (302, form)
        assert answer.headers["WWW-Authenticate"] is None
    # It stands in the page of whoever has no right to be there.
    assert people["plain"].get("/admin/login/?next=/flower/").status == 200


def test_who_brings_a_log_in_of_flower_is_led_nowhere(stranger: Website, login: dict[str, str]) -> None:
    assert stranger.get("/flower/", {**login, **FOR_A_PAGE}).status == 200
    answer = stranger.get("/flower/", {**basic("admin", "wrong"), **FOR_A_PAGE})
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="flower"')


def test_log_in_of_flower_that_is_wrong_is_no_session_of_the_site(site: Website) -> None:
    """And what is right of the one takes nothing from the other."""
    for page in ("/flower/", "/flower/metrics"):
        answer = site.get(page, basic("admin", "wrong"))
        assert (answer.status, answer.headers.get_all("WWW-Authenticate")) == (401, ['Basic realm="flower"'])


def test_script_of_a_page_lets_no_browser_ask_for_a_password(stranger: Website) -> None:
    answer = stranger.get("/flower/api/workers", {"Sec-Fetch-Mode": "cors"})
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, None)


def test_log_out_of_the_site_closes_flower(stranger: Website, secrets: dict[str, str]) -> None:
    browser = Website(stranger.domain, stranger.address, stranger.certificate)
    assert browser.log_in("admin", secrets["admin_password"]).status == 302
    thief = Website(stranger.domain, stranger.address, stranger.certificate)
    thief.cookies["sessionid"] = browser.cookies["sessionid"].value
    assert thief.get("/flower/").status == 200

    token = browser.cookies["csrftoken"].value
    body = {"Content-Type": "application/x-www-form-urlencoded", "X-CSRFToken": token}
    assert browser.request("POST", "/admin/logout/", "x=", body).status in {200, 302}

    assert thief.get("/flower/").status == 401


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
@pytest.mark.debian(13)
def test_pool_grows_and_shrinks_through_nginx(
    host: Host, stranger: Website, login: dict[str, str], people: dict[str, Website], worker: str
) -> None:
    """For who has the log-in of Flower, and for who has a session."""
    eventually(lambda: is_listed(stranger, login, worker), 20)
    before = pool(host, worker)

    assert move_pool(stranger, login, "grow", worker).status == 200
    eventually(lambda: pool(host, worker) == before + 1, 15)
    assert move_pool(people["staff"], {"Sec-Fetch-Site": "same-origin"}, "shrink", worker).status == 200
    eventually(lambda: pool(host, worker) == before, 15)


@pytest.mark.once
def test_page_of_another_site_cannot_move_the_pool(
    stranger: Website, login: dict[str, str], people: dict[str, Website], worker: str
) -> None:
    for browser, headers in ((stranger, login), (people["staff"], {})):
        assert move_pool(browser, headers, "grow", worker, origin="https://evil.test").status == 403
        for site in ("cross-site", "same-site"):
            assert move_pool(browser, {**headers, "Sec-Fetch-Site": site}, "grow", worker).status == 403
    assert move_pool(people["plain"], {}, "grow", worker).status == 401


def move_pool(site: Website, login: dict[str, str], verb: str, worker: str, origin: str = "") -> Answer:
    """Press the button that grows or shrinks the pool by one."""
    headers = {**login, "Origin": origin or f"https://{site.domain}"}
    return site.request("POST", f"/flower/api/worker/pool/{verb}/{worker}?n=1", headers=headers)


def pool(host: Host, worker: str) -> int:
    """Return how many processes a worker's pool has, by the worker's own account."""
    stats: dict[str, Any] = json.loads(host.check_output("site-celery inspect stats --json"))
    return len(stats[worker]["pool"]["processes"])


@pytest.mark.once
def test_site_that_does_not_answer_leaves_the_log_in_of_flower(
    machine: Machine, stranger: Website, site: Website, login: dict[str, str]
) -> None:
    machine.systemctl("stop", "gunicorn.socket", "gunicorn")
    try:
        assert [site.get(page).status for page in ("/flower/", "/flower/metrics")] == [401, 401]
        assert stranger.get("/flower/", FOR_A_PAGE).headers["WWW-Authenticate"] == 'Basic realm="flower"'
        assert stranger.get("/flower/", login).status == 200
    finally:
        machine.systemctl("start", "gunicorn.socket", "gunicorn")
    assert site.get("/flower/").status == 200


@pytest.mark.last
def test_who_guesses_is_slowed_and_nobody_else(
    stranger: Website, site: Website, login: dict[str, str], choices: dict[str, object]
) -> None:
    def guess(number: int) -> Answer:
        return stranger.get("/flower/", basic("admin", f"wrong{number}"))

    assert is_slowed(guess, 10 * int(str(choices["site_login_attempts"])))

    assert stranger.get("/flower/", login).status == 200
    assert stranger.get("/flower/metrics", login).status == 200
    assert site.get("/flower/").status == 200
    assert site.get("/flower/", basic("admin", "wrong")).status in {401, 429}
    assert stranger.get("/flower/").status == 401
    assert stranger.get("/flower/", {"Authorization": login["Authorization"].swapcase()}).status in {401, 429}
