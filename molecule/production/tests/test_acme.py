"""A certificate comes from an authority and renews itself; where there is none to be had, the site serves as before.

The tests are in the order in which this happens to a site. It ends with a certificate of its own again.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stack import watch
from stack.authority import CUSTOMER, Authority
from stack.lab import DOMAIN, Site
from stack.load import PEOPLE, Load, failures

from testkit.waiting import eventually

UNIT = "nginx-acme.service"
EVERY_FEW_SECONDS = """
set -e
mkdir -p /run/systemd/system/nginx-acme.timer.d
printf '[Timer]\\nOnCalendar=\\nOnCalendar=*:*:0/5\\nRandomizedDelaySec=0\\nAccuracySec=1s\\n' \\
  > /run/systemd/system/nginx-acme.timer.d/of-tests.conf
systemctl daemon-reload
systemctl restart nginx-acme.timer
"""
# So that a third of it is left after 40 s. The load trusts any certificate: on a busy computer one may end before that.
LIFE_SECONDS = 60


@pytest.fixture(scope="module")
def authority(site: Site) -> Iterator[Authority]:
    """The authority, which is away."""
    watch.start(site.machine)
    found = Authority(site.machine)
    yield found
    found.stop()
    site.forget_certificate()


def shown(site: Site, root: str = "", name: str = DOMAIN) -> bytes:
    """Return the certificate that the site shows to whom trusts a root, or anybody."""
    context = ssl.create_default_context(cadata=root or None)
    if not root:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((site.machine.address, 443), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def one_line(text: str) -> str:
    """Return a text without the line ends that Ansible puts into a warning."""
    return " ".join(text.split())


def said(site: Site) -> str:
    """Let the unit run, which must fail; return its last line."""
    assert site.machine.root.run("systemctl start %s", UNIT).failed
    words: str = site.machine.root.check_output("journalctl --sync; journalctl --identifier=nginx-acme -n 1 -o cat")
    return words


def test_a_site_comes_up_while_the_authority_is_away_and_the_run_says_why(site: Site, folder: Path) -> None:
    run = one_line((folder / "converge.txt").read_text())
    assert "There is no new certificate" in run
    assert "nothing answers at nginx_acme_directory" in run
    assert "tries again" in run

    assert site.web.get("/").status == 200
    assert site.machine.state("nginx-acme.timer") == "active"

    status = one_line(site.start("playbooks/status.yml").wait().output)
    assert "the certificate was not renewed at" in status
    assert "nothing answers at nginx_acme_directory" in status


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "refuses the name": ({"domainBlocklist": ["site.test"]}, "site.test", "gives no certificate for such a name"),
    "finds port 80 closed": ({"port": 81}, "connection refused", "closes port 80"),
    "finds another server": ({"port": 8055}, DOMAIN, "points to another host, which answers"),
    "finds no such name": ({"address": ""}, "could not resolve", "not in the DNS"),
    "does not know the customer": (
        {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-2": "YQ"}},
        "'kid'",
        "vault_nginx_acme_eab_key",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_an_authority_that_gives_none_is_heard_and_nothing_else_changes(
    site: Site, authority: Authority, case: str
) -> None:
    choices, words, cause = BAD[case]
    before = shown(site)
    authority.start(**choices)

    heard = said(site)

    assert heard.startswith("There is no new certificate: ")
    assert words in heard
    assert cause in heard
    assert "\n" not in heard.strip()
    assert shown(site) == before
    assert site.web.get("/").status == 200


def test_no_request_fails_from_the_own_to_acme_through_renewals_and_back(
    site: Site, authority: Authority, full: bool, figures: list[str], tmp_path: Path
) -> None:
    authority.start(certificateValidityPeriod=LIFE_SECONDS, externalAccountBindingRequired=True)
    seen, root = [shown(site)], authority.root()

    def another() -> bool:
        seen.append(shown(site))
        return seen[-1] not in seen[:-1]

    plan = replace(site.plan(requests=PEOPLE, tasks=0, seconds=3600), certificate="", again=True)
    with Load(plan, tmp_path / "load.txt") as load:
        began = load.answers()[0].due
        site.machine.feed(EVERY_FEW_SECONDS)
        for _ in range(5 if full else 2):
            eventually(another, LIFE_SECONDS, pause=1, what="another certificate")
            assert shown(site, root) == shown(site, root, "site.test")
        run = site.start("playbooks/edge.yml", "--extra-vars", "nginx_tls=self_signed").wait()
        assert run.status == 0, run.output
        eventually(another, 30, what="the host's own certificate")
        with pytest.raises(ssl.SSLCertVerificationError):
            shown(site, root)
        answers = load.settled(began, load.answers()[-1].due)

    figures.append(f"certificate: {len(set(seen))} seen by {len(answers)} requests")
    assert failures(answers) == []
    assert len(set(seen)) >= 4
    assert site.machine.state("nginx-acme.timer") == "inactive"
    assert site.machine.root.run("ls /etc/systemd/system/nginx-acme* /etc/site/nginx-acme*").stdout == ""


def test_the_key_of_a_customer_is_told_to_nobody_else(site: Site) -> None:
    _, key = CUSTOMER
    words = "journalctl --no-pager --output=cat; cat /etc/systemd/system/*.service; grep -r . /var/lib/nginx-acme/logs"
    assert key not in site.machine.root.check_output(words)
    lines = watch.seen(site.machine)
    assert "certbot certonly" in lines
    assert key not in lines
