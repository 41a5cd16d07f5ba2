"""The page of the API, and the admin of schedules, in a real browser. Pictures are kept as `browsing` says."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from testkit.browser import chromium

from browsing import keep, window
from processes import Stack


@pytest.fixture(scope="module")
def page(site: str) -> Iterator[Page]:
    """A window in which Anna is logged in. What the security policy of the site stops fails the test."""
    with chromium() as browser, window(browser, site) as page:
        page.goto("/admin/login/?next=/tasks/api/")
        page.get_by_label("Username").fill("anna")
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Log in").click()
        yield page


def test_the_page_of_the_api_needs_nothing_from_elsewhere_and_starts_a_task(page: Page, site: str) -> None:
    """Its scripts and styles are files of the site, and its button sends the CSRF token of the session."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/tasks/api/")
    expect(page.get_by_text("/tasks/api/runs", exact=True).first).to_be_visible()
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []

    start = page.locator(".opblock-post", has_text="Start a task")
    start.get_by_role("button").first.click()
    start.get_by_role("button", name="Try it out").click()
    start.locator("textarea").fill('{"task": "app.tasks.post_counter_update", "kwargs": {"pk": 999}}')
    start.get_by_role("button", name="Execute").click()
    answer = start.locator(".live-responses-table tbody .response-col_status").first
    expect(answer).to_contain_text("202")
    keep(page, "api")


def test_an_operator_runs_an_entry_of_the_schedule_now(page: Page, stack: Stack) -> None:
    """And finds it in the console, under their own name."""
    page.goto("/admin/django_celery_beat/periodictask/")
    row = page.get_by_role("row", name="app-clear_expired_sessions")
    expect(row).to_contain_text("the code")
    keep(page, "schedules")
    row.get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option(label="Run now")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_text("app-clear_expired_sessions was started.")).to_be_visible()
    sent = "select sent_by from celeriac_ledger_dispatch where name = 'app.tasks.clear_expired_sessions'"
    assert stack.query(sent) == [("anna",)]


def test_the_page_of_an_entry_has_no_script_that_the_policy_stops(page: Page) -> None:
    """django-celery-beat's own has one inside the page."""
    page.goto("/admin/django_celery_beat/periodictask/")
    page.get_by_role("link", name="app-daily_report").click()
    expect(page.get_by_text("belongs in an interval")).to_be_visible()
    expect(page.get_by_text("At 06:00")).to_be_visible()
