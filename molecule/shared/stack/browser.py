"""A real browser for the site on a machine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from playwright.sync_api import Browser, Page

import testkit.browser
from stack.web import Website


def chromium(site: Website) -> AbstractContextManager[Browser]:
    """Start a browser for which the site's name leads to the machine, and end it."""
    return testkit.browser.chromium(f"--host-resolver-rules=MAP {site.domain} {site.address}")


def window(browser: Browser, site: Website, **options: Any) -> AbstractContextManager[Page]:
    """Open a window of its own; a script or a style that the security policy has stopped fails the test.

    Args:
        browser: in which.
        site: where its addresses begin.
        options: of `Browser.new_context`, such as `locale`, `color_scheme`, `viewport`.
    """
    # The machine made its certificate for itself; `test_nginx` looks at that.
    return testkit.browser.window(browser, f"https://{site.domain}", **{"ignore_https_errors": True, **options})
