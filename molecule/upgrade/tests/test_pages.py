"""What a page may be, on its way through nginx: slow, and with many cookies; and whom it thinks it answers."""

from __future__ import annotations

import ipaddress
from concurrent.futures import ThreadPoolExecutor

import pytest
from stack.lab import Site
from stack.releases import Release
from stack.web import Website

from testkit.waiting import eventually

UNITS = ("gunicorn", "nginx")
# More than nginx gives a page by itself, less than what is chosen for the test.
SLOW_SECONDS = 62
CHOSEN_SECONDS = 90


@pytest.fixture
def browser(site: Site) -> Website:
    """A browser with cookies of its own."""
    return Website(site.web.domain, site.web.address, site.web.certificate)


def test_as_many_cookies_come_and_go_as_gunicorn_takes(browser: Website, serving: Release) -> None:
    assert browser.get("/probe/page/?cookies=12").status == 200
    answer = browser.get("/probe/page/")

    assert answer.status == 200
    assert answer.json()["cookie_signs"] > 12 * 2000


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP", "Remote-Addr"])
def test_page_knows_the_address_of_who_asks_whatever_they_say(browser: Website, serving: Release, header: str) -> None:
    answer = browser.get("/probe/page/", {header: "192.0.2.7"})

    assert answer.status == 200
    found = ipaddress.ip_address(answer.json()["address"])
    # This computer is the bridge, the first address of the machine's network.
    assert found in ipaddress.ip_network(f"{browser.address}/24", strict=False)
    assert str(found) != browser.address


def test_page_that_takes_as_long_as_it_may_outlives_its_gunicorn(
    site: Site, browser: Website, serving: Release
) -> None:
    chosen = ("--extra-vars", f'{{"gunicorn_timeout_seconds": {CHOSEN_SECONDS}}}')
    assert site.start("site.yml", *serving.arguments, *chosen).wait().status == 0
    machine = site.machine
    with ThreadPoolExecutor(1) as person:
        asked = person.submit(browser.get, f"/probe/page/?seconds={SLOW_SECONDS}", seconds=120)
        # From nginx to gunicorn.
        eventually(lambda: machine.root.check_output("ss -Hx state established src /run/gunicorn.sock"), 30)
        machine.systemctl("restart", "gunicorn")

        assert asked.result().status == 200
