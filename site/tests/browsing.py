"""A real browser for the running site."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import testkit.browser
from playwright.sync_api import Browser, Page

from processes import SITE

# What a person should look at, too, when something about the pages has changed.
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", SITE / "tests/screenshots"))


def window(browser: Browser, url: str, **options: Any) -> AbstractContextManager[Page]:
    """Open a window of its own, with no cookies; what the page complains about fails the test.

    Args:
        browser: in which.
        url: of the site.
        options: of `Browser.new_context`, such as `locale`, `color_scheme`, `viewport`.
    """
    # A form that is refused is what some tests are about.
    return testkit.browser.window(browser, url, tolerated="status of 400", **options)


def keep(page: Page, name: str) -> None:
    """Keep a picture of the whole page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
