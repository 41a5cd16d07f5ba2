"""A real browser: Debian's Chromium, driven by Playwright, and looked over by axe."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from processes import SITE

# What a person should look at, too, when something about the pages has changed.
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", SITE / "tests/screenshots"))

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 900}

# axe's words for what keeps people out of a page; "minor" and "moderate" are matters of taste as well.
SERIOUS = {"serious", "critical"}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser, and end it."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("chromium is not installed: apt install chromium")
    # Its sandbox needs rights that root gives up and a container does not have; it sees pages of ours only.
    with sync_playwright() as playwright:
        expect.set_options(timeout=60_000)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def window(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Open a window of its own, with no cookies; what the page complains about fails the test.

    Args:
        browser: in which.
        url: of the site.
        options: of `Browser.new_context`, such as `locale`, `color_scheme`, `viewport`.
    """
    context = browser.new_context(**{"base_url": url, "viewport": DESK, "locale": "en-GB", **options})
    context.set_default_timeout(60_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # A script or a style that the site's security policy has stopped is one of these.
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    # A form that is refused is what some tests are about.
    assert [text for text in complaints if "status of 400" not in text] == []


def serious_problems(page: Page) -> list[str]:
    """Return what axe finds that keeps people out of the page, each with the element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{page.url} {each['id']}: {node['html']}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


def keep(page: Page, name: str) -> None:
    """Keep a picture of the whole page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
