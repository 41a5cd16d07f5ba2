"""The site's console, through nginx, in a browser: what a person does, and what they see.

Pictures are kept in `.cache/screenshots/`. CELERIAC_SCREENSHOTS names another folder of the repository for the three of
the README: `CELERIAC_SCREENSHOTS=docs bin/test default-13`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from stack.browser import chromium, window
from stack.web import Website
from testinfra.host import Host

from testkit.browser import PHONE, serious_problems
from testkit.waiting import eventually

UNITS = ("gunicorn", "celery-worker", "celery-beat")

# Also in site/tests/test_in_a_browser.py, with the same pages, and in test_console.py: on hosts, one Debian is enough.
pytestmark = [pytest.mark.once, pytest.mark.debian(13)]

ROOT = Path(__file__).resolve().parents[3]
PICTURES = ROOT / ".cache/screenshots"  # the scenario's own folder goes with its machine
README_PICTURES = ROOT / os.environ.get("CELERIAC_SCREENSHOTS", PICTURES)

STATE = "#run .now .state"
# A run's own line among the facts of its page.
FACT = ".facts > div:has(dt:text-is('{}')) dd"


@pytest.fixture(scope="module")
def browser(stranger: Website) -> Iterator[Browser]:
    """A browser."""
    with chromium(stranger) as browser:
        yield browser


@pytest.fixture(scope="module")
def session(browser: Browser, stranger: Website, secrets: dict[str, str]) -> Any:
    """The cookies of the admin, who has logged in on the page to which the console leads a stranger."""
    with window(browser, stranger) as page:
        page.goto("/tasks/")
        expect(page).to_have_url(re.compile(r"/admin/login/\?next=/tasks/$"))
        keep(page, "log-in")
        page.locator("#id_username").fill("admin")
        page.locator("#id_password").fill(secrets["admin_password"])
        page.locator("[type=submit]").click()
        expect(page).to_have_url(re.compile(r"/tasks/$"))
        return page.context.storage_state()


@pytest.fixture
def page(browser: Browser, stranger: Website, session: Any) -> Iterator[Page]:
    """A window in which the admin is logged in."""
    with window(browser, stranger, storage_state=session) as page:
        yield page


def keep(page: Page, name: str, folder: Path = PICTURES, *, whole: bool = True) -> None:
    """Keep a picture of a page, of all of it or of what is in the window."""
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=whole)


def start(page: Page, task: str, **fields: str) -> str:
    """Start a task by its form; return the address of the run."""
    page.goto(f"/tasks/start/app.tasks.{task}/")
    for name, value in fields.items():
        page.locator(f"[name='arg-{name}'], [name='{name}']").fill(value)
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile("/tasks/[0-9a-f-]{36}/$"))
    return page.url


def expect_state(page: Page, state: str) -> None:
    """Wait until the page, without being loaded again, shows a state."""
    expect(page.locator(STATE)).to_contain_text(state, timeout=20_000)


def test_task_goes_from_pending_to_success_without_reloading(page: Page) -> None:
    start(page, "add", x="2", y="3.5", countdown="2")
    page.evaluate("window.marked = true")
    for state in ("PENDING", "STARTED", "SUCCESS"):
        expect_state(page, state)
        keep(page, f"add-{state.lower()}")
    assert page.evaluate("window.marked"), "the page was loaded again"
    assert page.locator(FACT.format("Result")).inner_text() == "5.5"


def test_finished_task_is_run_again_with_equal_arguments_and_result(page: Page) -> None:
    text = "ä \"q\" 'q' ☃ " + "x" * 2000
    first = start(page, "simple_function", text=text)
    expect_state(page, "SUCCESS")
    facts = [page.locator(FACT.format(name)).inner_text() for name in ("Arguments", "Result")]
    page.get_by_role("button", name="Run again with the same arguments").click()
    page.wait_for_url(lambda url: url != first)
    expect_state(page, "SUCCESS")
    assert [page.locator(FACT.format(name)).inner_text() for name in ("Arguments", "Result")] == facts
    assert text.upper() in facts[1].replace('\\"', '"')
    expect(page.get_by_role("link", name=first.split("/")[-2])).to_be_visible()


def test_running_task_is_terminated_at_once_and_the_worker_goes_on(page: Page) -> None:
    start(page, "add", x="1", y="2")
    expect_state(page, "STARTED")
    page.get_by_role("link", name="Terminate at once").click()
    keep(page, "question")
    page.get_by_role("button", name="Terminate at once").click()
    expect(page.locator(".notice")).to_contain_text("stopped at once")
    expect_state(page, "REVOKED")
    start(page, "simple_function", text="next")
    expect_state(page, "SUCCESS")


def test_waiting_task_is_revoked(page: Page) -> None:
    start(page, "simple_function", text="never", countdown="10")
    page.get_by_role("link", name="Revoke").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator(".notice")).to_contain_text("it will not start")
    expect_state(page, "REVOKED")


def test_time_out_is_shown_as_what_it_is(page: Page) -> None:
    start(page, "exceeds_time_limit")
    expect_state(page, "FAILURE")
    expect(page.locator(FACT.format("Error"))).to_contain_text("TimeLimitExceeded")
    expect(page.locator(".now")).to_contain_text("There is no state TIMEOUT")
    keep(page, "time-out")


def test_ten_emails_are_sent_by_the_worker(page: Page, host: Host) -> None:
    page.goto("/tasks/emails/")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".notice")).to_contain_text("on their way")
    page.goto("/tasks/?name=app.tasks.send_email&state=SUCCESS")
    expect(page.locator("#runs tbody tr")).to_have_count(10, timeout=20_000)


def test_what_is_done_is_in_the_log_of_the_admin(page: Page) -> None:
    run = start(page, "simple_function", text="seen")
    page.goto("/admin/")
    expect(page.locator("#recent-actions-module")).to_contain_text(run.split("/")[-2])


def test_the_last_day_is_drawn(page: Page, choices: dict[str, object]) -> None:
    # Results in Redis cannot be asked how many tasks have ended, and how long they ran.
    graphs = 1 if choices["site_result_backend"] == "redis" else 3

    def is_drawn() -> bool:
        page.goto("/tasks/graphs/")
        return page.locator("figure svg").count() == graphs

    eventually(is_drawn, 130, pause=3)
    keep(page, "graphs")


LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "russian-on-a-phone": {"viewport": PHONE, "locale": "ru-RU"},
}


def test_flower_opens_with_the_log_in_of_the_site_and_closes_with_it(
    browser: Browser, stranger: Website, secrets: dict[str, str]
) -> None:
    with window(browser, stranger) as page:
        page.goto("/flower/broker")
        expect(page).to_have_url(re.compile(r"/admin/login/\?next=/flower/broker$"))
        page.locator("#id_username").fill("admin")
        page.locator("#id_password").fill(secrets["admin_password"])
        page.locator("[type=submit]").click()
        expect(page).to_have_url(re.compile(r"/flower/broker$"))
        expect(page.locator("body")).to_contain_text("celery")
        keep(page, "flower-by-session")

        page.goto("/admin/")
        page.locator("#logout-form button").click()
        expect(page.locator("#logout-form")).to_have_count(0)
        page.goto("/flower/broker")
        expect(page).to_have_url(re.compile(r"/admin/login/\?next=/flower/broker$"))


@pytest.mark.parametrize("look", LOOKS)
def test_pages_are_for_everybody(browser: Browser, stranger: Website, session: Any, look: str) -> None:
    with window(browser, stranger, storage_state=session, **LOOKS[look]) as page:
        problems = []
        for name, path in {"home": "/", "list": "/tasks/", "form": "/tasks/start/app.tasks.add/"}.items():
            page.goto(path)
            keep(page, f"{name}-{look}")
            problems += serious_problems(page)
            if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                problems.append(f"{path} is too wide")
        assert problems == []


def test_pictures_for_the_readme(browser: Browser, stranger: Website, session: Any) -> None:
    with window(browser, stranger, storage_state=session) as page:
        for task in ("add", "succeeds_later"):
            start(page, task, **({"x": "2", "y": "3"} if task == "add" else {}))
        page.goto("/tasks/")
        expect(page.locator(".state.started").first).to_be_visible()
        keep(page, "console", README_PICTURES, whole=False)
        page.goto("/admin/django_celery_beat/periodictask/")
        expect(page.get_by_role("link", name="app-post_counter_update")).to_be_visible()
        keep(page, "schedule", README_PICTURES, whole=False)
        page.goto("/flower/tasks")
        expect(page.locator("#tasks-table tbody tr").first).to_contain_text("app.tasks")
        keep(page, "flower", README_PICTURES, whole=False)
