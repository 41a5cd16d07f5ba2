"""A real browser: Debian's Chromium, driven by Playwright, and looked over by axe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from testkit.programs import find_program

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 860}
# How long a page may take to show what a test looks for, in milliseconds: an end for those that never do.
PATIENCE = 60_000
# axe's words for what keeps people out of a page; "minor" and "moderate" are matters of taste as well.
SERIOUS = {"serious", "critical"}


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Start a browser, and end it.

    Args:
        arguments: of its command line.
    """
    program = find_program("chromium", "chromium")
    # Its sandbox needs rights that root gives up and a container does not have; it sees pages of ours only.
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()


@contextmanager
def window(browser: Browser, url: str, *, tolerated: str | None = None, **options: Any) -> Iterator[Page]:
    """Open a window of its own, with no cookies; what the page complains about fails the test.

    Args:
        browser: in which.
        url: where its addresses begin.
        tolerated: complaints with this text are none.
        options: of `Browser.new_context`, such as `locale`, `color_scheme`, `viewport`.
    """
    context = browser.new_context(**{"base_url": url, "viewport": DESK, "locale": "en-GB", **options})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # A script or a style that the site's security policy has stopped is one of these.
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    left = [text for text in complaints if tolerated is None or tolerated not in text]
    if left:
        raise AssertionError(f"the page complains: {left}")


def serious_problems(page: Page) -> list[str]:
    """Return what axe finds that keeps people out of the page, each with the element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{page.url} {each['id']}: {node['html']}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]
