"""The console in a real browser, against a running worker: what a person does, and what they see.

Pictures of the pages are kept in `tests/screenshots/`, or where SCREENSHOTS says.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from testkit.browser import PHONE, serious_problems

from browsing import keep, window
from processes import Stack, Visitor

STATE = "#run .now .state"


@pytest.fixture(scope="module")
def session(browser: Browser, site: str) -> Any:
    """The cookies of Anna, who has logged in."""
    with window(browser, site) as page:
        log_in(page)
        return page.context.storage_state()


@pytest.fixture
def page(browser: Browser, site: str, session: Any) -> Iterator[Page]:
    """A window in which Anna is logged in."""
    with window(browser, site, storage_state=session) as page:
        yield page


def log_in(page: Page, path: str = "/tasks/") -> None:
    """Go to a page of staff, and log in where that leads."""
    page.goto(path)
    page.locator("#id_username").fill("anna")
    page.locator("#id_password").fill("correct horse")
    page.locator("[type=submit]").click()
    page.wait_for_url(f"**{path}")


def start(page: Page, task: str, **fields: str) -> str:
    """Start a task by its form; return the address of the run."""
    page.goto(f"/tasks/start/app.tasks.{task}/")
    for label, value in fields.items():
        page.get_by_label(label.capitalize() if label in {"priority", "countdown"} else label, exact=True).fill(value)
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile("/tasks/[0-9a-f-]{36}/$"))
    return page.url


def mark(page: Page) -> None:
    """Leave a mark that a reload would take away."""
    page.evaluate("window.marked = true")


def is_marked(page: Page) -> bool:
    """Say whether the page is still the one that was marked."""
    return bool(page.evaluate("window.marked === true"))


def shown(page: Page, term: str) -> str:
    """Return what the page of a run says about something, such as "Result"."""
    return (
        page.locator(".facts > div", has=page.locator("dt", has_text=re.compile(f"^{term}$")))
        .locator("dd")
        .inner_text()
    )


def test_a_stranger_meets_the_log_in_page_and_gets_where_they_wanted(browser: Browser, site: str) -> None:
    """The admin's own page."""
    with window(browser, site) as page:
        page.goto("/tasks/graphs/")
        expect(page).to_have_url(re.compile(r"/admin/login/\?next=/tasks/graphs/$"))
        keep(page, "log-in")
        log_in(page, "/tasks/graphs/")
        expect(page.get_by_role("heading", name="The last day")).to_be_visible()


def test_a_task_goes_from_pending_to_success_without_reloading_and_can_be_run_again(page: Page) -> None:
    """The rerun has equal arguments and an equal result, and each knows the other."""
    first = start(page, "add", x="2", y="3.5", countdown="1.5")
    mark(page)
    for state in ("PENDING", "STARTED", "SUCCESS"):
        expect(page.locator(STATE)).to_contain_text(state)
        keep(page, f"add-{state.lower()}")
    assert is_marked(page)
    assert shown(page, "Result") == "5.5"
    assert shown(page, "Started by") == "anna"
    arguments = shown(page, "Arguments")

    page.get_by_role("button", name="Run again with the same arguments").click()
    page.wait_for_url(lambda url: url != first)
    expect(page.locator(STATE)).to_contain_text("SUCCESS")
    assert (shown(page, "Arguments"), shown(page, "Result")) == (arguments, "5.5")
    second = page.url
    page.get_by_role("link", name=first.split("/")[-2]).click()
    page.get_by_role("link", name=second.split("/")[-2]).click()
    expect(page).to_have_url(second)


def test_a_running_task_is_terminated_at_once(page: Page, stack: Stack) -> None:
    """After a question; the sum is never made, and the worker goes on."""
    start(page, "add", x="123456", y="1")
    expect(page.locator(STATE)).to_contain_text("STARTED")
    page.get_by_role("link", name="Terminate at once").click()
    expect(page.get_by_role("heading", name="Terminate at once?")).to_be_visible()
    keep(page, "question")
    page.get_by_role("button", name="Terminate at once").click()
    expect(page.locator(".notice")).to_contain_text("stopped at once")
    expect(page.locator(STATE)).to_contain_text("REVOKED")
    keep(page, "terminated")
    start(page, "add", x="1", y="1")
    expect(page.locator(STATE)).to_contain_text("SUCCESS")
    assert "123456 + 1 = " not in stack.log("worker")


def test_a_task_that_waits_is_revoked(page: Page) -> None:
    """Somebody may also think better of it."""
    run = start(page, "add", x="1", y="1", countdown="60")
    page.get_by_role("link", name="Revoke").click()
    page.get_by_role("link", name="Keep it").click()
    expect(page).to_have_url(run)
    expect(page.locator(STATE)).to_contain_text("PENDING")
    page.get_by_role("link", name="Revoke").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator(".notice")).to_contain_text("it will not start")
    expect(page.locator(STATE)).to_contain_text("REVOKED")


def test_a_time_out_is_shown_as_what_it_is(page: Page) -> None:
    """FAILURE, with the limit that was exceeded."""
    start(page, "exceeds_time_limit")
    expect(page.locator(STATE)).to_contain_text("FAILURE")
    assert "TimeLimitExceeded" in shown(page, "Error")
    expect(page.locator(".now")).to_contain_text("There is no state TIMEOUT")
    keep(page, "time-out")


def test_wrong_arguments_come_back_with_the_reason_at_the_field(page: Page) -> None:
    """Told to a screen reader, too."""
    page.goto("/tasks/start/app.tasks.add/")
    # What is no number a browser keeps out of the field itself.
    page.get_by_label("Countdown", exact=True).fill("-1")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_label("Countdown", exact=True)).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Countdown", exact=True)).to_have_value("-1")
    expect(page.get_by_label("y", exact=True)).to_have_accessible_description(re.compile("required"))
    keep(page, "wrong-arguments")
    assert serious_problems(page) == []


def test_typing_finds_a_task_without_reloading(page: Page) -> None:
    """And says how many there are; what was typed stays."""
    page.goto("/tasks/start/")
    mark(page)
    page.get_by_role("searchbox").press_sequentially("sum two")
    expect(page.locator(".choices a")).to_have_text(["app.tasks.add"])
    expect(page.locator("#found")).to_have_text("1 task")
    expect(page.get_by_role("searchbox")).to_have_value("sum two")
    page.get_by_role("searchbox").fill("zebra")
    expect(page.locator("#found")).to_have_text("No tasks match.")
    assert is_marked(page)


def test_the_list_shows_what_others_start_without_reloading(page: Page, anna: Visitor) -> None:
    """And what becomes of it; the keyboard stays where it was."""
    page.goto("/tasks/")
    mark(page)
    run_id = anna.ask("/tasks/add/", {"x": "20", "y": "22"}).json["id"]
    row = page.get_by_role("row").filter(has=page.locator(f"#run-{run_id}"))
    expect(row).to_be_visible()
    row.get_by_role("link").focus()
    expect(row).to_contain_text("SUCCESS")
    expect(row).to_contain_text("42")
    expect(row.get_by_role("link")).to_be_focused()
    assert is_marked(page)


def test_everything_works_without_javascript(browser: Browser, site: str, session: Any) -> None:
    """Find, start, look, revoke, filter: a form or a link each."""
    with window(browser, site, java_script_enabled=False, storage_state=session) as page:
        page.goto("/tasks/start/")
        page.get_by_role("searchbox").fill("sum two")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".choices a")).to_have_text(["app.tasks.add"])
        run = start(page, "add", x="1", y="1", countdown="60")
        page.reload()
        expect(page.locator(STATE)).to_contain_text("PENDING")
        page.get_by_role("link", name="Revoke").click()
        page.get_by_role("button", name="Revoke").click()
        expect(page.locator(STATE)).to_contain_text("REVOKED")
        page.get_by_role("link", name="Tasks", exact=True).click()
        page.get_by_label("State").select_option("REVOKED")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator(f"#run-{run.split('/')[-2]}")).to_be_visible()
        page.get_by_text("What the states mean").click()
        expect(page.get_by_text("Somebody called it back")).to_be_visible()


LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "russian-on-a-phone": {"viewport": PHONE, "locale": "ru-RU"},
}


@pytest.fixture(scope="module")
def paths(browser: Browser, site: str, session: Any, stack: Stack) -> dict[str, str]:
    """A page of each kind, by name; among them a run that has failed and one that waits."""
    with window(browser, site, storage_state=session) as page:
        stack.ask("from celeriac.console.tasks import measure; print(measure())")
        failed = start(page, "always_fails")
        expect(page.locator(STATE)).to_contain_text("FAILURE")
        waits = start(page, "add", x="1", y="1", countdown="600")
    return {
        "home": "/",
        "list": "/tasks/",
        "failed": failed.removeprefix(site),
        "waits": waits.removeprefix(site),
        "question": f"{waits.removeprefix(site)}terminate/",
        "choose": "/tasks/start/",
        "form": "/tasks/start/app.tasks.simple_function/",
        "emails": "/tasks/emails/",
        "graphs": "/tasks/graphs/",
    }


@pytest.mark.parametrize("look", LOOKS)
def test_pages_are_for_everybody(browser: Browser, site: str, session: Any, paths: dict[str, str], look: str) -> None:
    """Axe finds nothing serious, and nothing sticks out to the side."""
    with window(browser, site, storage_state=session, **LOOKS[look]) as page:
        problems = []
        for name, path in paths.items():
            page.goto(path)
            for details in page.locator("details").all():
                details.evaluate("element => element.open = true")
            keep(page, f"{name}-{look}")
            problems += serious_problems(page)
            if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                problems.append(f"{path} is too wide")
        assert problems == []
