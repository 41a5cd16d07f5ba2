"""A real browser for the site on a machine: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from stack.web import Website

DESK = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


@contextmanager
def chromium(site: Website) -> Iterator[Browser]:
    """Start a browser for which the site's name leads to the machine, and end it."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed: bin/setup --tests"
    arguments = [
        f"--host-resolver-rules=MAP {site.domain} {site.address}",
        # It needs rights that root gives up and a container does not have; only pages of ours are seen.
        "--no-sandbox",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@contextmanager
def window(browser: Browser, site: Website, **options: Any) -> Iterator[Page]:
    """Open a window of its own; a script or a style that the security policy has stopped fails the test.

    Args:
        browser: in which.
        site: where its addresses begin.
        options: of `Browser.new_context`, such as `locale`, `color_scheme`, `viewport`.
    """
    defaults = {
        "base_url": f"https://{site.domain}",
        "ignore_https_errors": True,  # the machine made its certificate for itself; `test_nginx` looks at that
        "locale": "en-GB",
        "viewport": DESK,
    }
    context = browser.new_context(**{**defaults, **options})
    context.set_default_timeout(20_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert not errors, errors


def serious_problems(page: Page) -> list[str]:
    """Return what axe finds that keeps people out of the page, each with the element."""
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in {"serious", "critical"}]
    return [f"{page.url} {each['id']}: {node['html']}" for each in serious for node in each["nodes"]]
